"""What DICOM and NIfTI files hold, in their own units, and what they state of it."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from jxai.data.images import MAX_PIXELS

Ends = tuple[float, float]


class Stored(NamedTuple):
    """A picture or a video of a file."""

    values: np.ndarray
    """`[H, W, C]` or `[T, H, W, C]`, float64, in the file's units."""
    range: Ends | str
    """What the file states to be the least and the greatest value, in its units; or why it states none."""
    window: Ends | str
    """The file's own window; or why there is none."""
    curve: Callable[[np.ndarray], np.ndarray] | None
    """The share of white by the file's own window, where that is no straight line between its ends."""
    inverted: bool
    """Whether the least value is white."""
    bits: int
    """Of a value."""
    unitless: str = ""
    """Why the values are in no units, where they are not."""


def dicom(path: str | os.PathLike, place: int | str | None, axis: int | None) -> Stored:
    """A DICOM file's picture; see `jxai.data.Medical`."""
    try:
        import pydicom
        from pydicom.pixels import apply_color_lut, apply_modality_lut, pixel_array
    except ImportError:
        raise ImportError("DICOM files need pydicom: pip install 'jxai[medical]'") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that bend the standard
            held = pydicom.dcmread(path)
            _refuse_huge(path, [int(held.get(name) or 1) for name in ("Rows", "Columns", "NumberOfFrames", "SamplesPerPixel")])
            overlaid = any(element.tag.group & 0xFF01 == 0x6000 and element.tag.element == 0x0102 and element.value for element in held)
            # YBR becomes RGB here. Bits that are not stored may hold overlays, which old files say; in others they are values that the file denies.
            array = pixel_array(held, correct_unused_bits=overlaid)
    except Huge:
        raise
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"{path} cannot be read as DICOM ({type(error).__name__}: {error})".splitlines()[0]) from None
    colours = held.PhotometricInterpretation
    if colours == "PALETTE COLOR":
        array, colours = apply_color_lut(array, held), "RGB"
    elif colours.startswith("YBR"):
        colours = "RGB"
    if array.dtype.kind not in "iu":
        raise ValueError(f"{path} holds real numbers, {array.dtype}, which are not read; save it as whole numbers with a RescaleSlope, or as NIfTI")
    if colours not in ("MONOCHROME1", "MONOCHROME2", "RGB"):
        raise ValueError(f"{path} has the colours {colours}, which are not read; save it as MONOCHROME2 or RGB")
    frames = int(held.get("NumberOfFrames") or 1) > 1
    array = _sliced(path, array if colours == "RGB" else array[..., None], frames, place, 0 if axis is None else axis)
    if colours == "RGB":
        bits = 8 * array.dtype.itemsize
        return Stored(array.astype(np.float64), (0.0, 2.0**bits - 1), "has colours, and no window", None, False, bits)
    bits, signed = int(held.BitsStored), bool(held.get("PixelRepresentation"))
    for name in ("RescaleSlope", "RescaleIntercept"):
        if name in held and (held[name].value in (None, "") or (name == "RescaleSlope" and float(held.RescaleSlope) == 0)):
            raise ValueError(f"{path} states {name} as {held[name].value!r}, which gives no units")
    ends = np.asarray([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if signed else [0, 2**bits - 1])
    low, high = sorted(float(v) for v in apply_modality_lut(ends, held))
    stated: Ends | str = (low, high)
    if "ModalityLUTSequence" in held:
        stated = 0.0, 2.0 ** int(held.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    if bits == 16 and array.size and 0 < max(array.max(), -int(array.min()) if signed else 0) < 2 ** (13 if signed else 14):
        stated = f"states 16 bits, but holds no value beyond {array.min()} to {array.max()}, as of fewer"
    values = apply_modality_lut(array, held).astype(np.float64)
    window, curve = _window(held)
    unitless = "states its units frame by frame, which are not read; save the frames as files of their own" if _by_frame(held) else ""
    return Stored(values, stated, window, curve, colours == "MONOCHROME1", bits if "ModalityLUTSequence" not in held else 16, unitless)


def nifti(path: str | os.PathLike, place: int | str | None, axis: int | None) -> Stored:
    """A NIfTI file's picture; see `jxai.data.Medical`."""
    try:
        import nibabel
    except ImportError:
        raise ImportError("NIfTI files need nibabel: pip install 'jxai[medical]'") from None
    held: Any
    try:
        held = nibabel.load(path)
        shape = held.shape
        while len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        if len(shape) not in (2, 3):
            raise ValueError(f"{path} has the axes {shape}; save one volume of it, of three axes")
        _refuse_huge(path, shape)
        kind = held.get_data_dtype()
        if kind.fields or kind.kind not in "iuf":
            raise ValueError(f"{path} holds {kind}, which are no numbers of one channel")
        if 0 in shape:
            raise ValueError(f"{path} has the axes {shape}, and no values")
        array = np.asarray(held.dataobj).reshape(shape)[..., None]
    except ValueError as error:
        raise error if str(error).startswith(str(path)) else ValueError(f"{path} cannot be read as NIfTI ({error})") from None
    except Exception as error:  # a damaged file may raise anything
        raise ValueError(f"{path} cannot be read as NIfTI ({type(error).__name__}: {error})".splitlines()[0]) from None
    array = _sliced(path, array, len(shape) == 3, place, 2 if axis is None else axis)
    slope, shift = held.header.get_slope_inter() if hasattr(held.header, "get_slope_inter") else (None, None)
    plain = kind == np.uint8 and slope in (None, 1) and shift in (None, 0)
    stated: Ends | str = (0.0, 255.0) if plain else f"states no range of its values ({kind}, from {array.min():g} to {array.max():g})"
    low, high = (float(held.header[name]) if name in held.header else 0.0 for name in ("cal_min", "cal_max"))
    window: Ends | str = (low, high) if high > low and math.isfinite(high - low) else "states no window (cal_min and cal_max are not set)"
    return Stored(array.astype(np.float64), stated, window, None, False, 8 if plain else 16)


class Huge(ValueError):
    """A file that declares more values than are read: a small file can declare what fills the memory."""


def _refuse_huge(path: str | os.PathLike, shape: Sequence[int]) -> None:
    if (values := math.prod(shape)) > 3 * MAX_PIXELS:
        raise Huge(f"{path} holds {values:,} values, more than {3 * MAX_PIXELS:,}")


def _sliced(path: str | os.PathLike, array: np.ndarray, volume: bool, place: int | str | None, axis: int) -> np.ndarray:
    """`[H, W, C]`, or of all slices `[T, H, W, C]`."""
    if not volume:
        if place is not None:
            raise ValueError(f"slice={place!r} says nothing about {path}, which is one picture {array.shape[:2]}")
        return array
    size = array.shape[axis]
    if place is None:
        shape = "×".join(map(str, array.shape[:3]))
        raise ValueError(f"{path} is a volume, {shape}: name a slice (0 to {size - 1} along axis {axis}), or 'all' for a video [T, H, W, C]")
    moved = np.moveaxis(array, axis, 0)
    if place == "all":
        return moved
    if not -size <= int(place) < size:
        raise ValueError(f"slice={place} of {path} must be in [{-size}, {size}), along axis {axis}")
    return moved[int(place)]


def _window(held: Any) -> tuple[Ends | str, Callable[[np.ndarray], np.ndarray] | None]:
    """A DICOM file's first window, by its function (PS3.3, C.11.2.1.2 and C.11.2.1.3)."""
    if held.get("WindowCenter") is None or held.get("WindowWidth") is None:
        table = "VOILUTSequence" in held
        return ("states a window as a table (VOI LUT), which is not read" if table else "states no window (WindowCenter and WindowWidth)"), None
    first = lambda value: float(value[0] if hasattr(value, "__len__") and not isinstance(value, str) else value)
    center, width = first(held.WindowCenter), first(held.WindowWidth)
    function = str(held.get("VOILUTFunction") or "LINEAR").upper()
    if function == "LINEAR" and width >= 1:
        low = center - 0.5 - (width - 1) / 2
        if width == 1:
            return (low, low), lambda v: (v > low).astype(np.float64)
        return (low, low + width - 1), None
    if function == "LINEAR_EXACT" and width > 0:
        return (center - width / 2, center + width / 2), None
    if function == "SIGMOID" and width > 0:
        return (center - width / 2, center + width / 2), lambda v: 1 / (1 + np.exp(-4 * (v - center) / width))
    return f"states the window {center:g}, {width:g} with the function {function}, which are not read", None


def _by_frame(held: Any) -> bool:
    """Whether an enhanced file keeps its units in groups of frames, where the values of the whole are none."""
    groups = [*(held.get("SharedFunctionalGroupsSequence") or []), *(held.get("PerFrameFunctionalGroupsSequence") or [])]
    return any("PixelValueTransformationSequence" in group for group in groups) and "RescaleSlope" not in held
