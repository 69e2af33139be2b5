"""Comparisons of methods as text: Markdown for the report, CSV with every pair."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from jxai.evaluate.comparison import Comparison, Pair
from jxai.evaluate.joined import Joined
from jxai.evaluate.table import cell

_LISTED = 6
"""Pairs of one metric that are listed in Markdown; of more only those that are not told apart, and all are in the CSV and on the page."""
_PAIR = ("n", "zeros", "difference", "statistic", "p", "adjusted", "effect", "better", "note")


def as_csv(joined: Joined) -> str:
    """A line for each pair of each metric; what has no meaning is empty, and `note` says why."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("rows", "metric", "first", "second", *_PAIR))
    for found in (*joined.by_example, *joined.by_setting):
        for pair in found.pairs:
            writer.writerow((found.rows, found.metric, pair.first, pair.second, *(_blank(getattr(pair, name)) for name in _PAIR)))
    return text.getvalue()


def as_markdown(joined: Joined) -> str:
    """What the tests say, metric by metric."""
    names = ", ".join(f"{' + '.join(s.runs)} ({s.model or 'a model'} on {s.data}, {s.examples} examples)" for s in joined.settings)
    lines = ["## Do the methods differ?", "", f"Over the examples of {names}: {HOW}", ""]
    lines += [f"- {note}." for note in joined.notes] + ([""] if joined.notes else [])
    for found in joined.by_example:
        lines += _section(found)
    if joined.by_setting:
        lines += ["## Over data sets and models", "", f"Each of {len(joined.settings)} settings is one row, the mean over its examples (Demšar 2006).", ""]
        for found in joined.by_setting:
            lines += _section(found)
    return "\n".join(lines).rstrip() + "\n"


HOW = (
    "Friedman's test (χ² corrected for ties, and Iman and Davenport's F) on the examples where every method has a finite score; every pair by Wilcoxon's "
    "signed-rank test on those where both have one (two-sided, rows that score the same left out), p by Holm's correction over the pairs of a metric; r is the "
    "matched-pairs rank-biserial correlation, 1 where the first is better on every row. Seeds are averaged within an example first."
)


def told_friedman(found: Comparison) -> str:
    """Friedman's test in a line; empty without."""
    if (test := found.friedman) is None:
        return ""
    degrees = (found.n - 1) * test.degrees
    return f"χ²({test.degrees}) = {test.statistic:.2f}, {p_value(test.p)}; F({test.degrees}, {degrees}) = {test.f:.2f}, {p_value(test.f_p)}"


def p_value(p: float) -> str:
    """`p = 0.012`, or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _section(found: Comparison) -> list[str]:
    left = f", {found.left_out} left out on which some method has no finite score" if found.left_out else ""
    lines = [f"### {found.metric}", "", f"{found.n} {found.rows}s{left}. {_sentence(told_friedman(found))}", ""]
    if found.ranks is not None and found.critical_difference is not None:
        ranked = ", ".join(f"{name} {rank:.2f}" for name, rank in sorted(found.ranks.items(), key=lambda item: item[1]))
        lines += [f"Mean ranks: {ranked}; critical difference {found.critical_difference:.2f}.", ""]
    lines += [f"- {note}." for note in found.notes] + ([""] if found.notes else [])
    if found.pairs:
        few, open_ = len(found.pairs) <= _LISTED, [f"{pair.first} and {pair.second}" for pair in found.pairs if not pair.better]
        but = f", but not {', '.join(open_)}" if open_ and not few else ""
        lines += [f"Told apart: {len(found.pairs) - len(open_)} of {len(found.pairs)} pairs{but}{'.' if few else ' (tests.csv has them all).'}", ""]
        if few:
            lines += ["| pair | n | median difference | p (Holm) | r | better |", "|---|---|---|---|---|---|", *map(_line, found.pairs), ""]
    return lines


def _line(pair: Pair) -> str:
    difference = "–" if pair.difference is None else f"{pair.difference:.3g}"
    if pair.adjusted is None or pair.effect is None:
        return f"| {cell(pair.first)} − {cell(pair.second)} | {pair.n} | {difference} | no test: {pair.note} | – | – |"
    note = f" ({pair.note})" if pair.note else ""
    return f"| {cell(pair.first)} − {cell(pair.second)} | {pair.n} | {difference} | {p_value(pair.adjusted)}{note} | {pair.effect:.2f} | {cell(pair.better) or '–'} |"


def _sentence(text: str) -> str:
    return f"Friedman: {text}." if text else "No test of all methods at once."


def _blank(value: object) -> object:
    return "" if value is None else value


def best(means: Sequence[float | None], direction: int) -> list[bool]:
    """Which of the means are the best, as they are printed to three digits; none without a direction."""
    shown = [None if mean is None or mean != mean else float(f"{mean:.3g}") for mean in means]
    known = [value for value in shown if value is not None]
    if not direction or not known:
        return [False] * len(shown)
    top = max(known) if direction > 0 else min(known)
    return [value == top for value in shown]
