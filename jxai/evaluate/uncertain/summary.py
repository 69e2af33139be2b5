"""What an uncertainty run says, as rows: how right the model is, what each score knows of its errors, and of other data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jxai.data.sources import NO_LABEL
from jxai.evaluate.statistics import mean_interval
from jxai.evaluate.store import Run
from jxai.evaluate.uncertain import resampled
from jxai.evaluate.uncertain.names import KIND, SCORE
from jxai.uncertainty import detection, selective
from jxai.uncertainty.calibration import expected_calibration_error

BINS = 15
"""Of the calibration error and of the reliability diagram."""
MODEL = ("accuracy", "negative_log_likelihood", "brier", "expected_calibration_error")
SELECTION = ("aurc", "excess_aurc", "augrc", "error_auroc")
DETECTION = ("auroc", "aupr_out", "aupr_in", "fpr95_out", "fpr95_in")
DIRECTIONS = {"accuracy": 1, "error_auroc": 1, "auroc": 1, "aupr_out": 1, "aupr_in": 1}
"""1: higher is better; −1 of any other."""
Table = Mapping[str, np.ndarray]


class Row(NamedTuple):
    """One number."""

    run: str
    set: str
    """The data set: of detection the one that is told from the first."""
    score: str
    """`""` where it is about the model."""
    metric: str
    value: float
    low: float
    """Of its 95 % bootstrap interval; NaN where there is none."""
    high: float
    n: int
    """Examples: of detection those within the distribution."""
    m: int
    """Of detection those out of it; else 0."""
    lost: int
    """Examples left out because the score of them is no number."""

    @property
    def direction(self) -> int:
        """1 where higher is better, −1 where lower is."""
        return DIRECTIONS.get(self.metric, -1)


def names(run: Run) -> list[str]:
    """The labels of its data sets, the first within the distribution."""
    if KIND not in run.config:
        raise ValueError(f"{run.path} is no uncertainty run")
    return [one["label"] for one in run.config[KIND]["sets"]]


def scores(run: Run, table: Table) -> list[str]:
    """The labels of its scores, in the order of the record."""
    return [name for name in run.config[KIND]["scores"] if SCORE + name in table]


def taken(table: Table, n: int) -> np.ndarray:
    """The rows of a data set by its number that count."""
    return table["valid"] & (table["set"] == n)


def labelled(table: Table, n: int) -> np.ndarray:
    """Those with a label of the model's classes."""
    return taken(table, n) & (table["label"] != NO_LABEL)


def summarise(run: Run, table: Table, label: str) -> list[Row]:
    """The rows of a run."""
    found = []
    for n, name in enumerate(names(run)):
        known = labelled(table, n)
        if known.any():
            found += _model(table, known, label, name)
            found += [row for score in scores(run, table) for row in _selection(table, known, label, name, score)]
    for n, name in list(enumerate(names(run)))[1:]:
        found += [row for score in scores(run, table) for row in _detection(table, n, label, name, score)]
    return found


def answers(table: Table, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The model's confidences on these rows, and whether it is right."""
    return table["confidence"][rows].astype(np.float64), table["label"][rows] == table["predicted"][rows]


def uncertainties(table: Table, rows: np.ndarray, score: str) -> tuple[np.ndarray, np.ndarray]:
    """The finite and infinite uncertainties of these rows, and which rows have one."""
    own = table[SCORE + score].astype(np.float64)
    kept = rows & ~np.isnan(own)
    return own[kept], kept


def _model(table: Table, rows: np.ndarray, run: str, name: str) -> list[Row]:
    confidence, correct = answers(table, rows)
    found = []
    for metric, values in (("accuracy", correct), ("negative_log_likelihood", -table["log_likelihood"][rows]), ("brier", table["brier"][rows])):
        told = mean_interval(np.asarray(values, np.float64))
        found.append(Row(run, name, "", metric, told.mean, told.low, told.high, told.n, 0, 0))
    pairs = np.stack([1 - confidence, confidence], 1)
    error = float(expected_calibration_error(pairs, correct.astype(np.int32), bins=BINS, kind="binary"))
    low, high = resampled.of_calibration(confidence, correct, BINS)
    return [*found, Row(run, name, "", "expected_calibration_error", error, low, high, len(correct), 0, 0)]


def _selection(table: Table, rows: np.ndarray, run: str, name: str, score: str) -> list[Row]:
    u, kept = uncertainties(table, rows, score)
    if not len(u):
        return []
    wrong = ~answers(table, kept)[1]
    loss = wrong.astype(np.float64)
    values = {"aurc": selective.aurc(u, loss), "excess_aurc": selective.excess_aurc(u, loss), "augrc": selective.augrc(u, loss)}
    values["error_auroc"] = detection.auroc(u[~wrong], u[wrong]) if wrong.any() and not wrong.all() else float("nan")
    return _rows(values, resampled.of_selection(u, wrong), (run, name, score), len(u), 0, int(rows.sum()) - len(u))


def _detection(table: Table, n: int, run: str, name: str, score: str) -> list[Row]:
    (inside, _), (outside, _) = (uncertainties(table, taken(table, k), score) for k in (0, n))
    if not len(inside) or not len(outside):
        return []
    values: dict[str, Any] = {"auroc": detection.auroc(inside, outside)}
    for way in ("out", "in"):
        values[f"aupr_{way}"] = detection.aupr(inside, outside, positive=way)
        values[f"fpr95_{way}"] = detection.fpr95(inside, outside, positive=way)
    lost = int(taken(table, 0).sum() + taken(table, n).sum()) - len(inside) - len(outside)
    values = {metric: values[metric] for metric in DETECTION}
    return _rows(values, resampled.of_detection(inside, outside), (run, name, score), len(inside), len(outside), lost)


def _rows(values: Mapping[str, float], ends: Mapping[str, resampled.Interval], of: tuple[str, str, str], n: int, m: int, lost: int) -> list[Row]:
    return [Row(*of, metric, float(value), *ends[metric], n, m, lost) for metric, value in values.items()]
