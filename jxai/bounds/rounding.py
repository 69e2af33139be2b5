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

They say nothing about an evaluation that overflows, that flushes products below 1e-38 to zero in another way than u · |x| allows for, or that
a compiler rewrites beyond such changes (a lower matrix precision, fast-math).
"""

from __future__ import annotations

import jax.numpy as jnp

from jxai.bounds.operations import gamma
from jxai.bounds.region import Interval
from jxai.typing import Array

SAFETY = 3
"""How many times a step's error is counted: its evaluation by f, our rule for it, and the rounding of coefficients on it."""

_TINY = 1e-37


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
