"""Programs and parts of them at numbers: every value of a forward pass, a part as a function, an operand as wide as what it makes."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from jxai.callables import is_array
from jxai.relevance.chains import ROUNDED, Values
from jxai.relevance.parts import Part
from jxai.scores import wide
from jxai.tracing import interpret
from jxai.tracing.interpret import Step
from jxai.typing import Array


def evaluated(program: interpret.Program, values: dict[int, Array], steps: list[Step] | None = None) -> dict[int, Array]:
    """Every value of a program, numbers in the code as arrays of their types, from those of its inputs."""
    numbers = {r: jnp.asarray(c, program.avals[r].dtype) for r, c in program.constants.items() if not is_array(c)}
    return interpret.run(program, {**numbers, **values}, steps)


def spread(part: Part, values: Values, known: dict[int, Array], r: int) -> Array:
    """An operand at the shape of what the part gives."""
    return jnp.broadcast_to(wide(known[r]), values.shape(part.outputs[0]))


def function(part: Part, known: dict[int, Array]) -> Callable[..., Array]:
    """A part as a function of its inputs, in float32 or wider."""
    inside = {r for step in part.steps for r in step.outputs} | set(part.inputs)

    def run(*given: Array) -> Array:
        at = dict(zip(part.inputs, given))
        for step in part.steps:
            at.update(zip(step.outputs, _widened(step, [at[r] if r in at else known[r] for r in step.inputs])))
        return at[part.outputs[0]]

    assert part.outputs[0] in inside
    return run


def _widened(step: Step, values: list[Array]) -> list[Array]:
    """A step at values of float32 or wider: what it rounds is not rounded."""
    if step.primitive in ROUNDED and jnp.issubdtype(values[0].dtype, jnp.floating):
        return values[:1]
    return step.run([wide(v) if jnp.issubdtype(v.dtype, jnp.floating) else v for v in values])
