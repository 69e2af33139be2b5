"""Numbers of examples drawn again, all of one draw at once: of how many examples at each value of an uncertainty, which is sorted once.

The numbers of the examples as they are, are `jxai.uncertainty`'s; these are equal to them, and a thousand draws cost what sorting cost there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
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
    confidence = np.asarray(confidence, np.float64)
    at, off = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1), correct - confidence

    def draw(random: np.random.Generator, count: int) -> Numbers:
        chosen = random.integers(0, len(at), (count, len(at)))
        return {"": np.abs(_counts(at[chosen], bins, off[chosen])).sum(-1) / len(at)}

    return _intervals(draw, len(at), seed)[""]


def detection(inside: np.ndarray, outside: np.ndarray) -> Numbers:
    """AUROC, and AUPR and FPR95 both ways, of how many examples in and out of distribution there are at each value, ascending, `[…, values]`."""
    n, m = inside.sum(-1), outside.sum(-1)
    upto, out_upto = inside.cumsum(-1), outside.cumsum(-1)
    below, out_above = upto - inside, m[..., None] - (out_upto - outside)
    above = n[..., None] - below
    found = (out_above >= -(-19 * m // 20)[..., None]).sum(-1) - 1
    kept = (upto < -(-19 * n // 20)[..., None]).sum(-1)
    return {
        "auroc": (outside * (below + inside / 2)).sum(-1) / (n * m),
        "aupr_out": (outside * out_above / np.maximum(out_above + above, 1)).sum(-1) / m,
        "aupr_in": (inside * upto / np.maximum(upto + out_upto, 1)).sum(-1) / n,
        "fpr95_out": _at(above, found) / n,
        "fpr95_in": _at(out_upto, kept) / m,
    }


def selection(right: np.ndarray, wrong: np.ndarray) -> Numbers:
    """AURC, what of it the uncertainty is to blame for, AUGRC, and the AUROC of errors, of how many right and wrong answers there are at each value, ascending, `[…, values]`."""
    covered, lost = (right + wrong).cumsum(-1), wrong.cumsum(-1)
    n, errors = covered[..., -1], lost[..., -1]
    # A value that no example has repeats the point before it, which adds nothing; before the first there is the first risk.
    risk = lost / np.maximum(covered, 1)
    first = _at(risk, (covered == 0).sum(-1))[..., None]
    risk = np.where(covered == 0, first, risk)
    coverage = covered / n[..., None]
    zero = np.zeros_like(first)
    area = np.trapezoid(np.concatenate([first, risk], -1), np.concatenate([zero, coverage], -1))
    count = np.arange(1, int(n.max()) + 1)  # every draw has as many examples
    best = np.maximum(count - (n - errors)[..., None], 0) / count
    least = (best[..., 0] + best.sum(-1) - best[..., -1] / 2 - best[..., 0] / 2) / n
    below = right.cumsum(-1) - right
    pairs = errors * (n - errors)
    told = (wrong * (below + right / 2)).sum(-1) / np.maximum(pairs, 1)
    return {
        "aurc": area,
        "excess_aurc": area - least,
        "augrc": np.trapezoid(np.concatenate([zero, lost / n[..., None]], -1), np.concatenate([zero, coverage], -1)),
        "error_auroc": np.where(pairs > 0, told, np.nan),
    }


def _counts(at: np.ndarray, size: int, weights: np.ndarray | None = None) -> np.ndarray:
    """`[rows, size]`: how often each place is there in each row `[rows, n]`, or the sum of weights there."""
    rows = np.arange(len(at))[:, None] * size + at
    return np.bincount(rows.ravel(), None if weights is None else weights.ravel(), minlength=len(at) * size).reshape(len(at), size)


def _at(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, place[..., None], -1)[..., 0]


def _intervals(draw: Callable[[np.random.Generator, int], Numbers], size: int, seed: int) -> dict[str, Interval]:
    """The percentiles of numbers over draws, which are taken in as many at once as are fast."""
    random, total = np.random.default_rng(seed), min(_RESAMPLES, max(_LEAST, _WORK // max(1, size)))
    at_once = max(1, _AT_ONCE // size)
    drawn = [draw(random, min(at_once, total - start)) for start in range(0, total, at_once)]
    return {name: _between(np.concatenate([one[name] for one in drawn])) for name in drawn[0]}


def _between(values: np.ndarray) -> Interval:
    values = values[np.isfinite(values)]
    if not len(values):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))
