"""Finds the rectifiers of a traced function, however they are spelled, and re-runs it with another backward rule for them.

A rectifier is a function φ of one value, entry by entry, with φ(−20) and φ(0) small against φ(20) ≤ 25: ReLU, ReLU6, leaky
ReLU, ELU, GELU, SiLU, softplus, hard swish …, as one call, as `maximum(x, 0)`, or written out in arithmetic. Sigmoids
and tanh are not (φ(0) or φ(−20) is not small), nor are exponentials. A clamp before a root or a logarithm guards it
against rounding and is not one either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jxai.tracing import equations, interpret
from jxai.tracing.interpret import Program, Step
from jxai.typing import Array, Model

_KNOWN = {"relu", "relu6", "leaky_relu", "elu", "celu", "selu", "gelu", "silu", "swish", "mish", "softplus", "hard_silu", "hard_swish"}
_GUARDED = {"sqrt", "rsqrt", "log", "pow"}
_PROBES = (-20.0, 0.0, 20.0)

Rule = Callable[[Callable[[Array], Array], Array, Array], Array]
"""`rule(φ, v, g) -> cotangent of v`, given the rectifier, its argument and the cotangent g of its value."""


@dataclasses.dataclass(frozen=True)
class Rectifier:
    """The steps that compute it, from one value to another; references are those of the program it was found in."""

    steps: tuple[Step, ...]
    argument: int
    value: int


def with_rule(f: Model, x: Array, rule: Rule) -> Callable[[Array], Array]:
    """f as a function of x alone whose rectifiers pass cotangents back by `rule`; everything else is differentiated as it stands.

    Raises:
      ValueError: f has no rectifier, or one lies inside a `while_loop` or a `cond`, where no rule can reach it.
    """
    traced = interpret.trace(f, x)
    listing = interpret.flatten(traced, interpret.everywhere)
    for step in listing.steps:
        if step.primitive in ("while", "cond") and _holds_rectifier(step):
            raise ValueError(f"f has a rectifier inside a {step.primitive}, out of the rule's reach; write it as a scan or an unrolled loop")
    paths = [tuple(step.path for step in found.steps) for found in rectifiers(listing)]
    if not paths:
        raise ValueError("f has no ReLU or other rectifier that a backward rule could change")
    program = interpret.flatten(traced, interpret.around(*(path for group in paths for path in group)))
    here = {step.path: step for step in program.steps}
    ends = {}
    for group in paths:
        steps = tuple(here[path] for path in group)
        inside = {r for step in steps for r in step.outputs}
        argument = next(r for r in steps[0].inputs if r not in program.constants and r not in inside)
        ends[group[-1]] = _ruled(program, Rectifier(steps, argument, steps[-1].outputs[0]), rule)

    def edit(step: Step, outputs: list[Array], values: dict[int, Array]) -> list[Array]:
        if step.path not in ends:
            return outputs
        function, argument = ends[step.path]
        return [function(values[argument])]

    def ruled(v: Array) -> Array:
        values = interpret.run(program, interpret.start(program, traced, v), edit=edit)
        return jax.tree.unflatten(traced.out_tree, [values[r] for r in program.outputs])

    return ruled


def rectifiers(program: Program) -> list[Rectifier]:
    """The rectifiers of a program (one laid open `everywhere`), in order."""
    depends = {program.inputs[-1]}
    region: dict[int, tuple[int, tuple[Step, ...]]] = {}  # value -> the value it is a function of, and by which steps
    found = []
    for step in program.steps:
        varying = {r for r in step.inputs if r in depends}
        if not varying or not step.outputs:
            continue
        depends.update(step.outputs)
        grown = _grow(program, step, varying, region)
        if grown is None:
            continue
        if step.primitive in _KNOWN or _rectifies(program, *grown, step.outputs[0]):
            if not _guards(program, step.outputs[0]):
                found.append(Rectifier(grown[1], grown[0], step.outputs[0]))
        else:
            region[step.outputs[0]] = grown
    return found


def _grow(program: Program, step: Step, varying: set[int], region: dict) -> tuple[int, tuple[Step, ...]] | None:
    """The step as the end of a function of one value, if it is one: elementwise, all else scalar constants."""
    out = program.avals[step.outputs[0]]
    fixed = [r for r in step.inputs if r not in varying]
    if not step.unit or any(r not in program.constants or np.ndim(program.constants[r]) for r in fixed):
        return None
    roots = {region[r][0] if r in region else r for r in varying}
    if len(roots) > 1:
        # x · σ(x): one argument is the root of the others.
        roots = {r for r in roots if r not in region} or roots
    root = next(iter(roots))
    if len(roots) > 1 or program.avals[root].shape != out.shape:
        return None
    steps = {s.path: s for r in varying if r in region for s in region[r][1]}
    return root, (*sorted(steps.values(), key=lambda s: program.steps.index(s)), step)


def _rectifies(program: Program, root: int, steps: tuple[Step, ...], value: int) -> bool:
    aval = program.avals[root]
    if not jnp.issubdtype(program.avals[value].dtype, jnp.floating) or not jnp.issubdtype(aval.dtype, jnp.floating):
        return False
    with jax.ensure_compile_time_eval():
        low, zero, high = (float(_apply(program, steps, root, value, jnp.full(aval.shape, p, aval.dtype)).reshape(-1)[0]) for p in _PROBES)
    return 0 < high <= 25 and abs(low) <= high / 4 and abs(zero) <= high / 4


def _guards(program: Program, value: int) -> bool:
    """Whether the value goes, by elementwise steps, into a root or a logarithm."""
    follows = {value}
    for step in program.steps:
        if follows.isdisjoint(step.inputs):
            continue
        if step.primitive in _GUARDED:
            return True
        others = [r for r in step.inputs if r not in follows]
        plain = step.unit or step.primitive in ("broadcast_in_dim", "reshape")
        if plain and all(r in program.constants and not np.ndim(program.constants[r]) for r in others):
            follows.update(step.outputs)
    return False


def _apply(program: Program, steps: tuple[Step, ...], argument: int, value: int, v: Array) -> Array:
    constants = {r: program.constants[r] for step in steps for r in step.inputs if r in program.constants}
    values = {**constants, argument: v}
    for step in steps:
        values.update(zip(step.outputs, step.run([values[r] for r in step.inputs])))
    return values[value]


def _ruled(program: Program, found: Rectifier, rule: Rule) -> tuple[Callable[[Array], Array], int]:
    def phi(v: Array) -> Array:
        return _apply(program, found.steps, found.argument, found.value, v)

    ruled = jax.custom_vjp(phi)
    ruled.defvjp(lambda v: (phi(v), v), lambda v, g: (rule(phi, v, g),))
    return ruled, found.argument


def _holds_rectifier(step: Step) -> bool:
    """Whether a loop or conditional has a known rectifier somewhere inside."""
    return any(equations.called(eqn) in _KNOWN for eqn in equations.inside(step.params))
