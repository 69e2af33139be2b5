"""The pictures of a report; needs matplotlib."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jxai import plot
from jxai.evaluate import columns, told
from jxai.evaluate.joined import Joined
from jxai.evaluate.store import PICTURE, Run
from jxai.evaluate.table import Row
from jxai.files import file_name
from jxai.naming import proper, propers

_POINTS = 41


def draw(run: Run, table: dict[str, np.ndarray], rows: Sequence[Row], out: Path) -> list[Path]:
    """Writes `heatmap`, `curves_METRIC`, `critical_difference_METRIC` and, of a run of images that kept them, `examples`, each as PNG and as PDF; returns their paths."""
    written: list[Path] = []
    save = functools.partial(_save, out, written)
    by, names = {(row.metric, row.method): row for row in rows}, propers(run.methods)
    means = np.asarray([[by[metric, method].mean for method in run.methods] for metric in run.metrics])
    directions = [by[metric, run.methods[0]].direction for metric in run.metrics]
    save(plot.heatmap(means, list(map(proper, run.metrics)), list(names.values()), directions), "heatmap")
    for metric in run.metrics:
        if curves := curves_of(run, table, metric):
            save(plot.curves({names[m]: c for m, c in curves.items()}, f"{proper(metric)}{told.unit(run, metric)}"), f"curves_{metric}")
        ranks = {method: by[metric, method].rank for method in run.methods}
        ranks = {method: rank for method, rank in ranks.items() if np.isfinite(rank)}
        difference = by[metric, run.methods[0]].critical_difference
        if np.isfinite(difference) and len(ranks) > 1:
            title = f"{proper(metric)}, {by[metric, run.methods[0]].ranked} examples"
            save(plot.critical_difference({names[m]: rank for m, rank in ranks.items()}, difference, title), f"critical_difference_{metric}")
    if figure := examples(run, table):
        save(figure, "examples")
    return written


def draw_ranks(study: Joined, out: Path) -> list[Path]:
    """Writes `critical_difference_METRIC` over all runs, as PNG and as PDF, where methods are ranked; returns their paths."""
    written: list[Path] = []
    for found in study.by_example:
        if found.ranks is not None and found.critical_difference is not None:
            title = f"{proper(found.metric)}, {found.n} examples of {len(study.settings)} settings"
            ranks = {name: found.ranks[method] for method, name in propers(found.ranks).items()}
            _save(out, written, plot.critical_difference(ranks, found.critical_difference, title), f"critical_difference_{found.metric}")
    return written


def examples(run: Run, table: dict[str, np.ndarray], count: int = 6) -> Figure | None:
    """Images × methods: examples evenly over the run, of which everything was kept; None without any, or of a run of no images."""
    places = table["index"][table["valid"]]
    places = places[np.unique(np.linspace(0, len(places) - 1, min(count, len(places))).round().astype(int))] if len(places) else places
    kept = [shown for _, shown in sorted(run.looked_at(set(places.tolist())).items()) if {PICTURE, *run.methods} <= shown.keys() and shown[PICTURE].ndim == 3]
    if not kept:
        return None
    maps = {method: [shown[method] for shown in kept] for method in run.methods}
    return plot.grid(
        [shown[PICTURE] / 255 for shown in kept],
        maps,
        signed={method: told.signed(run, method) for method in run.methods},
        width="text" if len(maps) > 3 else "column",
    )


def _save(out: Path, written: list[Path], figure: Figure, name: str) -> None:
    for suffix in ("png", "pdf"):
        plot.save(figure, path := out / f"{file_name(name)}.{suffix}")
        written.append(path)


def curves_of(run: Run, table: dict[str, np.ndarray], metric: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By method the curves of a metric, x `[points]` and y `[n, points]`; without methods that have no finite one, `{}` of a metric that has no curves.
    Of several seeds each example's mean is taken, where they share x; else the first seed's.
    """
    found = {method: _over_seeds(table, cells) for method, cells in columns.cells(run.config, metric).items()}
    return {method: curves for method in run.methods if (curves := found.get(method)) is not None}


def _over_seeds(table: dict[str, np.ndarray], cells: Sequence[str]) -> tuple[np.ndarray, np.ndarray] | None:
    found = [tuple(table[f"{columns.CURVE}{cell}/{axis}"] for axis in "xy") for cell in cells if f"{columns.CURVE}{cell}/x" in table]
    if not found:
        return None
    x, y = found[0]
    alike = all(np.array_equal(other, x, equal_nan=True) for other, _ in found)
    return _on_grid(x, np.mean([other for _, other in found], 0) if alike and len(found) > 1 else y)


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
