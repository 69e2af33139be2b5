"""What the pages of commands have in common: the command as it was typed, the model's answer, the options, and where the page goes."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jxai import pages
from jxai.cli.errors import told
from jxai.naming import proper

IMAGES = 64
"""Images that a page holds at most."""
WIDTH = 224


def write(path: Path, title: str, parts: Sequence[Any], args: argparse.Namespace, lead: str = "") -> None:
    """Writes a page that ends with the command, and says so."""
    parts = [*parts, pages.Text("How this was made", code=args.typed)]
    with told():
        pages.save(path, pages.render(title, [pages.Section("", parts)], lead=lead))
    print(f"wrote {path}")


def answer(
    logits: np.ndarray, confidences: np.ndarray, label: Callable[[int], str], marked: Sequence[int], what: str = "probability", most: int = 10
) -> pages.Table:
    """The model's classes, the likeliest first, with those that are `marked`."""
    top = np.argsort(-logits, kind="stable")[:most].tolist()
    rows = []
    for index in [*top, *(c for c in marked if c not in top)]:
        p, logit = float(confidences[index]), float(logits[index])
        cells = [pages.Cell(str(index), index), pages.Cell(f"{p:.1%}", p, shade=round(p, 2), best=index in marked), pages.Cell(pages.number(logit), logit)]
        rows.append(pages.Row(label(index) + (" ←" if index in marked else ""), cells))
    return pages.Table(
        "class", [pages.Column("index"), pages.Column(what), pages.Column("logit")], rows, "What the model says", "←: the class that this page is about."
    )


def options(given: Mapping[str, tuple[Callable, Mapping[str, Any]]]) -> pages.Text:
    """All options of functions that take numbers and names, those that were not given with their defaults.

    Args:
      given: by name, a function and the options that it was given.
    """
    lines = []
    for name, (fn, own) in given.items():
        defaults = {p.name: p.default for p in inspect.signature(fn).parameters.values() if p.kind is p.KEYWORD_ONLY and p.default is not p.empty}
        plain = {option: _plain(value) for option, value in sorted({**defaults, **own}.items()) if value is not None}
        lines.append(f"{proper(name)}: " + (", ".join(f"{option} {value}" for option, value in plain.items() if value) or "no options"))
    return pages.Text("Options", listed=lines, closed=True)


def certificate(certificate: Any, file: str) -> pages.Facts:
    """What a certificate is about, and how it is checked again."""
    about = certificate.digests
    facts = [("certificate", file), ("kind", type(certificate).__name__)]
    if about is not None:
        facts += [("digest of the example", about.x), ("digest of the weights", about.weights)]
    facts.append(("check it again", f"jxai verify {file} …, with the same image and model"))
    return pages.Facts(facts, "Certificate")


def _plain(value: Any) -> str:
    if isinstance(value, (bool, int, str)):
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (np.ndarray, list, tuple)):
        return f"an array {np.shape(value)}"
    if name := getattr(value, "__name__", ""):
        return name
    return str(value) if len(str(value)) < 60 else type(value).__name__
