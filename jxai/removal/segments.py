"""Over-segmentations of an image by scikit-image: the label maps that segment-wise methods and metrics group positions by."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np

from jxai.removal.masks import dense

KINDS = ("slic", "felzenszwalb")
XRAI = (50.0, 100.0, 150.0, 250.0, 500.0, 1200.0)
"""The felzenszwalb scales at which XRAI's authors segment an image."""
_MIN_SIZE, _SIDE = 150, 224


@dataclasses.dataclass(frozen=True)
class Segmentation:
    """An over-segmentation: `segmentation(x) -> labels`, on the host.

    Attributes:
      kind: "slic", or "felzenszwalb" on the picture brought to [−1, 1] and 224 × 224 pixels, as XRAI's authors do.
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
        if x.ndim != 3:
            raise ValueError(f"{self.kind} segments images [H, W, C]; x has shape {x.shape}, give a label map")
        if self.kind == "slic":
            from skimage import segmentation

            compactness = 10 if x.shape[-1] == 3 else 0.1
            maps = [segmentation.slic(x, int(n), compactness, start_label=0, channel_axis=-1) for n in self.numbers]
        else:
            maps = _felzenszwalb(np.asarray(x, np.float64), self.numbers)
        labels, most = dense(np.asarray(maps[0] if len(maps) == 1 else maps, np.int32), 2)
        if most == 1:
            warnings.warn(f"{self.kind} with {self.numbers} finds one segment in the picture: what is explained by segments is flat", stacklevel=2)
        return labels

    def limit(self, shape: tuple[int, int]) -> int:
        """How many segments a map of `[H, W]` has at most, whatever the image: a static size for many images.

        SLIC joins segments of less than half the mean size to a neighbour, felzenszwalb those of less than 150 pixels of 224 × 224.
        """
        area = shape[0] * shape[1]
        if self.kind == "slic":
            return min(area, 2 * int(max(self.numbers)) + 1)
        return min(area, _SIDE * _SIDE // _MIN_SIZE)


def _felzenszwalb(x: np.ndarray, scales: tuple[float, ...]) -> list[np.ndarray]:
    """As XRAI's authors segment (PAIR saliency 0.2.1), whose scales and least size hold for 224 × 224 pixels in [−1, 1], whatever x's size and range."""
    from skimage import segmentation, transform

    span = x.max() - x.min()
    picture = (x - x.min()) / span * 2 - 1 if span > 0 else np.zeros_like(x)
    picture = transform.resize(picture, (_SIDE, _SIDE), order=3, mode="constant", preserve_range=True, anti_aliasing=True)
    maps = [segmentation.felzenszwalb(picture, scale, sigma=0.8, min_size=_MIN_SIZE, channel_axis=-1) for scale in scales]
    return [transform.resize(one, x.shape[:2], order=0, preserve_range=True, mode="constant", anti_aliasing=False).astype(int) for one in maps]


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
