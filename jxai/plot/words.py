"""Texts with their words coloured by what methods say of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath
from numpy.typing import ArrayLike

from jxai.files import printable
from jxai.naming import proper
from jxai.plot.blending import NOT_FINITE, colors, normalize
from jxai.plot.page import END_WORDS, Page, words_within
from jxai.plot.signs import signs_of

_SIZE, _LINE, _GAP, _PAD, _NAMES = 10.0, 0.25, 0.05, 0.035, 1.55
"""Points of a letter; inches of a line, between words, around a word, and for the methods' names."""


def words(
    words: Sequence[str],
    values: Mapping[str, ArrayLike],
    *,
    title: str = "",
    width: float = 7.0,
    signed: bool | Mapping[str, bool | None] | None = None,
) -> Figure:
    """A text once for each method, each word on a ground of the colour of its value; every method on a scale of its own.

    Args:
      words: T words. values: by method (a label has its proper name: `jxai.naming`) T numbers, such as `tokens.by_word(map.sum(-1))`.
      title: above, as a rule the other text or the class. width: of the figure, in inches.
      signed: whether 0 is the middle of all, or by label; None asks `jxai.attribution.is_signed`, and looks at the numbers of a method that is not jxai's.

    Raises:
      ValueError: no words or methods, or values that are not as many as the words.
    """
    if not len(words) or not values:
        raise ValueError(f"words and values must hold at least one word and one method, got {len(words)} and {len(values)}")
    if wrong := {name: np.shape(v) for name, v in values.items() if np.shape(v) != (len(words),)}:
        raise ValueError(f"values must be {len(words)} numbers for each method, one a word, got shapes {wrong}")
    shown, signs = [printable(str(word)) for word in words], signs_of(values, signed)
    places, lines = _flow([_width(word) for word in shown], width - _NAMES - 0.15)
    rows, block = len(values), lines * _LINE + 0.12
    top = 0.2 + 0.18 * len(textwrap.wrap(title, int(13 * width))) if title else 0.1
    height = top + rows * block + 0.4
    figure = Page(figsize=(width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    axes.text(0.1, 0.1, "\n".join(textwrap.wrap(title, int(13 * width))), fontsize=_SIZE, va="top", fontweight="bold")
    used = set()
    for row, (name, numbers) in enumerate(values.items()):
        scaled = normalize(np.asarray(numbers), 100, signs.get(name))
        used.add(scaled.signed)
        below = top + row * block
        axes.text(0.1, below + _LINE / 2, textwrap.shorten(proper(name), 26, placeholder=" …"), fontsize=8, va="center", color="0.3")
        for word, (left, line), value in zip(shown, places, scaled.values):
            ground = colors(value, scaled.signed) if np.isfinite(value) else np.asarray(NOT_FINITE)
            corner = _NAMES + left, below + line * _LINE + 0.01
            axes.add_patch(Rectangle(corner, _width(word), _LINE - 0.02, facecolor=ground, linewidth=0))
            dark = ground @ (0.299, 0.587, 0.114) < 0.5
            axes.text(corner[0] + _PAD, corner[1] + _LINE / 2 - 0.01, word, fontsize=_SIZE, va="center_baseline", color="white" if dark else "black")
    for place, kind in enumerate(sorted(used, reverse=True)):
        bar = figure.add_axes(((_NAMES + 2.7 * place) / width, 0.2 / height, 2.2 / width, 0.1 / height))
        bar.imshow(colors(np.linspace(-1 if kind else 0, 1, 256)[None], kind), aspect="auto")
        bar.set_xticks(np.linspace(0, 255, len(END_WORDS[kind])), END_WORDS[kind], fontsize=7)
        words_within(bar)
        bar.tick_params(length=0)
        bar.set_yticks([])
    return figure


def _width(word: str) -> float:
    """Of a word with its ground, in inches."""
    return float(TextPath((0, 0), word, size=_SIZE).get_extents().width) * 1.04 / 72 + 2 * _PAD if word.strip() else 2 * _PAD


def _flow(widths: Sequence[float], room: float) -> tuple[list[tuple[float, int]], int]:
    """Where words of these widths begin, in lines of this width: from the left, and in which line; and how many lines there are."""
    places, left, line = [], 0.0, 0
    for own in widths:
        if left and left + own > room:
            left, line = 0.0, line + 1
        places.append((left, line))
        left += own + _GAP
    return places, line + 1
