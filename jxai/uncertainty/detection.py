"""Detection: do uncertainties tell examples out of distribution (or any other two samples) from those in it? On the host, in float64; ties count as what they are.

Higher is more uncertain, and out of distribution is the positive class, unless `positive="in"` asks for the other way round: papers mean either, and the numbers are not the same.
"""

from __future__ import annotations

import numpy as np

from jxai.scores import one_of
from jxai.typing import Array, Curve
from jxai.uncertainty import counting
from jxai.uncertainty.checks import host_numbers
from jxai.uncertainty.resampling import Estimate, bootstrap

__all__ = ["Estimate", "aupr", "auroc", "bootstrap", "fpr95", "precision_recall", "roc"]

SIDES = ("out", "in")
CONVENTIONS = ("average_precision", "openood")


def auroc(uncertainty_in: Array, uncertainty_out: Array) -> float:
    """The chance that an example out of distribution is more uncertain than one in it, ties counting half: `P(u_out > u_in) + ½ P(u_out = u_in)`.

    The area under the ROC curve, the same whichever class is positive; exact, by ranks (Mann-Whitney).

    Args:
      uncertainty_in: `[n]`, of examples in distribution. uncertainty_out: `[m]`, of those out of it. Higher is less certain; may be infinite.

    Range: [0, 1], ½ of an uncertainty that says nothing.
    Raises:
      ValueError: traced, empty or no numbers `[n]`, NaN.
    Reference: Hendrycks & Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", ICLR.
    """
    return float(counting.auroc(*_counts(uncertainty_in, uncertainty_out, "out", "auroc")))


def aupr(uncertainty_in: Array, uncertainty_out: Array, *, positive: str = "out", convention: str = "average_precision") -> float:
    """The area under the precision-recall curve; the share of the positive class is that of an uncertainty that says nothing, so it depends on how many examples there are.

    Args:
      uncertainty_in, uncertainty_out: as for `auroc`.
      positive: the class that is to be found: `"out"` (by high uncertainty; AUPR-out), or `"in"` (by low; AUPR-in).
      convention: `"average_precision"`: `Σ_t (R_t − R_{t−1}) P_t` over the thresholds t, as scikit-learn's. `"openood"`: the trapezoid area of the points with (0, 1), as OpenOOD's, which
        joins points that no threshold reaches and is too kind where they are few.

    Range: [0, 1].
    Raises:
      ValueError: as `auroc`; an unknown class or convention.
    Reference: Davis & Goadrich 2006, "The Relationship Between Precision-Recall and ROC Curves", ICML; Yang et al. 2022, "OpenOOD", NeurIPS.
    """
    one_of("convention", convention, CONVENTIONS)
    counts = _counts(uncertainty_in, uncertainty_out, positive, "aupr")
    return float(_precision_recall(*counts).auc if convention == "openood" else counting.average_precision(*counts))


def fpr95(uncertainty_in: Array, uncertainty_out: Array, *, positive: str = "out") -> float:
    """The share of the negative class that is taken for positive at the first threshold that finds at least 95 % of the positive one.

    Args:
      uncertainty_in, uncertainty_out: as for `auroc`.
      positive: `"out"`: 95 % of the examples out of distribution are found, and the share of those in it that are refused, too, is told (OpenOOD, pytorch-ood). `"in"`: 95 % of the examples in
        distribution are accepted, and the share of those out of it that are, too, is told (many papers).

    Range: [0, 1], lower is better.
    Raises:
      ValueError: as `auroc`; an unknown class.
    Reference: Liang, Li & Srikant 2018, "Enhancing the Reliability of Out-of-Distribution Image Detection in Neural Networks", ICLR.
    """
    return float(counting.fpr95(*_counts(uncertainty_in, uncertainty_out, positive, "fpr95")))


def roc(uncertainty_in: Array, uncertainty_out: Array, *, positive: str = "out") -> Curve:
    """The ROC curve: a point for each threshold, all of them.

    Args:
      uncertainty_in, uncertainty_out: as for `auroc`. positive: as for `aupr`.

    Returns:
      `Curve`: x the false positive rate, ascending from 0 to 1; y the true positive rate; auc the trapezoid area, which is `auroc`.

    Raises:
      ValueError: as `auroc`; an unknown class.
    """
    found, taken = _counts(uncertainty_in, uncertainty_out, positive, "roc")
    x, y = np.r_[0, taken] / taken[-1], np.r_[0, found] / found[-1]
    return Curve(x, y, np.trapezoid(y, x))


def precision_recall(uncertainty_in: Array, uncertainty_out: Array, *, positive: str = "out") -> Curve:
    """The precision-recall curve: a point for each threshold, before them (0, 1) as in scikit-learn.

    Args:
      uncertainty_in, uncertainty_out: as for `auroc`. positive: as for `aupr`.

    Returns:
      `Curve`: x the recall, ascending; y the precision; auc the trapezoid area, which is `aupr` by OpenOOD's convention.

    Raises:
      ValueError: as `auroc`; an unknown class.
    """
    return _precision_recall(*_counts(uncertainty_in, uncertainty_out, positive, "precision_recall"))


def _precision_recall(found: np.ndarray, taken: np.ndarray) -> Curve:
    x, y = np.r_[0, found] / found[-1], np.r_[1, found / (found + taken)]
    return Curve(x, y, np.trapezoid(y, x))


def _counts(uncertainty_in: Array, uncertainty_out: Array, positive: str, what: str) -> tuple[np.ndarray, np.ndarray]:
    """How many of the positive and of the negative class lie at each threshold or beyond it, those that are beyond most first."""
    inside, outside = host_numbers(what, finite=False, uncertainty_in=uncertainty_in, uncertainty_out=uncertainty_out)
    values, at = np.unique(np.r_[inside, outside], return_inverse=True)
    own, other = (np.bincount(one, minlength=len(values)) for one in (at[: len(inside)], at[len(inside) :]))
    return counting.beyond(own, other, one_of("positive", positive, SIDES))
