"""Differences walked through a program: what every value changes by between a baseline and x, and by whose doing.

A model is run at x and at a baseline. Then each step gets a linear map that carries its operands' changes to its own exactly: a linear step its own, any other
one of `secants` (`reveal` has another kind for nonlinearities that a linear step feeds). The maps chained are linear in the change of x and exact for the one
that there was: their transpose, from the score, gives each entry of x its multiplier, and the multipliers times the changes of x add up to the score's.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.extend.core as jex
import jax.numpy as jnp

from jxai.callables import transpose
from jxai.loops import switch
from jxai.relevance.reductions import corrected, extreme, reduced, running, softmax, whole
from jxai.relevance.secants import Use, changing, choice, clamped, elementwise, product, quotient, square
from jxai.tracing import equations, interpret
from jxai.tracing.interpret import Path, Program, Step
from jxai.tracing.linear import is_linear, moved, needed
from jxai.tracing.rectifiers import depending
from jxai.tracing.softmaxes import Softmax, softmaxes
from jxai.typing import Array, Scalar

Values = dict[int, Array]
"""Arrays by their references in a program."""

Special = Callable[["Walk", Step, Values], "list[Array | None] | None"]
"""`(walk, step, changes so far) -> changes of its outputs`, or None where the ordinary rule holds."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What of a program is to be walked.

    Attributes:
      program: everything laid open but for elementwise calls of one array. steps: those that the outputs need, in order.
      varies: references of what depends on x. start: the environment in which it begins, but for x.
      softmaxes: of the values that are one of another value. walked: the steps that changes are carried through, in order.
    """

    program: Program
    steps: list[Step]
    varies: set[int]
    start: Values
    softmaxes: dict[int, Softmax]

    @property
    def varying(self) -> list[Step]:
        return [step for step in self.steps if not self.varies.isdisjoint(step.outputs)]

    @functools.cached_property
    def walked(self) -> list[Step]:
        live, kept = set(self.program.outputs), []
        for step in reversed(self.varying):
            if not live.isdisjoint(step.outputs):
                found = self.softmaxes.get(step.outputs[0])
                live.update(step.inputs if found is None else (found.argument,))
                kept.append(step)
        return kept[::-1]


@dataclasses.dataclass(frozen=True)
class Walk:
    """A plan with its values at x and, of what depends on x, at the baseline."""

    plan: Plan
    values: Values
    bases: Values

    def use(self, step: Step, changes: Values) -> Use:
        """A step as the rules see it."""
        base = lambda r: self.bases.get(r, self.values[r])
        for r in step.inputs:
            if r in self.plan.varies and r not in changes:
                maker = Use(self.plan.program.makers[r], [], [], [], [], [])
                raise maker.error("a place is no number that could be shared out; explain what is found there")
        return Use(
            step,
            [self.values[r] for r in step.inputs],
            [base(r) for r in step.inputs],
            [changes.get(r) for r in step.inputs],
            [self.values[r] for r in step.outputs],
            [base(r) for r in step.outputs],
        )

    def linear(self, step: Step) -> bool:
        return is_linear(step, [r in self.plan.varies for r in step.inputs], self.plan.program)

    def softmax(self, found: Softmax, changes: Values) -> Array:
        p, v = found.value, found.argument
        change = softmax(self.values[p], self.bases[p], self.values[v], self.bases[v], found.axes, changes[v])
        return change.astype(self.values[p].dtype)

    def carry(self, changes: Values, special: Special | None = None) -> Values:
        """The changes of all values as linear functions of those of the inputs that vary."""
        changes = dict(changes)
        for step in self.plan.walked:
            if step.outputs[0] in self.plan.softmaxes:
                outputs: list[Array | None] | None = [self.softmax(self.plan.softmaxes[step.outputs[0]], changes)]
            else:
                outputs = special(self, step, changes) if special is not None else None
            if outputs is None:
                outputs = _outputs(self.use(step, changes), self.linear(step))
            changes.update((r, output) for r, output in zip(step.outputs, outputs) if output is not None)
        return changes


def plan(s: Scalar, x: Array) -> Plan:
    """Reads a function of x."""
    traced = interpret.trace(s, x)
    program = interpret.flatten(traced, _opened)
    found = _planned(program, dict(zip(program.inputs[:-1], traced.weights)), {program.inputs[-1]})
    return dataclasses.replace(found, softmaxes={one.value: one for one in softmaxes(program) if _is_of_its_argument(one, found)})


def at(plan: Plan, x: Array) -> Values:
    """The values of a plan's steps at x."""
    return interpret.run(plan.program, {**plan.start, plan.program.inputs[-1]: x}, plan.steps, _plainly)


def against(plan: Plan, values: Values, base: Array) -> Walk:
    """The walk between a baseline and an x whose values are known: only what depends on x runs again."""
    fixed = {r: v for r, v in values.items() if r not in plan.varies}
    bases = interpret.run(plan.program, {**fixed, plan.program.inputs[-1]: base}, plan.varying, _plainly)
    return Walk(plan, values, {r: v for r, v in bases.items() if r in plan.varies})


def multipliers(walk: Walk, special: Special | None = None) -> Array:
    """`m` with `Σ m ⊙ (x − baseline) = s(x) − s(baseline)`, of x's shape and type."""
    x, (out,) = walk.values[walk.plan.program.inputs[-1]], walk.plan.program.outputs
    if out not in walk.plan.varies:
        return jnp.zeros_like(x)
    linear = lambda change: walk.carry({walk.plan.program.inputs[-1]: change}, special)[out]
    return transpose(linear, jax.ShapeDtypeStruct(x.shape, x.dtype), jnp.ones_like(walk.values[out]))


def _plainly(step: Step, outputs: list[Array], values: Values) -> list[Array]:
    """What a step gives; of one that stops derivatives the number itself, which multipliers depend on."""
    return [values[step.inputs[0]]] if step.primitive == "stop_gradient" and not step.called else outputs


def _planned(program: Program, start: Values, varying: set[int]) -> Plan:
    return Plan(program, needed(program), depending(program, varying), start, {})


def _is_of_its_argument(found: Softmax, plan: Plan) -> bool:
    """Whether no mask that depends on x is in a softmax."""
    inside = {found.argument} | {r for step in found.steps for r in step.outputs}
    read = {r for step in found.steps for r in step.inputs if r in plan.varies and r not in inside}
    return all(jnp.issubdtype(plan.program.avals[r].dtype, jnp.inexact) for r in read)


def _opened(eqn: jex.JaxprEqn, path: Path) -> bool:
    """All but an elementwise call of one array and numbers, which is one nonlinearity with the derivative that its author gave it."""
    return interpret.everywhere(eqn, path) or sum(not isinstance(v, jex.Literal) for v in eqn.invars) > 1


def _advised(why: str) -> Callable[[Use], list[Array]]:
    def rule(use: Use) -> list[Array]:
        raise use.error(why)

    return rule


def _outputs(use: Use, linear: bool) -> list[Array | None]:
    if linear:
        return moved(use.step, use.values, use.changes, [changing(v) for v in use.outputs])
    if use.step.primitive == "cond" and not use.step.called:
        return _branches(use)
    rule = None if use.step.called else _RULES.get(use.step.primitive)
    if rule is None and not use.step.unit and use.step.primitive not in equations.ELEMENTWISE:
        raise use.error("write that part of the model in others, or explain it by composing f with a function that has none")
    return (rule or elementwise)(use)


def _branches(use: Use) -> list[Array]:
    """A `cond` or `switch`: of a choice that is the same at both points the branch that is taken is walked, of one that depends on x both are."""
    branches, given = use.step.param("branches"), (use.values[1:], use.bases[1:], [change for change in use.changes[1:] if change is not None])
    varies = [change is not None for change in use.changes[1:]]

    def walked(branch: jex.ClosedJaxpr, values: list[Array], bases: list[Array], changes: list[Array]) -> tuple[list[Array], ...]:
        """A branch's results at x and at the baseline, and their changes."""
        program = interpret.laid_open(branch)
        inputs = [r for r, one in zip(program.inputs, varies) if one]
        inner = _planned(program, {}, set(inputs))
        known, based = (interpret.run(program, dict(zip(program.inputs, vs)), inner.steps, _plainly) for vs in (values, bases))
        found = Walk(inner, known, based).carry(dict(zip(inputs, changes)))
        at = program.outputs
        return [known[r] for r in at], [based[r] for r in at], [found.get(r, jnp.zeros_like(changing(v))) for r, v in zip(at, use.outputs)]

    if use.changes[0] is None:
        return list(switch(use.values[0], [lambda *given, one=one: walked(one, *given)[2] for one in branches], *given))
    if len(branches) > 2:
        raise use.error("it chooses among more than two by a number that depends on x; choose among two at a time")
    first, second = (walked(one, *given) for one in branches)
    which, before = (jnp.clip(index[0], 0, 1).astype(bool) for index in (use.values, use.bases))
    chosen = zip(zip(*first), zip(*second), use.outputs, use.before)
    return [choice(Use(use.step, [which, a[0], b[0]], [before, a[1], b[1]], [use.changes[0], a[2], b[2]], [y], [y0]))[0] for a, b, y, y0 in chosen]


_RULES: dict[str, Callable[[Use], list[Array]]] = {
    **dict.fromkeys("mul dot_general conv_general_dilated conv2d conv2d_transpose conv2d_kernel_gradient".split(), product),
    "div": quotient,
    **dict.fromkeys(("square", "integer_pow"), square),
    "select_n": choice,
    **dict.fromkeys("max reduce_max reduce_window_max cummax".split(), extreme(1)),
    **dict.fromkeys("min reduce_min reduce_window_min cummin".split(), extreme(-1)),
    **dict.fromkeys("reduce_prod reduce_and reduce_or".split(), corrected(reduced)),
    **dict.fromkeys("cumprod cumlogsumexp".split(), corrected(running)),
    "sort": corrected(whole("dimension")),
    "top_k": corrected(whole("axis")),
    "clamp": clamped,
    **dict.fromkeys(("gather", "dynamic_slice", "dynamic_update_slice", "scatter", "scatter-add"), _advised("where it reads or writes depends on x")),
    **dict.fromkeys(("argmax", "argmin"), _advised("a place is no number that could be shared out; explain what is found there")),
    "while": _advised("how often it runs depends on x; let a scan or fori_loop of a fixed length freeze what is done by jnp.where"),
}
