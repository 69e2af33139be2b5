"""One method or metric by several values of its options, as so many columns of a run."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from jxai.naming import APART

Made = tuple[Callable, dict[str, Any]]


def variants(fn: Callable, /, name: str = "", **options: Any) -> dict[str, Made]:
    """`{label: (fn, options)}` for `jxai.evaluate.run`, one for every combination of the values of the options that are given as lists.

    `variants(sobol, num_designs=[8, 16], grid=7)` is `{"sobol@num_designs=8": (sobol, {"num_designs": 8, "grid": 7}), "sobol@num_designs=16": …}`: a label names what
    differs alone. Columns of one name share their random numbers, so that they differ by their options and not by luck.

    Args:
      fn: a method or a metric. name: before the options, `"abs:sobol"` for one; the function's own by default. options: values, or lists of them.

    Raises:
      ValueError: an empty list, or a value that is there twice.
    """
    name = name or fn.__name__
    swept = {option: values for option, values in options.items() if isinstance(values, list)}
    for option, values in swept.items():
        if not values or len({repr(value) for value in values}) < len(values):
            raise ValueError(f"{option}={values} must list values that differ")
    found = {}
    for chosen in itertools.product(*swept.values()):
        own = dict(zip(swept, chosen))
        label = "".join((name, *(f"{APART}{option}={value}" for option, value in own.items() if len(swept[option]) > 1)))
        found[label] = (fn, {**options, **own})
    return found
