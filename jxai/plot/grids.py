"""A paper's figure: images × methods, with proper names, palettes by method, and colour bars with numbers and units."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jxai.naming import proper
from jxai.plot.blending import Scaled, colors, normalize, paint, reduce_channels, rgb, within
from jxai.plot.page import END_WORDS, Page, words_within
from jxai.plot.signs import signs_of
from jxai.scores import one_of

SCALES = ("each", "method", "shared")
WIDTHS = {"column": 3.3, "text": 6.9}
"""Inches: of one column of a two-column page, and of its whole text."""
_GAP, _BAR, _LINE = 0.04, 0.07, 0.125
"""Inches: between panels, the height of a colour bar, a line of text."""
_FONT, _LEAST, _LETTER = 7.0, 4.0, 0.0078
"""Points of a text, of the smallest one, and inches of a letter's width for each point."""
_DPI = 300


def grid(
    images: ArrayLike | Sequence[ArrayLike],
    maps: Mapping[str, ArrayLike | Sequence[ArrayLike]],
    *,
    scale: str = "each",
    signed: bool | Mapping[str, bool | None] | None = None,
    rows: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
    unit: str | Mapping[str, str] = "",
    over: bool = True,
    width: str | float = "text",
    percentile: float = 99.0,
    channels: str = "sum",
) -> Figure:
    """Images × methods for a paper: a row for each image, beside it the map of every method.

    Args:
      images: `[n, H, W, C]`, or n of them `[H, W, C]` of any size.
      maps: by the method's label (`"grad_cam"`, `"abs:gradient"`, `"sobol@num_designs=16"`), its maps of the images, `[n, H, W, C]` or `[n, H, W, 1]`.
      scale: what the two ends of a palette stand for. `"each"`: of every map its own largest value, so that one sees where, and bars have no numbers; `"method"`: of all maps
        of a method, a bar below each; `"shared"`: of all maps, a bar for signed and one for unsigned ones, which is of use where methods share a unit.
      signed: whether 0 is the middle of all maps, or by label; None asks `jxai.attribution.is_signed`, and looks at the maps of a method that is not jxai's.
      rows: a text for each image, at its left, in two lines at most. names: of methods by label, in place of their proper names (`jxai.naming`). unit: of the numbers at the bars, for all or by label.
      over: draws a map over the grey image, more opaque where it is stronger; or else by itself.
      width: `"column"` or `"text"` of a two-column page, or inches. percentile, channels: as in `blend`.

    Returns:
      A figure of that width, with texts of 7 points (names of 4 at least, where a word is wider than its panel); `save` it as PDF (texts stay texts, with their font) or PNG (300 dots an inch).

    Raises:
      ValueError: no image or map, images that are none, maps that are not of them, an unknown scale or width.
    """
    one_of("scale", scale, SCALES)
    pictures = [np.asarray(image) for image in images]
    if not pictures or any(picture.ndim != 3 for picture in pictures):
        found = [picture.shape for picture in pictures[:3]]
        raise ValueError(f"images must be [n, H, W, C], one at least, got {found}; jxai.plot.explanations draws series, vectors and videos")
    if 0 in (sizes := [picture.size for picture in pictures]):
        raise ValueError(f"images must have pixels, got {pictures[sizes.index(0)].shape}")
    if not isinstance(maps, Mapping) or not maps:
        raise ValueError("maps must hold at least one method, {label: its maps}")
    maps = {label: list(given) for label, given in maps.items()}
    rows = [rows] if isinstance(rows, str) and rows else list(rows)
    if rows and len(rows) != len(pictures):
        raise ValueError(f"rows must name each of {len(pictures)} images, got {len(rows)}")
    if not (width in WIDTHS if isinstance(width, str) else isinstance(width, (int, float)) and 0 < width < np.inf):
        raise ValueError(f"{width=} must be one of {', '.join(WIDTHS)}, or inches above 0")
    planes = {label: _planes(label, given, pictures, channels) for label, given in maps.items()}
    scaled = _scaled(planes, signs_of(maps, signed), scale, percentile)
    layout = _Layout.of([picture.shape for picture in pictures], len(maps), bool(rows), WIDTHS[width] if isinstance(width, str) else float(width), scale)
    if layout.panel <= 0:
        raise ValueError(f"{width=} leaves no room for {len(maps)} methods beside the images")
    shown = {label: (names or {}).get(label) or proper(label) for label in maps}
    longest = max(len(word) for text in shown.values() for word in text.split() or " ")
    font = float(np.clip(layout.panel / (_LETTER * longest), _LEAST, _FONT))
    lines = {label: textwrap.wrap(text, max(4, int(layout.panel / (_LETTER * font) + 1e-6))) for label, text in shown.items()}
    layout = layout._replace(titles=max(map(len, lines.values())))
    figure = Page(figsize=layout.size, dpi=_DPI)
    for row, picture in enumerate(pictures):
        if rows:
            text = "\n".join(textwrap.wrap(str(rows[row]), max(6, int(layout.heights[row] / (_LETTER * _FONT))), max_lines=2, placeholder=" …"))
            figure.text(0.14 / layout.size[0], layout.middle(row), text, rotation=90, ha="center", va="center", fontsize=_FONT)
        _panel(figure, layout.box(row, 0), rgb(picture))
        for column, label in enumerate(maps, 1):
            one = scaled[label][row]
            shape = picture.shape[:2]
            whole = one._replace(values=np.broadcast_to(one.values, shape))
            drawn = paint(picture, whole) if over else _alone(whole)
            axes = _panel(figure, layout.box(row, column), drawn)
            if row == 0:
                axes.set_title("\n".join(lines[label]), fontsize=font, pad=2, linespacing=1.0)
    _bars(figure, layout, scaled, scale, unit if isinstance(unit, Mapping) else dict.fromkeys(maps, unit), percentile)
    return figure


class _Layout(NamedTuple):
    """Where things are, in inches from the top left."""

    panel: float
    heights: tuple[float, ...]
    left: float
    width: float
    foot: float
    titles: int = 1

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, ...]], methods: int, named: bool, width: float, scale: str) -> _Layout:
        left = 0.28 if named else 0.01
        panel = (width - left - 0.01 - methods * _GAP) / (methods + 1)
        return cls(panel, tuple(panel * shape[0] / shape[1] for shape in shapes), left, width, {"each": 0.42, "method": 0.34, "shared": 0.34}[scale])

    @property
    def top(self) -> float:
        return 0.05 + _LINE * self.titles

    @property
    def size(self) -> tuple[float, float]:
        return self.width, self.top + sum(self.heights) + _GAP * (len(self.heights) - 1) + self.foot

    def box(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Of a panel, in shares of the figure."""
        above = self.top + sum(self.heights[: row + 1]) + _GAP * row
        width, height = self.size
        return (self.left + column * (self.panel + _GAP)) / width, 1 - above / height, self.panel / width, self.heights[row] / height

    def middle(self, row: int) -> float:
        _, bottom, _, height = self.box(row, 0)
        return bottom + height / 2

    def bar(self, left: float, width: float) -> tuple[float, float, float, float]:
        """Of a colour bar at the foot."""
        return left / self.size[0], (self.foot - 0.06 - _BAR) / self.size[1], width / self.size[0], _BAR / self.size[1]


def _planes(label: str, given: Any, pictures: Sequence[np.ndarray], channels: str) -> list[np.ndarray]:
    if len(given) != len(pictures):
        raise ValueError(f"maps[{label!r}] must hold a map for each of {len(pictures)} images, got {len(given)}")
    planes = []
    for a, picture in zip(given, pictures):
        a = np.asarray(a)
        try:
            np.broadcast_to(a, (*picture.shape[:2], a.shape[-1]) if a.ndim == 3 else ())
        except ValueError:
            raise ValueError(f"maps[{label!r}] must broadcast against images {picture.shape}, got {a.shape}") from None
        planes.append(reduce_channels(a, channels))
    return planes


def _scaled(planes: Mapping[str, list[np.ndarray]], signs: Mapping[str, bool | None], scale: str, percentile: float) -> dict[str, list[Scaled]]:
    every = {label: normalize(np.concatenate([a.ravel() for a in own]), percentile, signs[label]) for label, own in planes.items()}
    if scale == "each":
        return {label: [normalize(a, percentile, every[label].signed) for a in own] for label, own in planes.items()}
    if scale == "shared":
        for sign in {one.signed for one in every.values()}:
            joint = np.concatenate([a.ravel() for label, own in planes.items() if every[label].signed == sign for a in own])
            whole = normalize(joint, percentile, sign)
            every |= {label: whole for label, one in every.items() if one.signed == sign}
    return {label: [within(a, every[label].low, every[label].high, every[label].signed) for a in own] for label, own in planes.items()}


def _alone(scaled: Scaled) -> np.ndarray:
    """A map by itself: its colours are those of the bar."""
    return np.where(np.isnan(scaled.values)[..., None], paint(None, scaled), colors(np.nan_to_num(scaled.values), scaled.signed))


def _panel(figure: Figure, box: tuple[float, float, float, float], picture: np.ndarray):
    axes = figure.add_axes(box)
    axes.imshow(picture, interpolation="none", aspect="auto")  # pixels as they are, also in a PDF
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_linewidth(0.3)
    return axes


def _bars(figure: Figure, layout: _Layout, scaled: Mapping[str, list[Scaled]], scale: str, units: Mapping[str, str], percentile: float) -> None:
    ones = {label: own[0] for label, own in scaled.items()}
    if scale == "method":
        for column, (label, one) in enumerate(ones.items(), 1):
            left = layout.left + column * (layout.panel + _GAP)
            _bar(figure, layout.bar(left, layout.panel), one, _numbers(one), units.get(label, ""))
        return
    kinds = {one.signed: label for label, one in reversed(ones.items())}
    room = (layout.width - layout.left) / len(kinds)
    for place, sign in enumerate(sorted(kinds, reverse=True)):
        one = ones[kinds[sign]]
        bar = layout.bar(layout.left + room * (place + 0.2), 0.6 * room)
        _bar(figure, bar, one, END_WORDS[bool(sign)] if scale == "each" else _numbers(one), "" if scale == "each" else units.get(kinds[sign], ""))
    if scale == "each":
        clipped = f", clipped at its {percentile:g}th percentile" if percentile < 100 else ""
        figure.text(0.5, 0.03 / layout.size[1], f"Every map has its own scale{clipped}.", fontsize=_FONT - 1, ha="center", va="bottom", color="0.35")


def _bar(figure: Figure, box: tuple[float, float, float, float], one: Scaled, ticks: Sequence[str], unit: str) -> None:
    """A colour bar with texts from end to end, none of them beyond its ends."""
    axes = figure.add_axes(box)
    ramp = matplotlib.colors.ListedColormap(colors(np.linspace(-1 if one.signed else 0, 1, 256), one.signed))
    axes.imshow(np.arange(256)[None], cmap=ramp, aspect="auto", interpolation="none")
    axes.set_yticks([])
    axes.set_xticks(np.linspace(-0.5, 255.5, len(ticks)), ticks, fontsize=_FONT - 1)
    axes.tick_params(length=1.5, width=0.3, pad=1)
    axes.spines[:].set_linewidth(0.3)
    words_within(axes)
    if unit:
        axes.set_xlabel(unit, fontsize=_FONT - 1, labelpad=0.5)


def _numbers(one: Scaled) -> list[str]:
    ends = [one.low, 0.0, one.high] if one.signed else [one.low, one.high]
    return [f"{end:.2g}".replace("-", "−") for end in ends]
