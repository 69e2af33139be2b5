"""Curves as the expressions that compute them: what `jax.nn` and common spellings trace to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.recognised.layouts import PLAIN
from jxai.bounds.rules import curves
from jxai.bounds.rules.curve import Curve
from jxai.tracing import equations, interpret

# Marks in the reference functions that stand for any constant.
_MARKS = (0.37251, 0.61837)
_TYPES = (jnp.bfloat16, jnp.float16, jnp.float32, jnp.float64)


@dataclasses.dataclass(frozen=True)
class Template:
    """A curve and the expression that computes it: `("x",)`, a number, `("any", n)`, or `(primitive, params, operands)`."""

    curve: Curve
    expression: tuple
    holds: Callable[..., bool] = lambda *parameters: True
    """Whether it is the curve with these constants."""
    overflows: bool = False
    """Whether the expression overflows where the curve does not."""


def templates(dtype: Any) -> dict[str, list[Template]]:
    """By the primitive of their last step, as they are traced in this floating-point type; longer ones first."""
    return _templates(np.dtype(dtype), bool(jax.config.jax_enable_x64)) if dtype in _TYPES else {}


@functools.cache
def _templates(dtype: np.dtype, x64: bool) -> dict[str, list[Template]]:
    any_, other = _MARKS
    nn = jax.nn
    spelled: list[tuple[Curve, Callable] | tuple[Curve, Callable, Callable]] = [
        (curves.CLIP, lambda x: jnp.minimum(jnp.maximum(x, any_), other)),
        (curves.CLIP, lambda x: jnp.where(x > other, other, jnp.where(x < any_, any_, x)), _in_order),
        (curves.RELU, lambda x: jnp.where(x > 0, x, 0.0)),
        (curves.RELU, lambda x: jnp.where(x >= 0, x, 0.0)),
        (curves.LEAKY_RELU, lambda x: nn.leaky_relu(x, any_)),
        (curves.LEAKY_RELU, lambda x: jnp.where(x > 0, x, any_ * x)),
        (curves.ELU, lambda x: nn.elu(x, any_)),
        (curves.CELU, lambda x: nn.celu(x, any_), _positive),
        (curves.SILU, nn.silu),
        (curves.GELU, lambda x: nn.gelu(x, approximate=False)),
        (curves.GELU_TANH, nn.gelu),
        (curves.SOFTPLUS, nn.softplus),
        (curves.SOFTPLUS, lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))),
        (curves.SOFTPLUS, _plain_softplus),
        (curves.MISH, nn.mish),
        (curves.HARD_SILU, nn.hard_silu),
        (curves.SOFT_SIGN, nn.soft_sign),
    ]
    found: dict[str, list[Template]] = {}
    for curve, function, *holds in spelled:
        expression = _expression(function, dtype)
        found.setdefault(expression[0], []).append(Template(curve, expression, *holds, overflows=function is _plain_softplus))
    for same in found.values():
        same.sort(key=lambda t: -_size(t.expression))
    return found


def _plain_softplus(x: Any) -> Any:
    return jnp.log1p(jnp.exp(x))


def _in_order(low: Any, high: Any) -> bool:
    return not isinstance(low, jax.core.Tracer) and not isinstance(high, jax.core.Tracer) and bool(np.all(np.asarray(low) <= np.asarray(high)))


def _positive(value: Any) -> bool:
    return not isinstance(value, jax.core.Tracer) and bool(np.all(np.asarray(value) > 0))


def _expression(function: Callable, dtype: np.dtype) -> tuple:
    """The expression that a function of one number traces to."""
    with jax.ensure_compile_time_eval():
        traced = interpret.trace(function, jnp.zeros((), dtype))
        program = interpret.flatten(traced, lambda eqn, path: True)
        values: dict[int, Any] = dict(program.constants)
        expressions: dict[int, Any] = {program.inputs[-1]: ("x",)}
        for step in program.steps:
            if all(r in values for r in step.inputs):
                values.update(zip(step.outputs, step.run([values[r] for r in step.inputs])))
                continue
            between_floats = all(jnp.issubdtype(program.avals[r].dtype, jnp.floating) for r in (step.inputs[0], step.outputs[0]))
            operands = tuple(_constant(values[r], dtype) if r in values else expressions[r] for r in step.inputs)
            plain = step.primitive in PLAIN and between_floats
            expressions[step.outputs[0]] = operands[0] if plain else (step.primitive, equations.meaning(step), operands)
        return expressions[program.outputs[0]]


def _constant(value: Any, dtype: np.dtype) -> Any:
    for n, mark in enumerate(_MARKS):
        if np.allclose(float(value), mark, rtol=2 * float(jnp.finfo(dtype).eps)):
            return ("any", n)
    return float(value)


def _size(expression: Any) -> int:
    return 1 + sum(map(_size, expression[2])) if isinstance(expression, tuple) and len(expression) == 3 else 1
