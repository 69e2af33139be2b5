"""Reading a program backwards: what is behind copies, and which entry of a value every place of another one holds.

What is recognised in a program must be proved. Shapes prove nothing (a square matrix and its transpose have one shape), so that steps
which only move numbers are followed with the numbers' own places: two values are laid out alike if they hold the same entries of the same value.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.tracing.interpret import Program, Step

PLAIN = {"copy", "convert_element_type", "stop_gradient", "reduce_precision"}
"""Steps that are the number itself, in real numbers."""


class Layout(NamedTuple):
    """`value.ravel()[i] = g(base.ravel()[at.ravel()[i]])`, where g is the elementwise steps that were passed, last first.

    base: a reference. at: integers of the value's shape. passed: names of primitives.
    """

    base: int
    at: np.ndarray
    passed: tuple[str, ...]


class Reader:
    """Follows references of a program back to what they are made of.

    known: constant values by reference. perturbed: references that depend on x. exact: whether only such changes of type may be passed
    over that keep every number as it is; else all between floating-point types.
    """

    def __init__(self, program: Program, known: dict[int, Any], perturbed: set[int], exact: bool):
        self.program, self.known, self.perturbed, self.exact = program, known, perturbed, exact
        self.by: dict[int, Step] = {r: step for step in program.steps for r in step.outputs}

    def shape(self, reference: int) -> tuple[int, ...]:
        return tuple(self.program.avals[reference].shape)

    def dtype(self, reference: int) -> Any:
        return self.program.avals[reference].dtype

    def made_by(self, reference: int, primitive: str) -> bool:
        """Whether it is the value of such a step."""
        return reference in self.by and self.by[reference].primitive == primitive

    def plain(self, reference: int) -> int:
        """What is behind copies and changes of type."""
        while reference in self.by and self._is_plain(self.by[reference]):
            reference = self.by[reference].inputs[0]
        return reference

    def layout(self, reference: int, through: Iterable[str] = ()) -> Layout:
        """Where every entry of a value comes from, as far back as steps only move numbers, or keep those that are finite as they are.

        through: primitives of one operand that are passed as well, entry by entry.
        """
        moves: list[Step] = []
        passed: list[str] = []
        base = self._past(reference)
        while base in self.by:
            step = self.by[base]
            if step.primitive in through and len(step.inputs) == 1:
                passed.append(step.primitive)
            elif _moves(step):
                moves.append(step)
            else:
                break
            base = self._past(step.inputs[0])
        at = np.arange(math.prod(self.shape(base))).reshape(self.shape(base))
        for step in reversed(moves):
            at = _moved(at, step, self.shape(step.outputs[0]))
        return Layout(base, at, tuple(passed))

    def _past(self, reference: int) -> int:
        """What is behind copies, `max(−∞, v)` and `where(isfinite(v), v, c)`, which are v where v is finite."""
        while True:
            reference = self.plain(reference)
            step = self.by.get(reference)
            if step is None:
                return reference
            if step.primitive == "max":
                kept = [r for r, other in (step.inputs, step.inputs[::-1]) if self._is_nothing(other) and self.shape(r) == self.shape(reference)]
            elif step.primitive == "select_n" and self.made_by(step.inputs[0], "is_finite") and len(step.inputs) == 3:
                kept = [step.inputs[2]] if self.by[step.inputs[0]].inputs[0] == step.inputs[2] else []
            else:
                kept = []
            if not kept:
                return reference
            reference = kept[0]

    def _is_nothing(self, reference: int) -> bool:
        value = self.known.get(reference)
        return value is not None and not isinstance(value, jax.core.Tracer) and bool(np.all(np.asarray(value) == -np.inf))

    def _is_plain(self, step: Step) -> bool:
        if step.primitive not in PLAIN:
            return False
        before, after = self.dtype(step.inputs[0]), self.dtype(step.outputs[0])
        if not (jnp.issubdtype(before, jnp.floating) and jnp.issubdtype(after, jnp.floating)):
            return False
        if step.primitive == "reduce_precision":
            kind = jnp.finfo(before)
            return not self.exact or (step.param("mantissa_bits") >= kind.nmant and step.param("exponent_bits") >= kind.nexp)
        return not self.exact or holds(before, after)

    def between(self, output: int, roots: Iterable[int]) -> list[Any]:
        """The floating-point types of all values on the way from these roots to an output, it among them."""
        types, waiting, seen = [], [output], set(roots)
        while waiting:
            reference = waiting.pop()
            if reference in seen or reference not in self.perturbed or reference not in self.by:
                continue
            seen.add(reference)
            if jnp.issubdtype(self.dtype(reference), jnp.floating):
                types.append(self.dtype(reference))
            waiting.extend(self.by[reference].inputs)
        return types


def holds(narrow: Any, wide: Any) -> bool:
    """Whether every number of one floating-point type is one of another."""
    a, b = jnp.finfo(narrow), jnp.finfo(wide)
    return narrow == wide or bool(b.nmant >= a.nmant and float(b.max) >= float(a.max) and float(b.smallest_subnormal) <= float(a.smallest_subnormal))


def _moves(step: Step) -> bool:
    if step.primitive == "reshape":
        return step.param("dimensions") is None
    return step.primitive in ("squeeze", "transpose") or (step.primitive == "broadcast_in_dim" and len(step.inputs) == 1)


def _moved(at: np.ndarray, step: Step, shape: tuple[int, ...]) -> np.ndarray:
    if step.primitive == "transpose":
        return at.transpose(step.param("permutation"))
    if step.primitive != "broadcast_in_dim":
        return at.reshape(shape)
    to = step.param("broadcast_dimensions")
    spread = [1] * len(shape)
    for axis, size in zip(to, at.shape):
        spread[axis] = size
    return np.broadcast_to(at.reshape(spread), shape)
