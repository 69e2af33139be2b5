"""Segments of an image by name: `--lime.segments slic:60`, `--xrai.segments felzenszwalb:50,250,1200`."""

from __future__ import annotations

import dataclasses

import numpy as np

from jxai.cli.errors import UserError

KINDS = ("slic", "felzenszwalb")
# The scales at which XRAI's authors segment an image.
XRAI = (50.0, 100.0, 150.0, 250.0, 500.0, 1200.0)


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """An over-segmentation of scikit-image: `kind`, and a number of segments (slic) or a scale (felzenszwalb) for each map."""

    kind: str
    numbers: tuple[float, ...]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Labels from 0, `[H, W]`, or `[M, H, W]` for M numbers."""
        from skimage import segmentation

        if x.ndim != 3:
            raise UserError(f"{self.kind} segments images [H, W, C]; x has shape {x.shape}, give an .npy label map")
        if self.kind == "slic":
            compactness = 10 if x.shape[-1] == 3 else 0.1
            maps = [segmentation.slic(x, int(n), compactness, start_label=0, channel_axis=-1) for n in self.numbers]
        else:
            maps = [segmentation.felzenszwalb(x, scale, sigma=0.8, min_size=150, channel_axis=-1) for scale in self.numbers]
        return np.asarray(maps[0] if len(maps) == 1 else maps, np.int32)


def named(flag: str, text: str) -> Segmentation:
    """The segmentation that a text names; numbers have defaults."""
    kind, _, numbers = text.partition(":")
    if kind not in KINDS:
        raise UserError(f"{flag} {text!r} must be slic:COUNT, felzenszwalb:SCALE, or an .npy label map")
    try:
        values = tuple(float(n) for n in numbers.split(",")) if numbers else {"slic": (60.0,), "felzenszwalb": (250.0,)}[kind]
    except ValueError:
        values = ()
    if not values or not all(1 <= v < np.inf for v in values):
        raise UserError(f"{flag} {text!r} must give numbers of at least 1 after {kind}:")
    return Segmentation(kind, values)
