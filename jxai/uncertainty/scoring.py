"""How a formula on one example's arrays becomes a score of a model."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable

from jxai.callables import fresh, plainly
from jxai.scores import check_example, check_values, logits_shape, wide
from jxai.typing import Array, Model
from jxai.uncertainty.checks import fits_nothing
from jxai.uncertainty.heads import answers

Score = Callable[..., Array]
"""`score(f, x, key=None, *, fitted=None, options) -> scalar`, higher where f is less certain."""

_MODEL = "  f: a model `x -> logits [K]`. x: one example, floating point. key: nothing is drawn."
_LAYER = "  layer: where the features are read, as `jxai.uncertainty.features` takes it; None for what the last linear map is applied to."
_NOTHING = "  fitted: nothing is fitted, so it must be None."


def of_formula(formula: Callable[..., Array], *, features: bool = False, fitted: bool = False) -> Score:
    """The score of a model that a formula gives: `formula(f(x), features(f, x), fitted, options)`, from one forward pass.

    Args:
      formula: `(logits [K], features [D] = None, fitted = None, *, options) -> scalar`; of its docstring the score has all but the arguments that it computes.
      features: whether it reads them: the score has the option `layer` then. fitted: whether it reads what was fitted.
    """
    own = list(inspect.signature(formula).parameters.values())[3:]
    hints = typing.get_type_hints(formula)
    name = formula.__name__

    def score(f, x, key=None, *, fitted=None, layer=None, **options):
        known = [p.name for p in own]
        if wrong := [option for option in options if option not in known]:
            raise TypeError(f"{name}() got an unexpected keyword argument {wrong[0]!r}")
        if not reads_fitted:
            fits_nothing(name, fitted)
        if reads_features:
            return formula(*answers(f, x, layer), fitted, **options)
        if layer is not None:
            raise TypeError(f"{name}() got an unexpected keyword argument 'layer'")
        check_example(x)
        logits_shape(check_values(f, x))
        return formula(wide(fresh(f)(x)), None, fitted, **options)

    reads_features, reads_fitted = features, fitted
    both, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("f", both, annotation=Model),
        inspect.Parameter("x", both, annotation=Array),
        inspect.Parameter("key", both, default=None, annotation=Array | None),
        inspect.Parameter("fitted", keyword, default=None, annotation=hints.get("fitted", None)),
    ]
    if features:
        parameters.append(inspect.Parameter("layer", keyword, default=None, annotation=int | str | None))
    parameters += [p.replace(annotation=hints[p.name]) for p in own]
    score.__name__ = score.__qualname__ = name
    score.__module__ = "jxai.uncertainty.scores"
    score.__doc__ = _documented(inspect.getdoc(formula) or "", features, fitted)
    made = plainly(score)
    made.__dict__["__signature__"] = inspect.Signature(parameters, return_annotation=Array)
    made.__dict__["formula"] = formula  # by which many scores share one forward pass
    made.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": Array}
    return made


def _documented(doc: str, features: bool, fitted: bool) -> str:
    """The formula's docstring with the score's arguments in the place of those that it computes."""
    computed = ("logits", "features", *(() if fitted else ("fitted",)))
    before, told = doc.split("Args:\n", 1)
    arguments, after = told.split("Returns:", 1)
    kept, within = [], False
    for line in arguments.rstrip().splitlines():
        if line.startswith("  ") and not line.startswith("   "):
            within = line.strip().startswith(tuple(f"{name}:" for name in computed))
        if not within:
            kept.append(line)
    lines = [_MODEL, *([] if fitted else [_NOTHING]), *([_LAYER] if features else []), *kept]
    after = re.sub(r"^Cost: ", "Cost: 1 forward pass; ", after, flags=re.M)
    return f"{before}Args:\n" + "\n".join(lines) + f"\n\nReturns:{after}"
