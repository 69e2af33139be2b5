"""Recalibration of each class's probability by a function of one number: isotonic regression and histogram binning."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jxai.scores import one_of, positive, wide
from jxai.typing import Array
from jxai.uncertainty.calibration.binning import edges
from jxai.uncertainty.calibration.recalibration import Recalibration, fitting, log_probabilities

__all__ = ["Histogram", "Isotonic", "fit_histogram", "fit_isotonic"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Isotonic(Recalibration):
    """Each class's probability by a rising function of it, straight between its knots; then divided by their sum.

    Attributes:
      places: `[K, M]`, ascending probabilities. values: `[K, M]`, what becomes of them; a class of fewer knots repeats its last.
    """

    places: Array
    values: Array

    @property
    def num_classes(self) -> int:
        return self.places.shape[0]

    def _of(self, logits: Array) -> Array:
        p = jax.nn.softmax(logits)
        each = jax.vmap(jnp.interp, in_axes=(-1, 0, 0), out_axes=-1)
        return log_probabilities(each(p, self.places.astype(p.dtype), self.values.astype(p.dtype)))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Histogram(Recalibration):
    """Each class's probability by the share of the class in its bin; then divided by their sum. Its derivative is 0: only methods that need none can explain such a model.

    Attributes:
      edges: `[K, B − 1]`, ascending; a probability on an edge is in the lower bin. values: `[K, B]`.
    """

    edges: Array
    values: Array

    @property
    def num_classes(self) -> int:
        return self.edges.shape[0]

    def _of(self, logits: Array) -> Array:
        p = jax.nn.softmax(logits)
        look = lambda p, edges, values: values[jnp.searchsorted(edges, p, side="left")]
        return log_probabilities(jax.vmap(look, in_axes=(-1, 0, 0), out_axes=-1)(p, self.edges.astype(p.dtype), self.values.astype(p.dtype)))


def fit_isotonic(logits: Array, labels: Array) -> Isotonic:
    """Isotonic recalibration: of each class the rising function of its probability nearest to the outcomes, `argmin Σ_i (g(p_ik) − [y_i = k])²`, by pooling adjacent violators.

    As scikit-learn's (`IsotonicRegression` of each class's probability, `CalibratedClassifierCV` for its divisions): equal probabilities are pooled first, between knots the
    function is straight, beyond them constant; where all classes get 0 the answer is uniform.

    Args:
      logits: `[n, K]` of examples that the model has not learnt from. labels: `[n]`, integers in [0, K), every class among them.

    Returns:
      An `Isotonic`, float32. Its logits are logarithms of probabilities; one of 0 becomes −87, whose softmax is 0 again: if it comes true, the NLL is infinite.

    Raises:
      ValueError: traced, probabilities, labels that are no classes, unequal lengths, a class without examples.

    Reference: Zadrozny, Elkan 2002, "Transforming Classifier Scores into Accurate Multiclass Probability Estimates", KDD.
    """
    p, y = _probabilities("fit_isotonic", logits, labels)
    knots = [_rising(p[:, c], y == c) for c in range(p.shape[1])]
    most = max(len(places) for places, _ in knots)
    places, values = (np.stack([np.pad(row, (0, most - len(row)), mode="edge") for row in rows]) for rows in zip(*knots))
    return Isotonic(jnp.asarray(places), jnp.asarray(values, jnp.float32))


def fit_histogram(logits: Array, labels: Array, *, bins: int = 15, binning: str = "mass") -> Histogram:
    """Histogram binning: of each class the share of its examples in every bin of its probability.

    Args:
      logits: `[n, K]` of examples that the model has not learnt from. labels: `[n]`, integers in [0, K), every class among them.
      bins: how many of each class; equal probabilities share one, so that fewer may be left. binning: `"mass"`, of equal counts, or `"width"`, (lo, hi] of equal width on
        [0, 1]; a bin without examples keeps its middle.

    Returns:
      A `Histogram`, float32. Its logits are logarithms of probabilities; one of 0 becomes −87, whose softmax is 0 again: if it comes true, the NLL is infinite.

    Raises:
      ValueError: as `fit_isotonic`; an unknown binning, bins that are no positive integer.

    Reference: Zadrozny, Elkan 2001, "Obtaining Calibrated Probability Estimates from Decision Trees and Naive Bayesian Classifiers", ICML.
    """
    positive(bins=bins)
    one_of("binning", binning, ("width", "mass"))
    p, y = _probabilities("fit_histogram", logits, labels)
    borders, values = [], []
    for c in range(p.shape[1]):
        between = _between(p[:, c], bins, binning)
        index = np.searchsorted(between, p[:, c], side="left")
        count = np.bincount(index, minlength=len(between) + 1)
        ends = np.concatenate([[0], between, [1]])
        share = np.bincount(index, y == c, minlength=len(count)) / np.maximum(count, 1)
        borders.append(between)
        values.append(np.where(count, share, (ends[1:] + ends[:-1]) / 2))
    most = max(map(len, values))
    padded = [np.pad(edge, (0, most - 1 - len(edge)), constant_values=2) for edge in borders]
    filled = [np.pad(value, (0, most - len(value)), mode="edge") for value in values]
    return Histogram(jnp.asarray(np.stack(padded), jnp.float32), jnp.asarray(np.stack(filled), jnp.float32))


def _probabilities(what: str, logits: Array, labels: Array) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `[n, K]`, the same numbers as those that the fitted object will see, and labels."""
    _, y = fitting(what, logits, labels, every_class=True)
    return np.asarray(jax.nn.softmax(wide(jnp.asarray(logits)))), y


def _between(p: np.ndarray, bins: int, binning: str) -> np.ndarray:
    """Edges between bins, ascending; those of equal mass leave no bin empty."""
    if binning == "width":
        return edges(bins)
    parts = np.array_split(np.sort(p), min(bins, len(p)))
    middles = np.unique(np.float32([(np.float64(low[-1]) + high[0]) / 2 for low, high in zip(parts, parts[1:])]))
    taken = np.unique(np.searchsorted(middles, p, side="left"))
    return middles[taken[:-1]]


def _rising(p: np.ndarray, outcome: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The knots of an isotonic regression: where its value changes."""
    places, index, count = np.unique(p, return_inverse=True, return_counts=True)
    from scipy.optimize import isotonic_regression

    values = isotonic_regression(np.bincount(index, outcome) / count, weights=count).x
    ends = np.r_[True, np.diff(values) > 0] | np.r_[np.diff(values) > 0, True]
    return places[ends], np.clip(values[ends], 0, 1)
