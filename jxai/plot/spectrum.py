"""Clusters of explanations: eigenvalues, a layout, and the mean map and examples of every cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jxai.plot.blending import Scaled, blend, normalize, paint, reduce_channels, within
from jxai.plot.page import Page

_CLUSTERS = 10
"""That are drawn, the largest ones."""


def spectrum(
    found: Any,
    means: np.ndarray | Sequence[ArrayLike] | None = None,
    examples: Sequence[Sequence[tuple[ArrayLike, ArrayLike]]] | None = None,
    *,
    signed: bool | None = None,
    notes: Sequence[str] = (),
    title: str = "",
) -> Figure:
    """What `jxai.dataset.spray` found: its eigenvalues, its layout coloured by cluster, and a row for each cluster.

    Args:
      found: a `jxai.dataset.Spectrum`. means: `[clusters, H, W, C]`, the mean map of each, all on one scale; None draws no rows.
      examples: of each cluster some examples `[H, W, C]` with their maps, each on its own scale. signed: whether 0 is the middle of maps; None looks at them.
      notes: a text for each cluster, below its size. title: above.

    Raises:
      ValueError: means, examples or notes of another number than there are clusters.
    """
    labels, count = np.asarray(found.labels), found.num_clusters
    for name, given in (("means", means), ("examples", examples), ("notes", notes or None)):
        if given is not None and len(given) != count:
            raise ValueError(f"{name} must have one entry for each of {count} clusters, got {len(given)}")
    rows = 0 if means is None and examples is None else min(count, _CLUSTERS)
    shown = max((len(one) for one in examples), default=0) if examples is not None else 0
    figure = Page(figsize=(max(7.0, 1.25 * (shown + 1) + 1.4), 3.2 + 1.3 * rows), layout="constrained")
    top, below = figure.subfigures(2, 1, height_ratios=[3.2, 1.3 * rows]) if rows else (figure, None)
    left, right = top.subplots(1, 2)
    _eigenvalues(left, found)
    _layout(right, found, labels)
    if title:
        figure.suptitle(title, fontsize=10)
    if below is not None:
        axes = below.subplots(rows, shown + 1, squeeze=False)
        scale = normalize(np.concatenate([reduce_channels(np.asarray(m)).ravel() for m in means]), 99.0, signed) if means is not None else None
        for c in range(rows):
            size = int((labels == c).sum())
            text = "\n".join([f"{c}: {size} ({size / len(labels):.0%})", *([notes[c]] if notes else [])])
            axes[c, 0].set_ylabel(text, color=_color(c), fontsize=8, rotation=0, ha="right", va="center")
            if means is not None:
                _mean(axes[c, 0], np.asarray(means[c]), scale, "mean map" if c == 0 else "")
            for n in range(shown):
                pair = examples[c][n] if n < len(examples[c]) else None
                _example(axes[c, n + 1], pair, signed)
    return figure


def _color(cluster: int) -> str:
    return f"C{cluster % 10}"


def _eigenvalues(axes: Any, found: Any) -> None:
    """The eigenvalues in order, and after how many the clusters are."""
    values = np.asarray(found.eigenvalues)
    axes.plot(np.arange(1, len(values) + 1), values, "o", color="0.3", markersize=3)
    axes.axvline(found.num_clusters + 0.5, color="C3", linewidth=0.8)
    axes.set_title(f"eigenvalues; {found.num_clusters} clusters of {len(found.labels)} examples", fontsize=9)
    axes.set_xlabel("number", fontsize=8)
    axes.set_ylim(bottom=min(0.0, float(values.min())) - 0.02 * float(values.max() or 1))
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)


def _layout(axes: Any, found: Any, labels: np.ndarray) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if found.layout is None:
        axes.text(0.5, 0.5, "no layout was asked for", ha="center", va="center", fontsize=8, transform=axes.transAxes)
        return
    place = np.asarray(found.layout)
    for c in range(found.num_clusters):
        own = labels == c
        axes.plot(*place[own].T, "o", color=_color(c), markersize=3, markeredgewidth=0, alpha=0.8, label=str(c))
    axes.set_title("layout of the first eigenvectors", fontsize=9)
    axes.legend(fontsize=7, markerscale=1.5, loc="best", framealpha=0.6)


def _mean(axes: Any, mean: np.ndarray, scale: Scaled, title: str) -> None:
    axes.imshow(paint(None, within(reduce_channels(mean), scale.low, scale.high, scale.signed), 1.0), interpolation="nearest")
    axes.set_title(title, fontsize=8)
    _bare(axes)


def _example(axes: Any, pair: tuple[ArrayLike, ArrayLike] | None, signed: bool | None) -> None:
    _bare(axes)
    if pair is None:
        axes.set_axis_off()
        return
    image, attribution = (np.asarray(v) for v in pair)
    axes.imshow(blend(image, attribution, signed=signed), interpolation="nearest")


def _bare(axes: Any) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_linewidth(0.3)
