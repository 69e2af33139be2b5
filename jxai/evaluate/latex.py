"""A report's tables as LaTeX (booktabs): a table of each run, and the tests of all of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from jxai.evaluate.joined import Joined
from jxai.evaluate.store import Run
from jxai.evaluate.table import Row
from jxai.evaluate.verdicts import best
from jxai.files import printable
from jxai.naming import proper, propers

_SPECIAL = {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_OPTIONAL = {"[": "{[}", "*": "{*}"}
"""What begins an argument of the `\\\\` or the `\\midrule` before it."""
_SYMBOLS = {"×": r"$\times$", "μ": r"$\mu$", "−": "$-$", "χ": r"$\chi$", "²": "$^2$", "–": "--", "…": r"\dots{}"}
_ESCAPED = {**_SPECIAL, **_OPTIONAL, **_SYMBOLS, **{letter: f"\\{letter}" for letter in "&%$#_{}"}}
_ARROWS = {1: r" $\uparrow$", -1: r" $\downarrow$", 0: ""}


def as_latex(runs: Sequence[Run], labels: Sequence[str], rows: Sequence[Row], joined: Joined) -> str:
    """The file: needs `\\usepackage{booktabs}` in the preamble.

    Args:
      runs, labels: the runs and their names. rows: of all runs, as in the CSV. joined: what the tests say.
    """
    parts = ["% Needs \\usepackage{booktabs}. Mean [95 % bootstrap interval]; the best mean of a column is bold."]
    parts += [_means(run, label, [row for row in rows if row.run == label]) for run, label in zip(runs, labels)]
    parts += [_ranks(joined)] if any(found.ranks for found in joined.by_example) else []
    return "\n\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """A text as LaTeX prints it."""
    return "".join(_ESCAPED.get(letter, letter) for letter in printable(text))


def number(value: float) -> str:
    """Three digits, powers of ten as such."""
    if not math.isfinite(value):
        return "--" if math.isnan(value) else ("$\\infty$" if value > 0 else "$-\\infty$")
    mantissa, _, power = f"{value:.3g}".partition("e")
    if power:
        return f"${mantissa} \\times 10^{{{int(power)}}}$"
    return f"${mantissa}$" if value < 0 else mantissa


def _means(run: Run, label: str, rows: Sequence[Row]) -> str:
    by = {(row.metric, row.method): row for row in rows}
    lines: dict[str, list[str]] = {method: [] for method in run.methods}
    heads = []
    for metric in run.metrics:
        cells = [by[metric, method] for method in run.methods]
        heads.append(escaped(proper(metric)) + _ARROWS[cells[0].direction])
        for row, top in zip(cells, best([row.mean for row in cells], cells[0].direction)):
            lines[row.method].append(_cell(row, top))
    data, model = escaped(run.config["data"]["name"]), escaped(run.config["model"]["name"] or "a model")
    counts = {row.n for row in rows}
    n = f"{max(counts)} examples" if len(counts) == 1 else f"{min(counts)} to {max(counts)} examples"
    caption = f"{model} on {data}, {n}: mean [95\\,\\% bootstrap interval]."
    body = [f"{escaped(name)} & {' & '.join(lines[method])} \\\\" for method, name in propers(lines).items()]
    return tabular(caption, f"tab:{key(label)}", ["Method", *heads], body)


def _cell(row: Row, top: bool) -> str:
    if not row.n:
        return "--"
    mean = f"\\textbf{{{number(row.mean)}}}" if top else number(row.mean)
    interval = f" {{\\scriptsize [{number(row.low)}, {number(row.high)}]}}" if np.isfinite(row.low) else ""
    return mean + interval


def _ranks(joined: Joined) -> str:
    """Mean ranks of methods by metric, with Friedman's test and Nemenyi's difference below."""
    found = [one for one in joined.by_example if one.ranks]
    body = []
    for method, name in propers(joined.methods).items():
        cells = []
        for one in found:
            rank, first = one.ranks[method], min(one.ranks.values())
            shown = f"{rank:.2f}"
            cells.append(f"\\textbf{{{shown}}}" if shown == f"{first:.2f}" else shown)
        body.append(f"{escaped(name)} & {' & '.join(cells)} \\\\")
    body += [r"\midrule", "Friedman's $\\chi^2$ & " + " & ".join(_chi2(one.friedman) for one in found) + r" \\"]
    body += ["$p$ & " + " & ".join(_p(one.friedman) for one in found) + r" \\"]
    body += ["Critical difference & " + " & ".join("--" if one.critical_difference is None else f"{one.critical_difference:.2f}" for one in found) + r" \\"]
    body += ["Examples & " + " & ".join(str(one.n) for one in found) + r" \\"]
    caption = "Mean ranks over the examples, 1 the best; Friedman's test, and Nemenyi's critical difference at 5\\,\\%."
    return tabular(caption, "tab:ranks", ["Method", *(escaped(proper(one.metric)) for one in found)], body)


def _chi2(test) -> str:
    return "--" if test is None else f"{test.statistic:.2f}"


def _p(test) -> str:
    return "--" if test is None else "$<0.001$" if test.p < 0.001 else f"{test.p:.3f}"


def tabular(caption: str, label: str, heads: Sequence[str], body: Sequence[str]) -> str:
    """A table with a caption above, its first column to the left and the others to the right."""
    head = [r"\begin{table}", r"\centering", f"\\caption{{{caption}}}", f"\\label{{{label}}}", f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}", r"\toprule"]
    return "\n".join([*head, " & ".join(heads) + r" \\", r"\midrule", *body, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def key(label: str) -> str:
    """A label as a part of one of LaTeX's."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in label)
