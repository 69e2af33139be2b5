"""Intermediate values of any traced function: list them, read one, go on from another.

No model is rewritten and no hook is left behind: the function's jaxpr is walked. Works on linen, nnx and plain functions,
through `jit`, custom derivatives, `remat` and `scan` (unrolled), under an outer `jit`, `vmap` and `grad`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.tracing import demand, interpret
from jxai.tracing.axes import Grid
from jxai.tracing.choosing import Layer, find_in, listed
from jxai.typing import Array, Model


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
    return listed(interpret.trace(f, x))[2]


def find(f: Model, x: Array, layer: int | str | None = None) -> Layer:
    """The layer that an option names.

    Args:
      layer: an index of `layers(f, x)`; or part of a name: the last value (with spatial extent, where there is one) of
        the equations whose name holds it as whole words, or failing that anywhere; or None: the last value from which the output is
        reached through positions, a map or a token grid (a 1×1 map, an attention matrix, the picture itself and the map of a
        segmentation's own logits are none). Which axes are positions is followed through the program; a person can say so:
        `"conv5@0,1"` (or `"23@0,1"`, by index) for the two position axes of an image, `"block@1:14x14"` for tokens along one axis,
        row by row, the last 196 where there are more.

    Raises:
      ValueError: no such index or name (with the nearest names), axes that the value does not have; for None no spatial value, several
        that none follows, or a step after the last one that positions cannot be followed through (with the candidates).
    """
    return find_in(interpret.trace(f, x), x, layer)


def split(f: Model, x: Array, layer: int | str | None = None) -> Split:
    """Cuts `f(x)` at a layer (see `find`): its value, and the function from that value to the output.

    What does not follow from the layer is computed once, here, however often `head` runs.
    """
    traced = interpret.trace(f, x)
    return cut(traced, x, find_in(traced, x, layer))


def cut(traced: interpret.Traced, x: Array, chosen: Layer) -> Split:
    """What `split` does, at a layer that has been found."""
    program = interpret.flatten(traced, interpret.around(chosen.path))
    at = next(step for step in program.steps if step.path == chosen.path).outputs[chosen.output]
    after, follows = [], {at}
    for step in program.steps:
        if follows.intersection(step.inputs):
            follows.update(step.outputs)
            after.append(step)
    before = [step for step in program.steps if not follows.difference({at}).intersection(step.outputs)]
    values = interpret.run(program, interpret.start(program, traced, x), before)

    def head(value: Array) -> Array:
        after_values = interpret.run(program, {**values, at: value}, after)
        return jax.tree.unflatten(traced.out_tree, [after_values[r] for r in program.outputs])

    return Split(chosen, values[at], head)


def read(f: Model, x: Array, layer: int | str | None = None) -> Array:
    """The value of a layer at x."""
    return split(f, x, layer).value


def replace(f: Model, x: Array, layer: int | str | None, change: Callable[[Array], Array]) -> Array:
    """`f(x)` with the layer's value v replaced by `change(v)`; adding to it is `lambda v: v + …`."""
    value, head = split(f, x, layer)[1:]
    return head(change(value))


def fields(f: Model, x: Array, layer: int | str | None = None) -> tuple[np.ndarray, ...]:
    """The receptive fields of a layer's map: for each of its axes, from where to where along that axis of x the entries at each place along it read.

    The entry at `(i, j)` of an image's layer depends on `x[rows[i, 0] : rows[i, 1], columns[j, 0] : columns[j, 1]]` alone; it may depend on less of it. What can be read
    through the program's structure is found, whatever the weights: after a mean over all positions or an attention it is all of x.

    Args:
      layer: as in `find`.

    Returns:
      An integer array `[size, 2]` for each axis of the map, one for each position axis of x.

    Raises:
      ValueError: as `find`, or the layer has no spatial extent.
    """
    traced = interpret.trace(f, x)
    chosen = find_in(traced, x, layer)
    program, places, _ = listed(traced)
    value = next(step.outputs[chosen.output] for step in program.steps if step.path == chosen.path)
    return demand.fields_of(program, places, value, _grid(chosen))


def to_map(value: Array, layer: Layer) -> Array:
    """A layer's value as `[h, w, K]` (as many leading axes as x has position axes): positions in the order of x, all else channels.

    Tokens and windows become a map; what has no position (a class token) is left out.

    Raises:
      ValueError: the layer has no spatial extent.
    """
    grid = _grid(layer)
    count = len(grid.axes)
    value = jnp.moveaxis(value, grid.axes, range(count))
    value = value.reshape(-1, *value.shape[count:])
    if not np.array_equal(grid.order, np.arange(value.shape[0])):
        value = value[grid.order]
    return value.reshape(*grid.shape, -1)


def channels(layer: Layer) -> np.ndarray:
    """For every entry of a layer's value the number of its channel in `to_map`; it broadcasts against the value. Entries of no position count, too."""
    grid = _grid(layer)
    rest = [1 if d in grid.axes else size for d, size in enumerate(layer.shape)]
    numbers = np.arange(math.prod(rest)).reshape(rest)
    if grid.depth == 1:
        return numbers
    sizes = [layer.shape[d] for d in grid.axes]
    among = np.zeros(math.prod(sizes), int)
    among[grid.order] = np.tile(np.arange(grid.depth), math.prod(grid.shape))
    inner = np.moveaxis(among.reshape(*sizes, *(1,) * (len(rest) - len(sizes))), range(len(sizes)), grid.axes)
    return inner * math.prod(rest) + numbers


def _grid(layer: Layer) -> Grid:
    """The map that a layer holds; ValueError where it holds none."""
    if layer.grid is None:
        hidden = f": its positions cannot be followed through {layer.place.lost!r}" if layer.place.lost else ""
        raise ValueError(f"layer={layer.index} ({layer}) has no spatial extent{hidden}; say which axes are positions, as in layer='{layer.index}@0,1'")
    return layer.grid


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
