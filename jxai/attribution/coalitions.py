"""Coalitions of features: the score as a cooperative game, and how the methods on it draw their coalitions.

A coalition is a vector z of {0, 1}^d: features with z = 1 are kept, the others removed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.removal.fills import FillLike, remover
from jxai.removal.masks import as_map, default_grid, features, present, spread
from jxai.scores import need_key
from jxai.typing import Array, Scalar

__all__ = ["Game", "game", "kernel_coalitions", "ranks"]


class Game(NamedTuple):
    """`num`: the features d. `exists`: which of them have a position, `[d]`. `value`: `(z [b, d], i [b]) -> scores [b]` for the passes number i.
    `spread`: `[d] -> map`, float32 or wider."""

    num: int
    exists: Array
    value: Callable[[Array, Array], Array]
    spread: Callable[[Array], Array]


def game(s: Scalar, x: Array, segments, grid, num_segments: int | None, fill: FillLike, key: Array | None) -> Game:
    """The game that a score plays on the features of x; by default the entries of a vector, else 8 cells along every axis."""
    of = features(x, segments, default_grid(x, segments, grid), num_segments)
    labels = of.labels
    removed = remover(x, fill, key)

    def value(z: Array, i: Array) -> Array:
        return jax.vmap(lambda one, j: s(removed(spread(one, labels, x, outside=1.0), j)))(z.astype(jnp.float32), i)

    return Game(of.num, present(of), value, lambda values: as_map(spread(values, labels, x), x))


def ranks(key: Array, order: Array, d: int, antithetic: bool) -> Array:
    """`[d]`: when each feature joins in the random order of that number, from 0; antithetic: odd ones reverse the even one before."""
    rank = jax.random.permutation(jax.random.fold_in(key, order // 2 if antithetic else order), d)
    return jnp.where(order % 2 == 1, d - 1 - rank, rank) if antithetic else rank


def kernel_coalitions(d: int, num_samples: int, key: Array | None) -> tuple[Callable[[Array], tuple[Array, Array]], int]:
    """KernelSHAP's `i -> (z [d], weight)` and the number of passes; the last two are the empty and the full coalition, of weight 0.

    All coalitions where at most `num_samples` are proper; else sizes by the Shapley kernel, each draw with its complement.
    Weights are 1 on average; drawn ones are just 1, so that sums of them are exact whatever the chunk.
    """
    sizes = np.arange(1, d)
    if d < 31 and 2**d - 2 <= num_samples:
        each = np.array([1 / (math.comb(d, int(k)) * k * (d - k)) for k in sizes]) / np.sum(1 / (sizes * (d - sizes)))
        table = jnp.asarray(np.concatenate([[0], each * (2**d - 2), [0]]), jnp.float32)

        def enumerated(i: Array) -> tuple[Array, Array]:
            # 1 … 2^d − 2 are the proper coalitions; then comes 0, then 2^d − 1.
            bits = jnp.where(i < 2**d - 2, i + 1, (i - (2**d - 2)) * (2**d - 1))
            z = (bits >> jnp.arange(d)) & 1
            return z.astype(jnp.float32), table[z.sum()]

        return enumerated, 2**d
    if num_samples < 2 * d:
        raise ValueError(f"{num_samples=} must be at least 2 · {d} features")
    need_key(key, "kernel_shap")
    logits = jnp.asarray(-np.log(sizes * (d - sizes)), jnp.float32)

    def drawn(i: Array) -> tuple[Array, Array]:
        size_key, order_key = jax.random.split(jax.random.fold_in(key, i // 2))
        size = 1 + jax.random.categorical(size_key, logits)
        z = jax.random.permutation(order_key, d) < size
        z = jnp.where(i % 2 == 1, ~z, z)
        proper = i < num_samples
        z = jnp.where(proper, z, i > num_samples)
        return z.astype(jnp.float32), proper * 1.0

    return drawn, num_samples + 2
