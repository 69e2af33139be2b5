"""Dissector: whether what the layers of a network see leads, more and more surely, to the class that it predicts."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import margin, one_of, wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_examples, check_features, check_host, check_logits, check_positive, need_fitted
from jxai.uncertainty.heads import Head

__all__ = ["Dissector", "dissector", "fit_dissector"]

GROWTHS = ("linear", "logarithmic", "exponential")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dissector:
    """A linear classifier of each of L layers; made by `fit_dissector`.

    Attributes:
      heads: L of `Head`, from the first layer to the last.
    """

    heads: tuple[Head, ...]


@plainly
def fit_dissector(features: Sequence[Array], logits: Array, labels: Array, head: Any = None, *, strength: float = 1.0, iterations: int = 100) -> Dissector:
    """A softmax regression of the labels on each layer's features, by scikit-learn: `Σ_i −log p(label_i) + ‖W‖² / (2 · strength)` of standardised features.

    Args:
      features: of each layer, from the first to the last, `[n, D_l]`, as `jxai.uncertainty.features` with its `layer` gives them. logits: `[n, K]`.
      labels: `[n]`, classes, of which each has an example. head: not read.
      strength: C > 0, the inverse of the penalty. iterations: of L-BFGS, at most.

    Raises:
      ValueError: bad arrays, unequal lengths, traced ones; a class without examples. ImportError: no scikit-learn.

    Cost: on the host, up to `iterations · Σ_l n D_l K` operations.
    """
    check_host("fit_dissector", features=features, logits=logits, labels=labels)
    layers = _layers(features)
    check_positive(strength=strength, iterations=iterations)
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise ImportError("fit_dissector needs scikit-learn: pip install scikit-learn") from None

    k = check_logits(logits, rank=2)
    heads = []
    for h in layers:
        check_examples(h, logits, labels, every_class=1)
        h = np.asarray(h, np.float64)
        mean, spread = h.mean(0), h.std(0)
        scale = np.where(spread > 0, spread, 1)
        model = LogisticRegression(C=strength, max_iter=iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # so many iterations were asked for
            model.fit((h - mean) / scale, np.asarray(labels))
        # Of two classes it has one row, the log odds of the second.
        rows, bias = (model.coef_, model.intercept_) if k > 2 else (np.stack([0 * model.coef_[0], model.coef_[0]]), np.append(0, model.intercept_))
        weights = (rows / scale).T
        heads.append(Head(jnp.asarray(weights, jnp.float32), jnp.asarray(bias - mean @ weights, jnp.float32)))
    return Dissector(tuple(heads))


@plainly
def dissector(logits: Array, features: Sequence[Array] | None = None, fitted: Dissector | None = None, *, growth: str = "linear") -> Array:
    """Dissector's profile of validity, negative: how well the layers' own predictions support the network's, later layers the more.

    `−Σ_l w_l v_l / Σ_l w_l`, `v_l = p_l(c) / (p_l(c) + max_{j ≠ c} p_l(j))`, c the predicted class, p_l the softmax regression of layer l = 1 … L.

    Args:
      logits: `[K]`.
      features: of each layer, `[D_l]`, in the order of the fit.
      fitted: from `fit_dissector`.
      growth: of w_l: `"linear"` l, `"logarithmic"` 1 + log l, `"exponential"` exp(l). (In the published benchmark's code l begins at 0, and the first
        layer says nothing.)

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: bad logits or features, another number of layers than was fitted, an unknown growth.

    Range: [−1, 0]; −1/2 where every layer's two likeliest classes tie.
    Cost: `O(K Σ_l D_l)` operations.
    Reference: Wang, Xu, Xu, Ma and Lu 2020, "DISSECTOR: Input Validation for Deep Learning Applications by Crossing-layer Dissection", ICSE.
    """
    known = need_fitted(fitted, Dissector, "fit_dissector(features of each layer, logits, labels)")
    one_of("growth", growth, GROWTHS)
    layers = _layers(features)
    if len(layers) != len(known.heads):
        raise ValueError(f"features must be of the {len(known.heads)} layers that were fitted, got {len(layers)}")
    check_logits(logits, size=known.heads[0].weights.shape[1])
    predicted = jnp.argmax(logits)
    place = np.arange(1, len(layers) + 1)
    weights = {"linear": place, "logarithmic": 1 + np.log(place), "exponential": np.exp(place - place[-1])}[growth]
    total = jnp.float32(0)
    for weight, h, head in zip(weights / weights.sum(), layers, known.heads, strict=True):
        check_features(h, size=head.weights.shape[0])
        # p(c) / (p(c) + p(j)) is the sigmoid of the difference of their logits.
        total = total + float(weight) * jax.nn.sigmoid(margin(head(wide(jnp.asarray(h))), predicted))
    return jnp.where(jnp.isnan(jnp.asarray(logits)).any(), jnp.nan, -total)


def _layers(features: Any) -> tuple[Array, ...]:
    if not isinstance(features, (tuple, list)) or not features:
        raise ValueError(f"features must be a tuple of each layer's, got {type(features).__name__}")
    return tuple(features)
