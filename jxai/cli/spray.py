"""`jxai spray RUN`: clusters of the explanations that an evaluation run keeps, by method and class."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jxai.cli.errors import UserError, known, nearest, told
from jxai.cli.progress import said


def main(args: argparse.Namespace) -> None:
    """Checks everything, finds the clusters, writes pictures, tables and labels, and prints a line for each method and class."""
    from jxai import evaluate
    from jxai.evaluate import cluster_report

    with told():
        run = evaluate.Run(args.run)
        methods = None if args.methods is None else list(dict.fromkeys(known("method", name, run.methods) for name in args.methods.split(",")))
        targets = None if args.label is None else list(dict.fromkeys(_target(text, run.config["data"].get("class_names")) for text in args.label.split(",")))
        options = dict(num_neighbours=args.neighbours, clusters=args.clusters, norm=args.norm, gap=args.gap, most=args.most, layout=args.layout)
        if args.permutations < 0:
            raise UserError(f"--permutations {args.permutations} must be 0 (no test) or more")
        out = Path(args.out) if args.out else Path(args.run) / "spray"
        if out.exists() and not out.is_dir():
            raise UserError(f"--out {out} must be a folder")
        same = dict(methods=methods, targets=targets, together=args.together, size=args.size or None, num_permutations=args.permutations, seed=args.seed)
        with said("looking for clusters"):
            found = evaluate.clusters(run, on_progress=lambda text: print(text, file=sys.stderr), **same, **options)
        table = run.table()
        rows = cluster_report.write(run, table, found, out)
    print("\n".join(lines(rows)))
    print(f"wrote summary.csv, labels.csv and {len(rows)} picture{'s' * (len(rows) > 1)} into {out}")
    if args.html:
        from jxai.cli import clustered

        clustered.page(out / "spray.html", run, table, found, rows, args)


def lines(rows: Sequence) -> list[str]:
    """The table as it is printed, the least p-value first."""
    cells = [("method", "explained", "examples", "clusters", "eigengap", "p", "silhouette", "mistakes")]
    for row in sorted(rows, key=lambda row: (row.p_value != row.p_value, row.p_value)):
        gap = ("", "") if row.gap_after is None else (f"after {row.gap_after}", f"{row.p_value:.2g}")
        wrong = "" if row.mistakes_cluster is None else f"{row.mistakes[row.mistakes_cluster]:.0%} of cluster {row.mistakes_cluster} (p {row.mistakes_p:.2g})"
        lost = f", {row.left_out} not finite" * bool(row.left_out)
        cells.append((row.method, row.explained, f"{row.examples}{lost}", " + ".join(map(str, row.sizes)), *gap, f"{row.silhouette:.2f}", wrong))
    widths = [max(map(len, column)) for column in zip(*cells)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in cells]


def _target(text: str, names: Sequence[str] | None) -> int:
    """A class by its name or index."""
    if names is not None and text in names:
        return list(names).index(text)
    if text.isdecimal() and (names is None or int(text) < len(names)):
        return int(text)
    raise UserError(f"--label {text!r} is no class of this run" + ("" if names is None else f"; {nearest(text, names)}"))
