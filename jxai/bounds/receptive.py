"""Receptive fields, and one backward pass for many neurons at once.

A backward pass that starts at the sum of neurons whose receptive fields do not overlap serves each of them: their coefficients never
meet, not even where signs are split, and what belongs to a neuron is read off within its own field. Neurons of one channel are
*coloured* so that those of a colour are far enough apart; a layer of `C · H · W` neurons then needs `C · K²` starts, where K is the
field's size over its step.
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jxai.bounds.graph import Graph, Node
from jxai.bounds.rules.choices import Select
from jxai.bounds.rules.locality import Elementwise, Reduce, Reshape, Windows
from jxai.bounds.rules.operations import Bilinear, Linear, Unary
from jxai.bounds.rules.reductions import Greatest, LogSumExp, Softmax
from jxai.typing import Array


class Reach(NamedTuple):
    """What a position i along one axis of the target depends on, in a value before it: `[stride · i + offset, … + size)` along `axis`."""

    axis: int
    stride: int
    offset: int
    size: int


Reaches = dict[int, tuple[Reach | None, ...]]
"""By reference, for each axis of the target its reach, or None where positions along it mix."""


@dataclasses.dataclass(frozen=True)
class Colouring:
    """Starts of backward passes for all neurons of a target, and how what they collect is read.

    A start is numbered by its colour along each axis of `shape` (row-major over `counts`): along a coloured axis start k is the sum of
    the positions k, k + counts[a], …; along the others it is one position.

    Attributes:
      shape: of the target. counts: starts along each axis. reaches: of the coloured axes, in every value on the way.
      coloured: which axes are.
    """

    shape: tuple[int, ...]
    counts: tuple[int, ...]
    coloured: tuple[int, ...]
    reaches: Reaches

    @property
    def starts(self) -> int:
        return math.prod(self.counts)

    def seeds(self, rows: Array) -> Array:
        """The coefficients on the target that these starts begin with, `[n, *shape]`."""
        total = jnp.ones((rows.shape[0],) + (1,) * len(self.shape), jnp.float32)
        for axis, k in enumerate(self._colours(rows)):
            own = (np.arange(self.shape[axis]) % self.counts[axis]) == k[:, None]
            total = total * own.reshape((rows.shape[0],) + tuple(self.shape[axis] if a == axis else 1 for a in range(len(self.shape))))
        return total

    def sums(self, values: Array, reference: int, rows: Array) -> Array:
        """Sums of `values [n, *shape of the reference]` within the field of each neuron of these starts, `[n, *laps]`.

        The laps of a coloured axis are its positions with the start's colour: `⌈shape / counts⌉` of them.
        """
        reaches = self.reaches[reference]
        kept = [reaches[a].axis for a in self.coloured]
        others = tuple(d + 1 for d in range(values.ndim - 1) if d not in kept)
        values = values.sum(others)
        order = np.argsort(np.argsort(kept))
        values = values.transpose(0, *(int(d) + 1 for d in order))  # the coloured axes in the target's order
        colours = self._colours(rows)
        for axis in self.coloured:
            band = jnp.asarray(self._bands(axis, reaches[axis], values.shape[1]))[colours[axis]]  # [n, laps, extent]
            # Contracts the first of the axes and appends the laps, so that the axes end in order.
            values = jnp.einsum("nm...,nqm->n...q", values, band, precision="highest")
        return values

    def place(self, results: Array) -> Array:
        """What all starts collected, `[starts, *laps]`, as an array of the target's shape."""
        laps, rank = results.shape[1:], len(self.shape)
        results = results.reshape(*self.counts, *laps)
        # The lap comes before the colour: position = lap · count + colour.
        order = [d for a in range(rank) for d in ([rank + self.coloured.index(a)] if a in self.coloured else []) + [a]]
        shape = [c * (laps[self.coloured.index(a)] if a in self.coloured else 1) for a, c in enumerate(self.counts)]
        return results.transpose(order).reshape(shape)[tuple(slice(size) for size in self.shape)]

    def _colours(self, rows: Array) -> tuple[Array, ...]:
        return jnp.unravel_index(rows, self.counts)

    def _bands(self, axis: int, reach: Reach, extent: int) -> np.ndarray:
        """0/1 `[count, laps, extent]`: which entries lie in the field of the neuron of that colour and lap."""
        count, size = self.counts[axis], self.shape[axis]
        laps = -(-size // count)
        i = np.arange(count)[:, None] + count * np.arange(laps)
        begin = reach.stride * i + reach.offset
        at = np.arange(extent)
        return ((at >= begin[..., None]) & (at < begin[..., None] + reach.size) & (i < size)[..., None]).astype(np.float32)


def colouring(graph: Graph, target: int, shape: tuple[int, ...]) -> Colouring:
    """The colouring of a value's neurons: along an axis where fields stay apart, as few colours as keep those of one colour disjoint."""
    reaches = reach(graph, target, shape)
    counts, coloured = list(shape), []
    for axis, size in enumerate(shape):
        along = [r[axis] for r in reaches.values()]
        if size < 2 or any(r is None for r in along):
            continue
        count = max(-(-r.size // r.stride) for r in along)
        apart = all(r[axis].axis != r[other].axis for r in reaches.values() for other in coloured)
        if count < size and apart:
            counts[axis] = count
            coloured.append(axis)
    return Colouring(tuple(shape), tuple(counts), tuple(coloured), reaches)


def reach(graph: Graph, target: int, shape: tuple[int, ...]) -> Reaches:
    """The reaches of every value that the target depends on."""
    shapes = {graph.input: graph.input_shape, **{node.output: node.shape for node in graph.nodes}}
    found: Reaches = {target: tuple(Reach(a, 1, 0, 1) for a in range(len(shape)))}
    for node in reversed(graph.nodes):
        if node.output not in found:
            continue
        for reference in node.inputs:
            here = tuple(None if r is None else through(node, r, shapes[reference]) for r in found[node.output])
            before = found.get(reference)
            found[reference] = here if before is None else tuple(map(_union, before, here))
    return found


def _union(a: Reach | None, b: Reach | None) -> Reach | None:
    if a is None or b is None or (a.axis, a.stride) != (b.axis, b.stride):
        return None
    begin, end = min(a.offset, b.offset), max(a.offset + a.size, b.offset + b.size)
    return Reach(a.axis, a.stride, begin, end - begin)


def through(node: Node, r: Reach, shape: tuple[int, ...]) -> Reach | None:
    """A reach in a node's value as one in an input of this shape."""
    op = node.operation
    if isinstance(op, Linear):
        local = op.local
    elif isinstance(op, (Unary, Select)) or (isinstance(op, Bilinear) and op.pointwise):
        local = Elementwise()
    elif isinstance(op, Softmax):
        return None if r.axis in op.axes else r
    elif isinstance(op, (Greatest, LogSumExp)):
        local = Reduce(op.axes)
    else:
        return None
    if isinstance(local, Elementwise):
        return r if shape[r.axis : r.axis + 1] == node.shape[r.axis : r.axis + 1] and len(shape) == len(node.shape) else None
    if isinstance(local, Reduce):
        axis = r.axis
        for gone in sorted(local.axes):
            axis += gone <= axis
        return r._replace(axis=axis)
    if isinstance(local, Reshape):
        axis = _same_axis(local.before, local.after, r.axis)
        return None if axis is None else r._replace(axis=axis)
    if isinstance(local, Windows):
        for d, window in enumerate(local.axes):
            if window is not None and window[0] == r.axis:
                _, k, s, low, dilation = window
                return Reach(d, r.stride * s, r.offset * s - low, (r.size - 1) * s + (k - 1) * dilation + 1)
    return None


def _same_axis(before: tuple[int, ...], after: tuple[int, ...], axis: int) -> int | None:
    """The axis of `before` that a reshape leaves as it is at `axis` of `after`: as much lies in front of it, and it has that size."""
    size, ahead = after[axis], math.prod(after[:axis])
    if size == 1:
        return None
    for d, n in enumerate(before):
        if n == size and math.prod(before[:d]) == ahead:
            return d
    return None
