"""Which values are functions of one other value, entry by entry; which of them are gates; which cannot be negative; and which constants move what they meet."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jxai.tracing import equations, linear
from jxai.tracing.interpret import Program, Step
from jxai.tracing.probes import Chain

MOVES = linear.MOVES | linear.PICKS - {"scatter-add"} | {"expand_dims", "optimization_barrier", "select_n", "sort", "top_k"}
"""Primitives that take entries from one place to another and change none."""

ROUNDED = linear.SAME - {"optimization_barrier"}
_AFFINE = frozenset(("add", "sub", "mul", "div", "neg")) | ROUNDED
_KEPT_SIGN = frozenset("add mul div min cumsum reduce_sum reduce_max reduce_min reduce_window_sum reduce_window_max reduce_window_min".split())
_FARTHEST, _LONGEST = 24, 64


class Scaled(NamedTuple):
    """A step `sign · v · factor + shift` of one value that depends on x, `v`; factor (or 1 / divisor) and shift are references or None."""

    argument: int
    sign: int
    factor: int | None
    divisor: int | None
    shift: int | None
    shift_sign: int


class Values:
    """What is known of the values of a program (laid open) before it is run."""

    def __init__(self, program: Program, start: set[int] | None = None) -> None:
        self.program = program
        self.start = {program.inputs[-1]} if start is None else start
        self.depends = set(self.start)
        self.place: dict[int, int] = {}
        """Where in the program a value is computed."""
        self._users: dict[int, list[Step]] = {}
        self.held: set[int] = set()
        """What depends on x, but is held constant: by `stop_gradient`, or since it follows from whole numbers and comparisons alone."""
        for n, step in enumerate(program.steps):
            if not self.depends.isdisjoint(step.inputs):
                self.depends.update(step.outputs)
                if step.primitive == "stop_gradient" or all(r in self.held or not self.is_float(r) for r in step.inputs if r in self.depends):
                    self.held.update(step.outputs)
            self.place.update(dict.fromkeys(step.outputs, n))
            for r in step.inputs:
                self._users.setdefault(r, []).append(step)
        self._before: dict[int, list[int]] = {}
        self._nonnegative: dict[int, bool] = {}
        self._raw: dict[int, bool] = dict.fromkeys(self.start, start is None)

    def users(self, r: int) -> list[Step]:
        """The steps that read a value."""
        return self._users.get(r, [])

    def is_float(self, r: int) -> bool:
        return jnp.issubdtype(self.program.avals[r].dtype, jnp.floating)

    def shape(self, r: int) -> tuple[int, ...]:
        return self.program.avals[r].shape

    def data(self, step: Step) -> list[int]:
        """The floating-point operands that depend on x and are not held constant, each as often as it stands there."""
        return [r for r in step.inputs if self.carries(r)]

    def carries(self, r: int) -> bool:
        """Whether a value may carry relevance: real numbers that depend on x and are not held constant."""
        return r in self.depends and self.is_float(r) and r not in self.held

    def scaled(self, r: int) -> Scaled | None:
        """The step that makes a value of one other by a product or a sum with what does not depend on x."""
        step = self.program.makers.get(r)
        if step is None or step.primitive not in _AFFINE or len(data := self.data(step)) != 1:
            return None
        (argument,) = data
        if step.primitive in ROUNDED or step.primitive == "neg":
            return Scaled(argument, -1 if step.primitive == "neg" else 1, None, None, None, 1)
        first = step.inputs[0] == argument
        other = step.inputs[1] if first else step.inputs[0]
        if step.primitive in ("add", "sub"):
            minus = step.primitive == "sub"
            return Scaled(argument, -1 if minus and not first else 1, None, None, other, -1 if minus and first else 1)
        if step.primitive == "mul":
            return Scaled(argument, 1, other, None, None, 1)
        return Scaled(argument, 1, None, other, None, 1) if first else None

    def written(self, r: int) -> float | None:
        """The number that a constant is everywhere and that stands in the code; None of what a model holds as an array."""
        if r in self.depends or self.program.rests_on_arrays(r):
            return None
        value = self.program.folded(r)
        if value is None or value.size == 0 or not (value == value.flat[0]).all():
            return None
        return float(value.flat[0])

    def before(self, r: int) -> list[int]:
        """The values that a value is a function of, entry by entry; the nearest first, itself among them."""
        if r not in self._before:
            step = self.program.makers.get(r)
            found = [r]
            if step is not None and step.unit and r in self.depends:
                chains = [self.before(operand) for operand in dict.fromkeys(step.inputs) if operand in self.depends]
                shape = self.shape(r)
                found += [v for v in chains[0] if all(v in chain for chain in chains) and self.shape(v) == shape]
            self._before[r] = found[:_FARTHEST]
        return self._before[r]

    def joined(self, r: int) -> tuple[int, tuple[Step, ...]] | None:
        """Where several functions of one value meet in r (`v · sigmoid(v)`, `where(v > 0, v, a · v)`): that value, and the steps from it.

        One that adds what the model holds, as a batch norm does, is no activation: `v + relu(norm(v))` is a sum.
        """
        step = self.program.makers[r]
        operands = [operand for operand in step.inputs if operand in self.depends]
        if not step.unit or len(operands) < 2:
            return None
        for source in self.before(r)[1:]:
            if self.is_float(source):
                steps = self.between(source, r)
                is_function = len(steps) <= _LONGEST and not all(one.primitive in _AFFINE for one in steps if one is not step)
                return (source, steps) if is_function and not any(map(self._adds_weights, steps)) else None
        return None

    def _adds_weights(self, step: Step) -> bool:
        """Whether a step adds what the model holds as an array to a value."""
        shift = None if (scaled := self.scaled(step.outputs[0])) is None else scaled.shift
        return shift is not None and shift not in self.depends and self.written(shift) is None

    def between(self, source: int, r: int) -> tuple[Step, ...]:
        """The steps by which a value is made of another, in order."""
        found: dict[int, Step] = {}
        ask = [r]
        while ask:
            one = ask.pop()
            step = self.program.makers.get(one)
            if one == source or one not in self.depends or step is None or self.place[one] in found:
                continue
            found[self.place[one]] = step
            ask.extend(step.inputs)
        return tuple(found[n] for n in sorted(found))

    def is_gate(self, r: int) -> bool:
        """Whether a value is a gate: moved, scaled by nothing, a function of one number that goes from 0 to 1 or back (a sigmoid, a hard sigmoid)."""
        r = self.unmoved(r)
        for source in self.before(r)[1:]:
            if not self.is_float(source):
                continue
            chain = Chain(self.program, self.between(source, r), source, r)
            at = chain.sampled() if len(chain.steps) <= _LONGEST else None
            if at is not None and _goes_from_0_to_1(at):
                return True
        return False

    def unmoved(self, r: int) -> int:
        """The value that a value is but for its place and type."""
        while (step := self.program.makers.get(r)) is not None and (step.primitive in MOVES | ROUNDED) and len(data := self.data(step)) == 1:
            (r,) = data
        return r

    def nonnegative(self, r: int) -> bool:
        """Whether no entry can be negative, by how it is computed."""
        if r not in self._nonnegative:
            self._nonnegative[r] = False
            step = self.program.makers.get(r)
            if step is not None:
                operands = [self._known_nonnegative(i) for i in step.inputs]
                self._nonnegative[r] = _nonnegative(step, operands, step.inputs[:1] == step.inputs[1:2])
            else:
                value = self.program.folded(r) if r in self.program.constants else None
                self._nonnegative[r] = value is not None and value.dtype.kind in "fiu" and bool((value >= 0).all())
        return self._nonnegative[r]

    def _known_nonnegative(self, r: int) -> bool:
        return self.nonnegative(r) or (r not in self.depends and (number := self.written(r)) is not None and number >= 0)

    def raw(self, r: int) -> bool:
        """Whether a value is x, moved, scaled and shifted by constants."""
        if r not in self._raw:
            step = self.program.makers.get(r)
            plain = step is not None and r in self.depends and (step.primitive in MOVES or self.scaled(r) is not None)
            self._raw[r] = plain and all(self.raw(i) for i in step.inputs if i in self.depends)
        return self._raw[r]

    def varies(self, r: int) -> frozenset[int]:
        """The axes along which a value that does not depend on x may differ from entry to entry."""
        shape = self.shape(r)
        step = self.program.makers.get(r)
        wide = frozenset(d for d, size in enumerate(shape) if size > 1)
        if step is None or not wide:
            return wide
        if step.primitive == "broadcast_in_dim":
            inner = self.varies(step.inputs[0])
            return frozenset(step.param("broadcast_dimensions")[d] for d in inner) & wide
        if step.unit or step.primitive in ROUNDED:
            return frozenset().union(*(self.varies(i) for i in step.inputs if len(self.shape(i)) == len(shape))) & wide
        if step.primitive in ("reshape", "squeeze", "expand_dims"):
            inside = self.shape(step.inputs[0])
            kept = [d for d, size in enumerate(inside) if size > 1]
            if [inside[d] for d in kept] == [shape[d] for d in sorted(wide)]:
                return frozenset(new for old, new in zip(kept, sorted(wide)) if old in self.varies(step.inputs[0]))
        return wide


def _goes_from_0_to_1(at: np.ndarray) -> bool:
    rises = at if at[-1] > at[0] else at[::-1]
    return bool(abs(rises[0]) < 1e-3 and abs(rises[-1] - 1) < 1e-3 and (np.diff(rises) >= -1e-6).all())


def _nonnegative(eqn: Step | jex.JaxprEqn, operands: list[bool], square: bool) -> bool:
    """Whether an equation gives nothing negative, of operands of which this is known."""
    primitive = str(eqn.primitive)
    inner = list(jex.jaxprs_in_params(eqn.params))
    if inner and len(inner[0].invars) == len(operands) and not inner[0].constvars:
        return _of_body(inner[0], operands)
    if primitive in ("exp", "exp2", "abs", "sqrt", "rsqrt", "logistic", "square"):
        return True
    if primitive == "integer_pow":
        return equations.param(eqn, "y") % 2 == 0 or all(operands)
    if primitive == "max":
        return any(operands)
    if primitive == "clamp":
        return operands[0] or (operands[1] and operands[2])
    if primitive == "mul" and square:
        return True
    if primitive == "select_n":
        return all(operands[1:])
    if primitive in ("dynamic_slice", "gather"):
        return operands[0]
    return (primitive in MOVES | ROUNDED | _KEPT_SIGN) and all(operands)


def _of_body(body: jex.Jaxpr, operands: list[bool]) -> bool:
    known: dict[Any, bool] = dict(zip(body.invars, operands))

    def read(v: Any) -> bool:
        return bool(np.all(np.asarray(v.val) >= 0)) if isinstance(v, jex.Literal) else known.get(v, False)

    for eqn in body.eqns:
        holds = _nonnegative(eqn, [read(v) for v in eqn.invars], len(eqn.invars) > 1 and eqn.invars[0] is eqn.invars[1])
        known.update((v, holds) for v in eqn.outvars)
    return all(read(v) for v in body.outvars)


def is_single(eqn: jex.JaxprEqn) -> bool:
    """Whether a call is an activation: elementwise, of one value and numbers."""
    return equations.is_elementwise(eqn) and sum(not isinstance(v, jex.Literal) for v in eqn.invars) == 1
