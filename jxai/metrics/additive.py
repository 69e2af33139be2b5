"""Features as additive metrics see them: a feature's attribution is the SUM over its positions and their channels.

That is what an additive attribution says of its removal, whatever the features' areas. A label without positions is no feature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jax import ops

from jxai.metrics.common import by_position, nan_unless_finite
from jxai.metrics.removal import parts
from jxai.removal.masks import position_shape, spread
from jxai.typing import Array


class Terms(NamedTuple):
    """The features' attributions `totals [d]`, their numbers among those that have positions `index [d]` (−1: none), how many those
    are (`num`, traced where the labels are), and two masks: `without(inside [d])` removes those inside, `but(i)` the feature i alone (as
    `without(arange(d) == i)`, for which a pass need not look up every position)."""

    totals: Array
    index: Array  # type: ignore[assignment]  # a tuple has a method of this name
    num: int | Array
    without: Callable[[Array], Array]
    but: Callable[[Array], Array]


def terms(x: Array, attribution: Array, segments: Array | None, grid: int | tuple[int, ...] | None, num_segments: int | None) -> Terms:
    """The features of a label map or a grid; by default the positions."""
    values, of = by_position(attribution, x).ravel(), parts(x, segments, grid, num_segments)
    shape = position_shape(x)
    if of.labels is None:
        number = jnp.arange(of.num)
        return Terms(values, number, of.num, lambda inside: ~inside.reshape(shape), lambda i: (number != i).reshape(shape))
    totals = ops.segment_sum(values, jnp.ravel(jnp.asarray(of.labels)), of.num)
    index = jnp.where(of.exists, jnp.cumsum(of.exists) - 1, -1)
    labels = jnp.asarray(of.labels).reshape(shape)
    # A pass that removes nothing has a number that only positions of no feature may have.
    none = labels >= of.num
    return Terms(totals, index, of.count, lambda inside: spread(~inside, of.labels, x, outside=True), lambda i: (labels != i) | none)


def judged(value: Array, attribution: Array, x: Array) -> Array:
    """0 for a constant map, whose sums differ by rounding alone (NaN stays), and NaN for one that is not finite."""
    a = by_position(attribution, x)
    return nan_unless_finite(jnp.where((a == a.ravel()[0]).all(), jnp.abs(value) * 0, value), attribution).astype(jnp.float32)
