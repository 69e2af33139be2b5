"""The uncertainty of a prediction, of one model or of an ensemble's members, from logits: what counterfactuals lower and attributions share out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jxai.callables import fresh
from jxai.scores import check_example, check_values, logits_shape, objective, one_of, wide
from jxai.typing import Array, Model, Scalar
from jxai.uncertainty.decomposition import decompose

UNCERTAINTIES = ("total", "aleatoric", "epistemic")
Score = Callable[[Model, Array], Array]


def uncertainty_of(f: Model, x: Array, uncertainty: str | Score = "total", members: Any = None, *, scalar: bool = False) -> tuple[Scalar, int | None]:
    """`u(x) -> []`, the uncertainty of f that the words name, and K; where f is an uncertainty itself, f and None.

    Args:
      f: a model `x -> logits [K]`; with `scalar` it may be an uncertainty `x -> []` itself. x: one example.
      uncertainty: one of `UNCERTAINTIES`, in nats, or a score `(f, x) -> []`. members: `x -> logits [S, K]`, whose uncertainty it is; None is f alone.

    Raises:
      ValueError: bad x, no logits of two classes or more, an uncertainty that f does not have, members of another shape.
    """
    check_example(x)
    if scalar and getattr(jax.eval_shape(fresh(f), x), "shape", None) == ():
        if uncertainty != "total" or members is not None:
            raise ValueError("uncertainty and members say of logits what is explained, but f(x) is a number already: give a model of logits, or neither")
        return objective(f, x, None), None
    k = logits_shape(check_values(f, x, "probability"))[0]
    if k < 2:
        raise ValueError(f"f(x) must be logits of two classes or more, got {k}: of one class nothing is uncertain; jxai.adapters makes two of one logit")
    if not callable(uncertainty):
        check_members(members, uncertainty, f, x)
        model = fresh(f)
        return lambda v: of_members(members, v, wide(model(v)), uncertainty), k
    if members is not None:
        raise ValueError("members are of uncertainty='total', 'aleatoric' or 'epistemic': a score of an ensemble holds its own")
    score = lambda v: wide(jnp.asarray(uncertainty(f, v)))
    if (shape := jax.eval_shape(score, x).shape) != ():
        raise ValueError(f"uncertainty(f, x) must be a number, got shape {shape}")
    return score, k


def predictive(logits: Array, kind: str = "total") -> Array:
    """`[]`: the uncertainty of an ensemble's logits `[S, K]` in nats: `H(mean_s p_s)`, `mean_s H(p_s)`, or their difference."""
    return getattr(decompose(jax.nn.softmax(wide(logits))), kind)


def of_members(members: Any, point: Array, logits: Array, kind: str) -> Array:
    """`[]`: the uncertainty of the members at a point, or where there are none of a model that gives these logits `[K]` there."""
    return predictive(logits[None] if members is None else members(point), kind)


def check_members(members: Any, kind: str, f: Model | None = None, x: Array | None = None) -> None:
    """Raises ValueError for an unknown uncertainty, one that a single model does not have, or, where f and x are given, members that do not give
    `[S, K]` with f's K."""
    one_of("uncertainty", kind, UNCERTAINTIES)
    if members is None:
        if kind != "total":
            raise ValueError(f"uncertainty={kind!r} needs members, a callable x -> logits [S, K] of an ensemble; one model has the total uncertainty only")
    elif f is not None:
        got = getattr(jax.eval_shape(lambda v: members(v), x), "shape", ())
        classes = jax.eval_shape(fresh(f), x).shape[0]
        if len(got) != 2 or got[1] != classes or got[0] < 1:
            raise ValueError(f"members(x) must be logits [S, {classes}] of an ensemble, got shape {got}")
