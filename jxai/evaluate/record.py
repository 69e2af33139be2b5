"""What every experiment shares: its results as one JSON file, what a stopped run had already, and comparisons with intervals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jxai.evaluate.identity import versions
from jxai.evaluate.statistics import mean_interval
from jxai.files import atomic, save_arrays


def write(out: str | Path, config: Any, rows: list[dict[str, Any]], seconds: float) -> Path:
    """Writes `results.json` into `out`: the configuration, the rows (each with n and intervals), seconds and versions."""
    path = Path(out) / "results.json"
    content = {"config": dataclasses.asdict(config), "rows": rows, "seconds": round(seconds, 1), "versions": versions()}
    with atomic(path) as part:
        part.write_text(json.dumps(content, indent=1, default=_plain) + "\n", "utf-8")
    return path


def claim(out: str | Path, config: Any) -> None:
    """Takes a folder for a configuration, so that what `kept` finds there belongs to it.

    Raises:
      ValueError: the folder is another configuration's.
    """
    path = Path(out) / "config.json"
    own = json.dumps({name: value for name, value in dataclasses.asdict(config).items() if name != "out"}, indent=1, default=_plain) + "\n"
    if not path.exists():
        with atomic(path) as part:
            part.write_text(own, "utf-8")
    elif path.read_text("utf-8") != own:
        raise ValueError(f"out={str(out)!r} holds results of another configuration, {path}: give another folder or remove it")


def kept(out: str | Path, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays that `make()` returns, from `out/kept/NAME.npz` where a run that was stopped has written them."""
    path = Path(out) / "kept" / f"{name}.npz"
    if not path.exists():
        save_arrays(path, **make())
    with np.load(path) as file:
        return dict(file)


def row(values: np.ndarray, **names: Any) -> dict[str, Any]:
    """A row of results: its names, and the mean of `values` with its 95 % bootstrap interval."""
    interval = mean_interval(np.asarray(values, np.float64))
    return {**names, "mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}


def overall(rows: list[dict[str, Any]], by: str) -> list[dict[str, Any]]:
    """The means over seeds for each value of `by` and each metric, with the intervals of these means."""
    keys = dict.fromkeys((r[by], r["metric"]) for r in rows)
    means = {key: [r["mean"] for r in rows if (r[by], r["metric"]) == key] for key in keys}
    return [row(values, **{"seed": "all", by: name, "metric": metric}) for (name, metric), values in means.items()]


def table(rows: list[dict[str, Any]], line: str, column: str) -> str:
    """The rows as a Markdown table: a line for each value of `line`, a column for each of `column`."""
    lines, columns = (list(dict.fromkeys(r[name] for r in rows)) for name in (line, column))
    by = {(r[line], r[column]): r for r in rows}
    text = [f"| {line} | " + " | ".join(map(str, columns)) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in lines:
        cells = [by.get((name, c)) for c in columns]
        text.append(f"| {name} | " + " | ".join("" if c is None else f"{c['mean']:.3g} [{c['low']:.3g}, {c['high']:.3g}]" for c in cells) + " |")
    return "\n".join(text)


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray, jax.Array)):
        return np.asarray(value).tolist()
    return str(value)
