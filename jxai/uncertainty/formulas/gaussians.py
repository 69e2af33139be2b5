"""Scores from Gaussian densities of the features: one covariance for all classes, beside a background, or one for each class."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import check_convention, check_features, need_fitted
from jxai.uncertainty.density import GaussianDensity

__all__ = [
    "Mahalanobis",
    "RelativeMahalanobis",
    "fit_mahalanobis",
    "fit_relative_mahalanobis",
    "gaussian_density",
    "mahalanobis",
    "relative_mahalanobis",
]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mahalanobis:
    """Gaussians `N(μ_c, Σ)` of one covariance; made by `fit_mahalanobis`.

    Attributes:
      centre: `[D]`, the mean of all features. whitening: `[D, r]`, W with `W Wᵀ = Σ⁺`, of the r directions in which the features vary.
      means: `[C, r]`, `Wᵀ(μ_c − centre)` of the C classes that have examples.
    """

    centre: Array
    whitening: Array
    means: Array

    def distances(self, features: Array) -> Array:
        """`[C]`: the squared Mahalanobis distance of features `[D]` from each mean."""
        away = jnp.matmul(wide(jnp.asarray(features)) - self.centre, self.whitening, precision=lax.Precision.HIGHEST)
        return ((away - self.means) ** 2).sum(1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelativeMahalanobis:
    """The classes' Gaussians, and one of all examples; made by `fit_relative_mahalanobis`.

    Attributes:
      classes: `N(μ_c, Σ)`. background: `N(μ, Σ₀)`, one mean.
    """

    classes: Mahalanobis
    background: Mahalanobis


@plainly
def fit_mahalanobis(features: Array, logits: Array | None, labels: Array, head: Any = None) -> Mahalanobis:
    """Each class's mean, and the covariance around them that all share: `Σ = 1/n Σ_i (h_i − μ_{y_i})(h_i − μ_{y_i})ᵀ`.

    On the host in float64. Directions in which the features do not vary beyond the rounding of their numbers are left out: a pseudo-inverse, as scikit-learn's
    `EmpiricalCovariance` has it. A class without examples takes no part: no example is near it.

    Args:
      features: `[n, D]`. logits: `[n, K]`, of which K is read; None for the classes up to the last label. labels: `[n]`. head: not read.

    Returns:
      A `Mahalanobis`.

    Raises:
      ValueError: shapes and numbers that cannot be these, labels out of range, features that do not vary within the classes, tracers.

    Cost: `n D² + D³` operations in two passes over the rows.
    """
    n, d, k = fitting.given("fit_mahalanobis", features, logits, labels, read=("labels",))
    means, counts = fitting.class_means(features, labels, k or int(np.max(labels)) + 1)
    return _shared(features, labels, means, counts)


@plainly
def fit_relative_mahalanobis(features: Array, logits: Array | None, labels: Array, head: Any = None) -> RelativeMahalanobis:
    """As `fit_mahalanobis`, and the mean and covariance of all features, whatever their class.

    Args:
      features: `[n, D]`. logits: `[n, K]`, of which K is read; None for the classes up to the last label. labels: `[n]`. head: not read.

    Returns:
      A `RelativeMahalanobis`.

    Raises:
      ValueError: as `fit_mahalanobis`.

    Cost: `2 n D² + 2 D³` operations in three passes over the rows.
    """
    n, d, k = fitting.given("fit_relative_mahalanobis", features, logits, labels, read=("labels",))
    means, counts = fitting.class_means(features, labels, k or int(np.max(labels)) + 1)
    overall = (counts[:, None] * means).sum(0, keepdims=True) / counts.sum()
    one = np.zeros(n, np.int8)
    return RelativeMahalanobis(_shared(features, labels, means, counts), _shared(features, one, overall, np.asarray([float(n)])))


def _shared(features: Array, labels: Array, means: np.ndarray, counts: np.ndarray) -> Mahalanobis:
    centre = (counts[:, None] * means).sum(0) / counts.sum()
    covariance = fitting.second_moment(features, means, labels)
    whitening = fitting.whitening(covariance, centre, fitting.rounding(features))
    return Mahalanobis(*map(jnp.asarray, (centre, whitening, (means[counts > 0] - centre) @ whitening)))


@plainly
def mahalanobis(logits: Array | None, features: Array | None = None, fitted: Mahalanobis | None = None, *, convention: str = "paper") -> Array:
    """The squared Mahalanobis distance from the nearest class mean, `min_c (h − μ_c)ᵀ Σ⁻¹ (h − μ_c)`.

    Args:
      logits: not read.
      features: `[D]`, h.
      fitted: of `fit_mahalanobis`.
      convention: `"paper"` and `"openood"` (MDS) are the same; of the paper, one layer and no perturbation of the input.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: features that are none or of another size, nothing fitted, an unknown convention.

    Range: [0, ∞).
    Cost: `O(D r + C r)` operations.
    Reference: Lee et al. 2018, "A Simple Unified Framework for Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS.
    """
    check_convention(convention)
    known = need_fitted(fitted, Mahalanobis, "fit_mahalanobis(features, logits, labels)")
    check_features(features, size=known.centre.shape[0])
    return known.distances(features).min()


@plainly
def relative_mahalanobis(logits: Array | None, features: Array | None = None, fitted: RelativeMahalanobis | None = None, *, convention: str = "paper") -> Array:
    """The Mahalanobis distance from the nearest class mean relative to that from the background, `min_c d_c(h) − d₀(h)`, all squared.

    Args:
      logits: not read.
      features: `[D]`, h.
      fitted: of `fit_relative_mahalanobis`.
      convention: `"paper"` and `"openood"` (RMDS) are the same.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: features that are none or of another size, nothing fitted, an unknown convention.

    Range: (−∞, ∞).
    Cost: `O(D r + C r)` operations.
    Reference: Ren et al. 2021, "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", arXiv 2106.09022.
    """
    check_convention(convention)
    known = need_fitted(fitted, RelativeMahalanobis, "fit_relative_mahalanobis(features, logits, labels)")
    check_features(features, size=known.classes.centre.shape[0])
    return known.classes.distances(features).min() - known.background.distances(features)[0]


@plainly
def gaussian_density(logits: Array | None, features: Array | None = None, fitted: GaussianDensity | None = None, *, prior: bool = False) -> Array:
    """The negative log-density of the features under a Gaussian of each class, `−log Σ_c N(h; μ_c, Σ_c)` (DDU).

    Args:
      logits: not read.
      features: `[D]`, h.
      fitted: of `fit_gaussian_density`.
      prior: whether the classes are weighed by their shares, `−log Σ_c π_c N(h; μ_c, Σ_c)`, as the paper writes it; its code does not.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: features that are none or of another size, nothing fitted.

    Range: (−∞, ∞).
    Cost: `O(K D²)` operations.
    Reference: Mukhoti et al. 2023, "Deep Deterministic Uncertainty: A New Simple Baseline", CVPR.
    """
    known = need_fitted(fitted, GaussianDensity, "fit_gaussian_density(features, logits, labels)")
    check_features(features, size=known.mean.shape[1])
    return -known.marginal(features, prior=prior)
