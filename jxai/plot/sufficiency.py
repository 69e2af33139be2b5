"""What a model was shown: examples with parts replaced, beside the scores that it gave them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jxai.files import printable
from jxai.plot.blending import rgb
from jxai.plot.page import Page


def removals(x: ArrayLike, shown: ArrayLike, scores: ArrayLike, names: Sequence[str], *, titles: Sequence[str] | None = None, score: str = "logit") -> Figure:
    """An image and what is left of it after removals, each above the scores of some classes.

    Args:
      x: `[H, W, C]` in [0, 1]. shown: `[n, H, W, C]`. scores: `[n + 1, m]`, of x and of each. names: of the m classes.
      titles: n + 1 texts above the images. score: what the scores are.

    Raises:
      ValueError: shapes that do not belong together.
    """
    x, shown, scores = (np.asarray(v, np.float32) for v in (x, shown, scores))
    if x.ndim != 3 or shown.shape[1:] != x.shape:
        raise ValueError(f"shown must be [n, H, W, C] for x [H, W, C], got {shown.shape} for {x.shape}")
    if scores.shape != (len(shown) + 1, len(names)):
        raise ValueError(f"scores must be {(len(shown) + 1, len(names))}, got {scores.shape}")
    n = len(shown) + 1
    figure = Page(figsize=(2.6 * n, 3.6), layout="constrained")
    axes = figure.subplots(2, n, squeeze=False, height_ratios=(3, 1))
    span = min(0.0, float(scores.min())), 1.05 * max(float(scores.max()), 1e-6)
    for i, picture in enumerate((x, *shown)):
        axes[0, i].imshow(rgb(picture), interpolation="nearest")
        axes[0, i].set_title(titles[i] if titles else "", fontsize=8)
        axes[0, i].set_xticks([])
        axes[0, i].set_yticks([])
        bars = axes[1, i].barh(np.arange(len(names)), scores[i], color=[f"C{c}" for c in range(len(names))])
        axes[1, i].bar_label(bars, [f"{v:.2g}" for v in scores[i]], fontsize=7, padding=2)
        axes[1, i].set_yticks(np.arange(len(names)), list(map(printable, names)) if i == 0 else [""] * len(names), fontsize=7)
        axes[1, i].set_xlim(*span)
        axes[1, i].invert_yaxis()
        axes[1, i].tick_params(axis="x", labelsize=6)
        axes[1, i].spines[["top", "right"]].set_visible(False)
    axes[1, 0].set_xlabel(score, fontsize=7)
    return figure


def confidence(curves: ArrayLike | Sequence[ArrayLike], threshold: float | None = None, *, title: str = "", ylabel: str = "score") -> Figure:
    """Scores against the share of the features that is held.

    Args:
      curves: `{name: [steps + 1]}`, from all held to none, as `SufficientSubset.curve`. threshold: drawn as a line.
    """
    figure = Page(figsize=(4.2, 3.0), layout="constrained")
    axis = figure.subplots()
    for name, curve in curves.items():
        curve = np.asarray(curve, np.float32)
        axis.plot(np.linspace(100, 0, len(curve)), curve, label=name, linewidth=1.2)
    if threshold is not None:
        axis.axhline(threshold, color="0.4", linewidth=0.8, linestyle="--")
    axis.set_xlabel("features held, %", fontsize=8)
    axis.set_ylabel(ylabel, fontsize=8)
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=7)
    axis.invert_xaxis()
    axis.legend(fontsize=7)
    return figure
