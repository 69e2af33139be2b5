"""What a certificate claims, drawn: margins that were proved, what suffices, what was replaced, what may move."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from jxai.certificates import DIGITS
from jxai.files import printable
from jxai.identity.values import digest
from jxai.plot.blending import rgb
from jxai.plot.figures import explanations
from jxai.plot.page import Page
from jxai.plot.sufficiency import removals

_CLASSES = 12
"""Margins that are drawn: the least ones."""


def certificate(x: ArrayLike, claim: Any, names: Sequence[str] | Mapping[int, str] | None = None, *, title: str = "") -> Figure:
    """What a certificate of jxai claims about an example.

    Of a `RobustnessCertificate` the margins to the nearest classes; of a `SufficientSubset` or a `MinimalExplanation` what is held, and the way there; of a `DisjointPair` or an
    `OverlappingPair` what is left of x, above the scores of both labels; of an `EvaCertificate` its attribution.

    Args:
      x: the example that it is about. claim: one certificate, not a batch of them.
      names: of the classes, by their index; by default `class 3`. title: above the picture.

    Raises:
      ValueError: no certificate that has a picture, a batch of them, or one that is about another x; names without a class that is drawn.
    """
    given = np.asarray(x)
    x = np.asarray(given, np.float32)
    draw = next((draw for fields, draw in _DRAWN if all(hasattr(claim, field) for field in fields)), None)
    if draw is None:
        raise ValueError(f"claim must be a certificate of jxai, got {type(claim).__name__}")
    label = claim.labels if hasattr(claim, "labels") else claim.target if hasattr(claim, "target") else claim.label
    if np.ndim(label) != (1 if hasattr(claim, "labels") else 0):
        raise ValueError(f"claim must be one certificate, got a batch of shape {np.shape(label)[: 1 if hasattr(claim, 'labels') else None]}; index it")
    about = np.shape(_like(claim))
    if about[len(about) - x.ndim :] != x.shape:
        raise ValueError(f"claim is about an x of shape {about}, got {x.shape}")
    if claim.digests is not None and claim.digests.x not in {digest(v)[:DIGITS] for v in (given, x)}:
        raise ValueError(f"claim is about another x (of digest {claim.digests.x}): pass the one that was certified")
    figure = draw(x, claim, functools.partial(_named, names))
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _named(names: Sequence[str] | Mapping[int, str] | None, index: Any) -> str:
    if names is None:
        return f"class {int(index)}"
    try:
        return str(names[int(index)])
    except (KeyError, IndexError):
        raise ValueError(f"names must name class {int(index)}, got {len(names)} names") from None


def _like(claim: Any) -> Any:
    """An array of x's shape."""
    return claim.fill if hasattr(claim, "fill") else claim.radius if hasattr(claim, "radius") else claim.region.lower


Name = Callable[[Any], str]


def _margins(x: np.ndarray, claim: Any, name: Name) -> Figure:
    margins, label = np.asarray(claim.margins, np.float64), int(claim.label)
    others = [c for c in np.argsort(margins, kind="stable") if c != label][:_CLASSES]
    figure = Page(figsize=(5.6, 0.8 + 0.28 * len(others)), layout="constrained")
    axis = figure.subplots()
    axis.barh(np.arange(len(others)), margins[others], color=["tab:green" if margins[c] > 0 else "tab:red" for c in others])
    axis.set_yticks(np.arange(len(others)), [printable(name(c)) for c in others], fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0, color="0.3", linewidth=0.8)
    axis.set_xlabel(f"least margin of {printable(name(label))} that was proved", fontsize=8)
    axis.set_title("holds: nothing in the region changes the class" if bool(claim.holds) else "does not hold: nothing was proved", fontsize=9)
    return figure


def _held(x: np.ndarray, claim: Any, name: Name) -> Figure:
    """The example, what is held of it, and how the score or the margin went."""
    pictured = x.ndim == 3
    figure = Page(figsize=(8.4 if pictured else 3.4, 2.8), layout="constrained")
    axes = figure.subplots(1, 3 if pictured else 1, squeeze=False)[0]
    mask, proved = np.asarray(claim.mask), hasattr(claim, "margins")
    if pictured:
        shown = np.asarray(claim.shown(x)) if hasattr(claim, "shown") else rgb(x) * mask + 0.5 * (1 - mask)
        for axis, picture, told in zip(axes, (x, shown), (name(claim.label), f"{int(claim.size)} of {claim.held.shape[-1]} features held")):
            axis.imshow(rgb(picture), interpolation="nearest")
            axis.set_title(printable(told), fontsize=9)
            axis.set_axis_off()
    way, end = (np.asarray(claim.margins), 0.0) if proved else (np.asarray(claim.curve), float(claim.threshold))
    axes[-1].plot(np.arange(len(way)), way, linewidth=1.2)
    axes[-1].axhline(end, color="0.4", linewidth=0.8, linestyle="--")
    axes[-1].set_xlabel("features tried" if proved else "steps of the search", fontsize=8)
    axes[-1].set_ylabel("least margin" if proved else claim.score, fontsize=8)
    axes[-1].tick_params(labelsize=7)
    if not pictured:
        axes[-1].set_title(printable(f"{name(claim.label)}: {int(claim.size)} of {claim.held.shape[-1]} features held"), fontsize=9)
    return figure


def _pair(x: np.ndarray, claim: Any, name: Name) -> Figure:
    both = [name(c) for c in np.asarray(claim.labels)]
    shown = np.asarray(claim.shown(x)).reshape(-1, *x.shape)
    scores = np.concatenate([np.ones((1, 2)), np.asarray(claim.shares).reshape(-1, 2)]) * np.asarray(claim.whole)
    left = (
        [f"without {one}'s {n} segments" for one, n in zip(both, np.asarray(claim.size))] if len(shown) == 2 else [f"without {int(claim.size)} shared segments"]
    )
    return removals(x, shown, scores, both, titles=[f"δ = {float(claim.reached):.2f}", *left], score=claim.score)


def _overlaps(x: np.ndarray, claim: Any, name: Name) -> Figure:
    return explanations(x, {"verified overlap that a group decides": np.asarray(claim.attribution)}, [name(claim.target)])


_DRAWN: tuple[tuple[tuple[str, ...], Callable[[np.ndarray, Any, Name], Figure]], ...] = (
    (("labels", "shares", "whole"), _pair),
    (("held", "mask"), _held),
    (("margins", "region", "holds"), _margins),
    (("attribution", "adversary"), _overlaps),
)
"""By what a certificate has, how it is drawn."""
