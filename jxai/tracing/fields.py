"""Where a value's entries lie, as one thing: fields of coordinates, and what a rule sees of a step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from jxai.tracing.coordinates import Coordinates, compress, merge, spread, varying
from jxai.tracing.interpret import Program, Step


@dataclasses.dataclass(frozen=True, eq=False)
class Field:
    """Where the entries of a value lie.

    Attributes:
      coordinates: for each position axis of x an array that broadcasts against the value (see `coordinates`), or None where entries read all along it.
    """

    coordinates: tuple[Coordinates | None, ...]

    @property
    def axes(self) -> set[int]:
        """The axes of the value along which positions change."""
        return set().union(*(varying(c) for c in self.coordinates if c is not None))


class Place(NamedTuple):
    """What is known of a value that depends on x.

    Attributes:
      fields: see the module. raw: x itself, moved, scaled, pooled or resampled: the picture, not what a network made of it.
      lost: the primitive that hid its positions, where they could not be followed.
    """

    fields: tuple[Field, ...]
    raw: bool = False
    lost: str = ""


class Use(NamedTuple):
    """A step as a rule sees it: places (None: independent of x) and shapes of its inputs, the shape and number of one output."""

    program: Program
    step: Step
    places: list[Place | None]
    shapes: list[tuple[int, ...]]
    shape: tuple[int, ...]
    output: int
    follow: Callable[[Program, dict[int, Place]], dict[int, Place]]
    """Walks another program: a loop's body, a branch."""

    def param(self, name: str) -> Any:
        return self.step.param(name)

    def folded(self, n: int) -> np.ndarray | None:
        """The n-th input, where it is a constant of the program."""
        return self.program.folded(self.step.inputs[n]) if self.places[n] is None else None

    def fields(self, n: int = 0) -> tuple[Field, ...]:
        """The fields of the n-th input."""
        place = self.places[n]
        return () if place is None else place.fields


class Hidden(Exception):
    """Positions cannot be followed."""


Move = Callable[[Coordinates], Coordinates | None]


def tidy(field: Field) -> Field:
    """The same, small; neighbours along an axis of one coordinate's own get one each."""
    small = [None if c is None else compress(c) for c in field.coordinates]
    axes = [d for c in small if c is not None for d in varying(c)]
    return Field(tuple(c if c is None or any(axes.count(d) > 1 for d in varying(c)) else spread(c) for c in small))


def somewhere(field: Field) -> bool:
    """Whether any entry has a position."""
    return any(c is not None and not np.isnan(c).all() for c in field.coordinates)


def together(fields: list[Field]) -> tuple[Field, ...]:
    """The fields of a value made entry by entry of others: those that lie along the same axes are one, an outer sum keeps both."""
    found: list[Field] = []
    for field in fields:
        for n, other in enumerate(found):
            if field is other:
                break
            rivals = any(a is not None and b is not None for a, b in zip(field.coordinates, other.coordinates))
            if not rivals or not field.axes or not other.axes or field.axes & other.axes:
                found[n] = Field(tuple(map(merge, other.coordinates, field.coordinates)))
                break
        else:
            found.append(field)
    return tuple(found)


def moved(fields: tuple[Field, ...], move: Move) -> Iterator[Field]:
    """Every field moved; one that is read across all of its axes is gone."""
    for field in fields:
        found = [None if c is None else move(c) for c in field.coordinates]
        fewer = any(a is not None and b is None for a, b in zip(field.coordinates, found))
        if not fewer or any(c is not None and varying(c) for c in found):
            yield Field(tuple(found))
