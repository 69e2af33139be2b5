"""The rows of uncertainty runs as CSV, JSON, Markdown and LaTeX."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence

from jxai.evaluate.latex import escaped, key, number, tabular
from jxai.evaluate.record import plain
from jxai.evaluate.store import Run
from jxai.evaluate.uncertain.names import KIND, left_out
from jxai.evaluate.uncertain.summary import DETECTION, DIRECTIONS, MODEL, SELECTION, Row, names
from jxai.files import printable
from jxai.naming import proper

_ARROWS = {1: "↑", -1: "↓"}
_TEX = {1: r" $\uparrow$", -1: r" $\downarrow$"}
COLUMNS = (*Row._fields, "direction")
_WORDS = {1: "higher", -1: "lower"}


class Grid:
    """Rows as a table: a line for each label, a column for each number.

    Args:
      title: what it is about. corner: what a line is. columns: by key the metric and, where columns differ in it, the data set. lines: by label the rows, by key.
    """

    def __init__(self, title: str, corner: str, columns: dict[str, tuple[str, str]], lines: dict[str, dict[str, Row]]):
        self.title, self.corner, self.columns, self.lines = title, corner, columns, lines

    def direction(self, key: str) -> int:
        """1 where higher is better in a column, −1 where lower is."""
        return DIRECTIONS.get(self.columns[key][0], -1)

    def best(self, key: str) -> float:
        """The best value of a column of scores; NaN where there is none, or nothing to be better than."""
        values = [row[key].value for row in self.lines.values() if key in row and math.isfinite(row[key].value)]
        return float("nan") if len(values) < 2 or self.corner != "score" else (max if self.direction(key) > 0 else min)(values)


def grids(run: Run, rows: Sequence[Row]) -> list[Grid]:
    """The tables of a run: of the model; of all scores in short; of each other data set, and of the errors on each labelled one, in full."""
    model: dict[str, dict[str, Row]] = {}
    for row in rows:
        if not row.score:
            model.setdefault(row.set, {})[row.metric] = row
    found = [Grid("The model", "data", {metric: (metric, "") for metric in MODEL}, model)] if model else []
    sets = names(run)
    short = [(metric, name) for metric in ("auroc", "error_auroc") for name in sets if any(row.metric == metric and row.set == name for row in rows)]
    lines: dict[str, dict[str, Row]] = {}
    for row in rows:
        if (row.metric, row.set) in short:
            lines.setdefault(row.score, {})[f"{row.metric} {row.set}"] = row
    if lines:
        ordered = {name: lines[name] for name in order(rows, run.config[KIND]["scores"]) if name in lines}
        found.append(Grid("All scores in short", "score", {f"{metric} {name}": (metric, name) for metric, name in short}, ordered))
    for numbers, sentence in ((DETECTION, "{} told from " + sets[0]), (SELECTION, "Errors on {}")):
        for name in sets:
            lines = {}
            for row in rows:
                if row.set == name and row.score and row.metric in numbers:
                    lines.setdefault(row.score, {})[row.metric] = row
            if lines:
                found.append(Grid(sentence.format(name), "score", {metric: (metric, "") for metric in numbers}, _ranked(lines, numbers[0])))
    return found


def order(rows: Sequence[Row], scores: Iterable[str]) -> list[str]:
    """These scores, the best first: by the mean AUROC against the other data sets or, where there is none, of errors; those without either last, as they come."""
    by: dict[str, list[float]] = {name: [] for name in scores}
    metric = "auroc" if any(row.metric == "auroc" for row in rows) else "error_auroc"
    for row in rows:
        if row.metric == metric and math.isfinite(row.value):
            by[row.score].append(row.value)
    return sorted(by, key=lambda name: -sum(by[name]) / len(by[name]) if by[name] else 1.0)


def as_csv(rows: Sequence[Row]) -> str:
    """All rows, every digit."""
    text = io.StringIO()
    lines = [[*(("" if v != v else v) for v in row), _WORDS[row.direction]] for row in rows]
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
    return text.getvalue()


def as_json(runs: Sequence[Run], labels: Sequence[str], rows: Sequence[Row]) -> str:
    """What each run is of, and all rows; NaN is null."""
    about = [
        {"run": label, "model": run.config["model"]["name"], "sets": run.config[KIND]["sets"], "scores": run.config[KIND]["scores"], "left_out": left_out(run)}
        for run, label in zip(runs, labels)
    ]
    told = {"runs": about, "rows": [{**row._asdict(), "direction": _WORDS[row.direction]} for row in rows]}
    return json.dumps(plain(told), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


SHORT = 2
"""Tables that say it all in short: of the model, and of all scores."""


def as_markdown(run: Run, label: str, rows: Sequence[Row], remarks: Sequence[str], most: int | None = None) -> str:
    """The tables of a run, the first so many: values with 95 % bootstrap intervals, scores by the first column."""
    said = [f"# {_cell(label)}: uncertainty of {_cell(run.config['model']['name'] or 'a model')}", ""]
    said += [f"- {line}" for line in remarks]
    for grid in grids(run, rows)[:most]:
        heads = [f"{_cell(_head(grid, key))} {_ARROWS[grid.direction(key)]}" for key in grid.columns]
        said += ["", f"## {_cell(grid.title)}", "", "| " + " | ".join([grid.corner, *heads]) + " |", "|" + " --- |" * (1 + len(heads))]
        for name, line in grid.lines.items():
            cells = [_text(line.get(key), grid.best(key)) for key in grid.columns]
            said.append("| " + " | ".join([_cell(proper(name) if grid.corner == "score" else name), *cells]) + " |")
    return "\n".join(said) + "\n"


def as_latex(runs: Sequence[Run], labels: Sequence[str], rows: Sequence[Row]) -> str:
    """The tables as LaTeX: needs `\\usepackage{booktabs}` in the preamble."""
    parts = ["% Needs \\usepackage{booktabs}. Value [95 % bootstrap interval]; the best of a column is bold."]
    for run, label in zip(runs, labels):
        for n, grid in enumerate(grids(run, [row for row in rows if row.run == label])):
            heads = [escaped(_head(grid, column)) + _TEX[grid.direction(column)] for column in grid.columns]
            body = []
            for name, line in grid.lines.items():
                shown = escaped(proper(name) if grid.corner == "score" else name)
                body.append(f"{shown} & " + " & ".join(_tex(line.get(column), grid.best(column)) for column in grid.columns) + r" \\")
            model = escaped(run.config["model"]["name"] or "a model")
            caption = f"{escaped(grid.title)}, {model}: value [95\\,\\% bootstrap interval]."
            parts.append(tabular(caption, f"tab:{key(label)}-{n}", [grid.corner.capitalize(), *heads], body))
    return "\n\n".join(parts) + "\n"


def _ranked(lines: dict[str, dict[str, Row]], metric: str) -> dict[str, dict[str, Row]]:
    """The best first; those without a number last."""

    def place(name: str) -> tuple[bool, float]:
        row = lines[name].get(metric)
        value = float("nan") if row is None else -row.direction * row.value
        return value != value, 0.0 if value != value else value

    return {name: lines[name] for name in sorted(lines, key=place)}


def _head(grid: Grid, key: str) -> str:
    metric, name = grid.columns[key]
    return proper(metric) + f", {name}" * bool(name)


def _text(row: Row | None, best: float) -> str:
    if row is None or math.isnan(row.value):
        return "–"
    value = f"**{row.value:.4g}**" if row.value == best else f"{row.value:.4g}"
    lost = f", {row.lost} lost" * bool(row.lost)
    return value + (f" [{row.low:.4g}, {row.high:.4g}]" if math.isfinite(row.low) else "") + lost


def _tex(row: Row | None, best: float) -> str:
    if row is None or math.isnan(row.value):
        return "--"
    value = f"\\textbf{{{number(row.value)}}}" if row.value == best else number(row.value)
    return value + (f" {{\\scriptsize [{number(row.low)}, {number(row.high)}]}}" if math.isfinite(row.low) else "")


def _cell(text: str) -> str:
    return printable(text).replace("|", "\\|")
