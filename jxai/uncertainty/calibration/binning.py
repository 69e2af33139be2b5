"""Bins of confidences: of equal width, of equal mass, or one for each distinct value."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.scores import one_of, positive
from jxai.typing import Array

BINNINGS = ("width", "mass", "distinct")


class Bins(NamedTuple):
    """What is in each of B bins; 0 in those without examples."""

    size: Array
    """`[B]`: examples."""
    confidence: Array
    """`[B]`: the mean confidence."""
    accuracy: Array
    """`[B]`: the mean outcome."""
    gap: Array
    """`[B]`: the mean of outcome − confidence, from a sum of its own: two means that are nearly alike would cancel."""
    at: Array
    """`[n]`: the bin of each example, in the order of `confidence_of`."""
    confidence_of: Array
    """`[n]`: the confidences, in the order they were binned."""
    outcome_of: Array
    """`[n]`: their outcomes; equal confidences that a bin's border parts share theirs evenly, so that no order of examples counts."""


def binned(confidence: Array, outcome: Array, bins: int, binning: str) -> Bins:
    """Confidences and outcomes `[n]` in bins.

    Args:
      bins: how many; `"distinct"` has as many as there are values. binning: `"width"`: (lo, hi] of equal width on [0, 1], 0 in the first one; `"mass"`: of
        equal counts, as `np.array_split` of the sorted confidences; `"distinct"`: every value of its own.

    Raises:
      ValueError: an unknown binning, or bins that are no positive integer.
    """
    one_of("binning", binning, BINNINGS)
    positive(bins=bins)
    n = confidence.shape[0]
    if binning == "width":
        return _filled(confidence, outcome, jnp.searchsorted(edges(bins, confidence.dtype), confidence, side="left"), bins)
    if binning == "mass":
        sizes = [len(part) for part in np.array_split(np.arange(n), min(bins, n))]
        return ranked(confidence, outcome, sizes)
    order, value = _sorted(confidence)
    return _filled(confidence[order], outcome[order], value, n)


def edges(bins: int, dtype: Any = np.float32) -> np.ndarray:
    """`[bins − 1]`: between bins of equal width on [0, 1], as numbers of this type know them; one that lies on an edge is in the lower bin."""
    return np.asarray(np.arange(1, bins) / bins, dtype)


def ranked(confidence: Array, outcome: Array, sizes: list[int]) -> Bins:
    """Bins of these sizes along the sorted confidences."""
    order, value = _sorted(confidence)
    confidence, outcome = confidence[order], outcome[order]
    count = sums(jnp.ones_like(outcome), value, len(outcome))
    shared = (sums(outcome, value, len(outcome)) / jnp.maximum(count, 1))[value]
    return _filled(confidence, shared, jnp.asarray(np.repeat(np.arange(len(sizes)), sizes)), len(sizes))


def _sorted(confidence: Array) -> tuple[Array, Array]:
    """The ascending order, and in it the number of each one's value."""
    order = jnp.argsort(confidence)
    ascending = confidence[order]
    return order, jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(ascending[1:] != ascending[:-1], dtype=jnp.int32)])


def _filled(confidence: Array, outcome: Array, index: Array, bins: int) -> Bins:
    summed = lambda values: sums(values, index, bins)
    count = summed(jnp.ones_like(outcome))
    some = jnp.maximum(count, 1)
    return Bins(count, summed(confidence) / some, summed(outcome) / some, summed(outcome - confidence) / some, index, confidence, outcome)


def sums(values: Array, index: Array, bins: int) -> Array:
    """`[bins]`: sums by index, of blocks first: fifty thousand numbers one after the other would lose three digits in float32."""
    n = values.shape[0]
    blocks = max(1, min(math.isqrt(n), 4 * n // bins))
    block = np.arange(n) // -(-n // blocks)
    return jax.ops.segment_sum(values, block * bins + index, blocks * bins).reshape(blocks, bins).sum(0)
