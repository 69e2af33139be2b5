"""Whether methods differ, as a section of a report's page."""

from __future__ import annotations

from collections.abc import Mapping

from jxai import pages
from jxai.evaluate import verdicts
from jxai.evaluate.comparison import Comparison, Pair
from jxai.evaluate.joined import Joined
from jxai.naming import proper, propers
from jxai.pages import number


def differences(study: Joined) -> pages.Section:
    """Whether the methods differ: Friedman's test of each metric, and every pair of methods."""
    found = [*study.by_example, *study.by_setting]
    several, named = bool(study.by_setting), propers(study.methods)
    columns = [pages.Column("rows"), pages.Column("Friedman"), pages.Column("p"), pages.Column("told apart"), pages.Column("best mean rank")]
    summed = pages.Table("metric", columns, [pages.Row(_metric(one, several), _summed(one, named)) for one in found], "All methods at once")
    names = ("pair", "n", "median difference", "p (Holm)", "effect r", "better")
    pairs = [pages.Row(_metric(one, several), _pair(pair, named)) for one in found for pair in one.pairs]
    each = pages.Table("metric", [pages.Column(name) for name in names], pairs, "Every pair of methods", closed=True)
    notes = [*study.notes, *(f"{_metric(one, several)}: {note}" for one in found for note in one.notes)]
    parts = [summed, *([each] if pairs else []), *([pages.Text(listed=notes)] if notes else [])]
    return pages.Section("Do the methods differ?", parts, verdicts.HOW)


def _metric(found: Comparison, several: bool) -> str:
    return proper(found.metric) + (f", over {found.rows}s" if several else "")


def _summed(found: Comparison, named: Mapping[str, str]) -> list[pages.Cell]:
    test, apart = found.friedman, sum(bool(pair.better) for pair in found.pairs)
    best = min(found.ranks, key=lambda name: found.ranks[name]) if found.ranks else ""
    return [
        pages.Cell(str(found.n), found.n),
        pages.Cell("–") if test is None else pages.Cell(f"χ²({test.degrees}) = {test.statistic:.2f}", test.statistic),
        pages.Cell("–") if test is None else pages.Cell(verdicts.p_value(test.p), test.p),
        pages.Cell(f"{apart} of {len(found.pairs)} pairs", apart),
        pages.Cell(f"{named[best]} {found.ranks[best]:.2f}" if best else "–", named.get(best, "")),
    ]


def _pair(pair: Pair, named: Mapping[str, str]) -> list[pages.Cell]:
    return [
        pages.Cell(f"{named[pair.first]} − {named[pair.second]}", f"{named[pair.first]} − {named[pair.second]}"),
        pages.Cell(str(pair.n), pair.n),
        pages.Cell(number(pair.difference), pair.difference),
        pages.Cell("no test" if pair.adjusted is None else verdicts.p_value(pair.adjusted), pair.adjusted, [pair.note] if pair.note else []),
        pages.Cell("–" if pair.effect is None else f"{pair.effect:.2f}".replace("-", "−"), pair.effect),
        pages.Cell(named.get(pair.better, "–"), named.get(pair.better, "")),
    ]
