"""Programs that a command compiles and runs: traced first, so that mistakes are said before any work, and compiled with the effort that pays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from jxai.tracing.equations import inside

QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
"""XLA's options for a program that is dear to compile and runs a few times."""
FEW = 20


def compiled(traced: Any, runs: int) -> Callable[..., Any]:
    """The program, compiled; on a CPU without optimisation where it has no loop and runs at most `FEW` times.

    A pass of a network is compiled in seconds and runs in hundredths of one: EfficientNet-Lite0's in 1.9 s and 0.02 s, or in 0.5 s and
    0.08 s without optimisation (of processor time). Only a loop over many passes, or a run for each of many images, earns the first.
    """
    return traced.lower().compile(None if is_worth(traced, runs) else QUICK)


def is_worth(traced: Any, runs: int) -> bool:
    """Whether to optimise a program pays."""
    return jax.default_backend() != "cpu" or loops(traced) or runs > FEW


def loops(traced: Any) -> bool:
    """Whether a traced function has a loop anywhere."""
    return any(eqn.primitive.name in ("scan", "while") for eqn in inside({"jaxpr": traced.jaxpr}))
