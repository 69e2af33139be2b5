"""Which examples of a data set are taken where not all are: every class has its share."""

from __future__ import annotations

import numpy as np

from jxai.data.batches import number
from jxai.data.sources import Source
from jxai.scores import one_of

SAMPLES = ("stratified", "first")


def sampled(source: Source, limit: int | None, sample: str = "stratified", seed: int = 0) -> np.ndarray:
    """Places in the data set, in its order: all, the `"first"` so many, or a `"stratified"` sample.

    The r-th of the n_c examples of class c, in an order drawn by `seed`, comes at (r + ½) / n_c, ties in drawn order, and the first `limit` are taken: each class has
    its share of the sample to within one example, and a larger limit only adds. Examples without a label count as a class. A source that has no `labels()` is one class.

    Args:
      source: the data set. limit: how many at most; None takes all. sample: `"stratified"` or `"first"`. seed: of the draw.

    Returns:
      `[min(limit, n)]` integers, ascending.

    Raises:
      ValueError: an empty data set, a limit below 1, or an unknown `sample`.
    """
    one_of("sample", sample, SAMPLES)
    count, size = number(source, limit), len(source)
    if count == size or sample == "first":
        return np.arange(count)
    random = np.random.default_rng(seed)
    labels = np.asarray(source.labels()) if callable(getattr(source, "labels", None)) else np.zeros(size, int)
    order = random.permutation(size)
    by_class = order[np.argsort(labels[order], kind="stable")]
    _, sizes = np.unique(labels, return_counts=True)
    at = np.concatenate([(np.arange(n) + 0.5) / n for n in sizes])
    ties = random.permutation(len(sizes))[np.repeat(np.arange(len(sizes)), sizes)]
    return np.sort(by_class[np.lexsort((ties, at))[:count]])
