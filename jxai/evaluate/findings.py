"""Rows of results, means with intervals, and tables of them. A row is its names (method, metric, seed …), `mean`, `low`, `high`, `n`, and perhaps `more`."""

from __future__ import annotations

from typing import Any

import numpy as np

from jxai.evaluate.statistics import mean_interval


def row(values: np.ndarray, more: dict[str, Any] | None = None, **names: Any) -> dict[str, Any]:
    """A row of results: its names, the mean of `values` with its 95 % bootstrap interval, and what more was found, by name."""
    interval = mean_interval(np.asarray(values, np.float64))
    found = {**names, "mean": interval.mean, "low": interval.low, "high": interval.high, "n": interval.n}
    return found if more is None else {**found, "more": more}


def overall(rows: list[dict[str, Any]], *by: str) -> list[dict[str, Any]]:
    """The means over seeds for each value of the names `by` and each metric, with the intervals of these means."""
    groups: dict[tuple, list[float]] = {}
    for r in rows:
        groups.setdefault(tuple(r[name] for name in (*by, "metric")), []).append(r["mean"])
    return [row(means, seed="all", **dict(zip((*by, "metric"), key, strict=True))) for key, means in groups.items()]


def pooled(values: dict[tuple, np.ndarray], seeds: int) -> dict[tuple, np.ndarray]:
    """Values `{(seed, *names): [n]}` of all seeds in a row, as `{("all", *names): [n of all]}`."""
    return {("all", *key): np.concatenate([values[seed, *key] for seed in range(seeds)]) for key in dict.fromkeys(key[1:] for key in values)}


def means(values: np.ndarray, kept: np.ndarray | bool = True) -> np.ndarray:
    """`[n]`: the mean of those of each row of `[n, m]` that are kept, NaN without any."""
    kept = np.broadcast_to(kept, values.shape)
    count = kept.sum(1)
    return np.where(count > 0, np.where(kept, values, 0).sum(1) / np.maximum(count, 1), np.nan)


def table(rows: list[dict[str, Any]], line: str, column: str) -> str:
    """The rows as a Markdown table: a line for each value of `line`, a column for each of `column`."""
    lines, columns = (list(dict.fromkeys(r[name] for r in rows)) for name in (line, column))
    by = {(r[line], r[column]): r for r in rows}
    text = [f"| {line} | " + " | ".join(map(str, columns)) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in lines:
        cells = [by.get((name, c)) for c in columns]
        text.append(f"| {name} | " + " | ".join("" if c is None else f"{c['mean']:.3g} [{c['low']:.3g}, {c['high']:.3g}]" for c in cells) + " |")
    return "\n".join(text)
