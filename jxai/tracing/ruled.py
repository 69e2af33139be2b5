"""Re-runs a traced function with another backward rule for its rectifiers."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.extend.core as jex

from jxai.loops import switch
from jxai.tracing import equations, interpret
from jxai.tracing.interpret import Path, Program, Step, Traced
from jxai.tracing.rectifiers import KNOWN, Rectifier, depending, rectifiers
from jxai.typing import Array, Model

Rule = Callable[[Callable[[Array], Array], Array, Array], Array]
"""`rule(φ, v, g) -> cotangent of v`, given the rectifier, its argument and the cotangent g of its value."""

Edit = Callable[[dict[int, Array]], list[Array]]
"""What a step's outputs become, of the values so far."""


def with_rule(f: Model, x: Array, rule: Rule) -> Callable[[Array], Array]:
    """f as a function of x alone whose rectifiers pass cotangents back by `rule`; everything else is differentiated as it stands.

    Those in the branches of a `cond` or a `switch` are ruled in each branch.

    Raises:
      ValueError: f has no rectifier, or one lies inside a `while_loop`, where no rule can reach it.
    """
    traced = interpret.trace(f, x)
    run = _ruled(traced.closed, {len(traced.weights)}, rule)
    if run is None:
        raise ValueError("f has no ReLU or other rectifier that a backward rule could change")
    return lambda v: jax.tree.unflatten(traced.out_tree, run(*traced.weights, v))


def _ruled(closed: jex.ClosedJaxpr, places: set[int], rule: Rule) -> Callable[..., list[Array]] | None:
    """What a jaxpr computes of its inputs, with the rule for the rectifiers of what depends on the inputs at these places; None where there are none."""
    traced = Traced(closed, [], [], None)
    listing = interpret.flatten(traced, interpret.everywhere)
    start = {listing.inputs[n] for n in places}
    depends = depending(listing, start)
    branches: dict[Path, list[Callable[..., list[Array]]]] = {}
    for step in listing.steps:
        if step.primitive == "while" and not depends.isdisjoint(step.inputs) and _holds_rectifier(step):
            raise ValueError("f has a rectifier inside a while, out of the rule's reach; write it as a scan or an unrolled loop")
        if step.primitive == "cond" and (chosen := _branches(step, depends, rule)):
            branches[step.path] = chosen
    found = rectifiers(listing, start)
    if not found and not branches:
        return None
    paths = [*branches, *(step.path for one in found for step in one.steps)]
    program = interpret.flatten(traced, interpret.around(*paths))
    here = {step.path: step for step in program.steps}
    ends = {path: _switched(here[path], chosen) for path, chosen in branches.items()}
    ends |= {one.steps[-1].path: _edited(one, here, program, rule) for one in found}

    def edit(step: Step, outputs: list[Array], values: dict[int, Array]) -> list[Array]:
        return ends[step.path](values) if step.path in ends else outputs

    def run(*inputs: Array) -> list[Array]:
        values = interpret.run(program, dict(zip(program.inputs, inputs)), edit=edit)
        return [values[r] for r in program.outputs]

    return run


def _edited(found: Rectifier, here: dict[Path, Step], program: Program, rule: Rule) -> Edit:
    """The rectifier with its rule, in the program `here`, where its steps have other references than in the one that it was found in."""
    steps = [here[step.path] for step in found.steps]
    same = {old: new for a, b in zip(found.steps, steps) for old, new in zip((*a.inputs, *a.outputs), (*b.inputs, *b.outputs))}
    argument, value = same[found.argument], same[found.value]
    inside = {r for step in steps for r in step.outputs}
    given = {r for step in steps for r in step.inputs} - inside - {argument}
    # What is learnt is an operand with a derivative of its own; a bound that is written down has none (JAX has no derivative of `clamp` by a scalar).
    written = {r: program.constants[r] for r in given if r in program.constants}
    fixed = sorted(given - set(written))

    def phi(v: Array, *others: Array) -> Array:
        values = {**written, argument: v, **dict(zip(fixed, others))}
        for step in steps:
            values.update(zip(step.outputs, step.run([values[r] for r in step.inputs])))
        return values[value]

    ruled = jax.custom_vjp(phi)

    def backward(saved: tuple[Array, ...], g: Array) -> tuple[Array, ...]:
        v, *others = saved
        plain = jax.vjp(phi, v, *others)[1](g)
        return rule(lambda u: phi(u, *others), v, g), *plain[1:]

    ruled.defvjp(lambda *given: (phi(*given), given), backward)
    return lambda values: [ruled(values[argument], *(values[r] for r in fixed))]


def _branches(step: Step, depends: set[int], rule: Rule) -> list[Callable[..., list[Array]]] | None:
    """The branches of a conditional with their rectifiers ruled; None where no branch has one."""
    places = {n for n, r in enumerate(step.inputs[1:]) if r in depends}
    closed = step.param("branches")
    ruled = [_ruled(branch, places, rule) for branch in closed] if places else []
    if not any(ruled):
        return None
    return [run or jex.jaxpr_as_fun(branch) for run, branch in zip(ruled, closed)]


def _switched(step: Step, branches: list[Callable[..., list[Array]]]) -> Edit:
    def chosen(values: dict[int, Array]) -> list[Array]:
        index, *operands = (values[r] for r in step.inputs)
        return list(switch(index, [lambda *given, run=run: tuple(run(*given)) for run in branches], *operands))

    return chosen


def _holds_rectifier(step: Step) -> bool:
    """Whether a loop has a rectifier somewhere inside."""
    for jaxpr in jex.jaxprs_in_params(step.params):
        if any(equations.called(eqn) in KNOWN for eqn in equations.inside({"body": jaxpr})):
            return True
        program = interpret.flatten(Traced(jex.ClosedJaxpr(jaxpr, ()), [], [], None), interpret.everywhere) if not jaxpr.constvars else None
        if program is not None and rectifiers(program, set(program.inputs)):
            return True
    return False
