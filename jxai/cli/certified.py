"""The pages of `jxai certify`: one image's verdict with what proves or refutes it, or the verdicts of a data set."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jxai import pages
from jxai.cli import html, inputs
from jxai.data import Source, load
from jxai.evaluate import Counts, Run

_MOST = 1000
"""Rows of a table of examples."""
_PICTURES = 200
"""Examples with a picture."""
VERDICTS = ("certified", "attacked", "unknown", "failed")


def image(
    path: Path,
    name: str,
    subject: inputs.Subject,
    x: np.ndarray,
    said: str,
    certificate: Any,
    attacked: Any,
    logits: np.ndarray,
    there: np.ndarray,
    args: argparse.Namespace,
    setting: Mapping[str, Any],
    options: Mapping[str, Any],
    saved: str,
) -> None:
    """Writes the page of one image.

    Args:
      path: of the page. name: of the image. subject: the model. x: the example. said: the verdict, a sentence. certificate, attacked: what the bound proved and the
        attack found. logits, there: the model's, of x and of the attack. args: of the command. setting, options: of the ball, and of the bound.
      saved: the certificate's file; `""` where it does not hold.
    """
    label = int(certificate.label)
    verdict = "certified" if saved else "attacked" if int(np.argmax(there)) != label else "unknown"
    changed = verdict == "attacked"
    facts = [("verdict", verdict), ("class", subject.label(label)), *ball(setting), ("bound", str(setting["method"]))]
    facts += [
        ("least margin proved", pages.number(_least(certificate.margins, label), 4)),
        ("least margin found by attack", pages.number(float(attacked.margin), 4)),
    ]
    found = np.asarray(attacked.x)
    layers = []
    if changed:
        layers.append(_plain("attacked", found, f"{subject.label(int(np.argmax(there)))}; within the radius", np.ndim(x)))
        layers.append(
            pages.layer("difference", found - x, x.shape, signed=True)._replace(note=f"at most {pages.number(float(np.abs(found - x).max()))} in an entry")
        )
    elif x.ndim > 1 and not layers:
        layers.append(_plain("nearest to a change that was found", found, f"least margin {pages.number(float(attacked.margin), 4)}", np.ndim(x)))
    case = pages.Case(name, pages.picture(x), f"{name}, {subject.label(label)}", layers, [("verdict", verdict)], values=x if x.ndim == 1 else None)
    parts: list[Any] = [
        pages.Facts(facts),
        pages.Browser([case], "Example", opacity=100, ends=("falls", "grows")),
        _margins(subject, np.asarray(certificate.margins), logits, there, label),
    ]
    parts += [html.certificate(certificate, saved)] if saved else []
    given = {"bound": {"method": setting["method"], "rounding": certificate.rounding, **options}}
    parts.append(pages.Text("Options of the bound", listed=[", ".join(f"{k} {v}" for k, v in given["bound"].items())], closed=True))
    html.write(path, f"{name}: {verdict}", parts, args, said)


def data_set(path: Path, run: Run, source: Source, subject: inputs.Subject, found: Counts, args: argparse.Namespace, setting: Mapping[str, Any]) -> None:
    """Writes the page of a run."""
    table, counted = run.table(), [found.certified, found.attacked, found.unknown, found.failed]
    total = max(sum(counted), 1)
    notes = [
        "no change within the radius changes the class: proved",
        f"a change within it does, or it is misclassified as it is ({found.misclassified})",
        "neither",
        "not read",
    ]
    rows = [
        pages.Row(v, [pages.Cell(str(n), n), pages.Cell(f"{n / total:.1%}", n / total), pages.Cell(note)])
        for v, n, note in zip(VERDICTS, counted, notes)
        if n or v != "failed"
    ]
    summed = pages.Table("verdict", [pages.Column("examples"), pages.Column("share"), pages.Column("what it means")], rows, "Verdicts")
    facts = [
        ("model", subject.name),
        ("data", source.name.split(":")[0]),
        ("examples", str(len(table["index"]))),
        *ball(setting),
        ("bound", str(setting["method"])),
    ]
    n = min(len(table["index"]), _MOST)
    columns = [pages.Column(name) for name in ("class", "predicted", "verdict", "margin proved", "margin found")]
    each = pages.Table(
        "example", columns, _rows(table, source, subject, run, n), "Examples", f"The first {n} of {len(table['index'])}." if n < len(table["index"]) else ""
    )
    html.write(
        path,
        f"Certification of {subject.name}",
        [pages.Facts(facts), summed, each],
        args,
        "For each example: can any change within the radius change the class?",
    )


def ball(setting: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The set of changes, as facts."""
    clip = setting["clip"]
    p = "∞" if np.isinf(setting["p"]) else f"{setting['p']:g}"
    return [("radius", f"{setting['radius']:g}"), ("norm", f"ℓ{p}"), ("valid range", "any" if clip is None else f"{clip[0]:g} to {clip[1]:g}")]


def _rows(table: Mapping[str, np.ndarray], source: Source, subject: inputs.Subject, run: Run, n: int) -> list[pages.Row]:
    rows = []
    for row in range(n):
        valid, place = bool(table["valid"][row]), int(table["index"][row])
        verdict = "failed" if not valid else "certified" if table["certified"][row] else "attacked" if table["attacked"][row] else "unknown"
        drawn = ""
        if valid and row < _PICTURES and len(run.config["data"]["x"]) in (3, 4):
            drawn = pages.picture(load(source, [place], None, subject.preprocess).x[0], 40)
        margins = [float(table[name][row]) for name in ("margin", "attack")]
        cells = [pages.Cell(label := subject.label(int(table["target"][row])), label), pages.Cell(label := subject.label(int(table["predicted"][row])), label)]
        cells = cells if valid else [pages.Cell("–"), pages.Cell("–")]
        cells += [pages.Cell(verdict, verdict, [str(table["error"][row])] if table["error"][row] else [])]
        cells += [pages.Cell(pages.number(v, 4), None if np.isnan(v) else v) for v in margins]
        rows.append(pages.Row(str(table["name"][row]) or str(place), cells, picture=drawn))
    return rows


def _margins(subject: inputs.Subject, margins: np.ndarray, logits: np.ndarray, there: np.ndarray, label: int) -> pages.Table:
    """The classes that come nearest."""
    order = [c for c in np.argsort(margins, kind="stable").tolist() if c != label][:10]
    rows = []
    for c in order:
        values = (float(margins[c]), float(logits[label] - logits[c]), float(there[label] - there[c]))
        rows.append(pages.Row(subject.label(c), [pages.Cell(pages.number(v, 4), v) for v in values]))
    columns = [pages.Column("proved everywhere"), pages.Column("here"), pages.Column("at the attack")]
    note = f"By how much the logit of {subject.label(label)} exceeds that of each class. A margin that is proved everywhere and positive cannot be turned."
    return pages.Table("class", columns, rows, "Margins", note)


def _plain(title: str, x: np.ndarray, note: str, rank: int) -> pages.Layer:
    return pages.bars(title, x)._replace(note=note) if rank == 1 else pages.Layer(title, "plain", pages.picture(x), alt=note, note=note)


def _least(margins: Any, label: int) -> float:
    margins = np.asarray(margins)
    return float(np.delete(margins, label).min())
