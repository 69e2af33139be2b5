"""The curves that models are made of, from `relu` to `mish`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import erf, erfc

from jxai.bounds.region import Interval
from jxai.bounds.rules.curve import Curve, Lines, bent, by_vertices, concave, convex

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


RELU = Curve(
    "relu", lambda x: jnp.maximum(x, 0), lambda l, u: Interval(jnp.maximum(l, 0), jnp.maximum(u, 0)), _relu_lines, 0, bends=lambda l, u: (l < 0) & (u > 0)
)


ABS = by_vertices("abs", jnp.abs, lambda: (0.0,))
CLIP = by_vertices("clip", lambda x, low, high: jnp.minimum(jnp.maximum(x, low), high), lambda low, high: (low, jnp.maximum(low, high)))
LEAKY_RELU = by_vertices("leaky_relu", lambda x, slope: jnp.where(x >= 0, x, slope * x), lambda slope: (0.0,))


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


def _log1p_range(l, u):
    return Interval(*(jnp.where(end > -1, jnp.log1p(jnp.where(end > -1, end, 0)), -jnp.inf) for end in (l, u)))


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


EXP = convex("exp", jnp.exp, jnp.exp, _increasing(jnp.exp))
EXPM1 = convex("expm1", jnp.expm1, jnp.exp, _increasing(jnp.expm1))
EXP2 = convex("exp2", jnp.exp2, lambda x: jnp.exp2(x) * math.log(2), _increasing(jnp.exp2), grows=True)
COSH = convex(
    "cosh",
    jnp.cosh,
    jnp.sinh,
    lambda l, u: Interval(jnp.where((l < 0) & (u > 0), 1.0, jnp.minimum(jnp.cosh(l), jnp.cosh(u))), jnp.maximum(jnp.cosh(l), jnp.cosh(u))),
    grows=True,
)
LOG = concave("log", jnp.log, lambda x: 1 / x, _positive_only(jnp.log, -jnp.inf), domain=0.0, absolute=True)
LOG1P = concave("log1p", jnp.log1p, lambda x: 1 / (1 + x), _log1p_range, domain=-1.0, absolute=True)
SQRT = concave("sqrt", lambda x: jnp.sqrt(jnp.maximum(x, 0)), lambda x: 0.5 * lax.rsqrt(x), _positive_only(jnp.sqrt, 0.0), domain=0.0)
RSQRT = convex("rsqrt", lax.rsqrt, lambda x: -0.5 * lax.rsqrt(x) / x, _positive_only(lax.rsqrt, jnp.inf), domain=0.0)
_RECIPROCAL = convex("reciprocal", lambda x: 1 / x, lambda x: -1 / x**2, _reciprocal_range, domain=0.0)
RECIPROCAL = dataclasses.replace(_RECIPROCAL, lines=_reciprocal_lines)
SQUARE = convex("square", jnp.square, lambda x: 2 * x, _even_range(jnp.square))


def _softplus(x):
    return jnp.logaddexp(x, 0.0)


SOFTPLUS = convex("softplus", _softplus, lambda x: 1 / (1 + jnp.exp(-x)), _increasing(_softplus), absolute=True)


# Curves with inflections. Where an inflection or a turning point has no closed form, it is the root of φ″ or φ′, found in 30 digits.


def _constant(value):
    return lambda l, u, *parameters: jnp.full_like(l, value)


def _sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def _normal(x):
    return jnp.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


def _cdf(x):
    return 0.5 * erfc(-x / math.sqrt(2))


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


SIGMOID = bent("sigmoid", _sigmoid, lambda x: _sigmoid(x) * _sigmoid(-x), (0.0,), _constant(0.1), True, absolute=False)
TANH = bent("tanh", jnp.tanh, lambda x: 1 / jnp.cosh(x) ** 2, (0.0,), _constant(0.8), True, absolute=False)
ERF = bent("erf", erf, lambda x: 2 / math.sqrt(math.pi) * jnp.exp(-(x**2)), (0.0,), _constant(1.0), True, absolute=False)
ATAN = bent("atan", jnp.arctan, lambda x: 1 / (1 + x**2), (0.0,), _constant(0.65), True, absolute=False)
SINH = bent("sinh", jnp.sinh, jnp.cosh, (0.0,), lambda l, u: jnp.sinh(jnp.maximum(jnp.maximum(-l, u), 0)), False, absolute=False, grows=True)
ASINH = bent("asinh", jnp.arcsinh, lambda x: lax.rsqrt(1 + x**2), (0.0,), _constant(0.4), True)
SOFT_SIGN = bent("soft_sign", lambda x: x / (1 + jnp.abs(x)), lambda x: 1 / (1 + jnp.abs(x)) ** 2, (0.0,), _constant(2.0), True)
SILU = bent("silu", lambda x: x * _sigmoid(x), _silu_slope, (-2.39935728, 2.39935728), _constant(0.51), False, turning=(-1.27846454,))
GELU = bent("gelu", lambda x: x * _cdf(x), lambda x: _cdf(x) + x * _normal(x), (-math.sqrt(2), math.sqrt(2)), _constant(0.81), False, turning=(-0.75179160,))
GELU_TANH = bent("gelu_tanh", _gelu_tanh, _gelu_tanh_slope, (-1.41850401, 1.41850401), _constant(0.81), False, turning=(-0.75246142,))
MISH = bent("mish", _mish, _mish_slope, (-2.25637640, 1.49057118), _constant(0.65), False, turning=(-1.19243121,))
ELU = bent(
    "elu",
    _elu,
    lambda x, alpha: jnp.where(x > 0, 1.0, alpha * jnp.exp(jnp.minimum(x, 0))),
    (0.0,),
    lambda l, u, alpha: jnp.broadcast_to(jnp.abs(alpha), l.shape),
    lambda alpha: jnp.asarray(alpha) >= 0,
    turning=(0.0,),
)
CELU = bent(
    "celu",
    _celu,
    lambda x, alpha: jnp.where(x > 0, 1.0, jnp.exp(jnp.minimum(x, 0) / alpha)),
    (0.0,),
    lambda l, u, alpha: jnp.broadcast_to(1 / jnp.abs(alpha), l.shape),
    lambda alpha: jnp.asarray(alpha) >= 0,
    turning=(0.0,),
)
HARD_SILU = bent(
    "hard_silu", _hard_silu, lambda x: jnp.where(x <= -3, 0.0, jnp.where(x >= 3, 1.0, x / 3 + 0.5)), (-3.0, 3.0), _constant(0.34), False, turning=(-1.5, -3.0)
)


def even_power(n: int) -> Curve:
    """`x ↦ xⁿ` for an even n >= 2."""
    if n == 2:
        return SQUARE
    return convex(f"power_{n}", lambda x: x**n, lambda x: n * x ** (n - 1), _even_range(lambda x: x**n), ulps=2.0 * n + 2)


def odd_power(n: int) -> Curve:
    """`x ↦ xⁿ` for an odd n >= 3."""
    bend = lambda l, u: n * (n - 1) * jnp.maximum(jnp.abs(l), jnp.abs(u)) ** (n - 2)
    return bent(
        f"power_{n}", lambda x: x**n, lambda x: n * x ** (n - 1), (0.0,), bend, False, lambda l, u: Interval(l**n, u**n), absolute=False, ulps=2.0 * n + 2
    )


def step(name: str, value: Callable) -> Curve:
    """A curve of steps that does not fall: it has but its range."""
    return Curve(name, value, _increasing(value), None, 0)


SIGN, FLOOR, CEIL, TRUNCATE = step("sign", jnp.sign), step("floor", jnp.floor), step("ceil", jnp.ceil), step("truncate", jnp.trunc)

PARTIAL = frozenset({LOG, LOG1P, SQRT, RSQRT, RECIPROCAL})
"""What is not defined everywhere."""
