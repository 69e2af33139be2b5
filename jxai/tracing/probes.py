"""Whether a chain of elementwise steps is a rectifier, by its values and its slopes at a few numbers.

A rectifier is a function φ of one number that keeps what is positive and lessens what is negative: φ(0) is small against φ(20) ≤ 25, φ(−20) smaller, and it
rises less before −0.9 than before 0.9, where it does rise. ReLU, ReLU6, leaky ReLU and PReLU, ELU, SELU, GELU, SiLU, softplus, hard swish … are; sigmoids, tanh and
exponentials (by their values), clamps far from 0, thresholds and casts (by their slopes) are not. What is learnt of one, such as a slope for each channel,
is taken for 0.25: whether it rectifies must not hang on weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jxai.tracing import equations
from jxai.tracing.interpret import Program, Step
from jxai.typing import Array

_POINTS = (-20.0, -0.95, -0.85, 0.0, 0.25, 0.35, 0.85, 0.95, 16.0, 20.0)
_MOST = 25.0
_LEARNT = 0.25
_SHAPED = frozenset(("broadcast_in_dim", "pvary", "reshape"))


class Chain:
    """Steps of a program from one value to another, as a function of one number."""

    def __init__(self, program: Program, steps: Sequence[Step], argument: int, value: int) -> None:
        self.program, self.steps, self.argument, self.value = program, steps, argument, value
        self.dtype = program.avals[argument].dtype

    def signature(self) -> tuple:
        """What tells it from chains that compute another function."""
        names = {self.argument: 0}
        for step in self.steps:
            names.update((r, len(names)) for r in step.outputs)
        told = []
        for step in self.steps:
            told.append((equations.spelled(step), tuple(names.get(r, self._fixed(r)) for r in step.inputs)))
        return str(self.dtype), tuple(told)

    def rectifies(self) -> bool:
        """Whether it is a rectifier."""
        at = self.sampled()
        if at is None:
            return False
        low, *left, zero = at[:4]
        right, high = at[4:8], at[9]
        under, nearer, over = left[1] - left[0], right[1] - right[0], right[3] - right[2]
        values = 0 < high <= _MOST and abs(zero) <= high / 4 and abs(low) <= 0.8 * high
        # Of two places, since a threshold may be at one.
        return bool(values and min(nearer, over) > 0 and abs(under) <= 0.8 * over)

    def is_bounded(self) -> bool:
        """Whether it is flat far above 0."""
        at = self.sampled()
        return at is not None and at[8] == at[9]

    def lowest(self) -> float:
        """Its value at −20."""
        at = self.sampled()
        return float("nan") if at is None else float(at[0])

    def sampled(self) -> np.ndarray | None:
        """Its values at `_POINTS`; None where it cannot be computed of single numbers, or some are not finite."""
        if not jnp.issubdtype(self.dtype, jnp.floating) or not jnp.issubdtype(self.program.avals[self.value].dtype, jnp.floating):
            return None
        try:
            with jax.ensure_compile_time_eval():
                found = np.asarray(self._call(jnp.asarray(np.asarray(_POINTS), self.dtype)), np.float64)
        except _NotOfNumbersError:
            return None
        return found if np.isfinite(found).all() else None

    def _call(self, v: Array) -> Array:
        values = {self.argument: v}
        for step in self.steps:
            given = [values[r] if r in values else self._number(r) for r in step.inputs]
            values.update(zip(step.outputs, _of_numbers(step.run, step.params, given)))
        return values[self.value]

    def _fixed(self, r: int) -> Any:
        """A number that is written down, or None."""
        constant = self.program.constants.get(r)
        known = constant is not None and not isinstance(constant, jax.core.Tracer) and np.ndim(constant) == 0
        return float(constant) if known else None

    def _number(self, r: int) -> Array:
        known, dtype = self._fixed(r), self.program.avals[r].dtype
        if known is None and not jnp.issubdtype(dtype, jnp.floating):
            raise _NotOfNumbersError
        return jnp.full(len(_POINTS), _LEARNT if known is None else known, dtype)


class _NotOfNumbersError(Exception):
    """The steps cannot be run on single numbers."""


def _of_numbers(run: Callable[[list[Array]], list[Array]], params: dict[str, Any], given: list[Array]) -> list[Array]:
    """An elementwise step on so many numbers, calls laid open: what they hold is made for arrays of the step's shape."""
    inner = list(jex.jaxprs_in_params(params))
    if not inner:
        return run(given)
    jaxpr = inner[0]
    if len(jaxpr.invars) != len(given) or jaxpr.constvars:
        raise _NotOfNumbersError
    values: dict[Any, Array] = dict(zip(jaxpr.invars, given))
    read = lambda v: jnp.full(len(_POINTS), v.val, v.aval.dtype) if isinstance(v, jex.Literal) else values[v]
    for eqn in jaxpr.eqns:
        operands = [read(v) for v in eqn.invars]
        if eqn.primitive.name in _SHAPED:
            outputs = operands[:1]
        else:
            outputs = _of_numbers(partial(equations.bind, eqn), eqn.params, operands)
        values.update(zip(eqn.outvars, outputs))
    return [read(v) for v in jaxpr.outvars]
