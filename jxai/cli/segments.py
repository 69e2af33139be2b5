"""Segments of an image by name: `--lime.segments slic:60`, `--xrai.segments felzenszwalb:50,250,1200`."""

from __future__ import annotations

from jxai.cli.errors import UserError
from jxai.removal.segments import KINDS, Segmentation


def named(flag: str, text: str) -> Segmentation:
    """The segmentation that a text names; numbers have defaults."""
    kind, _, numbers = text.partition(":")
    if kind not in KINDS:
        raise UserError(f"{flag} {text!r} must be slic:COUNT, felzenszwalb:SCALE, or an .npy label map")
    try:
        return Segmentation(kind, tuple(float(n) for n in numbers.split(",")) if numbers else {"slic": (60.0,), "felzenszwalb": (250.0,)}[kind])
    except ValueError:
        raise UserError(f"{flag} {text!r} must give numbers of at least 1 after {kind}:") from None
