"""Localization: does the attribution lie where the object is? (`detection` asks the same of its ranking.)

`mask` marks the object: boolean, the shape of x's positions. f, target and (but for `pointing_game`) key are not looked at
and may be None. The attribution of a position is summed over its channels, signed; to judge magnitudes, pass
`jnp.abs(attribution)`. A map that is not finite gives NaN, a map without any positive value a defined number: nothing is
rejected.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jxai.callables import plainly
from jxai.metrics.common import by_position, check_attribution, nan_unless_finite
from jxai.removal.masks import positions
from jxai.scores import check_example, one_of, wide, within
from jxai.typing import Array, Model

__all__ = [
    "energy_pointing",
    "focus",
    "pointing_game",
    "relevance_mass",
]

POOLINGS = ("sum,pos", "max-norm", "l2-norm,sq")


@plainly
def pointing_game(
    f: Model | None,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    mask: Array,
    tolerance: float = 0.0,
) -> Array:
    """The pointing game: `1 if min_{q ∈ mask} ‖p* − q‖₂ ≤ tolerance else 0`, with `p* = argmax_p a_p`.

    The largest signed value points, also where all are negative. Of several largest ones, the first in the order of
    position points, or with a key one drawn at random.

    Args:
      f, target: not looked at. x: one example, used for its shape. attribution: has x's rank and broadcasts against x.
      key: for a draw among equal maxima (a constant map then hits with the probability of the mask's share).
      mask: boolean, the positions of x (`[H, W]`), where the object is. An empty one gives 0, a full one 1.
      tolerance: in pixels, at least 0; the paper allows 15 for photographs of some 500 pixels, TorchRay's default.

    Returns:
      1.0 (a hit) or 0.0, float32.

    Raises:
      ValueError: a mask that is not boolean or of another shape, a bad attribution, or a negative tolerance.

    Range: {0, 1}.
    Direction: higher is better.
    Cost: no passes.
    Reference: Zhang et al. 2018, "Top-Down Neural Attention by Excitation Backprop", International Journal of Computer Vision.
    """
    within(0, float("inf"), tolerance=tolerance)
    inside = object_mask(mask, x)
    a = by_position(attribution, x)
    order = jnp.argmax(a)
    if key is not None:
        order = jnp.argmax(jnp.where(a == a.max(), (jax.random.bits(key, a.shape) >> 1).astype(jnp.int32), -1))
    distance = jnp.zeros((), jnp.float32)
    for axis, place in enumerate(jnp.unravel_index(order, a.shape)):
        distance = distance + (lax.broadcasted_iota(jnp.float32, a.shape, axis) - place) ** 2
    nearest = jnp.where(inside, distance, jnp.inf).min()
    # An empty mask is infinitely far, also for an infinite tolerance.
    hit = (nearest <= jnp.square(jnp.float32(tolerance))) & jnp.isfinite(nearest)
    return nan_unless_finite(hit.astype(jnp.float32), attribution)


@plainly
def energy_pointing(f: Model | None, x: Array, target: int | Array | None, attribution: Array, key: Array | None = None, *, mask: Array) -> Array:
    """The energy-based pointing game: `Σ_{p ∈ mask} max(a_p, 0) / Σ_p max(a_p, 0)`, the share of the positive energy in the mask.

    The paper's maps are rectified; negative values count as 0 here. A map without any positive value gives 0.

    Args:
      f, target, key: not looked at. x: one example, used for its shape. attribution: has x's rank and broadcasts against x.
      mask: boolean, the positions of x (`[H, W]`), where the object is. An empty one gives 0, a full one 1.

    Returns:
      The share, float32; of a constant positive map the mask's share of the positions.

    Raises:
      ValueError: a mask that is not boolean or of another shape, or a bad attribution.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes.
    Reference: Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR Workshops.
    """
    return nan_unless_finite(_share(pooled(attribution, x, "sum,pos"), object_mask(mask, x)), attribution)


@plainly
def relevance_mass(
    f: Model | None,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    mask: Array,
    pooling: str = "sum,pos",
) -> Array:
    """Relevance mass accuracy: `Σ_{p ∈ mask} R_p / Σ_p R_p` of a relevance `R ≥ 0` that pools the channels.

    Args:
      f, target, key: not looked at. x: one example, used for its shape. attribution: has x's rank and broadcasts against x.
      mask: boolean, the positions of x (`[H, W]`), where the object is. An empty one gives 0, a full one 1.
      pooling: as the authors' code (ahmedmagdiosman/clevr-xai) names them: `"sum,pos"`, `R = max(Σ_c a_c, 0)`, is blind to
        negative attribution (and then equals `energy_pointing`); `"max-norm"`, `R = max_c |a_c|`, and `"l2-norm,sq"`,
        `R = Σ_c a_c²`, count it as positive.

    Returns:
      The share, float32; 0 where all relevance is 0, the mask's share of the positions where it is constant.

    Raises:
      ValueError: a mask that is not boolean or of another shape, a bad attribution, or an unknown pooling.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes.
    Reference: Arras et al. 2022, "CLEVR-XAI: A Benchmark Dataset for the Ground Truth Evaluation of Neural Network Explanations", Information Fusion.
    """
    return nan_unless_finite(_share(pooled(attribution, x, pooling), object_mask(mask, x)), attribution)


@plainly
def focus(f: Model | None, x: Array, target: int | Array | None, attribution: Array, key: Array | None = None, *, mask: Array) -> Array:
    """The Focus of a mosaic x: `Σ_{p ∈ mask} max(a_p, 0) / Σ_p max(a_p, 0)`, the share of positive attribution on the tiles of the target's class.

    x is a 2×2 mosaic of images, two of the target's class; `energy_pointing` is the same share for an object. Negative
    attribution counts as 0, as in the paper; a map without any positive value gives 0.

    Args:
      f, target, key: not looked at. x: the mosaic, used for its shape. attribution: has x's rank and broadcasts against x.
      mask: boolean, the positions of x (`[H, W]`), true on the tiles that show the target's class. An empty one gives 0,
        a full one 1.

    Returns:
      The share, float32; of a constant positive map the tiles' share of the mosaic, 0.5 as the paper builds them.

    Raises:
      ValueError: a mask that is not boolean or of another shape, or a bad attribution.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes.
    Reference: Arias-Duart et al. 2022, "Focus! Rating XAI Methods and Finding Biases", FUZZ-IEEE.
    """
    return energy_pointing(f, x, target, attribution, key, mask=mask)


def object_mask(mask: Array, x: Array) -> Array:
    """The mask as an array; ValueError unless it is boolean over the positions of x."""
    check_example(x)
    dtype, shape = getattr(mask, "dtype", type(mask).__name__), getattr(mask, "shape", None)
    if dtype != jnp.bool_ or shape != positions(x):
        raise ValueError(f"mask must be a boolean array of shape {positions(x)}, the positions of x, got {dtype} of shape {shape}")
    return jnp.asarray(mask)


def pooled(attribution: Array, x: Array, pooling: str) -> Array:
    """A relevance of at least 0 for every position."""
    if one_of("pooling", pooling, POOLINGS) == "sum,pos":
        return jnp.maximum(by_position(attribution, x), 0)
    check_attribution(attribution, x)
    a = jnp.abs(wide(jnp.asarray(attribution)))
    channels = -1 if x.ndim > 1 else ()
    if pooling == "max-norm":
        return jnp.broadcast_to(a.max(channels), positions(x))
    # In units of the largest, so that squares neither overflow nor vanish.
    return jnp.broadcast_to(jnp.square(a / _unit(a)).sum(channels), positions(x))


def _share(r: Array, inside: Array) -> Array:
    """`Σ_inside r / Σ r` for r ≥ 0; 0 where r is 0 everywhere."""
    r = r / _unit(r)
    return jnp.where(inside, r, 0).sum() / jnp.maximum(r.sum(), 1)


def _unit(r: Array) -> Array:
    top = r.max()
    return jnp.where(top > 0, top, 1)
