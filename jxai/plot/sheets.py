"""Contact sheets: many small images in named rows."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from jxai.files import printable
from jxai.plot.blending import rgb
from jxai.plot.page import Page

COLUMNS = 12
"""Images in a line."""


def sheet(rows: Mapping[str, Sequence[tuple[ArrayLike, str, bool]]], title: str = "") -> Figure:
    """Rows of small images, twelve in a line.

    Args:
      rows: by name the images, each `(image [H, W, C], caption, marked)`, uint8 or in [0, 1]; one that is marked has a red frame. title: above.

    Raises:
      ValueError: no image, or one of another rank.
    """
    lines = [(name if start == 0 else "", tiles[start : start + COLUMNS]) for name, tiles in rows.items() for start in range(0, len(tiles), COLUMNS)]
    if not lines:
        raise ValueError("rows must hold at least one image, {name: [(image, caption, marked)]}")
    figure = Page(
        figsize=(0.75 * COLUMNS, 0.35 * bool(title) + sum(1.16 if name else 0.96 for name, _ in lines)), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.1)
    )  # room above a line for its name
    grid = figure.subplots(len(lines), COLUMNS, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for line, (name, tiles) in zip(grid, lines):
        for axes, (image, caption, marked) in zip(line, tiles):
            _draw(axes, image, caption, marked)
        if name:
            head = line[0].annotate(printable(name), (0, 1), (0, 3), "axes fraction", "offset points", fontsize=8, fontweight="bold", annotation_clip=False)
            head.set_in_layout(False)  # it is as wide as it is, and would take the place of the others
    figure.suptitle(title, fontsize=10)
    return figure


def _draw(axes, image: ArrayLike, caption: str, marked: bool) -> None:
    v = np.asarray(image)
    if v.ndim != 3:
        raise ValueError(f"rows must hold images [H, W, C], but that of {caption!r} has shape {v.shape}")
    axes.set_axis_on()
    axes.imshow(rgb(v.astype(np.float32) / (255 if v.dtype == np.uint8 else 1)), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel("\n".join(textwrap.shorten(printable(part), 14, placeholder="…") for part in caption.splitlines()[:2]), fontsize=5.5, labelpad=1)
    for spine in axes.spines.values():
        spine.set(visible=marked, color="C3", linewidth=1.6)
