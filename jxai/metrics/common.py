"""What the metrics share: attributions as one number per position or feature, and areas under curves."""

from __future__ import annotations

import jax.numpy as jnp
from jax import ops

from jxai.removal.masks import Features, features, position_shape, positions
from jxai.scores import wide
from jxai.typing import Array, Curve


def by_position(attribution: Array, x: Array) -> Array:
    """The attribution of every position, `[positions of x]`, float32: summed over the channels that the attribution has.

    Raises:
      ValueError: it does not have x's rank, or does not broadcast against x.
    """
    check_attribution(attribution, x)
    a = wide(jnp.asarray(attribution))
    if x.ndim > 1:
        a = a.sum(-1)
    return jnp.broadcast_to(a, positions(x))


def by_feature(attribution: Array, x: Array, features: Features) -> Array:
    """The mean attribution of each feature's positions, `[features.num]`; 0 for a feature without any."""
    values, labels = by_position(attribution, x).ravel(), jnp.ravel(jnp.asarray(features.labels))
    # Out of range labels (no feature) are dropped by the scatter.
    total = ops.segment_sum(values, labels, features.num)
    return total / jnp.maximum(ops.segment_sum(jnp.ones_like(values), labels, features.num), 1)


def shared_out(attribution: Array, x: Array, segments: Array | None, grid: int | tuple[int, ...] | None, num_segments: int | None) -> Array:
    """`by_position`, but of a map by groups, which holds a group's whole value at each of its positions: shared out among them, so that it counts once.

    Args:
      segments, grid, num_segments: the groups that the map is by, as of the method that made it; none: the map is by entries.
    """
    values = by_position(attribution, x)
    if segments is None and grid is None:
        return values
    labels, num = features(x, segments, grid, num_segments)
    area = ops.segment_sum(jnp.ones(values.size), jnp.ravel(jnp.asarray(labels)), num)
    return values / area.at[jnp.asarray(labels)].get(mode="fill", fill_value=1, wrap_negative_indices=False)


def check_attribution(attribution: Array, x: Array, name: str = "attribution") -> None:
    """Raises ValueError unless the attribution has x's rank and broadcasts against x."""
    shape = jnp.shape(attribution)
    if len(shape) != x.ndim or any(a not in (1, b) for a, b in zip(shape, x.shape)):
        raise ValueError(f"{name} must have shape {x.shape} or {position_shape(x)}, like x, got {shape}")
    if not jnp.issubdtype(jnp.result_type(attribution), jnp.floating):
        raise ValueError(f"{name} must be floating point, got {jnp.result_type(attribution)}")


def nan_unless_finite(value: Array, attribution: Array) -> Array:
    """The value, or NaN where the attribution has an entry that is not finite: what every metric does with such a map."""
    return jnp.where(jnp.isfinite(attribution).all(), value, jnp.nan)


def curve(x: Array, y: Array) -> Curve:
    """The curve through `(x, y)` with its normalised area; over a single point, the area is that point's y."""
    x, y = jnp.asarray(x, y.dtype), y
    width = x[-1] - x[0]
    area = jnp.sum(jnp.diff(x) * (y[1:] + y[:-1]) / 2)
    return Curve(x, y, jnp.where(width > 0, area / jnp.where(width > 0, width, 1), y[-1]))
