"""The curves of an uncertainty run: ROC of each other data set, risk by coverage and reliability of each labelled one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jxai.evaluate.store import Run
from jxai.evaluate.uncertain.summary import BINS, answers, labelled, names, taken, uncertainties
from jxai.typing import Curve
from jxai.uncertainty import detection, selective
from jxai.uncertainty.calibration import Reliability, reliability

_POINTS = 300
"""Of a curve that is drawn."""


def rocs(run: Run, table: Mapping[str, np.ndarray], scores: Sequence[str]) -> dict[str, dict[str, Curve]]:
    """By data set and score the ROC curve against the first, out of distribution the positive class."""
    found: dict[str, dict[str, Curve]] = {}
    for n, name in list(enumerate(names(run)))[1:]:
        for score in scores:
            inside, outside = (uncertainties(table, taken(table, k), score)[0] for k in (0, n))
            if len(inside) and len(outside):
                found.setdefault(name, {})[score] = thinned(detection.roc(inside, outside))
    return found


def risks(run: Run, table: Mapping[str, np.ndarray], scores: Sequence[str]) -> dict[str, tuple[dict[str, Curve], Curve]]:
    """By labelled data set the risk by coverage of each score, and of the best order."""
    found = {}
    for n, name in enumerate(names(run)):
        rows = labelled(table, n)
        lines = {}
        for score in scores:
            u, kept = uncertainties(table, rows, score)
            if len(u):
                lines[score] = thinned(selective.risk_coverage(u, ~answers(table, kept)[1] * 1.0))
        if lines:
            loss = ~answers(table, rows)[1] * 1.0
            order = np.empty(len(loss))
            order[np.argsort(loss, kind="stable")] = np.arange(len(loss))
            found[name] = lines, thinned(selective.risk_coverage(order, loss))
    return found


def reliabilities(run: Run, table: Mapping[str, np.ndarray]) -> dict[str, Reliability]:
    """By labelled data set how often the model is right where it is how confident."""
    found = {}
    for n, name in enumerate(names(run)):
        if (rows := labelled(table, n)).any():
            confidence, correct = answers(table, rows)
            found[name] = reliability(np.stack([1 - confidence, confidence], 1), correct.astype(np.int32), bins=BINS, kind="binary")
    return found


def thinned(curve: Curve) -> Curve:
    """The curve by few of its points, the first and the last among them; its area is that of all."""
    x, y = np.asarray(curve.x), np.asarray(curve.y)
    if len(x) <= _POINTS:
        return Curve(x, y, curve.auc)
    along = np.r_[0, np.cumsum(np.hypot(np.diff(x), np.diff(y)))]
    kept = np.unique(np.r_[0, np.searchsorted(along, np.linspace(0, along[-1], _POINTS)).clip(0, len(x) - 1), len(x) - 1])
    return Curve(x[kept], y[kept], curve.auc)
