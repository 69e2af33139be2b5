"""The pages of `jxai suffice` and `jxai disambiguate`: what is left of an image, and what the model says of it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jxai import pages
from jxai.cli import html, inputs


def subset(
    path: Path,
    name: str,
    subject: inputs.Subject,
    x: np.ndarray,
    logits: np.ndarray,
    found: Any,
    said: Sequence[str],
    whole: float,
    args: argparse.Namespace,
    given: dict,
) -> None:
    """Writes the page of a sufficient subset.

    Args:
      path: of the page. name: of the image. subject: the model. x, logits: the example, and what the model says of it. found: the certificate. said: sentences.
      whole: the score of x. args: of the command. given: the method, and the options that it was given.
    """
    label, width = int(found.label), pages.side(3)
    num = found.held.shape[-1]
    shown, mask = np.asarray(found.shown(x)), np.asarray(found.mask, np.float32)
    facts = [("class", subject.label(label)), ("features held", f"{int(found.size)} of {num} ({float(found.size) / num:.1%})"), ("score", found.score)]
    facts += [
        ("of the example", pages.number(whole)),
        ("of what is held", pages.number(float(found.value))),
        ("threshold", pages.number(float(found.threshold))),
    ]
    layers = []
    if x.ndim == 1:
        layers.append(pages.bars("what the model was shown", shown))
    else:
        layers.append(
            pages.Layer(
                "what the model was shown",
                "plain",
                pages.picture(shown, width),
                alt=f"{float(found.value):.3g}",
                note=f"{found.score} {pages.number(float(found.value))}",
            )
        )
        layers.append(pages.layer("held", np.broadcast_to(mask, (*x.shape[:-1], 1)), x.shape, signed=False, width=width))
    case = pages.Case(
        name, pages.picture(x, width), f"{name}, {subject.label(label)}", layers, [("class", subject.label(label))], values=x if x.ndim == 1 else None
    )
    curve = np.asarray(found.curve, np.float64)
    keep = np.isfinite(curve)
    lines = {args.method: (np.linspace(1, 0, len(curve))[keep], curve[keep][None])}
    chart = pages.curves(lines, f"{found.score} of {subject.label(label)}", label="share of features held", threshold=float(found.threshold))
    parts = [
        pages.Facts(facts),
        pages.Text(listed=said),
        pages.Browser([case], "Example", opacity=100, extent=("removed", "held")),
        pages.Charts([chart], "While features were removed", "Dashed: the threshold."),
    ]
    parts += [html.certificate(found, str(Path(args.out) / "certificate.npz")), html.options(given)]
    html.write(
        path,
        f"{name}: what suffices for {subject.label(label)}",
        parts,
        args,
        f"Few features that bring {subject.name} to its confidence, everything else replaced.",
    )


def pairs(
    path: Path,
    name: str,
    subject: inputs.Subject,
    x: np.ndarray,
    logits: np.ndarray,
    found: Sequence[tuple[tuple[int, int], Any, str]],
    args: argparse.Namespace,
    given: dict,
) -> None:
    """Writes the page of pairs of labels.

    Args:
      found: pairs, what was found of each, and the sentence that says it. Others: as in `subset`.
    """
    width, cases, rows = pages.side(3 * len(found)), [], []
    short = lambda c: subject.label(c).split(",")[0]
    for (a, b), one, sentence in found:
        verdict = "different parts" if one.disjoint.holds else "the same part" if one.overlapping.holds else "nothing proved"
        chosen = one.disjoint if one.disjoint.holds or not one.overlapping.holds else one.overlapping
        pictures = np.asarray(chosen.shown(x)).reshape(-1, *x.shape)
        scores = np.asarray(chosen.shares).reshape(-1, 2) * np.asarray(chosen.whole)
        titles = [f"without {short(c)}'s segments" for c in (a, b)] if len(pictures) == 2 else ["without what they share"]
        notes = [f"{short(a)} {pages.number(float(s[0]))}, {short(b)} {pages.number(float(s[1]))}" for s in scores]
        if x.ndim == 1:
            layers = [pages.bars(title, shown)._replace(note=note) for title, shown, note in zip(titles, pictures, notes)]
        else:
            layers = [pages.Layer(title, "plain", pages.picture(shown, width), alt=note, note=note) for title, shown, note in zip(titles, pictures, notes)]
        facts = [("verdict", verdict), *((short(c), f"{chosen.score} {pages.number(float(w))}") for c, w in zip((a, b), np.asarray(chosen.whole)))]
        cases.append(
            pages.Case(
                f"{short(a)} or {short(b)}",
                pages.picture(x, width),
                name,
                layers,
                facts,
                verdict,
                note=sentence,
                thumb=layers[0].source,
                values=x if x.ndim == 1 else None,
            )
        )
        reached = [float(v) for v in (one.largest_disjoint, one.largest_overlapping)]
        cells = [pages.Cell(short(b), short(b)), pages.Cell(verdict, verdict), *(pages.Cell(pages.number(max(0.0, v)), v) for v in reached)]
        rows.append(pages.Row(short(a), cells))
    columns = [pages.Column("and"), pages.Column("rest on"), pages.Column("disjoint up to δ"), pages.Column("overlapping up to δ")]
    caption = f"A proof is one of strength δ = {args.delta:g} or more: removing a part lowers a label's score by that share."
    table = pages.Table("label", columns, rows, "Pairs", caption)
    browser = pages.Browser(cases, "Proofs", "The slider fades between the picture and what the model was shown.", opacity=100)
    parts = [
        table,
        browser,
        html.answer(logits, inputs.confidences(logits, "probability"), subject.label, sorted({c for pair, *_ in found for c in pair})),
        html.options(given),
    ]
    html.write(
        path,
        f"{name}: two things, or two guesses about one?",
        parts,
        args,
        f"Whether the likely labels of {subject.name} rest on different parts of the picture.",
    )
