"""Attributions of whole regions: pixels are pooled over the segments of a given over-segmentation."""

from __future__ import annotations

import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai import loops
from jxai.attribution.path import integrated_gradients
from jxai.callables import plainly
from jxai.loops import while_loop
from jxai.removal import fills
from jxai.removal.doubts import warn
from jxai.removal.fills import FillLike
from jxai.removal.masks import as_map, features, position_shape, positions
from jxai.scores import objective, one_of, positive, sharing, wide
from jxai.typing import Array, Method, Model

__all__ = ["xrai"]

ALGORITHMS = ("full", "fast")
CHANNELS = ("max", "sum")


@plainly
def xrai(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    segments: Array,
    num_segments: int | None = None,
    method: Method = integrated_gradients,
    method_options: dict[str, Any] | None = None,
    baselines: tuple[FillLike, ...] | None = (0.0, 1.0),
    channels: str = "max",
    algorithm: str = "full",
    min_area: int = 1,
    score: str = "logit",
) -> Array:
    """XRAI: adds regions to a growing mask M, each time the one of largest gain density `Σ_{r∖M} a / |r∖M|`.

    `a` is a pixel attribution. A position's value is the density of what its region added when it was added, the mean of
    a over `r∖M`; positions that no region added get their mean. With `channels="sum"` the map sums to what `a` sums to.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for `method` and fills that need one.
      segments: a label map `[H, W]` (the positions of x), or `[M, H, W]`: M over-segmentations at several scales, every
        label of each a region (PAIR: Felzenszwalb at six scales, and dilates the regions by 5 pixels, which a label map
        cannot say). A label outside `[0, num_segments)` is in no region.
      num_segments: labels per map, static; needed under a trace.
      method: the base attribution, and `method_options`: its own options.
      baselines: `method` is averaged over these, handed on as `baseline` (the paper's black and white; PAIR's code takes
        `(x.min(), x.max())`); `None` for a method without baseline.
      channels: how a channel axis is pooled: `"max"` (PAIR's code) or `"sum"`.
      algorithm: `"full"`, or `"fast"`: the order is that of the densities at the start, overlaps ignored (both PAIR's).
      min_area: a region that would add fewer positions than this is dropped (PAIR: 50).
      score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`; handed on to `method`.

    Returns:
      `[H, W, 1]` (for a vector `[D]`), signed, in units of `method`.

    Raises:
      ValueError: segments of another shape, a bad option, x, target or score.

    Cost: that of `method` for each of `baselines`: by default 2 · 50 forward and backward passes.

    Reference: Kapishnikov et al. 2019, "XRAI: Better Attributions Through Regions", ICCV.
    """
    objective(f, x, target, score)
    one_of("algorithm", algorithm, ALGORITHMS)
    one_of("channels", channels, CHANNELS)
    positive(min_area=min_area)
    maps, num = _label_maps(x, segments, num_segments)
    values = _base(f, x, target, key, method, sharing(method, method_options, score), baselines)
    pixels = jnp.broadcast_to(values, jnp.broadcast_shapes(values.shape, position_shape(x)))
    if x.ndim > 1:
        pixels = pixels.max(-1) if channels == "max" else pixels.sum(-1)
    pixels = pixels.ravel()
    # The order is data without a derivative: the loops below see no tangent, the pooled means carry it.
    owner = _owners(lax.stop_gradient(pixels), maps, num, algorithm, min_area)
    total, count = _pool(pixels, owner, maps.shape[0] * num + 1)
    return as_map((total / jnp.maximum(count, 1))[owner].reshape(position_shape(x)), x)


def _base(f: Model, x: Array, target, key, method: Method, options: dict[str, Any], baselines) -> Array:
    if baselines is None:
        return wide(method(f, x, target, key, **options))
    if not isinstance(baselines, (tuple, list)) or not baselines:
        raise ValueError(f"{baselines=} must be a tuple of baselines, or None for a method without one")
    if "baseline" not in inspect.signature(method).parameters:
        raise ValueError(f"method={getattr(method, '__name__', method)} has no baseline: pass baselines=None")
    starts = jnp.stack([fills.baseline(b, x, key) for b in baselines])
    return loops.means(lambda i: method(f, x, target, key, baseline=starts[i], **options), len(baselines), 1)


def _label_maps(x: Array, segments: Array, num_segments: int | None) -> tuple[Array, int]:
    """`[M, P]` labels over the flat positions, and how many labels a map has; `num` where a position is in no region."""
    segments = segments if hasattr(segments, "dtype") else np.asarray(segments)
    stack = segments[None] if jnp.ndim(segments) == len(positions(x)) else segments
    if jnp.ndim(stack) != len(positions(x)) + 1 or not len(stack):
        raise ValueError(f"segments must have shape {positions(x)} or [M, …] of it, got {jnp.shape(segments)}")
    checked = [features(x, labels, num_segments=num_segments) for labels in stack]
    num = max(one.num for one in checked)
    if num == 1:
        warn("segments are one: every map of XRAI on them is flat")
    flat = jnp.stack([jnp.ravel(one.labels) for one in checked]).astype(jnp.int32)
    return jnp.where((flat >= 0) & (flat < num), flat, num), num


def _owners(values: Array, maps: Array, num: int, algorithm: str, min_area: int) -> Array:
    """`[P]`: the region `m · num + label` that added each position, or `M · num` where none did."""
    regions = maps.shape[0] * num
    ids = jnp.where(maps < num, maps + num * jnp.arange(maps.shape[0])[:, None], regions)

    def densities(free: Array) -> tuple[Array, Array]:
        """Gain density and area of every region on the positions that are still free."""
        total, count = _pool(jnp.where(free, values, 0), ids, regions, free)
        return total / jnp.maximum(count, 1), count

    first, _ = densities(jnp.ones(values.shape, bool))

    def add(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        owner, gain, count = state
        # Clipped to finite numbers: an eligible region always beats one that is not, whatever its gain.
        best = jnp.argmax(jnp.where(count >= min_area, jnp.nan_to_num(gain), -jnp.inf))
        owner = jnp.where((owner == regions) & (ids == best).any(0), best.astype(jnp.int32), owner)
        gain, count = densities(owner == regions)
        return owner, gain if algorithm == "full" else first, count

    start = jnp.full(values.shape, regions, jnp.int32)
    return while_loop(lambda state: (state[2] >= min_area).any(), add, (start, *densities(start == regions)))[0]


def _pool(values: Array, ids: Array, num: int, live: Array | None = None) -> tuple[Array, Array]:
    """Sum and number of the values of every id in `[0, num)`; `ids` is `[P]` or a stack `[M, P]` of disjoint ranges."""
    live = jnp.ones(values.shape, values.dtype) if live is None else live.astype(values.dtype)
    both = jnp.broadcast_to(jnp.stack([values, live], -1), ids.shape + (2,)).reshape(-1, 2)
    pooled = jax.ops.segment_sum(both, ids.ravel(), num)
    return pooled[:, 0], pooled[:, 1]
