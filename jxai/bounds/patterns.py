"""Activations and softmax recognised by structure, however many primitives they are spelled in.

A curve is bounded much better as one function than as the products and sums that compute it. A step is taken for one only if the
steps behind it are, equation by equation and constant by constant, those that `jax.nn` itself traces to: the match is a proof.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import interpret
from jxai.bounds import curves
from jxai.bounds.curve import Curve
from jxai.bounds.operations import Operation, Unary
from jxai.bounds.reductions import LogSumExp, Softmax
from jxai.interpret import Program, Step

# Marks in the reference functions that stand for any constant.
_MARKS = (0.37251, 0.61837)
_PLAIN = {"copy", "copy_p", "convert_element_type", "stop_gradient", "reduce_precision"}
_SPREAD = {*_PLAIN, "broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose"}
_COMMUTES = {"add", "mul", "max", "min"}
_IGNORED = {"accuracy", "sharding", "out_sharding", "weak_type", "new_dtype", "jvp", "symbolic_zeros", "name"}


@dataclasses.dataclass(frozen=True)
class Template:
    """A curve and the expression that computes it: `("x",)`, a number, `("any", n)`, or `(primitive, params, operands)`."""

    curve: Curve
    expression: tuple
    ordered: bool = False
    """Whether it is the curve only where the first of two constants is not greater than the second."""


class Matcher:
    """Finds curves and softmax in a program. known: constant values by reference; perturbed: references that depend on x."""

    def __init__(self, program: Program, known: dict[int, Any], perturbed: set[int]):
        self.program, self.known, self.perturbed = program, known, perturbed
        self.by: dict[int, Step] = {r: step for step in program.steps for r in step.outputs}

    def match(self, step: Step) -> tuple[Operation, int] | None:
        """The operation that this step ends, and the reference of its only input; None where it ends none."""
        for template in _templates().get(step.primitive, ()):
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
        if step is None or step.primitive != expression[0] or _params(step.params) != expression[1] or len(step.inputs) != len(expression[2]):
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
        while reference in self.by and self.by[reference].primitive in _PLAIN and self._floats(self.by[reference]):
            reference = self.by[reference].inputs[0]
        return reference

    def _floats(self, step: Step) -> bool:
        return all(jnp.issubdtype(self.program.avals[r].dtype, jnp.floating) for r in (step.inputs[0], step.outputs[0]))

    # Softmax, its logarithm, and the logarithm of a sum of exponentials.

    def _softmax(self, step: Step) -> tuple[Operation, int] | None:
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

    def _log_sum(self, log: int, shift: int) -> tuple[Operation, int] | None:
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
        axes = tuple(int(a) for a in step.params["axes"])
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
                value = value if step.primitive in {*_PLAIN, "log"} else step.run([value])[0]
            wanted = jnp.expand_dims(numbers, axes)
            if not value.shape and len(axes) == len(shape):
                return True
            if len(value.shape) != len(shape):
                return False
            return bool((jnp.broadcast_to(value, shape) == jnp.broadcast_to(wanted, shape)).all())

    def _constant_along(self, m: int, axes: tuple[int, ...]) -> bool:
        """Whether a value is the same all along these axes: it has size 1 there, or was spread over them."""
        shape = self.program.avals[m].shape
        while m in self.by and self.by[m].primitive in _PLAIN:
            m = self.by[m].inputs[0]
        if all(shape[a] == 1 for a in axes):
            return True
        if self._is(m, "broadcast_in_dim"):
            step = self.by[m]
            source, to = self.program.avals[step.inputs[0]].shape, step.params["broadcast_dimensions"]
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


@functools.cache
def _templates() -> dict[str, list[Template]]:
    """By the primitive of their last step; longer ones first."""
    any_, other = _MARKS
    nn = jax.nn
    spelled: list[tuple[Curve, Callable]] = [
        (curves.CLIP, lambda x: jnp.minimum(jnp.maximum(x, any_), other)),
        (curves.CLIP, lambda x: jnp.where(x > other, other, jnp.where(x < any_, any_, x))),
        (curves.RELU, lambda x: jnp.where(x > 0, x, 0.0)),
        (curves.RELU, lambda x: jnp.where(x >= 0, x, 0.0)),
        (curves.LEAKY_RELU, lambda x: nn.leaky_relu(x, any_)),
        (curves.LEAKY_RELU, lambda x: jnp.where(x > 0, x, any_ * x)),
        (curves.ELU, lambda x: nn.elu(x, any_)),
        (curves.CELU, lambda x: nn.celu(x, any_)),
        (curves.SILU, nn.silu),
        (curves.GELU, lambda x: nn.gelu(x, approximate=False)),
        (curves.GELU_TANH, nn.gelu),
        (curves.SOFTPLUS, nn.softplus),
        (curves.SOFTPLUS, lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))),
        (curves.SOFTPLUS, lambda x: jnp.log1p(jnp.exp(x))),
        (curves.MISH, nn.mish),
        (curves.HARD_SILU, nn.hard_silu),
        (curves.SOFT_SIGN, nn.soft_sign),
    ]
    found: dict[str, list[Template]] = {}
    for curve, function in spelled:
        expression = _expression(function)
        found.setdefault(expression[0], []).append(Template(curve, expression, ordered=expression[0] == "select_n" and curve is curves.CLIP))
    for templates in found.values():
        templates.sort(key=lambda t: -_size(t.expression))
    return found


def _expression(function: Callable) -> tuple:
    """The expression that a function of one number traces to."""
    with jax.ensure_compile_time_eval():
        traced = interpret.trace(function, jnp.float32(0))
        program = interpret.flatten(traced, lambda eqn, path: True)
        values: dict[int, Any] = dict(program.constants)
        expressions: dict[int, Any] = {program.inputs[-1]: ("x",)}
        for step in program.steps:
            if all(r in values for r in step.inputs):
                values.update(zip(step.outputs, step.run([values[r] for r in step.inputs])))
                continue
            operands = tuple(_constant(values[r]) if r in values else expressions[r] for r in step.inputs)
            plain = step.primitive in _PLAIN
            expressions[step.outputs[0]] = operands[0] if plain else (step.primitive, _params(step.params), operands)
        return expressions[program.outputs[0]]


def _constant(value: Any) -> Any:
    for n, mark in enumerate(_MARKS):
        if np.allclose(float(value), mark, rtol=1e-6):
            return ("any", n)
    return float(value)


def _params(params: dict[str, Any]) -> tuple:
    return tuple(sorted((k, str(v)) for k, v in params.items() if k not in _IGNORED and v is not None))


def _size(expression: Any) -> int:
    return 1 + sum(map(_size, expression[2])) if isinstance(expression, tuple) and len(expression) == 3 else 1


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
