"""Reliability diagrams: how often predictions come true, over how sure they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jxai.plot.page import Page, line_style


def reliability(found: Any, *, title: str = "") -> Figure:
    """Accuracy over confidence, bin by bin with its interval, beside the diagonal of the calibrated; below it, where the predictions are.

    Args:
      found: what `jxai.uncertainty.calibration.reliability` returned, one model's or `{name: one}` of several. A single one has its gaps to the diagonal shaded; every
        class's bins (`kind="classwise"`) are a line for each.
      title: above.

    Raises:
      ValueError: nothing to draw, or something else.
    """
    several = found if isinstance(found, Mapping) else {"": found}
    lines = [line for name, one in several.items() for line in _lines(name, one)]
    if not lines:
        raise ValueError("found must hold at least one reliability, {name: reliability(…)}")
    figure = Page(figsize=(4.4, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=[3.4, 1], sharex=True)
    above.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
    for n, (name, values) in enumerate(lines):
        style = line_style(n)
        confidence, accuracy, low, high, count = values
        if len(lines) == 1:
            above.vlines(confidence, np.minimum(confidence, accuracy), np.maximum(confidence, accuracy), color="C3", alpha=0.35, linewidth=7)
        errors = np.maximum([accuracy - low, high - accuracy], 0)
        above.errorbar(confidence, accuracy, errors, **style, marker=".", capsize=2, elinewidth=0.7, label=name or None)
        below.plot(confidence, count / count.sum(), **style, marker=".", markersize=3)
        if len(lines) == 1:
            below.fill_between(confidence, 0, count / count.sum(), color=style["color"], alpha=0.25, linewidth=0)
    above.set(xlim=(0, 1), ylim=(0, 1), ylabel="accuracy", title=title)
    below.set(ylim=(0, None), xlabel="confidence", ylabel="share")
    if any(name for name, _ in lines):
        above.legend(fontsize=7, loc="upper left")
    for axes in (above, below):
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lines(name: str, found: Any) -> list[tuple[str, np.ndarray]]:
    """Of each line its name, and confidence, accuracy, low, high and count of the bins with examples, `[5, bins]`."""
    fields = ("confidence", "accuracy", "low", "high", "count")
    if not all(hasattr(found, field) for field in fields):
        raise ValueError(f"found must be what jxai.uncertainty.calibration.reliability returned, or {{name: one}}, got {type(found).__name__}")
    values = np.stack([np.asarray(getattr(found, field), np.float64) for field in fields])
    rows = [(name, values)] if values.ndim == 2 else [(f"{name} {k}".strip(), values[:, k]) for k in range(values.shape[1])]
    return [(row, v[:, v[4] > 0]) for row, v in rows]
