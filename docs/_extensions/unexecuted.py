"""Pages whose front matter says `needs: [package]`, where a package is not installed: their code is shown in its colours, not executed, and the page says so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
LANGUAGE = "language_info:\n  name: python\n  pygments_lexer: ipython3\n"
"""What a kernel would have told of the code."""


def missing(text: str) -> list[str]:
    """The packages that a page needs and that are not here."""
    needed = re.search(r"\A---\n.*?^needs: \[(.*?)\]$.*?^---$", text, re.MULTILINE | re.DOTALL)
    return [package for package in re.split(r",\s*", needed[1]) if importlib.util.find_spec(package) is None] if needed else []


def pages() -> list[str]:
    """The pages that are not executed, as patterns for MyST-NB."""
    return [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md") if missing(page.read_text("utf-8"))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Changes the text of such pages before it is parsed."""

    def say(app: Sphinx, page: str, source: list[str]) -> None:
        if absent := missing(source[0]):
            note = f":::{{note}}\nThis manual was built without {' and '.join(absent)}: the code of this page is shown, and was not executed.\n:::\n"
            source[0] = re.sub(r"^(# .*\n)", rf"\1\n{note}", source[0].replace("---\n", "---\n" + LANGUAGE, 1), count=1, flags=re.MULTILINE)

    app.connect("source-read", say)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
