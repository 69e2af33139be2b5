"""The report of runs: a table as CSV and Markdown, and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jxai.evaluate.store import Run
from jxai.evaluate.table import Row, as_csv, as_markdown, summarise
from jxai.files import atomic


def report(runs: Sequence[str | Path | Run], out: str | Path, *, pictures: bool = True) -> list[Row]:
    """Writes `summary.csv`, `summary.md` and pictures (of each run in a folder of its own where there are several) into `out`.

    Args:
      runs: runs, or their folders; begun ones count as far as they are. out: a folder.
      pictures: curves with bands, a heat map of metrics × methods, critical-difference diagrams; needs matplotlib.

    Returns:
      The rows of the table.

    Raises:
      ValueError: no run, a folder that is none, a damaged block, or a run without a finished block.
    """
    runs = [run if isinstance(run, Run) else Run(run) for run in runs]
    if not runs:
        raise ValueError("runs must name at least one")
    labels = _labels(runs)
    tables = [run.table() for run in runs]
    for run, table in zip(runs, tables):
        if not table:
            raise ValueError(f"{run.path} has no finished block yet")
    rows = [row for run, label, table in zip(runs, labels, tables) for row in summarise(run, table, label)]
    out = Path(out)
    _write(out / "summary.csv", as_csv(rows))
    _write(out / "summary.md", "\n\n".join(as_markdown(run, table, [r for r in rows if r.run == label]) for run, label, table in zip(runs, labels, tables)))
    if pictures:
        from jxai.evaluate.pictures import draw

        for run, label, table in zip(runs, labels, tables):
            draw(run, table, [row for row in rows if row.run == label], out if len(runs) == 1 else out / label)
    return rows


def _labels(runs: Sequence[Run]) -> list[str]:
    """The folders' names; where two are alike, numbered."""
    names = [run.path.resolve().name for run in runs]
    return [name if names.count(name) == 1 else f"{name}-{n}" for n, name in enumerate(names, 1)]


def _write(path: Path, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text, "utf-8")
