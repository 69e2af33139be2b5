"""Proper scores of predicted probabilities: Brier's, with what it is made of, and the negative log-likelihood."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array
from jxai.uncertainty.calibration.binning import binned, sums
from jxai.uncertainty.calibration.outcomes import check_predictions, events, onehot

__all__ = ["BrierDecomposition", "brier", "brier_decomposition", "negative_log_likelihood"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BrierDecomposition:
    """What a Brier score is made of: `brier = reliability − resolution + uncertainty`, exactly; each `[]`.

    Attributes:
      reliability: `Σ_k Σ_b n_b/n (conf_b − acc_b)²`, the share that recalibration can take away; 0 of a calibrated model.
      resolution: how much the predictions tell the outcomes apart, higher is better; without bins' inner spread Murphy's `Σ_k Σ_b n_b/n (acc_b − acc)²`.
      uncertainty: `Σ_k acc (1 − acc)`, of the data alone: the score of whoever always predicts the classes' shares.
      within: the part of the resolution, Murphy's less the one here, that is in the bins: the spread of predictions in them less twice their covariance with the
        outcomes. 0 where every bin is of one value.
    """

    reliability: Array
    resolution: Array
    uncertainty: Array
    within: Array


@plainly
def brier(probabilities: Array, labels: Array) -> Array:
    """Brier's score: the mean over examples of the squared distance to what happened, `1/n Σ_i Σ_k (p_ik − [y_i = k])²`.

    Args:
      probabilities: `[n, K]`, K >= 2. labels: `[n]`, integers in [0, K).

    Returns:
      `[]`, lower is better. Of two classes it is twice the score of the event alone (`sklearn.metrics.brier_score_loss`). Under a trace a label out of range gives NaN.

    Raises:
      ValueError: probabilities or labels that are none, one class, or unequal lengths.

    Range: [0, 2]
    Reference: Brier 1950, "Verification of Forecasts Expressed in Terms of Probability", Monthly Weather Review.
    """
    k = check_predictions(probabilities, labels)
    return ((wide(jnp.asarray(probabilities)) - onehot(labels, k)) ** 2).sum(1).mean()


@plainly
def brier_decomposition(probabilities: Array, labels: Array, *, bins: int = 15, binning: str = "width") -> BrierDecomposition:
    """Reliability, resolution and uncertainty: Murphy's parts of Brier's score, summed over classes.

    Within bins predictions differ, and Murphy's identity misses their spread; here it belongs to the resolution (Stephenson et al.), so that the parts sum to the
    score whatever the bins are.

    Args:
      probabilities: `[n, K]`, K >= 2. labels: `[n]`. bins, binning: of each class's probability, as in `expected_calibration_error`; `"distinct"`, for predictions of few
        values, is Murphy's own.

    Returns:
      A `BrierDecomposition`.

    Raises:
      ValueError: as `brier`; an unknown binning.

    Reference: Murphy 1973, "A New Vector Partition of the Probability Score", Journal of Applied Meteorology; Stephenson, Coelho, Jolliffe 2008, "Two Extra Components in
    the Brier Score Decomposition", Weather and Forecasting.
    """
    confidence, outcome = events(probabilities, labels, "classwise")

    def one(event: tuple[Array, Array]) -> tuple[Array, ...]:
        found = binned(*event, bins, binning)
        share, mean = found.size / len(event[1]), event[1].mean()
        spread, rest = found.confidence_of - found.confidence[found.at], found.outcome_of - found.accuracy[found.at]
        within = sums(spread * (spread - 2 * rest), jnp.zeros(len(rest), jnp.int32), 1)[0] / len(rest)
        return (share * found.gap**2).sum(), (share * (found.accuracy - mean) ** 2).sum(), mean * (1 - mean), within

    reliability, between, uncertainty, within = (v.sum() for v in loops.map(one, (confidence, outcome)))
    return BrierDecomposition(reliability, between - within, uncertainty, within)


@plainly
def negative_log_likelihood(probabilities: Array, labels: Array) -> Array:
    """`−1/n Σ_i log p_i[y_i]`, in nats.

    Args:
      probabilities: `[n, K]`, K >= 2. labels: `[n]`, integers in [0, K).

    Returns:
      `[]`, lower is better; ∞ where a label was given no probability at all (`sklearn.metrics.log_loss` cuts it at the numbers' precision). Under a trace a label out
      of range gives NaN.

    Raises:
      ValueError: probabilities or labels that are none, one class, or unequal lengths.

    Range: ≥ 0
    """
    k = check_predictions(probabilities, labels)
    happened = onehot(labels, k)
    return -jnp.log((wide(jnp.asarray(probabilities)) * happened).sum(1)).mean()
