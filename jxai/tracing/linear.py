"""Which steps of a program are linear in what depends on x, and what they make of changes of it; which steps an output needs at all.

A step is linear where its output moves by `L Δ` if those of its operands that depend on x move by Δ, whatever they are: sums and moves of any of them,
products with what is held fixed. Additive constants have no part in `L`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jxai.tracing.interpret import Program, Step
from jxai.typing import Array

SAME = frozenset("copy convert_element_type reduce_precision stop_gradient sharding_constraint optimization_barrier device_put pvary".split())
"""The number itself, however it is rounded or kept."""
MOVES = frozenset("reshape transpose broadcast_in_dim squeeze rev slice concatenate pad split stack unstack tile scan_slice scan_stack".split())
"""Every entry of an output is an entry of an operand."""
SUMS = frozenset("add add_any sub neg reduce_sum cumsum reduce_window_sum real imag complex conj fft".split())
PICKS = frozenset("gather dynamic_slice dynamic_update_slice scatter scatter-add".split())
"""Moves and sums of some operands at the places that others say, which are fixed."""
PRODUCTS = frozenset("mul dot_general conv_general_dilated conv2d conv2d_transpose conv2d_kernel_gradient".split())
"""Bilinear: linear in either operand while the other is fixed."""

_PLACES = {"gather": (1,), "scatter": (1,), "scatter-add": (1,)}
_FROM = {"dynamic_slice": 1, "dynamic_update_slice": 2}


def is_linear(step: Step, varies: Sequence[bool], program: Program) -> bool:
    """Whether a step is linear in those of its operands that depend on x; varies: of each operand, whether it does."""
    name = step.primitive
    if step.called:
        return False
    if name == "convert_element_type":
        old, new = (program.avals[r].dtype for r in (step.inputs[0], step.outputs[0]))
        return jnp.issubdtype(new, jnp.inexact) or not (jnp.issubdtype(old, jnp.inexact) or jnp.issubdtype(new, jnp.bool_))
    if name in SAME or name in MOVES or name in SUMS:
        return True
    if name in PRODUCTS:
        return sum(varies) == 1
    if name == "div":
        return not varies[1] and jnp.issubdtype(program.avals[step.outputs[0]].dtype, jnp.inexact)
    if name == "select_n":
        return not varies[0]
    if name in PICKS:
        places = _PLACES.get(name, range(_FROM.get(name, len(varies)), len(varies)))
        return not any(varies[n] for n in places)
    return False


def moved(step: Step, values: Sequence[Array], changes: Sequence[Array | None], likes: Sequence[Any]) -> list[Array]:
    """What a linear step makes of changes of its operands.

    Args:
      values: of its operands. changes: of those that depend on x, of their shapes, floating point whatever the values' types; None of the others.
      likes: arrays or types that the changes of the outputs have the types of.
    """
    name = step.primitive
    if name in SAME:
        return [jnp.zeros(like.shape, like.dtype) if change is None else change.astype(like.dtype) for change, like in zip(changes, likes)]
    kind = jnp.result_type(*(change for change in changes if change is not None))
    places = _PLACES.get(name, range(_FROM.get(name, len(values)), len(values)))
    at = [n for n, change in enumerate(changes) if change is not None]
    if name in PICKS:
        fixed = [v if n in places else jnp.asarray(v, kind) for n, v in enumerate(values)]
        run = lambda *varying: step.run([varying[at.index(n)] if n in at else v for n, v in enumerate(fixed)])
        outputs = jax.jvp(run, [fixed[n] for n in at], [changes[n].astype(kind) for n in at])[1]
    else:
        factors = name in PRODUCTS or name == "div"
        held = [jnp.asarray(v, kind) if factors else v if name == "select_n" and n == 0 else jnp.zeros(jnp.shape(v), kind) for n, v in enumerate(values)]
        outputs = step.run([h if change is None else change.astype(kind) for h, change in zip(held, changes)])
    return [output.astype(like.dtype) for output, like in zip(outputs, likes)]


def needed(program: Program, ends: Iterable[int] | None = None) -> list[Step]:
    """The steps that the outputs (or these values) follow from, in order."""
    live, kept = set(program.outputs if ends is None else ends), []
    for step in reversed(program.steps):
        if not live.isdisjoint(step.outputs):
            live.update(step.inputs)
            kept.append(step)
    return kept[::-1]
