"""Which images are looked at: the most and the least certain of each data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jxai.data.sources import NO_LABEL
from jxai.evaluate import told
from jxai.evaluate.store import PICTURE, Run
from jxai.evaluate.uncertain.names import SCORE
from jxai.evaluate.uncertain.summary import names, taken, uncertainties

MOST = 24
"""Images at either end of a data set."""


class Tile(NamedTuple):
    """An image, and what is said of it."""

    name: str
    picture: np.ndarray
    """uint8 `[H, W, C]`."""
    predicted: str
    confidence: float
    label: str
    """`""` where it has none of the model's classes."""
    value: float
    """Its uncertainty."""

    @property
    def wrong(self) -> bool:
        """Whether the model says another class than the label."""
        return bool(self.label) and self.label != self.predicted


class Ends(NamedTuple):
    """Of a data set the images at both ends of a score, the most certain first and the least certain first."""

    set: str
    score: str
    certain: Sequence[Tile]
    uncertain: Sequence[Tile]


def ends(run: Run, table: Mapping[str, np.ndarray], score: str, count: int) -> list[Ends]:
    """The images at both ends, at most so many at each and none at both; none of a run that kept no pictures, or of no images."""
    if not count or not run.config["keep_maps"] or len(run.config["data"]["x"]) != 3:
        return []
    found = []
    for n, name in enumerate(names(run)):
        values, kept = uncertainties(table, taken(table, n), score)
        at = np.flatnonzero(kept)[np.argsort(values, kind="stable")]
        half = min(count, MOST, len(at) // 2 + len(at) % 2)
        first, last = at[:half], at[half:][::-1][:half]
        pictures = run.looked_at({int(table["index"][row]) for row in (*first, *last)})
        tiles = [[tile for row in part if (tile := _tile(run, table, int(row), score, pictures)) is not None] for part in (first, last)]
        found.append(Ends(name, score, *tiles))
    return found


def both_ends(shown: Sequence[Ends]) -> dict[str, Sequence[Tile]]:
    """By name the lines of a sheet, either end of every data set, without those that have no images."""
    both = [(f"{one.set}: {what}", tiles) for one in shown for what, tiles in (("most certain", one.certain), ("least certain", one.uncertain))]
    return {name: tiles for name, tiles in both if tiles}


def _tile(run: Run, table: Mapping[str, np.ndarray], row: int, score: str, pictures: Mapping[int, Mapping[str, np.ndarray]]) -> Tile | None:
    kept = pictures.get(int(table["index"][row]), {})
    if PICTURE not in kept or kept[PICTURE].ndim != 3:
        return None
    label = int(table["label"][row])
    named = "" if label == NO_LABEL else told.named(run, label)
    predicted = told.named(run, int(table["predicted"][row]))
    return Tile(str(table["name"][row]), kept[PICTURE], predicted, float(table["confidence"][row]), named, float(table[SCORE + score][row]))
