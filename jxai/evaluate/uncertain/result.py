"""An uncertainty run as it is handed back: what it says as rows, and in short in a notebook."""

from __future__ import annotations

import math

from jxai.evaluate.store import Run
from jxai.evaluate.uncertain.names import FIT, FITS, KIND
from jxai.evaluate.uncertain.summary import Row, summarise
from jxai.evaluate.uncertain.texts import SHORT, grids
from jxai.naming import proper

_ARROWS = {1: "↑", -1: "↓"}


class UncertaintyRun(Run):
    """A run of `jxai.evaluate.uncertainty`, by its folder."""

    PARTS = (*Run.PARTS, FIT, FITS)

    def rows(self) -> list[Row]:
        """What it says so far: how right the model is, and what each score knows of its errors and of the other data."""
        table = self.table()
        return summarise(self, table, self.path.name) if table else []

    def _repr_html_(self) -> str:
        from jxai.views import html

        rows, config = self.rows(), self.config
        sets = ", ".join(f"{one['label']} ({one['examples']})" for one in config[KIND]["sets"])
        shown = html.table(
            f"uncertainty run {self.path.name}", {"model": config["model"]["name"] or "a model", "data": sets, "scores": str(len(config[KIND]["scores"]))}
        )
        for grid in grids(self, rows)[:SHORT]:
            heads = [" ".join(filter(None, (proper(metric), name, _ARROWS[grid.direction(key)]))) for key, (metric, name) in grid.columns.items()]
            lines = [[proper(name) if grid.corner == "score" else name, *(_text(line.get(key)) for key in grid.columns)] for name, line in grid.lines.items()]
            shown += html.grid([grid.corner, *heads], lines)
        return shown


def _text(row: Row | None) -> str:
    if row is None or math.isnan(row.value):
        return ""
    return f"{row.value:.4g}" + (f" [{row.low:.3g}, {row.high:.3g}]" if math.isfinite(row.low) else "")
