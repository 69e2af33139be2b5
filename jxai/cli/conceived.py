"""The page of `jxai concepts`: the image's channels one by one, where each was in it, and what it saw in its references."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jxai import pages
from jxai.cli import html
from jxai.concepts import Portrait
from jxai.plot.concepts import over, spotlight

_WIDTH = 160


def write(
    path: Path,
    title: str,
    facts: Sequence[tuple[str, str]],
    x: np.ndarray,
    seen: Portrait,
    classes: Sequence[str],
    captions: Sequence[Sequence[str]],
    how: tuple[Callable, dict[str, Any]],
    args: argparse.Namespace,
) -> None:
    """Writes the page.

    Args:
      path: of the page. title, facts: of the image and the layer. x: the image. seen: its channels. classes: of each channel those that have most of it. captions: of each
        reference of each channel. how: the method and the options that it was given. args: of the command.
    """
    picture, cases, rows = pages.picture(x), [], []
    for n, channel in enumerate(seen.channels.tolist()):
        own = pages.picture(over(x, seen.maps[n]), _WIDTH)
        layers = [pages.Layer("in the image", "plain", own, alt=f"the map of channel {channel}", note="red speaks for the class through it, blue against")]
        for (crop, what), caption, value in zip(seen.crops[n], captions[n], seen.value[n]):
            layers.append(pages.Layer(caption, "plain", pages.picture(spotlight(crop, what), _WIDTH), alt=f"a part of {caption}", note=_share(value)))
        told = [("share of the image's", _share(seen.share[n])), ("classes", classes[n])]
        cases.append(
            pages.Case(f"channel {channel}", picture, title, layers, told, note="Beside the image: parts of the examples that speak most for the channel.")
        )
        rows.append(pages.Row(f"channel {channel}", [pages.Cell(_share(seen.share[n]), float(seen.share[n])), pages.Cell(classes[n], classes[n])]))
    table = pages.Table("", [pages.Column("share"), pages.Column("classes that have most of it")], rows, "Channels")
    parts = [pages.Facts(facts), pages.Browser(cases, "Concepts", opacity=100), table, html.options({how[0].__name__: how})]
    html.write(path, title, parts, args, "Which channels decided, and what do they stand for?")


def _share(value: float) -> str:
    return f"{value:.2%}".replace("-", "−")
