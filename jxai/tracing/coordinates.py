"""Where the entries of a value lie: a coordinate for each position axis of x, as arrays that broadcast against the value.

An array of coordinates has the value's rank; an axis along which nothing changes has size 1, so that those of a large value stay small. NaN is
an entry of no position (a class token, padding).
"""

from __future__ import annotations

import numpy as np

Coordinates = np.ndarray


def compress(c: Coordinates) -> Coordinates:
    """The same with size 1 along every axis on which it does not change."""
    for axis, size in enumerate(c.shape):
        if size > 1:
            first = c.take([0], axis)
            if ((c == first) | (np.isnan(c) & np.isnan(first))).all():
                c = first
    return c


def varying(c: Coordinates) -> set[int]:
    """The axes along which it changes."""
    return {axis for axis, size in enumerate(c.shape) if size > 1}


def expand(c: Coordinates, shape: tuple[int, ...], axes: set[int] | range | None = None) -> Coordinates:
    """Of full size along these axes (all of them by default)."""
    axes = range(c.ndim) if axes is None else axes
    return np.broadcast_to(c, tuple(shape[d] if d in axes else size for d, size in enumerate(c.shape)))


def spread(c: Coordinates) -> Coordinates:
    """Neighbours that share a coordinate, as those of a repeated map do, get one each, between those of the others."""
    axes = varying(c)
    if len(axes) != 1 or not np.isfinite(c).all():
        return c
    line = c.ravel()
    steps = np.diff(line)
    if not (steps == 0).any() or not ((steps >= 0).all() or (steps <= 0).all()):
        return c
    values, counts = np.unique(line, return_counts=True)
    half = np.diff(values) / 2 if len(values) > 1 else np.ones(1)
    low, high = np.concatenate([half[:1], half]), np.concatenate([half, half[-1:]])
    apart = np.concatenate([v - a + (a + b) * (np.arange(n) + 0.5) / n if n > 1 else [v] for v, a, b, n in zip(values, low, high, counts)])
    return (apart if steps.sum() >= 0 else apart[::-1]).reshape(c.shape)


def merge(a: Coordinates | None, b: Coordinates | None) -> Coordinates | None:
    """Of entries that two values meet in: halfway, or that of the only one which has a position.

    Where the two lie apart in a few entries only, as a value and its roll do at the end, those stay where the first has them. None where all
    meet in the middle, as those of a value and its mirror image do.
    """
    if a is None or b is None:
        return b if a is None else a
    if a is b or (a.shape == b.shape and np.array_equal(a, b, equal_nan=True)):
        return a
    half = _between(a, b, extent(a) / 4) if extent(a) else (a + b) / 2
    both = compress(np.where(np.isnan(a), b, np.where(np.isnan(b), a, half)))
    return both if varying(both) or not (varying(a) and varying(b)) else None


def _between(a: Coordinates, b: Coordinates, near: float) -> Coordinates:
    """Halfway; where most are near each other, those that are not keep the first's."""
    apart = np.abs(a - b) > near
    return np.where(apart, a, (a + b) / 2) if apart.mean() <= 0.5 else (a + b) / 2


def mean(c: Coordinates, axes: set[int]) -> Coordinates | None:
    """Over these axes, kept with size 1: what a sum over neighbours lies at. None where it reads across positions: what is summed lies farther apart than the sums."""
    if not axes & varying(c):
        return c
    count = (~np.isnan(c)).sum(tuple(axes), keepdims=True)
    middle = np.where(count > 0, np.nansum(c, tuple(axes), keepdims=True) / np.maximum(count, 1), np.nan)
    return compress(middle) if extent(middle) > extents(c, tuple(axes))[count > 0].mean() else None


def extent(c: Coordinates) -> float:
    """Greatest less least coordinate; 0 where there is none."""
    return float(extents(c, tuple(range(c.ndim))).max())


def extents(c: Coordinates, axes: tuple[int, ...]) -> np.ndarray:
    """The same over these axes, which are kept."""
    high = np.where(np.isnan(c), -np.inf, c).max(axes, keepdims=True)
    low = np.where(np.isnan(c), np.inf, c).min(axes, keepdims=True)
    return np.where(high >= low, high, 0) - np.where(high >= low, low, 0)


def windows(c: Coordinates, axis: int, count: int, size: int, stride: int, low: int, base: int, apart: int) -> Coordinates:
    """The middles of sliding windows along an axis, `count` of them: of `size` entries `apart`, over entries dilated by `base` and padded by `low`.

    The middle is that of the window's central entries, not the mean of all: a window over an end that is padded by the other end stays where it is.
    """
    if c.shape[axis] == 1:
        return c
    at = np.arange(count)[:, None] * stride + np.arange(size) * apart - low
    inside = (at >= 0) & (at <= (c.shape[axis] - 1) * base) & (at % base == 0)
    values = np.moveaxis(c, axis, -1)[..., np.where(inside, at // base, 0)]
    values = np.where(inside, values, np.nan)
    mirrored = values[..., ::-1]
    pairs = np.where(np.isnan(mirrored) | (np.abs(values - mirrored) > _step(c, axis) * max(size, 2)), values, (values + mirrored) / 2)
    inward = np.argsort(np.abs(np.arange(size) - (size - 1) / 2), kind="stable")
    pairs = pairs[..., inward]
    first = np.argmax(~np.isnan(pairs), -1)
    return compress(np.moveaxis(_filled(np.take_along_axis(pairs, first[..., None], -1)[..., 0]), -1, axis))


def read_by_windows(demand: np.ndarray, axis: int, size: int, width: int, stride: int, low: int, base: int, apart: int) -> np.ndarray:
    """Which of `size` entries along an axis are read by the windows that are asked for (see `windows`)."""
    if demand.shape[axis] == 1:
        return demand
    at = np.arange(demand.shape[axis])[:, None] * stride + np.arange(width) * apart - low
    inside = (at >= 0) & (at <= (size - 1) * base) & (at % base == 0)
    reads = np.zeros((demand.shape[axis], size), bool)
    rows = np.broadcast_to(np.arange(len(at))[:, None], at.shape)
    reads[rows[inside], at[inside] // base] = True
    return np.moveaxis((np.moveaxis(demand, axis, -1).astype(np.int32) @ reads) > 0, -1, axis)


def resampled(c: Coordinates, axis: int, weights: np.ndarray, exact: bool) -> Coordinates | None:
    """The centres that constant weights `[size, new]` along an axis lay on: None where they do not resample it (as a dense layer does not).

    A resampling reads near each centre only, and its centres go up or down along the axis; or it picks single entries. `exact`: the weights are
    a program's own (a resize), not given ones, so that a few wide windows are taken for a resampling, too.
    """
    size, index = weights**2, np.arange(len(weights))
    total = size.sum(0)
    read = total > 0
    if read.sum() < 2:
        return None
    share = size[:, read] / total[read]
    centre = index @ share
    around = np.sqrt(np.maximum(index**2 @ share - centre**2, 0))
    if around.max() >= 1e-3:  # not single entries
        steps = np.diff(centre)
        slack = 0.1 * np.abs(steps).mean()  # a kernel with negative lobes moves a centre back by a little at the ends
        ordered = (steps >= -slack).all() or (steps <= slack).all()
        near = (size < 1e-6 * size.max(0)).mean() > 0.5 or exact
        if not (ordered and near and np.ptp(centre) > 1.2 * around.mean()):
            return None
        centre = np.maximum.accumulate(centre) if steps.sum() > 0 else np.minimum.accumulate(centre)
    line = np.moveaxis(c, axis, -1)
    low, high = line[..., np.floor(centre).astype(int)], line[..., np.ceil(centre).astype(int)]
    part = centre - np.floor(centre)
    between = low + (high - low) * part
    nearest = np.where((part < 0.5) & ~np.isnan(low) | np.isnan(high), low, high)
    out = np.full((*line.shape[:-1], len(read)), np.nan)
    out[..., read] = np.where(np.abs(high - low) <= _step(c, axis), between, nearest)
    return np.moveaxis(out, -1, axis)


def _step(c: Coordinates, axis: int) -> float:
    """How far neighbours along an axis may lie apart to have anything between them: twice the usual."""
    return 2 * float(np.nanmedian(np.abs(np.diff(c, axis=axis))))


def regroup(old: tuple[int, ...], new: tuple[int, ...]) -> list[tuple[list[int], list[int]]]:
    """Of a reshape the groups of axes of equal size, old and new, from the left; axes of size 1 belong to none."""
    a, b = [d for d, size in enumerate(old) if size != 1], [d for d, size in enumerate(new) if size != 1]
    groups, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        left, right, m, n = old[a[i]], new[b[j]], i + 1, j + 1
        while left != right:
            if left < right:
                left, m = left * old[a[m]], m + 1
            else:
                right, n = right * new[b[n]], n + 1
        groups.append((a[i:m], b[j:n]))
        i, j = m, n
    return groups


def reshape(c: np.ndarray, old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Coordinates (or marks) of a value of the old shape as those of the new one; what is small stays small."""
    groups = [(a, b) for a, b in regroup(old, new) if any(c.shape[d] > 1 for d in a)]
    c = expand(c, old, {d for a, _ in groups for d in a})
    shape = [1] * len(new)
    for _, b in groups:
        for d in b:
            shape[d] = new[d]
    return c.reshape(shape)


def _filled(c: Coordinates) -> Coordinates:
    """Holes along the last axis, which windows over padding alone leave, filled from their neighbours."""
    lines = c.reshape(-1, c.shape[-1]).copy()
    for line in lines:
        hole = np.isnan(line)
        if hole.any() and not hole.all():
            line[hole] = np.interp(np.flatnonzero(hole), np.flatnonzero(~hole), line[~hole])
    return lines.reshape(c.shape)
