"""What a step of a model does to bounds: linear, bilinear, curved, the greatest of several, chosen by a comparison.

An operation knows its *range* (from intervals of its inputs to one of its value: `interval`), and its *lines*: linear functions
of its inputs below and above its value, from which linear bounds are made. Its inputs are the values that depend on x; constants
are part of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.curves import Curve, chord
from jxai.bounds.region import Interval, magnitude
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
      unpadded: the map on windows of any size, nothing added at their borders (see `jxai.bounds.windows`); taps: positions that it adds up.
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
        if self.moves:
            return jnp.zeros_like(value.lower)
        mass = self.magnitude(*(magnitude(b) for b in inputs))
        if self.offset is not None:
            mass = mass + jnp.abs(self.offset)
        return gamma(self.terms + 2, unit) * mass

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
        size = magnitude(value) + (magnitude(inputs[0]) if self.curve.absolute else 0)
        return self.curve.ulps * unit * size


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


@dataclasses.dataclass(frozen=True)
class Greatest(Operation):
    """`y = max over some axes`. valid: static booleans that say which entries count (None: all); padding does not.

    Below lies the entry with the greatest lower end. Above lies, with j the entry of the greatest upper end and m the greatest upper end
    of the others, `max(x_j, m)`, or the chord above it.
    """

    axes: tuple[int, ...]
    valid: np.ndarray | None = None

    exact_ends = True

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*(end.max(self.axes) for end in self._counted(inputs[0])))

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        l, u = self._counted(inputs[0])
        below, above = _first_greatest(l, self.axes), _first_greatest(u, self.axes)
        rest = jnp.where(above, -jnp.inf, u).max(self.axes)
        low, high = jnp.where(above, l, -jnp.inf).max(self.axes), u.max(self.axes)
        unsure = rest > low
        slope = jnp.where(unsure, chord(low, high, rest, high, jnp.zeros_like(high)), 1.0)
        known = jnp.isfinite(high) & jnp.isfinite(low) & (jnp.isfinite(rest) | ~unsure)
        slope = jnp.where(known, slope, 0.0)
        upper = jnp.where(known, jnp.where(unsure, jnp.where(unsure, rest, 0) - slope * jnp.where(known, low, 0), 0.0), high)
        weight = above * jnp.expand_dims(slope, self.axes)
        maps = [LinearMap(lambda x, w=w: (w * x).sum(self.axes)) for w in (below.astype(l.dtype), weight)]
        return Relaxation((maps[0],), (maps[1],), None, upper)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        size = magnitude(inputs[0])
        return 8 * unit * (size if self.valid is None else jnp.where(self.valid, size, 0)).max(self.axes)

    def _counted(self, bounds: Interval) -> Interval:
        return bounds if self.valid is None else Interval(*(jnp.where(self.valid, end, -jnp.inf) for end in bounds))


@dataclasses.dataclass(frozen=True)
class LogSumExp(Operation):
    """`y = log Σ exp(x)` over some axes (convex: a tangent below; above, chords of the exponentials and a tangent of the logarithm)."""

    axes: tuple[int, ...]

    exact_ends = True

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*(jax.nn.logsumexp(end, self.axes) for end in inputs[0]))

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        l, u = inputs[0]
        (p, low), (q, high) = _log_sum_exp_lines(l, u, self.axes)
        maps = [LinearMap(lambda x, w=w: (w * x).sum(self.axes)) for w in (p, q)]
        return Relaxation((maps[0],), (maps[1],), low, high)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        count = math.prod(inputs[0].lower.shape[a] for a in self.axes)
        return 2 * (count + 16) * unit * (1 + magnitude(value) + magnitude(inputs[0]).max(self.axes))


@dataclasses.dataclass(frozen=True)
class Softmax(Operation):
    """`y = exp(x − log Σ exp(x))` over some axes, with the exact range of every entry on a box.

    Its lines go by `z = x − log Σ exp(x)`, between two linear functions of x, and a tangent and a chord of exp(z).
    """

    axes: tuple[int, ...]

    exact_ends = True

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*(jnp.exp(z) for z in self._log(inputs[0])))

    def _log(self, x: Interval) -> Interval:
        """`−log(1 + Σ_{j ≠ i} exp(x_j − x_i))` is least where x_i is least and all others are greatest."""
        others_low, others_high = (_log_sum_of_others(end, self.axes) for end in x)
        return Interval(-jnp.logaddexp(0, others_high - x.lower), -jnp.logaddexp(0, others_low - x.upper))

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        l, u = inputs[0]
        z = self._log(inputs[0])
        (p, low), (q, high) = _log_sum_exp_lines(l, u, self.axes)
        low, high = (jnp.expand_dims(v, self.axes) for v in (low, high))
        point = 0.5 * z.lower + 0.5 * z.upper
        below = jnp.exp(point)
        above = chord(z.lower, z.upper, jnp.exp(z.lower), jnp.exp(z.upper), below)
        maps = [
            LinearMap(*(lambda x, s=s, w=w, sign=sign: s * (x + sign * (w * x).sum(self.axes, keepdims=True)) for sign in (-1, 1)))
            for s, w in ((below, q), (above, p))
        ]
        lower = below * (1 - point) - below * high
        upper = jnp.maximum(jnp.exp(z.lower) - above * z.lower, jnp.exp(z.upper) - above * z.upper) - above * low
        return Relaxation((maps[0],), (maps[1],), lower, upper)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        count = math.prod(inputs[0].lower.shape[a] for a in self.axes)
        size = magnitude(inputs[0]).max(self.axes, keepdims=True)
        return (count + 16 + 4 * size) * unit * (value.upper + unit)


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


@dataclasses.dataclass(frozen=True)
class Logical(Operation):
    """A comparison or a logical operation; its interval is a pair of booleans: whether it must be true, whether it may be.

    rule: `(*intervals) -> (must, may)`; operands: positions among the inputs, or constant arrays, in the primitive's order.
    """

    rule: Callable[..., tuple[Array, Array]]
    operands: tuple[int | Array, ...]

    needs_ends = False

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*self.rule(*(Select._case(o, inputs) for o in self.operands)))

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        return jnp.zeros(value.lower.shape)


def times(a: Array, b: Array) -> Array:
    """The product, where 0 · ∞ is 0."""
    return jnp.where((a == 0) | (b == 0), 0, a * b)


def gamma(n: int, unit: float) -> float:
    """Higham's `γ_n = n·u / (1 − n·u)`: the relative error of a sum of n products, in any order; infinite where n·u reaches 1."""
    return n * unit / (1 - n * unit) if n * unit < 1 else math.inf


def _middle(bounds: Interval) -> tuple[Array, Array]:
    c = 0.5 * bounds.lower + 0.5 * bounds.upper
    return c, jnp.maximum(bounds.upper - c, c - bounds.lower)


def _first_greatest(v: Array, axes: tuple[int, ...]) -> Array:
    """One-hot over `axes`: the first entry that is greatest."""
    rest = [a for a in range(v.ndim) if a not in axes]
    flat = v.transpose(*rest, *axes).reshape(*(v.shape[a] for a in rest), -1)
    hot = jax.nn.one_hot(jnp.argmax(flat, -1), flat.shape[-1], dtype=bool)
    return hot.reshape(*(v.shape[a] for a in (*rest, *axes))).transpose(np.argsort([*rest, *axes]))


def _log_sum_exp_lines(l: Array, u: Array, axes: tuple[int, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """`(p, a), (q, b)` with `Σ p x + a <= log Σ exp(x) <= Σ q x + b` on [l, u]; weights of x's shape, offsets reduced."""
    finite = jnp.isfinite(l).all() & jnp.isfinite(u).all()
    l, u = jnp.where(finite, l, 0), jnp.where(finite, u, 0)
    c = 0.5 * l + 0.5 * u
    p = jax.nn.softmax(c, axes)
    low = jax.nn.logsumexp(c, axes) - (p * c).sum(axes)
    top = u.max(axes, keepdims=True)
    below, above = jnp.exp(l - top), jnp.exp(u - top)
    slope = chord(l, u, below, above, below)
    offset = jnp.maximum(below - slope * l, above - slope * u)
    total = (slope * c + offset).sum(axes, keepdims=True)
    # log S <= log S0 + (S − S0) / S0, with S0 the chords' sum in the middle.
    q = slope / total
    high = (offset / total).sum(axes) - 1 + jnp.squeeze(jnp.log(total) + top, axes)
    return (p, jnp.where(finite, low, -jnp.inf)), (q, jnp.where(finite, high, jnp.inf))


def _log_sum_of_others(v: Array, axes: tuple[int, ...]) -> Array:
    """`log Σ_{j ≠ i} exp(v_j)` for every i, by sums from both sides: no differences of nearly equal numbers."""
    rest = [a for a in range(v.ndim) if a not in axes]
    order = [*rest, *axes]
    flat = v.transpose(order).reshape(*(v.shape[a] for a in rest), -1)
    start = jnp.full((*flat.shape[:-1], 1), -jnp.inf, flat.dtype)
    before = jnp.concatenate([start, jax.lax.cumlogsumexp(flat, axis=flat.ndim - 1)[..., :-1]], -1)
    after = jnp.concatenate([jax.lax.cumlogsumexp(flat, axis=flat.ndim - 1, reverse=True)[..., 1:], start], -1)
    others = jnp.logaddexp(before, after)
    return others.reshape(*(v.shape[a] for a in order)).transpose(np.argsort(order))
