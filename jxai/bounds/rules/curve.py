"""Functions of one number, bounded on an interval: their range, and a line below and a line above.

A `Curve` takes arrays of ends l <= u and works entry by entry. Lines are `slope · x + intercept`; the free choice that a line
has (a ReLU's lower slope, where a tangent touches) is `t` in [0, 1], which `alpha_crown` optimises; None is the default choice.

Whatever the slope, the best intercept of a lower line is `min_{[l, u]} φ(x) − slope · x`. So every line here is sound by its
intercept: rounding of the slope costs tightness, never soundness.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jxai.bounds.region import Interval
from jxai.typing import Array

_BISECTIONS = 14
_SLOPES = 7


class Lines(NamedTuple):
    """`lower_slope · x + lower <= φ(x) <= upper_slope · x + upper` on [l, u]; a `lower` of None is 0."""

    lower_slope: Array
    lower: Array | None
    upper_slope: Array
    upper: Array


@dataclasses.dataclass(frozen=True)
class Curve:
    """A function of one number.

    Attributes:
      name: the field's. value: `φ(x, *parameters)`.
      range: `(l, u, *parameters) -> Interval`.
      lines: `(l, u, t, *parameters) -> Lines`, t a pair (lower, upper) or None; itself None where the curve has but its range.
      ulps: how far a floating-point evaluation may be off, in units of rounding of `|φ|` and, where `absolute`, of `|φ| + |x|`.
      grows: whether that is relative to `|φ| (1 + |x|)`, as where |x| is multiplied by a rounded constant before an exponential.
      bends: of a piecewise linear curve, `(l, u, *parameters) -> bool`: whether it bends between l and u. Where it does not, its lines
        are exact, and tighter ends would change nothing.
    """

    name: str
    value: Callable[..., Array]
    range: Callable[..., Interval]
    lines: Callable[..., Lines] | None
    ulps: float = 8
    absolute: bool = False
    grows: bool = False
    bends: Callable[..., Array] | None = None


def chord(l: Array, u: Array, below: Array, above: Array, flat: Array) -> Array:
    """The slope from (l, below) to (u, above); `flat` where the ends are one or not finite."""
    wide = (u > l) & jnp.isfinite(above - below) & jnp.isfinite(u - l)
    return jnp.where(wide, (above - below) / jnp.where(wide, u - l, 1), flat)


def touching(l: Array, u: Array, t: Array | None) -> Array:
    """The point of [l, u] at the share t; the middle by default."""
    return 0.5 * l + 0.5 * u if t is None else l + t * (u - l)


def through_vertices(value: Callable[..., Array], breaks: Callable[..., tuple]) -> Callable[..., Lines]:
    """Of the slopes between two vertices, the one whose line is closest in the middle; its intercept from the vertices."""

    def lines(l, u, t, *parameters):
        known = jnp.isfinite(l) & jnp.isfinite(u)
        points = [jnp.clip(b, l, u) for b in breaks(*parameters)]
        inner = value(jnp.stack([l, *points, u]), *parameters)
        ends = Interval(inner.min(0), inner.max(0))
        l, u = jnp.where(known, l, 0.0), jnp.where(known, u, 0.0)
        points = [l, *(jnp.clip(b, l, u) for b in breaks(*parameters)), u]
        x = jnp.stack(points)
        y = value(x, *parameters)
        middle = touching(l, u, None)
        pairs = [(i, j) for i in range(len(points)) for j in range(i + 1, len(points))]
        # A slope where all vertices coincide: that of the curve just there.
        flat = value(middle + 1, *parameters) - value(middle, *parameters)
        slopes = jnp.stack([chord(x[i], x[j], y[i], y[j], flat) for i, j in pairs])
        offsets = y[None] - slopes[:, None] * x[None]
        return or_range(known, closest(slopes, offsets.min(1), offsets.max(1), middle), ends)

    return lines


def closest(slopes: Array, lower: Array, upper: Array, middle: Array) -> Lines:
    """Of candidates `[n, …]`, the lower line that is highest in the middle and the upper line that is lowest there: least area."""
    i = jnp.argmax(slopes * middle + lower, 0)[None]
    j = jnp.argmin(slopes * middle + upper, 0)[None]

    def at(values, index):
        return jnp.take_along_axis(values, index, 0)[0]

    return Lines(at(slopes, i), at(lower, i), at(slopes, j), at(upper, j))


def by_vertices(name, value, breaks):
    """A piecewise linear curve that bends at `breaks(*parameters)`."""

    def range_(l, u, *parameters):
        y = value(jnp.stack([l, *(jnp.clip(b, l, u) for b in breaks(*parameters)), u]), *parameters)
        return Interval(y.min(0), y.max(0))

    def bends(l, u, *parameters):
        return functools.reduce(jnp.logical_or, [(l < b) & (b < u) for b in breaks(*parameters)])

    return Curve(name, value, range_, through_vertices(value, breaks), 2, bends=bends)


def convex(name, value, slope, range_, *, domain=-math.inf, ulps=8.0, absolute=False, grows=False):
    """A convex curve on `x > domain`; where an interval leaves the domain, the lines are its range."""

    def lines(l, u, t, *parameters):
        ends = range_(l, u, *parameters)
        known = (l > domain) & jnp.isfinite(l) & jnp.isfinite(u) & jnp.isfinite(ends.lower) & jnp.isfinite(ends.upper)
        l, u = jnp.where(known, l, 1.0), jnp.where(known, u, 2.0)
        below, above = value(l, *parameters), value(u, *parameters)
        point = touching(l, u, None if t is None else t[0])
        tangent = slope(point, *parameters)
        up = chord(l, u, below, above, tangent)
        # φ(x) − s·x of a convex curve is greatest at an end, whatever s.
        upper = jnp.maximum(below - up * l, above - up * u)
        lower = value(point, *parameters) - tangent * point
        return or_range(known, Lines(tangent, lower, up, upper), ends)

    return Curve(name, value, range_, lines, ulps, absolute, grows)


def concave(name, value, slope, range_, **options):
    """A concave curve: the negative of a convex one."""
    turned = convex(
        name, lambda x, *p: -value(x, *p), lambda x, *p: -slope(x, *p), lambda l, u, *p: Interval(*(-end for end in range_(l, u, *p)[::-1])), **options
    )

    def lines(l, u, t, *parameters):
        down = turned.lines(l, u, None if t is None else t[::-1], *parameters)
        return Lines(-down.upper_slope, -down.upper, -down.lower_slope, -down.lower)

    return Curve(name, value, range_, lines, turned.ulps, turned.absolute)


def or_range(known: Array, lines: Lines, ends: Interval) -> Lines:
    """The lines, or the range as lines of slope 0 where an interval is not known to allow them."""
    low, high = jnp.where(jnp.isnan(ends.lower), -jnp.inf, ends.lower), jnp.where(jnp.isnan(ends.upper), jnp.inf, ends.upper)
    level = Lines(jnp.zeros_like(low), low, jnp.zeros_like(high), high)
    return Lines(*(jnp.where(known, a, b) for a, b in zip(lines, level)))


def bent(name, value, slope, inflections, curvature, rising, range_=None, turning=(), *, absolute=True, ulps=8.0, grows=False):
    """A curve whose derivative is monotone between its inflections.

    Args:
      value, slope: φ and φ′. inflections: ascending numbers. curvature: `(l, u, *parameters) -> max |φ″|` on [l, u], beside kinks.
      rising: whether φ′ rises on the first piece (then it falls on the next, and so on), or `(*parameters) -> bool`; what a constant φ′ is
        said to do does not matter.
      range_: None takes the values at both ends and at the points of `turning`, where φ′ changes its sign.
    """

    def lines(l, u, t, *parameters):
        ends = curve_range(l, u, *parameters)
        known = jnp.isfinite(l) & jnp.isfinite(u)
        l, u = jnp.where(known, l, 0.0), jnp.where(known, u, 0.0)
        up = rising(*parameters) if callable(rising) else rising
        middle = touching(l, u, None)
        cuts = [l, *(jnp.clip(jnp.full_like(l, b), l, u) for b in inflections), u]
        steep = jnp.stack([slope(p, *parameters) for p in (*cuts, middle)])
        least, most = steep.min(0), steep.max(0)
        grid = [least + (most - least) * (i / (_SLOPES - 1)) for i in range(_SLOPES)]
        tangent = slope(middle, *parameters)
        slopes = jnp.stack([*grid, tangent, chord(l, u, value(l, *parameters), value(u, *parameters), tangent)])
        offsets = [value(p, *parameters) - slopes * p for p in cuts]
        lower, upper = (f(jnp.stack(offsets), axis=0) for f in (jnp.min, jnp.max))
        bend = curvature(l, u, *parameters)
        for n, (a, b) in enumerate(zip(cuts[:-1], cuts[1:])):
            # A root of φ′ = s lies within the last bracket, where φ − s·x differs from its value there by half the curvature at most.
            point, width = _root(lambda x: slope(x, *parameters), slopes, a, b, up if n % 2 == 0 else jnp.logical_not(up))
            offset, slack = value(point, *parameters) - slopes * point, 0.5 * bend * width**2
            lower, upper = jnp.minimum(lower, offset - slack), jnp.maximum(upper, offset + slack)
        return or_range(known, closest(slopes, lower, upper, middle), ends)

    def by_points(l, u, *parameters):
        at = [value(l, *parameters), value(u, *parameters), *(value(jnp.clip(jnp.full_like(l, b), l, u), *parameters) for b in turning)]
        return Interval(jnp.stack(at).min(0), jnp.stack(at).max(0))

    curve_range = range_ or by_points
    return Curve(name, value, curve_range, lines, ulps, absolute, grows)


def _root(slope: Callable[[Array], Array], target: Array, a: Array, b: Array, rising: Array | bool) -> tuple[Array, Array]:
    """Where a monotone derivative is `target [n, …]`, by bisection of [a, b]: the middle of the last bracket, and half its width."""
    low, high = jnp.broadcast_to(a, target.shape), jnp.broadcast_to(b, target.shape)
    for _ in range(_BISECTIONS):
        point = 0.5 * (low + high)
        right = (slope(point) < target) == rising
        low, high = jnp.where(right, point, low), jnp.where(right, high, point)
    return 0.5 * (low + high), 0.5 * (high - low)
