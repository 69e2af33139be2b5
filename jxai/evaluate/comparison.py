"""Whether methods differ, by one metric's scores `[rows, methods]`: ranks, Friedman's test, Nemenyi's difference, and every pair by Wilcoxon's test."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from jxai.evaluate.statistics import LEVEL, ranking

FEW = 6
"""Differences that are not 0: with fewer, Wilcoxon's two-sided test cannot fall below 5 % (2 / 2⁵ = .0625)."""
EXACT = 50
"""Differences that are not 0: for no more, Wilcoxon's test goes over all signs of the ranks as they are, ties included."""
ROUGH = 10
"""Rows: with no more, the χ² of Friedman's test is a rough approximation (Demšar 2006)."""


@dataclasses.dataclass(frozen=True)
class Friedman:
    """Friedman's test that all methods rank alike."""

    statistic: float
    """χ², corrected for ties."""
    degrees: int
    """k − 1."""
    p: float
    f: float
    """Iman and Davenport's (n − 1) χ² / (n (k − 1) − χ²), less conservative; infinite where all rows rank alike."""
    f_p: float
    """By F of k − 1 and (k − 1)(n − 1) degrees of freedom."""


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two methods by Wilcoxon's signed-rank test on the rows where both have a finite score."""

    first: str
    second: str
    n: int
    """Rows."""
    zeros: int
    """Of these, rows where both score the same; the test leaves them out (Wilcoxon 1945)."""
    difference: float | None
    """The median of first − second."""
    statistic: float | None
    """The lesser of the sums of ranks for and against; None where there is no test."""
    p: float | None
    """Two-sided; exact for up to 50 differences, also where some are equal, and by the normal approximation for more."""
    adjusted: float | None
    """p by Holm's correction over the pairs of this metric that are tested."""
    effect: float | None
    """Matched-pairs rank-biserial correlation, (R₊ − R₋) / (R₊ + R₋) with the sums of ranks of the rows where the first and the second method is better (of a
    metric without a direction: scores higher): 1 where the first is better on every row, −1 where the second is."""
    note: str
    """Why there is no test, or what it cannot show; else empty."""

    @property
    def better(self) -> str:
        """The method that is better at 5 % after the correction; empty where neither is."""
        if self.adjusted is None or self.effect is None or self.adjusted > 1 - LEVEL:
            return ""
        return self.first if self.effect > 0 else self.second


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What one metric says of k methods over n rows. None stands where a number has no meaning, and `notes` say why."""

    metric: str
    direction: int
    """1 where higher is better, −1 where lower is, 0 where neither: then nothing is ranked."""
    rows: str
    """What a row is: an example, or a setting (a data set and a model)."""
    methods: tuple[str, ...]
    n: int
    """Rows on which every method has a finite score; ranks and Friedman's test are over these."""
    left_out: int
    """Rows on which some method has none."""
    ranks: dict[str, float] | None
    """Mean ranks, 1 the best, ties shared."""
    critical_difference: float | None
    """Nemenyi's: mean ranks that differ by less are not told apart at 5 %."""
    friedman: Friedman | None
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def compared(metric: str, methods: Sequence[str], scores: np.ndarray, direction: int, rows: str = "example") -> Comparison:
    """Compares methods by the scores of one metric.

    Args:
      metric: its name. methods: their names. scores: `[n, k]`; NaN and infinite where there is none. direction: 1, −1 or 0. rows: what a row is.

    Reference: Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR; Holm 1979; Kerby 2014, "The simple difference formula".
    """
    scores = np.asarray(scores, np.float64)
    whole = scores[np.isfinite(scores).all(1)]
    (n, k), notes = whole.shape, []
    ranks = difference = friedman = None
    if k < 2:
        notes.append("one method: there is nothing to compare it with")
    elif not n:
        notes.append(f"no {rows} has a finite score of every method: nothing is ranked")
    elif not direction:
        notes.append("neither higher nor lower is better: nothing is ranked, and pairs are tested for a difference alone")
    else:
        found = ranking(whole, direction)
        ranks, difference = dict(zip(methods, map(float, found.ranks))), found.critical_difference
        friedman, note = _friedman(whole)
        notes += [note] if note else []
    pairs = _holm([_pair(a, b, scores[:, i], scores[:, j], direction or 1, rows) for (i, a), (j, b) in itertools.combinations(enumerate(methods), 2)])
    return Comparison(metric, direction, rows, tuple(methods), n, len(scores) - n, ranks, difference, friedman, tuple(pairs), tuple(notes))


def _friedman(scores: np.ndarray) -> tuple[Friedman | None, str]:
    from scipy import stats

    n, k = scores.shape
    if k < 3:
        return None, "two methods: Friedman's test needs three, and the test of the pair says it all"
    if n < 2:
        return None, "one row: Friedman's test needs two"
    if (np.ptp(scores, axis=1) == 0).all():
        return None, "on every row all methods score the same: there is nothing to test"
    found = stats.friedmanchisquare(*scores.T)
    chi2, left = float(found.statistic), n * (k - 1) - float(found.statistic)
    f = (n - 1) * chi2 / left if left > 1e-9 * n * k else np.inf
    note = f"{n} rows: the χ² of Friedman's test is rough for no more than {ROUGH}" if n <= ROUGH else ""
    return Friedman(chi2, k - 1, float(found.pvalue), float(f), float(stats.f.sf(f, k - 1, (k - 1) * (n - 1)))), note


def _pair(first: str, second: str, a: np.ndarray, b: np.ndarray, direction: int, rows: str) -> Pair:
    from scipy import stats

    both = np.isfinite(a) & np.isfinite(b)
    d = a[both] - b[both]
    kept, n = d[d != 0], len(d)
    if not len(kept):
        note = f"no {rows} has a finite score of both" if not n else f"both score the same on every {rows}"
        return Pair(first, second, n, n, 0.0 if n else None, None, None, None, None, note)
    order = stats.rankdata(np.abs(kept))
    first_better, second_better = float(order[direction * kept > 0].sum()), float(order[direction * kept < 0].sum())
    p = _exact(order, min(first_better, second_better)) if len(kept) <= EXACT else float(stats.wilcoxon(kept, method="asymptotic").pvalue)
    effect = (first_better - second_better) / (first_better + second_better)
    note = f"{len(kept)} differences that are not 0: with fewer than {FEW} the test cannot fall below 5 %" if len(kept) < FEW else ""
    return Pair(first, second, n, n - len(kept), float(np.median(d)), min(first_better, second_better), p, None, effect, note)


def _exact(ranks: np.ndarray, lesser: float) -> float:
    """Twice the share of the 2ⁿ signs under which the ranks for come to no more than the lesser sum, 1 at most."""
    counts = np.ones(1)
    for twice in np.rint(2 * ranks).astype(int):  # shared ranks are halves
        counts = (np.pad(counts, (0, twice)) + np.pad(counts, (twice, 0))) / 2
    return min(1.0, 2 * float(counts[: round(2 * lesser) + 1].sum()))


def _holm(pairs: list[Pair]) -> list[Pair]:
    """The pairs with their p adjusted: the i-th smallest of m times m − i + 1, none below one before it, 1 at most."""
    tested = sorted((pair.p, n) for n, pair in enumerate(pairs) if pair.p is not None)
    adjusted, least = dict.fromkeys(range(len(pairs))), 0.0
    for place, (p, n) in enumerate(tested):
        least = max(least, min(1.0, (len(tested) - place) * p))
        adjusted[n] = least
    return [dataclasses.replace(pair, adjusted=adjusted[n]) for n, pair in enumerate(pairs)]
