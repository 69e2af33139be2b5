"""The pictures of a report; needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jxai import plot
from jxai.evaluate import told
from jxai.evaluate.store import Run
from jxai.evaluate.table import Row
from jxai.naming import proper

_POINTS = 41


def draw(run: Run, table: dict[str, np.ndarray], rows: Sequence[Row], out: Path) -> list[Path]:
    """Writes `heatmap`, `curves_METRIC` and `critical_difference_METRIC`, each as PNG and as PDF; returns their paths."""
    written = []

    def save(figure, name: str) -> None:
        for suffix in ("png", "pdf"):
            plot.save(figure, out / f"{name}.{suffix}")
            written.append(out / f"{name}.{suffix}")

    by = {(row.metric, row.method): row for row in rows}
    means = np.asarray([[by[metric, method].mean for method in run.methods] for metric in run.metrics])
    directions = [by[metric, run.methods[0]].direction for metric in run.metrics]
    save(plot.heatmap(means, list(map(proper, run.metrics)), list(map(proper, run.methods)), directions), "heatmap")
    for metric in run.metrics:
        if curves := curves_of(run, table, metric):
            save(plot.curves({proper(m): c for m, c in curves.items()}, f"{proper(metric)}{told.unit(run, metric)}"), f"curves_{metric}")
        ranks = {method: by[metric, method].rank for method in run.methods}
        difference = by[metric, run.methods[0]].critical_difference
        if np.isfinite(difference) and np.isfinite(list(ranks.values())).all():
            title = f"{proper(metric)}, {by[metric, run.methods[0]].ranked} examples"
            save(plot.critical_difference({proper(m): rank for m, rank in ranks.items()}, difference, title), f"critical_difference_{metric}")
    return written


def curves_of(run: Run, table: dict[str, np.ndarray], metric: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By method the curves of a metric, x `[points]` and y `[n, points]`; without methods that have no finite one, `{}` of a metric that has no curves."""
    found = {m: _on_grid(table[f"curve/{m}/{metric}/x"], table[f"curve/{m}/{metric}/y"]) for m in run.methods if f"curve/{m}/{metric}/x" in table}
    return {m: curves for m, curves in found.items() if curves is not None}


def _on_grid(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Curves `[n, points]` over one x: their own where they share it, else interpolated on a common one; None without a finite one."""
    keep = np.isfinite(x).all(1) & np.isfinite(y).all(1)
    x, y = x[keep], y[keep]
    if not len(x):
        return None
    if (x == x[0]).all():
        return x[0], y
    grid = np.linspace(x.min(), x.max(), _POINTS)
    return grid, np.stack([np.interp(grid, a, b) for a, b in zip(x, y)])
