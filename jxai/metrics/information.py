"""What the model can do with the information that an attribution selects: performance information curves.

How positions are scored, ties are ordered, and what an attribution that is constant or not finite gives: see `jxai.metrics.removal`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import plainly
from jxai.metrics.common import by_position, curve, nan_unless_finite
from jxai.metrics.removal import measure, when
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, Neighbours, remover
from jxai.removal.masks import position_shape, positions
from jxai.scores import SHARES, need_key, one_of, wide, within
from jxai.typing import Array, Curve, Model

__all__ = ["image_information", "performance_information_curve"]

_SHARES = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.13, 0.21, 0.34, 0.5, 0.75)


@plainly
def performance_information_curve(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    shares: Sequence[float] = _SHARES,
    seed_share: float = 0.01,
    num_points: int = 101,
    fill: FillLike = Neighbours(noise=0.0),
    score: str = "probability",
    chunk: int | None = None,
) -> Curve:
    """What f makes of x, sharp where the attribution is largest and blurred elsewhere, against the information that is in such an image.

    With x_q keeping the top share q, its seed and its corners: the points `((H(x_q) − H(x_0)) / (H(x) − H(x_0)), (s(x_q) − s(x_0)) / (s(x) − s(x_0)))`,
    clipped to [0, 1]; each the maximum up to its q; joined by straight lines from (0, 0) to (1, 1).

    Args:
      f: a model `x -> logits [K]`. x: an image `[H, W, C]` or a video in [0, 1]. target: a class; `None` for a scalar f in [0, 1].
      attribution: of x's rank, broadcasts against x; signed. key: draws the seed, orders ties at random.
      shares: of the positions that are sharp, ascending, in (0, 1). seed_share: of those that are sharp from the start, at random.
      num_points: values of x at which the curve is read, evenly spaced, so that curves of images can be averaged.
      fill: what makes the blur from the sharp positions; the default interpolates them smoothly (the authors: linearly, over triangles).
      score: `"probability"` for the softmax information curve (SIC; `"sigmoid"` of one logit), `"accuracy"` for the accuracy information curve (AIC).
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `Curve`, `[num_points]`: x the normalised information (`image_information`, not the authors' WebP size), y the normalised score.
      NaN where x holds no more information, or no larger score, than its blurred start: the authors leave such images out.

    Raises:
      ValueError: x is no image, attribution does not fit it, shares that do not ascend in (0, 1), no key, or an unknown score.

    Range: [0, 1].
    Direction: higher is better.
    Cost: `2 + len(shares)` forward passes, `1 + len(shares)` interpolations.
    Reference: Kapishnikov et al. 2019, "XRAI: Better Attributions Through Regions", ICCV.
    """
    s = measure(f, x, target, one_of("score", score, (*SHARES, "accuracy")))
    _check_image(x)
    kept_by_fill("performance_information_curve", f, x, target, fill, key, score=score)
    if any(b <= a for a, b in zip((0.0, *shares), (*shares, 1.0))):
        raise ValueError(f"{shares=} must ascend in (0, 1)")
    within(0.0, 1.0, seed_share=seed_share)
    seed_key, tie_key, fill_key = jax.random.split(need_key(key, "performance_information_curve"), 3)
    n = int(np.prod(positions(x)))
    counts = np.array([0, *(round(q * n) for q in shares), n])
    gone = when(by_position(attribution, x).ravel(), counts, key=tie_key)
    seed = when(jnp.zeros(n), np.array([round(seed_share * n)]), "random", seed_key) == 0
    seed = seed.reshape(positions(x)) | _corners(positions(x))
    removed = remover(x, fill, fill_key)

    def at(k: Array) -> tuple[Array, Array]:
        image = removed((gone.reshape(position_shape(x)) <= k) | seed[..., None], k)
        return image_information(image), s(image)

    bits, y = (_normalised(v) for v in loops.stack(at, len(counts), loops.at_once(x, chunk)))
    grid = jnp.linspace(0, 1, num_points)
    return curve(grid, nan_unless_finite(jnp.interp(grid, bits, y), attribution))


def image_information(x: Array) -> Array:
    """An estimate of an image's size in bits once compressed without loss: the entropy of its 8-bit prediction residuals.

    Every pixel is predicted from its left, upper and upper left neighbours by the median edge detector of JPEG-LS, on green, red − green and
    blue − green where there are three channels; the empirical entropy of the residuals modulo 256, channel by channel, times their number.

    Args:
      x: `[H, W, C]` or `[T, H, W, C]` (frame by frame), in [0, 1]; rounded to 8 bits.

    Returns:
      A scalar in [0, 8 · x.size].

    Raises:
      ValueError: x is no image.

    Cost: no passes.
    Reference: Weinberger et al. 2000, "The LOCO-I Lossless Image Compression Algorithm: Principles and Standardization into JPEG-LS", IEEE TIP.
    """
    _check_image(x)
    v = jnp.clip(jnp.round(wide(x) * 255), 0, 255).astype(jnp.int32)
    if x.shape[-1] == 3:
        red, green, blue = (v[..., c] for c in range(3))
        v = jnp.stack([red - green, green, blue - green], -1)
    padded = jnp.pad(v, [(0, 0)] * (x.ndim - 3) + [(1, 0), (1, 0), (0, 0)])
    left, upper, corner = padded[..., 1:, :-1, :], padded[..., :-1, 1:, :], padded[..., :-1, :-1, :]
    low, high = jnp.minimum(left, upper), jnp.maximum(left, upper)
    residual = (v - jnp.clip(left + upper - corner, low, high)) % 256
    channels = x.shape[-1]
    counts = jnp.zeros(256 * channels).at[residual + 256 * jnp.arange(channels)].add(1.0)
    share = counts * (channels / x.size)
    return jnp.sum(counts * -jnp.log2(jnp.where(counts > 0, share, 1)))


def _normalised(v: Array) -> Array:
    """From 0 at the first entry to 1 at the last, clipped and never falling; NaN where the last is not above the first."""
    width = v[-1] - v[0]
    v = jnp.clip((v - v[0]) / jnp.where(width > 0, width, jnp.nan), 0, 1)
    return jax.lax.cummax(v)


def _corners(shape: tuple[int, ...]) -> np.ndarray:
    """True at the corners of an image, or of every frame."""
    ends = [np.isin(np.arange(size), (0, size - 1)) for size in shape[-2:]]
    return np.broadcast_to(ends[0][:, None] & ends[1], shape)


def _check_image(x: Array) -> None:
    if x.ndim < 3:
        raise ValueError(f"x must be an image [H, W, C] or a video, got shape {x.shape}")
