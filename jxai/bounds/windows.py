"""Backward passes within receptive fields: the neurons of a convolution each with just the part of every layer that they see.

For the neuron at position p, coefficients on a layer are a window of it, `[positions, starts, *window]`, and every array of the layer
(slopes, intercepts, the region's centre and radius) is cut into the same windows. A convolution acts on windows without padding; what
lies beyond a layer's border counts as nothing. In a layer of `H · W` positions, a pass costs the window's share of the whole.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.backward import Pair, transposed
from jxai.bounds.graph import Graph, Node
from jxai.bounds.receptive import Reach, Reaches, reach, through
from jxai.bounds.rules.locality import Elementwise, Reshape, Windows
from jxai.bounds.rules.operations import Linear, Unary
from jxai.typing import Array

# Up to this many times the products of a convolution, one dense matrix of a window is faster on a CPU.
_DENSE = 8
_LARGEST = 2**21


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the neurons of a target are bounded within their fields.

    Attributes:
      shape: of the target. axes: along which positions see windows only. reaches: of these axes, in every value on the way.
      shapes: of every value on the way. linear: those that a linear step makes.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]
    reaches: Reaches
    shapes: dict[int, tuple[int, ...]]
    linear: frozenset[int]

    @property
    def positions(self) -> tuple[int, ...]:
        return tuple(self.shape[a] for a in self.axes)

    @property
    def starts(self) -> tuple[int, ...]:
        """The extents of the other axes: at each position, a pass starts from every entry along these."""
        return tuple(n for a, n in enumerate(self.shape) if a not in self.axes)

    def window(self, reference: int) -> tuple[int, ...]:
        """The shape of a window of a value."""
        shape = list(self.shapes[reference])
        for r in self.along(reference):
            shape[r.axis] = r.size
        return tuple(shape)

    def along(self, reference: int) -> tuple[Reach, ...]:
        return tuple(self.reaches[reference][a] for a in self.axes)

    @property
    def largest(self) -> int:
        """Coefficients of one position in its largest layer."""
        return math.prod(self.starts) * max(math.prod(self.window(r)) for r in self.reaches)

    def place(self, results: Array) -> Array:
        """`[positions, starts]` as an array of the target's shape."""
        rest = [a for a in range(len(self.shape)) if a not in self.axes]
        return results.reshape(*self.positions, *self.starts).transpose(np.argsort([*self.axes, *rest]))


def plan(graph: Graph, target: int, shape: tuple[int, ...]) -> Plan | None:
    """The plan for a target's neurons; None where a step on the way has no form on windows, or windows are no smaller than layers."""
    reaches = reach(graph, target, shape)
    whole_axes = {(v, d) for n in graph.nodes if isinstance(n.operation, Linear) for v in n.inputs for d in n.operation.whole}
    axes = tuple(a for a in range(len(shape)) if shape[a] > 1 and all(r[a] is not None and (v, r[a].axis) not in whole_axes for v, r in reaches.items()))
    shapes = {graph.input: graph.input_shape, **{node.output: node.shape for node in graph.nodes}}
    linear = frozenset(node.output for node in graph.nodes if isinstance(node.operation, Linear))
    found = Plan(tuple(shape), axes, reaches, shapes, linear)
    if not axes or any(len({r.axis for r in found.along(v)}) < len(axes) for v in reaches):
        return None
    if any(node.output in reaches and node.output != graph.input and not _has_windows(node, shapes) for node in graph.nodes):
        return None
    whole = math.prod(found.shape) * max(math.prod(shapes[v]) for v in reaches)
    return found if math.prod(found.positions) * found.largest <= 0.7 * whole else None


def _has_windows(node: Node, shapes: dict[int, tuple[int, ...]]) -> bool:
    op = node.operation
    if isinstance(op, Unary):
        return True
    if not isinstance(op, Linear):
        return False
    same = all(shapes[r] == node.shape for r in node.inputs)
    if op.diagonal is not None or isinstance(op.local, Elementwise):
        return same and (op.diagonal is not None or all(op.signs))
    if isinstance(op.local, Reshape):
        return [n for n in op.local.before if n > 1] == [n for n in op.local.after if n > 1]
    return isinstance(op.local, Windows) and op.unpadded is not None


@dataclasses.dataclass(frozen=True)
class View:
    """What a backward pass sees at some positions of the target (`rows [n]`, row-major over `plan.positions`)."""

    plan: Plan
    rows: Array

    def seeds(self, dtype: Any) -> Array:
        """`[1, starts, *window of the target]`: one entry each."""
        eye = jnp.eye(math.prod(self.plan.starts), dtype=dtype)
        shape = tuple(1 if a in self.plan.axes else n for a, n in enumerate(self.plan.shape))
        return eye.reshape(1, -1, *shape)

    def reduce(self, values: Array, reference: int, how: str) -> Array:
        """`[n, starts, *window] -> [n, starts]`."""
        flat = values.reshape(*values.shape[:2], -1)
        return flat.max(2) if how == "max" else flat.sum(2)

    def array(self, value: Array, reference: int) -> Array:
        """The windows `[n, 1, *window]` of an array that belongs to a value; zero beyond its border."""
        shape = self.plan.shapes[reference]
        value = jnp.broadcast_to(value, shape)
        along = self.plan.along(reference)
        at = jnp.unravel_index(self.rows, self.plan.positions)
        # One gather along all axes at once; every index is cut to the border, and what lay beyond it is set to zero.
        index, inside = [], jnp.ones((self.rows.shape[0],) + (1,) * len(shape), bool)
        for d in range(len(shape)):
            r = next((r for r in along if r.axis == d), None)
            extent = (1,) * d + (-1,) + (1,) * (len(shape) - 1 - d)
            if r is None:
                index.append(jnp.arange(shape[d]).reshape(1, *extent))
                continue
            i = (r.stride * at[along.index(r)] + r.offset)[:, None] + jnp.arange(r.size)
            i = i.reshape(self.rows.shape[0], *extent)
            inside = inside & (i >= 0) & (i < shape[d])
            index.append(jnp.clip(i, 0, shape[d] - 1))
        return jnp.where(inside, value[tuple(index)], 0)[:, None]

    def linear(self, node: Node, pair: Pair, shapes: list[Any]) -> list[Pair]:
        """The coefficients on the inputs of a linear step."""
        op, pulled = node.operation, []
        for position, reference in enumerate(node.inputs):
            if op.diagonal is not None:
                by = op.diagonal if not jnp.ndim(op.diagonal) else self.array(op.diagonal, node.output)
                back = pair.each(lambda a, by=by: a * by)
                begin = self.plan.along(node.output)
            elif isinstance(op.local, Elementwise):
                sign = op.signs[position]
                back = pair if sign > 0 else pair.each(lambda a: -a)
                begin = self.plan.along(node.output)
            elif isinstance(op.local, Reshape):
                shape = self._reshaped(node, reference)
                back = pair.each(lambda a, shape=shape: a.reshape(*a.shape[:2], *shape))
                begin = self._through(node, reference)
            else:
                begin = self._through(node, reference)
                shape = list(self.plan.shapes[reference])
                for r in begin:
                    shape[r.axis] = r.size
                back = pair.each(lambda a, shape=tuple(shape): _unpadded(op, a, shape))
            pulled.append(self._joined(back, begin, reference, reference in self.plan.linear))
        return pulled

    def _reshaped(self, node: Node, reference: int) -> tuple[int, ...]:
        """The window of a reshape's input that its output's window is."""
        extents = {r.axis: r.size for r in self._through(node, reference)}
        return tuple(extents.get(d, n) for d, n in enumerate(self.plan.shapes[reference]))

    def _through(self, node: Node, reference: int) -> tuple[Reach, ...]:
        return tuple(through(node, r, self.plan.shapes[reference]) for r in self.plan.along(node.output))

    def _joined(self, pair: Pair, begin: tuple[Reach, ...], reference: int, mask: bool) -> Pair:
        """Coefficients on one window put into the window that all consumers of the value share; zero beyond the value's border."""
        wanted = self.plan.along(reference)
        pads = {w.axis: (r.offset - w.offset, w.offset + w.size - r.offset - r.size) for r, w in zip(begin, wanted)}
        if any(pad != (0, 0) for pad in pads.values()):
            config = [(0, 0), (0, 0), *(pads.get(d, (0, 0)) for d in range(len(self.plan.shapes[reference])))]
            pair = pair.each(lambda a: jnp.pad(a, config))
        outside = any(self._leaves(r, reference, n) for r, n in zip(wanted, self.plan.positions))
        if mask and outside:
            inside = self.array(jnp.ones((), bool), reference)
            pair = pair.each(lambda a: jnp.where(inside, a, 0))
        return pair

    def _leaves(self, r: Reach, reference: int, count: int) -> bool:
        """Whether some window goes beyond the value's border."""
        return r.offset < 0 or r.stride * (count - 1) + r.offset + r.size > self.plan.shapes[reference][r.axis]


def _unpadded(op: Linear, a: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of a step without padding, `[n, starts, *window] -> [n, starts, *shape]`."""
    aval = jax.ShapeDtypeStruct(shape, a.dtype)
    back = transposed(op.unpadded, [aval])
    lead, size, out = a.shape[:2], math.prod(a.shape[2:]), math.prod(shape)
    flat = a.reshape(-1, *a.shape[2:])
    positions = math.prod(n for n in shape[:-1])
    if jax.default_backend() == "cpu" and positions <= _DENSE * op.taps and size * out <= _LARGEST and flat.shape[0] > size // 4:
        matrix = back(jnp.eye(size, dtype=a.dtype).reshape(size, *a.shape[2:])).reshape(size, out)
        return jnp.matmul(flat.reshape(-1, size), matrix, precision="highest").reshape(*lead, *shape)
    return back(flat).reshape(*lead, *shape)
