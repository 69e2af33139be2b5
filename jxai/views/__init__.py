"""What a person sees of results, and of work that is under way, in a notebook or on a terminal.

- `html`: small tables of what a result holds, for `_repr_html_`; everything in them is escaped, and values that are traced show their type.
- `images`: arrays as small pictures of such a table.
- `progress`: how far a loop is, and a bar of it wherever the program runs.

What may be touched: a result gets its view by `_repr_html_`, a few lines in its own class that name what is worth seeing, with what this room makes of
values. Nothing here is imported before a result is shown, and nothing here imports more than NumPy and JAX at once.
"""

from jxai.views.html import Picture, table, value
from jxai.views.progress import Progress, ProgressBar

__all__ = ["Picture", "Progress", "ProgressBar", "table", "value"]
