"""The page of uncertainty runs: tables that sort, ROC and risk-coverage curves, reliability, and the images at both ends of a score."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jxai import pages
from jxai.evaluate.store import Run
from jxai.evaluate.uncertain.curves import reliabilities, risks, rocs
from jxai.evaluate.uncertain.names import KIND
from jxai.evaluate.uncertain.remarks import remarks
from jxai.evaluate.uncertain.sheet import Ends, Tile, both_ends, ends
from jxai.evaluate.uncertain.summary import BINS, Row, names, scores
from jxai.evaluate.uncertain.texts import SHORT, Grid, grids, order
from jxai.naming import proper, propers
from jxai.pages import number
from jxai.plot.evaluation import scaled
from jxai.typing import Curve

_LEAD = "How sure is the model, does it know when it errs, and does it know what it was not made for? Higher is less certain; out of distribution is the positive class."
_DIAGONAL = "calibrated"


def page(runs: Sequence[Run], labels: Sequence[str], tables: Sequence[dict[str, np.ndarray]], rows: Sequence[Sequence[Row]], *, images: int) -> str:
    """The page of these runs.

    Args:
      runs, labels, tables: their names and tables. rows: of the summary, of each. images: of each data set at either end, at most.
    """
    sections = [pages.Section(label, _parts(run, table, own, images)) for run, label, table, own in zip(runs, labels, tables, rows)]
    title = f"Uncertainty of {runs[0].config['model']['name'] or 'a model'}" if len(runs) == 1 else f"Uncertainty of {len(runs)} runs"
    return pages.render(title, sections, lead=_LEAD)


def _parts(run: Run, table: dict[str, np.ndarray], rows: Sequence[Row], images: int) -> list[Any]:
    ordered = order(rows, scores(run, table))
    place = {score: n for n, score in enumerate(ordered)}
    about = run.config[KIND]
    facts = [("model", run.config["model"]["name"] or "a model"), ("data", about["sets"][0]["label"])]
    facts += [("against", ", ".join(one["label"] for one in about["sets"][1:]))] * (len(about["sets"]) > 1)
    facts += [("examples", str(len(table["index"]))), ("scores", str(len(ordered))), ("seed", str(run.config["seed"]))]
    parts: list[Any] = [pages.Facts(facts)]
    whole = [_table(grid, place) for grid in grids(run, rows)]
    parts += whole[:SHORT] + _charts(run, table, ordered) + _sheet(ends(run, table, ordered[0], images))
    parts += [dataclasses.replace(one, closed=True) for one in whole[SHORT:]]
    parts.append(pages.Text("Remarks", listed=remarks(run, table)))
    told = [f"{proper(name)}: {_options(made)}" for name, made in about["scores"].items()]
    return [*parts, pages.Text("Options of the scores", listed=told, closed=True)]


def _table(grid: Grid, place: Mapping[str, int]) -> pages.Table:
    columns, lines = [], {name: [] for name in grid.lines}
    of_scores = grid.corner == "score"
    for key, (metric, name) in grid.columns.items():
        own, direction = {name: line[key] for name, line in grid.lines.items() if key in line}, grid.direction(key)
        columns.append(pages.Column(proper(metric), name, direction))
        shades = dict(zip(own, scaled(np.asarray([row.value for row in own.values()]), direction) if of_scores else np.zeros(len(own))))
        known = np.asarray([v for row in own.values() for v in (row.low, row.value, row.high) if math.isfinite(v)])
        low, span = (known.min(), np.ptp(known) or 1.0) if len(known) else (0.0, 1.0)
        best = grid.best(key)
        for name in grid.lines:
            lines[name].append(_cell(own.get(name), shades.get(name, 0.0), best, low, span))
    shown = propers(grid.lines) if of_scores else dict.fromkeys(grid.lines)
    rows = [pages.Row(shown[name] or name, cells, place.get(name) if of_scores else None) for name, cells in lines.items()]
    caption = "Value with its 95 % bootstrap interval, drawn below on the column's own range." + " The greener the better. A click on a name sorts." * of_scores
    return pages.Table(grid.corner, columns, rows, grid.title, caption)


def _cell(row: Row | None, shade: float, best: float, low: float, span: float) -> pages.Cell:
    if row is None or math.isnan(row.value):
        return pages.Cell("–")
    notes = [f"{number(row.low, 4)} … {number(row.high, 4)}"] * math.isfinite(row.low) + [f"{row.lost} lost"] * bool(row.lost)
    at = [float((v - low) / span) for v in (row.low, row.value, row.high)] if math.isfinite(row.low) else [None] * 3
    return pages.Cell(number(row.value, 4), row.value, notes, *at, shade=0.0 if math.isnan(shade) else round(float(shade), 2), best=row.value == best)


def _charts(run: Run, table: dict[str, np.ndarray], ordered: Sequence[str]) -> list[pages.Charts]:
    shown, found = propers(ordered), []
    place = {name: n for n, name in enumerate(shown.values())}
    lines = lambda curves: {shown[score]: (curve.x, np.asarray(curve.y)[None]) for score, curve in curves.items()}
    first, whole = names(run)[0], Curve(np.asarray([0.0, 1.0]), np.asarray([0.0, 1.0]), 0.5)
    charts = [
        pages.curves(lines(curves), f"{name} told from {first}: true positive rate", label="false positive rate", shown=place)
        for name, curves in rocs(run, table, ordered).items()
    ]
    if charts:
        found.append(pages.Charts(charts, "ROC curves", "Out of distribution is the positive class. A click on a score hides it."))
    charts = [
        pages.curves(lines(curves), f"Errors on {name}: share of those answered", label="coverage: share that is answered", shown=place)
        for name, (curves, _) in risks(run, table, ordered).items()
    ]
    if charts:
        found.append(pages.Charts(charts, "Risk by coverage", "Of the most certain share of the examples, how many answers are wrong."))
    reliable = reliabilities(run, table)
    if reliable:
        known = {name: ~np.isnan(np.asarray(one.confidence)) for name, one in reliable.items()}
        drawn = {name: (np.asarray(one.confidence)[known[name]], np.asarray(one.accuracy)[known[name]][None]) for name, one in reliable.items()}
        drawn[_DIAGONAL] = whole.x, whole.y[None]
        chart = pages.curves(
            drawn, "How often it is right: accuracy", label=f"confidence, in {BINS} bins", shown={**{n: i for i, n in enumerate(reliable)}, _DIAGONAL: 8}
        )
        found.append(pages.Charts([chart], "Reliability", "Below the grey line the model is too sure of itself, above it not sure enough."))
    return found


def _sheet(shown: Sequence[Ends]) -> list[pages.Sheet]:
    rows = [(name, [_tile(tile) for tile in tiles]) for name, tiles in both_ends(shown).items()]
    if not rows:
        return []
    caption = f"By {proper(shown[0].score)}: the predicted class with its probability, and the uncertainty. Framed in red: the label is another."
    return [pages.Sheet(rows, "The most and the least certain images", caption)]


def _tile(tile: Tile) -> pages.Tile:
    captions = [f"{tile.predicted.split(',')[0]} {tile.confidence:.0%}", number(tile.value)] + [f"is {tile.label.split(',')[0]}"] * tile.wrong
    return pages.Tile(pages.picture(tile.picture, 96), f"{tile.name}: {', '.join(captions)}", captions, tile.wrong)


def _options(made: Mapping[str, Any]) -> str:
    own = {**made["options"], **(made["fit"] if isinstance(made.get("fit"), dict) else {})}
    plain = [f"{name} {value}" for name, value in own.items() if value is not None and not isinstance(value, (dict, list)) and "sha256" not in str(value)]
    return ", ".join(plain) or "no options"
