"""The pictures of an uncertainty run's report; needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from jxai import plot
from jxai.evaluate.store import Run
from jxai.evaluate.uncertain.curves import reliabilities, risks, rocs
from jxai.evaluate.uncertain.sheet import Ends, both_ends
from jxai.evaluate.uncertain.summary import names
from jxai.files import file_name
from jxai.naming import proper
from jxai.pages import number


def draw(run: Run, table: Mapping[str, np.ndarray], order: Sequence[str], shown: Sequence[Ends], out: Path) -> list[Path]:
    """Writes `roc_SET`, `risk_coverage_SET`, `reliability` and `images`, each as PNG and as PDF; returns their paths.

    Args:
      order: scores, the best first. shown: the images at the ends.
    """
    written: list[Path] = []

    def save(figure: Figure, name: str) -> None:
        for suffix in ("png", "pdf"):
            plot.save(figure, path := out / f"{file_name(name)}.{suffix}")
            written.append(path)

    first = names(run)[0]
    for name, lines in rocs(run, table, order).items():
        save(plot.roc(lines, f"{name} told from {first}"), f"roc_{name}")
    for name, (lines, best) in risks(run, table, order).items():
        save(plot.risk_coverage(lines, f"errors on {name}", best=best), f"risk_coverage_{name}")
    if found := reliabilities(run, table):
        save(plot.reliability(found if len(found) > 1 else next(iter(found.values())), title=first if len(found) == 1 else ""), "reliability")
    rows = {name: [(tile.picture, f"{tile.predicted}\n{number(tile.value)}", tile.wrong) for tile in tiles] for name, tiles in both_ends(shown).items()}
    if rows:
        save(plot.sheet(rows, f"by {proper(shown[0].score)}"), "images")
    return written
