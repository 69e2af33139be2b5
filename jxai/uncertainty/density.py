"""Gaussian discriminant analysis: a density of a network's features for each class."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai import loops
from jxai.callables import is_array, plainly
from jxai.loops import while_loop
from jxai.scores import check_labels, positive, wide
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import same_length
from jxai.uncertainty.rows import blocks

__all__ = ["GaussianDensity", "fit_gaussian_density"]

_LEVELS = 8
"""Jitters tried after none: 10⁻⁷, 10⁻⁶ … 1 of the mean variance."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GaussianDensity:
    """`p(h) = Σ_c π_c N(h; μ_c, Σ_c)` of features h `[D]`; made by `fit_gaussian_density`.

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

    def marginal(self, h: Array, prior: bool = False) -> Array:
        """`[]`: `log Σ_c N(h; μ_c, Σ_c)`, high where h is like the features that were fitted: DDU's measure of epistemic certainty.

        prior: True weighs the classes by their shares π, as the paper writes it; the code of its repository does not.
        """
        log_prob = self.log_prob(h)
        return jax.nn.logsumexp(log_prob + self.log_prior if prior else log_prob)


@plainly
def fit_gaussian_density(features: Array, logits: Array | None, labels: Array, head: Any = None, *, num_classes: int | None = None) -> GaussianDensity:
    """The Gaussian of each class's features: mean, covariance (divided by the class's n), the class's share.

    Where a covariance is singular to the precision of the numbers (fewer examples than features, dead units), the least of 0, 10⁻⁷, 10⁻⁶ … 1 times
    its mean variance is added to its diagonal that lets its Cholesky factorisation succeed.

    Args:
      features: `[n, …]`, finite; axes after the first are flattened to D. logits: `[n, K]`, of which K is read; None where `num_classes` says it.
      labels: `[n]`, integers in `[0, K)`. head: not read. num_classes: K >= 1; None for that of the logits.

    Returns:
      A `GaussianDensity`, float32 or wider. Under a trace a class of fewer than 2 examples has density 0.

    Raises:
      ValueError: shapes that do not fit; where they are concrete, labels out of range, a class with fewer than 2 examples, features that are not finite.

    Cost: `n D² + K D³` operations on the host, in float64 but for the factorisations; under a trace `n K D²` instead of `n D²`.
    Reference: Mukhoti et al. 2023, "Deep Deterministic Uncertainty: A New Simple Baseline", CVPR.
    """
    features = features if is_array(features) else np.asarray(features)
    num_classes = _classes(logits, features, num_classes)
    _check(features, labels, num_classes)
    traced = isinstance(features, jax.core.Tracer) or isinstance(labels, jax.core.Tracer)
    mean, covariance, count = (_traced_moments if traced else _moments)(features, labels, num_classes)
    identity = jnp.eye(mean.shape[1], dtype=mean.dtype)
    whitening = loops.map(lambda sigma: jax.scipy.linalg.solve_triangular(_factor(sigma), identity, lower=True), covariance)
    return GaussianDensity(mean, whitening, jnp.where(count >= 2, jnp.log(count / features.shape[0]), -jnp.inf))


def _moments(features: Array, labels: Array, num_classes: int) -> tuple[Array, Array, Array]:
    """Means `[K, D]`, covariances `[K, D, D]` and numbers `[K]` of the classes' examples: on the host in float64, each example gone through twice."""
    h, own = np.asarray(features).reshape(len(features), -1), np.asarray(labels)
    mean, count = fitting.class_means(h, own, num_classes)
    covariance = np.stack([fitting.second_moment(h[own == c], mean[c]) for c in range(num_classes)])
    return jnp.asarray(mean), jnp.asarray(covariance), jnp.asarray(count)


def _traced_moments(features: Array, labels: Array, num_classes: int) -> tuple[Array, Array, Array]:
    """As `_moments`, in a program, where which examples are of a class is not known: each is gone through once for every class."""
    h, labels = wide(jnp.asarray(features).reshape(features.shape[0], -1)), jnp.asarray(labels)

    def one(c: Array) -> tuple[Array, Array, Array]:
        own = (labels == c).astype(h.dtype)
        count = own.sum()
        mean = own @ h / jnp.maximum(count, 1)
        centred = (h - mean) * own[:, None]
        return mean, jnp.matmul(centred.T, centred, precision=lax.Precision.HIGHEST) / jnp.maximum(count, 1), count

    return loops.map(one, jnp.arange(num_classes))


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


def _classes(logits: Array | None, features: Array, num_classes: int | None) -> int:
    """K, which the logits have or `num_classes` says."""
    if logits is None and num_classes is None:
        raise ValueError("logits=None leaves open how many classes there are: give the logits [n, K], or num_classes")
    if logits is None:
        positive(num_classes=num_classes)
        return num_classes
    if np.ndim(logits) != 2:
        raise ValueError(f"logits must be [n, K], got shape {np.shape(logits)}")
    same_length(features=features, logits=logits)
    k = np.shape(logits)[1]
    if num_classes not in (None, k):
        raise ValueError(f"{num_classes=} must be the {k} of the logits")
    return k


def _check(features: Array, labels: Array, num_classes: int) -> None:
    if jnp.ndim(features) < 2 or 0 in jnp.shape(features) or not jnp.issubdtype(jnp.result_type(features), jnp.floating):
        raise ValueError(f"features must be floating-point [n, …], got {_shown(features)}")
    check_labels(labels, jnp.shape(features)[0], num_classes)
    if isinstance(features, jax.core.Tracer) or isinstance(labels, jax.core.Tracer):
        return
    if not all(np.isfinite(rows).all() for (rows,) in blocks(features)):
        raise ValueError("features must be finite, but have NaN or infinite entries")
    seen = np.asarray(labels)
    few = np.flatnonzero(np.bincount(seen, minlength=num_classes) < 2)
    if few.size:
        raise ValueError(f"class {few[0]} has fewer than 2 examples: no covariance")


def _shown(value: Array) -> str:
    return f"{getattr(value, 'dtype', type(value).__name__)} of shape {jnp.shape(value)}"
