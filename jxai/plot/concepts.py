"""Figures of concepts: channels × the examples that speak most for them, beside where each channel was in one image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from scipy import ndimage

from jxai.plot.blending import blend, normalize, reduce_channels, rgb
from jxai.plot.page import Page

_FAINT = 0.25
"""How much of its colour and contrast a picture keeps where nothing was seen."""


def concepts(
    x: ArrayLike,
    maps: ArrayLike,
    crops: Sequence[Sequence[tuple[ArrayLike, ArrayLike]]],
    names: Sequence[str] | None = None,
    captions: Sequence[Sequence[str]] | None = None,
    *,
    title: str = "",
) -> Figure:
    """A row for each channel: where it was in the image, and crops of its references, in which what the channel saw keeps its colours.

    Args:
      x: the image, `[H, W, C]`. maps: `[T, H, W, C]` (or 1 channel), what of x was relevant through each channel.
      crops: for each channel its references, pairs of a picture `[h, w, C]` and its map `[h, w, C]` (or 1 channel), as many as there are.
      names: of the channels. captions: of the references. title: above.

    Raises:
      ValueError: no channels, maps that are not of x, or names or captions of another number.
    """
    x, maps = np.asarray(x), np.asarray(maps)
    if x.ndim != 3 or maps.ndim != 4 or not len(maps) or maps.shape[1:3] != x.shape[:2]:
        raise ValueError(f"x must be [H, W, C] and maps [T, {', '.join(map(str, x.shape[:2]))}, C], got {x.shape} and {maps.shape}")
    names = [str(n) for n in range(len(maps))] if names is None else names
    captions = [[""] * len(row) for row in crops] if captions is None else captions
    if not len(crops) == len(names) == len(maps) or [len(row) for row in captions] != [len(row) for row in crops]:
        raise ValueError(f"crops, names and captions must be of {len(maps)} channels, got {len(crops)}, {len(names)} and {[len(row) for row in captions]}")
    columns = 1 + max(len(row) for row in crops)
    figure = Page(figsize=(1.5 * columns + 0.2, 1.62 * len(maps) + 0.4), layout="constrained")
    panels = figure.subplots(len(maps), columns, squeeze=False)
    for row, axes in enumerate(panels):
        _show(axes[0], over(x, maps[row]), "")
        axes[0].set_ylabel(textwrap.fill(names[row], 24), fontsize=8)
        for axis, (picture, seen), caption in zip(axes[1:], crops[row], captions[row]):
            _show(axis, spotlight(picture, seen), textwrap.shorten(caption, 26, placeholder=" …"))
        for axis in axes[1 + len(crops[row]) :]:
            axis.set_axis_off()
    panels[0, 0].set_title("the image", fontsize=8, fontweight="bold")
    figure.suptitle(title, fontsize=10)
    return figure


def over(x: ArrayLike, seen: ArrayLike, sigma: float = 0.02) -> np.ndarray:
    """A signed map over the image as `blend` has it, its single pixels joined by a blur of `sigma` of the longer side: RGB in [0, 1]."""
    return blend(x, _joined(reduce_channels(seen), sigma)[..., None], signed=True)


def spotlight(picture: ArrayLike, seen: ArrayLike, sigma: float = 0.03) -> np.ndarray:
    """The picture as RGB in [0, 1], in its own colours where the map is large, pale and grey elsewhere.

    Args:
      picture: `[H, W, C]`. seen: a map of it; signs do not count. sigma: of the blur that joins single pixels, as a share of the longer side.
    """
    shown = rgb(picture)
    weight = normalize(_joined(np.abs(reduce_channels(seen)), sigma), signed=False).values
    weight = _FAINT + (1 - _FAINT) * np.sqrt(np.broadcast_to(weight, shown.shape[:2]))[..., None]
    pale = 0.75 + 0.25 * shown.mean(-1, keepdims=True)
    return np.clip(weight * shown + (1 - weight) * pale, 0, 1)


def _joined(a: np.ndarray, sigma: float) -> np.ndarray:
    """A map `[H, W]` with single pixels joined by a blur of this share of the longer side."""
    return ndimage.gaussian_filter(np.nan_to_num(a), sigma * max(a.shape))


def _show(axes, picture: np.ndarray, caption: str) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_linewidth(0.3)
    axes.set_xlabel(caption, fontsize=6.5, labelpad=1.5)
