"""Curves as the expressions that compute them: what `jax.nn` and common spellings trace to."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds import curves
from jxai.bounds.curve import Curve
from jxai.tracing import equations, interpret

# Marks in the reference functions that stand for any constant.
_MARKS = (0.37251, 0.61837)
PLAIN = {"copy", "convert_element_type", "stop_gradient", "reduce_precision"}


@dataclasses.dataclass(frozen=True)
class Template:
    """A curve and the expression that computes it: `("x",)`, a number, `("any", n)`, or `(primitive, params, operands)`."""

    curve: Curve
    expression: tuple
    ordered: bool = False
    """Whether it is the curve only where the first of two constants is not greater than the second."""


@functools.cache
def templates() -> dict[str, list[Template]]:
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
    for same in found.values():
        same.sort(key=lambda t: -_size(t.expression))
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
            plain = step.primitive in PLAIN
            expressions[step.outputs[0]] = operands[0] if plain else (step.primitive, equations.meaning(step), operands)
        return expressions[program.outputs[0]]


def _constant(value: Any) -> Any:
    for n, mark in enumerate(_MARKS):
        if np.allclose(float(value), mark, rtol=1e-6):
            return ("any", n)
    return float(value)


def _size(expression: Any) -> int:
    return 1 + sum(map(_size, expression[2])) if isinstance(expression, tuple) and len(expression) == 3 else 1
