"""What a page is made of: each part is drawn by the template of its name."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from jxai.files import printable
from jxai.pages.pictures import Layer, bars

MINUS = "\N{MINUS SIGN}"


def number(value: float | None, digits: int = 3) -> str:
    """A number for the eye, `−0.0123`; an en dash for what is none."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}g}".replace("-", MINUS).replace("inf", "∞")


@dataclasses.dataclass(frozen=True)
class Text:
    """Paragraphs and a list; `closed`: shown when its title is clicked."""

    title: str = ""
    paragraphs: Sequence[str] = ()
    listed: Sequence[str] = ()
    closed: bool = False
    code: str = ""
    """A command, shown as it is typed."""
    template: ClassVar[str] = "text.html"


@dataclasses.dataclass(frozen=True)
class Facts:
    """Names with what they are."""

    pairs: Sequence[tuple[str, str]]
    title: str = ""
    template: ClassVar[str] = "facts.html"


class Column(NamedTuple):
    """Of a table."""

    name: str
    note: str = ""
    direction: int = 0
    """1: higher is better, −1: lower is, 0 neither."""


class Cell(NamedTuple):
    """Of a table: what is read, what it is sorted by, and where it lies between the ends of its column."""

    text: str
    value: float | str | None = None
    notes: Sequence[str] = ()
    low: float | None = None
    """The interval, as a share of the column's range, in [0, 1]; None without one."""
    middle: float | None = None
    high: float | None = None
    shade: float = 0.0
    """How good, in [0, 1]."""
    best: bool = False

    @property
    def key(self) -> str:
        """What a script sorts by: every digit of a number, `""` of none."""
        return "" if self.value is None or self.value != self.value else str(self.value)


class Row(NamedTuple):
    """Of a table."""

    name: str
    cells: Sequence[Cell]
    color: int | None = None
    """Of the method in charts."""
    picture: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table that is sorted by a click on a column's name."""

    corner: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    title: str = ""
    caption: str = ""
    closed: bool = False
    """Shown when its title is clicked."""
    template: ClassVar[str] = "table.html"


class Key(NamedTuple):
    """A line of a chart in its legend."""

    name: str
    color: int
    note: str = ""


@dataclasses.dataclass(frozen=True)
class Chart:
    """An SVG that `jxai.pages.charts` made, what it shows in words, and its legend."""

    title: str
    svg: Any
    alt: str
    keys: Sequence[Key] = ()
    caption: str = ""
    template: ClassVar[str] = "chart.html"


@dataclasses.dataclass(frozen=True)
class Charts:
    """Charts side by side, where there is room."""

    charts: Sequence[Chart]
    title: str = ""
    caption: str = ""
    template: ClassVar[str] = "charts.html"


@dataclasses.dataclass(frozen=True)
class Case:
    """An example in the browser."""

    name: str
    picture: str
    """A data URI; `""` where there is none."""
    alt: str
    layers: Sequence[Layer]
    facts: Sequence[tuple[str, str]] = ()
    group: str = ""
    """Its class, to filter by."""
    wrong: bool = False
    disagreement: float | None = None
    scores: Sequence[Sequence[float]] = ()
    """By layer and metric; NaN where there is none."""
    error: str = ""
    note: str = ""
    thumb: str = ""
    """A data URI, where not the picture is shown among the others."""
    values: Any = None
    """Of a vector, which has no picture."""
    value_names: Sequence[str] | None = None

    def told(self) -> dict[str, Any]:
        """As the page's script reads it."""
        plain = {
            "n": printable(self.name),
            "x": self.picture,
            "i": self.thumb,
            "a": printable(self.alt),
            "f": [[printable(a), printable(b)] for a, b in self.facts],
            "g": printable(self.group),
            "e": printable(self.error),
            "t": printable(self.note),
            "w": int(self.wrong),
            "d": None if self.disagreement is None or math.isnan(self.disagreement) else round(self.disagreement, 4),
            "s": [[number(v) for v in row] for row in self.scores],
            "v": [] if self.values is None else bars("", self.values, self.value_names).told().get("b", []),
            "l": [one.told() for one in self.layers],
        }
        return {name: value for name, value in plain.items() if value or name == "d"}


@dataclasses.dataclass(frozen=True)
class Browser:
    """Examples one by one, with what lies over them."""

    cases: Sequence[Case]
    title: str = ""
    caption: str = ""
    scored: str = "method"
    """What a layer is, above the table of scores."""
    metrics: Sequence[Column] = ()
    disagreement: str = ""
    """How it is measured."""
    marked: str = "wrong predictions only"
    """What the filter keeps that is by `Case.wrong`."""
    ends: tuple[str, str] = ("against", "for the class")
    """What the two colours of a signed layer mean."""
    extent: tuple[str, str] = ("least", "most important")
    """What the two ends of an unsigned layer mean."""
    opacity: int = 85
    """Of layers at the beginning, in per cent."""
    template: ClassVar[str] = "browser.html"

    @property
    def groups(self) -> list[str]:
        return sorted({printable(case.group) for case in self.cases if case.group}, key=lambda name: (len(name) if name.isdecimal() else 0, name))

    @property
    def wrong(self) -> int:
        return sum(case.wrong for case in self.cases)

    @property
    def disagreements(self) -> list[float]:
        """Those that are known, sorted."""
        return sorted(case.told()["d"] for case in self.cases if case.told()["d"] is not None)

    @property
    def kinds(self) -> set[str]:
        return {one.kind for case in self.cases for one in case.layers}

    def told(self) -> str:
        """What the page's script reads, as JSON that a `<script>` can hold."""
        metrics = [{"n": printable(m.name), "w": m.direction} for m in self.metrics]
        whole = {"m": metrics, "c": [case.told() for case in self.cases]}
        text = json.dumps(whole, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


class Tile(NamedTuple):
    """A small picture of a sheet."""

    picture: str
    """A data URI."""
    alt: str
    captions: Sequence[str] = ()
    marked: bool = False


@dataclasses.dataclass(frozen=True)
class Sheet:
    """Rows of small pictures, each with a name."""

    rows: Sequence[tuple[str, Sequence[Tile]]]
    title: str = ""
    caption: str = ""
    template: ClassVar[str] = "sheet.html"


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and the parts below it."""

    title: str
    parts: Sequence[Any]
    lead: str = ""
