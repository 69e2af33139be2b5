"""Figures of what judges uncertainties: ROC curves, and the risk of what is answered."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from jxai.naming import propers
from jxai.plot.page import Page, line_style
from jxai.scores import one_of
from jxai.typing import Curve


def roc(lines: Mapping[str, Curve], title: str = "", *, positive: str = "out") -> Figure:
    """ROC curves by score, with their areas; the diagonal says nothing, and where a curve meets the dotted line its false positive rate is FPR95.

    Args:
      lines: by score (a label has its proper name: `jxai.naming`), what `jxai.uncertainty.detection.roc` returned. title: above.
      positive: as it was given there: what is found, `"out"` of distribution or `"in"`.

    Raises:
      ValueError: no lines, or what is no curve from (0, 0) to (1, 1); an unknown class.
    """
    one_of("positive", positive, ("out", "in"))
    held = _curves(lines)
    for name, (x, y) in held.items():
        if not np.allclose([x[0], y[0], x[-1], y[-1]], [0, 0, 1, 1]):
            raise ValueError(f"lines[{name!r}] must be a ROC curve, from (0, 0) to (1, 1), but goes from ({x[0]:g}, {y[0]:g}) to ({x[-1]:g}, {y[-1]:g})")
    figure = Page(figsize=(5.6, _height(held)), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color="0.75", linewidth=0.8)
    axes.axhline(0.95, color="0.6", linewidth=0.8, linestyle=":")
    for number, (name, (x, y)) in enumerate(zip(propers(held).values(), held.values())):
        axes.plot(x, y, **line_style(number), label=f"{name} {np.trapezoid(y, x):.3f}")
    found, taken = ("out of", "in") if positive == "out" else ("in", "out of")
    axes.set(title=title, xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
    axes.set(xlabel=f"false positive rate ({taken} distribution)", ylabel=f"true positive rate ({found} distribution)")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), title="area", title_fontsize=7)
    return figure


def risk_coverage(lines: Mapping[str, Curve], title: str = "", *, best: Curve | None = None, label: str = "selective risk") -> Figure:
    """The risk of what is answered by its share, by score, with the areas; the end on the right, where all is answered, is the same for scores of one model.

    Args:
      lines: by score (a label has its proper name: `jxai.naming`), what `jxai.uncertainty.selective.risk_coverage` returned. title: above.
      best: the curve of the best order (`risk_coverage(loss, loss)` of distinct losses), drawn in grey. label: of the y axis.

    Raises:
      ValueError: no lines, or what is no curve over coverage from 0 to 1.
    """
    held, grey = _curves(lines), [] if best is None else [_curve("best", best)]
    for name, (x, _) in [*((f"lines[{name!r}]", line) for name, line in held.items()), *(("best", line) for line in grey)]:
        if not np.allclose([x[0], x[-1]], [0, 1]):
            raise ValueError(f"{name} must be a curve over coverage from 0 to 1, but goes from {x[0]:g} to {x[-1]:g}")
    figure = Page(figsize=(6.4, _height(held)), layout="constrained")
    axes = figure.add_subplot()
    drawn = [(name, line, line_style(number)) for number, (name, line) in enumerate(zip(propers(held).values(), held.values()))]
    for name, (x, y), style in [*drawn, *(("best order", line, {"color": "0.6", "linewidth": 1.0}) for line in grey)]:
        axes.plot(x, y, **style, label=f"{name} {np.trapezoid(y, x):.3g}")
    axes.set(title=title, xlabel="coverage: share that is answered", ylabel=label, xlim=(0, 1))
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), title="area", title_fontsize=7)
    return figure


def _height(held: Mapping[str, object]) -> float:
    """Inches that a legend of so many lines needs."""
    return max(4.2, 0.18 * len(held) + 0.6)


def _curves(lines: Mapping[str, Curve]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    if not isinstance(lines, Mapping) or not lines:
        raise ValueError("lines must hold at least one curve, {name: curve}")
    return {name: _curve(f"lines[{name!r}]", line) for name, line in lines.items()}


def _curve(name: str, line: Curve) -> tuple[np.ndarray, np.ndarray]:
    if not isinstance(line, tuple) or len(line) < 2:
        raise ValueError(f"{name} must be a Curve, got {type(line).__name__}")
    x, y = (np.asarray(v, np.float64) for v in line[:2])
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2 or not (np.isfinite(x).all() and np.isfinite(y).all()) or (np.diff(x) < 0).any():
        raise ValueError(f"{name} must have x [points], ascending, and y [points], finite, got shapes {x.shape} and {y.shape}")
    return x, y
