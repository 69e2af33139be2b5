"""Whether what a run removes is worth removing: an example that is fill alone may be of the explained class already."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.data.batches import Batch
from jxai.evaluate.examples import Examples
from jxai.evaluate.tasks import Task
from jxai.removal import fills
from jxai.scores import has_class

COLUMN = "blank/"
"""Before a fill's name: for each example, whether it is of the explained class with everything replaced."""


def of_tasks(tasks: Iterable[Task]) -> dict[str, Any]:
    """The fills and baselines that methods and metrics take, by their names."""
    found = {}
    for task in tasks:
        found |= of_routine(task.source, task.options)
    return found


def of_routine(routine: Callable, options: Mapping[str, Any]) -> dict[str, Any]:
    """The fill, or the baseline, of one method or metric, by its name."""
    parameters = inspect.signature(routine).parameters
    taken = (options.get(option, parameters[option].default) for option in ("fill", "baseline") if option in parameters)
    return {_name(fill): fill for fill in taken if fill is not None and fill is not inspect.Parameter.empty}


def columns(examples: Examples, blanks: Mapping[str, Any], batch: Batch, target: np.ndarray) -> dict[str, np.ndarray]:
    """A column for each fill."""
    if not blanks:
        return {}
    found = examples.each(_have_class, _have_class, batch, {}, jax.random.key(0), batch.x, target, blanks=tuple(blanks.values()))
    return {COLUMN + name: found[:, n] for n, name in enumerate(blanks)}


def lines(table: Mapping[str, np.ndarray]) -> list[str]:
    """What a report says of it: nothing where no fill has the class."""
    valid = table["valid"]
    counts = {name.removeprefix(COLUMN): int((column & valid).sum()) for name, column in table.items() if name.startswith(COLUMN)}
    said = ", ".join(f"{name}: {count} of {int(valid.sum())}" for name, count in counts.items() if count)
    if not said:
        return []
    return [f"Examples that are of the explained class with everything replaced, so that removal takes nothing of it away there (by fill): {said}."]


def _have_class(f, x, target, key=None, *, blanks):
    """`[len(blanks)]`: whether x, replaced by each, is of class target."""
    return jnp.stack([has_class(f(fills.baseline(fill, x, key)), target) for fill in blanks])


def _name(fill: Any) -> str:
    return f"{fill:g}" if isinstance(fill, numbers.Real) else str(fill) if callable(fill) else "an array"
