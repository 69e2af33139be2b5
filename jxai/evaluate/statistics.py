"""Means with intervals, ranks, and whether ranks differ: what a report says about scores `[examples, methods]`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean with its 95 % bootstrap interval, over the values that are no NaN."""

    mean: float
    low: float
    high: float
    n: int


def mean_interval(values: np.ndarray, resamples: int = 2000, seed: int = 0) -> Interval:
    """The mean of `[n]` values and its percentile bootstrap interval; NaN is left out, one value has no interval.

    Efron & Tibshirani 1993, "An Introduction to the Bootstrap", §13.
    """
    from scipy import stats  # here, not above: it takes a second, which only a report has

    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Interval(np.nan, np.nan, np.nan, 0)
    mean = float(values.mean())
    if len(values) == 1 or not np.isfinite(values).all():
        return Interval(mean, np.nan, np.nan, len(values))
    if np.ptp(values) == 0:
        return Interval(mean, mean, mean, len(values))
    options = dict(n_resamples=resamples, confidence_level=LEVEL, method="percentile", batch=max(1, 10**6 // len(values)))
    found = stats.bootstrap((values,), np.mean, axis=-1, rng=np.random.default_rng(seed), **options).confidence_interval
    return Interval(mean, float(found.low), float(found.high), len(values))


class Ranking(NamedTuple):
    """Mean ranks of k methods over n examples, 1 the best."""

    ranks: np.ndarray
    """`[k]`; NaN where there is no example with a value of every method."""
    n: int
    p: float
    """Friedman's test that all methods rank alike; NaN for fewer than three methods or two examples."""
    critical_difference: float
    """Nemenyi's: mean ranks that differ by less are not told apart at 5 %; NaN for fewer than two methods."""


def ranking(scores: np.ndarray, direction: int) -> Ranking:
    """Ranks methods on each example and averages, over the examples on which every method has a finite score.

    CD = q √(k(k+1)/(6n)), q the upper 5 % point of the studentised range of k, over √2.

    Args:
      scores: `[n, k]`. direction: 1 where higher is better, −1 where lower is.

    Reference: Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR.
    """
    from scipy import stats

    scores = np.asarray(scores, np.float64)
    scores = scores[np.isfinite(scores).all(1)]
    n, k = scores.shape
    if not n:
        return Ranking(np.full(k, np.nan), 0, np.nan, np.nan)
    ranks = stats.rankdata(-direction * scores, axis=1).mean(0)
    alike = np.ptp(scores, axis=1).max() == 0
    p = float(stats.friedmanchisquare(*scores.T).pvalue) if k > 2 and n > 1 and not alike else np.nan
    difference = np.nan
    if k > 1:
        q = stats.studentized_range.ppf(LEVEL, k, np.inf) / np.sqrt(2)
        difference = float(q * np.sqrt(k * (k + 1) / (6 * n)))
    return Ranking(ranks, n, p, difference)
