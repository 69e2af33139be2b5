"""Pages that people send: one HTML file that holds its pictures, its style and its script, and asks no network for anything. Needs jinja2, pillow and matplotlib's colours.

- `html`: a title and parts make the text of a page; `templates/` holds the layout, a template for each kind of part, one style and one script.
- `parts`: texts, facts, tables that sort, charts, sheets of small pictures, and the browser of examples. `charts`: curves and critical differences as SVG.
- `pictures`: arrays to small pictures and layers over them, with words for who cannot see them. `agreement`: how far methods disagree on an example.

What may be touched: another part is a dataclass in `parts` and a template of its name. Parts take arrays, numbers and names, not runs or models; what they are
called with is escaped by jinja2, and nothing may depend on time, place or chance: equal results make equal bytes.
"""

from jxai.pages.agreement import disagreement
from jxai.pages.charts import critical_difference, curves
from jxai.pages.html import render, save
from jxai.pages.parts import Browser, Case, Cell, Chart, Charts, Column, Facts, Key, Row, Section, Sheet, Table, Text, Tile, number
from jxai.pages.pictures import Layer, bars, layer, picture, side

__all__ = [
    "Browser",
    "Case",
    "Cell",
    "Chart",
    "Charts",
    "Column",
    "Facts",
    "Key",
    "Layer",
    "Row",
    "Section",
    "Sheet",
    "Table",
    "Text",
    "Tile",
    "bars",
    "critical_difference",
    "curves",
    "disagreement",
    "layer",
    "number",
    "picture",
    "render",
    "save",
    "side",
]
