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
from jax import lax
from jax.scipy.special import erf

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
      bends: of a piecewise linear curve, `(l, u, *parameters) -> bool`: whether it bends between l and u. Where it does not, its lines
        are exact, and tighter ends would change nothing.
    """

    name: str
    value: Callable[..., Array]
    range: Callable[..., Interval]
    lines: Callable[..., Lines] | None
    ulps: float = 8
    absolute: bool = False
    bends: Callable[..., Array] | None = None


def chord(l: Array, u: Array, below: Array, above: Array, flat: Array) -> Array:
    """The slope from (l, below) to (u, above); `flat` where the ends are one or not finite."""
    wide = (u > l) & jnp.isfinite(above - below) & jnp.isfinite(u - l)
    return jnp.where(wide, (above - below) / jnp.where(wide, u - l, 1), flat)


def touching(l: Array, u: Array, t: Array | None) -> Array:
    """The point of [l, u] at the share t; the middle by default."""
    return 0.5 * l + 0.5 * u if t is None else l + t * (u - l)


# ReLU.


def _relu_lines(l, u, t):
    unstable = (l < 0) & (u > 0)
    known = jnp.isfinite(u - l)
    gap = jnp.where(unstable & known, u - l, 1)
    slope = jnp.where(unstable, jnp.where(known, u, 0) / gap, (l >= 0).astype(l.dtype))
    # CROWN's choice: the one of 0 and 1 that leaves the smaller triangle.
    below = (u > -l).astype(l.dtype) if t is None else t[0]
    below = jnp.where(unstable, below, (l >= 0).astype(l.dtype))
    upper = jnp.where(unstable, jnp.where(known, -slope * jnp.where(known, l, 0), u), 0)
    return Lines(below, None, slope, upper)


RELU = Curve("relu", lambda x: jnp.maximum(x, 0), lambda l, u: Interval(jnp.maximum(l, 0), jnp.maximum(u, 0)), _relu_lines, 0, bends=lambda l, u: (l < 0) & (u > 0))


# Piecewise linear curves, by their vertices.


def _through_vertices(value: Callable[..., Array], breaks: Callable[..., tuple]) -> Callable[..., Lines]:
    """Of the slopes between two vertices, the one whose line is closest in the middle; its intercept from the vertices."""

    def lines(l, u, t, *parameters):
        points = [l, *(jnp.clip(b, l, u) for b in breaks(*parameters)), u]
        x = jnp.stack(points)
        y = value(x, *parameters)
        middle = touching(l, u, None)
        pairs = [(i, j) for i in range(len(points)) for j in range(i + 1, len(points))]
        # A slope where all vertices coincide: that of the curve just there.
        flat = value(middle + 1, *parameters) - value(middle, *parameters)
        slopes = jnp.stack([chord(x[i], x[j], y[i], y[j], flat) for i, j in pairs])
        offsets = y[None] - slopes[:, None] * x[None]
        return _closest(slopes, offsets.min(1), offsets.max(1), middle)

    return lines


def _closest(slopes: Array, lower: Array, upper: Array, middle: Array) -> Lines:
    """Of candidates `[n, …]`, the lower line that is highest in the middle and the upper line that is lowest there: least area."""
    i = jnp.argmax(slopes * middle + lower, 0)[None]
    j = jnp.argmin(slopes * middle + upper, 0)[None]

    def at(values, index):
        return jnp.take_along_axis(values, index, 0)[0]

    return Lines(at(slopes, i), at(lower, i), at(slopes, j), at(upper, j))


def _by_vertices(name, value, breaks):
    def range_(l, u, *parameters):
        y = value(jnp.stack([l, *(jnp.clip(b, l, u) for b in breaks(*parameters)), u]), *parameters)
        return Interval(y.min(0), y.max(0))

    def bends(l, u, *parameters):
        return functools.reduce(jnp.logical_or, [(l < b) & (b < u) for b in breaks(*parameters)])

    return Curve(name, value, range_, _through_vertices(value, breaks), 2, bends=bends)


ABS = _by_vertices("abs", jnp.abs, lambda: (0.0,))
CLIP = _by_vertices("clip", lambda x, low, high: jnp.minimum(jnp.maximum(x, low), high), lambda low, high: (low, jnp.maximum(low, high)))
LEAKY_RELU = _by_vertices("leaky_relu", lambda x, slope: jnp.where(x >= 0, x, slope * x), lambda slope: (0.0,))


# Convex and concave curves: a tangent on one side, the chord on the other.


def _convex(name, value, slope, range_, *, domain=-math.inf, ulps=8.0, absolute=False):
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
        return _or_range(known, Lines(tangent, lower, up, upper), ends)

    return Curve(name, value, range_, lines, ulps, absolute)


def _concave(name, value, slope, range_, **options):
    """A concave curve: the negative of a convex one."""
    turned = _convex(
        name, lambda x, *p: -value(x, *p), lambda x, *p: -slope(x, *p), lambda l, u, *p: Interval(*(-end for end in range_(l, u, *p)[::-1])), **options
    )

    def lines(l, u, t, *parameters):
        down = turned.lines(l, u, None if t is None else t[::-1], *parameters)
        return Lines(-down.upper_slope, -down.upper, -down.lower_slope, -down.lower)

    return Curve(name, value, range_, lines, turned.ulps, turned.absolute)


def _or_range(known: Array, lines: Lines, ends: Interval) -> Lines:
    level = Lines(jnp.zeros_like(ends.lower), ends.lower, jnp.zeros_like(ends.upper), ends.upper)
    return Lines(*(jnp.where(known, a, b) for a, b in zip(lines, level)))


def _increasing(value):
    return lambda l, u, *parameters: Interval(value(l, *parameters), value(u, *parameters))


def _positive_only(value, at_zero):
    """The range of a monotone function of positive numbers; what lies at or below 0 counts as the limit `at_zero`."""

    def range_(l, u):
        low = jnp.where(l > 0, value(jnp.where(l > 0, l, 1)), at_zero)
        high = jnp.where(u > 0, value(jnp.where(u > 0, u, 1)), at_zero)
        return Interval(jnp.minimum(low, high), jnp.maximum(low, high))

    return range_


def _even_range(value):
    def range_(l, u, *parameters):
        a, b = value(l, *parameters), value(u, *parameters)
        return Interval(jnp.where((l < 0) & (u > 0), jnp.zeros_like(a), jnp.minimum(a, b)), jnp.maximum(a, b))

    return range_


def _reciprocal_range(l, u):
    away = (l > 0) | (u < 0)
    safe_l, safe_u = jnp.where(away, l, 1), jnp.where(away, u, 1)
    return Interval(jnp.where(away, 1 / safe_u, -jnp.inf), jnp.where(away, 1 / safe_l, jnp.inf))


def _reciprocal_lines(l, u, t):
    """Convex for positive numbers, the turned curve for negative ones, unbounded across 0."""
    negative = u < 0
    a, b = jnp.where(negative, -u, l), jnp.where(negative, -l, u)
    right = _RECIPROCAL.lines(a, b, None)
    turned = Lines(right.upper_slope, -right.upper, right.lower_slope, -right.lower)
    return Lines(*(jnp.where(negative, v, w) for v, w in zip(turned, right)))


EXP = _convex("exp", jnp.exp, jnp.exp, _increasing(jnp.exp))
EXPM1 = _convex("expm1", jnp.expm1, jnp.exp, _increasing(jnp.expm1))
EXP2 = _convex("exp2", jnp.exp2, lambda x: jnp.exp2(x) * math.log(2), _increasing(jnp.exp2))
COSH = _convex("cosh", jnp.cosh, jnp.sinh, lambda l, u: Interval(jnp.where((l < 0) & (u > 0), 1.0, jnp.minimum(jnp.cosh(l), jnp.cosh(u))), jnp.maximum(jnp.cosh(l), jnp.cosh(u))))
LOG = _concave("log", jnp.log, lambda x: 1 / x, _positive_only(jnp.log, -jnp.inf), domain=0.0, absolute=True)
LOG1P = _concave(
    "log1p", jnp.log1p, lambda x: 1 / (1 + x), lambda l, u: _positive_only(lambda v: jnp.log1p(v - 1), -jnp.inf)(l + 1, u + 1), domain=-1.0, absolute=True
)
SQRT = _concave("sqrt", lambda x: jnp.sqrt(jnp.maximum(x, 0)), lambda x: 0.5 * lax.rsqrt(x), _positive_only(jnp.sqrt, 0.0), domain=0.0)
RSQRT = _convex("rsqrt", lax.rsqrt, lambda x: -0.5 * lax.rsqrt(x) / x, _positive_only(lax.rsqrt, jnp.inf), domain=0.0)
_RECIPROCAL = _convex("reciprocal", lambda x: 1 / x, lambda x: -1 / x**2, _reciprocal_range, domain=0.0)
RECIPROCAL = dataclasses.replace(_RECIPROCAL, lines=_reciprocal_lines)
SQUARE = _convex("square", jnp.square, lambda x: 2 * x, _even_range(jnp.square))


def _softplus(x):
    return jnp.logaddexp(x, 0.0)


SOFTPLUS = _convex("softplus", _softplus, lambda x: 1 / (1 + jnp.exp(-x)), _increasing(_softplus), absolute=True)


# Curves with inflections: pieces on which the derivative is monotone. Where an inflection or a turning point has no closed form, it is
# the root of φ″ or φ′, found in 30 digits.


def _bent(name, value, slope, inflections, curvature, range_=None, turning=(), *, absolute=True, ulps=8.0):
    """A curve whose derivative is monotone between its inflections.

    Args:
      value, slope: φ and φ′. inflections: ascending numbers. curvature: `(l, u, *parameters) -> max |φ″|` on [l, u], beside kinks.
      range_: None takes the values at both ends and at the points of `turning`, where φ′ changes its sign.
    """

    def lines(l, u, t, *parameters):
        known = jnp.isfinite(l) & jnp.isfinite(u)
        l, u = jnp.where(known, l, 0.0), jnp.where(known, u, 0.0)
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
        for a, b in zip(cuts[:-1], cuts[1:]):
            # A root of φ′ = s lies within the last bracket, where φ − s·x differs from its value there by half the curvature at most.
            point, width = _root(lambda x: slope(x, *parameters), slopes, a, b)
            offset, slack = value(point, *parameters) - slopes * point, 0.5 * bend * width**2
            lower, upper = jnp.minimum(lower, offset - slack), jnp.maximum(upper, offset + slack)
        return _or_range(known, _closest(slopes, lower, upper, middle), curve_range(l, u, *parameters))

    def by_points(l, u, *parameters):
        at = [value(l, *parameters), value(u, *parameters), *(value(jnp.clip(jnp.full_like(l, b), l, u), *parameters) for b in turning)]
        return Interval(jnp.stack(at).min(0), jnp.stack(at).max(0))

    curve_range = range_ or by_points
    return Curve(name, value, curve_range, lines, ulps, absolute)


def _root(slope: Callable[[Array], Array], target: Array, a: Array, b: Array) -> tuple[Array, Array]:
    """Where a monotone derivative is `target [n, …]`, by bisection of [a, b]: the middle of the last bracket, and half its width."""
    rising = slope(b) >= slope(a)
    low, high = jnp.broadcast_to(a, target.shape), jnp.broadcast_to(b, target.shape)
    for _ in range(_BISECTIONS):
        point = 0.5 * (low + high)
        right = (slope(point) < target) == rising
        low, high = jnp.where(right, point, low), jnp.where(right, high, point)
    return 0.5 * (low + high), 0.5 * (high - low)


def _constant(value):
    return lambda l, u, *parameters: jnp.full_like(l, value)


def _sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def _normal(x):
    return jnp.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


def _cdf(x):
    return 0.5 * (1 + erf(x / math.sqrt(2)))


_TANH_SCALE, _TANH_CUBE = math.sqrt(2 / math.pi), 0.044715


def _gelu_tanh(x):
    return 0.5 * x * (1 + jnp.tanh(_TANH_SCALE * (x + _TANH_CUBE * x**3)))


def _gelu_tanh_slope(x):
    h = jnp.tanh(_TANH_SCALE * (x + _TANH_CUBE * x**3))
    return 0.5 * (1 + h) + 0.5 * x * (1 - h**2) * _TANH_SCALE * (1 + 3 * _TANH_CUBE * x**2)


def _silu_slope(x):
    s = _sigmoid(x)
    return s * (1 + x * (1 - s))


def _mish(x):
    return x * jnp.tanh(_softplus(x))


def _mish_slope(x):
    h = jnp.tanh(_softplus(x))
    return h + x * (1 - h**2) * _sigmoid(x)


def _elu(x, alpha):
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0)))


def _celu(x, alpha):
    return jnp.where(x > 0, x, alpha * jnp.expm1(jnp.minimum(x, 0) / alpha))


def _hard_silu(x):
    return x * jnp.clip(x + 3, 0, 6) / 6


SIGMOID = _bent("sigmoid", _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), (0.0,), _constant(0.1), absolute=False)
TANH = _bent("tanh", jnp.tanh, lambda x: 1 / jnp.cosh(x) ** 2, (0.0,), _constant(0.8), absolute=False)
ERF = _bent("erf", erf, lambda x: 2 / math.sqrt(math.pi) * jnp.exp(-(x**2)), (0.0,), _constant(1.0), absolute=False)
ATAN = _bent("atan", jnp.arctan, lambda x: 1 / (1 + x**2), (0.0,), _constant(0.65), absolute=False)
SINH = _bent("sinh", jnp.sinh, jnp.cosh, (0.0,), lambda l, u: jnp.sinh(jnp.maximum(-l, u)), absolute=False)
ASINH = _bent("asinh", jnp.arcsinh, lambda x: lax.rsqrt(1 + x**2), (0.0,), _constant(0.4))
SOFT_SIGN = _bent("soft_sign", lambda x: x / (1 + jnp.abs(x)), lambda x: 1 / (1 + jnp.abs(x)) ** 2, (0.0,), _constant(2.0))
SILU = _bent("silu", lambda x: x * _sigmoid(x), _silu_slope, (-2.39935728, 2.39935728), _constant(0.51), turning=(-1.27846454,))
GELU = _bent("gelu", lambda x: x * _cdf(x), lambda x: _cdf(x) + x * _normal(x), (-math.sqrt(2), math.sqrt(2)), _constant(0.81), turning=(-0.75179160,))
GELU_TANH = _bent("gelu_tanh", _gelu_tanh, _gelu_tanh_slope, (-1.41850401, 1.41850401), _constant(0.81), turning=(-0.75246142,))
MISH = _bent("mish", _mish, _mish_slope, (-2.25637640, 1.49057118), _constant(0.65), turning=(-1.19243121,))
ELU = _bent("elu", _elu, lambda x, alpha: jnp.where(x > 0, 1.0, alpha * jnp.exp(jnp.minimum(x, 0))), (0.0,), lambda l, u, alpha: jnp.broadcast_to(jnp.abs(alpha), l.shape), turning=(0.0,))
CELU = _bent(
    "celu", _celu, lambda x, alpha: jnp.where(x > 0, 1.0, jnp.exp(jnp.minimum(x, 0) / alpha)), (0.0,), lambda l, u, alpha: jnp.broadcast_to(1 / jnp.abs(alpha), l.shape), turning=(0.0,)
)
HARD_SILU = _bent(
    "hard_silu", _hard_silu, lambda x: jnp.where(x <= -3, 0.0, jnp.where(x >= 3, 1.0, x / 3 + 0.5)), (-3.0, 3.0), _constant(0.34), turning=(-1.5, -3.0)
)


def even_power(n: int) -> Curve:
    """`x ↦ xⁿ` for an even n >= 2."""
    if n == 2:
        return SQUARE
    return _convex(f"power_{n}", lambda x: x**n, lambda x: n * x ** (n - 1), _even_range(lambda x: x**n))


def odd_power(n: int) -> Curve:
    """`x ↦ xⁿ` for an odd n >= 3."""
    bend = lambda l, u: n * (n - 1) * jnp.maximum(jnp.abs(l), jnp.abs(u)) ** (n - 2)
    return _bent(f"power_{n}", lambda x: x**n, lambda x: n * x ** (n - 1), (0.0,), bend, lambda l, u: Interval(l**n, u**n), absolute=False)


# Steps: only their range.


def _step(name, value):
    return Curve(name, value, _increasing(value), None, 0)


SIGN, FLOOR, CEIL, ROUND = (_step(name, f) for name, f in (("sign", jnp.sign), ("floor", jnp.floor), ("ceil", jnp.ceil), ("round", jnp.round)))
