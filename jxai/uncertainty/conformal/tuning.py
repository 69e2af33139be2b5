"""The constants of RAPS and SAPS, chosen on examples that are neither the calibration's nor the new ones: coverage is exact only then."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from jxai.scores import check_labels, one_of
from jxai.typing import Array
from jxai.uncertainty.checks import check_host, check_probabilities
from jxai.uncertainty.conformal.judging import size, size_gap
from jxai.uncertainty.conformal.nonconformity import scores
from jxai.uncertainty.conformal.thresholds import exact, sets, threshold

__all__ = ["Constants", "tune"]

CRITERIA = ("size", "adaptiveness")
PENALTIES = {
    ("raps", "size"): (0.001, 0.01, 0.1, 0.2, 0.5),
    ("raps", "adaptiveness"): (0.0, 1e-5, 1e-4, 8e-4, 9e-4, 1e-3, 1.5e-3, 2e-3),
    ("saps", "size"): (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6),
}
"""Grids by method and criterion: those of the authors' code of RAPS, and the range of SAPS's paper."""


@dataclasses.dataclass(frozen=True)
class Constants:
    """Made by `tune`: `scores(…, penalty=found.penalty, free_ranks=found.free_ranks)`.

    Attributes:
      penalty: λ. free_ranks: k_reg.
    """

    penalty: float
    free_ranks: int


def tune(
    probabilities: Array,
    labels: Array,
    alpha: float,
    *,
    method: str = "raps",
    u: Array | None = None,
    criterion: str = "size",
    penalties: Sequence[float] | None = None,
) -> Constants:
    """Chooses `penalty` and `free_ranks`: k_reg is the (1 − α) quantile (the next higher rank) of the labels' ranks, and λ the value of a grid whose sets on these examples are best.

    Args:
      probabilities: `[n, K]`, after any temperature scaling. labels: `[n]`. alpha: in (0, 1). method: `"raps"` or `"saps"`, which has no free ranks. u: as for `scores`.
      criterion: `"size"`: the least mean size; `"adaptiveness"`: the least `size_gap`. Of equal ones the first of the grid.
      penalties: the grid; None is that of the paper's code (of SAPS for `"size"` alone).

    Raises:
      ValueError: as `scores` and `threshold`; an unknown criterion, an empty grid, none where it is not known.

    Cost: a sort of n × K numbers for each value of the grid.
    Reference: Angelopoulos et al. 2021, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR, appendix E; Huang et al. 2024, "Conformal Prediction for Deep Classifier via Label
    Ranking", ICML.
    """
    one_of("method", method, ("raps", "saps"))
    one_of("criterion", criterion, CRITERIA)
    check_host("tune", probabilities=probabilities, labels=labels, u=u)
    check_labels(labels, len(probabilities), check_probabilities(probabilities))
    grid = PENALTIES.get((method, criterion)) if penalties is None else tuple(penalties)
    if not grid:
        raise ValueError(f"{penalties=} must be a grid of values of the penalty where {method=} and {criterion=}")
    p, labels = np.asarray(probabilities), np.asarray(labels)
    free = _free_ranks(p, labels, exact(alpha)) if method == "raps" else 0
    found = {}
    for penalty in grid:
        options = {"method": method, "u": u, "penalty": penalty, "free_ranks": free}
        held = sets(p, threshold(scores(p, labels, **options), alpha), **options)
        found[penalty] = size(held) if criterion == "size" else size_gap(held, labels, alpha)
    return Constants(float(min(found, key=found.__getitem__)), free)


def _free_ranks(p: np.ndarray, labels: np.ndarray, alpha: Fraction) -> int:
    """The rank, from 1, below or at which 1 − α of the labels are: NumPy's quantile of method "higher", in exact arithmetic."""
    order = np.argsort(-p, axis=1, kind="stable")
    ranks = np.sort(1 + np.argmax(order == labels[:, None], axis=1))
    return int(ranks[math.ceil((len(ranks) - 1) * (1 - alpha))])
