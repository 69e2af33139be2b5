"""What channels do by class: means over a run's examples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jxai.callables import plainly
from jxai.concepts.collection import VALUE, kept_blocks, told
from jxai.evaluate import Run
from jxai.scores import positive


class ClassMeans(NamedTuple):
    """Means by class.

    Attributes:
      mean: `[C, K]`, of each channel's shares over the examples of a class; NaN for a class without examples.
      count: `[K]`, how many examples each class has.
    """

    mean: np.ndarray
    count: np.ndarray  # type: ignore[assignment]  # a tuple has a method of this name


@plainly
def class_means(run: Run, *, top: int | None = None) -> ClassMeans:
    """The mean share of every channel over the examples of every class, streamed: memory is that of the result (times `top`).

    Args:
      run: of `collect`, as far as it is; classes are those that were explained.
      top: means over the `top` largest values of a class only, which shows classes that have a channel in some of their examples; None takes all.

    Raises:
      ValueError: a run of another kind, or `top` below 1.

    Reference: Achtibat et al. 2023 rank a channel's classes by the mean of their 10 largest values.
    """
    if top is not None:
        positive(top=top)
    channels = told(run)["channels"]
    sums: dict[int, np.ndarray] = {}
    best: dict[int, np.ndarray] = {}
    counts: dict[int, int] = {}
    for block in kept_blocks(run):
        for label in np.unique(block["target"]).tolist():
            rows = block[VALUE][block["target"] == label].astype(np.float64)
            counts[label] = counts.get(label, 0) + len(rows)
            if top is None:
                sums[label] = sums.get(label, np.zeros(channels)) + rows.sum(0)
            else:
                joined = np.concatenate([best.get(label, np.zeros((0, channels))), rows])
                best[label] = np.sort(joined, 0)[::-1][:top]
    classes = run.config["concepts"]["classes"]
    mean, count = np.full((channels, classes), np.nan, np.float32), np.zeros(classes, int)
    for label, n in counts.items():
        mean[:, label] = sums[label] / n if top is None else best[label].mean(0)
        count[label] = n
    return ClassMeans(mean, count)
