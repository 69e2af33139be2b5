"""Whether what a run removes is worth removing: an example that is fill alone may be of the explained class already."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.data.batches import Batch
from jxai.evaluate.columns import BLANK
from jxai.evaluate.examples import Examples
from jxai.evaluate.tasks import Task
from jxai.identity.values import described
from jxai.removal import fills
from jxai.scores import has_class


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
    return {BLANK + name: found[:, n] for n, name in enumerate(blanks)}


def lines(table: Mapping[str, np.ndarray]) -> list[str]:
    """What a report says of it: nothing where no fill has the class."""
    valid = table["valid"]
    counts = {name.removeprefix(BLANK): int((column & valid).sum()) for name, column in table.items() if name.startswith(BLANK)}
    said = ", ".join(f"{name}: {count} of {int(valid.sum())}" for name, count in counts.items() if count)
    if not said:
        return []
    return [f"Examples that are of the explained class with everything replaced, so that removal takes nothing of it away there (by fill): {said}."]


def _have_class(f, x, target, key=None, *, blanks):
    """`[len(blanks)]`: whether x, replaced by each, is of class target."""
    return jnp.stack([has_class(f(fills.baseline(fill, x, key)), target) for fill in blanks])


def _name(fill: Any) -> str:
    """A name that no other fill has, and that is the same in every process."""
    if isinstance(fill, numbers.Real):
        return f"{fill:g}"
    if dataclasses.is_dataclass(fill) and all(
        isinstance(getattr(fill, field.name), (numbers.Real, str, tuple, type(None))) for field in dataclasses.fields(fill)
    ):
        return str(fill)
    kind = getattr(fill, "__name__", type(fill).__name__) if callable(fill) else "an array"
    return f"{kind} {hashlib.sha256(json.dumps(described(fill)).encode()).hexdigest()[:6]}"
