"""Pictures that were made for features, and maps of the channels of a layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from numpy.typing import ArrayLike

from jxai.plot.blending import rgb
from jxai.plot.page import Page
from jxai.scores import positive

_COLOURS = 10
"""Groups with a colour of their own; all others are grey."""
_OTHERS = "0.75"


def visualizations(
    images: Any, names: Sequence[str] | None = None, *, transparency: ArrayLike | None = None, percentile: float = 80.0, columns: int = 6
) -> Figure:
    """Pictures that excite features, row by row, with a name above each.

    Args:
      images: `[n, H, W, C]` or n of them `[H, W, C]`, in [0, 1]; or a `jxai.concepts.Visualization` of one or of n, whose transparency then counts unless another is given.
      names: of the pictures. columns: pictures in a row, at most.
      transparency: `[n, H, W, C]`, at least 0: opacity is its mean over channels, as a share of its `percentile` (one of all its values, as in Xplique); 100 clips nothing.

    Raises:
      ValueError: no pictures, or names or transparencies of another number or size.
    """
    positive(columns=columns)
    if not 0 < percentile <= 100:
        raise ValueError(f"{percentile=} must be in (0, 100]")
    if hasattr(images, "transparency"):
        transparency = images.transparency if transparency is None else transparency
        images = images.image
    images = images if isinstance(images, (list, tuple)) else np.asarray(images)
    images = [np.asarray(image) for image in (images[None] if getattr(images, "ndim", 4) == 3 else images)]
    if not images or any(image.ndim != 3 for image in images):
        raise ValueError(f"images must be [n, H, W, C], one at least, got {[image.shape for image in images[:3]]}")
    if names is not None and len(names) != len(images):
        raise ValueError(f"names must be of {len(images)} images, got {len(names)}")
    if transparency is not None:
        given = np.asarray(transparency)
        given = given[None] if given.ndim == 3 else given
        if len(given) != len(images) or any(t.ndim != 3 or t.shape[:2] != image.shape[:2] for t, image in zip(given, images)):
            raise ValueError(f"transparency has shape {given.shape}, but images are {len(images)} of {images[0].shape}")
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    figure = Page(figsize=(1.7 * columns, (1.9 if names is not None else 1.72) * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for n, panel in enumerate(panels):
        panel.set_axis_off()
        if n < len(images):
            shown = rgb(images[n])
            if transparency is not None:
                shown = _over_white(shown, given[n].mean(-1), percentile)
            panel.imshow(shown, interpolation="nearest")
            panel.set_title("" if names is None else str(names[n]), fontsize=8)
    return figure


def atlas(
    place: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    names: Sequence[str] | None = None,
    shown: Sequence[int] = (),
    pictures: Sequence[ArrayLike] | None = None,
    labels: Sequence[str] | None = None,
    zoom: float = 0.45,
) -> Figure:
    """Channels as points in a plane, those that are shown with a picture or a text.

    Args:
      place: `[C, 2]`, of `jxai.concepts.atlas`; channels at NaN are left out.
      groups: `[C]` integers, at least 0, such as the class that each channel serves most: the ten most frequent have a colour, all others are grey. names: of the groups, by number.
      shown: channels. pictures: of these, `[H, W, C]`, an inch for 100 pixels × `zoom`. labels: of these, below their places.

    Raises:
      ValueError: places that are none, groups of another number, channels that have no place, pictures or labels of another number.
    """
    place = np.asarray(place, np.float64)
    if place.ndim != 2 or place.shape[1:] != (2,) or not len(place):
        raise ValueError(f"place must be [C, 2], got {place.shape}")
    there = np.isfinite(place).all(1)
    group = np.zeros(len(place), int) if groups is None else np.asarray(groups)
    if group.shape != (len(place),):
        raise ValueError(f"groups must be [{len(place)}], an integer for each channel, got {group.shape}")
    for what, given in (("pictures", pictures), ("labels", labels)):
        if given is not None and len(given) != len(shown):
            raise ValueError(f"{what} must be of the {len(shown)} channels that are shown, got {len(given)}")
    if wrong := [int(c) for c in shown if not 0 <= c < len(place) or not there[c]]:
        raise ValueError(f"shown={wrong} have no place among {len(place)} channels")
    figure = Page(figsize=(7, 5.5), layout="constrained")
    axes = figure.subplots()
    axes.set_axis_off()
    numbers, sizes = np.unique(group[there], return_counts=True)
    coloured = [] if groups is None else numbers[np.argsort(-sizes, kind="stable")][:_COLOURS]
    rest = there & ~np.isin(group, coloured)
    axes.scatter(
        *place[rest].T, s=14, color=_OTHERS if groups is not None else "C0", linewidths=0, label="others" if groups is not None and rest.any() else None
    )
    for n, number in enumerate(coloured):
        own = there & (group == number)
        axes.scatter(*place[own].T, s=20, color=f"C{n}", linewidths=0, label=str(number) if names is None else str(names[number]))
    for n, channel in enumerate(shown):
        if pictures is not None:
            box = OffsetImage(rgb(pictures[n]), zoom=zoom)
            axes.add_artist(AnnotationBbox(box, place[channel], pad=0.1, bboxprops={"linewidth": 0.5}))
        if labels is not None:
            axes.annotate(str(labels[n]), place[channel], fontsize=6, ha="center", va="top", xytext=(0, -4), textcoords="offset points")
    if len(coloured):
        figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    return figure


def _over_white(picture: np.ndarray, weight: np.ndarray, percentile: float) -> np.ndarray:
    """The picture where it has weight, white where it has none."""
    most = np.percentile(weight, percentile)
    opacity = np.clip(weight / (most if most > 0 else weight.max() or 1), 0, 1)[..., None]
    return picture * opacity + 1 - opacity
