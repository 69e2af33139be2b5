"""What a step of a model does to bounds: linear, curved, bilinear. (`reductions` and `choices` have the rest.)

An operation knows its *range* (from intervals of its inputs to one of its value: `interval`), and its *lines*: linear functions
of its inputs below and above its value, from which linear bounds are made. Its inputs are the values that depend on x; constants
are part of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from jxai.bounds.region import Interval, magnitude
from jxai.bounds.rules.curve import Curve
from jxai.typing import Array


@dataclasses.dataclass(frozen=True)
class LinearMap:
    """A linear function of one input; `absolute`: the sum of the two parts, without negative coefficients, whose difference it is
    (None: it has none that are negative)."""

    apply: Callable[[Array], Array]
    absolute: Callable[[Array], Array] | None = None


@dataclasses.dataclass(frozen=True)
class Relaxation:
    """`Σ_i lower_maps[i](x_i) + lower <= y <= Σ_i upper_maps[i](x_i) + upper`.

    Attributes:
      lower_maps, upper_maps: for each input an array (multiplied entry by entry), a linear function, or None for zero; where an
        entry of both is the same object, coefficients pass it without regard to their signs.
      lower, upper: arrays of y's shape; None is 0.
    """

    lower_maps: tuple[Array | LinearMap | None, ...]
    upper_maps: tuple[Array | LinearMap | None, ...]
    lower: Array | None
    upper: Array | None


def constant(bounds: Interval, inputs: int) -> Relaxation:
    """The interval as lines of slope zero."""
    return Relaxation((None,) * inputs, (None,) * inputs, bounds.lower, bounds.upper)


class Operation:
    """What the other modules ask of an operation; this class gives the answers of one that has but a range."""

    exact_ends = False
    """Whether `interval` gives the best ends possible, where the inputs are independent of one another."""
    needs_ends = True
    """Whether its relaxation depends on the ends of its inputs."""

    def interval(self, *inputs: Interval) -> Interval:
        """The range of the value for inputs in these intervals."""
        raise NotImplementedError

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        """Lines below and above the value, for inputs in these intervals; t: choices in [0, 1], see `Curve`."""
        return constant(value, len(inputs))

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        """How far a floating-point evaluation with this unit of rounding may be off, `[*shape]`; covers that of our own rule too."""
        return 8 * unit * magnitude(value)

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> Array | float:
        """How far a floating-point evaluation may be off, beyond `error`, whose numbers below `tiny` are coarser than its unit, or 0."""
        return 16 * tiny

    def open_at(self, position: int, ends: Interval) -> Array | None:
        """For which entries of the input at `position` tighter ends than these would make a difference; None: for all."""
        return None

    @property
    def has_lines(self) -> bool:
        """Whether its relaxation is more than its range."""
        return type(self).relax is not Operation.relax


@dataclasses.dataclass(frozen=True)
class Linear(Operation):
    """`y = Σ_i map(x)_i + offset`, linear in all inputs together.

    Attributes:
      map: the linear part, as a function of all inputs. offset: an array, or None for 0.
      signs: for each input +1 or −1 where all of its coefficients have that sign, so that ends map to ends; else 0.
      absolute: the map with all coefficients replaced by their magnitudes; None where that is `map` up to signs.
      terms: how many products are added up in one entry of y, or of its transpose.
      diagonal: the coefficients, where y is x times an array, entry by entry.
      moves: it only moves numbers about, without arithmetic. apart: entries of y depend on entries of x that differ.
      local: what it does to positions, for receptive fields (see `jxai.bounds.receptive`).
      unpadded: the map on windows of any size, nothing added at their borders (see `jxai.bounds.windows`); whole: axes of its input that these
        windows must not cut; taps: positions that it adds up.
    """

    map: Callable[..., Array]
    offset: Array | None = None
    signs: tuple[int, ...] = (1,)
    absolute: Callable[..., Array] | None = None
    terms: int = 1
    diagonal: Array | None = None
    moves: bool = False
    apart: bool = False
    local: Any = None
    unpadded: Callable[[Array], Array] | None = None
    whole: tuple[int, ...] = ()
    taps: int = 1

    exact_ends = True
    needs_ends = False

    def interval(self, *inputs: Interval) -> Interval:
        if self.diagonal is not None:
            ends = times(self.diagonal, inputs[0].lower), times(self.diagonal, inputs[0].upper)
            return self._shifted(jnp.minimum(*ends), jnp.maximum(*ends))
        if all(self.signs):
            lower = self.map(*(b.lower if s > 0 else b.upper for b, s in zip(inputs, self.signs)))
            upper = self.map(*(b.upper if s > 0 else b.lower for b, s in zip(inputs, self.signs)))
            return self._shifted(lower, upper)
        centers = [jnp.where(b.lower == b.upper, b.lower, 0.5 * b.lower + 0.5 * b.upper) for b in inputs]
        middle = self.map(*centers)
        spread = self.absolute(*(jnp.maximum(b.upper - c, c - b.lower) for b, c in zip(inputs, centers)))
        return self._shifted(middle - spread, middle + spread)

    def _shifted(self, lower: Array, upper: Array) -> Interval:
        return Interval(lower, upper) if self.offset is None else Interval(lower + self.offset, upper + self.offset)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        if self.moves and self.apart:
            return jnp.zeros_like(value.lower)
        mass = self.magnitude(*(magnitude(b) for b in inputs))
        if self.offset is not None and not self.moves:  # what is put beside what is moved stays as it is
            mass = mass + jnp.abs(self.offset)
        return gamma(self.terms + 2, unit) * mass

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> float:
        return 2 * (self.terms + 2) * tiny

    def magnitude(self, *sizes: Array) -> Array:
        """`|map|` of these magnitudes."""
        if self.absolute is not None:
            return self.absolute(*sizes)
        return self.map(*(m * s for m, s in zip(sizes, self.signs)))


@dataclasses.dataclass(frozen=True)
class Unary(Operation):
    """A curve of one input, entry by entry. parameters: arrays or numbers that broadcast against it."""

    curve: Curve
    parameters: tuple[Any, ...] = ()

    exact_ends = True

    @property
    def has_lines(self) -> bool:
        return self.curve.lines is not None

    def open_at(self, position: int, ends: Interval) -> Array | None:
        bends = self.curve.bends
        return None if bends is None else jnp.broadcast_to(bends(*ends, *self.parameters), ends.lower.shape)

    def interval(self, *inputs: Interval) -> Interval:
        return self.curve.range(*inputs[0], *self.parameters)

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        if self.curve.lines is None:
            return constant(value, 1)
        lines = self.curve.lines(*inputs[0], t, *self.parameters)
        return Relaxation((lines.lower_slope,), (lines.upper_slope,), lines.lower, lines.upper)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        size, x = magnitude(value), magnitude(inputs[0])
        size = size + x if self.curve.absolute else size * (1 + x) if self.curve.grows else size
        return self.curve.ulps * unit * size

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> Array:
        return 16 * tiny * (1 + magnitude(inputs[0]))


@dataclasses.dataclass(frozen=True)
class Bilinear(Operation):
    """`y = map(a, b)`, linear in each of two inputs with coefficients that are not negative (products, and sums of them).

    Its lines are the mean of McCormick's two planes: with centres c and radii r,
    `map(a, c_b) + map(c_a, b) − map(c_a, c_b) ∓ map(r_a, r_b)`. Both planes of McCormick meet them in the middle.

    Attributes:
      terms: how many products are added up. pointwise: whether it is the product entry by entry of two arrays of one shape.
    """

    map: Callable[[Array, Array], Array]
    terms: int = 1
    pointwise: bool = False

    def interval(self, *inputs: Interval) -> Interval:
        a, b = inputs
        if self.pointwise:
            ends = jnp.stack([times(v, w) for v in a for w in b])
            return Interval(ends.min(0), ends.max(0))
        (ca, ra), (cb, rb) = _middle(a), _middle(b)
        spread = self.map(jnp.abs(ca), rb) + self.map(ra, jnp.abs(cb)) + self.map(ra, rb)
        middle = self.map(ca, cb)
        return Interval(middle - spread, middle + spread)

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        known = [jnp.isfinite(b.lower).all() & jnp.isfinite(b.upper).all() for b in inputs]
        known = known[0] & known[1]
        a, b = (Interval(jnp.where(known, v.lower, 0), jnp.where(known, v.upper, 0)) for v in inputs)
        (ca, ra), (cb, rb) = _middle(a), _middle(b)
        maps = (
            LinearMap(lambda x: self.map(x, cb), lambda m: self.map(m, jnp.abs(cb))),
            LinearMap(lambda x: self.map(ca, x), lambda m: self.map(jnp.abs(ca), m)),
        )
        middle, spread = self.map(ca, cb), self.map(ra, rb)
        lower = jnp.where(known, -middle - spread, value.lower)
        upper = jnp.where(known, -middle + spread, value.upper)
        return Relaxation(maps, maps, lower, upper)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        return gamma(self.terms + 6, unit) * 4 * self.map(*(magnitude(b) for b in inputs))

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> float:
        return 4 * (self.terms + 6) * tiny


def times(a: Array, b: Array) -> Array:
    """The product, where 0 · ∞ is 0."""
    return jnp.where((a == 0) | (b == 0), 0, a * b)


def gamma(n: int, unit: float) -> float:
    """Higham's `γ_n = n·u / (1 − n·u)`: the relative error of a sum of n products, in any order; infinite where n·u reaches 1."""
    return n * unit / (1 - n * unit) if n * unit < 1 else math.inf


def _middle(bounds: Interval) -> tuple[Array, Array]:
    c = 0.5 * bounds.lower + 0.5 * bounds.upper
    return c, jnp.maximum(bounds.upper - c, c - bounds.lower)
