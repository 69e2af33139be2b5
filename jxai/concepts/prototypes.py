"""Prototypes (PCX): by which channels a class is usually decided, and how unusual a decision is.

For each class a mixture of Gaussians is fitted to the relevances of a layer's channels, a vector for each example: the means of its components are the strategies by
which the class is recognised, and an example of low density was recognised by none of them.
"""

from __future__ import annotations

import dataclasses
import math
import os
import warnings
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import plainly
from jxai.dataset.graph import one_thread
from jxai.dataset.spectral import generator
from jxai.files import DAMAGE, save_arrays
from jxai.scores import check_labels, one_of, positive, wide, within
from jxai.typing import Array

__all__ = ["Difference", "Prototypes", "difference", "log_likelihood", "prototypes", "unexpectedness"]

COVARIANCES = ("full", "diag")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Prototypes:
    """`p_k(r) = Σ_m π_km N(r; μ_km, Σ_km)` of relevances r `[C]` of class k, M components each; made by `prototypes`."""

    means: Array
    """`[K, M, C]`, μ: the prototypes, of each class the one of largest weight first; NaN in a class of which no example was given."""
    weights: Array
    """`[K, M]`, π, sums to 1; 0 in such a class."""
    whitening: Array
    """`[K, M, C, C]`, lower triangular L⁻¹ of `Σ = L Lᵀ`; or `[K, M, C]`, 1 / σ, where channels are independent in a component."""
    nearest: Array
    """`[K, M, num_nearest]`: which of the examples that were given lie nearest to a prototype, the nearest first; −1 where the class has no more."""
    converged: Array
    """`[K]`, boolean: whether the fit had come to rest."""

    @property
    def covariances(self) -> Array:
        """Σ `[K, M, C, C]`, or its diagonal `[K, M, C]`."""
        if self.whitening.ndim == 3:
            return self.whitening**-2.0
        inverse = jnp.linalg.inv(self.whitening)
        return jnp.einsum("kmij,kmlj->kmil", inverse, inverse, precision="highest")

    def save(self, path: str | Path) -> None:
        """Writes them as one `.npz` file, atomically.

        Raises:
          ValueError: a path that does not end in `.npz`.
        """
        if not str(path).endswith(".npz"):
            raise ValueError(f"{path=} must end in .npz")
        save_arrays(path, **{field.name: np.asarray(getattr(self, field.name)) for field in dataclasses.fields(self)})

    @classmethod
    def load(cls, path: str | Path) -> Prototypes:
        """Reads what `save` wrote.

        Raises:
          ValueError: a file that is damaged, or of something else. OSError: it cannot be opened.
        """
        with open(path, "rb") as file:
            try:
                with np.load(file, allow_pickle=False) as archive:
                    return cls(**{field.name: jnp.asarray(archive[field.name]) for field in dataclasses.fields(cls)})
            except DAMAGE as error:
                raise ValueError(f"{os.fspath(path)} holds no prototypes, or is damaged ({type(error).__name__}: {error})") from None


class Difference(NamedTuple):
    """How a decision differs from the strategy that it is nearest to."""

    component: Array
    """`[]`: the prototype of the label's that most likely made it, `argmax_m π_m N(r; μ_m, Σ_m)`."""
    delta: Array
    """`[C]`: `r − μ`: above 0 where a channel speaks for the class more than it does usually, below where it is missing."""


@plainly
@one_thread
def prototypes(
    relevances: Array,
    labels: Array,
    key: Array | None = None,
    *,
    count: int = 4,
    covariance: str = "full",
    num_classes: int | None = None,
    num_nearest: int = 8,
    regularization: float = 1e-6,
    steps: int = 100,
    restarts: int = 1,
) -> Prototypes:
    """The mixture of Gaussians of each class's relevances, by expectation maximisation from k-means (scikit-learn).

    Args:
      relevances: `[n, C]`, finite: of n examples the relevance of each channel of a layer for the class; shares `r / Σ|r|`, as `vectors` of a run gives them and PCX takes them,
        so that sure and unsure decisions compare. labels: `[n]`, the classes: take examples that the model has right, so that prototypes show what usually decides.
      key: of k-means. count: M, components for each class.
      covariance: `"full"` is PCX's; `"diag"` takes channels as independent in a component, for layers of many channels and classes of few examples.
      num_classes: K, with classes of which there is no example; None is one more than the largest label. num_nearest: examples that are named for each prototype.
      regularization: ≥ 0, added to variances (of shares: those of C channels are near 1 / C). steps: of the fit (PCX's code stops after 10). restarts: of k-means, the best is kept.

    Raises:
      ValueError: no key, shapes that do not fit, NaN, a class with no more examples than components, options out of range, arrays under a trace. ImportError: no scikit-learn.

    Cost: for each class and step `n_k M C²`, and `M C³`; memory `K M C²` (`"diag"`: without the squares).
    Reference: Dreyer et al. 2024, "Understanding the (Extra-)Ordinary: Validating Deep Model Decisions with Prototypical Concept-based Explanations", CVPR Workshops.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    values, labels, classes = _checked(relevances, labels, num_classes, count, covariance)
    positive(num_nearest=num_nearest, steps=steps, restarts=restarts)
    within(0.0, math.inf, regularization=regularization)
    rng = generator(key, "prototypes")
    seeds = rng.integers(2**31, size=classes)  # a class's fit does not depend on which others there are
    channels = values.shape[1]
    means, weights = np.full((classes, count, channels), np.nan, np.float32), np.zeros((classes, count), np.float32)
    whitening = np.full((classes, count, channels) + (channels,) * (covariance == "full"), np.nan, np.float32)
    nearest, converged = np.full((classes, count, num_nearest), -1, np.int32), np.zeros(classes, bool)
    for label in np.unique(labels):
        index = np.flatnonzero(labels == label)
        own = values[index]
        mixture = GaussianMixture(count, covariance_type=covariance, reg_covar=regularization, max_iter=steps, n_init=restarts, random_state=int(seeds[label]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # `converged` says so, and equal examples make fewer clusters
            try:
                mixture.fit(own)
            except ValueError as error:
                raise ValueError(f"relevances of class {label} have no mixture of {count=}: {error}") from None
        order = np.argsort(-mixture.weights_, kind="stable")
        means[label], weights[label], converged[label] = mixture.means_[order], mixture.weights_[order], mixture.converged_
        precision = mixture.precisions_cholesky_[order]
        whitening[label] = precision if covariance == "diag" else precision.transpose(0, 2, 1)
        distance = np.linalg.norm(own[None] - mixture.means_[order][:, None], axis=2)
        first = np.argsort(distance, 1, kind="stable")[:, :num_nearest]
        nearest[label, :, : first.shape[1]] = index[first]
    return Prototypes(*(jnp.asarray(v) for v in (means, weights, whitening, nearest, converged)))


@plainly
def log_likelihood(found: Prototypes, relevances: Array, labels: Array) -> Array:
    """`log p_k(r)`: how usual a decision is among those of its class; higher is more usual.

    Args:
      found: of `prototypes`. relevances: `[n, C]`, made as those that were fitted. labels: `[n]`, the classes: those that the model predicts, of new examples.

    Returns:
      `[n]`; NaN for a traced class that has no prototypes.

    Raises:
      ValueError: shapes that do not fit; where they are concrete, a class without prototypes.
    """
    relevances, labels = jnp.asarray(relevances), jnp.asarray(labels)
    shape, channels = relevances.shape, found.means.shape[2]
    if len(shape) != 2 or shape[1] != channels:
        raise ValueError(f"relevances must be [n, {channels}], the channels that were fitted, got {shape}")
    check_labels(labels, shape[0], found.weights.shape[0])
    _check_known(found, labels)
    return loops.map(lambda one: jax.nn.logsumexp(_joint(found, *one)), (wide(relevances), labels))


@plainly
def unexpectedness(found: Prototypes, relevances: Array, labels: Array) -> Array:
    """`−log p_k(r)`, `[n]`: higher is more unexpected, an example that was decided by none of its class's strategies; else as `log_likelihood`."""
    return -log_likelihood(found, relevances, labels)


@plainly
def difference(found: Prototypes, relevance: Array, label: int | Array) -> Difference:
    """What of one decision is unlike the prototype that it is nearest to.

    Args:
      found: of `prototypes`. relevance: `[C]`, made as those that were fitted. label: its class.

    Returns:
      A `Difference`; NaN for a traced class that has no prototypes.

    Raises:
      ValueError: shapes that do not fit; where it is concrete, a class without prototypes.
    """
    if jnp.shape(relevance) != found.means.shape[2:]:
        raise ValueError(f"relevance must be [{found.means.shape[2]}], the channels that were fitted, got {jnp.shape(relevance)}")
    check_labels(jnp.asarray(label)[None], 1, found.weights.shape[0], "label")
    _check_known(found, jnp.asarray(label)[None])
    relevance = wide(jnp.asarray(relevance))
    component = jnp.argmax(_joint(found, relevance, label))
    inside = (label >= 0) & (label < found.weights.shape[0])
    return Difference(component, jnp.where(inside, relevance - found.means[label, component], jnp.nan))


def _joint(found: Prototypes, r: Array, label: Array | int) -> Array:
    """`[M]`: `log π_m N(r; μ_m, Σ_m)` of one example."""
    take = lambda v: jnp.take(v, label, 0, mode="fill", fill_value=jnp.nan)
    mean, weight, whitening = take(found.means), take(found.weights), take(found.whitening)
    inside = (label >= 0) & (weight.sum() > 0)
    if whitening.ndim == 2:
        u, log_det = whitening * (r - mean), jnp.log(whitening).sum(1)
    else:
        u = jnp.einsum("mij,mj->mi", whitening, r - mean, precision="highest")
        log_det = jnp.log(jnp.diagonal(whitening, axis1=1, axis2=2)).sum(1)
    value = jnp.log(weight) + log_det - 0.5 * ((u**2).sum(1) + r.size * math.log(2 * math.pi))
    return jnp.where(inside, value, jnp.nan)


def _checked(relevances: Array, labels: Array, num_classes: int | None, count: int, covariance: str) -> tuple[np.ndarray, np.ndarray, int]:
    """Relevances in float64, labels, and the number of classes."""
    one_of("covariance", covariance, COVARIANCES)
    positive(count=count)
    if any(isinstance(v, jax.core.Tracer) for v in (relevances, labels)):
        raise ValueError("relevances are traced, but prototypes are fitted on the host: call it outside of jit, vmap and grad")
    values, labels = np.asarray(relevances), np.asarray(labels)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu":
        raise ValueError(f"relevances must be real [n, C], a vector of channels for each example, got {values.dtype} of shape {values.shape}")
    values = values.astype(np.float64)
    if num_classes is not None:
        positive(num_classes=num_classes)
    check_labels(labels, len(values), num_classes)
    if len(wrong := np.flatnonzero(~np.isfinite(values).all(1))):
        raise ValueError(f"relevances must be finite, but relevances[{wrong[0]}] is not ({len(wrong)} of {len(values)} are not)")
    for label, size in zip(*np.unique(labels, return_counts=True)):
        if size <= count:
            raise ValueError(
                f"class {label} has {size} example{'s' if size > 1 else ''}, too few for {count=} prototypes: more than {count} are needed, or a smaller count"
            )
    return values, labels, int(labels.max()) + 1 if num_classes is None else num_classes


def _check_known(found: Prototypes, labels: Array) -> None:
    """ValueError where all is concrete and a class has no prototypes."""
    if any(isinstance(v, jax.core.Tracer) for v in (found.weights, labels)):
        return
    unknown = np.setdiff1d(np.asarray(labels), np.flatnonzero(np.asarray(found.weights).sum(1) > 0))
    if len(unknown):
        raise ValueError(f"class {unknown[0]} has no prototypes: none of its examples was fitted")
