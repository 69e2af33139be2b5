"""Figures of an evaluation: curves with bands, a heat map of metrics × methods, and which mean ranks can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jxai.files import printable
from jxai.plot.page import Page, line_style


def curves(lines: Mapping[str, tuple[ArrayLike, ...]], title: str = "", *, label: str = "share of features") -> Figure:
    """The mean of each method's curves, with a band of ± 1.96 standard errors.

    Args:
      lines: by method, x `[points]` and y `[n, points]`, or of one example `[points]`; or the `Curve` that a metric returned, of one example or of a batch.
      title: above. label: of the x axis.

    Raises:
      ValueError: no lines, x and y that do not belong together, or curves of a batch that were measured at different x.
    """
    if not isinstance(lines, Mapping) or not lines:
        raise ValueError("lines must hold at least one curve, {name: (x, y)}")
    shared = {name: _shared(name, line) for name, line in lines.items()}
    figure = Page(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for number, (name, (x, y)) in enumerate(shared.items()):
        mean, error = y.mean(0), y.std(0, ddof=min(1, len(y) - 1)) / np.sqrt(len(y))
        style = line_style(number)
        axes.plot(x, mean, **style, label=name)
        axes.fill_between(x, mean - 1.96 * error, mean + 1.96 * error, color=style["color"], alpha=0.15, linewidth=0)
    axes.set(title=title, xlabel=label)
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _shared(name: str, line: tuple[ArrayLike, ...]) -> tuple[np.ndarray, np.ndarray]:
    """x `[points]` and y `[n, points]` of a line."""
    if not isinstance(line, (tuple, list)) or len(line) < 2:
        raise ValueError(f"lines[{name!r}] must be (x, y) or a Curve, got {type(line).__name__}")
    x, y = (np.atleast_2d(np.asarray(v, np.float64)) for v in line[:2])
    if x.ndim > 2 or y.ndim > 2 or x.shape[1] != y.shape[1] or 0 in y.shape:
        raise ValueError(f"lines[{name!r}] must have x [points] and y [n, points] or [points], got {x.shape} and {y.shape}")
    if not np.allclose(x, x[:1]):
        raise ValueError(f"lines[{name!r}] holds curves that were measured at different x: draw them one by one")
    return x[0], y


def heatmap(values: np.ndarray, rows: Sequence[str], columns: Sequence[str], directions: Sequence[int] | None = None, title: str = "") -> Figure:
    """Values as numbers, coloured within each row from its worst (white) to its best (green); grey where neither is better.

    Args:
      values: `[rows, columns]`, NaN is left blank. rows, columns: names. directions: of each row, 1 higher is better, −1 lower, 0 neither.
    """
    values = np.asarray(values, float)
    if values.shape != (len(rows), len(columns)):
        raise ValueError(f"values must have shape {(len(rows), len(columns))}, got {values.shape}")
    directions = [1] * len(rows) if directions is None else list(directions)
    shade = np.stack([scaled(row, way) for row, way in zip(values, directions)])
    figure = Page(figsize=(2.2 + 0.75 * len(columns), 1.6 + 0.36 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.where(np.isnan(shade), 0, shade), cmap="Greens", vmin=0, vmax=1.6, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isfinite(value):
            axes.text(j, i, f"{value:.3g}", ha="center", va="center", fontsize=7, weight="bold" if shade[i, j] == 1 else "normal")
    arrows = {1: " ↑", -1: " ↓", 0: ""}
    axes.set_yticks(range(len(rows)), [printable(name) + arrows[way] for name, way in zip(rows, directions)], fontsize=8)
    axes.set_xticks(range(len(columns)), list(map(printable, columns)), rotation=40, ha="right", fontsize=8)
    axes.set_title(title)
    return figure


def critical_difference(ranks: Mapping[str, float], difference: float, title: str = "") -> Figure:
    """Mean ranks on a line, 1 the best; bars join the methods that differ by less than the critical difference.

    Args:
      ranks: by method. difference: Nemenyi's critical difference of mean ranks.

    Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR, fig. 1.
    """
    if len(ranks) < 2:
        raise ValueError(f"ranks must hold at least two methods, got {list(ranks)}")
    names = sorted(ranks, key=ranks.get)
    values = np.asarray([ranks[name] for name in names])
    groups = joined(values, difference)
    low, high = 1, max(len(names), int(np.ceil(values.max())))
    half, step = -(-len(names) // 2), 0.42
    bars = 0.22 * (len(groups) + 1)
    figure = Page(figsize=(7.5, 1.3 + bars + step * half), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(low - 0.32 * (high - low) - 0.2, high + 0.32 * (high - low) + 0.2), ylim=(-bars - step * half - 0.2, 1.0))
    axes.axis("off")
    axes.plot([low, high], [0, 0], "k", linewidth=1)
    for tick in range(low, high + 1):
        axes.plot([tick, tick], [0, 0.12], "k", linewidth=1)
        axes.text(tick, 0.17, str(tick), ha="center", va="bottom", fontsize=8)
    axes.plot([low, min(low + difference, high)], [0.72, 0.72], "k", linewidth=2)
    axes.text(low, 0.78, f"critical difference {difference:.2f}", ha="left", va="bottom", fontsize=8)
    for number, (name, value) in enumerate(zip(names, values)):
        left = number < half
        y = -bars - step * (number if left else len(names) - 1 - number)
        edge = low - 0.04 * (high - low) if left else high + 0.04 * (high - low)
        axes.plot([value, value, edge], [0, y, y], color="0.4", linewidth=0.8)
        axes.text(edge, y, f"{name} {value:.2f} " if left else f" {value:.2f} {name}", ha="right" if left else "left", va="center", fontsize=8)
    for number, (first, last) in enumerate(groups, 1):
        axes.plot([values[first] - 0.03, values[last] + 0.03], [-0.2 * number] * 2, color="C3", linewidth=3, solid_capstyle="butt")
    axes.set_title(title, fontsize=9)
    return figure


def joined(values: np.ndarray, difference: float) -> list[tuple[int, int]]:
    """Which methods a critical-difference diagram joins: the longest runs of sorted ranks that span less than the difference, as pairs of first and last."""
    runs = [(i, int(np.searchsorted(values, values[i] + difference, side="left")) - 1) for i in range(len(values))]
    runs = [(first, max(first, last)) for first, last in runs]
    return [run for n, run in enumerate(runs) if run[1] > run[0] and (n == 0 or run[1] > runs[n - 1][1])]


def scaled(row: np.ndarray, way: int) -> np.ndarray:
    """Values from the worst, 0, to the best, 1, where higher (1) or lower (−1) is better; NaN where neither is, or all are alike."""
    finite = row[np.isfinite(row)]
    if not way or not len(finite) or np.ptp(finite) == 0:
        return np.full(len(row), np.nan)
    scaled = (row - finite.min()) / np.ptp(finite)
    return scaled if way > 0 else 1 - scaled
