"""Which scores a run computes, with what options, and what each needs: logits, features, a fit."""

from __future__ import annotations

import dataclasses
import inspect
import typing
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jxai import uncertainty
from jxai.evaluate.tasks import chosen
from jxai.identity.values import described
from jxai.naming import APART
from jxai.typing import Array
from jxai.uncertainty import scores

Given = str | Sequence[str] | Mapping[str, Callable | tuple[Callable, Mapping[str, Any]]]
ALL = "all"
OF_NETWORKS = ("dempster_shafer", "dissector", "laplace_variance", "max_kernel", "outside", "sngp_variance")
"""Scores of networks that are made for them, or of what is fitted to more than features and logits: only where they are named."""
_FITTED, _LAYER = "fitted", "layer"
_OF_FIT = ("features", "logits", "labels", "head", "key")
"""What a fit is called with; its other parameters are options."""


@dataclasses.dataclass(frozen=True, eq=False)
class Task:
    """A score with its options."""

    label: str
    score: Callable
    options: Mapping[str, Any]
    """Of the score, or of its formula."""
    fit: Callable | None
    """Makes what it needs fitted; None where it needs nothing, or the head alone."""
    fit_options: Mapping[str, Any]
    formula: Callable | None
    """What it computes of logits and features that other scores share; None of a score that asks the model itself."""
    reads_features: bool
    head: bool
    """Whether what is fitted is the model's own last linear map."""
    layer: int | str | None = None
    """Where the features are read."""

    @property
    def needs_fit(self) -> bool:
        """Whether it needs examples to be fitted on."""
        return self.fit is not None and _FITTED not in self.options

    def key(self, seed: int) -> Array:
        """Its own stream of random numbers; columns of one name that differ in options share it."""
        return jax.random.fold_in(jax.random.key(seed), zlib.crc32(self.label.partition(APART)[0].encode()))

    def describe(self) -> dict[str, Any]:
        """What it computes, for the record of a run."""
        made_of = described(self.score)
        name = made_of if isinstance(made_of, str) else made_of.get("function", made_of.get("type", ""))
        told = {"function": name, "options": _told(self.score, self.options)}
        told |= {} if isinstance(made_of, str) else {"made_of": made_of}
        return told | ({"fit": _told(self.fit, self.fit_options)} if self.needs_fit else {"fit": "head"} if self.head else {})


def every() -> dict[str, Callable]:
    """Every score of `jxai.uncertainty` by its name."""
    return {name: getattr(scores, name) for name in scores.__all__}


def tasks(given: Given) -> dict[str, Task]:
    """The tasks of these scores by label.

    Args:
      given: `"all"`, without those of particular networks; names; or labels with a score and, where it has any, options of it and of its fit.

    Raises:
      ValueError: an unknown name, a label twice, or an option that neither the score nor its fit has.
    """
    asked: Any = [name for name in every() if name not in OF_NETWORKS] if isinstance(given, str) and given == ALL else given
    return {label: _task(label, fn, options) for label, fn, options in chosen(asked, scores, "score")}


def fit_of(score: Callable) -> Callable | None:
    """`jxai.uncertainty.fit_NAME` of a score of jxai's that is a formula of logits and features; None where there is none."""
    name = getattr(score, "__name__", "")
    return getattr(uncertainty, f"fit_{name}", None) if every().get(name) is score and hasattr(score, "formula") else None


def with_fit(score: Callable) -> Callable:
    """A function of a score's name that has its options and those of its fit, to be read by its signature."""
    fit, both = fit_of(score), dict(options_of(score))
    both |= {name: p for name, p in ({} if fit is None else options_of(fit)).items() if name not in both}
    hints = {**({} if fit is None else typing.get_type_hints(fit)), **typing.get_type_hints(score)}

    def told(**options: Any) -> None:
        """Never called."""

    made: Any = told
    made.__name__ = made.__qualname__ = getattr(score, "__name__", "score")
    made.__doc__ = score.__doc__
    made.__signature__ = inspect.Signature(list(both.values()))
    made.__annotations__ = {name: hints[name] for name in both if name in hints}
    return made


def options_of(fn: Callable) -> dict[str, inspect.Parameter]:
    """The options of a score or a fit by name, without what a run gives it itself."""
    return {n: p for n, p in inspect.signature(fn).parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY and n not in (_FITTED, *_OF_FIT)}


def needed(task: Task) -> list[str]:
    """The options that a score cannot do without, and was not given."""
    pairs = [(task.score, task.options), *([(task.fit, task.fit_options)] if task.fit is not None and task.needs_fit else [])]
    return [name for fn, own in pairs for name, p in options_of(fn).items() if p.default is p.empty and name not in own]


def _task(label: str, score: Callable, options: Mapping[str, Any]) -> Task:
    fit = fit_of(score)
    own, of_fit = options_of(score), {} if fit is None else options_of(fit)
    known = {*own, *of_fit, _FITTED}
    if not any(p.kind is p.VAR_KEYWORD for p in inspect.signature(score).parameters.values()):
        for option in options:
            if option not in known:
                raise ValueError(f"{label} has no option {option!r}, but {', '.join([*own, *(n for n in of_fit if n not in own)]) or 'none'}")
    formula = getattr(score, "formula", None)
    of_score = {k: v for k, v in options.items() if k not in of_fit or k in own}
    layer = of_score.pop(_LAYER, None) if formula is not None else None
    head = fit is None and formula is not None and uncertainty.Head in typing.get_args(typing.get_type_hints(score).get(_FITTED))
    return Task(label, score, of_score, fit, {k: v for k, v in options.items() if k in of_fit and k not in own}, formula, _LAYER in own, head, layer)


def _told(fn: Callable | None, options: Mapping[str, Any]) -> dict[str, Any]:
    defaults = {} if fn is None else {name: p.default for name, p in options_of(fn).items() if p.default is not p.empty}
    return {name: described(value) for name, value in sorted({**defaults, **options}.items())}
