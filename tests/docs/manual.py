"""Pages of the manual as tests read them: front matter, code, headings and links."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page for page in DOCS.rglob("*.md") if "_extensions" not in page.parts)


def name(page: Path) -> str:
    """The page without its suffix, as `{doc}` names it from the top."""
    return page.relative_to(DOCS).with_suffix("").as_posix()


def text(page: Path) -> str:
    return page.read_text("utf-8")


def front(page: Path) -> dict[str, Any]:
    """What stands before a page: `heavy: true` where its code runs for more than a few seconds, `needs: [package]` where it needs what not everybody has."""
    found = re.match(r"---\n(.*?)\n---\n", text(page), re.DOTALL)
    return yaml.safe_load(found[1]) if found else {}


def cells(page: Path) -> list[str]:
    """The code that is executed when the manual is built, without options of cells."""
    found = re.findall(r"^(`{3,})\{code-cell\}[^\n]*\n(.*?)^\1\s*$", text(page), re.MULTILINE | re.DOTALL)
    return ["\n".join(line for line in code.splitlines() if not re.match(r":[\w-]+:", line)) for _, code in found]


def run(page: Path) -> dict[str, Any]:
    """What the names of a page stand for after all of its code, run from the top in one namespace."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for code in cells(page):
        exec(compile(code, str(page.relative_to(ROOT)), "exec"), names)
    return names


EXECUTED = [page for page in PAGES if cells(page)]
