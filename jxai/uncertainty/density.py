"""Gaussian discriminant analysis: a density of a network's features for each class."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai import loops
from jxai.callables import plainly
from jxai.loops import while_loop
from jxai.scores import check_labels, positive, wide
from jxai.typing import Array

__all__ = ["GaussianDensity", "gaussian_density"]

_LEVELS = 8
"""Jitters tried after none: 10⁻⁷, 10⁻⁶ … 1 of the mean variance."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GaussianDensity:
    """`p(h) = Σ_c π_c N(h; μ_c, Σ_c)` of features h `[D]`; made by `gaussian_density`.

    Attributes:
      mean: `[K, D]`, μ. whitening: `[K, D, D]`, lower triangular L⁻¹ of the Cholesky factors, `Σ = L Lᵀ`. log_prior: `[K]`, log π: the classes' shares.
    """

    mean: Array
    whitening: Array
    log_prior: Array

    def log_prob(self, h: Array) -> Array:
        """`[K]`: `log N(h; μ_c, Σ_c)`, without the classes' shares; −∞ for a class of too few examples."""
        h = jnp.ravel(h)
        if h.size != self.mean.shape[1]:
            raise ValueError(f"h must be features [{self.mean.shape[1]}], got {h.size} values")

        # As products with matrices that all examples share: under vmap a triangular solve would copy them for each.
        u = jnp.einsum("kij,kj->ki", self.whitening, h - self.mean, precision=lax.Precision.HIGHEST)
        log_det = jnp.log(jnp.diagonal(self.whitening, axis1=1, axis2=2)).sum(1)
        return jnp.where(jnp.isneginf(self.log_prior), -jnp.inf, log_det - 0.5 * ((u**2).sum(1) + h.size * math.log(2 * math.pi)))

    def marginal(self, h: Array, prior: bool = True) -> Array:
        """`[]`: `log Σ_c π_c N(h; μ_c, Σ_c)`, high where h is like the features that were fitted: DDU's measure of epistemic certainty.

        prior: False leaves π out, as the code of the DDU repository does.
        """
        log_prob = self.log_prob(h)
        return jax.nn.logsumexp(log_prob + self.log_prior if prior else log_prob)


@plainly
def gaussian_density(features: Array, labels: Array, num_classes: int) -> GaussianDensity:
    """The Gaussian of each class's features: mean, covariance with n − 1, the class's share.

    Where a covariance is singular to the precision of the numbers (fewer examples than features, dead units), the least of 0, 10⁻⁷, 10⁻⁶ … 1 times
    its mean variance is added to its diagonal that lets its Cholesky factorisation succeed.

    Args:
      features: `[n, …]`, finite; axes after the first are flattened to D. labels: `[n]`, integers in `[0, num_classes)`. num_classes: K >= 1.

    Returns:
      A `GaussianDensity`, float32 or wider. Under a trace a class of fewer than 2 examples has density 0.

    Raises:
      ValueError: shapes that do not fit; where they are concrete, labels out of range, a class with fewer than 2 examples, features that are not finite.

    Cost: `n D² + K D³` operations.
    Reference: Mukhoti et al. 2023, "Deep Deterministic Uncertainty: A New Simple Baseline", CVPR.
    """
    _check(features, labels, num_classes)
    h = wide(jnp.asarray(features).reshape(features.shape[0], -1))
    labels = jnp.asarray(labels)

    def one(c: Array) -> tuple[Array, Array, Array]:
        own = (labels == c).astype(h.dtype)
        count = own.sum()
        mean = own @ h / jnp.maximum(count, 1)
        centred = (h - mean) * own[:, None]
        covariance = jnp.matmul(centred.T, centred, precision=lax.Precision.HIGHEST) / jnp.maximum(count - 1, 1)
        whitening = jax.scipy.linalg.solve_triangular(_factor(covariance), jnp.eye(h.shape[1], dtype=h.dtype), lower=True)
        return mean, whitening, count

    mean, whitening, count = loops.map(one, jnp.arange(num_classes))
    return GaussianDensity(mean, whitening, jnp.where(count >= 2, jnp.log(count / h.shape[0]), -jnp.inf))


def _factor(covariance: Array) -> Array:
    """The Cholesky factor of a covariance plus the least jitter that makes it one of full rank to the precision of the numbers."""
    variance = jnp.diag(covariance)
    scale = jnp.where(variance.max() > 0, variance.mean(), 1)
    identity = jnp.eye(variance.size, dtype=covariance.dtype)

    def attempt(level: Array) -> tuple[Array, Array, Array]:
        jitter = jnp.where(level > 0, scale * 10.0 ** (level - _LEVELS).astype(scale.dtype), 0)
        factor = jnp.linalg.cholesky(covariance + jitter * identity)
        least = jnp.diag(factor).min() ** 2
        # A pivot that is lost in the rounding of the largest variance says nothing, though its root exists. NaN compares as False.
        return level, factor, (least > 8 * jnp.finfo(scale.dtype).eps * variance.max()) & jnp.isfinite(factor).all()

    return while_loop(lambda s: ~s[2] & (s[0] < _LEVELS), lambda s: attempt(s[0] + 1), attempt(jnp.int32(0)))[1]


def _check(features: Array, labels: Array, num_classes: int) -> None:
    positive(num_classes=num_classes)
    if jnp.ndim(features) < 2 or 0 in jnp.shape(features) or not jnp.issubdtype(jnp.result_type(features), jnp.floating):
        raise ValueError(f"features must be floating-point [n, …], got {_shown(features)}")
    check_labels(labels, jnp.shape(features)[0], num_classes)
    if isinstance(features, jax.core.Tracer) or isinstance(labels, jax.core.Tracer):
        return
    if not np.isfinite(np.asarray(features, np.float64)).all():
        raise ValueError("features must be finite, but have NaN or infinite entries")
    seen = np.asarray(labels)
    few = np.flatnonzero(np.bincount(seen, minlength=num_classes) < 2)
    if few.size:
        raise ValueError(f"class {few[0]} has fewer than 2 examples: no covariance")


def _shown(value: Array) -> str:
    return f"{getattr(value, 'dtype', type(value).__name__)} of shape {jnp.shape(value)}"
