"""What each primitive of one operand does to the coordinates of its entries: the rules behind `axes`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from jxai.tracing import coordinates as at
from jxai.tracing.coordinates import Coordinates
from jxai.tracing.fields import Hidden, Move, Use

_RUNNING = frozenset("cumsum cumprod cummax cummin cumlogsumexp".split())
_REDUCTIONS = frozenset("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split())
_WINDOWS = frozenset("reduce_window reduce_window_sum reduce_window_max reduce_window_min".split())


def _broadcast(use: Use) -> Move:
    shape = [1] * len(use.shape)

    def move(c: Coordinates) -> Coordinates:
        to = list(shape)
        for size, d in zip(c.shape, use.param("broadcast_dimensions")):
            to[d] = size
        return c.reshape(to)

    return move


def _reshape(use: Use) -> Move:
    return lambda c: at.reshape(c, use.shapes[0], use.shape)


def _transpose(use: Use) -> Move:
    return lambda c: c.transpose(use.param("permutation"))


def _squeeze(use: Use) -> Move:
    return lambda c: c.reshape([size for d, size in enumerate(c.shape) if d not in use.param("dimensions")])


def _tile(use: Use) -> Move:
    return lambda c: np.tile(c, [n if size > 1 else 1 for n, size in zip(use.param("reps"), c.shape)])


def _reverse(use: Use) -> Move:
    return lambda c: np.flip(c, use.param("dimensions"))


def _take(cuts: list[slice]) -> Move:
    """A part along each axis; along those of size 1 nothing changes."""
    return lambda c: c[tuple(cut if size > 1 else slice(None) for cut, size in zip(cuts, c.shape))]


def cuts(use: Use) -> list[slice] | None:
    """Which part of its operand along each axis a `slice`, `split`, `unstack`, `scan_slice` or `dynamic_slice` takes; None where that depends on the data."""
    primitive, whole = use.step.primitive, [slice(None)] * len(use.shapes[0])
    if primitive == "slice":
        strides = use.param("strides") or (1,) * len(use.shape)
        return [slice(*cut) for cut in zip(use.param("start_indices"), use.param("limit_indices"), strides)]
    if primitive == "dynamic_slice":
        return _dynamic_cuts(use)
    axis, begin, size = 0, use.output, 1
    if primitive == "split":
        axis, begin, size = use.param("axis"), sum(use.param("sizes")[: use.output]), use.param("sizes")[use.output]
    elif primitive == "unstack":
        axis = use.param("axis")
    else:
        begin = use.step.turn
    whole[axis] = slice(begin, begin + size)
    return whole


def _cut(use: Use) -> Move:
    return _take(cuts(use) or [])


def _single(use: Use) -> Move:
    """The same of one entry, without its axis."""
    axis = use.param("axis") if use.step.primitive == "unstack" else 0
    return lambda c: _cut(use)(c).squeeze(axis)


def _dynamic_cuts(use: Use) -> list[slice] | None:
    """Where a `dynamic_slice` begins and ends; None where that depends on the data."""
    starts, sizes = [use.folded(n) for n in range(1, len(use.shapes))], use.shape
    taken = []
    for begin, whole, size in zip(starts, use.shapes[0], sizes):
        if begin is None and size != whole:
            return None
        begin = 0 if begin is None else min(max(int(begin), 0), whole - size)
        taken.append(slice(begin, begin + size))
    return taken


def _dynamic_slice(use: Use) -> Move:
    if cuts(use) is not None:
        return _cut(use)

    def move(c: Coordinates) -> Coordinates:
        if any(c.shape[d] > 1 and size != use.shapes[0][d] for d, size in enumerate(use.shape)):
            raise Hidden
        return c

    return move


def _pad(use: Use) -> Move:
    def move(c: Coordinates) -> Coordinates:
        for axis, (low, high, interior) in enumerate(use.param("padding_config")):
            if c.shape[axis] > 1 and (low, high, interior) != (0, 0, 0):
                size = c.shape[axis] + (c.shape[axis] - 1) * interior
                wide = np.full(c.shape[:axis] + (size + max(low, 0) + max(high, 0),) + c.shape[axis + 1 :], np.nan)
                view = np.moveaxis(wide, axis, 0)
                view[max(low, 0) : max(low, 0) + size : interior + 1] = np.moveaxis(c, axis, 0)
                c = np.moveaxis(view[max(-low, 0) : len(view) - max(-high, 0)], 0, axis)
        return c

    return move


def _reduce(use: Use) -> Move:
    axes = set(use.param("axes"))

    def move(c: Coordinates) -> Coordinates | None:
        middle = at.mean(c, axes)
        return None if middle is None else middle.reshape([size for d, size in enumerate(middle.shape) if d not in axes])

    return move


def sliding(use: Use) -> list[tuple[int, int, int, int, int, int]]:
    """Of every sliding window of a step: the axis, its size, stride, padding before, dilation of what it slides over and of its own entries."""
    primitive = use.step.primitive
    if primitive == "conv2d":
        rank = len(use.shape)
        windows = zip(use.shapes[1], use.param("strides"), use.param("padding"))
        return [(rank - 3 + n, size, stride, low, 1, 1) for n, (size, stride, (low, _)) in enumerate(windows)]
    if primitive == "conv_general_dilated":
        spec = use.param("dimension_numbers")
        sizes = [use.shapes[1][d] for d in spec.rhs_spec[2:]]
        found = zip(spec.lhs_spec[2:], sizes, use.param("window_strides"), use.param("padding"), use.param("lhs_dilation"), use.param("rhs_dilation"))
        return [(axis, size, stride, low, base, apart) for axis, size, stride, (low, _), base, apart in found]
    names = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
    found = zip(*(use.param(name) for name in names))
    return [(axis, size, stride, pad[0], base, apart) for axis, (size, stride, pad, base, apart) in enumerate(found)]


def _window(use: Use) -> Move:
    def move(c: Coordinates) -> Coordinates:
        for axis, size, stride, low, base, apart in sliding(use):
            c = at.windows(c, axis, use.shape[axis], size, stride, low, base, apart)
        return c

    return move


def _conv2d(use: Use) -> Move:
    def move(c: Coordinates) -> Coordinates | None:
        middle = at.mean(c, {c.ndim - 1})
        return None if middle is None else _window(use)(middle)

    return move


def _convolution(use: Use) -> Move:
    spec = use.param("dimension_numbers")
    features = spec.lhs_spec[1]

    def move(c: Coordinates) -> Coordinates | None:
        c = at.mean(c, {features})
        if c is None:
            return None
        out = np.moveaxis(c, spec.lhs_spec, range(c.ndim))
        for n, (_, size, stride, low, base, apart) in enumerate(sliding(use), 2):
            out = at.windows(out, n, use.shape[spec.out_spec[n]], size, stride, low, base, apart)
        return np.moveaxis(out, range(c.ndim), spec.out_spec)

    return move


def _sort(use: Use) -> Move:
    return lambda c: None if c.shape[use.param("dimension")] > 1 else c


def _top(use: Use) -> Move:
    return lambda c: None if c.shape[use.param("axis")] > 1 else c


def _fourier(use: Use) -> Move:
    def move(c: Coordinates) -> Coordinates:
        if any(size > 1 for size in c.shape[-len(use.param("fft_lengths")) :]):
            raise Hidden
        return c

    return move


MOVES: dict[str, Callable[[Use], Move]] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "tile": _tile,
    "unstack": _single,
    "rev": _reverse,
    "slice": _cut,
    "split": _cut,
    "dynamic_slice": _dynamic_slice,
    "pad": _pad,
    "scan_slice": _single,
}
POOLS = _REDUCTIONS | _WINDOWS
"""Sums and maxima without weights."""
READS: dict[str, Callable[[Use], Move]] = {
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(_WINDOWS, _window),
    **dict.fromkeys(_RUNNING, lambda use: lambda c: c),
    "conv2d": _conv2d,
    "conv_general_dilated": _convolution,
    "sort": _sort,
    "top_k": _top,
    "fft": _fourier,
}
