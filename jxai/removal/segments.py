"""Over-segmentations of an image by scikit-image: the label maps that segment-wise methods and metrics group positions by."""

from __future__ import annotations

import dataclasses

import numpy as np

KINDS = ("slic", "felzenszwalb")
XRAI = (50.0, 100.0, 150.0, 250.0, 500.0, 1200.0)
"""The felzenszwalb scales at which XRAI's authors segment an image."""
_MIN_SIZE = 150


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """An over-segmentation: `segmentation(x) -> labels`, on the host.

    Attributes:
      kind: "slic" or "felzenszwalb".
      numbers: a number of segments (slic) or a scale (felzenszwalb) for each map.
    """

    kind: str
    numbers: tuple[float, ...]

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(map(repr, KINDS))}")
        if not self.numbers or not all(1 <= v < np.inf for v in self.numbers):
            raise ValueError(f"numbers={self.numbers!r} must be numbers of at least 1")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Labels from 0, `[H, W]`, or `[M, H, W]` for M numbers; ValueError for an x that is no image `[H, W, C]`."""
        from skimage import segmentation

        if x.ndim != 3:
            raise ValueError(f"{self.kind} segments images [H, W, C]; x has shape {x.shape}, give a label map")
        if self.kind == "slic":
            compactness = 10 if x.shape[-1] == 3 else 0.1
            maps = [segmentation.slic(x, int(n), compactness, start_label=0, channel_axis=-1) for n in self.numbers]
        else:
            maps = [segmentation.felzenszwalb(x, scale, sigma=0.8, min_size=_MIN_SIZE, channel_axis=-1) for scale in self.numbers]
        return np.asarray(maps[0] if len(maps) == 1 else maps, np.int32)

    def limit(self, shape: tuple[int, int]) -> int:
        """How many segments a map of `[H, W]` has at most, whatever the image: a static size for many images.

        SLIC joins segments of less than half the mean size to a neighbour, felzenszwalb those of less than 150 pixels.
        """
        area = shape[0] * shape[1]
        if self.kind == "slic":
            return min(area, 2 * int(max(self.numbers)) + 1)
        return max(1, area // _MIN_SIZE)


def from_masks(masks: np.ndarray) -> np.ndarray:
    """A label map of masks that may overlap, such as those of Segment Anything: positions in the same masks get one label.

    Args:
      masks: `[M, *positions]`, booleans, M >= 1.

    Returns:
      `[*positions]`, int32: labels from 0 in the order of their first position; positions in no mask are a segment of their own.

    Raises:
      ValueError: no masks, or of another dtype.
    """
    masks = np.asarray(masks)
    if masks.ndim < 2 or 0 in masks.shape or masks.dtype != bool:
        raise ValueError(f"masks must be booleans [M, *positions], at least one, got {masks.dtype} of shape {masks.shape}")
    _, first, labels = np.unique(masks.reshape(len(masks), -1), axis=1, return_index=True, return_inverse=True)
    places = np.argsort(np.argsort(first))
    return places[labels.ravel()].reshape(masks.shape[1:]).astype(np.int32)
