"""The rules of what puts numbers in order: sort, the greatest k, running maxima, and where a greatest entry is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from jxai.bounds.region import Interval
from jxai.bounds.rules.choices import Ranged
from jxai.bounds.rules.discrete_rules import number, whole
from jxai.bounds.rules.operations import Linear, LinearMap, Operation, Relaxation
from jxai.bounds.rules.use import Perturbed, Result, Use
from jxai.typing import Array


@dataclasses.dataclass(frozen=True)
class Sort(Operation):
    """`y = sort(x)` along an axis: no entry of y falls where one of x rises, so that the ends in order are the ends of y.

    Where all entries that may come before one are known to, it is that entry of x; else its lines are its range.
    """

    axis: int

    exact_ends = True

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*(jnp.sort(end, self.axis) for end in inputs[0]))

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        l, u = inputs[0]
        order = jnp.argsort(jnp.where(jnp.isfinite(l) & jnp.isfinite(u), 0.5 * l + 0.5 * u, l), self.axis)
        l, u = (jnp.take_along_axis(end, order, self.axis) for end in (l, u))
        nothing = jnp.full_like(lax.slice_in_dim(l, 0, 1, axis=self.axis), jnp.inf)
        before = jnp.concatenate([-nothing, lax.cummax(u, axis=self.axis)], self.axis)
        after = jnp.concatenate([lax.cummin(l, axis=self.axis, reverse=True), nothing], self.axis)
        n = l.shape[self.axis]
        sure = (lax.slice_in_dim(before, 0, n, axis=self.axis) <= l) & (lax.slice_in_dim(after, 1, n + 1, axis=self.axis) >= u)
        own = LinearMap(lambda x: jnp.where(sure, jnp.take_along_axis(x, order, self.axis), 0))
        return Relaxation((own,), (own,), jnp.where(sure, 0, value.lower), jnp.where(sure, 0, value.upper))

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        return jnp.zeros_like(value.lower)

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> float:
        return 0.0


def sort(use: Use) -> Result:
    """The numbers in order; what is put in their order lies between the least and the greatest of it."""
    axis = use.param("dimension")
    x = use.operands[use.output]
    if use.output == 0 and isinstance(x, Perturbed):
        return Sort(axis), (x.reference,)

    def along(b: Interval) -> tuple[Array, Array]:
        low, high = b.lower.min(axis, keepdims=True), b.upper.max(axis, keepdims=True)
        return jnp.broadcast_to(low, use.shape), jnp.broadcast_to(high, use.shape)

    # The keys decide the order, but not the range.
    if isinstance(x, Perturbed):
        return Ranged(along, (0,)), (x.reference,)
    ends = along(Interval(*2 * (number(use, x),)))
    return Ranged(lambda b: ends, (0,)), use.inputs[:1]


def top_k(use: Use) -> Result:
    """The first of the numbers in descending order."""
    x, axis = use.operands[0], use.param("axis")
    if use.output == 1:
        return _places(use, axis)
    ordered = use.add(Sort(axis), (x.reference,), x.shape)
    n, k = x.shape[axis], use.shape[axis]

    def first(v: Array) -> Array:
        return jnp.flip(lax.slice_in_dim(v, n - k, n, axis=axis), axis)

    return Linear(first, moves=True, apart=True), (ordered.reference,)


def _places(use: Use, axis: int) -> Result:
    last = float(use.operands[0].shape[axis] - 1)
    return Ranged(lambda b: (jnp.zeros(use.shape), jnp.full(use.shape, last)), (0,)), use.inputs


def running(use: Use) -> Result:
    """The greatest or the least entry so far."""
    return Ranged(lambda b: (use.step.run([b.lower])[0], use.step.run([b.upper])[0]), (0,)), use.inputs


def place(use: Use) -> Result:
    """Where the greatest (argmax) or least entry is: from the first to the last of those that may be it."""
    (axis,), greatest = use.param("axes"), use.step.primitive == "argmax"

    def ends(b: Interval) -> tuple[Array, Array]:
        may = b.upper >= b.lower.max(axis, keepdims=True) if greatest else b.lower <= b.upper.min(axis, keepdims=True)
        n = may.shape[axis]
        first, last = jnp.argmax(may, axis), n - 1 - jnp.argmax(jnp.flip(may, axis), axis)
        return first.astype(jnp.float32), last.astype(jnp.float32)

    return whole(Ranged(ends, (0,)), use.dtype), use.inputs
