"""Maps of many examples as rows of numbers: checked, made smaller, scaled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jxai.scores import one_of, positive
from jxai.typing import Array

NORMS = ("none", "l1", "l2")


def rows(features: Array | Sequence[Array], *, size: int | None = None, norm: str = "none") -> np.ndarray:
    """Features as `[n, D]` in float64.

    Args:
      features: `[n, …]`, or n arrays: finite numbers, of one shape unless `size` makes them so.
      size: makes maps `[H, W, …]` `size × size` first, each entry the mean over its share of the map, as Lapuschkin et al. 2019 do; None leaves them.
      norm: divides every row by the sum of its magnitudes (`"l1"`) or its length (`"l2"`); `"none"` leaves it. A row of zeros stays.

    Raises:
      ValueError: no examples, no numbers, NaN or infinities, unequal shapes, a size that is larger than a map, an unknown norm; arrays under a trace.
    """
    one_of("norm", norm, NORMS)
    given = _listed(features)
    if size is not None:
        positive(size=size)
        given = smaller(given, size)
    if len({v.shape for v in given}) > 1:
        first = given[0].shape
        other = next(n for n, v in enumerate(given) if v.shape != first)
        raise ValueError(f"features must be of one shape, but features[0] is {first} and features[{other}] {given[other].shape}; size=… makes maps alike")
    x = np.asarray(given, np.float64).reshape(len(given), -1)
    if not x.shape[1]:
        raise ValueError(f"features must have entries, got shape {np.shape(given)}")
    if len(wrong := np.flatnonzero(~np.isfinite(x).all(1))):
        raise ValueError(f"features must be finite, but features[{wrong[0]}] is not" + (f" ({len(wrong)} of {len(x)} are not)" if len(wrong) > 1 else ""))
    if norm == "none":
        return x
    length = np.abs(x).sum(1, keepdims=True) if norm == "l1" else np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)


def smaller(maps: np.ndarray | Sequence[np.ndarray], size: int) -> np.ndarray:
    """Maps `[n, H, W, …]` as `[n, size, size, …]`: means over equal shares of each axis, so that the mean of a map stays."""
    if not isinstance(maps, np.ndarray) and len({v.shape for v in maps}) > 1:
        return np.concatenate([smaller(np.asarray(v)[None], size) for v in maps])
    v = np.asarray(maps, np.float64)
    if v.ndim < 3 or min(v.shape[1:3]) < size:
        raise ValueError(f"{size=} must be at most the sides of maps [H, W, …], got features of shape {v.shape[1:]}")
    for axis in (1, 2):
        v = np.moveaxis(np.tensordot(v, _shares(v.shape[axis], size), (axis, 1)), -1, axis)
    return v


def _shares(length: int, parts: int) -> np.ndarray:
    """`[parts, length]`: the weights of entries in the mean of each of so many equal parts."""
    ends, at = np.linspace(0, length, parts + 1), np.arange(length)
    covered = np.minimum(ends[1:, None], at + 1) - np.maximum(ends[:-1, None], at)
    return np.maximum(covered, 0) * parts / length


def _listed(features: Any) -> np.ndarray | list[np.ndarray]:
    """The examples as NumPy arrays."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(features)):
        raise ValueError("features are traced, but clusters are found on the host: call it outside of jit, vmap and grad")
    several = isinstance(features, (list, tuple))
    given = [np.asarray(v) for v in features] if several else np.asarray(features)
    if (len(given) == 0 or given[0].ndim == 0) if several else (given.ndim < 2 or not len(given)):
        raise ValueError(f"features must be [n, …], a row for each of n examples, got {len(given) if several else given.shape}")
    for v in given if isinstance(given, list) else (given,):
        if v.dtype.kind not in "fiub":
            raise ValueError(f"features must be real numbers, got {v.dtype}")
    return given
