"""Digits that are to become every other class: which ones, and how what became of them is shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

import jxai
from jxai.counterfactual import Counterfactual
from jxai.evaluate.answers import predicted


def cases(models: Sequence[Callable], x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first images that all models have right, and for each the other classes `[count, 9]`."""
    right = np.flatnonzero(np.all([predicted(f, x) == y for f in models], 0))[:count]
    others = np.arange(9)
    return x[right], (others + (others >= y[right, None])).astype(np.int32)


def picture(shown: dict[str, tuple[np.ndarray, np.ndarray, Counterfactual]], judge: Callable, name: str):
    """The first digit as every other class, a row for each of `{what: (x, target, found)}`; above each what it was to become, and what the judge says."""
    rows = []
    for x, target, found in shown.values():
        said = predicted(judge, found.x[0])
        rows.append((x[0], found.x[0], found.valid[0], [f"{t}, {name}: {s}" for t, s in zip(target[0], said)]))
    x, found, valid, titles = (list(part) for part in zip(*rows))
    return jxai.plot.counterfactuals(np.stack(x), np.stack(found), titles=titles, originals=list(shown), valid=np.stack(valid))
