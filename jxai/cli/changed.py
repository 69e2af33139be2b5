"""The pages of `jxai counterfactual`: what was, what would have to be, and what changed, of an image or of a data set's examples."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jxai import pages
from jxai.cli import html, inputs
from jxai.data import Source, load
from jxai.evaluate import Found, Run
from jxai.evaluate.counterfactual_runs import Columns

_TARGETS = 3
"""Counterfactuals of each example of a data set."""


def image(
    path: Path, name: str, subject: inputs.Subject, x: np.ndarray, logits: np.ndarray, found: Columns, said: Sequence[str], args: argparse.Namespace
) -> None:
    """Writes the page of one image.

    Args:
      path: of the page. name: of the image. subject: the model. x, logits: the example, and what the model says of it. found: its counterfactuals. said: a sentence for
        each. args: of the command.
    """
    cases, width = [], pages.side(3 * len(found.to))
    for place, to in enumerate(found.to.tolist()):
        p = inputs.confidences(found.logits[place], "probability")[to]
        facts = [
            ("to", subject.label(to)),
            ("reached", "yes" if found.valid[place] else "no"),
            ("probability there", f"{p:.1%}"),
            ("steps", str(int(found.steps[place]))),
        ]
        layers = layers_of(x, found.x[place], subject.label(to), width)
        shown = pages.picture(x, width)
        values = x if x.ndim == 1 else None
        title = f"{name}: {subject.label(int(logits.argmax()))} → {subject.label(to)}"
        cases.append(
            pages.Case(
                title,
                shown,
                name,
                layers,
                facts,
                wrong=not found.valid[place],
                thumb=layers[0].source,
                error="" if found.valid[place] else "its target was not reached",
                values=values,
            )
        )
    browser = pages.Browser(cases, "Before and after", _HOW, opacity=100, ends=("falls", "grows"), marked="not reached only")
    table = html.answer(logits, inputs.confidences(logits, "probability"), subject.label, found.to.tolist())
    html.write(
        path, f"{name}: what would have to change", [pages.Text(listed=said), browser, table], args, f"Counterfactuals by {args.method}, of {subject.name}."
    )


def data_set(path: Path, run: Run, source: Source, subject: inputs.Subject, found: Found, args: argparse.Namespace) -> None:
    """Writes the page of a run, of many of whose examples `html.IMAGES` evenly."""
    table, maps = run.table(), run.maps("counterfactual")
    n = len(table["index"])
    chosen = np.unique(np.linspace(0, n - 1, min(n, html.IMAGES)).round().astype(int))
    label = lambda c: subject.label(int(c)).split(",")[0]
    m = min(_TARGETS, table["to"].shape[1])
    cases, width = [], pages.side(len(chosen) * (2 * m + 1))
    for row in chosen.tolist():
        place, was = int(table["index"][row]), int(table["predicted"][row])
        name = str(table["name"][row]) or str(place)
        name = f"example {name}" if name.isdecimal() else name
        if not table["valid"][row]:
            cases.append(pages.Case(name, "", name, [], error=str(table["error"][row])))
            continue
        x = load(source, [place], None, subject.preprocess).x[0]
        reached = table["reached"][row]
        notes = [f"{p:.1%}{'' if ok else ', not reached'}" for p, ok in zip(table["probability"][row], reached)]
        layers = [one for j in range(m) for one in layers_of(x, maps[place][j], label(table["to"][row, j]), width, notes[j])]
        facts = [("was", label(was)), ("to", ", ".join(label(c) for c in table["to"][row, :m])), ("reached", f"{int(reached.sum())} of {len(reached)}")]
        facts += [("entries changed", f"{table['l0'][row, 0]:g}"), ("by", pages.number(float(table["l1"][row, 0])))]
        cases.append(
            pages.Case(name, pages.picture(x, width), f"{name}, {label(was)}", layers, facts, label(was), not reached.all(), values=x if x.ndim == 1 else None)
        )
    facts = [
        ("model", subject.name),
        ("data", source.name.split(":")[0]),
        ("examples", str(found.examples)),
        ("failed", str(found.failed)),
        ("method", args.method),
    ]
    facts += [("searches", str(found.searches)), ("reached their target", str(found.valid)), ("mean steps", pages.number(found.steps))]
    caption = f"{_HOW} {len(chosen)} of {n} examples are shown, evenly over the run." if len(chosen) < n else _HOW
    browser = pages.Browser(cases, "Before and after", caption, opacity=100, ends=("falls", "grows"), marked="not reached only")
    html.write(
        path,
        f"Counterfactuals of {subject.name}",
        [pages.Facts(facts), browser],
        args,
        "What every example would have to become for the model to say something else.",
    )


_HOW = "The slider fades from what was to what would have to be. Red: an entry grows, blue: it falls."


def layers_of(x: np.ndarray, found: np.ndarray, to: str, width: int, note: str = "") -> list[pages.Layer]:
    """What would have to be, and the difference; of a vector the difference alone."""
    change = found - x
    most = f"by at most {pages.number(float(np.abs(change).max()))}"
    difference = pages.layer("difference", change, x.shape, signed=True, width=width)._replace(note=most)
    if x.ndim == 1:
        return [difference._replace(title=f"change to {to}", note=f"{most}; {difference.note}".strip("; "))]
    return [pages.Layer(f"as {to}", "plain", pages.picture(found, width), alt="what would have to be", note=note), difference]
