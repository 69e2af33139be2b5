"""What runs say as a table: means, intervals and ranks, as rows, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from jxai.evaluate import blank, columns, told
from jxai.evaluate.statistics import Ranking, mean_interval, ranking
from jxai.evaluate.store import Run
from jxai.files import printable

COLUMNS = (
    "run",
    "data",
    "model",
    "metric",
    "method",
    "direction",
    "n",
    "failed",
    "missing",
    "seeds",
    "mean",
    "low",
    "high",
    "lower_quartile",
    "median",
    "upper_quartile",
    "rank",
    "ranked",
    "critical_difference",
)
_WORDS = {1: "higher", -1: "lower", 0: ""}


class Row(NamedTuple):
    """One line of the table: a metric's mean over the examples that one method explained."""

    run: str
    data: str
    model: str
    metric: str
    method: str
    direction: int
    n: int
    failed: int
    missing: int
    """Examples that the run has, but not yet with this score."""
    seeds: int
    """Whose scores are averaged within each example; 0 where the metric was not asked for on the method."""
    mean: float
    low: float
    high: float
    lower_quartile: float
    median: float
    upper_quartile: float
    rank: float
    ranked: int
    critical_difference: float


def summarise(run: Run, table: dict[str, np.ndarray], label: str = "") -> list[Row]:
    """The rows of one run: metrics in the order of its configuration, methods by rank (or in its order, where there is none)."""
    rows, lacking = [], run.lacking()
    for metric in run.metrics:
        scores, way, asked = scores_of(run, table, metric), direction_of(run, metric), columns.cells(run.config, metric)
        found = _ranked(scores, way)
        lines = []
        for column, method in enumerate(run.methods):
            interval = mean_interval(scores[:, column])
            missing = lacking.get((method, metric), 0) if method in asked else len(scores)
            known = (run.config["data"]["name"], run.config["model"]["name"], metric, method, way)
            counts = (interval.n, len(scores) - interval.n - missing, missing, len(asked.get(method, ())))
            spread = (*interval[:3], *_quartiles(scores[:, column]))
            lines.append(Row(label, *known, *counts, *spread, float(found.ranks[column]), found.n, found.critical_difference))
        rows += sorted(lines, key=lambda line: np.nan_to_num(line.rank, nan=np.inf))
    return rows


def _ranked(scores: np.ndarray, way: int) -> Ranking:
    """The ranks of the methods that have a score at all, NaN of the others."""
    ranks, there = np.full(scores.shape[1], np.nan), ~np.isnan(scores).all(0)
    if not way or not there.any():
        return Ranking(ranks, 0, np.nan, np.nan)
    found = ranking(scores[:, there], way)
    ranks[there] = found.ranks
    return found._replace(ranks=ranks)


def _quartiles(values: np.ndarray) -> tuple[float, float, float]:
    values = values[~np.isnan(values)].astype(np.float64)
    if not len(values):
        return np.nan, np.nan, np.nan
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return float(low), float(middle), float(high)


def scores_of(run: Run, table: dict[str, np.ndarray], metric: str) -> np.ndarray:
    """`[examples, methods]`, of several seeds their mean within each example; NaN where one of them has none, and of a method on which the metric was not asked for."""
    asked = columns.cells(run.config, metric)
    return np.stack([_over_seeds(table, asked.get(method, ())) for method in run.methods], 1)


def _over_seeds(table: dict[str, np.ndarray], cells: Collection[str]) -> np.ndarray:
    found = [table[columns.SCORE + cell] for cell in cells if columns.SCORE + cell in table]
    if not found or len(found) < len(cells):
        return np.full(len(table["index"]), np.nan, np.float32)
    return found[0] if len(found) == 1 else np.stack(found).astype(np.float64).mean(0)


def direction_of(run: Run, metric: str) -> int:
    """1 where higher is better, −1 where lower is, 0 where neither, or where its docstring does not say (`Direction:`)."""
    return run.config["metrics"][metric].get("direction", 0)


def as_csv(rows: Sequence[Row]) -> str:
    """The rows with a header; floats as they are, to the last bit."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(_WORDS[row.direction] if name == "direction" else "" if isinstance(v, float) and np.isnan(v) else v for name, v in zip(COLUMNS, row))
    return text.getvalue()


def as_markdown(run: Run, table: dict[str, np.ndarray], rows: Sequence[Row]) -> str:
    """A heading that says what ran, and a table of methods × metrics: mean [interval], and the mean rank."""
    valid, config = table["valid"], run.config
    failed = f", {(~valid).sum()} of them failed" if not valid.all() else ""
    explained = "the value of f" if config["target"] is None else f"the {config['target']} class"
    lines = [
        f"## {printable(run.path.name)}: {config['model']['name'] or 'a model'} on {config['data']['name']}",
        "",
        f"{len(valid)} examples{failed}; {explained} is explained, of {config['where']} examples; seed {config['seed']}. "
        "Mean [95 % bootstrap interval] (mean rank over the examples, 1 the best); ↑ higher is better, ↓ lower. Where a mean is outside of its values' "
        "middle half, the median is beside it.",
        "",
        *([said, ""] if (said := told.classes(table)) else []),
    ]
    by = {(row.metric, row.method): row for row in rows}
    arrows = {1: " ↑", -1: " ↓", 0: ""}
    lines.append("| method | " + " | ".join(f"{cell(m)}{arrows[direction_of(run, m)]}{told.unit(run, m)}" for m in run.metrics) + " |")
    lines.append("|---" * (len(run.metrics) + 1) + "|")
    for method in run.methods:
        lines.append(f"| {cell(method)} | " + " | ".join(_cell(by[metric, method]) for metric in run.metrics) + " |")
    bounds = [f"{row.metric} {row.critical_difference:.2f}" for row in rows if row.method == run.methods[0] and np.isfinite(row.critical_difference)]
    if bounds:
        lines += ["", f"Critical differences of mean ranks (Nemenyi, 5 %): {', '.join(bounds)}."]
    for remark in remarks(run, table):
        lines += ["", remark]
    lines += ["", "Options:", "", *listed] if (listed := told.options(run)) else []
    return "\n".join(lines) + "\n"


def remarks(run: Run, table: dict[str, np.ndarray]) -> list[str]:
    """What must be known to read the table: fills that have the class, orders that are luck, what is damaged, what failed, what is averaged or not there yet."""
    found = [*told.seeds(run), *told.unfinished(run), *blank.lines(table), *told.luck(run, table)]
    if damaged := run.damaged_maps():
        found.append(f"The explanations of blocks {', '.join(map(str, damaged[:10]))} are damaged or missing (not the scores); evaluating again mends them.")
    errors = [f"{i} ({name}): {error}" for i, name, error in zip(table["index"], table["name"], table["error"]) if error]
    if errors:
        found.append(f"Failed: {'; '.join(errors[:10])}{' …' if len(errors) > 10 else ''}.")
    return found


def cell(name: str) -> str:
    """A name in a cell of a Markdown table: what would end the cell or be a tag is escaped."""
    return printable(name).replace("|", r"\|").replace("<", r"\<")


def _cell(row: Row) -> str:
    missing = (f", {row.failed} failed" if row.failed else "") + (f", {row.missing} not there yet" if row.missing and row.seeds else "")
    if not row.n:
        return f"–{missing}"
    interval = f" [{row.low:.3g}, {row.high:.3g}]" if np.isfinite(row.low) else ""
    rank = f" ({row.rank:.2f})" if np.isfinite(row.rank) else ""
    median = f", median {row.median:.3g}" if not row.lower_quartile <= row.mean <= row.upper_quartile else ""
    return f"{row.mean:.3g}{interval}{median}{rank}{missing}"
