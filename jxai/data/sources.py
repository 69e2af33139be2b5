"""What a source gives, and the sources that need no files: arrays, and scikit-learn's digits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from jxai.data.images import refuse_pixels
from jxai.identity.values import digest

NO_LABEL = -1
"""The label of an example that has none."""

PIXELS = (np.uint8, np.uint16)
"""The types of pixels; floating point is x itself."""


@dataclasses.dataclass(frozen=True)
class Example:
    """One example as it is stored, before a model's preprocessing."""

    pixels: np.ndarray
    """`[H, W, C]` uint8, or of 16 bits uint16 (white is 65535); or x itself in floating point."""
    label: int = NO_LABEL
    """A class, or `NO_LABEL`."""
    mask: np.ndarray | None = None
    """Where the object is, boolean, over the positions of `pixels`."""
    name: str = ""


class Source(Protocol):
    """A data set: its length, and its examples by index. `name` says in one line which one it is.

    Two that differ must differ in the name, or in `digest(places) -> str` of the examples at these places, where there is such a method. One that has `named(index) -> (name, label)` tells these
    of an example that cannot be read; one that has `labels() -> [n]` is sampled class by class."""

    name: str
    class_names: tuple[str, ...] | None

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class Arrays:
    """Examples that are in memory already.

    Args:
      examples: `[n, H, W, C]` uint8 pixels, or `[n, …]` floating-point x as the model takes it.
      labels: `[n]` integers; None where there are none.
      masks: `[n, H, W]` boolean, where the objects are.
      class_names: of the labels.
      name: of the data set; by default a digest of the arrays.

    Raises:
      ValueError: no examples, examples that are neither uint8 nor floating point, floating-point pictures of pixels from 0 to 255, or labels or masks of another number or shape.
    """

    def __init__(
        self,
        examples: np.ndarray,
        labels: Sequence[int] | np.ndarray | None = None,
        masks: np.ndarray | None = None,
        *,
        class_names: Sequence[str] | None = None,
        name: str | None = None,
    ):
        examples = np.asarray(examples)
        if examples.ndim < 2 or not len(examples) or 0 in examples.shape:
            raise ValueError(f"examples must be [n, …] with at least one example, got shape {examples.shape}")
        if examples.dtype != np.uint8 and not np.issubdtype(examples.dtype, np.floating):
            raise ValueError(f"examples must be uint8 pixels or floating-point x, got {examples.dtype}")
        if examples.ndim > 3:
            refuse_pixels(examples, "examples")
        labels = np.full(len(examples), NO_LABEL) if labels is None else np.asarray(labels)
        if labels.shape != (len(examples),) or not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"labels must be {len(examples)} integers, got {labels.dtype} {labels.shape}")
        positions = examples.shape[:-1] if examples.ndim > 2 else examples.shape
        if masks is not None and np.shape(masks) != positions:
            raise ValueError(f"masks must have shape {positions}, got {np.shape(masks)}")
        self._examples, self._labels = examples, labels
        self._masks = None if masks is None else np.asarray(masks, bool)
        self.class_names = None if class_names is None else tuple(map(str, class_names))
        self.name = name or f"arrays:{_content(examples, labels, self._masks)}"

    def __len__(self) -> int:
        return len(self._examples)

    def labels(self) -> np.ndarray:
        """Of all examples, `[n]`."""
        return self._labels

    def digest(self, places: Sequence[int]) -> str:
        """Of what is at these places."""
        at = np.asarray(places)
        return _content(self._examples[at], self._labels[at], None if self._masks is None else self._masks[at])

    def __getitem__(self, index: int) -> Example:
        mask = None if self._masks is None else self._masks[index]
        return Example(self._examples[index], int(self._labels[index]), mask, str(index))


class Digits(Arrays):
    """scikit-learn's 1797 handwritten digits, `[8, 8, 1]`; the ink of each (brighter than half) is its mask.

    Args:
      split: `"train"`, the first 1200, which the networks of `jxai.models` are trained on; `"test"`, the other 597; None for all.

    Raises:
      ImportError: scikit-learn is not installed. ValueError: another split.
    """

    TRAINED_ON = 1200

    def __init__(self, split: str | None = None):
        try:
            from sklearn.datasets import load_digits
        except ImportError:
            raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from None
        digits = load_digits()
        parts = {None: slice(None), "train": slice(self.TRAINED_ON), "test": slice(self.TRAINED_ON, None)}
        if split not in parts:
            raise ValueError(f"{split=} of the digits must be 'train', 'test' or None")
        pixels = np.rint(digits.images[parts[split], ..., None] * (255 / 16)).astype(np.uint8)
        name = "digits" if split is None else f"digits:{split}"
        super().__init__(pixels, digits.target[parts[split]], pixels[..., 0] > 127, class_names="0123456789", name=name)


def box_mask(shape: tuple[int, int], box: Sequence[float]) -> np.ndarray:
    """The pixels that a box touches, `[H, W]` boolean.

    Args:
      shape: H, W. box: ymin, xmin, ymax, xmax as shares of the image, in [0, 1].
    """
    height, width = shape
    top, left, bottom, right = (float(v) for v in box)
    if not (0 <= top <= bottom <= 1 and 0 <= left <= right <= 1):
        raise ValueError(f"{box=} must be [ymin, xmin, ymax, xmax] in [0, 1]")
    mask = np.zeros(shape, bool)
    # Half-open: a box that ends at a pixel's edge does not touch the next one; float32 shares are rounded to a thousandth of a pixel.
    mask[_floor(top * height) : _ceil(bottom * height), _floor(left * width) : _ceil(right * width)] = True
    return mask


def _floor(value: float) -> int:
    return int(np.floor(value + 1e-3))


def _ceil(value: float) -> int:
    return int(np.ceil(value - 1e-3))


def _content(*arrays: np.ndarray | None) -> str:
    return digest(*(array for array in arrays if array is not None))[:16]
