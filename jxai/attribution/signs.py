"""Whether a method's maps have a sign: that is a property of the method, not of the numbers in one map, where a resize can dip below 0."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from jxai.attribution.attention import attention_rollout, chefer
from jxai.attribution.extremal import extremal_perturbation
from jxai.attribution.gradient import squaregrad, vargrad
from jxai.attribution.masking import sidu
from jxai.attribution.meaningful import meaningful_perturbation
from jxai.attribution.rise import rise
from jxai.attribution.sensitivity import hsic, sobol

UNSIGNED = frozenset((attention_rollout, chefer, extremal_perturbation, hsic, meaningful_perturbation, rise, sidu, sobol, squaregrad, vargrad))
"""Methods whose maps say how much and not for or against: variances, dependences, masks, attention, and mean scores, whose 0 means nothing."""


def is_signed(method: Callable, options: Mapping[str, Any] | None = None) -> bool | None:
    """Whether 0 is the middle of a method's maps, between against and for the class; None of a method that is not jxai's: look at the map.

    Args:
      method: the function. options: that it was called with; a class activation map with `relu=True` has no sign.
    """
    options = options or {}
    if method in UNSIGNED:
        return False
    if not getattr(method, "__module__", "").startswith("jxai.attribution."):
        return None
    relu = inspect.signature(method).parameters.get("relu")
    return True if relu is None else not options.get("relu", relu.default)
