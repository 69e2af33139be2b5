"""Photographs to arrays: decoding, rotation, resizing and cropping as the ImageNet models expect them."""

import os
import warnings
from typing import Any

import numpy as np

__all__ = ["load_image", "preprocess"]

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded: a small file can declare an image that fills the memory."""
# The evaluation protocol of the EfficientNet-Lite weights here: a centre crop of 224 out of a short side of 256.
_SHORT_SIDE = 256 / 224


INTERPOLATIONS = ("bicubic", "bilinear")


def preprocess(image: Any, size: int = 224, short_side: int | None = None, channels: int = 3, interpolation: str = "bicubic") -> np.ndarray:
    """Resizes the short side and crops a centred square.

    Args:
      image: a path; a PIL image; or pixels `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]`, uint8. Greyscale is repeated
        in three channels, transparency is laid over white, and a photograph is turned as its EXIF tag says.
      size: side of the result in pixels.
      short_side: of the image before the crop, in pixels; None is `256/224 · size`, the ImageNet models' protocol.
      channels: 3, or 1 for luminance (ITU-R 601).
      interpolation: `"bicubic"` or `"bilinear"`, antialiased where it shrinks.

    Returns:
      `[size, size, channels]` float32 in [0, 1].

    Raises:
      ValueError: a file that cannot be read as an image or has more than 100 million pixels, pixels of another
        shape or type, or an unknown option.
      ImportError: Pillow is not installed.
    """
    short_side = round(size * _SHORT_SIDE) if short_side is None else short_side
    if channels not in (1, 3):
        raise ValueError(f"{channels=} must be 1 or 3")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"{interpolation=} must be one of {INTERPOLATIONS}")
    if not 1 <= size <= short_side:
        raise ValueError(f"{size=} must be between 1 and {short_side=}")
    pil = _pillow()
    image = _to_rgb(pil, image)
    width, height = image.size
    scale = short_side / min(width, height)
    resized = (max(size, round(width * scale)), max(size, round(height * scale)))
    left, top = (resized[0] - size) // 2, (resized[1] - size) // 2
    if channels == 1:
        image = image.convert("L")
    # Only the crop is computed: a long thin image would be enormous when resized whole.
    ratio = width / resized[0], height / resized[1]
    box = (left * ratio[0], top * ratio[1], (left + size) * ratio[0], (top + size) * ratio[1])
    image = image.resize((size, size), pil.Image.Resampling[interpolation.upper()], box=box)
    return np.asarray(image, np.float32).reshape(size, size, channels) / 255


def load_image(path: str | os.PathLike) -> np.ndarray:
    """Decodes a file into `[H, W, 3]` uint8, upright; raises as `preprocess` does."""
    return np.asarray(_to_rgb(_pillow(), path))


def _pillow():
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError:
        raise ImportError("reading images needs Pillow: pip install pillow") from None
    return PIL


def _to_rgb(pil, image):
    if isinstance(image, (str, os.PathLike)):
        image = _open(pil, image)
    elif not isinstance(image, pil.Image.Image):
        image = _from_array(pil, np.asarray(image))
    image = pil.ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):
        # 16-bit greyscale: PIL would clip it to white.
        image = pil.Image.fromarray((np.asarray(image, np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = pil.Image.alpha_composite(pil.Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _open(pil, path):
    try:
        # Pillow warns about large images; the limit below is an error instead.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pil.Image.DecompressionBombWarning)
            image = pil.Image.open(path)
        pixels = image.width * image.height
    except pil.Image.DecompressionBombError:
        raise ValueError(f"{path} has more than {MAX_PIXELS:,} pixels") from None
    except (OSError, SyntaxError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no image format that Pillow knows"
        raise ValueError(f"{path} cannot be read as an image ({reason})") from None
    if pixels > MAX_PIXELS:
        raise ValueError(f"{path} has {pixels:,} pixels, more than {MAX_PIXELS:,}")
    try:
        image.load()
    except Exception as error:  # Each decoder has its own ways to fail on a damaged file.
        raise ValueError(f"{path} is damaged ({type(error).__name__})") from None
    return image


def _from_array(pil, pixels):
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[-1] in (3, 4))):
        raise ValueError(f"image must be uint8 [H, W], [H, W, 1], [H, W, 3] or [H, W, 4], got {pixels.dtype} {pixels.shape}")
    return pil.Image.fromarray(pixels)
