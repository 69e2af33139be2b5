"""Docstrings as jxai writes them, as Sphinx's fields: arguments that share a line are taken apart, `code` becomes code, public names become links."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx

FIELDS = {"Args": "param", "Attributes": "ivar"}
"""Headings whose entries are names, which may share a line, and the field that each becomes."""
SECTIONS = (*FIELDS, "Returns", "Raises", "Yields")
"""Headings of indented lines."""
NOTES = ("Cost", "Range", "Direction", "Reference", "References")
"""Words that begin a paragraph of their own."""

Link = Callable[[str], str | None]
"""The full name under which a word in code is documented, or None."""


def to_rst(text: str, parameters: Iterable[str] = (), link: Link = lambda name: None) -> str:
    """A docstring as reStructuredText.

    Args:
      text: the docstring, its indentation cleaned. parameters: names that may begin an entry of `Args:` or `Attributes:`. link: see `Link`.
    """
    out: list[str] = []
    blocks = _blocks(text.splitlines())
    for block in blocks:
        head = block[0].rstrip(":")
        if block[0].endswith(":") and head in SECTIONS:
            body = [line[2:] if line.startswith("  ") else line for line in block[1:]]
            out += [*_fields(head, _entries(body, set(parameters)) if head in FIELDS else _joined(body), link), ""]
        elif all(line.startswith("    ") for line in block):
            out += [".. code-block:: python", "", *block, ""]
        elif (word := block[0].split(":")[0]) in NOTES and block[0].startswith(word + ":"):
            out += [f"**{word}:** " + _inline(" ".join([block[0].removeprefix(word + ":").strip(), *map(str.strip, block[1:])]), link), ""]
        elif block[0].startswith("- "):
            for item in _items(block):
                out.append("- " + _inline(item, link))
            out.append("")
        else:
            out += [_inline(" ".join(map(str.strip, block)), link), ""]
    return "\n".join(out)


def _blocks(lines: Sequence[str]) -> list[list[str]]:
    """Paragraphs: parted by blank lines, by headings, by notes, by lists, and where indentation begins or ends."""
    found: list[list[str]] = []
    fresh = True
    for line in lines:
        if not line.strip():
            # A blank line within an indented section does not end it.
            fresh = True
            continue
        begins = re.match(rf"({'|'.join(SECTIONS)}):$|({'|'.join(NOTES)}): ", line)
        section = bool(found) and found[-1][0].rstrip(":") in SECTIONS and found[-1][0].endswith(":")
        if section and line.startswith("  "):
            found[-1].append(line)
        elif fresh or begins or section or (line.startswith("- ") and not found[-1][0].startswith("- ")):
            found.append([line])
        else:
            found[-1].append(line)
        fresh = False
    return found


def _entries(lines: Sequence[str], names: set[str]) -> list[str]:
    """One line an argument, of lines that hold several: `f: a model. x: an example.`"""
    one = rf"\*{{0,2}}(?:{'|'.join(map(re.escape, sorted(names, key=len, reverse=True)))})"
    entry = rf"{one}(?:, {one})*(?: \[[^\]]*\])?: "
    text = ""
    for line in lines:
        begins = not line.startswith(" ") and re.match(entry, line)
        text += ("\n" if begins else " ") + line.strip()
    return [part.strip() for part in re.split(rf"\n|(?<=[.;)?]) (?={entry})", text) if part.strip()] if names else _joined(lines)


def _fields(head: str, entries: Sequence[str], link: Link) -> list[str]:
    """A section's entries as fields of Sphinx's."""
    if head in ("Returns", "Yields"):
        return [f":{head.lower()}: {_inline(' '.join(entries), link)}"]
    fields = []
    for entry in entries:
        names, colon, text = entry.partition(": ")
        if head == "Raises" and not re.fullmatch(r"[A-Z]\w+", names):
            fields[-1:] = [fields[-1] + " " + _inline(entry, link)] if fields else []
            continue
        word = FIELDS.get(head, "raises")
        fields += [f":{word} {name.strip(' *')}: {_inline(text, link)}" for name in re.sub(r" \[[^\]]*\]", "", names).split(",")]
    return fields


def _joined(lines: Sequence[str]) -> list[str]:
    """Entries with their continuation lines, which are indented further, on one line each; prose on one."""
    found: list[str] = []
    for line in lines:
        if found and (line.startswith(" ") or not re.match(r"[\w.]+(?:, [\w.]+)*: ", line)):
            found[-1] += " " + line.strip()
        else:
            found.append(line.strip())
    return found


def _items(block: Sequence[str]) -> list[str]:
    items: list[str] = []
    for line in block:
        if line.startswith("- "):
            items.append(line[2:])
        else:
            items[-1] += " " + line.strip()
    return items


def _inline(text: str, link: Link) -> str:
    """Code in single backticks as reStructuredText's, what it would take for markup escaped; emphasis by asterisks stays."""
    out = ""
    for i, part in enumerate(re.split(r"`([^`]+)`", text)):
        if i % 2 == 0:
            kept = re.split(r"((?<![\w*])\*{1,2}[^\s*](?:[^*`]*[^\s*])?\*{1,2}(?![\w*]))", part)
            out += "".join(p if j % 2 else re.sub(r"([\\*|]|_(?!\w))", r"\\\1", p) for j, p in enumerate(kept))
            continue
        full = link(part)
        code = f":py:obj:`{part} <{full}>`" if full else f"``{part}``"
        # Markup must not touch a word: an escaped space, which is not printed, parts them.
        out += ("\\ " if out and not re.search(r"[\s(\[{<\-/'\"]$", out) else "") + code + "\\ "
    return re.sub(r"\\ (?=$|[\s.,;:!?)\]}'\"-])", "", out)


def parameters(of: Any) -> set[str]:
    """The names that `Args:` or `Attributes:` of an object may explain."""
    names: set[str] = set(getattr(of, "__annotations__", {}))
    try:
        names |= set(inspect.signature(of).parameters)
    except (TypeError, ValueError):
        pass
    return names


def setup(app: Sphinx) -> dict[str, bool]:
    """Converts every docstring that autodoc reads."""
    from reference import linker

    def process(app: Sphinx, what: str, name: str, of: Any, options: Any, lines: list[str]) -> None:
        lines[:] = to_rst("\n".join(lines), parameters(of), linker(name)).splitlines()

    app.connect("autodoc-process-docstring", process, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
