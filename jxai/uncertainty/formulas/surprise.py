"""Surprise adequacy: how unlike the features are those of the training examples that were given the same class."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.callables import plainly
from jxai.scores import positive, wide
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import check_features, check_logits, need_fitted

__all__ = ["DistanceSurprise", "LikelihoodSurprise", "MahalanobisSurprise", "dsa", "fit_dsa", "fit_lsa", "fit_mdsa", "lsa", "mdsa"]

_BLOCK = 256
"""Examples whose distances to all others are known at once."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LikelihoodSurprise:
    """Kernel densities of features in G groups (classes, or one); made by `fit_lsa`.

    Attributes:
      kept: `[G, M]`, which features of `[D]` each reads. mean: `[G, M]`. whitening: `[G, M, M]`, L⁻¹ of `H = L Lᵀ`, the covariance of the kernels.
      points: `[n, M]`, the examples, whitened by their group. group: `[n]`. log_scale: `[G]`, `−log n_g − ½ log det 2πH`. num_features: D (static).
    """

    kept: Array
    mean: Array
    whitening: Array
    points: Array
    group: Array
    log_scale: Array
    num_features: int = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DistanceSurprise:
    """Training examples and how far others are from them; made by `fit_dsa`.

    Attributes:
      points: `[n, D]`. predicted: `[n]`, classes. gap: `[n]`, the distance from each to the nearest of another class. num_classes: K (static).
    """

    points: Array
    predicted: Array
    gap: Array
    num_classes: int = dataclasses.field(metadata={"static": True})


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MahalanobisSurprise:
    """Mean and covariance of features in G groups (classes, or one); made by `fit_mdsa`.

    Attributes:
      mean: `[G, D]`. whitening: `[G, D, R]`, W with `W Wᵀ` the pseudo-inverse of the covariance, in columns of 0 beyond its rank.
    """

    mean: Array
    whitening: Array


@plainly
def fit_lsa(
    features: Array, logits: Array, labels: Array | None = None, head: Any = None, *, num_features: int = 300, by_class: bool = True
) -> LikelihoodSurprise:
    """Gaussian kernel densities of training features, one for each class that is predicted.

    The kernels' covariance is that of the group's features (n − 1) times Scott's factor `n^(−2 / (M + 4))`, as in `scipy.stats.gaussian_kde`. Where it is singular
    to the precision of float32, the least of 10⁻⁷, 10⁻⁶ … 1 times its mean variance that ends this is added to its diagonal.

    Args:
      features: `[n, D]`. logits: `[n, K]`; an example belongs to the class that is predicted. labels: `[n]`, checked but not read. head: not read.
      num_features: M, how many features of the greatest variance in the group are kept (all, if there are fewer).
      by_class: False takes all examples as one group.

    Raises:
      ValueError: bad arrays, unequal lengths, traced ones; a class that is predicted of fewer than 2 examples.

    Cost: on the host in float64, `n M² + G M³` operations; it keeps the n examples.
    """
    h, group, count = _grouped("fit_lsa", features, logits, labels, by_class, 2)
    positive(num_features=num_features)
    m = min(num_features, h.shape[1])
    points, found = np.zeros((len(h), m)), []
    for g in range(count):
        own = h[group == g]
        kept = np.sort(np.argsort(-own.var(0), kind="stable")[:m])
        mean = own[:, kept].mean(0)
        factor = _factor(np.atleast_2d(np.cov(own[:, kept], rowvar=False))) * len(own) ** (-1 / (m + 4))
        whitening = np.linalg.inv(factor)
        points[group == g] = (own[:, kept] - mean) @ whitening.T
        found.append((kept, mean, whitening, -math.log(len(own)) - np.log(np.diag(factor)).sum() - m / 2 * math.log(2 * math.pi)))
    kept, mean, whitening, log_scale = (np.stack([each[n] for each in found]) for n in range(4))
    return LikelihoodSurprise(_integers(kept), _floats(mean), _floats(whitening), _floats(points), _integers(group), _floats(log_scale), h.shape[1])


@plainly
def lsa(logits: Array, features: Array | None = None, fitted: LikelihoodSurprise | None = None) -> Array:
    """Likelihood-based surprise adequacy: the negative log of a kernel density at the features, of training examples of the predicted class.

    `−log (1 / n_c) Σ_{i of class c} N(h; h_i, H_c)`, c the predicted class.

    Args:
      logits: `[K]`.
      features: `[D]`, h.
      fitted: from `fit_lsa`.

    Returns:
      `[]`, float32 or wider, in nats; finite where the density itself would be 0.

    Raises:
      ValueError: bad logits or features, another fit.

    Range: (−∞, ∞)
    Cost: `O(n M + G M²)` operations.
    Reference: Kim, Feldt and Yoo 2019, "Guiding Deep Learning System Testing Using Surprise Adequacy", ICSE; features kept as in Weiss, Chakraborty and
      Tonella 2021, "A Review and Refinement of Surprise Adequacy", DeepTest.
    """
    known = need_fitted(fitted, LikelihoodSurprise, "fit_lsa(features, logits, labels)")
    check_features(features, size=known.num_features)
    h, g = wide(jnp.asarray(features)), _group(logits, known.mean.shape[0])
    # Of all groups, as products with matrices that all examples share: under vmap a chosen one would be copied for each.
    u = jnp.einsum("gij,gj->gi", known.whitening, h[known.kept] - known.mean, precision=lax.Precision.HIGHEST)[g]
    square = (u**2).sum() - 2 * jnp.matmul(known.points, u, precision=lax.Precision.HIGHEST) + (known.points**2).sum(1)
    near = jnp.where(known.group == g, -0.5 * jnp.maximum(square, 0), -jnp.inf)
    return _unless_nan(logits, -(jax.nn.logsumexp(near) + known.log_scale[g]))


@plainly
def fit_dsa(features: Array, logits: Array, labels: Array | None = None, head: Any = None) -> DistanceSurprise:
    """Training features by predicted class, and the distance from each to the nearest of another class.

    Args:
      features: `[n, D]`; a random third of the training set does as well (Weiss et al. 2021). logits: `[n, K]`. labels: `[n]`, checked but not read. head: not read.

    Raises:
      ValueError: bad arrays, unequal lengths, traced ones; a class that is predicted of no example; equal features of two classes.

    Cost: on the host in float64, `n² D` operations; it keeps the n examples.
    """
    h, predicted, k = _grouped("fit_dsa", features, logits, labels, True, 1)
    centred = h - h.mean(0)
    square = (centred**2).sum(1)
    gap = np.zeros(len(h))
    for begin in range(0, len(h), _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        distance = square[rows, None] - 2 * centred[rows] @ centred.T + square
        at = np.where(predicted[rows, None] != predicted, distance, np.inf).argmin(1)
        gap[rows] = np.linalg.norm(h[rows] - h[at], axis=1)
    if (none := np.flatnonzero(gap == 0)).size:
        raise ValueError(f"features must tell examples of different classes apart, but features[{none[0]}] equals one that is predicted otherwise")
    return DistanceSurprise(_floats(h), _integers(predicted), _floats(gap), k)


@plainly
def dsa(logits: Array, features: Array | None = None, fitted: DistanceSurprise | None = None) -> Array:
    """Distance-based surprise adequacy: how far the nearest training example of the predicted class is, in units of how far that one is from other classes.

    `‖h − h_a‖ / ‖h_a − h_b‖`, a the nearest of the predicted class, b the nearest to a of another.

    Args:
      logits: `[K]`.
      features: `[D]`, h.
      fitted: from `fit_dsa`.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: bad logits or features, another fit.

    Range: [0, ∞)
    Cost: `O(n D)` operations.
    Reference: Kim, Feldt and Yoo 2019, "Guiding Deep Learning System Testing Using Surprise Adequacy", ICSE.
    """
    known = need_fitted(fitted, DistanceSurprise, "fit_dsa(features, logits, labels)")
    check_features(features, size=known.points.shape[1])
    check_logits(logits, size=known.num_classes)
    h, points = wide(jnp.asarray(features)), known.points
    centre = points.mean(0)  # about which products of features that all lie far away do not cancel
    around = points - centre
    square = (around**2).sum(1) - 2 * jnp.matmul(around, h - centre, precision=lax.Precision.HIGHEST)
    a = jnp.where(known.predicted == jnp.argmax(logits), square, jnp.inf).argmin()
    # The distance itself, not the root of a difference: 0 at a training example.
    return _unless_nan(logits, jnp.sqrt(((h - points[a]) ** 2).sum()) / known.gap[a])


@plainly
def fit_mdsa(features: Array, logits: Array, labels: Array | None = None, head: Any = None, *, by_class: bool = True) -> MahalanobisSurprise:
    """The mean and covariance (divided by n) of training features, for each class that is predicted.

    Args:
      features: `[n, D]`. logits: `[n, K]`. labels: `[n]`, checked but not read. head: not read. by_class: False takes all examples as one group.

    Raises:
      ValueError: bad arrays, unequal lengths, traced ones; a class that is predicted of fewer than 2 examples, or of equal ones.

    Cost: on the host in float64, `n D² + G D³` operations.
    """
    h, group, count = _grouped("fit_mdsa", features, logits, labels, by_class, 2)
    eps, found = fitting.rounding(features), []
    for g in range(count):
        own = h[group == g]
        mean = own.mean(0)
        found.append((mean, fitting.whitening((own - mean).T @ (own - mean) / len(own), mean, eps)))
    rank = max(w.shape[1] for _, w in found)
    whitening = np.stack([np.pad(w, ((0, 0), (0, rank - w.shape[1]))) for _, w in found])
    return MahalanobisSurprise(_floats(np.stack([mean for mean, _ in found])), _floats(whitening))


@plainly
def mdsa(logits: Array, features: Array | None = None, fitted: MahalanobisSurprise | None = None) -> Array:
    """Mahalanobis-distance-based surprise adequacy: the squared distance of the features from the mean of the predicted class's.

    `(h − μ_c)ᵀ Σ_c⁺ (h − μ_c)`, Σ⁺ the pseudo-inverse: directions in which the training examples do not vary say nothing.

    Args:
      logits: `[K]`.
      features: `[D]`, h.
      fitted: from `fit_mdsa`.

    Returns:
      `[]`, float32 or wider; the square, as scikit-learn's `EmpiricalCovariance.mahalanobis`, by which it was published.

    Raises:
      ValueError: bad logits or features, another fit.

    Range: [0, ∞)
    Cost: `O(G D²)` operations.
    Reference: Kim, Ju, Feldt and Yoo 2020, "Reducing DNN Labelling Cost using Surprise Adequacy", ESEC/FSE.
    """
    known = need_fitted(fitted, MahalanobisSurprise, "fit_mdsa(features, logits, labels)")
    check_features(features, size=known.mean.shape[1])
    g = _group(logits, known.mean.shape[0])
    u = jnp.einsum("gij,gi->gj", known.whitening, wide(jnp.asarray(features)) - known.mean, precision=lax.Precision.HIGHEST)
    return _unless_nan(logits, (u**2).sum(1)[g])


def _group(logits: Array, count: int) -> Array:
    """The class that is predicted, of several groups."""
    check_logits(logits, size=count if count > 1 else None)
    return jnp.argmax(logits) if count > 1 else jnp.int32(0)


def _unless_nan(logits: Array, value: Array) -> Array:
    """NaN where logits are, whose largest would pass for a class."""
    return jnp.where(jnp.isnan(jnp.asarray(logits)).any(), jnp.nan, value)


def _grouped(what: str, features: Array, logits: Array, labels: Array | None, by_class: bool, least: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Features in float64, the group of each, and how many groups there are."""
    n, _, k = fitting.given(what, features, logits, labels, read=("logits",))
    if not by_class:
        if n < least:
            raise ValueError(f"features must be of {least} examples or more, got {n}")
        return np.asarray(features, np.float64), np.zeros(n, np.int64), 1
    group = np.asarray(logits, np.float64).argmax(1)
    if (few := np.flatnonzero(np.bincount(group, minlength=k) < least)).size:
        raise ValueError(f"each class must be predicted of {least} examples or more, but class {few[0]} is of {(group == few[0]).sum()} by logits")
    return np.asarray(features, np.float64), group, k


def _factor(covariance: np.ndarray) -> np.ndarray:
    """The Cholesky factor of a covariance plus the least jitter that makes it regular to the precision of float32."""
    variance = np.diag(covariance)
    scale = variance.mean() if variance.max() > 0 else 1.0
    for jitter in (0, *10.0 ** np.arange(-7, 1)):
        try:
            factor = np.linalg.cholesky(covariance + jitter * scale * np.eye(len(variance)))
        except np.linalg.LinAlgError:
            continue
        if np.diag(factor).min() ** 2 > 8 * np.finfo(np.float32).eps * variance.max():
            return factor
    return np.sqrt(scale) * np.eye(len(variance))


def _floats(value: np.ndarray) -> Array:
    return jnp.asarray(value, jnp.float32)


def _integers(value: np.ndarray) -> Array:
    return jnp.asarray(value, jnp.int32)
