"""A piece of a program as a function of some of its values, to try on numbers: what is recognised in a program is proved so.

What else the steps read is what constants make it, where it follows from constants alone; else numbers that are drawn: what is true of the piece
then does not hang on weights, nor on what other values of x make of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from jxai.tracing import equations
from jxai.tracing.interpret import Program, Step
from jxai.tracing.rectifiers import depending


class Flow:
    """Which values of a program depend on some, who reads them, and what lies between two of them."""

    def __init__(self, program: Program, start: set[int] | None = None) -> None:
        self.program = program
        self.start = {program.inputs[-1]} if start is None else start
        self.depends = depending(program, self.start)
        self.place = {id(step): n for n, step in enumerate(program.steps)}
        self.users: dict[int, list[Step]] = {}
        for step in program.steps:
            for r in set(step.inputs):
                self.users.setdefault(r, []).append(step)

    def varying(self, step: Step) -> list[int]:
        """The inputs of a step that depend on the start."""
        return [r for r in step.inputs if r in self.depends]

    def between(self, arguments: Iterable[int], value: int) -> tuple[Step, ...]:
        """The steps by which a value is made of these, in order; nothing of what is computed from none of them."""
        begins = set(arguments)
        behind = self._behind(begins, value)
        made, kept = set(begins), []
        for n in sorted(behind):
            step = behind[n]
            if not made.isdisjoint(step.inputs):
                made.update(step.outputs)
                kept.append(step)
        return tuple(kept)

    def _behind(self, begins: set[int], value: int) -> dict[int, Step]:
        first = min((self.place[id(self.program.makers[r])] if r in self.program.makers else -1 for r in begins), default=-1)
        steps: dict[int, Step] = {}
        ask = [value]
        while ask:
            r = ask.pop()
            step = self.program.makers.get(r)
            if r in begins or r not in self.depends or step is None:
                continue
            n = self.place[id(step)]
            if n > first and n not in steps:
                steps[n] = step
                ask.extend(step.inputs)
        return steps


class Piece:
    """Steps from one value, the argument, to another, as a function that can be tried on numbers."""

    def __init__(self, program: Program, steps: tuple[Step, ...], argument: int, value: int) -> None:
        self.program, self.steps, self.argument, self.value = program, steps, argument, value
        inside = {r for step in steps for r in step.outputs} | {argument}
        self.given = list(dict.fromkeys(r for step in steps for r in step.inputs if r not in inside))
        """What the steps read but do not compute."""
        self.known = {r: self.program.folded(r) for r in self.given}

    def signature(self) -> tuple:
        """What tells it from pieces that compute another function."""
        names = {self.argument: 0}
        for r in (*self.given, *(r for step in self.steps for r in step.outputs)):
            names.setdefault(r, len(names))
        kinds = tuple((str(self.program.avals[r].dtype), self.program.avals[r].shape, _digest(self.known.get(r))) for r in names)
        return kinds, names[self.value], tuple((equations.spelled(s), tuple(names[r] for r in s.inputs)) for s in self.steps)

    def draw(self, seed: int) -> np.ndarray:
        """An argument of normal numbers."""
        return np.random.default_rng(seed).standard_normal(self.program.avals[self.argument].shape)

    def __call__(
        self, argument: np.ndarray, fixed: dict[int, np.ndarray] | None = None, also: Iterable[int] = (), spread: float = 1.0
    ) -> list[np.ndarray] | None:
        """The value (then those `also` asked for) at an argument; None where the steps cannot be tried.

        Args:
          fixed: values that are held, whatever the steps make of them. spread: how large the numbers are that are drawn.
        """
        held = dict(fixed or {})
        try:
            with jax.ensure_compile_time_eval():
                values = {r: jnp.asarray(self._drawn(r, n, spread)) for n, r in enumerate(self.given)}
                values[self.argument] = jnp.asarray(argument, self.program.avals[self.argument].dtype)
                values.update((r, jnp.asarray(v, self.program.avals[r].dtype)) for r, v in held.items())
                for step in self.steps:
                    outputs = step.run([values[r] for r in step.inputs])
                    values.update((r, v) for r, v in zip(step.outputs, outputs) if r not in held)
                return [np.asarray(values[r]).astype(np.float64) for r in (self.value, *also)]
        except _NotDrawnError:
            return None

    def _drawn(self, r: int, n: int, spread: float) -> np.ndarray:
        """What the steps are given as the n-th: what it is, or numbers that are drawn."""
        known, aval = self.known[r], self.program.avals[r]
        if known is not None:
            return known
        random = np.random.default_rng(1000 + n)
        if aval.dtype == bool:
            return random.random(aval.shape) < 0.75
        if not jnp.issubdtype(aval.dtype, jnp.floating):
            raise _NotDrawnError
        return (spread * random.standard_normal(aval.shape)).astype(aval.dtype)


class _NotDrawnError(Exception):
    """A value of which no numbers can be drawn: indices, keys."""


def tolerance(dtype: jnp.dtype) -> float:
    """How far two ways to compute the same of numbers near 1 may lie apart."""
    return 1e-4 if jnp.finfo(dtype).bits >= 32 else 2e-2


def _digest(known: np.ndarray | None) -> str:
    return "" if known is None else hashlib.sha256(np.ascontiguousarray(known).tobytes()).hexdigest()
