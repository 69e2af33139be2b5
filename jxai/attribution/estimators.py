"""Estimators of sensitivity from a design and its scores: total-order Sobol indices, and HSIC of binary inputs."""

from __future__ import annotations

import math

import jax.numpy as jnp

from jxai import loops
from jxai.scores import one_of
from jxai.typing import Array

__all__ = ["DESIGN_KERNELS", "SOBOL_ESTIMATORS", "hsic_of_binary", "total_order"]

DESIGN_KERNELS = {"dirac": 1.0, "rbf": 1 - math.exp(-2), "sobolev": 0.5}
"""`k(0, 0) − k(0, 1)` of the kernels on {0, 1}: `½ − (z−z')²`; `exp(−(z−z')²/(2·½²))`; `B₁(z)B₁(z') + ½B₂(|z−z'|)`."""


def total_order(a: Array, c: Array, estimator: str) -> Array:
    """Total-order Sobol indices `ST_i = E[Var(y | all but i)] / Var(y)`; 0 where the score is constant.

    Args:
      a: `[N]`, the scores of a design A.
      c: `[d, N]`, the scores of A with column i taken from an independent design B.
      estimator: one of `SOBOL_ESTIMATORS`.

    Returns:
      `[d]`. Estimates may leave [0, 1].
    """
    # Centred on a score that occurs: a constant score has deviations of exactly 0, and a large mean costs no digits.
    origin = a[0]
    numerator, variance = SOBOL_ESTIMATORS[one_of("estimator", estimator, SOBOL_ESTIMATORS)](a - origin, c - origin, origin)
    # Below a few units in the last place of the score, the variance is rounding.
    constant = variance <= (4 * jnp.finfo(a.dtype).eps * origin) ** 2
    return jnp.where(constant, 0.0, numerator / jnp.where(constant, 1.0, variance))


def _jansen(a: Array, c: Array, origin: Array) -> tuple[Array, Array]:
    """`Σ(a−c)² / (2N V)`, V = var(a) with N−1."""
    return 0.5 * jnp.mean((a - c) ** 2, axis=1), jnp.var(a, ddof=1)


def _saltelli(a: Array, c: Array, origin: Array) -> tuple[Array, Array]:
    """`1 − (mean(ac) − f₀²) / V` with f₀ = mean(a) and V = var(a) with N−1, written with the deviations from f₀.

    The scores' mean enters: `mean(ac) − f₀² = mean(a'c') + f₀ mean(c')`, so the estimate is not invariant to a shift.
    """
    mean = jnp.mean(a)
    da, dc = a - mean, c - mean
    variance = jnp.var(a, ddof=1)
    return variance - jnp.mean(da * dc, axis=1) - (origin + mean) * jnp.mean(dc, axis=1), variance


def _janon(a: Array, c: Array, origin: Array) -> tuple[Array, Array]:
    """`1 − (mean(ac) − m²) / (mean((a²+c²)/2) − m²)` with m = mean((a+c)/2)."""
    mean = jnp.mean((a + c) / 2, axis=1, keepdims=True)
    da, dc = a - mean, c - mean
    variance = jnp.mean((da**2 + dc**2) / 2, axis=1)
    return variance - jnp.mean(da * dc, axis=1), variance


def _glen(a: Array, c: Array, origin: Array) -> tuple[Array, Array]:
    """`1 − corr(a, c)`."""
    da, dc = a - jnp.mean(a), c - jnp.mean(c, axis=1, keepdims=True)
    scale = jnp.sqrt(jnp.mean(da**2) * jnp.mean(dc**2, axis=1))
    return scale - jnp.mean(da * dc, axis=1), scale


# Homma and Saltelli's `(V − mean(ac) + f₀²) / V` and Saltelli's `1 − (mean(ac) − f₀²) / V` are one number.
SOBOL_ESTIMATORS = {"jansen": _jansen, "homma": _saltelli, "saltelli": _saltelli, "janon": _janon, "glen": _glen}


def hsic_of_binary(z: Array, y: Array, kernel: str, width: float | Array | None, chunk: int) -> Array:
    """`HSIC_j = 1/N tr(H K_j H · H L H)`, `H = I − 11ᵀ/N`, `L = exp(−(y−y')²/(2w²))`, for every column j of z.

    A kernel takes two values on {0, 1}, so that `H K_j H = 2 (k(0,0) − k(0,1)) u uᵀ` with the centred column u = H z_j:
    the index is `2 (k(0,0) − k(0,1)) uᵀLu / N`. L is made in rows of `chunk`, and no `d × N × N` tensor is.

    Args:
      z: `[N, d]` of 0 and 1. y: `[N]` scores. kernel: one of `DESIGN_KERNELS`. chunk: rows of L at once.
      width: w; `None` is the median of y (not of distances: the published form).

    Returns:
      `[d]`, ≥ 0.
    """
    difference = DESIGN_KERNELS[one_of("kernel", kernel, DESIGN_KERNELS)]
    num = len(y)
    width = jnp.abs(jnp.median(y)) if width is None else width
    # At a median of 0 the kernel becomes its limit, the indicator of equal scores.
    scaled = y / jnp.maximum(width, 1e-12)
    u = z - z.mean(0)

    def block(i: Array, live: Array) -> Array:
        rows = jnp.exp(-0.5 * (scaled[i, None] - scaled) ** 2) * live[:, None]
        return (u[i] * jnp.matmul(rows, u, precision="highest")).sum(0)

    return 2 * difference * loops.block_sums(block, num, chunk) / num
