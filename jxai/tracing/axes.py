"""What the axes of intermediate values mean: which of them still run over the positions of x.

A *layout* has an entry for each axis of a value: the number of the position axis of x that it follows, a `Tokens` (the
positions as one axis, as in a vision transformer), or None (channels, heads, batch …). Layouts flow through a
program's steps; where a primitive is unknown, they are dropped and never guessed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from jxai.tracing.interpret import Program, Step


class Tokens(NamedTuple):
    """Positions laid out as one axis.

    Attributes:
      axes: the position axes of x that it runs over. grid: how many tokens along each.
      before, after: tokens that stand for no position (class and register tokens) in front and behind.
    """

    axes: tuple[int, ...]
    grid: tuple[int, ...]
    before: int = 0
    after: int = 0


Layout = tuple[int | Tokens | None, ...]


def layouts(program: Program, rank: int) -> dict[int, Layout]:
    """The layout of every value that depends on x, by reference. `rank` is x's: all axes but the last are positions."""
    positions = range(max(rank - 1, 0))
    known: dict[int, Layout] = {program.inputs[-1]: (*positions, None)}
    for step in program.steps:
        inputs = [known.get(r) for r in step.inputs]
        if all(layout is None for layout in inputs):
            continue
        shapes = [program.avals[r].shape for r in step.inputs]
        for n, out in enumerate(step.outputs):
            shape = program.avals[out].shape
            rule = _elementwise if step.unit else _RULES.get(step.primitive, _same_rank)
            known[out] = rule(_Use(step, inputs, shapes, shape, n)) or (None,) * len(shape)
    return known


def spatial(layout: Layout, shape: tuple[int, ...], rank: int) -> bool:
    """Whether a value still has spatial extent: each position axis once (or one token axis over all), more than one position."""
    wanted = tuple(range(rank - 1))
    if not wanted:
        return False
    found = [axis for axis in layout if isinstance(axis, int)]
    tokens = [axis for axis in layout if isinstance(axis, Tokens)]
    if tokens:
        return len(tokens) == 1 and not found and tokens[0].axes == wanted and math.prod(tokens[0].grid) > 1
    return tuple(sorted(found)) == wanted and math.prod(shape[layout.index(axis)] for axis in wanted) > 1


def mixes(step: Step, position: int, layout: Layout, outputs: list[Layout]) -> bool:
    """Whether a step reads across the positions of this input (contracts or reduces them) rather than carrying them on."""
    if step.primitive == "dot_general":
        (lhs, rhs), _ = step.param("dimension_numbers")
        return any(isinstance(layout[d], (int, Tokens)) for d in (lhs, rhs)[position])
    return not any(isinstance(axis, (int, Tokens)) for out in outputs for axis in out)


def cuts(step: Step, layout: Layout, shape: tuple[int, ...]) -> bool:
    """Whether a step takes only tokens that stand for no position (the class token, say)."""
    if step.primitive != "slice":
        return False
    begin, end = step.param("start_indices"), step.param("limit_indices")
    for axis, size, a, b in zip(layout, shape, begin, end):
        if isinstance(axis, Tokens) and (b <= axis.before or a >= size - axis.after):
            return True
    return False


class _Use(NamedTuple):
    """A step as a rule sees it: its inputs' layouts (None: independent of x) and shapes, an output's shape and number."""

    step: Step
    inputs: list[Layout | None]
    shapes: list[tuple[int, ...]]
    shape: tuple[int, ...]
    output: int

    @property
    def first(self) -> tuple[Layout, tuple[int, ...]]:
        return next((layout, shape) for layout, shape in zip(self.inputs, self.shapes) if layout is not None)

    def param(self, name: str) -> Any:
        return self.step.param(name)


def _elementwise(use: _Use) -> Layout | None:
    """Axis by axis, the meaning that any input of the output's shape (or of size 1 there) gives it."""
    out: list = [None] * len(use.shape)
    for layout, shape in zip(use.inputs, use.shapes):
        if layout is not None and len(shape) == len(use.shape):
            out = [mine if mine is not None or size != full else axis for mine, axis, size, full in zip(out, layout, shape, use.shape)]
    return tuple(out)


def _same_rank(use: _Use) -> Layout | None:
    """An unknown step that keeps the rank keeps position axes (their extent may shrink), and tokens of unchanged number."""
    layout, shape = use.first
    if len(shape) != len(use.shape):
        return None
    return tuple(axis if isinstance(axis, int) or a == b else None for axis, a, b in zip(layout, shape, use.shape))


def _broadcast(use: _Use) -> Layout:
    layout, shape = use.first
    out: list = [None] * len(use.shape)
    for axis, size, to in zip(layout, shape, use.param("broadcast_dimensions")):
        out[to] = axis if size == use.shape[to] else None
    return tuple(out)


def _transpose(use: _Use) -> Layout:
    return tuple(use.first[0][d] for d in use.param("permutation"))


def _squeeze(use: _Use) -> Layout:
    layout, _ = use.first
    return tuple(axis for d, axis in enumerate(layout) if d not in use.param("dimensions"))


def _reduce(use: _Use) -> Layout:
    layout, _ = use.first
    return tuple(axis for d, axis in enumerate(layout) if d not in use.param("axes"))


def _convolution(use: _Use) -> Layout:
    numbers = use.param("dimension_numbers")
    layout, _ = use.first
    out: list = [None] * len(use.shape)
    for d, (source, to) in enumerate(zip(numbers.lhs_spec, numbers.out_spec)):
        out[to] = None if d == 1 else layout[source]
    return tuple(out)


def _dot(use: _Use) -> Layout:
    (lhs, rhs), (batch_l, batch_r) = use.param("dimension_numbers")
    left, right = (layout or (None,) * len(shape) for layout, shape in zip(use.inputs, use.shapes))
    batch = [left[a] if left[a] is not None else right[b] for a, b in zip(batch_l, batch_r)]
    free_l = [axis for d, axis in enumerate(left) if d not in lhs and d not in batch_l]
    free_r = [axis for d, axis in enumerate(right) if d not in rhs and d not in batch_r]
    return (*batch, *free_l, *free_r)


def _concatenate(use: _Use) -> Layout:
    d = use.param("dimension")
    whole = list(_elementwise(use._replace(shape=use.shape[:d] + (-1,) + use.shape[d + 1 :])))
    along = [layout[d] if layout is not None else None for layout in use.inputs]
    token = [n for n, axis in enumerate(along) if isinstance(axis, Tokens)]
    if len(token) == 1 and not any(isinstance(axis, int) for axis in along):
        n, sizes = token[0], [shape[d] for shape in use.shapes]
        whole[d] = along[n]._replace(before=along[n].before + sum(sizes[:n]), after=along[n].after + sum(sizes[n + 1 :]))
    else:
        whole[d] = None
    return tuple(whole)


def _cut(axis: Any, size: int, begin: int, end: int) -> Any:
    """The meaning of an axis of which [begin, end) is kept."""
    if (begin, end) == (0, size):
        return axis
    if isinstance(axis, Tokens):
        whole = begin <= axis.before and end >= size - axis.after
        return axis._replace(before=axis.before - begin, after=axis.after - (size - end)) if whole else None
    return axis if end - begin > 1 else None


def _slice(use: _Use) -> Layout:
    layout, shape = use.first
    begin, end, strides = use.param("start_indices"), use.param("limit_indices"), use.param("strides")
    strides = strides or (1,) * len(shape)
    return tuple(_cut(axis, size, a, b) if s == 1 or isinstance(axis, int) else None for axis, size, a, b, s in zip(layout, shape, begin, end, strides))


def _split(use: _Use) -> Layout:
    layout, shape = use.first
    d, sizes = use.param("axis"), use.param("sizes")
    begin = sum(sizes[: use.output])
    return tuple(_cut(axis, size, begin, begin + sizes[use.output]) if n == d else axis for n, (axis, size) in enumerate(zip(layout, shape)))


def _pad(use: _Use) -> Layout:
    layout, _ = use.first
    out = []
    for axis, (low, high, interior) in zip(layout, use.param("padding_config")):
        if isinstance(axis, Tokens) and (low, high, interior) != (0, 0, 0):
            axis = axis._replace(before=axis.before + low, after=axis.after + high) if interior == 0 and min(low, high) >= 0 else None
        out.append(axis)
    return tuple(out)


def _reshape(use: _Use) -> Layout:
    """Pairs groups of axes of equal size from the left; merges positions into tokens, splits tokens and patches off."""
    layout, shape = use.first
    old = [(axis, size) for axis, size in zip(layout, shape) if size != 1]
    new = [d for d, size in enumerate(use.shape) if size != 1]
    out: list = [None] * len(use.shape)
    i = j = 0
    while i < len(old) and j < len(new):
        a, b, m, n = old[i][1], use.shape[new[j]], i + 1, j + 1
        while a != b:
            if a < b:
                a, m = a * old[m][1], m + 1
            else:
                b, n = b * use.shape[new[n]], n + 1
        for to, axis in zip(new[j:n], _regroup(old[i:m], [use.shape[d] for d in new[j:n]])):
            out[to] = axis
        i, j = m, n
    return tuple(out)


def _regroup(old: list[tuple[Any, int]], new: list[int]) -> list[Any]:
    if len(old) == 1 == len(new):
        return [old[0][0]]
    axes = [axis for axis, _ in old]
    if len(new) == 1 and all(isinstance(axis, int) for axis in axes):
        return [Tokens(tuple(axes), tuple(size for _, size in old))]
    if len(old) == 1 and isinstance(axes[0], Tokens) and tuple(new) == axes[0].grid:
        return list(axes[0].axes)
    if len(old) == 1 and isinstance(axes[0], int):  # an axis cut into patches: the outer part still runs over positions
        return [axes[0]] + [None] * (len(new) - 1)
    return [None] * len(new)


def _scan_slice(use: _Use) -> Layout:
    return use.first[0][1:]


def _scan_stack(use: _Use) -> Layout:
    return (None, *use.first[0])


_RULES: dict[str, Callable[[_Use], Layout | None]] = {
    "broadcast_in_dim": _broadcast,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "conv_general_dilated": _convolution,
    "dot_general": _dot,
    "concatenate": _concatenate,
    "slice": _slice,
    "split": _split,
    "pad": _pad,
    "reshape": _reshape,
    "scan_slice": _scan_slice,
    "scan_stack": _scan_stack,
    **dict.fromkeys("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin".split(), _reduce),
    **dict.fromkeys("gather scatter sort while".split(), lambda use: None),
}
