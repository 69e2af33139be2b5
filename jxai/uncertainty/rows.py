"""Arrays of many examples, a block of rows at a time: on the host, in float64, so that memory is flat in their number."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

ROWS = 4096
"""At once."""


def blocks(*arrays: Any) -> Iterator[tuple[np.ndarray, ...]]:
    """The rows of arrays of one length, `ROWS` at a time: integers as they are, other numbers in float64."""
    held = [np.asarray(array) for array in arrays]  # no copy of what is on the host, nor of what is mapped to a file
    for start in range(0, len(held[0]), ROWS):
        rows = [array[start : start + ROWS] for array in held]
        yield tuple(v if v.dtype.kind in "iub" else v.astype(np.float64) for v in rows)
