"""The report of uncertainty runs: tables, pictures, and a page that holds all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jxai.evaluate.joined import labelled
from jxai.evaluate.store import Run
from jxai.evaluate.uncertain import texts
from jxai.evaluate.uncertain.remarks import remarks
from jxai.evaluate.uncertain.summary import Row, scores, summarise
from jxai.files import atomic


def report(runs: Sequence[Run], out: Path, *, pictures: bool, images: int) -> list[Row]:
    """Writes `summary.csv`, `.json`, `.md` and `.tex`, and with `pictures` figures and `report.html`; see `jxai.evaluate.report`."""
    labels, tables = labelled(runs), [run.table() for run in runs]
    for run, table in zip(runs, tables):
        if not table:
            raise ValueError(f"{run.path} has no finished block yet")
    rows = [row for run, table, label in zip(runs, tables, labels) for row in summarise(run, table, label)]
    own = [[row for row in rows if row.run == label] for label in labels]
    _write(out / "summary.csv", texts.as_csv(rows))
    _write(out / "summary.json", texts.as_json(runs, labels, rows))
    told = [texts.as_markdown(run, label, mine, remarks(run, table)) for run, label, table, mine in zip(runs, labels, tables, own)]
    _write(out / "summary.md", "\n".join(told))
    _write(out / "summary.tex", texts.as_latex(runs, labels, rows))
    if pictures:
        from jxai import pages
        from jxai.evaluate.uncertain.page import page
        from jxai.evaluate.uncertain.pictures import draw
        from jxai.evaluate.uncertain.sheet import ends

        for run, label, table, mine in zip(runs, labels, tables, own):
            ordered = texts.order(mine, scores(run, table))
            draw(run, table, ordered, ends(run, table, ordered[0], images), out if len(runs) == 1 else out / label)
        pages.save(out / "report.html", page(runs, labels, tables, own, images=images))
    return rows


def _write(path: Path, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text, "utf-8")
