"""Charts as SVG in the page's own colours, which change with light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from jxai.pages.html import environment
from jxai.pages.parts import Chart, Key, number
from jxai.plot.evaluation import joined

_WIDTH, _HEIGHT = 460, 280
_WIDE, _NAMES = 540, 178
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 38


def curves(
    lines: Mapping[str, tuple[np.ndarray, np.ndarray]],
    title: str,
    *,
    label: str = "share of features",
    shown: Mapping[str, int] | None = None,
    threshold: float | None = None,
) -> Chart:
    """The mean of each method's curves, with a band of ± 1.96 standard errors, as `jxai.plot.curves`.

    Args:
      lines: by method, x `[points]` and y `[n, points]`. title: above. label: of the x axis. shown: the number of each method's colour, by default its place.
      threshold: drawn as a line across.
    """
    drawn = []
    for place, (name, (x, y)) in enumerate(lines.items()):
        y = np.atleast_2d(np.asarray(y, np.float64))
        error = 1.96 * y.std(0, ddof=min(1, len(y) - 1)) / np.sqrt(len(y))
        drawn.append((name, place if shown is None else shown[name], np.asarray(x, np.float64), y.mean(0), error))
    xs, ys = np.concatenate([x for _, _, x, _, _ in drawn]), np.concatenate([np.concatenate([m - e, m + e]) for *_, m, e in drawn])
    ys = np.append(ys, threshold) if threshold is not None else ys
    x_ticks, y_ticks = ticks(xs.min(), xs.max()), ticks(ys.min(), ys.max())
    at_x = _scale(min(xs.min(), x_ticks[0]), max(xs.max(), x_ticks[-1]), _LEFT, _WIDTH - _RIGHT)
    at_y = _scale(min(ys.min(), y_ticks[0]), max(ys.max(), y_ticks[-1]), _HEIGHT - _BOTTOM, _TOP)
    paths = []
    for name, color, x, mean, error in drawn:
        line = list(zip(at_x(x), at_y(mean)))
        band = [*zip(at_x(x), at_y(mean + error)), *reversed(list(zip(at_x(x), at_y(mean - error))))] if error.any() else []
        paths.append({"name": name, "color": color, "line": _points(line), "band": _points(band)})
    svg = (
        environment()
        .get_template("curves.svg")
        .render(
            title=title,
            label=label,
            paths=paths,
            x_ticks=[(float(at_x(t)), number(t)) for t in x_ticks],
            y_ticks=[(float(at_y(t)), number(t)) for t in y_ticks],
            threshold=None if threshold is None else float(at_y(threshold)),
            size=(_WIDTH, _HEIGHT),
            edges=(_LEFT, _WIDTH - _RIGHT, _TOP, _HEIGHT - _BOTTOM),
        )
    )
    areas = {name: float(np.trapezoid(mean, x) / (np.ptp(x) or 1)) for name, _, x, mean, _ in drawn}
    alt = f"{title}: mean curves over {label}; mean height " + ", ".join(f"{name} {number(area)}" for name, area in sorted(areas.items(), key=lambda v: -v[1]))
    return Chart(title, svg, alt, [Key(name, color) for name, color, *_ in drawn])


def critical_difference(ranks: Mapping[str, float], difference: float, title: str, *, shown: Mapping[str, int] | None = None) -> Chart:
    """Mean ranks on a line, 1 the best; bars join the methods that differ by less than the critical difference, as `jxai.plot.critical_difference`.

    Args:
      ranks: by method. difference: Nemenyi's. shown: the number of each method's colour, by default its place.

    Reference: Demšar 2006, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR, fig. 1.
    """
    names = sorted(ranks, key=lambda name: (ranks[name], name))
    values = np.asarray([ranks[name] for name in names])
    together = joined(values, difference)
    low, high = 1, max(len(names), math.ceil(values.max()), 2)
    half, step, top = -(-len(names) // 2), 19, 52
    first = top + 12 + 8 * len(together)
    height = first + step * half + 4
    at = _scale(low, high, _NAMES + 6, _WIDE - _NAMES - 6)
    rows = []
    for place, (name, value) in enumerate(zip(names, values)):
        left = place < half
        y = first + step * (place if left else len(names) - 1 - place) + 6
        edge = _NAMES if left else _WIDE - _NAMES
        color = list(ranks).index(name) if shown is None else shown[name]
        rows.append({"name": name, "rank": f"{value:.2f}", "x": float(at(value)), "y": y, "edge": edge, "left": left, "color": color})
    svg = (
        environment()
        .get_template("critical_difference.svg")
        .render(
            title=title,
            rows=rows,
            bars=[(float(at(values[a])) - 3, float(at(values[b])) + 3, top + 9 + 8 * n) for n, (a, b) in enumerate(together)],
            ticks=[(float(at(t)), str(t)) for t in range(low, high + 1)],
            difference=(f"{difference:.2f}", float(at(low)), float(min(at(low + difference), at(high)))),
            size=(_WIDE, height),
            top=top,
        )
    )
    told = ", ".join(f"{name} {value:.2f}" for name, value in zip(names, values))
    alike = "; ".join("no difference within " + ", ".join(names[a : b + 1]) for a, b in together)
    return Chart(title, svg, f"Mean ranks of {title}, 1 the best: {told}. {alike}".strip())


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers that reach over a range, at most so many and one: steps of 1, 2 or 5 times a power of ten."""
    if not high > low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{n * step:.12g}") + 0.0 for n in range(first, last + 1)]


def _scale(low: float, high: float, start: float, end: float):
    """A value's place in the drawing, to a tenth of a unit."""
    return lambda value: np.round(start + (np.asarray(value, np.float64) - low) / ((high - low) or 1) * (end - start), 1)


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in points)
