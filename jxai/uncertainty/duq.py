"""Deterministic uncertainty quantification: how near an example's features are to each class's centroid."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax import lax

from jxai.callables import plainly
from jxai.scores import wide, within
from jxai.typing import Array
from jxai.uncertainty.checks import check_features

__all__ = ["kernel", "update"]

_HIGHEST = lax.Precision.HIGHEST


@plainly
def kernel(features: Array, weights: Array, centroids: Array, *, sigma: float | Array) -> Array:
    """How near features are to each class: `K_c = exp(−mean_m (W_c f − e_c)_m² / 2σ²)`, the mean over the d entries of the embedding, not their sum.

    Args:
      features: f `[D]`. weights: W `[K, d, D]`. centroids: e `[K, d]`. sigma: σ > 0, the length scale.

    Returns:
      `[K]`, in (0, 1].

    Raises:
      ValueError: shapes that do not fit, a bad σ.

    Reference: van Amersfoort et al. 2020, "Uncertainty Estimation Using a Single Deep Deterministic Neural Network", ICML.
    """
    size = check_features(features)
    if jnp.ndim(weights) != 3 or jnp.shape(weights)[2] != size or jnp.shape(centroids) != jnp.shape(weights)[:2]:
        raise ValueError(
            f"weights must be [K, d, {size}] and centroids [K, d], as there are {size} features, got shapes {jnp.shape(weights)} and {jnp.shape(centroids)}"
        )
    embedded = jnp.einsum("kij,j->ki", wide(jnp.asarray(weights)), wide(jnp.asarray(features)), precision=_HIGHEST)
    return jnp.exp(log_kernel(embedded, wide(jnp.asarray(centroids)), sigma))


def log_kernel(embedded: Array, centroids: Array, sigma: float | Array) -> Array:
    """`[K]`: log K_c of embeddings `[K, d]`, which does not underflow far away."""
    within(math.ulp(0.0), math.inf, sigma=sigma)
    return -((embedded - centroids) ** 2).mean(1) / (2 * sigma**2)


@plainly
def update(N: Array, m: Array, counts: Array, sums: Array, *, gamma: float | Array) -> tuple[Array, Array]:
    """One step of the moving averages of which the centroids are the quotient, `e_c = m_c / N_c`: `N ← γ N + (1 − γ) n`, `m ← γ m + (1 − γ) Σ_{i ∈ c} W_c f(x_i)`.

    Args:
      N: `[K]`. m: `[K, d]`. counts: n `[K]`, examples of each class in a batch; a class without one lets N and m fade alike, so that its centroid stays.
      sums: `[K, d]`, of their embeddings. gamma: γ in [0, 1].

    Returns:
      `(N, m)`.

    Raises:
      ValueError: shapes that do not fit, γ out of range.
    """
    within(0.0, 1.0, gamma=gamma)
    N, m, counts, sums = (wide(jnp.asarray(v)) for v in (N, m, counts, sums))
    if N.ndim != 1 or m.ndim != 2 or len(m) != len(N) or counts.shape != N.shape or sums.shape != m.shape:
        raise ValueError(f"N and counts must be [K], m and sums [K, d], got shapes {N.shape}, {m.shape}, {counts.shape}, {sums.shape}")
    return gamma * N + (1 - gamma) * counts, gamma * m + (1 - gamma) * sums
