"""How each kind of part passes relevance from its outputs to its inputs, at the values of a forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.relevance import products
from jxai.relevance.chains import Values
from jxai.relevance.composites import Composite, Rule, with_options
from jxai.relevance.evaluating import evaluated, function, spread
from jxai.relevance.linear import bilinear, folded
from jxai.relevance.parts import Part, Parts
from jxai.relevance.rules import first_extreme, greater, shares
from jxai.scores import wide
from jxai.typing import Array

Found = tuple[list[tuple[int, Array]], Array]
"""Relevance of values, by reference, and what was absorbed."""


class Setting(NamedTuple):
    """What the rules of a call share.

    Attributes:
      composite: rules by kind. options: of the call (`epsilon`, `gamma`, `low`, `high`). bias: `"absorb"` or `"ignore"`. values: what is known of the program.
      box: the values that x's lower and upper bounds make of every value that is x moved, scaled and shifted; None without a z-box.
    """

    composite: Composite
    options: Mapping[str, Any]
    bias: str
    values: Values
    box: tuple[dict[int, Array], dict[int, Array]] | None


def rule_of(part: Part, composite: Composite) -> Rule | None:
    """The rule that a composite has for a part; None where there is one way only."""
    if part.first and composite.first is not None:
        return composite.first
    if part.kind == "shift":
        return composite.sum
    return getattr(composite, part.kind, None)


def passed(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    """Relevance of a part's outputs, handed on to its inputs."""
    if part.kind in ("convolution", "dense"):
        return _linear(part, setting, known, relevance[0])
    return _PASSING[part.kind](part, setting, known, relevance)


def _linear(part: Part, setting: Setting, known: dict[int, Array], relevance: Array) -> Found:
    values = setting.values
    at = folded(part, values, known, setting.bias)
    options = dict(setting.options)
    data = values.data(at.step)[0]
    options["nonnegative"] = not part.before and values.nonnegative(data)
    if part.first and setting.box is not None:
        low, high = (wide(side[data]) - (0 if at.shift is None else at.shift) for side in setting.box)
        options["low"], options["high"] = jnp.minimum(low, high), jnp.maximum(low, high)
    rule = with_options(rule_of(part, setting.composite), options)
    found = shares(rule)(at.apply, at.w, at.bias, at.x, relevance)
    to_constants = jnp.zeros(()) if at.reached is None else jnp.where(at.reached, 0, found.inputs).sum()
    return [(part.inputs[0], at.back(found.inputs))], found.absorbed + to_constants


def _summed(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    """Sums of entries, sums of values, and a value less its own mean."""
    step, data = part.step, part.inputs
    if len(part.steps) > 1:
        rule = with_options(rule_of(part, setting.composite), setting.options)
        found = shares(rule)(*_less_mean(part, known), None, wide(known[data[0]]), relevance[0])
        return [(data[0], found.inputs)], found.absorbed
    bias = None
    if step.primitive in ("add", "sub"):
        signs = [1, -1 if step.primitive == "sub" else 1]
        terms = tuple(sign * spread(part, setting.values, known, r) for sign, r in zip(signs, data))
        apply: Callable[[Any, Any], Array] = lambda w, v: w * (v[0] + v[1])
    else:
        run, terms = function(part, known), tuple(wide(known[r]) for r in data)
        constant = part.kind == "sum" and any(setting.values.is_float(r) and r not in data for r in step.inputs)
        given = run(*map(jnp.zeros_like, terms)) if constant else 0
        bias = given if constant and setting.bias == "absorb" else None
        apply = lambda w, v: w * (run(*v) - given)
    if len(data) == 1:
        (terms,), several = terms, apply
        apply = lambda w, v: several(w, (v,))
    rule = with_options(rule_of(part, setting.composite), setting.options)
    found = shares(rule)(apply, jnp.ones(()), bias, terms, relevance[0])
    return list(zip(data, found.inputs if len(data) > 1 else (found.inputs,))), found.absorbed


def _less_mean(part: Part, known: dict[int, Array]) -> tuple[Callable[[Any, Any], Array], tuple[Array, Array]]:
    """A value less its own mean with two weights of opposite sign, of itself and of the mean, so that rules may tell what pulls up from what pulls down."""
    (r,), run, like = part.inputs, function(part, known), wide(known[part.inputs[0]])
    own = -1.0 if part.step.primitive == "sub" and part.step.inputs[1] == r else 1.0
    rest = lambda v: run(v) - own * v
    sign = jnp.where(rest(jnp.ones_like(like)) < 0, -1.0, 1.0)
    return lambda w, v: w[0] * v + w[1] * sign * rest(v), (jnp.asarray(own), sign)


def _shifted(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    scaled = setting.values.scaled(part.outputs[0])
    assert scaled is not None and scaled.shift is not None
    shift = scaled.shift_sign * wide(known[scaled.shift]) if setting.bias == "absorb" else None
    rule = with_options(rule_of(part, setting.composite), setting.options)
    x = scaled.sign * spread(part, setting.values, known, scaled.argument)
    found = shares(rule)(lambda w, v: w * v, jnp.ones(()), shift, x, relevance[0])
    return [(part.inputs[0], found.inputs)], found.absorbed


def _scaled(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    """Through a constant factor unchanged, but where it is 0: nothing came from there."""
    scaled = setting.values.scaled(part.outputs[0])
    if scaled is None or scaled.factor is None:
        return [(part.inputs[0], relevance[0])], jnp.zeros(())
    lost = jnp.where(known[scaled.factor] == 0, relevance[0], 0)
    return [(part.inputs[0], relevance[0] - lost)], lost.sum()


def _unchanged(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    return [(part.inputs[0], relevance[0])], jnp.zeros(())


def _activated(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    run = function(part, known)
    rule = with_options(setting.composite.activation, setting.options)
    found = shares(rule)(lambda w, v: w * run(v), jnp.ones(()), None, spread(part, setting.values, known, part.inputs[0]), relevance[0])
    return [(part.inputs[0], found.inputs)], found.absorbed


def _pooled(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    """To what is greatest; where that is held constant it is absorbed."""
    step, name = part.step, part.step.primitive
    sign = -1 if name.endswith("min") else 1
    terms = tuple(spread(part, setting.values, known, r) if name in ("max", "min") else wide(known[r]) for r in step.inputs)
    if name in ("max", "min"):
        apply = lambda w, v: w * greater(v[0], v[1], sign)
    elif name.startswith("reduce_window"):
        apply = lambda w, v: w * step.run([v[0]])[0]
    else:
        apply = lambda w, v: w * first_extreme(v[0], step.param("axes"), sign)
    rule = with_options(setting.composite.max_pooling, setting.options)
    if len(terms) == 1:
        found = shares(rule)(lambda w, v: apply(w, (v,)), jnp.ones(()), None, terms[0], relevance[0])
        return [(part.inputs[0], found.inputs)], found.absorbed
    found = shares(rule)(apply, jnp.ones(()), None, terms, relevance[0])
    absorbed = found.absorbed + sum((g.sum() for r, g in zip(step.inputs, found.inputs) if r not in part.inputs), jnp.zeros(()))
    return [(r, g) for r, g in zip(step.inputs, found.inputs) if r in part.inputs], absorbed


def _moved(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    """Every entry's relevance to where it came from; what came from a constant, or from what is held constant, is absorbed."""
    step, values = part.step, setting.values
    floats = [n for n, r in enumerate(step.inputs) if values.is_float(r)]
    places = [n for n, r in enumerate(step.outputs) if values.is_float(r)]

    def run(*given: Array) -> list[Array]:
        operands = [known[r] for r in step.inputs]
        for n, v in zip(floats, given):
            operands[n] = v
        outputs = step.run(operands)
        return [outputs[n] for n in places]

    _, back = jax.vjp(run, *(wide(known[step.inputs[n]]) for n in floats))
    found = back(relevance)
    absorbed = sum((g.sum() for n, g in zip(floats, found) if step.inputs[n] not in part.inputs), jnp.zeros(()))
    return [(step.inputs[n], g) for n, g in zip(floats, found) if step.inputs[n] in part.inputs], absorbed


def _multiplied(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    step = part.step
    multiply: Callable[[Array, Array], Array] = products.entrywise
    if part.kind == "matrix_product":
        a, b = (wide(known[r]) for r in step.inputs)
        multiply = lambda left, right: bilinear(step, 0)(right, left)
    else:
        a, b = (spread(part, setting.values, known, r) for r in step.inputs)
    rule = with_options(rule_of(part, setting.composite), setting.options)
    if step.primitive == "div":
        b = 1 / b
    found = shares(rule)(multiply, a, b, relevance[0], gate=part.gate)
    return list(zip(step.inputs, found.inputs)), found.absorbed


def _softmaxed(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    p = wide(known[part.outputs[0]])
    rule = with_options(setting.composite.softmax, {**setting.options, "axes": part.axes})
    found = shares(rule)(lambda v: p, wide(known[part.inputs[0]]), relevance[0])
    return [(part.inputs[0], found.inputs)], found.absorbed


def _chosen(part: Part, setting: Setting, known: dict[int, Array], relevance: list[Array]) -> Found:
    """Through the branch that was taken."""
    step, values = part.step, setting.values
    at = {r: n for n, r in enumerate(step.inputs[1:])}

    def through(parts: Parts) -> Callable[..., Any]:
        def run(operands: list[Array], relevance: list[Array]) -> tuple[list[Array], Array]:
            program = parts.program
            inner = evaluated(program, dict(zip(program.inputs, operands)))
            ends = [program.outputs[step.outputs.index(r)] for r in part.outputs]
            pending: dict[int, Array] = {}
            lost = jnp.zeros(())
            for r, share in zip(ends, relevance):
                if parts.values.carries(r):
                    pending[r] = pending[r] + share if r in pending else share
                else:
                    lost = lost + share.sum()
            found, absorbed = walk(parts, setting._replace(values=parts.values, box=None), inner, pending)
            none = [jnp.zeros(values.shape(r)) for r in part.inputs]
            return [found.get(program.inputs[at[r]], zero) for r, zero in zip(part.inputs, none)], absorbed + lost

        return run

    operands = [known[r] for r in step.inputs[1:]]
    found, absorbed = loops.switch(known[step.inputs[0]], [through(branch) for branch in part.branches], operands, relevance)
    return list(zip(part.inputs, found)), absorbed


def walk(
    parts: Parts, setting: Setting, known: dict[int, Array], pending: dict[int, Array], meet: Callable[[int, dict[int, Array]], dict[int, Array]] | None = None
) -> tuple[dict[int, Array], Array]:
    """Relevance of values, walked back to what no part makes; and what was absorbed.

    `meet(value, pending)` is told every value before its relevance is handed on, and says what is pending then.
    """
    absorbed = jnp.zeros(())
    for part in reversed(parts.list):
        for r in part.outputs:
            pending = pending if meet is None else meet(r, pending)
        if pending.keys().isdisjoint(part.outputs):
            continue
        arriving = [pending.pop(r) if r in pending else jnp.zeros(parts.values.shape(r)) for r in part.outputs]
        handed, lost = passed(part, setting, known, arriving)
        absorbed = absorbed + lost
        assert {r for r, _ in handed} <= set(part.inputs), f"{part.name} hands relevance to what no part takes it from"
        for r, share in handed:
            share = _fitted(share, parts.values.shape(r))
            pending[r] = pending[r] + share if r in pending else share
    return pending, absorbed


def _fitted(share: Array, shape: tuple[int, ...]) -> Array:
    """Relevance of a value that was spread along axes of size 1, or of a single number."""
    if share.ndim != len(shape):
        return share.sum()
    spread = tuple(d for d, (now, own) in enumerate(zip(share.shape, shape)) if now != own)
    return share.sum(spread, keepdims=True) if spread else share


_PASSING: dict[str, Callable[[Part, Setting, dict[int, Array], list[Array]], Found]] = {
    "sum": _summed,
    "average_pooling": _summed,
    "shift": _shifted,
    "scale": _scaled,
    "kept": _unchanged,
    "activation": _activated,
    "max_pooling": _pooled,
    "move": _moved,
    "product": _multiplied,
    "normalisation": _multiplied,
    "matrix_product": _multiplied,
    "softmax": _softmaxed,
    "choice": _chosen,
}
