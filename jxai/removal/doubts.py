"""What an answer does not show by itself, said as a warning wherever values are concrete: under a trace nothing can be looked at."""

from __future__ import annotations

import numbers
import sys
import warnings
from collections.abc import Callable

import jax
import numpy as np

from jxai.callables import compiled, fresh
from jxai.outputs import is_staged
from jxai.removal import fills
from jxai.removal.fills import FillLike
from jxai.scores import has_class
from jxai.typing import Array, Model, PyTree, Scalar

__all__ = ["concrete", "flat", "kept_by_fill", "warn"]


def kept_by_fill(
    name: str, f: Model, x: Array, target: int | Array | None, fill: FillLike, key: Array | None = None, what: str = "fill", *, score: str
) -> None:
    """Warns where x with everything replaced is of class target already, so that its removal takes nothing away.

    Args:
      name: of the method or metric. what: the option that the fill is. score: what is explained, which says when a class is had (`jxai.scores.has_class`).

    Raises:
      ValueError: a fill that does not fit x.

    Cost: one forward pass, where everything is concrete.
    """
    fills.check_fill(fill, x, what)
    if target is None or not concrete(f, x, target, fill, key) or (getattr(fill, "per_mask", False) and key is None):
        return
    # Compiled, for it may solve a system; of a number that would be a program for each.
    blank = compiled(fills.baseline, fill, x, key) if callable(fill) else fills.baseline(fill, x)
    out = fresh(f)(blank)
    if concrete(out) and np.ndim(out) == 1 and has_class(np.asarray(out), np.asarray(target), score):
        shown = type(fill).__name__ if callable(fill) else fill if isinstance(fill, numbers.Real) else "the given array"
        warn(
            f"{name}: x with everything replaced ({what}={shown}) is of class {int(target)} already, so what is removed takes nothing of target={int(target)} away: "
            f"a rise of the score, or a small subset, says little here; compare with another {what}, such as fills.Blur, fills.Mean, fills.Uniform or a number",
        )


def flat(name: str, attribution: Array, s: Scalar, x: Array, others: list[Array], slope: Callable[[], Array] | None = None) -> None:
    """Warns where a map by derivatives is 0 everywhere, yet the score differs between x and another point.

    Args:
      s: what is explained. others: points of x's shape, such as a baseline. slope: the derivative itself, for a map that may be 0 where that is not.
    """
    if not concrete(attribution, x, others) or np.asarray(attribution).any():
        return
    values = [s(x), *map(s, others)]
    if not concrete(values) or np.isnan(values).any() or np.ptp(values) == 0 or (slope is not None and np.asarray(slope()).any()):
        return
    warn(
        f"{name}: the map is 0 everywhere, yet the score moves from {float(values[0]):g} at x to {', '.join(f'{float(v):g}' for v in values[1:])} elsewhere: its "
        "derivative is 0 there (steps, casts to integers, dead units, a saturated probability); occlusion, feature_ablation and kernel_shap need none",
    )


def warn(text: str) -> None:
    """A warning that points at the line outside of jxai, and of JAX where that traces it, that asked."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("jxai", "jax"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def concrete(*trees: PyTree) -> bool:
    """Whether nothing in these is traced, and no trace is under way that would make it so."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees)) and not is_staged()
