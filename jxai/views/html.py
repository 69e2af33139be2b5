"""Results as small HTML tables, as notebooks show them."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jxai.files import printable

_MOST = 8
"""Entries of an array that are written out."""
_CELL = "padding:1px 10px 1px 0;text-align:left;border:none;vertical-align:top"


class Picture(NamedTuple):
    """An image beside a table."""

    source: str
    """A data URI; `""` where there is none, and then nothing is shown."""
    caption: str


def table(title: str, rows: Mapping[str, Any], pictures: Callable[[], Iterable[Picture]] = lambda: (), note: str = "") -> str:
    """A title, names with values, and small pictures.

    Args:
      title: what it is. rows: by name what to say of it (see `value`). note: below.
      pictures: makes them; where they cannot be made, there are none.
    """
    cells = "".join(
        f"<tr><th style='{_CELL};opacity:.7;font-weight:normal'>{_text(name)}</th><td style='{_CELL}'>{_text(value(v))}</td></tr>" for name, v in rows.items()
    )
    shown = "".join(_figure(picture) for picture in _made(pictures) if picture.source)
    below = f"<div style='opacity:.7'>{_text(note)}</div>" if note else ""
    return (
        f"<div style='font-size:90%'><div><b>{_text(title)}</b></div><div style='display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start'>"
        f"<table style='border-collapse:collapse;margin:0'><tbody>{cells}</tbody></table>{shown}</div>{below}</div>"
    )


def grid(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A plain table of cells below a head."""
    top = "".join(f"<th style='{_CELL}'>{_text(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td style='{_CELL}'>{_text(value(v))}</td>" for v in row) + "</tr>" for row in rows)
    return f"<table style='border-collapse:collapse;font-size:90%'><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def value(v: Any) -> str:
    """A value in a few words: a number, the entries of a small array, the shape and the ends of a larger one; of a traced one its type."""
    if v is None:
        return "none"
    if isinstance(v, str):
        return v
    if isinstance(v, jax.core.Tracer):
        return f"traced {v.aval.str_short()}"
    if isinstance(v, (bool, np.bool_)):
        return "yes" if v else "no"
    if not isinstance(v, (jax.Array, np.ndarray, np.generic, int, float)):
        return str(v)
    if isinstance(v, jax.Array) and jax.dtypes.issubdtype(v.dtype, jax.dtypes.prng_key):
        return f"{v.dtype} [{', '.join(map(str, v.shape))}]"
    array = np.asarray(v)
    if array.dtype.kind not in "biuf":
        return f"{array.dtype} [{', '.join(map(str, array.shape))}]"
    if array.size == 0:
        return f"{array.dtype}, empty"
    if array.dtype.kind == "b":
        return ("yes" if array else "no") if array.ndim == 0 else f"{int(array.sum())} of {array.size}"
    if array.ndim == 0:
        return f"{array.item():.4g}" if array.dtype.kind == "f" else str(array.item())
    if array.size <= _MOST:
        return ", ".join(value(entry) for entry in array.ravel())
    finite = array[np.isfinite(array)]
    ends = f", {finite.min():.4g} to {finite.max():.4g}" if finite.size else ""
    return f"{array.dtype} [{', '.join(map(str, array.shape))}]{ends}{'' if finite.size == array.size else f', {array.size - finite.size} not finite'}"


def about(digests: Any) -> str:
    """What a certificate is about, in words."""
    return f"about x {digests.x} and weights {digests.weights}" if digests is not None else "without digests: made under a trace"


def is_traced(*values: Any) -> bool:
    """Whether one of the values is known to a trace alone."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(values))


def _text(text: str) -> str:
    return html.escape(printable(text))


def _figure(picture: Picture) -> str:
    caption = f"<figcaption>{_text(picture.caption)}</figcaption>" if picture.caption else ""
    return (
        f"<figure style='margin:0;text-align:center'><img src='{html.escape(picture.source)}' alt='{_text(picture.caption)}' "
        f"style='height:96px;image-rendering:pixelated'>{caption}</figure>"
    )


def _made(pictures: Callable[[], Iterable[Picture]]) -> list[Picture]:
    try:
        return list(pictures())
    except Exception:  # no pillow, no numbers under a trace, a batch of batches: what cannot be drawn is not, for a view must not raise
        return []
