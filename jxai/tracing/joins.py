"""What primitives of several operands do to the coordinates of their entries: products, joins, gathers, loops and branches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np
from jax import lax

from jxai.tracing import coordinates as at
from jxai.tracing import interpret
from jxai.tracing.coordinates import Coordinates
from jxai.tracing.fields import Field, Hidden, Place, Use, moved, tidy, together

# Products.


def _dot(use: Use) -> tuple[Field, ...]:
    return together([field for n in (0, 1) for field in moved(use.fields(n), lambda c, n=n: _through(use, n, c))])


def resamples(use: Use) -> bool:
    """Whether a product is with constant weights along positions, and keeps them: a resize, a blur, a permutation."""
    for n in (0, 1):
        contracted = set(use.param("dimension_numbers")[0][n])
        for field in use.fields(n):
            if field.axes & contracted:
                return use.folded(1 - n) is not None and all(c is None or _through(use, n, c) is not None for c in field.coordinates)
    return False


def blends(use: Use) -> bool:
    """Whether a product is the sum of channels by constant weights, as grey is of colours."""
    contracted, batch = use.param("dimension_numbers")
    return any(len(use.shapes[n]) == len(contracted[n]) + len(batch[n]) and use.folded(n) is not None for n in (0, 1))


def _through(use: Use, n: int, c: Coordinates) -> Coordinates | None:
    """Coordinates of the n-th operand of a product as the product's."""
    contracted, batch = use.param("dimension_numbers")
    rank, other = len(use.shapes[n]), len(use.shapes[1 - n])
    free = [d for d in range(rank) if d not in contracted[n] and d not in batch[n]]
    others = [d for d in range(other) if d not in contracted[1 - n] and d not in batch[1 - n]]
    wide = [others[0]] if len(others) == 1 else [d for d in others if use.shapes[1 - n][d] > 1]
    along = at.varying(c) & set(contracted[n])
    line: Coordinates | None = None
    if len(along) == 1 and len(wide) == 1:
        axis = next(iter(along))
        line = _resampled(use, n, c, axis, wide[0])
    if line is not None:
        c, new = line, next(iter(along))
    else:
        found = at.mean(c, set(contracted[n]))
        if found is None:
            return None
        c, new = found, None
    # As laid out in the product: batch axes, those of the first operand, those of the second.
    mine = [c.shape[d] for d in free]
    theirs = [c.shape[new] if new is not None and d == wide[0] else 1 for d in others]
    order = [*batch[n], *free] if n == 0 else [*batch[n], *([new] if new is not None else []), *free]
    order += [new] if new is not None and n == 0 else []
    rest = [d for d in range(rank) if d not in order]
    c = c.transpose(order + rest)
    return c.reshape([c.shape[k] for k in range(len(batch[n]))] + (mine + theirs if n == 0 else theirs + mine))


def _resampled(use: Use, n: int, c: Coordinates, axis: int, to: int) -> Coordinates | None:
    weights = use.folded(1 - n)
    if weights is None:
        return None
    contracted, _ = use.param("dimension_numbers")
    of = contracted[1 - n][contracted[n].index(axis)]
    table = np.moveaxis(weights, (of, to), (0, 1)).astype(np.float64)
    table = np.sqrt((table.reshape(*table.shape[:2], -1) ** 2).sum(-1))
    return at.resampled(c, axis, table, exact=not use.program.rests_on_arrays(use.step.inputs[1 - n]))


# Joins.


def _concatenate(use: Use) -> tuple[Field, ...]:
    return _joined(use, use.param("dimension"), [shape[use.param("dimension")] for shape in use.shapes])


def _stack(use: Use) -> tuple[Field, ...]:
    axis = use.param("axis") if use.step.primitive == "stack" else 0
    lifted = [None if place is None else place._replace(fields=tuple(moved(place.fields, lambda c: np.expand_dims(c, axis)))) for place in use.places]
    return _joined(use._replace(places=lifted), axis, [1] * len(lifted))


def _joined(use: Use, axis: int, sizes: list[int]) -> tuple[Field, ...]:
    """One after the other along an axis; a part without positions (a class token, constant channels) has none there, or says nothing."""
    parts = [None if place is None else place.fields for place in use.places]
    counts = {len(fields) for fields in parts if fields}
    if len(counts) != 1:
        raise Hidden
    joined = []
    for k in range(counts.pop()):
        lines = [fields[k].coordinates if fields else None for fields in parts]
        axes = range(len(next(line for line in lines if line is not None)))
        joined.append(Field(tuple(_line([None if line is None else line[p] for line in lines], axis, sizes) for p in axes)))
    return tuple(joined)


def _line(parts: list[Coordinates | None], axis: int, sizes: list[int]) -> Coordinates | None:
    given = [c for c in parts if c is not None]
    if not given:
        return None
    same = all(c.shape[axis] == 1 and (c is given[0] or np.array_equal(c, given[0], equal_nan=True)) for c in given)
    if same:
        return given[0]
    wide = np.broadcast_shapes(*(c.shape[:axis] + (1,) + c.shape[axis + 1 :] for c in given))
    shape = lambda size: wide[:axis] + (size,) + wide[axis + 1 :]
    return np.concatenate([np.full(shape(size), np.nan) if c is None else np.broadcast_to(c, shape(size)) for c, size in zip(parts, sizes)], axis)


# Gathers and scatters: where the indices are constants, by value.


def gathered(use: Use) -> np.ndarray | None:
    """Of every entry of a gather which of the (flattened) operand it is, −1 for none; None where that depends on the data."""
    where = use.folded(1)
    if where is None:
        return None
    numbers = np.arange(np.prod(use.shapes[0]), dtype=np.int32).reshape(use.shapes[0])
    with jax.ensure_compile_time_eval():
        return np.asarray(use.step.run([jax.numpy.asarray(numbers), jax.numpy.asarray(where)])[0])


def _gather(use: Use) -> tuple[Field, ...]:
    numbers = use.param("dimension_numbers")
    index = gathered(use) if use.fields(0) else None

    def move(c: Coordinates) -> Coordinates:
        if index is not None:
            flat = at.expand(c, use.shapes[0]).ravel()
            return at.compress(np.where(index < 0, np.nan, flat[np.maximum(index, 0)]))
        sizes = use.param("slice_sizes")
        if any(c.shape[d] > 1 and sizes[d] != use.shapes[0][d] for d in range(c.ndim)):
            raise Hidden
        shape, kept = [1] * len(use.shape), [d for d in range(c.ndim) if d not in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)]
        for d, to in zip(kept, numbers.offset_dims):
            shape[to] = c.shape[d]
        return c.reshape(shape)

    def looked_up(c: Coordinates) -> Coordinates:
        shape = [1] * len(use.shape)
        for size, to in zip(c.shape[:-1], [d for d in range(len(use.shape)) if d not in numbers.offset_dims]):
            shape[to] = size
        return c.reshape(shape)

    return together([*moved(use.fields(0), move), *(moved(use.fields(1), looked_up) if not use.fields(0) else ())])


def _scatter(use: Use) -> tuple[Field, ...]:
    where, over = use.folded(1), len(use.shapes) - 1
    if not use.fields(over):
        return use.fields(0)
    if where is None or len(use.shapes) != 3:
        raise Hidden
    operand, updates = (np.prod(use.shapes[n], dtype=np.int64) for n in (0, 2))
    numbers = [np.arange(operand, dtype=np.int32).reshape(use.shapes[0]), (operand + np.arange(updates, dtype=np.int32)).reshape(use.shapes[2])]
    with jax.ensure_compile_time_eval():
        index = np.asarray(lax.scatter(numbers[0], where, numbers[1].astype(np.int32), use.param("dimension_numbers"), mode=use.param("mode")))
    return _replaced(use, index, 2)


def _dynamic_update(use: Use) -> tuple[Field, ...]:
    if not use.fields(1):
        return use.fields(0)
    starts = [use.folded(n) for n in range(2, len(use.shapes))]
    if any(begin is None for begin in starts):
        raise Hidden
    operand = np.prod(use.shapes[0], dtype=np.int64)
    index = np.arange(operand).reshape(use.shapes[0])
    begins = [min(max(int(b), 0), whole - size) for b, whole, size in zip(starts, use.shapes[0], use.shapes[1])]
    index[tuple(slice(b, b + size) for b, size in zip(begins, use.shapes[1]))] = operand + np.arange(np.prod(use.shapes[1])).reshape(use.shapes[1])
    return _replaced(use, index, 1)


def _replaced(use: Use, index: np.ndarray, over: int) -> tuple[Field, ...]:
    """Entries of the operand, and of the updates (the input numbered `over`) in place of some."""
    own, new = use.fields(0), use.fields(over)
    if len(new) != 1 or len(own) > 1:
        raise Hidden
    found = []
    for p, c in enumerate(new[0].coordinates):
        below = own[0].coordinates[p] if own else np.full((1,) * len(use.shapes[0]), np.nan)
        if c is None or below is None:
            found.append(None)
            continue
        both = np.concatenate([at.expand(below, use.shapes[0]).ravel(), at.expand(c, use.shapes[over]).ravel()])
        found.append(both[index])
    return (Field(tuple(found)),)


# Loops and branches that are not laid open.


def _inner(use: Use, closed: jex.ClosedJaxpr, places: list[Place | None]) -> list[Place | None]:
    """The places of a jaxpr's results."""
    program = interpret.laid_open(closed)
    known = {r: place for r, place in zip(program.inputs, places) if place is not None}
    known = use.follow(program, known)
    return [known.get(r) for r in program.outputs]


def _cond(use: Use) -> tuple[Field, ...]:
    ends = [_inner(use, branch, use.places[1:])[use.output] for branch in use.param("branches")]
    if any(place is not None and place.lost for place in ends):
        raise Hidden
    return together([field for place in ends if place is not None for field in place.fields])


def _while(use: Use) -> tuple[Field, ...]:
    first, skip = use.param("cond_nconsts"), use.param("body_nconsts")
    held, carry = use.places[first : first + skip], use.places[first + skip :]
    turned = _inner(use, use.param("body_jaxpr"), [*held, *carry])[use.output]
    before = carry[use.output]
    if turned is None or not (turned.fields or turned.lost):
        return ()
    if before is None or turned.lost or _lay_along(before) != _lay_along(turned):
        raise Hidden
    return before.fields


def _lay_along(place: Place) -> list[list[set[int] | None]]:
    """Along which axes each field's coordinates change."""
    return [[None if c is None else at.varying(c) for c in tidy(field).coordinates] for field in place.fields]


RULES: dict[str, Callable[[Use], Any]] = {
    "dot_general": _dot,
    "concatenate": _concatenate,
    "scan_stack": _stack,
    "stack": _stack,
    "gather": _gather,
    **dict.fromkeys(("scatter", "scatter-add", "scatter-mul", "scatter-min", "scatter-max"), _scatter),
    "dynamic_update_slice": _dynamic_update,
    "cond": _cond,
    "while": _while,
}
MOVES = frozenset(("concatenate", "scan_stack", "stack", "gather", "scatter", "dynamic_update_slice"))
"""Those that move entries and change none."""
