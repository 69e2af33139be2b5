"""`jxai compare`: what differs between the results of two experiments."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jxai.cli.errors import UserError

VALUES = ("mean", "low", "high", "n", "more")
"""What is found; whatever else a row holds names it."""

Row = Mapping[str, Any]


def main(args: argparse.Namespace) -> None:
    """Prints where configurations, commits and versions differ, and the rows side by side."""
    a, b = (read(path) for path in (args.a, args.b))
    print("\n".join([f"A  {args.a}", f"B  {args.b}", "", *about(a, b), "", *beside(a["rows"], b["rows"])]))


def read(path: str) -> dict[str, Any]:
    """The results in a file, or in a folder's `results.json`."""
    file = Path(path) / "results.json" if Path(path).is_dir() else Path(path)
    if not file.exists():
        within = sorted(found.parent.name for found in Path(path).glob("*/results.json"))
        raise UserError(f"{path} holds no results.json" + (f"; those of configurations: {', '.join(within)}" if within else ""))
    try:
        found = json.loads(file.read_text("utf-8"))
    except ValueError as error:  # a file that is no text is one, too
        raise UserError(f"{file} is no JSON: {error}") from None
    known = isinstance(found, dict) and isinstance(found.get("rows"), list) and all(isinstance(row, dict) for row in found["rows"])
    if not known or not isinstance(found.get("config"), dict) or not isinstance(found.get("runs"), list):
        raise UserError(f"{file} holds no results of an experiment: config, runs and rows")
    return found


def about(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Where the experiments, their configurations, and the code that made the results differ, in a line each."""
    found = [f"experiment: {a.get('experiment')} | {b.get('experiment')}"] if a.get("experiment") != b.get("experiment") else []
    found += [f"config.{text}" for text in _apart(a["config"], b["config"])]
    return (found + _apart(made_by(a), made_by(b))) or ["the same experiment, configuration, commit and versions"]


def made_by(results: dict[str, Any]) -> dict[str, str]:
    """The commits and versions of the runs that made results; several where a later one went on with other code."""
    found: dict[str, list[str]] = {}
    for run in results["runs"]:
        commit = (run.get("commit") or "none")[:12] + (" and changes" if run.get("dirty") else "")
        for name, value in {"commit": commit, **run.get("versions", {})}.items():
            found.setdefault(name, []).append(value)
    return {name: ", then ".join(dict.fromkeys(values)) for name, values in found.items()}


def beside(a: list[Row], b: list[Row]) -> list[str]:
    """A line for each row that both have: A's mean with its interval and n, B's, and B − A, marked where the intervals have nothing in common."""
    left, right = named(a), named(b)
    both = [key for key in left if key in right]
    lines = [("", "A", "B", "B − A", "")]
    lines += [(_label(key), _cell(left[key]), _cell(right[key]), _difference(left[key], right[key]), _mark(left[key], right[key])) for key in both]
    text = _aligned(lines) if both else ["no row is in both"]
    if any(line[-1] for line in lines):
        text.append("* the intervals have nothing in common")
    for name, rows, other in (("A", left, right), ("B", right, left)):
        if alone := [key for key in rows if key not in other]:
            text += ["", f"only in {name}:", *_aligned([(_label(key), _cell(rows[key])) for key in alone])]
    return text


def named(rows: list[Row]) -> dict[tuple, Row]:
    """Rows by their names, whatever the order of these; a second one of the same names is numbered."""
    found: dict[tuple, Row] = {}
    counts: dict[tuple, int] = {}
    for row in rows:
        names = tuple((name, json.dumps(value, ensure_ascii=False)) for name, value in sorted(row.items()) if name not in VALUES)
        counts[names] = count = counts.get(names, 0) + 1
        found[(*names, ("", f"#{count}")) if count > 1 else names] = row
    return found


def _apart(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[str]:
    names = dict.fromkeys([*a, *b])
    show = lambda of, name: json.dumps(of[name], ensure_ascii=False) if name in of else "not there"
    return [f"{name}: {show(a, name)} | {show(b, name)}" for name in names if name not in a or name not in b or a[name] != b[name]]


def _label(key: tuple) -> str:
    return ", ".join(f"{name}={json.loads(value)}" if name else value for name, value in key)


def _cell(row: Row) -> str:
    mean, low, high = (_number(row.get(name)) for name in ("mean", "low", "high"))
    if "mean" in row:
        return f"{mean} [{low}, {high}] n={row.get('n')}"
    return ", ".join(f"{name}={value}" for name, value in (row.get("more") or {}).items())


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "–" if value is None else str(value)


def _difference(a: Row, b: Row) -> str:
    ends = a.get("mean"), b.get("mean")
    return f"{ends[1] - ends[0]:+.3g}" if all(isinstance(end, (int, float)) for end in ends) else ""


def _mark(a: Row, b: Row) -> str:
    ends = [row.get(name) for row in (a, b) for name in ("low", "high")]
    if not all(isinstance(end, (int, float)) for end in ends):
        return ""
    return "*" if ends[1] < ends[2] or ends[3] < ends[0] else ""


def _aligned(lines: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines]
