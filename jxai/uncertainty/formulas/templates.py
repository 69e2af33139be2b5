"""Scores from what a class's examples look like to the model: mean probabilities (KL matching), mean features (SHE)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import check_labels, wide
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import check_convention, check_features, check_host, check_logits, need_fitted, same_length
from jxai.uncertainty.formulas import banks
from jxai.uncertainty.rows import blocks

__all__ = ["Patterns", "Templates", "fit_kl_matching", "fit_she", "kl_matching", "she"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Templates:
    """What the model says, on average, where it predicts a class; made by `fit_kl_matching`.

    Attributes:
      log_probabilities: `[K, K]`, log q: a row for each predicted class; of a class that is never predicted that of a sure answer, 0 and −∞.
    """

    log_probabilities: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Patterns:
    """The mean features of each class's right answers; made by `fit_she`.

    Attributes:
      means: `[K, D]`.
    """

    means: Array


@plainly
def fit_kl_matching(features: Array | None, logits: Array, labels: Array | None = None, head: Any = None) -> Templates:
    """The mean probabilities of the examples that are predicted as each class; kept as logarithms, so that no small one is lost.

    Args:
      features: not read. logits: `[n, K]`, of examples that were not trained on. labels: `[n]`, checked but not read. head: not read.

    Returns:
      A `Templates`.

    Raises:
      ValueError: logits that are none, tracers.

    Cost: `n K` operations.
    """
    check_host("fit_kl_matching", logits=logits, **({} if labels is None else {"labels": labels}))
    k = check_logits(logits, rank=2)
    n = same_length(logits=logits, **{name: value for name, value in (("features", features), ("labels", labels)) if value is not None})
    if labels is not None:
        check_labels(labels, n, k)
    totals, counts = np.full((k, k), -np.inf), np.zeros(k)
    for (block,) in blocks(logits):
        predicted = block.argmax(1)
        fitting.gather(totals, block - np.logaddexp.reduce(block, 1, keepdims=True), predicted, np.logaddexp)
        counts += np.bincount(predicted, minlength=k)
    with np.errstate(divide="ignore"):
        sure = np.log(np.eye(k))
    return Templates(jnp.asarray(np.where(counts[:, None] > 0, totals - np.log(np.maximum(counts, 1))[:, None], sure)))


@plainly
def fit_she(features: Array, logits: Array, labels: Array, head: Any = None) -> Patterns:
    """The mean features of each class's examples that are predicted right.

    Of a class of which none is, nothing is stored: its pattern is 0, and so is the score of what is predicted as it (OpenOOD: NaN).

    Args:
      features: `[n, D]`. logits: `[n, K]`. labels: `[n]`. head: not read.

    Returns:
      A `Patterns`.

    Raises:
      ValueError: shapes and numbers that cannot be these, labels out of range, no right answer at all, tracers.

    Cost: `n (D + K)` operations.
    """
    _, d, k = fitting.given("fit_she", features, logits, labels, read=("logits", "labels"))
    sums, counts = np.zeros((k, d)), np.zeros(k)
    for rows, outputs, own in blocks(features, logits, labels):
        right = outputs.argmax(1) == own
        fitting.gather(sums, rows[right], own[right])
        counts += np.bincount(own[right], minlength=k)
    if not counts.any():
        raise ValueError("labels must agree with the logits somewhere: no example is predicted right, and of those the patterns are made")
    return Patterns(jnp.asarray(sums / np.maximum(counts, 1)[:, None]))


@plainly
def kl_matching(logits: Array, features: Array | None = None, fitted: Templates | None = None, *, convention: str = "paper") -> Array:
    """The divergence of the probabilities from the nearest class's template, `min_c Σ_k p_k log(p_k / q_ck)`.

    Args:
      logits: `[K]`, whose probabilities are p.
      features: not read.
      fitted: of `fit_kl_matching`.
      convention: `"paper"` and `"openood"` (KLM) are the same.

    Returns:
      `[]`, float32 or wider, in nats.

    Raises:
      ValueError: logits that are none or of other classes, nothing fitted, an unknown convention.

    Range: [0, ∞].
    Cost: `O(K²)` operations.
    Reference: Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection for Real-World Settings", ICML.
    """
    check_convention(convention)
    known = need_fitted(fitted, Templates, "fit_kl_matching(features, logits)")
    check_logits(logits, size=known.log_probabilities.shape[0])
    log_p = jax.nn.log_softmax(wide(jnp.asarray(logits)))
    p = jnp.exp(log_p)
    impossible = p == 0
    against = jnp.where(impossible, 0, log_p - known.log_probabilities)  # −∞ − (−∞) where neither can be
    return jnp.where(impossible, 0, p * against).sum(1).min()


@plainly
def she(logits: Array, features: Array | None = None, fitted: Patterns | None = None, *, convention: str = "paper") -> Array:
    """The negative product of the features with the mean features of the predicted class, `−⟨h, m_ŷ⟩` (simplified Hopfield energy).

    Args:
      logits: `[K]`, whose largest is ŷ's.
      features: `[D]`, h.
      fitted: of `fit_she`.
      convention: `"paper"` and `"openood"` (SHE) are the same.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits or features that are none or of another size, nothing fitted, an unknown convention.

    Range: (−∞, ∞).
    Cost: `O(D + K)` operations.
    Reference: Zhang et al. 2023, "Out-of-Distribution Detection based on In-Distribution Data Patterns Memorization with Modern Hopfield Energy", ICLR.
    """
    check_convention(convention)
    known = need_fitted(fitted, Patterns, "fit_she(features, logits, labels)")
    check_logits(logits, size=known.means.shape[0])
    check_features(features, size=known.means.shape[1])
    return -banks.products(wide(jnp.asarray(features)), banks.of_predicted(known.means, logits))
