"""Softmaxes, factors of normalisations, and values less a linear function of themselves, as parts ask for them."""

from __future__ import annotations

import functools
from typing import NamedTuple

from jxai.relevance.chains import MOVES, Values
from jxai.tracing.interpret import Program, Step
from jxai.tracing.normalisations import normalisations
from jxai.tracing.softmaxes import Softmax, softmaxes

_LONGEST = 12


class Centred(NamedTuple):
    """`a − L(a)` with a linear L, such as a mean: a, and the steps from it."""

    argument: int
    steps: tuple[Step, ...]


class Factors:
    """What has been recognised in a program; it is looked for when it is first asked for."""

    def __init__(self, program: Program, values: Values) -> None:
        self.program, self.values = program, values

    @functools.cached_property
    def _softmaxes(self) -> dict[int, Softmax]:
        return {one.value: one for one in softmaxes(self.program, self.values.start)}

    @functools.cached_property
    def _factors(self) -> set[int]:
        """The factors of normalisations, moved and scaled by constants or not."""
        return {one.factor for one in normalisations(self.program, self.values.start)}

    def softmax(self, r: int) -> Softmax | None:
        """The softmax that a value is, if it is one."""
        return self._softmaxes.get(r)

    def is_softmax(self, r: int) -> bool:
        """Whether a value is a softmax, moved, rounded, or scaled by constants, as masks and dropout scale one."""
        while self.softmax(r) is None:
            maker = self.program.makers.get(r)
            if maker is None or len(data := self.values.data(maker)) != 1:
                return False
            scaled = self.values.scaled(r)
            if maker.primitive not in MOVES and (scaled is None or scaled.shift is not None):
                return False
            (r,) = data
        return True

    def normalises(self, step: Step) -> int | None:
        """Which operand of a product or quotient is the factor of a normalisation; None where none is."""
        for n, r in enumerate(step.inputs):
            while r not in self._factors:
                maker = self.program.makers.get(r)
                if maker is None or len(data := self.values.data(maker)) != 1:
                    break
                scaled = self.values.scaled(r)
                if maker.primitive not in MOVES and (scaled is None or scaled.shift is not None):
                    break
                (r,) = data
            if r in self._factors:
                return n
        return None

    def centred(self, r: int) -> Centred | None:
        """A value less a sum or a mean of its own, if it is one."""
        step = self.program.makers[r]
        for source, other in (step.inputs, step.inputs[::-1]):
            steps: list[Step] = [step]
            at = other
            while at != source and len(steps) < _LONGEST:
                maker = self.program.makers.get(at)
                if maker is None or len(data := self.values.data(maker)) != 1:
                    break
                scaled = self.values.scaled(at)
                if maker.primitive not in MOVES | {"reduce_sum", "cumsum"} and (scaled is None or scaled.shift is not None):
                    break
                steps.insert(0, maker)
                (at,) = data
            if at == source and any(one.primitive == "reduce_sum" for one in steps):
                return Centred(source, tuple(steps))
        return None
