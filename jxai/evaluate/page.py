"""The page of a report: runs as the parts of one HTML file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jxai import pages
from jxai.data.sources import NO_LABEL
from jxai.evaluate import table as tables
from jxai.evaluate import told
from jxai.evaluate.joined import Joined
from jxai.evaluate.page_differences import differences
from jxai.evaluate.pictures import curves_of
from jxai.evaluate.store import PICTURE, Run
from jxai.evaluate.table import Row
from jxai.naming import proper, propers
from jxai.pages import Charts, disagreement, number, side
from jxai.pages.agreement import DISAGREEMENT
from jxai.plot.evaluation import scaled

IMAGES = 64
"""Examples of a run that a page shows, unless told otherwise."""


def page(
    runs: Sequence[Run],
    labels: Sequence[str],
    tabled: Sequence[dict[str, np.ndarray]],
    rows: Sequence[Row],
    study: Joined | None = None,
    *,
    images: int = IMAGES,
) -> str:
    """The page of these runs.

    Args:
      runs, labels, tabled: their names and tables. rows: of the summary. study: what the tests say over all of them. images: examples of each run that are shown,
        evenly over it.
    """
    heads = ["Methods and examples"] if len(runs) == 1 else [f"{label}: {_title(run)}" for run, label in zip(runs, labels)]
    own = [_section(run, head, table, [row for row in rows if row.run == label], images) for run, head, label, table in zip(runs, heads, labels, tabled)]
    title = _title(runs[0]) if len(runs) == 1 else f"{len(runs)} evaluations of explanations"
    tests = [] if study is None else [differences(study)]
    return pages.render(title, [*own, *tests], lead="How good are the explanations? Metrics judge the maps of every method, example by example.")


def _title(run: Run) -> str:
    return f"Explanations of {run.config['model']['name'] or 'a model'} on {_data(run)}"


def _data(run: Run) -> str:
    """A data set's name without the digest that identifies it."""
    kind, _, rest = run.config["data"]["name"].partition(":")
    return {"folder": rest.rpartition(":")[0] or rest, "arrays": "arrays"}.get(kind, run.config["data"]["name"])


def _section(run: Run, head: str, table: dict[str, np.ndarray], rows: Sequence[Row], images: int) -> pages.Section:
    by = {(row.metric, row.method): row for row in rows}
    valid, config = table["valid"], run.config
    explained = "the value of f" if config["target"] is None else f"the {config['target']} class"
    facts = [
        ("model", config["model"]["name"] or "a model"),
        ("data", _data(run)),
        ("examples", f"{len(valid)}" + (f", {(~valid).sum()} failed" if not valid.all() else "")),
    ]
    if accuracy := told.accuracy(table):
        facts.append(("the model is right on", accuracy))
    facts += [
        ("what is explained", f"{explained}, of {'those classified right' if config['where'] == 'correct' else 'all examples'}"),
        ("seed", str(config["seed"])),
    ]
    browser = _browser(run, table, images)
    remarks = tables.remarks(run, table)
    parts = [
        pages.Facts(facts),
        _scores(run, by),
        *_charts(run, table, by),
        browser,
        *([pages.Text("Remarks", listed=remarks)] if remarks else []),
        *(
            [pages.Text("Options of methods and metrics", listed=[line.removeprefix("- ") for line in listed], closed=True)]
            if (listed := told.options(run))
            else []
        ),
    ]
    return pages.Section(head, parts)


def _scores(run: Run, by: Mapping[tuple[str, str], Row]) -> pages.Table:
    columns, cells = [], {method: [] for method in run.methods}
    for metric in run.metrics:
        own = [by[metric, method] for method in run.methods]
        columns.append(pages.Column(proper(metric), told.unit(run, metric).strip(" ()"), own[0].direction))
        shades = scaled(np.asarray([row.mean for row in own]), own[0].direction)
        ends = np.asarray([[row.low, row.mean, row.high] for row in own])
        known = ends[np.isfinite(ends)]
        low, span = (known.min(), np.ptp(known) or 1.0) if len(known) else (0.0, 1.0)
        for row, shade in zip(own, shades):
            cells[row.method].append(_cell(row, 0.0 if np.isnan(shade) else float(shade), lambda v, low=low, span=span: float((v - low) / span)))
    shown = [pages.Row(name, cells[method], place) for place, (method, name) in enumerate(propers(run.methods).items())]
    caption = (
        "Mean over the examples with its 95 % bootstrap interval, drawn below on the column's own range; the mean rank over the examples, 1 the best. "
        "↑ higher is better, ↓ lower; the greener the better. A click on a name sorts."
    )
    return pages.Table("method", columns, shown, "Metrics × methods", caption)


def _cell(row: Row, shade: float, at: Any) -> pages.Cell:
    missing = [f"{row.failed} failed"] * bool(row.failed) + [f"{row.missing} not there yet"] * bool(row.missing and row.seeds)
    if not row.n:
        return pages.Cell("–", None, missing)
    notes = [f"{number(row.low)} … {number(row.high)}"] * math.isfinite(row.low)
    notes += [f"rank {row.rank:.2f}"] * math.isfinite(row.rank)
    notes += [f"median {number(row.median)}"] * (not row.lower_quartile <= row.mean <= row.upper_quartile)
    notes += missing
    ends = (at(row.low), at(row.mean), at(row.high)) if np.isfinite([row.low, row.mean, row.high]).all() else (None, None, None)
    return pages.Cell(number(row.mean), row.mean, notes, *ends, shade=round(shade, 2), best=shade == 1)


def _charts(run: Run, table: dict[str, np.ndarray], by: Mapping[tuple[str, str], Row]) -> list[Charts]:
    names = propers(run.methods)
    place, curves, ranks = {name: n for n, name in enumerate(names.values())}, [], []
    for metric in run.metrics:
        if found := curves_of(run, table, metric):
            curves.append(pages.curves({names[method]: lines for method, lines in found.items()}, f"{proper(metric)}{told.unit(run, metric)}", shown=place))
        difference, mean = by[metric, run.methods[0]].critical_difference, {names[method]: by[metric, method].rank for method in run.methods}
        mean = {name: rank for name, rank in mean.items() if np.isfinite(rank)}
        if np.isfinite(difference) and len(mean) > 1:
            ranks.append(pages.critical_difference(mean, difference, f"{proper(metric)}, {by[metric, run.methods[0]].ranked} examples", shown=place))
    found = []
    if curves:
        found.append(Charts(curves, "Curves", "Means over the examples with a band of ± 1.96 standard errors. A click on a method hides it."))
    if ranks:
        found.append(Charts(ranks, "Ranks", "Mean ranks over the examples, 1 the best. A bar joins methods that Nemenyi's test at 5 % does not tell apart."))
    return found


def _browser(run: Run, table: dict[str, np.ndarray], images: int) -> pages.Browser | pages.Text:
    n = len(table["index"])
    chosen = np.unique(np.linspace(0, n - 1, min(n, images)).round().astype(int)) if images else []
    kept = run.looked_at({int(table["index"][row]) for row in chosen})
    if not kept:
        why = (
            "this run kept no explanations (--no-maps)"
            if not run.config["keep_maps"]
            else "none was asked for"
            if not images
            else "those that it kept are damaged or missing"
        )
        return pages.Text("Examples", [f"No example is shown: {why}."])
    width = side(len(chosen) * len(run.methods))
    signs = {method: told.signed(run, method) for method in run.methods}
    scores = np.stack([tables.scores_of(run, table, metric) for metric in run.metrics], -1)
    cases = [_case(run, table, scores[row], int(row), kept.get(int(table["index"][row]), {}), signs, width) for row in chosen]
    bare = sum(not case.picture for case in cases) if len(run.config["data"]["x"]) > 1 else 0
    caption = [f"{len(chosen)} of {n} examples are shown, evenly over the run (--images {n} shows all)."] * (len(chosen) < n)
    caption += [f"Of {bare} examples the picture was not kept, or is damaged."] * bool(bare)
    metrics = [pages.Column(proper(metric), "", tables.direction_of(run, metric)) for metric in run.metrics]
    apart = DISAGREEMENT if any(case.disagreement is not None for case in cases) else ""
    return pages.Browser(cases, "Examples", " ".join(caption), "method", metrics, apart)


def _case(
    run: Run,
    table: Mapping[str, np.ndarray],
    scores: np.ndarray,
    row: int,
    kept: Mapping[str, np.ndarray],
    signs: Mapping[str, bool | None],
    width: int,
) -> pages.Case:
    """An example; scores: `[methods, metrics]` of it."""
    valid, shape = bool(table["valid"][row]), tuple(run.config["data"]["x"])
    label, predicted, target = (int(table[name][row]) for name in ("label", "predicted", "target"))
    explained, names = [method for method in run.methods if valid and method in kept], propers(run.methods)
    apart = disagreement([kept[method] for method in explained])
    facts = [] if label == NO_LABEL else [("label", told.named(run, label))]
    if valid and run.config["target"] is None:
        facts.append(("value", number(float(table["confidence"][row]))))
    elif valid:
        facts.append(("predicted", f"{told.named(run, predicted)}, {table['confidence'][row]:.1%}"))
        facts += [("explained", told.named(run, target))] if target != predicted else []
    name = str(table["name"][row]) or str(int(table["index"][row]))
    name = f"example {name}" if name.isdecimal() else name
    grouped = predicted if label == NO_LABEL and run.config["target"] is not None else label
    return pages.Case(
        name,
        pages.picture(kept[PICTURE], max(width, 144)) if valid and PICTURE in kept else "",
        ", ".join([name, *(" ".join(pair) for pair in facts)]),
        [pages.layer(names[method], kept[method], shape, signed=signs[method], width=width) for method in explained],
        facts if apart is None else [*facts, ("disagreement", f"{apart:.2f}")],
        "" if grouped == NO_LABEL else told.named(run, grouped),
        valid and label != NO_LABEL and run.config["target"] is not None and predicted != label,
        apart,
        [list(map(float, own)) for method, own in zip(run.methods, scores) if method in explained],
        str(table["error"][row]),
        values=kept[PICTURE] if valid and PICTURE in kept and len(shape) == 1 else None,
    )
