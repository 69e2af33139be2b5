"""Batches of one shape: padded, with a mark on what is real."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jxai.data.sources import NO_LABEL, PIXELS, Example, Source
from jxai.scores import positive

Preprocess = Callable[[Any], Any]


class Batch(NamedTuple):
    """`size` examples; where `valid` is False, the row is padding, or an example that could not be read: its own label and name, and another's x and mask."""

    x: np.ndarray
    """`[size, …]` float32, as the model takes it."""
    label: np.ndarray
    """`[size]` int32; −1 where there is none, or none is known of an example that could not be read."""
    mask: np.ndarray | None
    """`[size, H, W]` boolean over x's positions, where the objects are; None where the source has none."""
    index: np.ndarray  # type: ignore[assignment]  # a tuple has a method of this name
    """`[size]` int32: places in the source."""
    valid: np.ndarray
    """`[size]` boolean."""
    names: tuple[str, ...]
    errors: dict[int, str]
    """Why an index could not be read."""


def batches(source: Source, size: int, *, preprocess: Preprocess | None = None, limit: int | None = None) -> Iterator[Batch]:
    """The source's first `limit` examples (all by default) in its order, in batches of `size`.

    Args:
      source: a data set. size: examples in each batch. preprocess: the model's, pixels to x; None divides them by 255 (those of 16 bits by 65535).

    Raises:
      ValueError: an empty source, a size or limit below 1, or a first batch of which no example can be read.
    """
    positive(size=size)
    count, like = number(source, limit), None
    for start in range(0, count, size):
        batch = load(source, range(start, min(start + size, count)), size, preprocess, like)
        like = like or batch
        yield batch


def number(source: Source, limit: int | None) -> int:
    """How many examples there are, `limit` at most; ValueError for an empty source or a limit below 1."""
    if not len(source):
        raise ValueError(f"the data set {getattr(source, 'name', '')!r} is empty")
    if limit is not None:
        positive(limit=limit)
    return len(source) if limit is None else min(limit, len(source))


def load(source: Source, indices: Sequence[int], size: int | None = None, preprocess: Preprocess | None = None, like: Batch | None = None) -> Batch:
    """One batch of these examples, padded to `size` rows; an example that cannot be read, is not finite or does not fit the others is
    marked not valid and explained in `errors`.

    Args:
      source: a data set. indices: places in it. size: rows; by default one for each index. preprocess: the model's.
      like: an earlier batch, whose shapes hold; its first row stands in for an example that cannot be read.

    Raises:
      ValueError: no index, or (without `like`) not one of the examples can be read.
    """
    indices = [int(i) for i in indices]
    size = len(indices) if size is None else size
    if not 0 < len(indices) <= size:
        raise ValueError(f"{len(indices)} indices must be between 1 and {size=}")
    stand_in = None if like is None else _Row(like.x[0], int(like.label[0]), None if like.mask is None else like.mask[0], "")
    rows, errors, unread = {}, {}, {}
    for i in indices:
        example = None
        try:
            example = source[i]
            row = _row(example, preprocess)
            stand_in = stand_in or row
            rows[i] = _fitting(row, stand_in)
        except Exception as error:  # a damaged file or a stranger's preprocessing may raise anything
            errors[i] = f"{type(error).__name__}: {error}".splitlines()[0]
            unread[i] = _known(source, i) if example is None else (example.name, example.label)
    if stand_in is None:
        raise ValueError(f"none of the examples {indices[0]} to {indices[-1]} can be read ({errors[indices[0]]})")
    rows |= {i: stand_in._replace(name=name, label=NO_LABEL if label is None else label) for i, (name, label) in unread.items()}
    shown = [(i, rows[i]) for i in indices]
    shown += [shown[-1]] * (size - len(indices))
    return Batch(
        x=np.stack([row.x for _, row in shown]),
        label=np.asarray([row.label for _, row in shown], np.int32),
        mask=None if stand_in.mask is None else np.stack([row.mask for _, row in shown]),
        index=np.asarray([i for i, _ in shown], np.int32),
        valid=np.asarray([n < len(indices) and i not in errors for n, (i, _) in enumerate(shown)]),
        names=tuple(row.name for _, row in shown),
        errors=errors,
    )


def _known(source: Source, index: int) -> tuple[str, int | None]:
    """The name and the label of an example that cannot be read, where its source can tell them."""
    try:
        return source.named(index) if hasattr(source, "named") else ("", NO_LABEL)
    except Exception:  # a stranger's source
        return "", NO_LABEL


class _Row(NamedTuple):
    x: np.ndarray
    label: int
    mask: np.ndarray | None
    name: str


def _fitting(row: _Row, other: _Row) -> _Row:
    if row.x.shape != other.x.shape:
        raise ValueError(f"it has shape {row.x.shape}, others {other.x.shape}: a preprocess must make them equal")
    if (row.mask is None) != (other.mask is None):
        raise ValueError(f"it has {'no' if row.mask is None else 'a'} mask, unlike others")
    return row


def _row(example: Example, preprocess: Preprocess | None) -> _Row:
    x = to_input(example.pixels, preprocess)
    if not np.isfinite(x).all():
        raise ValueError(f"{(~np.isfinite(x)).sum()} of {x.size} values are not finite")
    label = NO_LABEL if example.label is None else example.label
    return _Row(x, label, None if example.mask is None else _mask(example, preprocess), example.name)


def to_input(pixels: np.ndarray, preprocess: Preprocess | None) -> np.ndarray:
    """x, float32: what the model's preprocessing makes of pixels (without one, pixels from 0 to 1); floating point is x already.

    A preprocessing gets uint8 pixels as they are, and those of 16 bits in float32 from 0 to 255, so that one that divides by 255 serves both.

    Raises:
      ValueError: the preprocessing returns pixels, not x.
    """
    if pixels.dtype in PIXELS:
        deep = pixels.dtype == np.uint16
        if preprocess is None:
            return pixels.astype(np.float32) / (65535 if deep else 255)
        pixels = np.asarray(preprocess(pixels.astype(np.float32) / 257 if deep else pixels))
        if pixels.dtype.kind in "biuc":
            raise ValueError(f"preprocess must return floating-point x, got {pixels.dtype} {pixels.shape}")
    return np.asarray(pixels, np.float32)


def _mask(example: Example, preprocess: Preprocess | None) -> np.ndarray:
    """The mask after the model's preprocessing: it is drawn white on black, processed like the image, and cut halfway."""
    if example.pixels.dtype not in PIXELS or preprocess is None:
        return np.asarray(example.mask, bool)
    drawn, black, white = (
        np.asarray(preprocess(np.broadcast_to(layer, example.pixels.shape).astype(np.uint8)), np.float32)
        for layer in (255 * example.mask[..., None], np.uint8(0), np.uint8(255))
    )
    full = (white - black).mean(-1)  # negative where the preprocessing inverts
    return (drawn - black).mean(-1) * np.sign(full) > np.abs(full) / 2
