"""Arrays to small pictures in the page itself: examples, and layers over them whose colours the page makes of grey.

A map travels as one grey channel (0 in the middle where it is signed), which is a third of what its colours would be, and gets them by a filter of the page.
Small arrays (digits) travel exactly, as PNG; larger ones as WebP, no wider than `side`.
"""

from __future__ import annotations

import base64
import io
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from jxai.plot.blending import NOT_FINITE, colors, normalize, reduce_channels, rgb

_EXACT = 48 * 48
"""Positions of a picture that travels as it is."""
_FRAMES, _BARS = 8, 12
_CELLS = ("upper left", "top", "upper right", "left", "centre", "right", "lower left", "bottom", "lower right")


class Layer(NamedTuple):
    """What lies over an example, or stands beside it."""

    title: str
    kind: str
    """`"signed"` and `"unsigned"`: grey that gets its colours in the page; `"plain"`: colours of its own; `"bars"`: of a vector."""
    source: str = ""
    """A data URI."""
    bars: tuple[tuple[str, float], ...] = ()
    alt: str = ""
    note: str = ""

    def told(self) -> dict[str, Any]:
        """As the page's script reads it."""
        from jxai.files import printable

        bars = [[printable(name), float(f"{value:.4g}")] for name, value in self.bars]
        found = {"n": printable(self.title), "k": self.kind, "u": self.source, "b": bars, "a": printable(self.alt), "t": printable(self.note)}
        return {name: value for name, value in found.items() if value}


def side(pictures: int) -> int:
    """The width that so many pictures may have for a page to stay within a few hundred kilobytes."""
    return next((width for most, width in ((32, 224), (128, 160), (256, 112)) if pictures <= most), 96)


def picture(x: ArrayLike, width: int = 224) -> str:
    """An example as a data URI: an image, a video's frames side by side, a series as a row of grey for each channel; `""` of a vector.

    Args:
      x: `[H, W, C]`, `[T, H, W, C]` or `[T, C]`; uint8, or floating point in [0, 1] (other ranges are stretched). width: in pixels, at most.
    """
    x = np.asarray(x)
    if x.ndim not in (2, 3, 4):
        return ""
    if x.ndim == 2:
        v = np.nan_to_num(np.asarray(x, np.float32))
        low, span = v.min(0), np.maximum(np.ptp(v, 0), 1e-12)
        v = ((v - low) / span).T[..., None]
    else:
        v = np.asarray(x, np.float32) / (255 if x.dtype == np.uint8 else 1)
        v = _strip(v) if x.ndim == 4 else v
    v = rgb(v)
    grey = bool((v == v[..., :1]).all())
    return _uri(np.uint8(np.rint(255 * (v[..., 0] if grey else v))), width * (min(_FRAMES, len(x)) if x.ndim == 4 else 1), 65 if width > 150 else 45)


def layer(title: str, attribution: ArrayLike, shape: tuple[int, ...], *, signed: bool | None = None, width: int = 224, names: Any = None) -> Layer:
    """A map as a layer: its channels summed, clipped at the 99th percentile, on its own scale as `jxai.plot.blend` has it.

    Args:
      title: the method. attribution: raw. shape: of the example. signed: whether 0 is the middle; None looks at the map. width: in pixels, at most.
      names: of a vector's features.
    """
    a = np.asarray(attribution, np.float32)
    if len(shape) == 1:
        return bars(title, a, names)
    if len(shape) not in (2, 3, 4):
        return Layer(title, "plain", note=f"maps of shape {a.shape} have no picture")
    wide = width * (min(_FRAMES, shape[0]) if len(shape) == 4 else 1)
    plane = _plane(a, shape)
    words = where(plane)
    scaled = normalize(_smaller(plane, wide), signed=signed)
    if np.isnan(scaled.values).any():
        known = np.nan_to_num(scaled.values)
        colour = np.where(np.isnan(scaled.values)[..., None], NOT_FINITE, colors(known, scaled.signed))
        opacity = np.where(np.isnan(scaled.values), 1, np.abs(known))[..., None]
        return Layer(title, "plain", _uri(np.uint8(np.rint(255 * np.concatenate([colour, opacity], -1))), wide, None), alt=words, note="green: not finite")
    grey = 128 + 127 * scaled.values if scaled.signed else 255 * scaled.values
    return Layer(
        title, "signed" if scaled.signed else "unsigned", _uri(np.uint8(np.rint(grey)), wide, 40 if width > 112 else 25 if width > 96 else 15), alt=words
    )


def bars(title: str, values: ArrayLike, names: Any = None) -> Layer:
    """The largest entries of a vector, in order."""
    v = np.asarray(values, np.float64).ravel()
    finite = np.isfinite(v)
    chosen = np.sort(np.argsort(-np.where(finite, np.abs(v), -1), kind="stable")[: min(_BARS, int(finite.sum()))])
    more = [f"{len(chosen)} of {len(v)} shown"] * (len(chosen) < len(v)) + [f"{int((~finite).sum())} not finite"] * (not finite.all())
    return Layer(title, "bars", bars=tuple((str(names[i]) if names is not None else f"x[{i}]", float(v[i])) for i in chosen), note="; ".join(more))


def where(plane: np.ndarray) -> str:
    """In words where a map is largest, and how spread out it is."""
    v = np.abs(np.nan_to_num(np.asarray(plane, np.float64), posinf=0, neginf=0))
    total = v.sum()
    if not total > 0:
        return "nothing anywhere"
    rows, columns = (np.arange(size) * 3 // size for size in v.shape)
    sums = np.zeros((3, 3))
    np.add.at(sums, (rows[:, None], columns), v)
    held = np.cumsum(np.sort(v, axis=None)[::-1])
    share = (int(np.searchsorted(held, total / 2)) + 1) / v.size
    return f"most of it {_CELLS[int(sums.argmax())]}, half of it on {share:.0%} of the positions"


def _plane(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map as rows and columns, in the shape of the example's picture."""
    if len(shape) == 2:
        return np.broadcast_to(a, shape).T
    flat = np.broadcast_to(reduce_channels(a), shape[:-1])
    return _strip(flat[..., None])[..., 0] if len(shape) == 4 else flat


def _strip(v: np.ndarray) -> np.ndarray:
    """Up to eight evenly spaced frames side by side."""
    frames = np.unique(np.linspace(0, len(v) - 1, min(len(v), _FRAMES)).round().astype(int))
    return np.concatenate([v[t] for t in frames], 1)


def _smaller(plane: np.ndarray, width: int) -> np.ndarray:
    """The map's means over the pixels of a smaller picture, before it is scaled, since positive and negative entries side by side cancel."""
    from PIL import Image

    size = _size(plane.shape[::-1], width)
    return plane if size == plane.shape[::-1] else np.asarray(Image.fromarray(np.ascontiguousarray(plane, np.float32)).resize(size, Image.Resampling.BOX))


def _size(size: tuple[int, int], width: int) -> tuple[int, int]:
    largest = max(size)
    return size if largest <= width else (max(1, round(size[0] * width / largest)), max(1, round(size[1] * width / largest)))


def _uri(pixels: np.ndarray, width: int, quality: int | None) -> str:
    from PIL import Image

    image = Image.fromarray(pixels)
    if (size := _size(image.size, width)) != image.size:
        image = image.resize(size, Image.Resampling.BOX)
    file = io.BytesIO()
    if quality is None or math.prod(image.size) <= _EXACT:
        image.save(file, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    image.save(file, "WEBP", quality=quality, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
