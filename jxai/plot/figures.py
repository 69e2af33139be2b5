"""Pages: one attribution, or methods × targets beside the example: an image, a series, a vector or a video."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from jxai.files import atomic
from jxai.naming import proper
from jxai.plot import series
from jxai.plot.blending import NOT_FINITE, Scaled, blend, colors, normalize, reduce_channels, rgb
from jxai.plot.page import END_WORDS, Page, bar_names, words_within
from jxai.plot.signs import signs_of

_FRAMES, _BARS = 8, 20


def overlay(image: ArrayLike | None, attribution: ArrayLike, *, title: str = "", names: Sequence[str] | None = None, **options: Any) -> Figure:
    """One attribution with its colour bar: over an image, behind a series, as a strip of frames (video), or as bars (vector).

    Args:
      image: the example; None for a white ground. attribution: `[H, W, C]`, `[T, H, W, C]`, `[T, C]` or `[D]`.
      title: above the picture. names: of a vector's features or a series' channels. options: of `blend`.
    """
    a = np.asarray(attribution)
    if a.ndim == 0:
        raise ValueError("attribution must be [D], [T, C], [H, W, C] or [T, H, W, C], got a scalar")
    _all_named(names, a.shape if image is None else np.shape(image))
    figure = Page(figsize=(5.4 if a.ndim < 4 else 12, 4.2 if a.ndim < 4 else 3), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, None if image is None else np.asarray(image), a, names, _shown([a], a if image is None else np.asarray(image)), options)
    axes.set_title(title)
    if a.ndim > 1:
        scaled = normalize(_reduced(a, options.get("channels", "sum")), options.get("percentile", 99.0), options.get("signed"))
        _colorbar(figure, axes, scaled)
    return figure


def explanations(
    x: ArrayLike,
    maps: Mapping[str, ArrayLike],
    targets: Sequence[str] = ("",),
    *,
    title: str = "",
    columns: int | None = None,
    names: Sequence[str] | None = None,
    signed: bool | Mapping[str, bool | None] | None = None,
    **options: Any,
) -> Figure:
    """What several methods say of an example, beside it: methods × targets, every map on its own scale.

    Args:
      x: the example, `[H, W, C]`, `[T, H, W, C]`, `[T, C]` or `[D]`.
      maps: by method (a label has its proper name as title: `jxai.naming`), its map, which has x's rank; or those of several targets, `[len(targets), …]`.
      targets: what is explained, in words. One target fills the page in rows; several make one row for each.
      title: above everything. columns: panels in a row, with one target. names: of a vector's features or a series' channels.
      signed: whether 0 is the middle of all maps, or by label; None asks `jxai.attribution.is_signed`, and looks at the map of a method that is not jxai's.
      options: of `blend`.

    Raises:
      ValueError: no maps, or maps that are not of x or not as many as the targets; names or signs of others than are there.
    """
    x = np.asarray(x)
    if not isinstance(maps, Mapping) or not maps:
        raise ValueError(f"maps must hold at least one map, {{label: map}}, got {type(maps).__name__}")
    if not 1 <= x.ndim <= 4 or x.size == 0:
        raise ValueError(f"x must be [D], [T, C], [H, W, C] or [T, H, W, C], got shape {x.shape}")
    if columns is not None and columns < 1:
        raise ValueError(f"{columns=} must be a positive integer")
    _all_named(names, x.shape)
    targets = (targets,) if isinstance(targets, str) else tuple(map(str, targets))
    signs = signs_of(maps, signed)
    held = {name: _of_targets(name, np.asarray(a), x, len(targets)) for name, a in maps.items()}
    single = len(targets) == 1
    count = len(held) + 1
    columns = (columns or (_near_square(count) if x.ndim == 3 else 2 if x.ndim == 1 else 1)) if single else count
    rows = -(-count // columns) if single else len(targets)
    figure, axes = _page(rows, columns, x.shape)
    shown = _shown([np.asarray(a) for group in held.values() for a in group], x)
    figure.suptitle(title, fontsize=12, y=1 - 0.12 / figure.get_figheight(), va="top")
    for row, target in enumerate(targets):
        cells = axes.flat if single else axes[row]
        for axis, (name, a) in zip(cells, [("", None), *((name, np.asarray(a[row])) for name, a in held.items())]):
            _draw(axis, x, a, names, shown, {**options, "signed": signs.get(name)})
            if a is None:
                axis.set_title(textwrap.shorten(target, 32, placeholder=" …"), fontsize=9, fontweight="bold")
            elif single or row == 0:
                axis.set_title(proper(name), fontsize=9)
    for axis in axes.flat[count * (1 if single else rows) :]:
        axis.set_axis_off()
    if x.ndim > 1:
        _legend(figure, [(signs.get(name), m) for name, a in held.items() for m in a], options)
    return figure


def _of_targets(name: str, a: np.ndarray, x: np.ndarray, count: int) -> np.ndarray:
    """The maps `[count, …]` of a method, which may have given one alone."""
    a = a[None] if a.ndim == x.ndim and count == 1 else a
    if a.ndim != x.ndim + 1 or len(a) != count:
        one = f", or one map of x's rank {x.ndim}" if count == 1 else ""
        raise ValueError(f"maps[{name!r}] must hold a map for each of {count} targets, [{count}, …]{one}, got shape {a.shape} for x {x.shape}")
    _of_x(f"maps[{name!r}]", a.shape[1:], x.shape)
    return a


def _of_x(name: str, shape: tuple[int, ...], x: tuple[int, ...]) -> None:
    """Raises ValueError where a map of x's rank is not of x; an image's may have other channels, of which it shows the sum."""
    places = len(x) if len(x) < 3 else len(x) - 1
    if any(own != size and (own != 1 or len(x) == 1) for own, size in zip(shape[:places], x)):
        raise ValueError(f"{name} must be of x's shape {x}, or 1 along an axis, got {shape}")


def _all_named(names: Sequence[str] | None, shape: tuple[int, ...]) -> None:
    if names is not None and len(shape) < 3 and len(names) != shape[-1]:
        raise ValueError(f"names must name each of {shape[-1]} {'features' if len(shape) == 1 else 'channels'}, got {len(names)}")


def save(figure: Figure, path: str | Path, dpi: float | None = None) -> None:
    """Writes a figure atomically; the suffix names the format. The same figure is the same PDF, whenever it is written.

    Args:
      dpi: pixels for each inch; None is the figure's own, 100, or 300 of `grid`.
    """
    with atomic(path) as part:
        figure.savefig(part, dpi="figure" if dpi is None else dpi, **({"metadata": {"CreationDate": None}} if part.suffix == ".pdf" else {}))


def _draw(axes, image, attribution, names, shown, options) -> None:
    """The example itself (attribution None) or a map over it, by the rank of the example."""
    rank = np.ndim(attribution if image is None else image)
    if attribution is not None and np.ndim(attribution) != rank:
        raise ValueError(f"attribution must have the image's rank {rank}, got shape {np.shape(attribution)}")
    if attribution is not None and image is not None:
        _of_x("attribution", np.shape(attribution), np.shape(image))
    if rank == 1:
        _bars(axes, image if attribution is None else attribution, names, shown, attribution is None, options.get("signed") is not False)
        return
    if rank == 2:
        series.draw(axes, image, attribution, shown, names, options)
        return
    if rank not in (3, 4):
        raise ValueError(f"image must be [D], [T, C], [H, W, C] or [T, H, W, C], got rank {rank}")
    if rank == 3:
        picture = rgb(image) if attribution is None else blend(image, attribution, **options)
    else:
        picture = _strip(image, attribution, options)
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()


def _shown(maps: list[np.ndarray], x: np.ndarray) -> np.ndarray | None:
    """Which entries of a vector or channels of a series are drawn; None of what is drawn whole."""
    return _largest(maps) if x.ndim == 1 else series.largest(maps, *x.shape) if x.ndim == 2 else None


def _reduced(a: np.ndarray, channels: str) -> np.ndarray:
    """What is scaled: a map without its channels, but a series with them."""
    return np.asarray(a) if np.ndim(a) == 2 else reduce_channels(a, channels)


def _largest(vectors) -> np.ndarray:
    """The entries that are drawn, in order: those largest in any of the vectors, each on its own scale."""
    scaled = np.nan_to_num([np.abs(v) / (np.nanmax(np.abs(v), initial=0) or 1) for v in np.asarray(vectors, np.float32)], nan=np.inf)
    return np.sort(np.argsort(-scaled.max(0), kind="stable")[:_BARS])


def _bars(axes, values, names, shown, plain: bool, signed: bool) -> None:
    """Horizontal bars of some entries of a vector."""
    values = np.asarray(values, np.float32)
    colour = ["0.5" if plain else colors(0.8 if value >= 0 or not signed else -0.8, signed) for value in values[shown]]
    axes.barh(np.arange(len(shown)), np.nan_to_num(values[shown]), color=colour)
    for row in np.flatnonzero(~np.isfinite(values[shown])):
        axes.text(0, row, " not finite", va="center", fontsize=7, backgroundcolor=NOT_FINITE)
    bar_names(axes, shown, len(values), names)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.spines[["top", "right"]].set_visible(False)


def _strip(video, attribution, options) -> np.ndarray:
    """Up to eight evenly spaced frames side by side, on one scale."""
    length, height, width = (attribution if video is None else video).shape[:3]
    frames = np.unique(np.linspace(0, length - 1, min(length, _FRAMES)).round().astype(int))

    def side_by_side(v):
        return None if v is None else np.concatenate([np.broadcast_to(v, (length, height, width, v.shape[-1]))[t] for t in frames], 1)

    ground = side_by_side(video)
    return rgb(ground) if attribution is None else blend(ground, side_by_side(np.asarray(attribution)), **options)


def _page(rows: int, columns: int, shape: tuple[int, ...]) -> tuple[Figure, np.ndarray]:
    """A figure with a panel of the example's proportions for every cell, laid out in inches: titles, panels, legend."""
    if len(shape) == 1:
        width, height, left, gap = 2.6, 0.17 * min(shape[0], _BARS) + 0.3, 1.1, 0.55
    elif len(shape) == 2:
        width, height, left, gap = 7.0, 0.5 * max(2, min(shape[1], series.CHANNELS)), 0.8, 0.7
    elif len(shape) == 3:
        width, height, left, gap = 2.3, 2.3 * shape[0] / shape[1], 0.08, 0.3
    else:
        width, height, left, gap = 9.0, 9.0 * shape[1] / (shape[2] * min(shape[0], _FRAMES)), 0.08, 0.3
    top, bottom = 0.7, {1: 0.5, 2: 1.0}.get(len(shape), 0.75)
    size = columns * (width + left) + 0.08, rows * height + (rows - 1) * gap + top + bottom
    figure = Page(figsize=size)
    edges = {"left": left / size[0], "right": 1 - 0.08 / size[0], "bottom": bottom / size[1], "top": 1 - top / size[1]}
    return figure, figure.subplots(rows, columns, squeeze=False, gridspec_kw={**edges, "wspace": left / width, "hspace": gap / height})


def _legend(figure: Figure, maps, options) -> None:
    """One bar for each colour map in use, on mid-grey; every map has its own scale, so the bars name ends, not numbers."""
    percentile, channels = options.get("percentile", 99.0), options.get("channels", "sum")
    used = {normalize(_reduced(m, channels), percentile, signed).signed for signed, m in maps}
    width, height = figure.get_size_inches()
    for place, signed in enumerate(sorted(used, reverse=True)):
        left = 0.5 + 0.46 * (place - len(used) / 2) + 0.03
        axes = figure.add_axes((left, 0.46 / height, 0.4, 0.13 / height))
        ramp = np.linspace(-1 if signed else 0, 1, 256)[None, :, None]
        axes.imshow(blend(np.full((1, 256, 1), 0.5), ramp, **{**options, "percentile": 100, "signed": signed}), aspect="auto")
        axes.set_xticks(np.linspace(0, 255, len(END_WORDS[bool(signed)])), END_WORDS[bool(signed)], fontsize=8)
        words_within(axes)
        axes.tick_params(length=0)
        axes.set_yticks([])
    note = f"Every map has its own scale, clipped at the {percentile:g}th percentile." if percentile < 100 else "Every map has its own scale."
    figure.text(0.5, 0.06 / height, note, fontsize=8, ha="center", color="0.35")


def _colorbar(figure: Figure, axes, scaled: Scaled) -> None:
    limits = (scaled.low, scaled.high if scaled.high > scaled.low else scaled.low + 1)
    ramp = matplotlib.colors.ListedColormap(colors(np.linspace(-1 if scaled.signed else 0, 1, 256), scaled.signed))
    source = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(*limits), ramp)
    figure.colorbar(source, ax=axes, fraction=0.05)


def _near_square(count: int) -> int:
    """Columns of a page that is a little wider than high, with few cells left empty."""
    wide = max(math.isqrt(count), math.ceil(math.sqrt(1.6 * count)))
    return min(range(max(1, wide - 1), min(count, wide + 1) + 1), key=lambda c: (-(-count // c) * c - count, abs(c - wide)))
