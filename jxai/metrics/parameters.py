"""The weights of a model, layer by layer, and random ones in their place."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jxai.callables import partition
from jxai.metrics.draws import shuffle
from jxai.scores import one_of, wide
from jxai.tracing import interpret
from jxai.typing import Array, Model

RANDOMIZERS = ("permutation", "normal")
_ROUNDS = 24


def layers(f: Model, x: Array) -> list[list[int]]:
    """The layers of f in order of first use: of each, the indices of its leaves among the array leaves of f.

    A layer is the floating-point leaves that share a parent in the tree (`blocks[3].conv` of `blocks[3].conv.kernel`); a leaf
    at the top is one by itself. Used is what meets a value that depends on x: a cast of all weights at the start does not count.
    Leaves that are never used, integers and keys belong to no layer.

    Raises:
      ValueError: f has no floating-point leaf that `f(x)` uses.
    """
    traced = interpret.trace(f, x)
    program = interpret.flatten(traced, interpret.everywhere)
    *weights, example = program.inputs
    holds = {r: {n} for n, r in enumerate(weights) if jnp.issubdtype(program.avals[r].dtype, jnp.floating)}
    follows, used = {example}, {}
    for step in program.steps:
        leaves = set().union(*(holds.get(r, ()) for r in step.inputs))
        if follows.isdisjoint(step.inputs):
            holds.update((r, leaves) for r in step.outputs)
            continue
        follows.update(step.outputs)
        for n in sorted(leaves):
            used.setdefault(n, None)
    groups: dict[str, list[int]] = {}
    for n in used:
        parent = re.sub(r"(\.[^.\[\]]*|\[[^\]]*\])$", "", traced.names[n])
        groups.setdefault(parent or traced.names[n], []).append(n)
    if not groups:
        raise ValueError(
            f"f={getattr(f, '__name__', type(f).__name__)} has no weights: no floating-point leaf that f(x) uses; pass a pytree whose weights are leaves"
        )
    return list(groups.values())


def randomized(f: Model, groups: list[list[int]], key: Array, randomize: str) -> Callable[[Array], Model]:
    """`chosen [number of layers] -> f` with random weights in the chosen layers: one random copy, made here."""
    one_of("randomize", randomize, RANDOMIZERS)
    weights, static = partition(f)
    layer = {n: number for number, group in enumerate(groups) for n in group}
    draws = _drawn({n: jnp.asarray(weights[n]) for n in layer}, key, _permuted if randomize == "permutation" else _normal)

    def model(chosen: Array) -> Model:
        return static.combine([jnp.where(chosen[layer[n]], draws[n], w) if n in layer else w for n, w in enumerate(weights)])

    return model


def _drawn(leaves: dict[int, Array], key: Array, draw: Callable[[Array, Array], Array]) -> dict[int, Array]:
    """A random leaf for each, those of one size in one go: a model has many leaves but few sizes, and each compiles by itself."""
    alike: dict[tuple, list[int]] = {}
    for n, w in leaves.items():
        alike.setdefault((w.size, w.dtype), []).append(n)
    drawn = {}
    for members in alike.values():
        keys = jax.vmap(lambda n: jax.random.fold_in(key, n))(jnp.asarray(members))
        fresh = jax.vmap(draw)(keys, jnp.stack([leaves[n].ravel() for n in members]))
        drawn.update({n: row.reshape(leaves[n].shape) for n, row in zip(members, fresh)})
    return drawn


def _permuted(key: Array, w: Array) -> Array:
    # Round by round: unrolled, it would run faster and compile far longer.
    once = lambda r, place: shuffle(jax.random.fold_in(key, r), place, w.size, 1)
    return w[lax.fori_loop(0, _ROUNDS, once, jnp.arange(w.size, dtype=jnp.int32))]


def _normal(key: Array, w: Array) -> Array:
    v = wide(w)
    return (v.mean() + v.std() * jax.random.normal(key, v.shape, v.dtype)).astype(w.dtype)
