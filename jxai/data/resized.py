"""A data set at another data set's size: one model takes the pictures of both."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jxai.data.derived import Derived
from jxai.data.images import grey
from jxai.data.sources import Example, Source


def resized(source: Source, shape: tuple[int, int, int]) -> Source:
    """The data set with every picture brought to a size and a number of channels when it is read.

    The whole picture is resized (bilinear, antialiased where it shrinks), whatever its sides; grey is repeated in three channels, of colours the luminance (ITU-R 601) is taken.

    Args:
      source: of pictures, uint8. shape: of the pixels, `(H, W, 1)` or `(H, W, 3)`.

    Returns:
      A source of the same labels and names, masks resized with the pictures.

    Raises:
      ValueError: another shape; of pixels that are no pictures, when an example is read.
    """
    if len(shape) != 3 or shape[-1] not in (1, 3) or min(shape) < 1:
        raise ValueError(f"{shape=} must be (H, W, 1) or (H, W, 3)")
    return _Resized(source, tuple(shape))


class _Resized(Derived):
    def __init__(self, source: Source, shape: tuple[int, ...]):
        super().__init__(source, f"{source.name} at {'×'.join(map(str, shape))}")
        self._shape = shape

    def changed(self, example: Example, index: int) -> Example:
        pixels = example.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
            raise ValueError(f"pictures [H, W, 1] or [H, W, 3] uint8 are resized, got {pixels.dtype} {pixels.shape}")
        pixels = grey(pixels) if pixels.shape[-1] == 3 and self._shape[-1] == 1 else pixels
        pixels = np.repeat(pixels, 3, -1) if pixels.shape[-1] < self._shape[-1] else pixels
        mask = None if example.mask is None else self._of(255 * np.asarray(example.mask, np.uint8)) > 127
        return dataclasses.replace(example, pixels=self._of(pixels).reshape(self._shape), mask=mask)

    def _of(self, pixels: np.ndarray) -> np.ndarray:
        from PIL import Image

        image: Any = Image.fromarray(pixels[..., 0] if pixels.shape[-1:] == (1,) and pixels.ndim == 3 else pixels)
        return np.asarray(image.resize(self._shape[1::-1], Image.Resampling.BILINEAR))
