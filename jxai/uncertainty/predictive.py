"""The uncertainty of a prediction, of one model or of an ensemble's members, from logits: what counterfactuals lower and attributions share out."""

from __future__ import annotations

from typing import Any

import jax

from jxai.callables import fresh
from jxai.scores import one_of, wide
from jxai.typing import Array, Model
from jxai.uncertainty.decomposition import decompose

UNCERTAINTIES = ("total", "aleatoric", "epistemic")


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
