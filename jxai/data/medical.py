"""Medical files, DICOM and NIfTI, as pixels of 16 bits: by the range that a file states or by a window that a person names, never by a guess."""

from __future__ import annotations

import dataclasses
import numbers
import os
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from jxai.data.images import grey
from jxai.data.stored import Stored, dicom, nifti

DICOM, NIFTI = (".dcm", ".dicom"), (".nii", ".nii.gz")
SUFFIXES = (*DICOM, *NIFTI)

_WHITE = 65535


def is_medical(path: str | os.PathLike) -> bool:
    """Whether a file is read as a medical one: by its suffix, or by the mark of DICOM in one that has no suffix."""
    name = str(path).lower()
    if name.endswith(SUFFIXES) or Path(path).suffix:
        return name.endswith(SUFFIXES)
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


@dataclasses.dataclass(frozen=True)
class Medical:
    """How medical files become pixels.

    What a file holds is first brought into its own units (`v · RescaleSlope + RescaleIntercept`, or a Modality LUT; Hounsfield units of a CT; NIfTI's
    `scl_slope` and `scl_inter`), and then laid between black and white, `65535 · (v − low) / (high − low)`, rounded and clipped; MONOCHROME1, in which the
    least value is white, is inverted.

    Attributes:
      window: what is black and what is white. None: the ends of the range that the file states, of DICOM the `BitsStored` (signed or not), of NIfTI that of
        uint8. `(center, width)`: `center ± width / 2`, in the file's units. `"file"`: the file's own window, of DICOM the first `WindowCenter` and
        `WindowWidth` by its `VOILUTFunction`, of NIfTI `cal_min` and `cal_max`. `"units"`: nothing is black or white, x is the values themselves.
      slice: of a volume (a DICOM file of several frames, a NIfTI file of three axes) the index of a picture `[H, W, C]`, or `"all"` for a video `[T, H, W, C]`;
        negative ones count from the end.
      axis: of the array that the file holds, along which slices lie; None is the frames of DICOM (0) and the last axis of NIfTI (2). The other axes keep
        their order: rows are the first of them.

    Raises:
      ValueError: another window, slice or axis.
    """

    window: tuple[float, float] | str | None = None
    slice: int | str | None = None
    axis: int | None = None

    def __post_init__(self) -> None:
        window, place, axis = self.window, self.slice, self.axis
        if isinstance(window, tuple):
            window = tuple(v.item() if isinstance(v, np.generic) else v for v in window)
            object.__setattr__(self, "window", window)
            known = len(window) == 2 and all(type(v) in (int, float) and np.isfinite(v) for v in window) and window[1] > 0
        else:
            known = window is None or (isinstance(window, str) and window in ("file", "units"))
        if not known:
            raise ValueError(f"{window=} must be None, (center, width) with width > 0, 'file' or 'units'")
        if _is_index(place):
            object.__setattr__(self, "slice", int(place))
        elif not (place is None or (isinstance(place, str) and place == "all")):
            raise ValueError(f"slice={place!r} must be None, an index or 'all'")
        if _is_index(axis) and 0 <= axis < 3:
            object.__setattr__(self, "axis", int(axis))
        elif axis is not None:
            raise ValueError(f"{axis=} must be None, 0, 1 or 2")

    def read(self, path: str | os.PathLike, channels: int = 1) -> np.ndarray:
        """A file's picture.

        Args:
          path: a DICOM or NIfTI file. channels: 1, or 3: grey three times.

        Returns:
          `[H, W, channels]`, of all slices `[T, H, W, channels]`: uint16 pixels, white is 65535; uint8 where the file holds 8 bits and no window is named; or
          with `window="units"` float32 x of the file's own channels.

        Raises:
          ValueError: a file that cannot be read, a volume without `slice`, a range or window that the file does not state, values outside of the range
            that it states or not finite, colours that are not RGB. ImportError: pydicom or nibabel is not installed.
        """
        if channels not in (1, 3):
            raise ValueError(f"{channels=} must be 1 or 3")
        stored = (nifti if str(path).lower().endswith(NIFTI) else dicom)(path, self.slice, self.axis)
        if not (finite := np.isfinite(stored.values)).all():
            raise ValueError(f"{path}: {(~finite).sum()} of {finite.size} values are not finite")
        if self.window is not None and stored.unitless:
            raise ValueError(f"{path} {stored.unitless}")
        if self.window == "units":
            return stored.values.astype(np.float32)
        pixels = self._pixels(path, stored)
        if pixels.shape[-1] == channels:
            return pixels
        return np.repeat(pixels, 3, -1) if channels == 3 else grey(pixels)

    def of_units(self) -> Medical:
        """The same, of values in their units."""
        return dataclasses.replace(self, window="units")

    def _pixels(self, path: str | os.PathLike, stored: Stored) -> np.ndarray:
        low, high = self._ends(path, stored)
        if self.window is None and stored.values.size and not (low <= stored.values.min() and stored.values.max() <= high):
            held = f"{stored.values.min():g} to {stored.values.max():g}"
            raise ValueError(f"{path} holds values from {held}, outside of {low:g} to {high:g}, which it states; {_OPTIONS}")
        if self.window == "file" and stored.curve is not None:
            share = stored.curve(stored.values)
        else:
            share = np.clip((stored.values - low) / (high - low), 0, 1)
        share = 1 - share if stored.inverted else share
        if self.window is None and stored.bits <= 8:
            return np.rint(255 * share).astype(np.uint8)
        return np.rint(_WHITE * share).astype(np.uint16)

    def _ends(self, path: str | os.PathLike, stored: Stored) -> tuple[float, float]:
        if isinstance(self.window, tuple):
            center, width = self.window
            return center - width / 2, center + width / 2
        stated = stored.range if self.window is None else stored.window
        if isinstance(stated, str):
            raise ValueError(f"{path} {stated}; {_OPTIONS}")
        return stated


def _is_index(value: Any) -> TypeGuard[int]:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


_OPTIONS = "name a window: (center, width) in the units of the file, 'file' for its own, or 'units' for the values as they are"
