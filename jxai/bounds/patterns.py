"""Activations and softmax recognised by structure, however many primitives they are spelled in.

A curve is bounded much better as one function than as the products and sums that compute it. A step is taken for one only if the
steps behind it are, equation by equation and constant by constant, those that `jax.nn` itself traces to: the match is a proof.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.operations import Operation, Unary
from jxai.bounds.reductions import LogSumExp, Softmax
from jxai.bounds.templates import PLAIN, templates
from jxai.tracing import equations
from jxai.tracing.interpret import Program, Step

_SPREAD = {*PLAIN, "broadcast_in_dim", "reshape", "squeeze", "transpose"}
_COMMUTES = {"add", "mul", "max", "min"}


class Matcher:
    """Finds curves and softmax in a program. known: constant values by reference; perturbed: references that depend on x."""

    def __init__(self, program: Program, known: dict[int, Any], perturbed: set[int]):
        self.program, self.known, self.perturbed = program, known, perturbed
        self.by: dict[int, Step] = {r: step for step in program.steps for r in step.outputs}

    def match(self, step: Step) -> tuple[Operation | LogSoftmax, int] | None:
        """The operation that this step ends, and the reference of its only input; None where it ends none."""
        for template in templates().get(step.primitive, ()):
            bound: dict[Any, Any] = {}
            if self._same(template.expression, step.outputs[0], bound) and "x" in bound and len(step.outputs) == 1:
                parameters = tuple(bound[mark] for mark in sorted(k for k in bound if k != "x"))
                root = bound["x"]
                if template.ordered and not _in_order(*parameters):
                    continue
                if self.program.avals[root].shape == self.program.avals[step.outputs[0]].shape:
                    return Unary(template.curve, parameters), root
        return self._softmax(step)

    def _same(self, expression: Any, reference: int, bound: dict) -> bool:
        reference = self._plain(reference)
        if expression == ("x",):
            if reference not in self.perturbed:
                return False
            return bound.setdefault("x", reference) == reference
        if reference in self.known:
            value = self.known[reference]
            if isinstance(expression, tuple) and expression[0] == "any":
                previous = bound.setdefault(expression[1], value)
                return previous is value or _equal(previous, value)
            return isinstance(expression, float) and _is_number(value, expression)
        if not isinstance(expression, tuple) or expression[0] == "any":
            return False
        step = self.by.get(reference)
        if step is None or step.primitive != expression[0] or equations.meaning(step) != expression[1] or len(step.inputs) != len(expression[2]):
            return False
        orders = [expression[2]] if expression[0] not in _COMMUTES else [expression[2], expression[2][::-1]]
        for operands in orders:
            trial = dict(bound)
            if all(self._same(e, r, trial) for e, r in zip(operands, step.inputs)):
                bound.update(trial)
                return True
        return False

    def _plain(self, reference: int) -> int:
        """What is behind copies and changes of type."""
        while reference in self.by and self.by[reference].primitive in PLAIN and self._floats(self.by[reference]):
            reference = self.by[reference].inputs[0]
        return reference

    def _floats(self, step: Step) -> bool:
        return all(jnp.issubdtype(self.program.avals[r].dtype, jnp.floating) for r in (step.inputs[0], step.outputs[0]))

    # Softmax, its logarithm, and the logarithm of a sum of exponentials.

    def _softmax(self, step: Step) -> tuple[Operation | LogSoftmax, int] | None:
        if step.primitive == "div":
            # exp(a) / Σ exp(a), where a = x − m for an m that is constant along the summed axes, is the softmax of x.
            top, axes = self._plain(step.inputs[0]), None
            total = self._behind(step.inputs[1])
            if self._is(top, "exp") and total is not None and self._is(total, "reduce_sum") and self._plain(self.by[total].inputs[0]) == top:
                axes = self._axes(total, step.inputs[1])
            if axes is None:
                return None
            return Softmax(axes), self._unshifted(self.by[top].inputs[0], axes)
        if step.primitive == "sub":
            # a − log Σ exp(a): the whole of it is shift-invariant.
            a, log = self._plain(step.inputs[0]), self._behind(step.inputs[1])
            if log is None or not self._is(log, "log"):
                return None
            total = self._behind(self.by[log].inputs[0])
            if total is None or not self._is(total, "reduce_sum"):
                return None
            exp = self._plain(self.by[total].inputs[0])
            if not self._is(exp, "exp") or self._plain(self.by[exp].inputs[0]) != a:
                return None
            axes = self._axes(total, step.inputs[1])
            return None if axes is None else (LogSoftmax(axes), self._unshifted(a, axes))
        if step.primitive == "add":
            # log Σ exp(x − m) + m.
            for log, shift in (step.inputs, step.inputs[::-1]):
                found = self._log_sum(log, shift)
                if found is not None:
                    return found
        return None

    def _log_sum(self, log: int, shift: int) -> tuple[Operation | LogSoftmax, int] | None:
        log = self._plain(log)
        if not self._is(log, "log"):
            return None
        total = self._plain(self.by[log].inputs[0])
        if self._is(total, "abs"):  # jax.nn.logsumexp keeps a sign
            total = self._plain(self.by[total].inputs[0])
        if not self._is(total, "reduce_sum"):
            return None
        exp = self._plain(self.by[total].inputs[0])
        if not self._is(exp, "exp"):
            return None
        minus = self._plain(self.by[exp].inputs[0])
        axes = self._axes(total, None)
        if not self._is(minus, "sub") or axes is None:
            return None
        x, m = self.by[minus].inputs
        if self._behind(m) is None or self._behind(m) != self._behind(shift) or not self._constant_along(m, axes):
            return None
        return LogSumExp(axes), self._plain(x)

    def _is(self, reference: int, primitive: str) -> bool:
        return reference in self.by and self.by[reference].primitive == primitive

    def _behind(self, reference: int) -> int | None:
        """What a value was spread from."""
        while reference in self.by and self.by[reference].primitive in _SPREAD:
            reference = self.by[reference].inputs[0]
        return reference if reference in self.perturbed else None

    def _axes(self, total: int, spread: int | None) -> tuple[int, ...] | None:
        """The axes that were summed over; None where the sum is not spread over just these again."""
        step = self.by[total]
        axes = tuple(int(a) for a in step.param("axes"))
        if spread is not None and not self._returns(total, spread, axes, self.program.avals[step.inputs[0]].shape):
            return None
        return axes

    def _returns(self, total: int, spread: int, axes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
        """Whether `spread` holds, at every place, the entry of `total` (or its logarithm) with the same indices along the axes that are left.

        Tried out on an array of numbers: what lies between only moves them.
        """
        chain, reference = [], spread
        while reference != total:
            if reference not in self.by or self.by[reference].primitive not in {*_SPREAD, "log"}:
                return False
            chain.append(self.by[reference])
            reference = self.by[reference].inputs[0]
        with jax.ensure_compile_time_eval():
            numbers = jnp.arange(self.program.avals[total].size, dtype=jnp.float32).reshape(self.program.avals[total].shape)
            value = numbers
            for step in reversed(chain):
                value = value if step.primitive in {*PLAIN, "log"} else step.run([value])[0]
            wanted = jnp.expand_dims(numbers, axes)
            if not value.shape and len(axes) == len(shape):
                return True
            if len(value.shape) != len(shape):
                return False
            return bool((jnp.broadcast_to(value, shape) == jnp.broadcast_to(wanted, shape)).all())

    def _constant_along(self, m: int, axes: tuple[int, ...]) -> bool:
        """Whether a value is the same all along these axes: it has size 1 there, or was spread over them."""
        shape = self.program.avals[m].shape
        while m in self.by and self.by[m].primitive in PLAIN:
            m = self.by[m].inputs[0]
        if all(shape[a] == 1 for a in axes):
            return True
        if self._is(m, "broadcast_in_dim"):
            step = self.by[m]
            source, to = self.program.avals[step.inputs[0]].shape, step.param("broadcast_dimensions")
            return all(a not in to or source[to.index(a)] == 1 for a in axes)
        return False

    def _unshifted(self, a: int, axes: tuple[int, ...]) -> int:
        """x of `a = x − m` with m constant along the axes; else a itself."""
        a = self._plain(a)
        if self._is(a, "sub"):
            x, m = self.by[a].inputs
            if x in self.perturbed and self._constant_along(m, axes):
                return self._plain(x)
        return a


@dataclasses.dataclass(frozen=True)
class LogSoftmax:
    """Stands for `x − log Σ exp(x)`, which is laid out as two operations."""

    axes: tuple[int, ...]


def _is_number(value: Any, number: float) -> bool:
    if isinstance(value, jax.core.Tracer):
        return False
    array = np.asarray(value)
    rounding = 2 * float(jnp.finfo(array.dtype).eps) if jnp.issubdtype(array.dtype, jnp.floating) else 0.0
    return bool(np.all(np.abs(array.astype(np.float64) - number) <= rounding * abs(number)))


def _in_order(a: Any, b: Any) -> bool:
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return False
    return bool(np.all(np.asarray(a) <= np.asarray(b)))


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return False
    return bool(np.all(np.asarray(a) == np.asarray(b)))
