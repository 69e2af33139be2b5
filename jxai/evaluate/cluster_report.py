"""What is written of clusters of explanations: a row for each method and class, the cluster of every example, and pictures."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jxai.data.sources import NO_LABEL
from jxai.dataset import enrichment
from jxai.evaluate import told
from jxai.evaluate.clusters import Clustered
from jxai.evaluate.store import PICTURE, Run
from jxai.files import atomic, file_name
from jxai.naming import proper

EXAMPLES = 6
"""Of each cluster, in a picture."""


class Summary(NamedTuple):
    """The clusters of a method's explanations of a class, in a line of a table."""

    method: str
    explained: str
    """The class; `all`: of all examples together."""
    examples: int
    sizes: tuple[int, ...]
    """Of the clusters, the largest first."""
    components: int
    """Of the graph."""
    gap_after: int | None
    """After how many eigenvalues the largest eigengap is; None without a test."""
    p_value: float
    """Of that eigengap; NaN without a test."""
    silhouette: float
    """Of the clusters, in [−1, 1]."""
    mistakes: tuple[float, ...]
    """The share of wrong predictions in each cluster; empty where that is not known."""
    mistakes_cluster: int | None
    """The cluster where wrong predictions are the least likely by chance; None where there are none, or nothing else."""
    mistakes_p: float
    """By chance, times the number of clusters; NaN without such a cluster."""
    left_out: int
    """Examples whose explanation is not finite."""


def summarised(run: Run, table: Mapping[str, np.ndarray], found: Clustered) -> Summary:
    """The line of the table."""
    labels, spectrum = np.asarray(found.spectrum.labels), found.spectrum
    at = np.searchsorted(table["index"], found.places)
    known = run.config["target"] is not None and (table["label"][at] != NO_LABEL).all()
    wrong = table["predicted"][at] != table["label"][at]
    best = enrichment(labels, wrong) if known and wrong.any() and not wrong.all() else None
    return Summary(
        found.method,
        explained(run, found),
        len(labels),
        tuple(np.bincount(labels).tolist()),
        spectrum.num_components,
        None if found.test is None else int(found.test.clusters),
        float("nan") if found.test is None else float(found.test.p_value),
        float(np.max(spectrum.silhouettes)) if np.isfinite(spectrum.silhouettes).any() else float("nan"),
        tuple(float(wrong[labels == c].mean()) for c in range(spectrum.num_clusters)) if known else (),
        None if best is None else int(best.cluster),
        float("nan") if best is None else float(best.p_value),
        found.left_out,
    )


def explained(run: Run, found: Clustered) -> str:
    """The class by its name."""
    return "all" if found.target is None else told.named(run, found.target)


def write(run: Run, table: Mapping[str, np.ndarray], found: Sequence[Clustered], out: Path) -> list[Summary]:
    """Writes `summary.csv`, `labels.csv` and a picture for each method and class, `METHOD_CLASS.png`; returns the lines of the table. Needs matplotlib."""
    from jxai import plot

    rows = [summarised(run, table, one) for one in found]
    _write(out / "summary.csv", [Summary._fields, *[[_plain(value) for value in row] for row in rows]])
    lines = [("method", "explained", "index", "name", "label", "predicted", "cluster", "x", "y")]
    for one in found:
        at = np.searchsorted(table["index"], one.places)
        layout = np.full((len(at), 2), np.nan) if one.spectrum.layout is None else np.asarray(one.spectrum.layout)
        for row, cluster, place in zip(at, np.asarray(one.spectrum.labels).tolist(), layout.tolist()):
            told_of = (str(table[name][row]) for name in ("name", "label", "predicted"))
            lines.append((one.method, explained(run, one), int(table["index"][row]), *told_of, cluster, *(_plain(v) for v in place)))
    _write(out / "labels.csv", lines)
    for one, row in zip(found, rows):
        plot.save(picture(run, one, row), out / f"{stem(row)}.png", dpi=150)
    return rows


def stem(row: Summary) -> str:
    """Of the name of a picture."""
    return file_name(f"{row.method}_{row.explained}")


def picture(run: Run, found: Clustered, row: Summary):
    """The figure of a method's clusters of a class; of images with mean maps and examples."""
    from jxai import plot

    signed, images = told.signed(run, found.method), len(run.config["data"]["x"]) == 3
    notes = [f"{share:.0%} wrong" for share in row.mistakes]
    title = f"{proper(row.method)}, {row.explained}" + ("" if np.isnan(row.p_value) else f": eigengap after {row.gap_after}, p = {row.p_value:.2g}")
    if not images:
        return plot.spectrum(found.spectrum, title=title)
    chosen = [found.typical(c, EXAMPLES) for c in range(found.spectrum.num_clusters)]
    kept = run.looked_at({int(place) for one in chosen for place in one})
    shown = [[(kept[i][PICTURE] / 255, kept[i][found.method]) for i in one.tolist() if {PICTURE, found.method} <= kept.get(i, {}).keys()] for one in chosen]
    return plot.spectrum(found.spectrum, found.means(), shown, signed=signed, notes=notes, title=title)


def _plain(value) -> str | int | float:
    if isinstance(value, tuple):
        return " ".join(str(_plain(v)) for v in value)
    return "" if value is None or value != value else f"{value:.6g}" if isinstance(value, float) else value


def _write(path: Path, lines: Sequence[Sequence]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    with atomic(path) as part:
        part.write_text(text.getvalue(), "utf-8")
