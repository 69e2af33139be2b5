"""A page whose texts are what they say: names of files, classes and methods are no mathematics, and any of them can be drawn."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text

from jxai.files import printable


class Page(Figure):
    """A figure in which `$` is a dollar, and bytes that are no UTF-8 are shown by escapes; a PDF of it holds text as text, with the fonts embedded; a notebook shows it."""

    def draw(self, renderer: RendererBase) -> None:
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
        with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):  # for ticks that are made while it is drawn
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False, "pdf.fonttype": 42, "svg.fonttype": "none"}):
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        """The figure where a notebook shows the value of a cell, whatever backend of matplotlib is in use."""
        shown = io.BytesIO()
        self.savefig(shown, format="png", dpi=100)
        return shown.getvalue()


END_WORDS = {True: ("against", "0", "for the class"), False: ("least", "most important")}
"""What the ends of a colour bar mean, of maps with a sign and without."""


def line_style(number: int) -> dict[str, Any]:
    """Of the line of this number: forty that can be told apart."""
    return {"color": f"C{number % 10}", "linestyle": ("-", "--", ":", "-.")[number // 10 % 4], "linewidth": 1.4}


def words_within(axes: Any) -> None:
    """Keeps the first and the last word below a colour bar within its ends, so that those of two bars side by side do not meet."""
    first, *_, last = axes.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def bar_names(axes: Any, shown: np.ndarray, count: int, names: Sequence[Any] | None) -> None:
    """Names the bars of the `shown` of `count` features, the first above, around a line at 0; says how many of how many there are where some are left out."""
    axes.set_yticks(np.arange(len(shown)), [printable(str(names[i])) if names is not None else f"x[{i}]" for i in shown], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(0, color="0.3", linewidth=0.8)
    if len(shown) < count:
        axes.set_xlabel(f"{len(shown)} of {count} shown", fontsize=7, labelpad=1)
