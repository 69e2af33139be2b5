"""Scores of what a model says once something in its way was changed: an input pushed by its gradient, a map without its strongest component."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_convention, check_logits, check_positive, need_fitted
from jxai.uncertainty.formulas.energy import free_energy
from jxai.uncertainty.heads import Head

__all__ = ["odin", "rank_feat", "without_first"]

SQUARINGS = 20
"""Of a Gram matrix: to the power of 2²⁰, where eigenvalues that differ by a hundred-thousandth are apart."""


@plainly
def odin(logits: Array, features: Array | None = None, fitted: Any = None, *, temperature: float = 1000.0, convention: str = "paper") -> Array:
    """The largest class probability at a high temperature, negated: `−max_k softmax(z / T)_k`, z the logits of the perturbed example.

    Args:
      logits: `[K]`, of the example that `jxai.uncertainty.odin` has moved by its gradient; of the example itself, nothing is perturbed.
      features: not read.
      fitted: not read.
      temperature: T > 0.
      convention: "paper" or "openood", which differ in the perturbation alone.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: a bad option; where they are concrete, logits that are NaN or probabilities.

    Range: [−1, 0].
    Cost: `O(K)` operations.
    Reference: Liang, Li & Srikant 2018, "Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks", ICLR.
    """
    check_logits(logits)
    check_positive(temperature=temperature)
    check_convention(convention)
    return -jnp.exp(jax.nn.log_softmax(wide(jnp.asarray(logits)) / temperature).max())


@plainly
def rank_feat(logits: Array, features: Array | None = None, fitted: Head | None = None, *, temperature: float = 1.0, convention: str = "paper") -> Array:
    """The energy of the logits that the last map gives without its first singular component: `−T log Σ_k exp(z_k / T)`, `z = Wᵀ mean(A − σ₁ u₁ v₁ᵀ) + b`.

    Args:
      logits: `[K]`, not read.
      features: the last map `[…, C]`, channels last, A `[positions, C]`; the model takes its mean over positions and then its last linear map.
      fitted: the model's last linear map, `linear_head(f, x)`.
      temperature: T > 0.
      convention: "paper" or "openood", which are the same here.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: no head, a map without positions or of other channels, a bad option; where they are concrete, NaN.

    Range: (−∞, ∞).
    Cost: 20 products of matrices as large as the fewer of positions and channels.
    Reference: Song, Sebe & Wang 2022, "RankFeat: Rank-1 Feature Removal for Out-of-distribution Detection", NeurIPS.
    """
    check_logits(logits)
    head = need_fitted(fitted, Head, "linear_head(f, x)")
    check_positive(temperature=temperature)
    check_convention(convention)
    shape, size = jnp.shape(features), jnp.shape(head.weights)[0]
    if len(shape) < 2 or shape[-1] != size or 0 in shape:
        raise ValueError(f"features must be a map […, {size}], channels last, for what the last layer's weights take the mean of, got shape {shape}")
    if not isinstance(features, jax.core.Tracer) and not np.isfinite(np.asarray(features, np.float64)).all():
        raise ValueError("features must be finite, but have NaN or infinite entries")
    a = wide(jnp.asarray(features)).reshape(math.prod(shape[:-1]), size)
    return free_energy(head(without_first(a).mean(0)), temperature)


def without_first(a: Array) -> Array:
    """`A − σ₁ u₁ v₁ᵀ` of a matrix `[n, m]`; of components that are equally strong, each is weakened alike.

    By squaring the Gram matrix of the shorter side until it projects on its first eigenvector: unlike through a singular value decomposition, the derivative
    exists where smaller singular values coincide, as those of dead channels do.
    """
    wider = a.shape[0] < a.shape[1]
    times = lambda p, q: jnp.matmul(p, q, precision=jax.lax.Precision.HIGHEST)
    peak = jnp.abs(a).max()
    unit = a / jnp.where(peak > 0, peak, 1)
    gram = times(unit, unit.T) if wider else times(unit.T, unit)
    projector = _of_trace_one(gram)
    for _ in range(SQUARINGS):
        projector = _of_trace_one(times(projector, projector))
    return a - (times(projector, a) if wider else times(a, projector))


def _of_trace_one(gram: Array) -> Array:
    trace = jnp.trace(gram)
    return gram / jnp.where(trace > 0, trace, 1)
