"""What a routine's docstring states in a line of its own: `Range:`, `Direction:`, `Cost:`, `Reference:`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

DIRECTIONS = {"higher is better": 1, "lower is better": -1, "none": 0}


def line(routine: Callable, word: str) -> str:
    """Returns the rest of the line that begins with `word:`, without a full stop at its end; ValueError where there is none."""
    found = re.search(rf"^\s*{word}:\s*(.+)$", inspect.getdoc(routine) or "", re.MULTILINE)
    if found is None:
        raise ValueError(f"{routine.__name__} has no line {word!r} in its docstring")
    return found.group(1).strip().rstrip(".")


def direction(metric: Callable) -> int:
    """Returns 1 where a higher value is better, −1 where a lower one is, 0 where neither is; with the default options.

    Raises:
      ValueError: the docstring has no `Direction:` line that begins with one of `DIRECTIONS`.
    """
    said = line(metric, "Direction")
    for words, sign in DIRECTIONS.items():
        # More may follow: "higher is better for order='most', lower for 'least'."
        if re.match(rf"{words}\b", said):
            return sign
    raise ValueError(f"{metric.__name__}: Direction: {said!r} must begin with one of {', '.join(map(repr, DIRECTIONS))}")
