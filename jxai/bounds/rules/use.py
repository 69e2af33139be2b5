"""A step of a model as the rules see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jxai.bounds.rules.operations import Operation
from jxai.tracing.interpret import Step


@dataclasses.dataclass
class Use:
    """A step as a rule sees it.

    Attributes:
      step: the step; its output number `output` is wanted.
      operands: for each input of the primitive its constant value, or a `Perturbed`.
      shape, dtype: of the output.
      add: `(operation, inputs, shape) -> Perturbed`, makes a value that the step needs on its way.
    """

    step: Step
    operands: list[Any]
    shape: tuple[int, ...]
    dtype: Any
    output: int
    add: Callable[..., Perturbed]

    def param(self, name: str) -> Any:
        """A parameter of the primitive."""
        return self.step.param(name)

    @property
    def perturbed(self) -> list[int]:
        """Which operands depend on x."""
        return [n for n, v in enumerate(self.operands) if isinstance(v, Perturbed)]

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(v.reference for v in self.operands if isinstance(v, Perturbed))

    def error(self, why: str) -> ValueError:
        where = f" (in {self.step.scope})" if self.step.scope else ""
        return ValueError(f"bounds have no rule for the primitive {self.step.primitive!r}{where}: {why}")


@dataclasses.dataclass(frozen=True)
class Perturbed:
    """A value that depends on x: its reference, shape and type. partial: whether it may be no number (log of what is negative)."""

    reference: int
    shape: tuple[int, ...]
    dtype: Any = jnp.float32
    partial: bool = False

    @property
    def floating(self) -> bool:
        return jnp.issubdtype(self.dtype, jnp.floating)


Result = tuple[Operation, tuple[int, ...]]
