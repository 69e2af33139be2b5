"""What steps do to positions: which positions of an input a position of the value depends on."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """Every position by itself; an input of size 1 along an axis is spread over it."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """For each axis of the input: (axis of the output, window, stride, padding in front, dilation), or None where all positions mix."""

    axes: tuple[tuple[int, int, int, int, int] | None, ...]


def Window(window, strides, padding, dilation) -> Windows:
    """Windows over every axis, as `reduce_window` and its like have them."""
    return Windows(tuple((d, k, s, low, dil) for d, (k, s, (low, _), dil) in enumerate(zip(window, strides, padding, dilation))))


@dataclasses.dataclass(frozen=True)
class Reshape:
    """From one shape to another."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Reduce:
    """These axes of the input mix and are gone."""

    axes: tuple[int, ...]
