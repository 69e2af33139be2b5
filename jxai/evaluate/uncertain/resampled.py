"""Numbers of examples drawn again, all of one draw at once: of how many examples at each value of an uncertainty, which is sorted once.

The formulas are those of the examples as they are (`jxai.uncertainty.counting`), but a thousand draws sort nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jxai.evaluate.statistics import LEVEL
from jxai.uncertainty import counting
from jxai.uncertainty.calibration.binning import edges
from jxai.uncertainty.resampling import percentiles

_RESAMPLES, _LEAST, _WORK = 1000, 200, 4 * 10**7
"""Draws; fewer of many examples, so that a report stays a matter of a minute, but so many at least."""

_AT_ONCE = 2**14
"""Numbers of draws that are taken at once: what stays in a cache."""

Numbers = dict[str, np.ndarray]


class Interval(NamedTuple):
    """Percentile bootstrap; NaN where no draw has the number."""

    low: float
    high: float


def of_detection(inside: np.ndarray, outside: np.ndarray, seed: int = 0) -> dict[str, Interval]:
    """The intervals of `detection`'s numbers, of examples in and out of distribution drawn again each by themselves.

    Args:
      inside: `[n]` uncertainties. outside: `[m]`. seed: of the draws, which are equal for arrays of equal lengths.
    """
    values, at = np.unique(np.r_[inside, outside], return_inverse=True)
    a, b = at[: len(inside)], at[len(inside) :]
    draw = lambda random, count: detection(*(_counts(one[random.integers(0, len(one), (count, len(one)))], len(values)) for one in (a, b)))
    return _intervals(draw, len(at), seed)


def of_selection(uncertainty: np.ndarray, wrong: np.ndarray, seed: int = 0) -> dict[str, Interval]:
    """The intervals of `selection`'s numbers, of examples drawn again with whether the model is wrong on them.

    Args:
      uncertainty: `[n]`. wrong: `[n]` boolean. seed: of the draws.
    """
    values, at = np.unique(uncertainty, return_inverse=True)
    places = at + len(values) * wrong  # the right ones first, then the wrong ones

    def draw(random: np.random.Generator, count: int) -> Numbers:
        both = _counts(places[random.integers(0, len(at), (count, len(at)))], 2 * len(values))
        return selection(both[:, : len(values)], both[:, len(values) :])

    return _intervals(draw, len(at), seed)


def of_calibration(confidence: np.ndarray, correct: np.ndarray, bins: int, seed: int = 0) -> Interval:
    """The interval of the expected calibration error by bins of equal width, `(low, high]`.

    Args:
      confidence: `[n]` in [0, 1]. correct: `[n]` boolean. bins: how many. seed: of the draws.
    """
    known = np.asarray(confidence, jax.dtypes.canonicalize_dtype(np.float64))  # as the error itself takes them: an edge of float32 is none of float64
    at, off = np.searchsorted(edges(bins, known.dtype), known, side="left"), correct - np.asarray(confidence, np.float64)

    def draw(random: np.random.Generator, count: int) -> Numbers:
        chosen = random.integers(0, len(at), (count, len(at)))
        return {"": np.abs(_counts(at[chosen], bins, off[chosen])).sum(-1) / len(at)}

    return _intervals(draw, len(at), seed)[""]


def detection(inside: np.ndarray, outside: np.ndarray) -> Numbers:
    """AUROC, and AUPR and FPR95 both ways, of how many examples in and out of distribution there are at each value, ascending, `[…, values]`."""
    counts = {way: counting.beyond(inside, outside, way) for way in ("out", "in")}
    found = {"auroc": counting.auroc(*counts["out"])}
    for way, own in counts.items():
        found |= {f"aupr_{way}": counting.average_precision(*own), f"fpr95_{way}": counting.fpr95(*own)}
    return found


def selection(right: np.ndarray, wrong: np.ndarray) -> Numbers:
    """AURC, what of it the uncertainty is to blame for, AUGRC, and the AUROC of errors, of how many right and wrong answers there are at each value, ascending, `[…, values]`."""
    kept = counting.kept(right + wrong, wrong)
    n = int((right + wrong).sum(-1).max())  # every draw has as many
    least = counting.least_aurc(np.arange(n) >= right.sum(-1, keepdims=True))
    told = counting.auroc(*counting.beyond(right, wrong, "out"))
    return {"aurc": kept.aurc, "excess_aurc": kept.aurc - least, "augrc": kept.augrc, "error_auroc": told}


def _counts(at: np.ndarray, size: int, weights: np.ndarray | None = None) -> np.ndarray:
    """`[rows, size]`: how often each place is there in each row `[rows, n]`, or the sum of weights there."""
    rows = np.arange(len(at))[:, None] * size + at
    return np.bincount(rows.ravel(), None if weights is None else weights.ravel(), minlength=len(at) * size).reshape(len(at), size)


def _intervals(draw: Callable[[np.random.Generator, int], Numbers], size: int, seed: int) -> dict[str, Interval]:
    """The percentiles of numbers over draws, which are taken in as many at once as are fast."""
    random, total = np.random.default_rng(seed), min(_RESAMPLES, max(_LEAST, _WORK // max(1, size)))
    at_once = max(1, _AT_ONCE // size)
    drawn = [draw(random, min(at_once, total - start)) for start in range(0, total, at_once)]
    return {name: Interval(*percentiles(np.concatenate([one[name] for one in drawn]), LEVEL)) for name in drawn[0]}
