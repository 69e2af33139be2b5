"""Which methods can explain a model: some need what not every model has, such as attention."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from jxai import attribution
from jxai.data import Source
from jxai.evaluate import tasks
from jxai.evaluate.evaluation import looked
from jxai.evaluate.examples import Examples
from jxai.typing import Model

Methods = dict[str, Callable | tuple[Callable, Mapping[str, Any]]]


class Possible(NamedTuple):
    """Methods that can explain a model, and the others."""

    methods: Methods
    """By label, as `jxai.evaluate.run` takes them."""
    left_out: dict[str, str]
    """By label, the first line of what the method raises."""


def possible(
    f: Model,
    source: Source,
    methods: tasks.Given = tuple(attribution.__all__),
    *,
    preprocess: Callable | None = None,
    scalar: bool = False,
    always: Collection[str] = (),
) -> Possible:
    """Traces every method on a model once, and tells those that can explain it from those that raise.

    Args:
      f, source, methods, preprocess: as in `jxai.evaluate.run`. scalar: whether f(x) is a number. always: names of methods that are kept untraced, so that the run says
        what is wrong with them.

    Raises:
      ValueError: an empty data set, unknown names, or no method that can explain the model.

    Cost: the trace of each method; nothing is compiled or run.
    """
    examples, found = Examples(f, source, preprocess, scalar=scalar), Possible({}, {})
    for label, fn, options in tasks.chosen(methods, attribution, "method"):
        try:
            if getattr(fn, "__name__", None) not in always:
                looked(*tasks.methods({label: (fn, options)}, source, examples.shape, preprocess), examples)
            found.methods[label] = fn, options
        except ValueError as error:
            found.left_out[label] = str(error).removeprefix(f"{label}: ")
    if not found.methods:
        raise ValueError("no method can explain the model: " + "; ".join(f"{label}: {why}" for label, why in found.left_out.items()))
    return found
