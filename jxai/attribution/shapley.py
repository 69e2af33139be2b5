"""Shapley values by sampling orders in which the features join."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.attribution.coalitions import game, ranks
from jxai.callables import plainly
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike
from jxai.scores import need_key, objective, positive
from jxai.typing import Array, Model

__all__ = ["shapley_sampling"]


@plainly
def shapley_sampling(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    num_samples: int = 25,
    antithetic: bool = False,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Shapley values by random orders: `φ_i = 1/n Σ_o s(x_{before i in o} ∪ i) − s(x_{before i in o})`.

    A feature's value is the mean rise of the score when it joins. Unbiased, and complete for every order: `Σφ = s(x) − s(x_∅)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the orders.
      segments: integer label map over the positions of x; features are its labels. num_segments: their number, static.
      grid: cells along every position axis instead; by default the entries of a vector, else 8 along every axis.
      num_samples: n, the orders (25 in captum).
      antithetic: every second order is the reverse of the one before, which lowers the variance (Mitchell et al. 2022).
      fill: what a removed position becomes: one background example, where Štrumbelj and Kononenko draw one per order.
      score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]`, `[T, H, W, 1]` or `[D]`: the value of each position's feature, signed.

    Raises:
      ValueError: no key, a bad option, or bad x, target or score.

    Cost: `num_samples * (d - 1) + 2` forward passes for d features.

    Reference: Castro et al. 2009, "Polynomial Calculation of the Shapley Value Based on Sampling", Computers and Operations Research.
    """
    s = objective(f, x, target, score)
    kept_by_fill("shapley_sampling", f, x, target, fill, key, score=score)
    positive(num_samples=num_samples)
    order_key, fill_key = jax.random.split(need_key(key, "shapley_sampling"))
    d, _, value, spread = game(s, x, segments, grid, num_segments, fill, fill_key)
    inner = num_samples * (d - 1)

    def block(i: Array, live: Array) -> tuple[Array, ...]:
        # Pass i keeps the first `size` features of its order; the last two passes keep none and all.
        size = jnp.where(i < inner, i % max(d - 1, 1) + 1, (i - inner) * d)[:, None]
        rank = jax.vmap(lambda o: ranks(order_key, o, d, antithetic))(i // max(d - 1, 1))
        y = value(rank < size, i)
        # A score counts for the feature that joined last and against the one that joins next …
        inside = (live * (i < inner))[:, None]
        joined, joins = inside * (rank == size - 1), inside * (rank == size)
        # … and the two ends count as often as a feature was first or last.
        first, last = (joined * (size == 1)).sum(0), (joins * (size == d - 1)).sum(0)
        ends = jnp.where(i[:, None] == jnp.array([inner, inner + 1]), (live * y)[:, None], 0).sum(0)
        return jnp.matmul(y, joined - joins, precision="highest"), first, last, ends

    total, first, last, (empty, full) = loops.block_sums(block, inner + 2, loops.at_once(x, chunk))
    alone = num_samples if d == 1 else 0  # a single feature is first and last, without a pass between
    return spread((total + full * (last + alone) - empty * (first + alone)) / num_samples)
