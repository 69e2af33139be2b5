"""Calibration errors in bins: how far confidences are from how often they come true."""

from __future__ import annotations

import math
import numbers
from typing import Any

import jax.numpy as jnp
from jax.scipy.stats import norm as normal

from jxai import loops
from jxai.callables import plainly
from jxai.scores import positive
from jxai.typing import Array
from jxai.uncertainty.calibration.binning import Bins, binned, ranked
from jxai.uncertainty.calibration.outcomes import events, outcomes

__all__ = ["adaptive_calibration_error", "expected_calibration_error", "maximum_calibration_error", "rms_calibration_error"]


@plainly
def expected_calibration_error(
    probabilities: Array,
    labels: Array,
    *,
    bins: int = 15,
    binning: str = "width",
    norm: float = 1,
    kind: str = "top_label",
    debiased: bool = False,
) -> Array:
    """ECE: the mean over examples, bin by bin, of how far the confidence is from the accuracy.

    `ECE = (Σ_b n_b/n |acc_b − conf_b|ᵖ)^(1/p)`.

    Args:
      probabilities: `[n, K]`, K >= 2. labels: `[n]`, integers in [0, K).
      bins: how many. binning: `"width"`, (lo, hi] of equal width on [0, 1], 0 in the first one; `"mass"`, of equal counts (`np.array_split` of the sorted
        confidences; equal ones that a border parts share their outcomes, so that the examples' order says nothing); `"distinct"`, one for each value, for predictions of few
        values: `bins` says nothing then.
      norm: p >= 1; `math.inf` is the greatest gap of any bin.
      kind: `"top_label"`, the largest probability and whether it is right; `"classwise"`, each class against the rest, the mean over classes; `"binary"`, of two
        classes class 1 as the event.
      debiased: without the share that is the noise of few examples in a bin. With p = 2 (Kumar et al. 2019) the squares of the gaps less
        `acc_b (1 − acc_b) / (n_b − 1)`, nothing for a bin of one example; with p = 1 (the same authors' code) twice the error less its mean over outcomes drawn from
        `N(acc_b, acc_b (1 − acc_b) / n_b)`, here in closed form. Never below 0.

    Returns:
      `[]`. Differentiable in the probabilities almost everywhere. Under a trace a label out of range gives NaN.

    Raises:
      ValueError: probabilities or labels that are none, one class, unknown names, p < 1, or `debiased=True` with another p than 1 and 2.

    Range: [0, 1]
    Cost: O(n log n), times K for `"classwise"`.
    Reference: Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI; Guo et al. 2017, "On Calibration of Modern Neural
    Networks", ICML; Kumar, Liang, Ma 2019, "Verified Uncertainty Calibration", NeurIPS.
    """
    check_norm(norm)
    if debiased and norm not in (1, 2):
        raise ValueError(f"debiased=True is known for norm=1 and norm=2, got {norm=}")
    confidence, outcome = events(probabilities, labels, kind)

    def one(event: tuple[Array, Array]) -> Array:
        found = binned(*event, bins, binning)
        return _debiased(found, norm) if debiased else _error(found, norm)

    return loops.map(one, (confidence, outcome)).mean()


@plainly
def maximum_calibration_error(probabilities: Array, labels: Array, *, bins: int = 15, binning: str = "width", kind: str = "top_label") -> Array:
    """MCE: the greatest gap between confidence and accuracy of any bin with examples, `max_b |acc_b − conf_b|`.

    It is unweighted: a bin of one example counts as any other, so that equal widths mostly show the emptiest bin.

    Args:
      probabilities, labels, bins, binning, kind: as in `expected_calibration_error`; `"classwise"` is the mean over classes.

    Range: [0, 1]
    Reference: Naeini, Cooper, Hauskrecht 2015, "Obtaining Well Calibrated Probabilities Using Bayesian Binning", AAAI.
    """
    return expected_calibration_error(probabilities, labels, bins=bins, binning=binning, norm=math.inf, kind=kind)


@plainly
def rms_calibration_error(
    probabilities: Array, labels: Array, *, bins: int = 15, binning: str = "width", kind: str = "top_label", debiased: bool = False
) -> Array:
    """The root of the mean squared gap, `(Σ_b n_b/n (acc_b − conf_b)²)^½`: `expected_calibration_error` with `norm=2`.

    Args:
      probabilities, labels, bins, binning, kind, debiased: as there. For bins of so many examples each see `adaptive_calibration_error`.

    Range: [0, 1]
    Reference: Kumar, Liang, Ma 2019, "Verified Uncertainty Calibration", NeurIPS.
    """
    return expected_calibration_error(probabilities, labels, bins=bins, binning=binning, norm=2, kind=kind, debiased=debiased)


@plainly
def adaptive_calibration_error(confidence: Array, correct: Array, *, bin_size: int = 100, norm: float = 2) -> Array:
    """The calibration error over bins of so many examples of neighbouring confidence each: with p = 2 Hendrycks' RMS calibration error.

    `(Σ_b n_b/n |acc_b − conf_b|ᵖ)^(1/p)`.

    The last bin takes the remainder, `bin_size` to 2 `bin_size` − 1 examples. (The code of natural-adv-examples never visits its last bin, where the confidence is
    highest: its values are too small.)

    Args:
      confidence: `[n]` in [0, 1]. correct: `[n]`, boolean, or numbers in [0, 1]. bin_size: examples in a bin; fewer in all are one bin. norm: p >= 1, or `math.inf`.

    Returns:
      `[]`. Equal confidences that a border parts share their outcomes.

    Raises:
      ValueError: other shapes, unequal lengths, numbers outside of [0, 1], p < 1, or a bin_size that is no positive integer.

    Range: [0, 1]
    Cost: O(n log n).
    Reference: Hendrycks, Mazeika, Dietterich 2019, "Deep Anomaly Detection with Outlier Exposure", ICLR; Nguyen, O'Connor 2015, "Posterior calibration and
    exploratory analysis for natural language processing models", EMNLP.
    """
    positive(bin_size=bin_size)
    check_norm(norm)
    confidence, outcome = outcomes(confidence, correct)
    n = confidence.shape[0]
    full = max(1, n // bin_size)
    return _error(ranked(confidence, outcome, [bin_size] * (full - 1) + [n - bin_size * (full - 1)]), norm)


def root(value: Array, p: float) -> Array:
    """`value^(1/p)` of what is not negative, with derivative 0 at 0."""
    some = value > 0
    return value if p == 1 else jnp.where(some, jnp.where(some, value, 1) ** (1 / p), value * 0)


def _error(found: Bins, p: float) -> Array:
    gap, share = jnp.abs(found.gap), found.size / found.at.shape[0]
    return gap.max() if math.isinf(p) else root((share * gap**p).sum(), p)


def _debiased(found: Bins, p: float) -> Array:
    n, gap = found.size, jnp.abs(found.gap)
    noise = found.accuracy * (1 - found.accuracy)
    if p == 2:
        corrected = jnp.where(n >= 2, gap**2 - noise / jnp.maximum(n - 1, 1), 0)
    else:
        s = root(jnp.maximum(noise, 0) / jnp.maximum(n, 1), 2)
        z = gap / jnp.where(s > 0, s, 1)
        drawn = jnp.where(s > 0, 2 * s * normal.pdf(z) + gap * (1 - 2 * normal.cdf(-z)), gap)  # E |N(gap, s²)|
        corrected = 2 * gap - drawn
    return root(jnp.maximum((n / found.at.shape[0] * corrected).sum(), 0), p)


def check_norm(norm: Any) -> None:
    """Raises ValueError unless norm is a number p >= 1, or infinite."""
    if isinstance(norm, bool) or not isinstance(norm, numbers.Real) or not float(norm) >= 1:
        raise ValueError(f"{norm=} must be a number p >= 1, or math.inf")
