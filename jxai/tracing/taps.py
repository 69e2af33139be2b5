"""Intermediate values of any traced function: list them, read one, go on from another.

No model is rewritten and no hook is left behind: the function's jaxpr is walked. Works on linen, nnx and plain functions,
through `jit`, custom derivatives, `remat` and `scan` (unrolled), under an outer `jit`, `vmap` and `grad`.
"""

from __future__ import annotations

import difflib
import functools
import math
import numbers
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jxai.scores import check_example
from jxai.tracing import axes, interpret
from jxai.typing import Array, Model


class Layer(NamedTuple):
    """An intermediate value that depends on x.

    Attributes:
      index: its number in `layers(f, x)`, in order of execution.
      name: the name scope it was traced in (linen) and the key paths of the weights it uses, for example
        `"CNN/conv1 params.conv1.kernel"` or `"blocks[3].conv.kernel"`.
      primitive: what computed it; of an activation the function's name, `"relu"`.
      shape, dtype: its own. layout: what its axes mean (see `jxai.axes`). spatial: whether it still has positions.
      path, output: where the program computes it.
    """

    index: int  # type: ignore[assignment]  # a tuple has a method of this name
    name: str
    primitive: str
    shape: tuple[int, ...]
    dtype: Any
    layout: axes.Layout
    spatial: bool
    path: interpret.Path
    output: int

    def __str__(self) -> str:
        return f"{self.index} {self.name or '·'} {self.primitive} {list(self.shape)}"


class Split(NamedTuple):
    """A function cut at a value: `f(x) = head(value)`.

    Attributes:
      layer: where. value: what flows there. head: the rest of the function; a skip connection around the cut keeps the
        value that x gave it, and only what follows from the argument is computed again.
    """

    layer: Layer
    value: Array
    head: Callable[[Array], Array]


def layers(f: Model, x: Array) -> list[Layer]:
    """All floating-point intermediate values of `f(x)` that depend on x, in order of execution; activations are one value each."""
    return _list(interpret.trace(f, x), x)[2]


def find(f: Model, x: Array, layer: int | str | None = None) -> Layer:
    """The layer that an option names.

    Args:
      layer: an index of `layers(f, x)`; or part of a name: the last value (with spatial extent, where there is one) of
        the equations whose name holds it as whole words, or failing that anywhere; or None: the last value that
        still has spatial extent and reaches the output, or the last token grid (a 1×1 map or an attention matrix is neither).

    Raises:
      ValueError: no such index or name (with the nearest names), or for None no spatial value or several that none follows.
    """
    return _find(interpret.trace(f, x), x, layer)


def split(f: Model, x: Array, layer: int | str | None = None) -> Split:
    """Cuts `f(x)` at a layer (see `find`): its value, and the function from that value to the output.

    What does not follow from the layer is computed once, here, however often `head` runs.
    """
    traced = interpret.trace(f, x)
    chosen = _find(traced, x, layer)
    program = interpret.flatten(traced, interpret.around(chosen.path))
    cut = next(step for step in program.steps if step.path == chosen.path).outputs[chosen.output]
    after, follows = [], {cut}
    for step in program.steps:
        if follows.intersection(step.inputs):
            follows.update(step.outputs)
            after.append(step)
    before = [step for step in program.steps if not follows.difference({cut}).intersection(step.outputs)]
    values = interpret.run(program, interpret.start(program, traced, x), before)

    def head(value: Array) -> Array:
        after_values = interpret.run(program, {**values, cut: value}, after)
        return jax.tree.unflatten(traced.out_tree, [after_values[r] for r in program.outputs])

    return Split(chosen, values[cut], head)


def read(f: Model, x: Array, layer: int | str | None = None) -> Array:
    """The value of a layer at x."""
    return split(f, x, layer).value


def replace(f: Model, x: Array, layer: int | str | None, change: Callable[[Array], Array]) -> Array:
    """`f(x)` with the layer's value v replaced by `change(v)`; adding to it is `lambda v: v + …`."""
    value, head = split(f, x, layer)[1:]
    return head(change(value))


def to_map(value: Array, layer: Layer) -> Array:
    """A layer's value as `[h, w, K]` (as many leading axes as x has position axes): tokens become a grid, all else channels.

    Raises:
      ValueError: the layer has no spatial extent.
    """
    if not layer.spatial:
        raise ValueError(f"layer={layer.index} ({layer}) has no spatial extent")
    tokens = [d for d, axis in enumerate(layer.layout) if isinstance(axis, axes.Tokens)]
    if tokens:
        meaning = layer.layout[tokens[0]]
        value = jnp.moveaxis(value, tokens[0], 0)
        return tokens_to_grid(value.reshape(value.shape[0], -1), meaning.grid, meaning.before)
    found = sorted((axis, d) for d, axis in enumerate(layer.layout) if isinstance(axis, int))
    value = jnp.moveaxis(value, [d for _, d in found], range(len(found)))
    return value.reshape(value.shape[: len(found)] + (-1,))


def tokens_to_grid(tokens: Array, grid: tuple[int, ...] | None = None, before: int | None = None) -> Array:
    """Lays patch tokens out as a map, `[N, D] -> [h, w, D]`, dropping class and register tokens.

    Args:
      tokens: `[N, D]`, patches in row-major order.
      grid: `(h, w)`; by default the largest square that fits, where at most 8 tokens are left over.
      before: how many tokens to drop in front; by default all that are too many.

    Raises:
      ValueError: the tokens do not fill the grid.
    """
    count = tokens.shape[0]
    if grid is None:
        side = math.isqrt(count)
        if count - side * side > 8:
            raise ValueError(f"grid=None: {count} tokens are no square grid with up to 8 class or register tokens")
        grid = (side, side)
    patches = math.prod(grid)
    before = count - patches if before is None else before
    if patches < 1 or before < 0 or before + patches > count:
        raise ValueError(f"{grid=} and {before=} need {patches} tokens after the first {before}, got {count}")
    return tokens[before : before + patches].reshape(*grid, *tokens.shape[1:])


def _list(traced: interpret.Traced, x: Array) -> tuple[interpret.Program, dict[int, axes.Layout], list[Layer]]:
    program = interpret.flatten(traced, interpret.everywhere)
    meaning = axes.layouts(program, x.ndim)
    names = {r: {name} for r, name in zip(program.inputs, traced.names)}
    found: list[Layer] = []
    for step in program.steps:
        used = set().union(*(names.get(r, ()) for r in step.inputs))
        if meaning.keys().isdisjoint(step.outputs):
            names.update((r, used) for r in step.outputs)
            continue
        for n, r in enumerate(step.outputs):
            aval = program.avals[r]
            if jnp.issubdtype(aval.dtype, jnp.floating):
                name = " ".join(part for part in (step.scope, *sorted(used)) if part)
                spatial = axes.spatial(meaning[r], aval.shape, x.ndim)
                found.append(Layer(len(found), name, step.primitive, aval.shape, aval.dtype, meaning[r], spatial, step.path, n))
    return program, meaning, found


def _find(traced: interpret.Traced, x: Array, layer: int | str | None) -> Layer:
    check_example(x)
    program, meaning, found = _list(traced, x)
    if layer is None:
        return _last_spatial(program, meaning, found, x)
    if isinstance(layer, str):
        whole = re.compile(rf"(?<!\w){re.escape(layer)}(?!\w)")
        matches = [item for item in found if whole.search(item.name)] or [item for item in found if layer in item.name]
        if layer and matches:
            return ([item for item in matches if item.spatial] or matches)[-1]
        known = sorted({word for item in found for word in item.name.split()})
        near = difflib.get_close_matches(layer, known, 5, 0.3) or known[:5]
        raise ValueError(f"{layer=} is part of no layer's name; the nearest are {', '.join(near) or 'none: use an index'}")
    if isinstance(layer, bool) or not isinstance(layer, numbers.Integral) or not 0 <= layer < len(found):
        raise ValueError(f"{layer=} must be None, part of a name, or an index below {len(found)} of taps.layers(f, x)")
    return found[layer]


def _last_spatial(program: interpret.Program, meaning: dict[int, axes.Layout], found: list[Layer], x: Array) -> Layer:
    """The spatial value that reaches the output and that no other such value follows."""
    references = {(step.path, n): r for step in program.steps for n, r in enumerate(step.outputs)}
    live = _live(program, meaning)
    ancestors = [0] * len(program.avals)  # bit r of ancestors[v]: v is computed from r
    for step in program.steps:
        above = functools.reduce(lambda bits, r: bits | ancestors[r] | 1 << r, step.inputs, 0)
        for r in step.outputs:
            ancestors[r] = above
    candidates = [(references[item.path, item.output], item) for item in found if item.spatial]
    candidates = [(r, item) for r, item in candidates if r in live]
    followed = functools.reduce(lambda bits, candidate: bits | ancestors[candidate[0]], candidates, 0)
    last = [(r, item) for r, item in candidates if not followed >> r & 1]
    if len(last) > 1 and all(any(isinstance(axis, axes.Tokens) for axis in item.layout) for _, item in last):
        # Queries, keys and values of one attention layer: what all of them were made from.
        common = functools.reduce(lambda bits, candidate: bits & ancestors[candidate[0]], last, -1)
        last = [(r, item) for r, item in candidates if common >> r & 1][-1:]
    if len(last) == 1:
        return last[0][1]
    shown = [item for _, item in last] or [item for item in found if len(item.shape) > 1][-6:]
    what = "several values with spatial extent end apart" if last else f"no value has spatial extent over x of shape {x.shape}"
    raise ValueError(f"layer=None: {what}; name one of: {'; '.join(map(str, shown)) or 'none'}")


def _live(program: interpret.Program, meaning: dict[int, axes.Layout]) -> set[int]:
    """The values whose positions reach the output: a final norm of which only the class token is read is not one."""
    used, live = set(program.outputs), set()
    for step in reversed(program.steps):
        if used.isdisjoint(step.outputs):
            continue
        used.update(step.inputs)
        outputs = [meaning.get(r, ()) for r in step.outputs]
        for n, r in enumerate(step.inputs):
            if r in meaning and not axes.cuts(step, meaning[r], program.avals[r].shape):
                if axes.mixes(step, n, meaning[r], outputs) or not live.isdisjoint(step.outputs):
                    live.add(r)
    return live
