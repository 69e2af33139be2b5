"""The report of runs: tables as CSV, Markdown and LaTeX, tests of whether methods differ, pictures, and a page that holds all of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jxai.evaluate import verdicts
from jxai.evaluate.joined import joined, labelled
from jxai.evaluate.latex import as_latex
from jxai.evaluate.store import Run
from jxai.evaluate.table import Row, as_csv, as_markdown, summarise
from jxai.evaluate.uncertain import names as uncertain
from jxai.evaluate.uncertain import report as uncertain_report
from jxai.evaluate.uncertain.summary import Row as UncertainRow
from jxai.files import atomic


def report(runs: Sequence[str | Path | Run], out: str | Path, *, pictures: bool = True, images: int = 64) -> list[Row] | list[UncertainRow]:
    """Writes `summary.csv`, `summary.md`, `summary.tex`, `tests.csv`, pictures (of each run in a folder of its own where there are several) and `report.html` into `out`.

    What the tests say over all runs together is `joined(runs)`. The page is one file that holds the tables, the curves, the ranks and a browser of examples with the
    maps of all methods; equal runs make equal bytes of it. Of uncertainty runs (`jxai.evaluate.uncertainty`) the tables (also as `summary.json`), ROC and risk-coverage curves, reliability
    diagrams and the most and the least certain images; their rows are of `jxai.evaluate.uncertain.summary`.

    Args:
      runs: runs, or their folders; begun ones count as far as they are. out: a folder.
      pictures: curves with bands, a heat map of metrics × methods, critical-difference diagrams (of several runs also over all), examples × methods, as PNG and PDF, and the page; needs matplotlib, pillow and jinja2.
      images: examples of each run on the page, at most, evenly over the run; 0 for none.

    Returns:
      The rows of the table.

    Raises:
      ValueError: no run, a folder that is none, a damaged block, a run without a finished block, or a negative number of images.
    """
    runs = [run if isinstance(run, Run) else Run(run) for run in runs]
    if not runs:
        raise ValueError("runs must name at least one")
    if images < 0:
        raise ValueError(f"{images=} must be 0 or more")
    kinds = {uncertain.KIND in run.config for run in runs}
    if kinds == {True}:
        return uncertain_report.report(runs, Path(out), pictures=pictures, images=images)
    if True in kinds:
        raise ValueError("runs must be of one kind: uncertainty runs have a report of their own")
    labels = labelled(runs)
    tables = [run.table() for run in runs]
    for run, table in zip(runs, tables):
        if not table:
            raise ValueError(f"{run.path} has no finished block yet")
    rows = [row for run, label, table in zip(runs, labels, tables) for row in summarise(run, table, label)]
    out = Path(out)
    _write(out / "summary.csv", as_csv(rows))
    study = joined(runs)
    texts = [as_markdown(run, table, [r for r in rows if r.run == label]) for run, label, table in zip(runs, labels, tables)]
    _write(out / "summary.md", "\n\n".join([*texts, verdicts.as_markdown(study)]))
    _write(out / "summary.tex", as_latex(runs, labels, rows, study))
    _write(out / "tests.csv", verdicts.as_csv(study))
    if pictures:
        from jxai import pages
        from jxai.evaluate.page import page
        from jxai.evaluate.pictures import draw, draw_ranks

        for run, label, table in zip(runs, labels, tables):
            draw(run, table, [row for row in rows if row.run == label], out if len(runs) == 1 else out / label)
        if len(runs) > 1:
            draw_ranks(study, out)
        pages.save(out / "report.html", page(runs, labels, tables, rows, study, images=images))
    return rows


def _write(path: Path, text: str) -> None:
    with atomic(path) as part:
        part.write_text(text, "utf-8")
