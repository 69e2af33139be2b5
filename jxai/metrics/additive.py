"""Features as additive metrics see them: a feature's attribution is the SUM over its positions and their channels.

That is what an additive attribution says of its removal, whatever the features' areas. A map by the very features that are removed holds a
feature's whole value at each of its positions, as LIME's and kernel SHAP's do: there it is the MEAN (`pooling="mean"`). A label without positions
is no feature.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import ops

from jxai.metrics.common import by_feature, by_position, nan_unless_finite
from jxai.metrics.removal import parts
from jxai.removal.masks import Features, position_shape, spread
from jxai.scores import one_of, positive
from jxai.typing import Array

POOLINGS = ("sum", "mean")
_MOST = 0.8


class Terms(NamedTuple):
    """The features' attributions `totals [d]`, their numbers among those that have positions `index [d]` (−1: none), how many those
    are (`num`, traced where the labels are), and two masks: `without(inside [d])` removes those inside, `but(i)` the feature i alone (as
    `without(arange(d) == i)`, for which a pass need not look up every position)."""

    totals: Array
    index: Array  # type: ignore[assignment]  # a tuple has a method of this name
    num: int | Array
    without: Callable[[Array], Array]
    but: Callable[[Array], Array]


def terms(x: Array, attribution: Array, segments: Array | None, grid: int | tuple[int, ...] | None, num_segments: int | None, pooling: str = "sum") -> Terms:
    """The features of a label map or a grid; by default the positions."""
    one_of("pooling", pooling, POOLINGS)
    values, of = by_position(attribution, x).ravel(), parts(x, segments, grid, num_segments)
    shape = position_shape(x)
    if of.labels is None:
        number = jnp.arange(of.num)
        return Terms(values, number, of.num, lambda inside: ~inside.reshape(shape), lambda i: (number != i).reshape(shape))
    totals = ops.segment_sum(values, jnp.ravel(jnp.asarray(of.labels)), of.num)
    totals = by_feature(attribution, x, Features(of.labels, of.num)) if pooling == "mean" else totals
    index = jnp.where(of.exists, jnp.cumsum(of.exists) - 1, -1)
    labels = jnp.asarray(of.labels).reshape(shape)
    # A pass that removes nothing has a number that only positions of no feature may have.
    none = labels >= of.num
    return Terms(totals, index, of.count, lambda inside: spread(~inside, of.labels, x, outside=True), lambda i: (labels != i) | none)


def judged(value: Array, attribution: Array, x: Array) -> Array:
    """0 for a constant map, whose sums differ by rounding alone (NaN stays), and NaN for one that is not finite."""
    a = by_position(attribution, x)
    return nan_unless_finite(jnp.where((a == a.ravel()[0]).all(), jnp.abs(value) * 0, value), attribution).astype(jnp.float32)


def size_of(name: str, value: int | float, chosen: Terms) -> Array:
    """A number of features, given as such or as a share; at least 1, at most all."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not real or (not 1 <= value <= chosen.totals.size if whole else not 0 < value <= 1):
        raise ValueError(f"{name}={value!r} must be an integer in [1, {chosen.totals.size}] (features) or a share in (0, 1]")
    count = value if whole else jnp.round(jnp.float32(value) * chosen.num)
    return jnp.clip(count, 1, chosen.num).astype(jnp.int32)


def sizes_of(sizes: int | tuple[int | float, ...], chosen: Terms) -> Array:
    """The sizes n of the subsets, ascending int32."""
    if isinstance(sizes, (tuple, list)):
        same = len({isinstance(n, numbers.Integral) for n in sizes}) == 1
        if not same or any(a >= b for a, b in zip(sizes, sizes[1:])):
            raise ValueError(f"{sizes=} must be ascending, all numbers of features or all shares of them")
        return jnp.stack([size_of("sizes", n, chosen) for n in sizes])
    positive(sizes=sizes)
    count = min(sizes, max(1, int(_MOST * chosen.totals.size)))
    largest = jnp.maximum(jnp.floor(_MOST * jnp.float32(chosen.num)), 1)
    steps = np.linspace(0, 1, count) if count > 1 else np.ones(1)
    # Strictly growing from the first size on, as far as there are features.
    grown = jnp.maximum(jnp.round(largest**steps), np.arange(1, count + 1))
    return jnp.minimum(grown, largest).astype(jnp.int32)
