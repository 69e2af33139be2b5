"""What a model returns: logits, or probabilities and numbers that become them, as it was said and as an example shows."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jxai import outputs
from jxai.adapters.wrappers import Logits, LogOdds, LogProbabilities, Value
from jxai.callables import compiled
from jxai.typing import PyTree

RETURNS = ("logits", "probabilities", "sigmoid", "value")


def as_logits(f: Any, returns: str) -> Any:
    """f as a model of logits `[K]`, or of one number where it returns a value."""
    if returns == "value":
        return Value(f)
    if returns == "logits":
        return Logits(f)
    return LogProbabilities(Logits(f)) if returns == "probabilities" else LogOdds(Logits(f))


def check(f: Any, returns: str, x: PyTree) -> None:
    """Raises ValueError where the example shows that what the model returns is not what was said.

    Args:
      f: as `as_logits` gives it.
    """
    raw = f if returns in ("logits", "value") else f.f
    end = outputs.ending(raw, x)
    if returns == "value" or not all(outputs.concrete(raw, v) for v in jax.tree.leaves(x)):
        return
    if returns == "logits":
        if end.sigmoid:
            raise ValueError(
                "the model ends in a sigmoid: say returns='sigmoid' (a probability for each label, or for one), or 'value' of one number that is meant as it is"
            )
        try:
            outputs.check_logits(raw, x, end, "logit", compiled)
        except ValueError as error:
            raise ValueError("the model returns probabilities (in [0, 1], of sum 1): say returns='probabilities'") from error
        return
    p = np.asarray(compiled(raw, x), np.float32)
    shown = np.array2string(p, precision=3, threshold=6)
    if returns == "probabilities" and (p.size < 2 or not (p.min() >= 0 and abs(p.sum() - 1) <= outputs.SUM)):
        one = "; one number is a probability with returns='sigmoid'" if p.size < 2 else ""
        raise ValueError(f"{returns=} are in [0, 1] and of sum 1, but the model returns {shown} of the example{one}")
    if returns == "sigmoid" and not (p.min() >= 0 and p.max() <= 1):
        raise ValueError(f"{returns=} is a probability for each label, in [0, 1], but the model returns {shown} of the example")
