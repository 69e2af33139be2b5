"""The text of a page: parts into templates."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jxai.files import atomic, printable
from jxai.pages.parts import Section
from jxai.plot.blending import colors

_STEPS = 17
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56a4d8", "#7a5bc7", "#8c564b", "#7f7f7f", "#4f9d2f")
"""Of methods in charts; read on white and on black."""


def render(title: str, sections: Sequence[Section], *, lead: str = "") -> str:
    """A whole page.

    Args:
      title: its heading. lead: a sentence or two below it. sections: what follows.

    Raises:
      ImportError: jinja2 is missing.
    """
    return environment().get_template("layout.html").render(title=title, lead=lead, sections=sections, filters=_filters(), colors=COLORS)


def save(path: str | Path, text: str) -> None:
    """Writes a page, atomically; names that are no UTF-8 are written by escapes."""
    with atomic(path) as part:
        part.write_bytes(text.encode("utf-8", errors="backslashreplace"))


@functools.cache
def environment() -> Any:
    """jinja2's, which escapes whatever is put into a template."""
    try:
        import jinja2
        import markupsafe
    except ImportError:
        raise ImportError("pages need jinja2: pip install 'jxai[demo]'") from None
    loader = jinja2.PackageLoader("jxai.pages", "templates")
    made = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    made.finalize = lambda value: printable(value) if type(value) is str else value
    made.filters["breaks"] = lambda name: markupsafe.Markup("_<wbr>").join(printable(name).split("_"))
    made.filters["two"] = lambda value: f"{value:.2f}".rstrip("0").rstrip(".") or "0"
    return made


def _filters() -> dict[str, dict[str, str]]:
    """The colour maps as tables of SVG's `feFuncR` and its kin, of grey: signed from −1 to 1, unsigned from 0 to 1."""
    ends = {"signed": np.linspace(-1, 1, _STEPS), "unsigned": np.linspace(0, 1, _STEPS)}
    tables = {}
    for name, values in ends.items():
        channels = colors(values, name == "signed").T
        tables[name] = {c: " ".join(f"{v:.3f}" for v in row) for c, row in zip("RGB", channels)}
        tables[name]["A"] = " ".join(f"{abs(v):.3f}" for v in values)
    return tables
