"""What a page of results means by

    ```{experiment} counterfactual/clue
    ```

the docstring of `experiments/counterfactual/clue.py`: claim, command, what was found, cost. It is read, not imported.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^```\{experiment\} ([\w/]+)\n```$", re.MULTILINE)


def said(name: str) -> str:
    """The docstring of an experiment as Markdown; what is indented is a command."""
    text = ast.get_docstring(ast.parse((ROOT / "experiments" / f"{name}.py").read_text("utf-8"))) or ""
    text = re.sub(r"(?:^    .*\n?)+", _block, text, flags=re.MULTILINE)
    # A magnitude's bars would part a table's cells.
    return re.sub(r"(?<=\| )\|(\w+)\|(?= )|(?<=, )\|(\w+)\|(?=,)", r"\\|\1\2\\|", text)


def _block(indented: re.Match[str]) -> str:
    """Commands with a prompt, or a table in plain text as it is."""
    lines = [line[4:] for line in indented[0].rstrip().splitlines()]
    command = lines[0].startswith(("python ", "jxai "))
    shown = [f"$ {line}" if command else line for line in lines]
    return "\n".join([f"```{'console' if command else 'text'}", *shown, "```", ""])


def setup(app: Sphinx) -> dict[str, bool]:
    """Expands the fences before a page is parsed."""

    def expand(app: Sphinx, page: str, source: list[str]) -> None:
        source[0] = FENCE.sub(lambda fence: said(fence[1]), source[0])

    app.connect("source-read", expand)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
