"""What an answer does not show by itself, said as a warning wherever values are concrete: under a trace nothing can be looked at."""

from __future__ import annotations

import numbers
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import fresh
from jxai.removal import fills
from jxai.removal.fills import FillLike
from jxai.typing import Array, Model, PyTree, Scalar

__all__ = ["blank_class", "concrete", "flat", "kept_by_fill", "warn"]


def kept_by_fill(name: str, f: Model, x: Array, target: int | Array | None, fill: FillLike, key: Array | None = None, what: str = "fill") -> None:
    """Warns where x with everything replaced is of class target already, so that its removal takes nothing away.

    Args:
      name: of the method or metric. what: the option that the fill is.

    Raises:
      ValueError: a fill that does not fit x.

    Cost: one forward pass, where everything is concrete.
    """
    fills.check_fill(fill, x, what)
    if target is None or not concrete(f, x, target, fill, key):
        return
    found = blank_class(f, x, fill, key)
    if found is not None and found == int(target):
        shown = type(fill).__name__ if callable(fill) else fill if isinstance(fill, numbers.Real) else "the given array"
        warn(
            f"{name}: x with everything replaced ({what}={shown}) is of class {found} already, so what is removed takes nothing of target={int(target)} away: "
            f"a rise of the score, or a small subset, says little here; compare with another {what}, such as fills.Blur, fills.Mean, fills.Uniform or a number",
        )


def blank_class(f: Model, x: Array, fill: FillLike, key: Array | None = None) -> int | None:
    """The class of x with everything replaced; None where two are equal, of a fill that draws without a key, and of what is no vector of logits."""
    if getattr(fill, "per_mask", False) and key is None:
        return None
    out = fresh(f)(jnp.broadcast_to(fills.resolve(fill, x, jnp.zeros_like(x), key), x.shape))
    if not concrete(out) or np.ndim(out) != 1 or np.size(out) < 2:
        return None
    logits = np.asarray(out, np.float64)
    second, first = np.sort(logits)[-2:]
    return int(logits.argmax()) if first > second else None


def flat(name: str, attribution: Array, s: Scalar, x: Array, others: list[Array]) -> None:
    """Warns where a map by derivatives is 0 everywhere, yet the score differs between x and another point.

    Args:
      s: what is explained. others: points of x's shape, such as a baseline.
    """
    if not concrete(attribution, x, others) or np.asarray(attribution).any():
        return
    values = [s(x), *map(s, others)]
    if not concrete(values) or np.isnan(values).any() or np.ptp(values) == 0:
        return
    warn(
        f"{name}: the map is 0 everywhere, yet the score moves from {float(values[0]):g} at x to {', '.join(f'{float(v):g}' for v in values[1:])} elsewhere: it has no "
        "derivative there (steps, casts to integers, dead units, a saturated probability); occlusion, feature_ablation and kernel_shap need none",
    )


def warn(text: str) -> None:
    """A warning that points at the line outside of jxai that asked."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "jxai":
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def concrete(*trees: PyTree) -> bool:
    """Whether nothing in these is traced, and no trace is under way that would make it so."""
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(trees)) and not isinstance(jnp.zeros(()) + 0, jax.core.Tracer)
