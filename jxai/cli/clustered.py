"""The page of `jxai spray`: clusters of explanations, and examples of each to go through."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jxai import pages
from jxai.cli import html
from jxai.evaluate import Clustered, Run, told
from jxai.evaluate.cluster_report import Summary
from jxai.evaluate.store import PICTURE
from jxai.naming import proper


def page(path: Path, run: Run, table: Mapping[str, np.ndarray], found: Sequence[Clustered], rows: Sequence[Summary], args: argparse.Namespace) -> None:
    """Writes the page.

    Args:
      path: of the page. run, table: what was explained. found, rows: the clusters, and what is said of each. args: of the command.
    """
    columns = [pages.Column("explained"), pages.Column("examples"), pages.Column("clusters"), pages.Column("eigengap after"), pages.Column("p", direction=-1)]
    lines = []
    for row in rows:
        cells = [
            pages.Cell(row.explained, row.explained),
            pages.Cell(str(row.examples), row.examples),
            pages.Cell(" + ".join(map(str, row.sizes)), len(row.sizes)),
        ]
        cells += [pages.Cell("–" if row.gap_after is None else str(row.gap_after), row.gap_after), pages.Cell(pages.number(row.p_value, 2), row.p_value)]
        lines.append(pages.Row(proper(row.method), cells))
    caption = "p: how often data without clusters have an eigengap as large. Of many rows, one in twenty is below 0.05 by chance."
    each = max(1, html.IMAGES // max(1, sum(len(row.sizes) for row in rows)))
    parts = [
        pages.Table("method", columns, lines, "Clusters", caption),
        *(part for one, row in zip(found, rows) for part in _parts(run, table, one, row, each)),
    ]
    html.write(
        path,
        f"Clusters of explanations: {run.path.name}",
        parts,
        args,
        "Do all examples of a class have the same reasons? Explanations that are alike are near to each other.",
    )


def _parts(run: Run, table: Mapping[str, np.ndarray], found: Clustered, row: Summary, each: int) -> list:
    """Of a method and class: the eigenvalues, the clusters with their mean maps, and examples."""
    head, width, signed = f"{proper(row.method)}, {row.explained}", pages.side(each * len(row.sizes)), told.signed(run, found.method)
    values = np.asarray(found.spectrum.eigenvalues, np.float64)
    chart = pages.curves({"eigenvalues": (np.arange(1.0, len(values) + 1), values[None])}, "Eigenvalues of the graph", label="number")
    shape = tuple(run.config["data"]["x"])
    cases = []
    for cluster in range(len(row.sizes)):
        wrong = f", {row.mistakes[cluster]:.0%} wrong" if row.mistakes else ""
        group = f"cluster {cluster}: {row.sizes[cluster]}{wrong}"
        cases.append(_mean(found, cluster, group, shape, signed, width))
        chosen = found.typical(cluster, each)
        kept = run.looked_at(set(chosen.tolist()))
        cases += [_case(run, table, int(place), kept.get(int(place), {}), found.method, group, shape, signed, width) for place in chosen]
    return [pages.Charts([chart], head), pages.Browser([case for case in cases if case is not None], head, "The first of a cluster is its mean map.")]


def _mean(found: Clustered, cluster: int, group: str, shape: tuple[int, ...], signed: bool | None, width: int) -> pages.Case:
    mean = found.means()[cluster]
    size = (*mean.shape[:2], 1) if len(shape) == 3 else shape
    own = pages.layer("mean map", mean, size, signed=signed, width=width)
    blank = pages.picture(np.ones((*size[:2], 1), np.float32), width) if len(shape) == 3 else ""
    return pages.Case(f"mean of cluster {cluster}", blank, f"mean map of {group}", [own], [("cluster", group)], group)


def _case(
    run: Run,
    table: Mapping[str, np.ndarray],
    place: int,
    kept: Mapping[str, np.ndarray],
    method: str,
    group: str,
    shape: tuple[int, ...],
    signed: bool | None,
    width: int,
) -> pages.Case | None:
    """An example with its map; None where it was not kept."""
    if method not in kept:
        return None
    row = int(np.searchsorted(table["index"], place))
    facts = [("cluster", group)]
    if run.config["target"] is not None:
        facts += [(name, told.named(run, int(table[name][row]))) for name in ("label", "predicted") if table[name][row] >= 0]
    name = f"example {table['name'][row] or place}"
    wrong = run.config["target"] is not None and 0 <= table["label"][row] != table["predicted"][row]
    layers = [pages.layer(proper(method), kept[method], shape, signed=signed, width=width)]
    picture = pages.picture(kept[PICTURE], max(width, 144)) if PICTURE in kept else ""
    values = kept[PICTURE] if PICTURE in kept and len(shape) == 1 else None
    return pages.Case(name, picture, ", ".join([name, *(" ".join(pair) for pair in facts)]), layers, facts, group, bool(wrong), values=values)
