"""The last linear map of a traced function: what it is applied to, and what follows.

Found by walking back from the output through steps that are linear in what depends on x, until each branch comes to a product with what is fixed. How a
map that is applied at many positions joins them is found by value, with weights drawn at random, so that it is known under a trace, too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.scores import check_example, logits_shape
from jxai.tracing import interpret
from jxai.tracing.choosing import Layer, listed
from jxai.tracing.linear import PRODUCTS, is_linear, needed
from jxai.tracing.taps import cut
from jxai.typing import Array, Model

_MOVED = frozenset("broadcast_in_dim reshape expand_dims squeeze copy convert_element_type transpose".split())


class LinearEnd(NamedTuple):
    """A function cut at the input of its last linear map: `f(x) = head(features)`, affine in features.

    Attributes:
      features: `[D]`. logits: `[K]`, f(x). head: `[D] -> [K]`.
    """

    features: Array
    logits: Array
    head: Callable[[Array], Array]


def linear_end(f: Model, x: Array) -> LinearEnd:
    """Cuts `f(x)` at the input of its last linear map.

    A map that is applied at every position and then averaged (a convolution before a global mean) has the mean over the positions as its features; of
    one of whose positions a single one counts, the features are that position's.

    Raises:
      ValueError: f(x) is no vector; something that is not linear follows the last linear map, there is none, or there are several whose outputs are added or
        joined (the message lists them).
    """
    check_example(x)
    traced = interpret.trace(f, x)
    program, places, layers = listed(traced)
    if len(program.outputs) != 1:
        logits_shape(jax.eval_shape(lambda v: f(v), x))
    (k,) = logits_shape(program.avals[program.outputs[0]])
    start = program.inputs[-1]
    operand = _operand(program, places.keys(), start, k, layers)
    if operand == start:
        value, head = x, lambda v: interpret.run(program, interpret.start(program, traced, v))[program.outputs[0]]
    else:
        step = program.makers[operand]
        chosen = next(layer for layer in layers if layer.path == step.path and layer.output == step.outputs.index(operand))
        _, value, head = cut(traced, x, chosen)
    shape = value.shape
    if sum(size > 1 for size in shape) < 2:
        return LinearEnd(value.ravel(), head(value), lambda h: head(h.reshape(shape)))
    means, picks = _joined(program, places.keys(), operand)

    def pooled(v: Array) -> Array:
        for axis, at in picks.items():
            v = jnp.take(v, jnp.array([at]), axis)
        return v.mean(means, keepdims=True).ravel()

    kept = tuple(1 if axis in means or axis in picks else size for axis, size in enumerate(shape))
    spread = tuple(1 if axis in picks else size for axis, size in enumerate(shape))

    def unpooled(h: Array) -> Array:
        v = jnp.broadcast_to(h.reshape(kept), spread)
        return jnp.pad(v, [(picks[axis], size - 1 - picks[axis]) if axis in picks else (0, 0) for axis, size in enumerate(shape)])

    return LinearEnd(pooled(value), head(value), lambda h: head(unpooled(h)))


def _operand(program: interpret.Program, varying, start: int, k: int, layers: list[Layer]) -> int:
    """The reference of the value that the last linear map is applied to."""
    found: dict[int, interpret.Step] = {}
    other: list[interpret.Step] = []
    seen, waiting = set(), [program.outputs[0]]
    while waiting:
        r = waiting.pop()
        if r in seen or r not in varying or r == start:
            continue
        seen.add(r)
        step = program.makers[r]
        varies = [i in varying for i in step.inputs]
        # A product entry by entry is a scale of logits, unless it is summed later: more numbers than classes come out of it.
        product = step.primitive in PRODUCTS and not step.called and sum(varies) == 1 and (step.primitive != "mul" or math.prod(program.avals[r].shape) > k)
        if product:
            operand = step.inputs[varies.index(True)]
            while step.primitive == "mul" and operand in program.makers and program.makers[operand].primitive in _MOVED:
                operand = program.makers[operand].inputs[0]
            found[operand] = step
        elif is_linear(step, varies, program) and step.primitive != "stop_gradient":  # weights are found by derivatives
            waiting.extend(i for i, v in zip(step.inputs, varies) if v)
        else:
            other.append(step)
    named = {(layer.path, layer.output): layer for layer in layers}
    listing = ", ".join(repr(str(named[step.path, 0])) for step in found.values() if (step.path, 0) in named)
    if other:
        after = f", after the linear map {listing}" if listing else ""
        raise ValueError(f"f must end in a linear map, but f(x) comes out of {other[0].primitive!r}{after}: give the function that returns the logits")
    if len(found) != 1:
        what = "several linear maps of different values are joined in f(x)" if found else "f(x) is no product of anything with weights"
        hint = f": {listing}" if listing else ""
        raise ValueError(f"f must end in one linear map, but {what}{hint}; give features (layer=…) and a Head(weights, bias) of your own")
    return next(iter(found))


def _joined(program: interpret.Program, varying, operand: int) -> tuple[tuple[int, ...], dict[int, int]]:
    """Of which axes of the operand the output sees the mean alone, and of which a single entry: that entry."""
    rng = np.random.default_rng(0)
    follows, after = {operand}, []
    for step in program.steps:
        if follows.intersection(step.inputs):
            follows.update(step.outputs)
            after.append(step)
    steps = needed(program)
    after = [step for step in after if step in steps]
    fixed = {r for step in after for r in step.inputs} - follows
    before = [step for step in needed(program, fixed) if varying.isdisjoint(step.outputs)]
    made = {r for step in before for r in step.outputs}
    given = {r for step in before for r in step.inputs} | fixed
    values = {r: _random(program.avals[r], rng) for r in given - made if r not in program.constants or isinstance(program.constants[r], jax.core.Tracer)}
    values |= {r: program.constants[r] for r in given - made if r not in values}
    aval, out = program.avals[operand], program.outputs[0]
    with jax.ensure_compile_time_eval():
        interpret.run(program, values, before)
        run = lambda v: interpret.run(program, {**values, operand: v}, after)[out]
        g = jax.vjp(run, jnp.asarray(_random(aval, rng)))[1](jnp.asarray(_random(program.avals[out], rng)))[0]
    g = np.asarray(g, np.float64)
    near = 1e-3 * np.abs(g).max()
    means, picks = [], {}
    for axis, size in enumerate(g.shape):
        if size == 1:
            continue
        counted = np.flatnonzero(np.abs(g).max(tuple(a for a in range(g.ndim) if a != axis)) > near)
        if (np.ptp(g, axis) <= near).all():
            means.append(axis)
        elif len(counted) == 1:
            picks[axis] = int(counted[0])
    return tuple(means), picks


def _random(aval, rng: np.random.Generator) -> np.ndarray:
    """Numbers that could be anything, of a value's shape and type."""
    v = rng.uniform(0.5, 1.5, aval.shape) * rng.choice([-1, 1], aval.shape)
    return v.astype(aval.dtype) if jnp.issubdtype(aval.dtype, jnp.inexact) else np.zeros(aval.shape, aval.dtype)
