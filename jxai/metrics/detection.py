"""Localization by rank: the attribution as a detector of the object's positions.

As in `localization`, `mask` marks the object, f, target and key are not looked at and may be None, the attribution of a
position is summed over its channels, signed, and a map that is not finite gives NaN.
"""

from __future__ import annotations

import jax.numpy as jnp

from jxai.callables import plainly
from jxai.kernels.order import kth_largest, order_keys
from jxai.metrics.common import by_position, nan_unless_finite
from jxai.metrics.localization import object_mask, pooled
from jxai.scores import positive
from jxai.typing import Array, Model

__all__ = ["localization_auc", "relevance_rank", "top_k_intersection"]


@plainly
def relevance_rank(
    f: Model | None,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    mask: Array,
    pooling: str = "sum,pos",
) -> Array:
    """Relevance rank accuracy: `|top_K ∩ mask| / K`, the K most relevant positions for a mask of K positions.

    Ties at the K-th place count by their share in the mask, what a random choice among them gives on average.

    Args:
      f, target, key: not looked at. x: one example, used for its shape. attribution: has x's rank and broadcasts against x.
      mask: boolean, the positions of x (`[H, W]`), where the object is. An empty one gives 0, a full one 1.
      pooling: of the channels, as for `relevance_mass`; `"sum,pos"` makes all negative positions equal (least relevant),
        `"max-norm"` and `"l2-norm,sq"` rank by magnitude.

    Returns:
      The share, float32; the mask's share of the positions where all relevance is equal.

    Raises:
      ValueError: a mask that is not boolean or of another shape, a bad attribution, or an unknown pooling.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes.
    Reference: Arras et al. 2022, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural Network Explanations", Information Fusion.
    """
    inside = object_mask(mask, x)
    return nan_unless_finite(_top_share(pooled(attribution, x, pooling), inside, inside.sum()), attribution)


@plainly
def top_k_intersection(
    f: Model | None,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    mask: Array,
    k: int | float = 1000,
) -> Array:
    """Top-k intersection: `|top_k ∩ mask| / k`, the share of the k most attributed positions that lie in the mask.

    Ranks signed values, so that negative ones come last. Ties at the k-th place count by their share in the mask, what a
    random choice among them gives on average.

    Args:
      f, target, key: not looked at. x: one example, used for its shape. attribution: has x's rank and broadcasts against x.
      mask: boolean, the positions of x (`[H, W]`), where the object is. An empty one gives 0, a full one 1.
      k: how many positions, an integer (the paper has 1000 of a photograph), or their share, a float in (0, 1], rounded
        to the nearest number of at least one position. Never clipped: the share of all positions says nothing of the map.

    Returns:
      The share, float32; of a constant map the mask's share of the positions. Where k exceeds the mask, at most |mask| / k.

    Raises:
      ValueError: k larger than the number of positions, not positive, or a share beyond 1; a mask that is not boolean or of
        another shape, or a bad attribution.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes.
    Reference: Theiner et al. 2022, "Interpretable Semantic Photo Geolocation", WACV.
    """
    inside = object_mask(mask, x)
    if isinstance(k, float):
        if not 0 < k <= 1:
            raise ValueError(f"{k=} must be a number of positions (an integer) or a share of them in (0, 1]")
        k = max(1, round(k * inside.size))
    positive(k=k)
    if k > inside.size:
        raise ValueError(f"{k=} is more than the {inside.size} positions of x; pass fewer, or a share of them as k=0.1")
    return nan_unless_finite(_top_share(by_position(attribution, x), inside, k), attribution)


@plainly
def localization_auc(f: Model | None, x: Array, target: int | Array | None, attribution: Array, key: Array | None = None, *, mask: Array) -> Array:
    """Area under the ROC curve of the attribution as a detector of the mask: `P(a_p > a_q) + P(a_p = a_q) / 2, p ∈ mask, q ∉ mask`.

    Uses the order of the signed values alone (`sklearn.metrics.roc_auc_score`): negative ones are merely small.

    Args:
      f, target, key: not looked at. x: one example, used for its shape. attribution: has x's rank and broadcasts against x.
      mask: boolean, the positions of x (`[H, W]`), where the object is. An empty or a full one gives 0.5: nothing is told apart.

    Returns:
      The area, float32; 0.5 for a constant map.

    Raises:
      ValueError: a mask that is not boolean or of another shape, or a bad attribution.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes.
    Reference: Fawcett 2006, "An Introduction to ROC Analysis", Pattern Recognition Letters.
    """
    inside = object_mask(mask, x).ravel()
    order = order_keys(by_position(attribution, x).ravel())
    # As integers, which XLA sorts several times faster than floats on a CPU; no finite value has the largest.
    detected = jnp.sort(jnp.where(inside, order, jnp.iinfo(order.dtype).max))
    below = jnp.searchsorted(detected, order, side="left") + jnp.searchsorted(detected, order, side="right")
    hits, misses = inside.sum().astype(jnp.float32), (~inside).sum().astype(jnp.float32)
    wrong = jnp.where(inside, 0.0, below.astype(jnp.float32) / jnp.maximum(2 * hits, 1)).sum()
    area = jnp.where((hits > 0) & (misses > 0), jnp.clip(1 - wrong / jnp.maximum(misses, 1), 0, 1), 0.5)
    return nan_unless_finite(area, attribution)


def _top_share(a: Array, inside: Array, k: int | Array) -> Array:
    """`|top_k ∩ inside| / k`, ties at the k-th place by their share; 0 for k = 0."""
    a = a.astype(jnp.float32)
    kth = kth_largest(a, k)
    above, level = a > kth, a == kth
    places = k - above.sum()
    hits = (above & inside).sum() + places * (level & inside).sum() / jnp.maximum(level.sum(), 1)
    return hits.astype(jnp.float32) / jnp.maximum(k, 1)
