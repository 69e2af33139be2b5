"""The page of `jxai explain`: every image with the maps of all methods, from what is in the images' folders."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jxai import pages
from jxai.attribution import is_signed
from jxai.cli import html, inputs, options
from jxai.cli.pictures import Named
from jxai.naming import proper
from jxai.pages.agreement import DISAGREEMENT

_SAID = 3
"""Classes that are told beside an image, where there are several images."""


def write(
    path: Path, images: Sequence[Named], subject: inputs.Subject, methods: Sequence[str], values: dict[str, dict], score: str, args: argparse.Namespace
) -> None:
    """Writes the page of images that are explained in their folders, of many of `html.IMAGES` evenly.

    Args:
      path: of the page. images: explained. subject: the model. methods, values: what explained, and the options that were given. score: what is told of classes.
      args: of the command.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, min(len(images), html.IMAGES)).round().astype(int))
    signs = {name: is_signed(options.methods()[name], values[name]) for name in methods}
    cases, width, beside = [], None, 0 if len(images) == 1 else _SAID
    for place in chosen:
        with np.load(images[place].folder / "explanation.npz", allow_pickle=False) as archive:
            kept = {name: archive[name] for name in archive.files}
        width = width or pages.side(len(chosen) * len(methods) * len(kept["targets"]))
        cases += _cases(images[place], kept, subject, methods, signs, score, width, beside)
    parts: list[Any] = []
    if len(images) == 1:
        parts.append(html.answer(kept["logits"], inputs.confidences(kept["logits"], score), subject.label, kept["targets"].tolist(), _word(score)))
    caption = f"{len(chosen)} of {len(images)} images are shown, evenly over them." if len(chosen) < len(images) else ""
    apart = DISAGREEMENT if len(cases) > 1 and any(case.disagreement is not None for case in cases) else ""
    browser = pages.Browser(cases, "Explanations", caption, disagreement=apart)
    told = html.options({name: (options.methods()[name], values[name]) for name in methods})
    title = f"{images[0].path.name}, seen by {subject.name}" if len(images) == 1 else f"{len(images)} images, seen by {subject.name}"
    html.write(path, title, [browser, *parts, told], args, "Which parts of the picture speak for the class, by every method.")


def _cases(
    named: Named,
    kept: dict[str, np.ndarray],
    subject: inputs.Subject,
    methods: Sequence[str],
    signs: dict[str, bool | None],
    score: str,
    width: int,
    beside: int,
) -> list[pages.Case]:
    """One for each class that is explained."""
    x, logits = kept["x"], kept["logits"]
    confidences = inputs.confidences(logits, score)
    said = lambda c: f"{subject.label(c)}, {confidences[c]:.1%}"
    picture, cases = pages.picture(x, max(width, 144)), []
    for row, target in enumerate(kept["targets"].tolist()):
        maps = [kept[name][row] for name in methods]
        apart = pages.disagreement(maps)
        facts = [("explained", said(target)), *((f"{n}.", said(int(c))) for n, c in enumerate(np.argsort(-logits, kind="stable")[:beside], 1))]
        facts += [("disagreement", f"{apart:.2f}")] if apart is not None else []
        layers = [pages.layer(proper(name), a, x.shape, signed=signs[name], width=width) for name, a in zip(methods, maps)]
        alt = f"{named.path.name}, {'×'.join(map(str, x.shape))}"
        values = x if x.ndim == 1 else None
        cases.append(pages.Case(named.path.name, picture, alt, layers, facts, subject.label(target).split(",")[0], disagreement=apart, values=values))
    return cases


def _word(score: str) -> str:
    return "sigmoid" if score == "sigmoid" else "probability"
