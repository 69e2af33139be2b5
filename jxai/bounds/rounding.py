"""Bounds that floating-point arithmetic cannot break.

`rounding="outward"` keeps, beside the bounds, a running bound of rounding errors (Higham, *Accuracy and Stability of Numerical
Algorithms*, 2002, chapter 3). With u the unit of rounding and `γ_n = n·u / (1 − n·u)`, a sum of n products computed in any order is off by
at most `γ_n Σ |a_i| |b_i|`; `exp`, `tanh` and their like are off by a few units (the number of each curve, measured against float64).

At every step of f, `error` bounds both what f's own evaluation in floating point may be off there, given its inputs, and what our rule for
the step may be. Interval bounds are widened by three times that. A backward pass, whose coefficients A on a value v are off by rounding
themselves, takes `⟨|A|, 3 · error⟩` off for every value that it passes, since `γ_n |A| |W| |x|` covers the rounding of `A W` as it does that
of `W x`, and `γ_N` of all that it has added up. By induction over the steps the bounds hold for

- f in real numbers, with constants (folded weights, normalisations) as they were computed, and
- f in floating point, operation by operation, with sums in any order and with or without fused multiply-adds.

u is that of the type that f computes a step in, half precision and 8 bits among them: a change of type is a step like any other, and several
steps are taken for one curve only if none of them is a change to a type that holds less. Where a type's range is narrower than float32's, numbers
below its least normal one may be lost, and a value that may be beyond its greatest has infinite bounds.

They say nothing about an evaluation that overflows on the way to a value (in a partial sum), that flushes products below 1e-38 to zero in another
way than u · |x| allows for, or that a compiler rewrites beyond such changes (a lower matrix precision, fast-math). What a compiler may leave out,
a change to half precision and back, it may leave out.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from jxai.bounds.region import Interval
from jxai.bounds.rules.operations import gamma
from jxai.typing import Array

SAFETY = 3
"""How many times a step's error is counted: its evaluation by f, our rule for it, and the rounding of coefficients on it."""

_TINY = 1e-37


class Precision(NamedTuple):
    """How exact the numbers are that a value is computed in.

    unit: half the gap from 1 to the next number. tiny: below it the gap is no smaller, or all is 0; 0 for float32's range or a wider one.
    largest: beyond it lies infinity.
    """

    unit: float = 0.0
    tiny: float = 0.0
    largest: float = math.inf

    def narrow(self) -> bool:
        """Whether the range is narrower than that of float32."""
        return self.tiny > 0

    def and_(self, other: Precision) -> Precision:
        """The coarser of both in everything."""
        return Precision(max(self.unit, other.unit), max(self.tiny, other.tiny), min(self.largest, other.largest))


def precision(dtype: Any) -> Precision:
    """That of a type; integers and truth values are exact."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return Precision()
    kind, single = jnp.finfo(dtype), jnp.finfo(jnp.float32)
    tiny = float(kind.smallest_normal)
    return Precision(float(kind.eps) / 2, *((tiny, float(kind.max)) if tiny > float(single.smallest_normal) else ()))


def reduced_precision(exponent_bits: int, mantissa_bits: int) -> Precision:
    """That of floating-point numbers with so many bits."""
    most = 2 ** (exponent_bits - 1) - 1
    narrow = (2.0 ** (1 - most), (2 - 2.0**-mantissa_bits) * 2.0**most) if exponent_bits < 8 else ()
    return Precision(2.0 ** -(mantissa_bits + 1), *narrow)


def widened(value: Interval, error: Array) -> Interval:
    """The interval with room for this error on both sides."""
    error = SAFETY * error + _TINY
    return outward(Interval(value.lower - error, value.upper + error))


def outward(value: Interval) -> Interval:
    """Both ends moved to the next floating-point number or beyond (by a sum, which has a derivative)."""
    unit = float(jnp.finfo(value.lower.dtype).eps)
    return Interval(value.lower - (unit * jnp.abs(value.lower) + _TINY), value.upper + (unit * jnp.abs(value.upper) + _TINY))


def slack(mass: Array, terms: int) -> Array:
    """How far a sum of that many terms whose magnitudes add up to `mass` may be off."""
    mass = jnp.asarray(mass)
    return gamma(terms, float(jnp.finfo(mass.dtype).eps) / 2) * mass + _TINY
