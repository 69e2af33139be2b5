"""How numbers become colours: the reduction over channels, the scale, and the blend with the image."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib
import numpy as np
from numpy.typing import ArrayLike

from jxai.scores import one_of

CHANNELS = ("sum", "abs_max")
_DIP = 0.1
SIGNED, UNSIGNED = "RdBu_r", "inferno"
NOT_FINITE = (0.0, 1.0, 0.0)  # a green that neither colour map holds


class Scaled(NamedTuple):
    """`values`: in [-1, 1] if signed, else in [0, 1]; NaN where not finite. `low`, `high`: what the two ends stand for."""

    values: np.ndarray
    low: float
    high: float
    signed: bool


def reduce_channels(attribution: ArrayLike, channels: str = "sum") -> np.ndarray:
    """`[…, C]` to `[…]`: the signed sum over channels, or the largest magnitude (`"abs_max"`). A vector stays as it is."""
    a = np.asarray(attribution, np.float32)
    one_of("channels", channels, CHANNELS)
    if a.ndim == 1:
        return a
    return a.sum(-1) if channels == "sum" else np.abs(a).max(-1)


def normalize(attribution: ArrayLike, percentile: float = 99.0, signed: bool | None = None) -> Scaled:
    """Scales a map for the eye, clipping outliers.

    Signed maps are divided by the percentile of |a|, so that 0 stays in the middle; unsigned ones are stretched between
    the `100 − percentile`-th and the `percentile`-th percentile. A constant map becomes 0.

    Args:
      attribution: any shape. percentile: in (50, 100]; 100 clips nothing.
      signed: whether 0 is the middle, which the method knows (`jxai.attribution.is_signed`); None guesses it of the map: whether some value is
        below 0 by more than a tenth of what is drawn as the largest (a resize dips by less).
    """
    if not 50 < percentile <= 100:
        raise ValueError(f"{percentile=} must be in (50, 100]")
    a = np.asarray(attribution, np.float32)
    finite = np.isfinite(a)
    known = a[finite]
    if known.size == 0:
        return Scaled(np.full(a.shape, np.nan, np.float32), 0.0, 0.0, bool(signed))
    largest = _first_positive(np.percentile(np.abs(known), percentile), np.abs(known).max())
    signed = bool(known.min() < -_DIP * largest) if signed is None else signed
    if signed:
        high = largest
        low = -high
        values = np.clip(a / (high or 1), -1, 1)
    else:
        low, high = np.percentile(known, [100 - percentile, percentile])
        if high <= low:
            low, high = known.min(), known.max()
        values = np.clip((a - low) / ((high - low) or 1), 0, 1)
    return Scaled(np.where(finite, values, np.nan).astype(np.float32), float(low), float(high), signed)


def within(attribution: ArrayLike, low: float, high: float, signed: bool) -> Scaled:
    """A map on a scale that is given: `low` and `high` are its ends, −`high` and `high` where it is signed."""
    a = np.asarray(attribution, np.float32)
    low = -high if signed else low
    values = np.clip(a / (high or 1), -1, 1) if signed else np.clip((a - low) / ((high - low) or 1), 0, 1)
    return Scaled(np.where(np.isfinite(a), values, np.nan).astype(np.float32), float(low), float(high), signed)


def blend(
    image: ArrayLike | None,
    attribution: ArrayLike,
    *,
    percentile: float = 99.0,
    signed: bool | None = None,
    channels: str = "sum",
    alpha: float = 0.85,
    segments: ArrayLike | None = None,
) -> np.ndarray:
    """The map over a grey version of the image as RGB in [0, 1], `[H, W, 3]`.

    A pixel's opacity is `alpha · |value|`: what does not matter stays transparent. Values that are not finite are green.

    Args:
      image: `[H, W, C]`, or None for a white ground. attribution: broadcasts against it. Others: see `normalize`,
      `reduce_channels`. alpha: the opacity of the strongest value, in [0, 1]. segments: a label map to outline.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"{alpha=} must be in [0, 1]")
    a = np.asarray(attribution)
    if a.ndim != 3:
        raise ValueError(f"attribution must be [H, W, C] or [H, W, 1], got shape {a.shape}")
    return paint(image, normalize(reduce_channels(a, channels), percentile, signed), alpha, segments)


def paint(image: ArrayLike | None, scaled: Scaled, alpha: float = 0.85, segments: ArrayLike | None = None) -> np.ndarray:
    """A scaled map `[H, W]` over a grey version of the image, as `blend` does it."""
    shape = scaled.values.shape if image is None else np.asarray(image).shape[:2]
    values = np.broadcast_to(scaled.values, shape)
    ground = np.ones(shape + (3,)) if image is None else _grey(image)
    known = np.nan_to_num(values)
    colour = colors(known, scaled.signed)
    opacity = alpha * np.abs(known)[..., None]
    out = ground * (1 - opacity) + colour * opacity
    out = np.where(np.isnan(values)[..., None], NOT_FINITE, out)
    return out if segments is None else outline(out, segments)


def colors(values: ArrayLike, signed: bool) -> np.ndarray:
    """RGB of scaled values: blue to red through white around 0, or purple to yellow; both without their darkest ends."""
    values = np.asarray(values)
    table = matplotlib.colormaps[SIGNED if signed else UNSIGNED]
    return np.asarray(table(0.5 + 0.42 * values if signed else 0.3 + 0.65 * values))[..., :3]


def outline(image: ArrayLike, segments: ArrayLike, color: tuple[float, float, float] = (1.0, 0.9, 0.2)) -> np.ndarray:
    """The image as RGB `[H, W, 3]` with the borders of a label map `[H, W]` drawn on it."""
    labels = np.asarray(segments)
    picture = rgb(image)
    if labels.shape != picture.shape[:2]:
        raise ValueError(f"segments must be of shape {picture.shape[:2]}, got {labels.shape}")
    border = np.zeros(labels.shape, bool)
    border[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    border[:-1] |= labels[:-1] != labels[1:]
    return np.where(border[..., None], color, picture)


def rgb(image) -> np.ndarray:
    """Any channels and range as RGB in [0, 1]; pixels outside it are stretched, more than three channels averaged."""
    v = np.nan_to_num(np.asarray(image, np.float32))
    if v.min() < 0 or v.max() > 1:
        v = (v - v.min()) / max(float(v.max() - v.min()), 1e-12)
    return v[..., :3] if v.shape[-1] == 3 else np.repeat(v.mean(-1, keepdims=True), 3, -1)


def _grey(image) -> np.ndarray:
    """Luminance, a little lightened so that colours read on dark pictures."""
    grey = rgb(image) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat((0.2 + 0.8 * grey)[..., None], 3, -1)


def _first_positive(*values: float) -> float:
    return next((float(v) for v in values if v > 0), 0.0)
