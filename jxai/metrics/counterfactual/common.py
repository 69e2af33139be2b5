"""What the metrics of counterfactuals share: checks, classes, and many models at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jxai import loops
from jxai.callables import partition
from jxai.scores import check_example, check_target, num_classes, wide
from jxai.typing import Array, Model, PyTree


def check_pair(x: Array, counterfactual: Array) -> None:
    """Raises ValueError unless both are examples of one shape."""
    check_example(x)
    check_example(counterfactual, "counterfactual")
    if counterfactual.shape != x.shape:
        raise ValueError(f"counterfactual must have the shape of x, {x.shape}, got {counterfactual.shape}")


def check_set(x: Array, counterfactual: Array) -> None:
    """Raises ValueError unless `counterfactual` holds one or more examples of x's shape."""
    check_example(x)
    shape, dtype = getattr(counterfactual, "shape", ()), getattr(counterfactual, "dtype", None)
    if tuple(shape[1:]) != x.shape or not shape or not shape[0] or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"counterfactual must be floating-point examples [k, *{x.shape}] with k >= 1, got {dtype} of shape {tuple(shape)}")


def finite(value: Array, *points: Array) -> Array:
    """The value in float32, NaN where a point has an entry that is not finite."""
    for point in points:
        value = jnp.where(jnp.isfinite(point).all(), value, jnp.nan)
    return value.astype(jnp.float32)


def check_class(f: Model | None, x: Array, target: int | Array) -> Array:
    """`[]`, bool: whether the target is a class of f (of any model where that is None); ValueError for an integer that is none."""
    if f is None:
        return jnp.asarray(_given(target)) >= 0
    classes = num_classes(f, x)
    check_target(_given(target), classes)
    return (jnp.asarray(target) >= 0) & (jnp.asarray(target) < classes)


def is_class(logits: Array, target: int | Array) -> Array:
    """`[]`: 1.0 where the target has the largest logit, 0.0 where it has not, NaN where a logit is or the target is no class."""
    known = (jnp.asarray(target) >= 0) & (jnp.asarray(target) < logits.shape[-1]) & ~jnp.isnan(logits).any()
    return jnp.where(known, (logits.argmax(-1) == target).astype(jnp.float32), jnp.nan)


def at_class(values: Array, target: int | Array) -> Array:
    """`values[target]` of values `[K]`, NaN for a traced target that is no class; ValueError for an integer that is none."""
    check_target(_given(target), values.shape[0])
    own = jnp.arange(values.shape[0]) == target
    return jnp.where(own.any(), jnp.where(own, values, 0).sum(), jnp.nan)


def norm(d: Array, distance: str = "l2") -> Array:
    """`[]`: `Σ |d_i|` ("l1") or `√Σ d_i²` ("l2"), float32 or wider."""
    d = wide(d)
    return jnp.abs(d).sum() if distance == "l1" else jnp.sqrt((d**2).sum())


def represent(features: Callable[[Array], Array] | None, v: Array) -> Array:
    """`φ(v)`, v itself for None, float32 or wider."""
    return wide(v if features is None else features(v))


def over(name: str, models: PyTree, fn: Callable[[Any], Array]) -> Array:
    """`[fn(m) for m in models]`, one after the other, of models whose arrays are stacked in a leading axis.

    Raises:
      ValueError: no arrays, or leading axes of unequal length.
    """
    arrays, rest = partition(models)
    lengths = {leaf.shape[0] if leaf.ndim else None for leaf in arrays}
    if len(lengths) != 1 or lengths & {None, 0}:
        found = sorted(map(str, lengths)) or "none"
        raise ValueError(f"{name} must be models with their arrays stacked in one leading axis (jax.tree.map(jnp.stack)), got lengths {found}")
    return loops.map(lambda leaves: fn(rest.combine(leaves)), [jnp.asarray(leaf) for leaf in arrays])


def _given(target: int | Array | None) -> int | Array:
    if target is None:
        raise ValueError("target=None must be a class: the one that the counterfactual shall be taken for")
    return target
