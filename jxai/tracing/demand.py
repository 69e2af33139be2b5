"""Which entries of every value reach the outputs at all: marks that flow backwards through a program's steps.

A sequence model that reads its last step asks for one row of its last layer; a transformer with a class token for one token of its last block.
Marks broadcast against their value, as coordinates do. Where a rule does not say which entries are read, all of them are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jxai.tracing import coordinates as at
from jxai.tracing import equations, joins, movements
from jxai.tracing.axes import Grid, follow
from jxai.tracing.fields import Place, Use
from jxai.tracing.interpret import Program
from jxai.tracing.movements import sliding

Marks = np.ndarray

_PICKS = frozenset("slice dynamic_slice split unstack scan_slice gather squeeze mul select_n".split())


class Reach(NamedTuple):
    """How a value reaches the outputs.

    Attributes:
      asked: which of its entries do, booleans that broadcast against it.
      weighed: whether a product or an unknown step lies between: what comes after the last of them are outputs' own parts.
      picked: whether some of the entries, that have positions still, are picked or masked on the way: a class, a region.
    """

    asked: Marks
    weighed: bool = False
    picked: bool = False


def reaches(program: Program, places: dict[int, Place], ends: dict[int, Marks] | None = None) -> dict[int, Reach]:
    """How each value that depends on x and reaches an output (or the marked entries of these `ends`) does so, by reference."""
    ends = {r: _all(program.avals[r].shape) for r in program.outputs} if ends is None else ends
    found = {r: Reach(marks) for r, marks in ends.items()}
    for step in reversed(program.steps):
        asked = [found.get(r) for r in step.outputs]
        if all(reach is None for reach in asked):
            continue
        inputs = [places.get(r) for r in step.inputs]
        shapes = [program.avals[r].shape for r in step.inputs]
        for n, r in enumerate(step.inputs):
            if inputs[n] is None:
                continue
            for k, reach in enumerate(asked):
                if reach is None:
                    continue
                use = Use(program, step, inputs, shapes, program.avals[step.outputs[k]].shape, k, follow)
                marks = _read(use, n, reach.asked)
                picks = step.primitive in _PICKS and bool(inputs[n].fields) and not marks.all()
                before = found.get(r, Reach(np.zeros_like(marks)))
                found[r] = Reach(before.asked | marks, before.weighed or reach.weighed or _weighs(use), before.picked or reach.picked or picks)
    return found


def read_of(program: Program, places: dict[int, Place], value: int, marks: Marks | None = None) -> tuple[tuple[int, int], ...]:
    """From where to where along each position axis of x entries reach a value, or its marked entries: less than all of it where the model crops."""
    x = program.inputs[-1]
    asked = reaches(program, places, {value: _all(program.avals[value].shape) if marks is None else marks})[x].asked
    shape, found = program.avals[x].shape, []
    for axis in range(len(shape) - 1):
        line = np.flatnonzero(asked.any(tuple(d for d in range(asked.ndim) if d != axis)))
        found.append((0, shape[axis]) if asked.shape[axis] == 1 else (int(line[0]), int(line[-1]) + 1))
    return tuple(found)


def fields_of(program: Program, places: dict[int, Place], value: int, grid: Grid) -> tuple[np.ndarray, ...]:
    """For each axis of a value's map `[size, 2]`: from where to where along that axis of x the entries at each place along it read."""
    shape = program.avals[value].shape
    sizes = [shape[d] for d in grid.axes]
    places_in_map, found = grid.order.reshape(*grid.shape, -1), []
    for axis, size in enumerate(grid.shape):
        spans = []
        for at_place in range(size):
            marks = np.zeros(int(np.prod(sizes)), bool)
            marks[places_in_map.take(at_place, axis)] = True
            marks = marks.reshape(*sizes, *(1,) * (len(shape) - len(sizes)))
            spans.append(read_of(program, places, value, _squeezed(np.moveaxis(marks, range(len(sizes)), grid.axes)))[axis])
        found.append(np.asarray(spans))
    return tuple(found)


def _any(marks: Marks, axes: int | tuple[int, ...]) -> Marks:
    """Whether any is set over these axes, which are kept."""
    return np.asarray(np.any(marks, axis=axes, keepdims=True))


def _all(shape: tuple[int, ...]) -> Marks:
    return np.ones((1,) * len(shape), bool)


def _weighs(use: Use) -> bool:
    primitive = use.step.primitive
    if primitive == "dot_general":
        return not joins.resamples(use)
    plain = use.step.unit or any(primitive in names for names in (equations.ELEMENTWISE, movements.MOVES, movements.POOLS, joins.MOVES))
    return not plain


def _read(use: Use, n: int, asked: Marks) -> Marks:
    """The entries of the n-th input that these entries of the output are made of."""
    primitive, shape = use.step.primitive, use.shapes[n]
    if use.step.unit or primitive in equations.ELEMENTWISE:
        if len(shape) != len(use.shape):
            return _all(shape)
        marks = _chosen(use, n, asked) if (primitive, len(use.shapes)) in (("mul", 2), ("select_n", 3)) else asked
        return _any(marks, tuple(d for d, (a, b) in enumerate(zip(shape, use.shape)) if a == 1 != b))
    rule = _RULES.get(primitive)
    return _all(shape) if rule is None else rule(use, n, asked)


def _chosen(use: Use, n: int, asked: Marks) -> Marks:
    """Of a product with constants and of a constant choice, what is not 0, or chosen."""
    if use.step.primitive == "mul":
        factor = use.folded(1 - n)
        if factor is None or not factor.ndim:
            return asked
        return _squeezed(asked & (factor != 0))
    which = use.folded(0)
    if n == 0 or which is None or not which.ndim:
        return asked
    return _squeezed(asked & (which.astype(np.int32) == n - 1))


def _squeezed(marks: Marks) -> Marks:
    return at.compress(marks.astype(np.float32)) > 0


def _placed(use: Use, n: int, asked: Marks, cuts: list[slice]) -> Marks:
    """The marks of a part, at its place in the whole."""
    shape = use.shapes[n]
    whole = [cut != slice(None) and range(*cut.indices(size)) != range(size) for cut, size in zip(cuts, shape)]
    marks = np.zeros([size if partial else asked.shape[d] for d, (size, partial) in enumerate(zip(shape, whole))], bool)
    marks[tuple(cut if partial else slice(None) for cut, partial in zip(cuts, whole))] = asked
    return marks


def _cut(use: Use, n: int, asked: Marks) -> Marks:
    taken = movements.cuts(use)
    return _all(use.shapes[n]) if n or taken is None else _placed(use, n, asked, taken)


def _single(use: Use, n: int, asked: Marks) -> Marks:
    return _cut(use, n, np.expand_dims(asked, use.param("axis") if use.step.primitive == "unstack" else 0))


def _concatenate(use: Use, n: int, asked: Marks) -> Marks:
    axis = use.param("dimension")
    begin = sum(shape[axis] for shape in use.shapes[:n])
    return asked if asked.shape[axis] == 1 else asked[(slice(None),) * axis + (slice(begin, begin + use.shapes[n][axis]),)]


def _stack(use: Use, n: int, asked: Marks) -> Marks:
    axis = use.param("axis") if use.step.primitive == "stack" else 0
    return asked.take(min(n, asked.shape[axis] - 1), axis)


def _tile(use: Use, n: int, asked: Marks) -> Marks:
    for axis, size in enumerate(use.shapes[0]):
        if asked.shape[axis] > 1:
            asked = np.asarray(np.any(asked.reshape(*asked.shape[:axis], -1, size, *asked.shape[axis + 1 :]), axis=axis))
    return asked


def _pad(use: Use, n: int, asked: Marks) -> Marks:
    if n:
        return _all(use.shapes[n])
    for axis, (low, _, interior) in enumerate(use.param("padding_config")):
        if asked.shape[axis] > 1:
            size = use.shapes[0][axis]
            to = low + np.arange(size) * (interior + 1)
            inside = (to >= 0) & (to < asked.shape[axis])
            line = np.moveaxis(asked, axis, -1)[..., np.where(inside, to, 0)] & inside
            asked = np.moveaxis(line, -1, axis)
    return asked


def _broadcast(use: Use, n: int, asked: Marks) -> Marks:
    to = use.param("broadcast_dimensions")
    marks = _any(asked, tuple(d for d in range(asked.ndim) if d not in to))
    marks = marks.reshape([marks.shape[d] for d in to])
    return _any(marks, tuple(d for d, size in enumerate(use.shapes[0]) if size == 1))


def _reduce(use: Use, n: int, asked: Marks) -> Marks:
    return np.expand_dims(asked, tuple(use.param("axes"))) if n == 0 else _all(use.shapes[n])


def _transpose(use: Use, n: int, asked: Marks) -> Marks:
    return asked.transpose(np.argsort(use.param("permutation")))


def _dot(use: Use, n: int, asked: Marks) -> Marks:
    contracted, batch = use.param("dimension_numbers")
    marks = list(range(len(use.shapes[n])))
    free = [d for d in marks if d not in contracted[n] and d not in batch[n]]
    skip = 0 if n == 0 else len(use.shapes[0]) - len(contracted[0]) - len(batch[0])
    where = {d: k for k, d in enumerate(batch[n])} | {d: len(batch[n]) + skip + k for k, d in enumerate(free)}
    kept = _any(asked, tuple(d for d in range(asked.ndim) if d not in where.values()))
    order = [where[d] for d in marks if d in where]
    kept = kept.transpose(order + [d for d in range(asked.ndim) if d not in order])
    sizes = iter(kept.shape)
    return kept.reshape([next(sizes) if d in where else 1 for d in marks])


def _convolution(use: Use, n: int, asked: Marks) -> Marks:
    if n:
        return _all(use.shapes[n])
    spec = use.param("dimension_numbers")
    marks = _any(asked.transpose(spec.out_spec), 1)
    for k, (axis, size, stride, low, base, apart) in enumerate(sliding(use), 2):
        marks = at.read_by_windows(marks, k, use.shapes[0][axis], size, stride, low, base, apart)
    return np.moveaxis(marks, range(marks.ndim), spec.lhs_spec)


def _window(use: Use, n: int, asked: Marks) -> Marks:
    if n:
        return _all(use.shapes[n])
    marks = _any(asked, -1) if use.step.primitive == "conv2d" else asked
    for axis, size, stride, low, base, apart in sliding(use):
        marks = at.read_by_windows(marks, axis, use.shapes[0][axis], size, stride, low, base, apart)
    return marks


def _along(name: str) -> Callable[[Use, int, Marks], Marks]:
    """All along one axis."""
    return lambda use, n, asked: _any(asked, use.param(name))


def _gather(use: Use, n: int, asked: Marks) -> Marks:
    index = joins.gathered(use) if n == 0 else None
    if index is None:
        return _all(use.shapes[n])
    marks = np.zeros(int(np.prod(use.shapes[0])), bool)
    read = index[np.broadcast_to(asked, index.shape)]
    marks[read[read >= 0]] = True
    return _squeezed(marks.reshape(use.shapes[0]))


_RULES: dict[str, Callable[[Use, int, Marks], Marks]] = {
    **dict.fromkeys(("slice", "dynamic_slice", "split"), _cut),
    **dict.fromkeys(("scan_slice", "unstack"), _single),
    "scan_stack": _stack,
    "concatenate": _concatenate,
    "pad": _pad,
    "broadcast_in_dim": _broadcast,
    "reshape": lambda use, n, asked: at.reshape(asked, use.shape, use.shapes[0]),
    "squeeze": lambda use, n, asked: np.expand_dims(asked, tuple(use.param("dimensions"))),
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
    "rev": lambda use, n, asked: np.flip(asked, use.param("dimensions")),
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    "gather": _gather,
    "sort": _along("dimension"),
    "top_k": _along("axis"),
    **dict.fromkeys("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split(), _reduce),
    **dict.fromkeys("conv2d reduce_window reduce_window_sum reduce_window_max reduce_window_min".split(), _window),
}
