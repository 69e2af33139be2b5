"""The weights of a model, layer by layer, and random ones in their place."""

from __future__ import annotations

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jxai.callables import HELD, partition
from jxai.loops import fori_loop, staged
from jxai.metrics.draws import shuffle
from jxai.scores import one_of, wide
from jxai.tracing import interpret
from jxai.typing import Array, Model

RANDOMIZERS = ("permutation", "normal")
_ROUNDS = 24
_LAST = re.compile(r"(\.[^.\[\]/]*|/[^.\[\]/]*|\[[^\]]*\])$")


def layers(f: Model, x: Array) -> list[list[int]]:
    """The layers of f in order of first use: of each, the indices of its leaves among the array leaves of f.

    A layer is the floating-point leaves that share a parent in the tree (`blocks[3].conv` of `blocks[3].conv.kernel`, `conv1` of the key
    `conv1/kernel`), but for parents that hold several layers: in lists and tuples each kernel (two axes or more) begins one, keys that end
    in different numbers (`w1`, `b1`, `w2`) or begin alike up to a `_` (`conv_w`, `conv_b`, `out_w`) name one each, and of what else lies at
    the top, or with several kernels in one container that holds all weights, each leaf is one. Used is what meets a value that depends on x: a cast of all weights at the start does not count.
    Leaves that are never used, integers, keys and inputs that an adapter holds belong to no layer.

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
            if HELD not in traced.names[n]:
                used.setdefault(n, None)
    groups = grouped({n: traced.names[n] for n in used}, {n for n in used if program.avals[weights[n]].ndim > 1})
    if not groups:
        raise ValueError(
            f"f={getattr(f, '__name__', type(f).__name__)} has no weights: no floating-point leaf that f(x) uses; pass a pytree whose weights are leaves"
        )
    return groups


def grouped(names: dict[int, str], kernels: set[int]) -> list[list[int]]:
    """The leaves of each layer, by their names in order of first use; `kernels` are those with two axes or more."""
    children: dict[str, dict[int, str]] = {}
    for n, name in names.items():
        key = _LAST.search(name)
        at = key.start() if key else 0
        children.setdefault(name[:at], {})[n] = name[at:]
    found = []
    for parent, keys in children.items():
        alone = not parent or (len(children) == 1 and len(kernels & set(keys)) > 1)
        found += _split(keys, kernels, alone)
    place = {n: i for i, n in enumerate(names)}
    return sorted((sorted(group, key=place.__getitem__) for group in found), key=lambda group: place[group[0]])


def _split(keys: dict[int, str], kernels: set[int], alone: bool) -> list[list[int]]:
    """The layers among the leaves of one parent; alone: where each leaf is one if nothing says otherwise."""
    if all(key.startswith("[") for key in keys.values()):
        order = sorted(keys, key=lambda n: int(keys[n][1:-1]) if keys[n][1:-1].isdigit() else 0)
        starts = [i for i, n in enumerate(order) if n in kernels]
        if starts:
            starts[0] = 0
            return [order[a:b] for a, b in zip(starts, [*starts[1:], None])]
    if len(kernels & set(keys)) > 1:
        for pattern in (r"\d+$", r"^.*(?=_)"):
            found = {n: re.search(pattern, key) for n, key in keys.items()}
            parts = {n: match[0] if match else keys[n] for n, match in found.items()}
            groups = [[n for n in keys if parts[n] == part] for part in dict.fromkeys(parts.values())]
            named = len({match[0] for match in found.values() if match}) > 1
            if named and (pattern == r"\d+$" or all(len(kernels & set(group)) < 2 for group in groups)):
                return groups
    return [[n] for n in keys] if alone else [list(keys)]


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
        fresh = staged(jax.vmap(draw), keys, jnp.stack([leaves[n].ravel() for n in members]))
        drawn.update({n: row.reshape(leaves[n].shape) for n, row in zip(members, fresh)})
    return drawn


def _permuted(key: Array, w: Array) -> Array:
    # Round by round: unrolled, it would run faster and compile far longer.
    once = lambda r, place: shuffle(jax.random.fold_in(key, r), place, w.size, 1)
    return w[fori_loop(0, _ROUNDS, once, jnp.arange(w.size, dtype=jnp.int32))]


def _normal(key: Array, w: Array) -> Array:
    v = wide(w)
    return (v.mean() + v.std() * jax.random.normal(key, v.shape, v.dtype)).astype(w.dtype)
