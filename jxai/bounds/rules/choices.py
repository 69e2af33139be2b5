"""What is decided: truth values and whole numbers that depend on x, and which of several cases is possible."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from jxai.bounds.region import Interval
from jxai.bounds.rules.operations import Operation, Relaxation
from jxai.typing import Array


@dataclasses.dataclass(frozen=True)
class Select(Operation):
    """`y = cases[predicate]`: the cases that are possible, and where but one is, that one.

    predicate, cases: positions among the inputs, or constant arrays.
    """

    predicate: int | Array
    cases: tuple[int | Array, ...]

    def interval(self, *inputs: Interval) -> Interval:
        cases = [self._case(c, inputs) for c in self.cases]
        possible = self._possible(inputs)
        if cases[0].lower.dtype == bool:
            must = jnp.stack([c.lower | ~p for p, c in zip(possible, cases)]).all(0)
            return Interval(must, jnp.stack([c.upper & p for p, c in zip(possible, cases)]).any(0))
        lower = jnp.stack([jnp.where(p, c.lower, jnp.inf) for p, c in zip(possible, cases)]).min(0)
        upper = jnp.stack([jnp.where(p, c.upper, -jnp.inf) for p, c in zip(possible, cases)]).max(0)
        return Interval(lower, upper)

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        """Where one case is certain, that case; else the range."""
        possible = self._possible(inputs)
        certain = [p & (sum(q.astype(int) for q in possible) == 1) for p in possible]
        maps: list[Any] = [None] * len(inputs)
        fixed, some = jnp.zeros_like(value.lower), jnp.zeros(value.lower.shape, bool)
        for case, sure in zip(self.cases, certain):
            some = some | sure
            if isinstance(case, int):
                mask = jnp.broadcast_to(sure, value.lower.shape).astype(value.lower.dtype)
                maps[case] = mask if maps[case] is None else maps[case] + mask
            else:
                fixed = jnp.where(sure, case, fixed)
        return Relaxation(tuple(maps), tuple(maps), jnp.where(some, fixed, value.lower), jnp.where(some, fixed, value.upper))

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        return jnp.zeros_like(value.lower)

    def _possible(self, inputs: Sequence[Interval]) -> list[Array]:
        if not isinstance(self.predicate, int):
            return [jnp.asarray(self.predicate) == n for n in range(len(self.cases))]
        low, high = inputs[self.predicate]
        return [(low <= n) & (n <= high) for n in range(len(self.cases))]

    @staticmethod
    def _case(case: int | Array, inputs: Sequence[Interval]) -> Interval:
        return inputs[case] if isinstance(case, int) else Interval(case, case)

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> float:
        return 0.0


@dataclasses.dataclass(frozen=True)
class Ranged(Operation):
    """An operation that is known by its range alone: of numbers, or of truth values, a pair of booleans: whether it must be true, whether it may be.

    rule: `(*intervals) -> (lower, upper)`, as exact as f's own evaluation; operands: positions among the inputs, or constant arrays, in the
    primitive's order.
    """

    rule: Callable[..., tuple[Array, Array]]
    operands: tuple[int | Array, ...]

    needs_ends = False

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*self.rule(*(Select._case(o, inputs) for o in self.operands)))

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        return jnp.zeros_like(value.lower)

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> float:
        return 0.0


@dataclasses.dataclass(frozen=True)
class Whole(Operation):
    """An operation on whole numbers of a type that holds `least` to `greatest`: beyond that it wraps around, or does what the machine likes."""

    inner: Operation
    least: float
    greatest: float

    needs_ends = False

    def interval(self, *inputs: Interval) -> Interval:
        lower, upper = self.inner.interval(*inputs)
        # In floating point 2³¹ − 1 is 2³¹; and rounding must not hide that a sum is beyond it.
        room = self.inner.error(inputs, Interval(lower, upper), float(jnp.finfo(lower.dtype).eps))
        held = (lower - room > self.least - 1) & (upper + room < self.greatest + 1)
        return Interval(jnp.where(held, lower, self.least), jnp.where(held, upper, self.greatest))

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        return self.inner.error(inputs, value, unit)
