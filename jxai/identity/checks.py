"""What a model answered on a few examples, which must come out again: whatever its description misses is seen there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_ENTRIES = 8
_TOLERANCE = 2e-3
"""Of the largest entry: other devices and numbers of cores round otherwise, by less."""


def taken(**arrays: np.ndarray) -> dict[str, Any]:
    """For the record: of arrays `[n, …]` up to eight entries at equal distances, and the mean, of each row."""
    return {name: [_of_row(np.asarray(row, np.float64).ravel()) for row in rows] for name, rows in arrays.items()}


def contradicted(there: Mapping[str, Any], here: Mapping[str, Any], names: Mapping[str, str]) -> str | None:
    """What does not come out again, in words; None where all does. `names`: in words, of what was taken, in the order in which it follows."""
    for name, word in names.items():
        a, b = there.get(name, []), here.get(name, [])
        for row, (then, now) in enumerate(zip(a, b)):
            if not _equal(then, now):
                return f"{word} of example {there['index'][row]}: {_shown(then)} there, {_shown(now)} here"
        if len(a) != len(b):
            return f"{word}: of {len(a)} examples there, {len(b)} here"
    return None


def _of_row(row: np.ndarray) -> list[float | None]:
    places = np.unique(np.linspace(0, len(row) - 1, min(len(row), _ENTRIES)).astype(int))
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in (*row[places], row.mean())]


def _equal(there: list, here: list) -> bool:
    a, b = (np.asarray([np.nan if v is None else v for v in row]) for row in (there, here))
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=_TOLERANCE * max(np.nanmax(np.abs([*a, 0.0])), 1e-30), equal_nan=True))


def _shown(row: list) -> str:
    return "[" + ", ".join("nan" if v is None else f"{v:.4g}" for v in row[:4]) + (", …]" if len(row) > 4 else "]")
