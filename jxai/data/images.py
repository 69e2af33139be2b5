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
_LUMINANCE = np.asarray([0.299, 0.587, 0.114])
"""ITU-R 601."""
_BITS, _PHOTOMETRIC, _LARGEST = 258, 262, 281
"""TIFF's tags: bits of a sample, what 0 means, the largest value."""


INTERPOLATIONS = ("bicubic", "bilinear")


def preprocess(image: Any, size: int = 224, short_side: int | None = None, channels: int = 3, interpolation: str = "bicubic") -> np.ndarray:
    """Resizes the short side and crops a centred square.

    Args:
      image: a path; a PIL image; or pixels `[H, W]`, `[H, W, 1]`, `[H, W, 3]` or `[H, W, 4]`, uint8; or of more than 8 bits `[H, W, 1]` or `[H, W, 3]` in
        floating point from 0 to 255, which are resized as such. Greyscale is repeated in three channels, transparency is laid over white, and a
        photograph is turned as its EXIF tag says.
      size: side of the result in pixels.
      short_side: of the image before the crop, in pixels; None is `256/224 · size`, the ImageNet models' protocol.
      channels: 3, or 1 for luminance (ITU-R 601).
      interpolation: `"bicubic"` or `"bilinear"`, antialiased where it shrinks.

    Returns:
      `[size, size, channels]` float32 in [0, 1].

    Raises:
      ValueError: a file that cannot be read as an image, has more than 100 million pixels or a range that it does not tell (32-bit integers, 16 bits of
        which 14 or fewer are in use, floating point outside [0, 1]), pixels of another shape or type, or an unknown option.
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
    deep = _layers(pil, image, channels) if isinstance(image, np.ndarray) and image.dtype.kind == "f" else None
    image = deep[0] if deep else _to_rgb(pil, image)
    width, height = image.size
    scale = short_side / min(width, height)
    resized = (max(size, round(width * scale)), max(size, round(height * scale)))
    left, top = (resized[0] - size) // 2, (resized[1] - size) // 2
    if channels == 1 and not deep:
        image = image.convert("L")
    # Only the crop is computed: a long thin image would be enormous when resized whole.
    ratio = width / resized[0], height / resized[1]
    box = (left * ratio[0], top * ratio[1], (left + size) * ratio[0], (top + size) * ratio[1])
    resized = [np.asarray(layer.resize((size, size), pil.Image.Resampling[interpolation.upper()], box=box), np.float32) for layer in deep or [image]]
    # Bicubic interpolation overshoots at edges; of 8 bits Pillow clips it.
    return (
        np.clip(np.stack(resized, -1) if deep else resized[0], 0, 255).reshape(size, size, -1).repeat(channels if deep and len(deep) < channels else 1, -1)
        / 255
    )


def load_image(path: str | os.PathLike, channels: int = 3) -> np.ndarray:
    """Decodes a file's first picture into `[H, W, channels]` uint8, upright; raises as `preprocess` does.

    A grey file is repeated in three channels, and one channel is luminance (ITU-R 601), as in `preprocess`. Of 16 bits the upper 8 count, unless a TIFF
    says that it uses fewer; black is 0 whatever the file's convention; floating point is in [0, 1].
    """
    if channels not in (1, 3):
        raise ValueError(f"{channels=} must be 1 or 3")
    pixels = np.asarray(_to_rgb(_pillow(), path))
    return pixels if channels == 3 else grey(pixels)


def grey(pixels: np.ndarray) -> np.ndarray:
    """Luminance (ITU-R 601) of pixels `[…, H, W, 3]` uint8 or uint16 as `[…, H, W, 1]` of that type."""
    if pixels.dtype != np.uint8 or pixels.ndim != 3:
        return np.rint(pixels @ _LUMINANCE).astype(pixels.dtype)[..., None]
    return np.asarray(_pillow().Image.fromarray(pixels).convert("L"))[..., None]


def refuse_pixels(x: np.ndarray, what: str) -> None:
    """ValueError where floating-point pictures `[…, H, W, C]` are pixels from 0 to 255, which are uint8, and not x as a model takes it."""
    if x.ndim < 3 or x.shape[-1] not in (1, 3, 4) or x.dtype.kind != "f" or not np.isfinite(x).all() or x.min() < 0:
        return
    largest = x.max()
    if largest > 16 or (largest > 1 and (x == np.rint(x)).all()):
        raise ValueError(
            f"{what}: {x.dtype} pictures hold values from {x.min():g} to {largest:g}; give pixels as uint8 (a model that takes 0 … 255 as x converts them in its "
            f"preprocess), or x in the model's own units"
        )


def _layers(pil, pixels: np.ndarray, channels: int) -> list:
    """Pixels from 0 to 255 in floating point as one picture for each channel."""
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise ValueError(f"image must be [H, W, 1] or [H, W, 3] in floating point, got {pixels.shape}")
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(pixels).all() and low >= 0 and high <= 255) or 0 < high <= 1:  # black is black in either range
        raise ValueError(f"image holds {pixels.dtype} values from {low:g} to {high:g}, which must be pixels from 0 to 255")
    pixels = pixels @ _LUMINANCE[:, None] if channels == 1 and pixels.shape[-1] == 3 else pixels
    return [pil.Image.fromarray(np.ascontiguousarray(layer, np.float32)) for layer in np.moveaxis(pixels, -1, 0)]


def _pillow():
    try:
        import PIL.Image
        import PIL.ImageOps
    except ImportError:
        raise ImportError("reading images needs Pillow: pip install pillow") from None
    return PIL


def _to_rgb(pil, image):
    name = image if isinstance(image, (str, os.PathLike)) else "image"
    if isinstance(image, (str, os.PathLike)):
        image = _open(pil, image)
    elif not isinstance(image, pil.Image.Image):
        image = _from_array(pil, np.asarray(image))
    if image.mode == "F" or image.mode.startswith("I"):
        turn = image.getexif()
        image = _eight_bits(pil, image, name)
        image.info["exif"] = turn.tobytes()
    image = pil.ImageOps.exif_transpose(image)
    try:
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = pil.Image.alpha_composite(pil.Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except ValueError as error:
        raise ValueError(f"{name} is of mode {image.mode}, which does not convert to RGB ({error}); save it as RGB") from None


def _eight_bits(pil, image, name):
    """A grey picture of more than 8 bits as one of 8, by the range that its kind or its file tells; Pillow would clip it, and forgets that white may be 0."""
    tags, v = getattr(image, "tag_v2", {}), np.asarray(image)
    white_is_zero = tags.get(_PHOTOMETRIC) == 0
    if image.mode == "F":
        if not (np.isfinite(v).all() and v.min() >= 0 and v.max() <= 1):
            raise ValueError(f"{name} holds floating point from {v.min():g} to {v.max():g}, which must be in [0, 1]; save it as 8 or 16 bits")
        v = np.rint(255 * v.astype(np.float64))
    else:
        if not (image.mode.startswith("I;16") or image.format in ("PNG", "PPM")):  # Pillow gives those two as 32 bits
            raise ValueError(f"{name} holds 32-bit or signed integers from {v.min()} to {v.max()}, whose range it does not tell; save it as 8 or 16 bits")
        full = max(np.ravel(tags.get(_LARGEST, 0))[0], 2 ** min(16, np.ravel(tags.get(_BITS, 16))[0]) - 1 if _LARGEST not in tags else 0)
        if full == 65535 and 0 < v.max() < 2**14:
            bits = int(v.max()).bit_length()
            raise ValueError(f"{name} holds 16 bits, but no value above {v.max()}, as of {bits} bits; save it as 8 bits, or scaled to 16")
        v = v.astype(np.int64) * 256 // (int(full) + 1)
    v = np.clip(v, 0, 255).astype(np.uint8)
    return pil.Image.fromarray(255 - v if white_is_zero else v)


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
