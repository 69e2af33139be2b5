"""Are conformal sets what they should be: coverage and size, overall, by class, by size and in the worst corner. On the host, in float64."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jxai.scores import check_labels, generator, positive
from jxai.typing import Array
from jxai.uncertainty.checks import check_features, check_host, check_level, same_length

__all__ = ["class_coverage", "class_gap", "coverage", "size", "size_gap", "worst_slab"]

STRATA = ((0, 1), (2, 3), (4, 10), (11, 100), (101, math.inf))


def coverage(sets: Array, labels: Array) -> float:
    """The share of examples whose label is in their set; over calibrations of n examples its mean is `k / (n + 1)`, at least 1 − α.

    Args:
      sets: `[n, K]` boolean. labels: `[n]`, integers in [0, K).

    Raises:
      ValueError: traced, no sets `[n, K]`, labels that are not n classes.
    """
    return float(_covered(sets, labels, "coverage").mean())


def size(sets: Array) -> float:
    """The mean number of classes in a set.

    Args:
      sets: `[n, K]` boolean.

    Raises:
      ValueError: traced, no sets `[n, K]`.
    """
    return float(_sets(sets, "size").sum(1).mean())


def class_coverage(sets: Array, labels: Array) -> np.ndarray:
    """`[K]`: the coverage of each class's examples; NaN of a class without any.

    Args:
      sets, labels: as for `coverage`.
    """
    covered = _covered(sets, labels, "class_coverage")
    labels, k = np.asarray(labels), np.shape(sets)[1]
    count = np.bincount(labels, minlength=k)
    return np.where(count, np.bincount(labels, weights=covered, minlength=k) / np.maximum(count, 1), np.nan)


def class_gap(sets: Array, labels: Array, alpha: float) -> float:
    """CovGap: how far the classes' coverage is from what was asked for, `mean_y |coverage_y − (1 − α)|` over the classes that have examples (a share; in papers often in percent).

    Args:
      sets, labels: as for `coverage`. alpha: in (0, 1).

    Reference: Ding et al. 2023, "Class-Conditional Conformal Prediction with Many Classes", NeurIPS.
    """
    check_level(alpha=alpha)
    return float(np.nanmean(np.abs(class_coverage(sets, labels) - (1 - alpha))))


def size_gap(sets: Array, labels: Array, alpha: float, *, strata: Sequence[tuple[float, float]] = STRATA) -> float:
    """SSCV, the size-stratified coverage violation: `max_j |coverage of the sets whose size is in stratum j − (1 − α)|`.

    Args:
      sets, labels: as for `coverage`. alpha: in (0, 1). strata: from which size to which, both inclusive; one without sets does not count.

    Raises:
      ValueError: as `coverage`; a set whose size is in no stratum, or in two.
    Reference: Angelopoulos et al. 2021, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR.
    """
    check_level(alpha=alpha)
    covered, sizes = _covered(sets, labels, "size_gap"), np.asarray(sets).sum(1)
    own = np.asarray([(low <= sizes) & (sizes <= high) for low, high in strata])
    if (wrong := own.sum(0) != 1).any():
        raise ValueError(f"strata must have each size once, but sets of size {sizes[wrong][0]} are in {own.sum(0)[wrong][0]} of {tuple(strata)}")
    return float(max(abs(covered[held].mean() - (1 - alpha)) for held in own if held.any()))


def worst_slab(
    features: Array, sets: Array, labels: Array, *, key: Array | None = None, share: float = 0.1, num_directions: int = 1000, held_out: float = 0.75
) -> float:
    """WSC: the coverage in the worst slab `{x: a ≤ v·x ≤ b}` with at least this share of the examples, over random directions v.

    The slab is sought on some of the examples and its coverage measured on those held out: the least coverage that is found is too low where it is also measured.

    Args:
      features: `[n, D]`, finite. sets, labels: as for `coverage`. key: for directions and the split. share: of the examples, in (0, 1). num_directions: V.
      held_out: in (0, 1), the share on which the slab is measured.

    Returns:
      The coverage of the examples held out that are in the slab; NaN if none is.

    Raises:
      ValueError: as `coverage`; features of another length or not finite, shares outside of (0, 1), no key, too few examples to split.

    Cost: V sorts of the examples in which the slab is sought, and a few passes over them.
    Reference: Cauchois, Gupta & Duchi 2021, "Knowing what You Know: valid and validated confidence sets in multiclass and multilabel prediction", JMLR.
    """
    check_level(share=share, held_out=held_out)
    positive(num_directions=num_directions)
    covered = _covered(sets, labels, "worst_slab").astype(np.float64)
    check_host("worst_slab", features=features)
    check_features(features, rank=2)
    n = same_length(sets=covered, features=features)
    rng = generator(key, "worst_slab")
    order, x = rng.permutation(n), np.asarray(features, np.float64)
    seek, measure = np.split(order, [round((1 - held_out) * n)])
    if not len(seek) or not len(measure):
        raise ValueError(f"{held_out=} must leave examples on either side, got {n} of them")
    fewest, best = max(1, round(share * len(seek))), (np.inf, None, 0.0, 0.0)
    for _ in range(num_directions):
        v = rng.normal(size=x.shape[1])
        v /= np.linalg.norm(v)
        along = x[seek] @ v
        by = np.argsort(along, kind="stable")
        least, first, last = _least_mean(covered[seek][by], fewest)
        if least < best[0]:
            best = (least, v, along[by[first]], along[by[last]])
    along = x[measure] @ best[1]
    inside = (best[2] <= along) & (along <= best[3])
    return float(covered[measure][inside].mean()) if inside.any() else float("nan")


def _least_mean(values: np.ndarray, fewest: int) -> tuple[float, int, int]:
    """The least mean of a run of at least so many values, and its first and last place: Dinkelbach's iteration, in which the sum of `values − mean` over a run is least."""
    mean, first, last = values.mean(), 0, len(values) - 1
    while True:
        total = np.r_[0.0, (values - mean).cumsum()]
        highest = np.maximum.accumulate(total[: len(total) - fewest])
        end = int(np.argmin(total[fewest:] - highest))
        start = int(np.argmax(total[: end + 1]))
        found = values[start : end + fewest].mean()
        if found >= mean - 1e-12:
            return mean, first, last
        mean, first, last = found, start, end + fewest - 1


def _sets(sets: Array, what: str) -> np.ndarray:
    check_host(what, sets=sets)
    given = np.asarray(sets)
    if given.ndim != 2 or not given.size or given.dtype != bool:
        raise ValueError(f"sets must be [n, K] booleans, got {given.dtype} of shape {given.shape}")
    return given


def _covered(sets: Array, labels: Array, what: str) -> np.ndarray:
    """`[n]`: whether each example's label is in its set."""
    given = _sets(sets, what)
    check_host(what, labels=labels)
    check_labels(labels, len(given), given.shape[1])
    return np.take_along_axis(given, np.asarray(labels)[:, None], 1)[:, 0]
