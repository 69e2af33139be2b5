"""A page whose texts are what they say: names of files, classes and methods are no mathematics, and any of them can be drawn."""

from __future__ import annotations

from typing import Any

import matplotlib
from matplotlib.backend_bases import RendererBase
from matplotlib.figure import Figure
from matplotlib.text import Text

from jxai.files import printable


class Page(Figure):
    """A figure in which `$` is a dollar, and bytes that are no UTF-8 are shown by escapes."""

    def draw(self, renderer: RendererBase) -> None:
        for text in self.findobj(Text):
            text.set_parse_math(False)
            text.set_text("\n".join(map(printable, text.get_text().split("\n"))))
        with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):  # for ticks that are made while it is drawn
            super().draw(renderer)

    def savefig(self, fname: Any, **options: Any) -> None:
        with matplotlib.rc_context({"text.parse_math": False, "text.usetex": False}):
            super().savefig(fname, **options)
