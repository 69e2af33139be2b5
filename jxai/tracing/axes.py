"""Which positions of x the entries of intermediate values stand for: coordinates that flow through a program's steps.

Every value that depends on x has *fields*. A field says of each entry where it lies, a coordinate for each position axis of x: those of the entry
itself, of the mean of the window that it was made of, of nowhere (NaN: a class token). An attention matrix has two, one for its rows and
one for its columns; what was pooled over all positions has none. What moves entries moves their coordinates (`jxai.tracing.movements`, a rule
for each primitive), so that a layout is read off by value: rolled, flipped, split into windows, folded into channels and back. Where positions
cannot be followed they are dropped, with the name of the primitive that hid them.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from jxai.tracing import equations, joins, movements
from jxai.tracing.coordinates import expand, varying
from jxai.tracing.fields import Field, Hidden, Place, Use, moved, somewhere, tidy, together
from jxai.tracing.interpret import Program

_SCALES = frozenset(
    "abs add cbrt clamp clip convert_element_type copy div integer_pow log log1p mul neg optimization_barrier pow reduce_precision rsqrt sqrt square "
    "stop_gradient sub".split()
)
"""What leaves a picture a picture, beside what moves, pools and resamples it: standardising, ranges, gamma, decibels."""
_APART = frozenset("optimization_barrier sharding_constraint".split())
"""Several values at once, each its own."""
_DIGITS = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Grid:
    """How a value is laid out as a map: its position axes in front, their entries in this order, reshaped to `shape`.

    Attributes:
      axes: the value's position axes. order: indices into the entries along them (flattened), row-major over the map, then channels.
      shape: of the map. depth: how many entries share a position, further channels.
    """

    axes: tuple[int, ...]
    order: np.ndarray
    shape: tuple[int, ...]
    depth: int


def start(shape: tuple[int, ...]) -> Place:
    """The place of x: all axes but the last are positions (of a vector: none)."""
    count = max(len(shape) - 1, 0)
    lines = [np.arange(float(shape[d])).reshape([-1 if n == d else 1 for n in range(len(shape))]) for d in range(count)]
    return Place((Field(tuple(lines)),) if count else (), True)


def places(program: Program) -> dict[int, Place]:
    """The place of every value that depends on x, by reference."""
    x = program.inputs[-1]
    return follow(program, {x: start(program.avals[x].shape)})


def follow(program: Program, known: dict[int, Place]) -> dict[int, Place]:
    """The place of every value that depends on those that are `known`, by reference."""
    for step in program.steps:
        found = [known.get(r) for r in step.inputs]
        if all(place is None for place in found):
            continue
        shapes = [program.avals[r].shape for r in step.inputs]
        inputs = [place for place in found if place is not None]
        lost = next((place.lost for place in inputs if place.lost), "")
        for n, r in enumerate(step.outputs):
            use = Use(program, step, found, shapes, program.avals[r].shape, n, follow)
            try:
                fields = tuple(filter(somewhere, map(tidy, _fields(use)))) if any(place.fields for place in inputs) else ()
                hidden = ""
            except Hidden:
                fields, hidden = (), step.primitive
            # What has no positions, a mean or a gate, scales the picture at most.
            raw = all(place.raw for place in inputs if place.fields or place.lost) and _keeps_raw(use)
            known[r] = Place(fields, raw, "" if fields else hidden or lost)
    return known


def _keeps_raw(use: Use) -> bool:
    primitive = use.step.primitive
    if primitive == "dot_general":
        return joins.resamples(use) or joins.blends(use)
    return any(primitive in names for names in (movements.MOVES, movements.POOLS, joins.MOVES, _SCALES))


def _fields(use: Use) -> tuple[Field, ...]:
    primitive = use.step.primitive
    if primitive in _APART:
        return use.fields(use.output)
    if use.step.unit or primitive in equations.ELEMENTWISE:
        return together([field for n, shape in enumerate(use.shapes) if len(shape) == len(use.shape) for field in use.fields(n)])
    if primitive in joins.RULES:
        return joins.RULES[primitive](use)
    for rules in (movements.MOVES, movements.READS):
        if primitive in rules:
            return tuple(moved(use.fields(use.output if primitive == "sort" else 0), rules[primitive](use)))
    raise Hidden


def grid(place: Place, shape: tuple[int, ...]) -> Grid | None:
    """The map over the positions of x that a value holds; None where it holds none: no field or several, an axis of x that is read as a whole, gaps.

    A map has more than one position. Entries of no position are left out, and positions are put in the order of x.
    """
    if len(place.fields) != 1 or any(c is None for c in place.fields[0].coordinates):
        return None
    return _separate(place.fields[0], shape) or _joint(place.fields[0], shape)


def _separate(field: Field, shape: tuple[int, ...]) -> Grid | None:
    """Where every axis of positions is an axis of the value."""
    along = [varying(c) for c in field.coordinates]
    flat = [d for axes in along for d in axes]
    if any(len(axes) > 1 for axes in along) or len(set(flat)) != len(flat):
        return None
    lines = [c.ravel() for c in field.coordinates]
    kept = [np.argsort(line, kind="stable")[: (~np.isnan(line)).sum()] for line in lines]
    sizes = tuple(map(len, kept))
    if np.prod(sizes) < 2:
        return None
    inner = [n for n, axes in enumerate(along) if axes]
    index = np.ravel_multi_index(np.meshgrid(*(kept[n] for n in inner), indexing="ij"), [len(lines[n]) for n in inner])
    return Grid(tuple(flat), index.ravel(), sizes, 1)


def _joint(field: Field, shape: tuple[int, ...]) -> Grid | None:
    """Where positions are told by their coordinates alone: tokens, windows, patches folded into channels."""
    axes = tuple(sorted(field.axes))
    lines = []
    for c in field.coordinates:
        c = expand(c, shape, set(axes))
        lines.append(np.round(c.reshape([shape[d] for d in axes]).ravel(), _DIGITS))
    used = np.flatnonzero(~np.isnan(lines).any(0))
    numbered = [np.unique(line[used], return_inverse=True) for line in lines]
    sizes = tuple(len(values) for values, _ in numbered)
    cells = np.ravel_multi_index([inverse.ravel() for _, inverse in numbered], sizes) if len(used) else np.zeros(0, int)
    depth, rest = divmod(len(used), int(np.prod(sizes)))
    if rest or np.prod(sizes) < 2 or not (np.bincount(cells, minlength=int(np.prod(sizes))) == depth).all():
        return None
    return Grid(axes, used[np.argsort(cells, kind="stable")], sizes, depth)


def stated(shape: tuple[int, ...], axes: tuple[int, ...], sizes: tuple[int, ...], positions: int) -> Grid:
    """The map that a person says a value holds.

    Args:
      shape: of the value. axes: its position axes, one for each of x in order; or one, along which a map of `sizes` runs row by row.
      sizes: of the map, or none. positions: how many position axes x has.

    Raises:
      ValueError: axes that the value does not have, or of another number; a map that does not fill the axis.
    """
    if any(not 0 <= d < len(shape) for d in axes) or len(set(axes)) != len(axes):
        raise ValueError(f"axes {axes} must be different axes of a value of shape {shape}")
    if not sizes and len(axes) != positions:
        raise ValueError(f"axes {axes} must be {positions}, one for each position axis of x, or one with the sizes of its map")
    if sizes and (len(axes) != 1 or len(sizes) != positions or np.prod(sizes) > shape[axes[0]]):
        raise ValueError(f"a map of {sizes} must have {positions} axes and fit into one axis of a value of shape {shape}")
    found = sizes or tuple(shape[d] for d in axes)
    count, size = int(np.prod(found)), int(np.prod([shape[d] for d in axes]))
    return Grid(axes, np.arange(size - count, size), found, 1)


def positions_reached(place: Place, asked: np.ndarray) -> int:
    """How many positions of a value are among the entries that are asked for (booleans that broadcast against it): 0, 1, or 2 for several."""
    field = place.fields[0]
    asked = asked.any(tuple(d for d in range(asked.ndim) if d not in field.axes), keepdims=True)
    if not asked.any():
        return 0
    for c in field.coordinates:
        if c is not None:
            shape = np.broadcast_shapes(c.shape, asked.shape)
            values = np.round(np.broadcast_to(c, shape)[np.broadcast_to(asked, shape)], _DIGITS)
            if len(np.unique(values[~np.isnan(values)])) > 1:
                return 2
    return 1
