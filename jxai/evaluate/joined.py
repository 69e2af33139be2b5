"""Several runs as one study: methods compared over the examples of all of them, and over data sets and models."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jxai.evaluate.comparison import Comparison, compared
from jxai.evaluate.store import Run
from jxai.evaluate.table import direction_of, scores_of
from jxai.files import printable
from jxai.identity.compare import differences

Scores = dict[str, dict[str, dict[int, float]]]
"""By metric and method, the score of each place in the data set."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs of one data set, model, preprocessing and explained class: their methods are columns of one table, image by image."""

    runs: tuple[str, ...]
    data: str
    model: str
    examples: int
    """Places in the data set that any of the runs scored."""


@dataclasses.dataclass(frozen=True)
class Joined:
    """What several runs (or one) say together, as plain data."""

    settings: tuple[Setting, ...]
    methods: tuple[str, ...]
    """Those that all settings have."""
    by_example: tuple[Comparison, ...]
    """A comparison for each metric that all settings have, over all of their examples: a setting counts by its number of examples."""
    by_setting: tuple[Comparison, ...]
    """The same over the settings' means, each setting one row, as Demšar 2006 compares over data sets; empty for one setting."""
    notes: tuple[str, ...]
    """What is left out, and why."""


def joined(runs: Sequence[str | Path | Run]) -> Joined:
    """Joins runs of methods × metrics.

    Runs of one setting are joined by the image: methods of one and of the other run become columns of one table, and where both hold the same method on the same
    image (with other seeds) its scores are averaged. Different settings are stacked. Compared are the methods and metrics that all settings have.

    Args:
      runs: runs, or their folders; begun ones count as far as they are.

    Raises:
      ValueError: no run, one that explains nothing or has no finished block, or two that hold something else under one label in one setting.
    """
    runs = [run if isinstance(run, Run) else Run(run) for run in runs]
    if not runs:
        raise ValueError("runs must name at least one")
    labels = labelled(runs)
    groups: dict[str, list[int]] = {}
    for n, run in enumerate(runs):
        groups.setdefault(_setting(run), []).append(n)
    scores = [_scores([runs[n] for n in members]) for members in groups.values()]
    heads = [[runs[n] for n in members] for members in groups.values()]
    methods, metrics, notes = _common([{m: None for run in head for m in run.methods} for head in heads], [list(own) for own in scores])
    notes += [*_other_options(heads, methods, metrics), *_other_scores(runs, methods, metrics)]
    way = {metric: direction_of(next(run for run in runs if metric in run.metrics), metric) for metric in metrics}
    tables = {metric: [_matrix(own[metric], methods) for own in scores] for metric in metrics}
    by_example = tuple(compared(metric, methods, np.concatenate(tables[metric]), way[metric]) for metric in metrics)
    by_setting: tuple[Comparison, ...] = ()
    if len(groups) > 1:
        by_setting = tuple(compared(metric, methods, np.stack([_means(table) for table in tables[metric]]), way[metric], "setting") for metric in metrics)
    settings = tuple(
        Setting(tuple(labels[n] for n in members), head[0].config["data"]["name"], head[0].config["model"]["name"], len(_places(own)))
        for members, head, own in zip(groups.values(), heads, scores)
    )
    return Joined(settings, tuple(methods), by_example, by_setting, tuple(notes))


def labelled(runs: Sequence[Run]) -> list[str]:
    """The folders' names as they can be printed; where two are alike, numbered: each run has its own."""
    names = [printable(run.path.resolve().name) for run in runs]
    while alike := [name for name in names if names.count(name) > 1]:
        names = [f"{name}-{n}" if name in alike else name for n, name in enumerate(names, 1)]
    return names


def _setting(run: Run) -> str:
    data, model = run.config["data"], run.config["model"]
    made = {name: value for name, value in model.items() if name != "name"}
    if "methods" not in run.config:
        raise ValueError(f"{run.path} is no run of methods and metrics")
    return json.dumps([data["name"], data["size"], data["x"], made, run.config["preprocess"], run.config["target"]], sort_keys=True)


def _scores(runs: Sequence[Run]) -> Scores:
    """The scores of one setting's runs, averaged where several hold one."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for n, run in enumerate(runs):
        for other in runs[:n]:
            _same(other, run)
        table = run.table()
        if not table:
            raise ValueError(f"{run.path} has no finished block yet")
        for metric in run.metrics:
            columns = found.setdefault(metric, {})
            for method, column in zip(run.methods, scores_of(run, table, metric).T):
                cells = columns.setdefault(method, {})
                for place, value in zip(table["index"].tolist(), column.tolist()):
                    cells.setdefault(place, []).append(value)
    return {metric: {m: {i: float(np.mean(v)) for i, v in cells.items()} for m, cells in columns.items()} for metric, columns in found.items()}


def _same(a: Run, b: Run) -> None:
    """ValueError where two runs of one setting have something else under one label."""
    for kind in ("methods", "metrics"):
        for label in a.config[kind]:
            if label in b.config[kind] and (found := differences(_told(a, kind, label, b), _told(b, kind, label, a))):
                raise ValueError(f"{a.path} and {b.path} hold another {label} each: {kind}.{label}.{found[0]}; evaluate one of them under a label of its own")


def _told(run: Run, kind: str, label: str, other: Run) -> dict[str, Any]:
    """What a method or metric is; of a metric also its options on the methods that the other run judges by it, too."""
    made = run.config[kind][label]
    both = made.get("on", {}).keys() & other.config[kind][label].get("on", {}).keys()
    told = {name: value for name, value in made.items() if name in ("function", "options", "made_of")}
    return told | ({"on": {method: made["on"][method]["options"] for method in sorted(both)}} if both else {})


def _common(methods: Sequence[dict[str, None]], metrics: Sequence[list[str]]) -> tuple[list[str], list[str], list[str]]:
    """The methods and metrics that all settings have, and what is left out."""
    kept, notes = [], []
    for kind, named in (("methods", methods), ("metrics", metrics)):
        every = list(dict.fromkeys(name for own in named for name in own))
        both = [name for name in every if all(name in own for own in named)]
        if out := [name for name in every if name not in both]:
            notes.append(f"{kind} that not all settings have are not compared: {', '.join(out)}")
        kept.append(both)
    return kept[0], kept[1], notes


def _other_options(heads: Sequence[Sequence[Run]], methods: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """What of one label is not the same in all settings."""
    notes = []
    for kind, labels in (("methods", methods), ("metrics", metrics)):
        for label in labels:
            first, *others = [next(run for run in head if label in run.config[kind]) for head in heads]
            differ = {one.split(":")[0] for other in others for one in differences(_told(first, kind, label, other), _told(other, kind, label, first))}
            if differ:
                notes.append(f"{label} is not the same in all settings: {', '.join(sorted(differ))}")
    return notes


def _other_scores(runs: Sequence[Run], methods: Sequence[str], metrics: Sequence[str]) -> list[str]:
    """Metrics that measure one score of some methods and another of others, whose numbers have other scales."""
    notes = []
    for metric in metrics:
        asked = [
            (method, how["options"].get("score"))
            for run in runs
            if metric in run.config["metrics"]
            for method, how in run.config["metrics"][metric]["on"].items()
        ]
        by = {score: list(dict.fromkeys(m for m, of in asked if of == score and m in methods)) for _, score in asked if score is not None}
        if len(found := [f"{score} of {', '.join(of)}" for score, of in by.items() if of]) > 1:
            notes.append(f"{metric} is measured in {' and in '.join(found)}: their values have other scales")
    return notes


def _places(own: Scores) -> list[int]:
    return sorted({place for columns in own.values() for cells in columns.values() for place in cells})


def _matrix(columns: dict[str, dict[int, float]], methods: Sequence[str]) -> np.ndarray:
    """`[places, methods]`, NaN where there is none."""
    places = sorted({place for cells in columns.values() for place in cells})
    return np.asarray([[columns.get(method, {}).get(place, np.nan) for method in methods] for place in places], np.float64).reshape(len(places), len(methods))


def _means(table: np.ndarray) -> np.ndarray:
    """The methods' means over the examples on which all have a finite score; NaN without any."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return table[np.isfinite(table).all(1)].mean(0)
