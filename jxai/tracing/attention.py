"""Finds attention in a traced function: a softmax that weighs values of x in a matrix product.

Whatever lies between the softmax and the product (transposes, reshapes, a dropout that is off) only moves the probabilities: where each of them enters the product
is followed by numbering them. Which of their axes are keys, queries and heads follows from the product, not from where a library has them.
"""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np

from jxai.tracing.interpret import Program, Step
from jxai.tracing.pieces import Flow
from jxai.tracing.softmaxes import Softmax, softmaxes

_CAST = frozenset(("copy", "convert_element_type", "reduce_precision"))
_MOVES = _CAST | frozenset("broadcast_in_dim reshape squeeze expand_dims transpose".split())


@dataclasses.dataclass(frozen=True)
class Attention:
    """An attention; references are those of the program it was found in, axes those of the probabilities.

    Attributes:
      softmax: of the logits. product: the step that weighs the values.
      logits, probabilities: the softmax's argument and value. values: what is weighed, as it enters the product. mixed: the product's value.
      query, key: the operands of the product that the logits are made of, before their scale and mask; None where they are made in another way.
      queries: the axes that the product leaves apart: of the tokens that look, and of heads that share their values; none where one query pools all tokens.
      keys: the axes that are summed over, of the tokens that are looked at. heads: the axes that have values of their own: heads, or windows.
    """

    softmax: Softmax
    product: Step
    logits: int
    probabilities: int
    values: int
    mixed: int
    query: int | None
    key: int | None
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    heads: tuple[int, ...]


def attentions(program: Program, start: set[int] | None = None) -> list[Attention]:
    """The attentions of a program (one laid open `everywhere`), in order; of what depends on `start`, by default on x."""
    flow = Flow(program, start)
    return [one for softmax in softmaxes(program, start) for one in _of(flow, softmax)]


def _of(flow: Flow, softmax: Softmax) -> list[Attention]:
    """The products in which a softmax weighs values of x."""
    program, found = flow.program, []
    shape = program.avals[softmax.value].shape
    numbers = {softmax.value: np.arange(math.prod(shape), dtype=np.int32).reshape(shape)}
    for step in program.steps[flow.place[id(softmax.steps[-1])] + 1 :]:
        held = [n for n, r in enumerate(step.inputs) if r in numbers]
        if len(held) != 1:
            continue
        n = held[0]
        if step.primitive == "dot_general":
            if step.inputs[1 - n] in flow.depends and (axes := _axes(step, n, numbers[step.inputs[n]], softmax.axes, shape)):
                pair = _made(flow, softmax.argument, axes[1])
                found.append(Attention(softmax, step, softmax.argument, softmax.value, step.inputs[1 - n], step.outputs[0], *pair, *axes))
        elif (moved := _moved(flow, step, n, numbers[step.inputs[n]])) is not None:
            numbers[step.outputs[0]] = moved
    return found


def _moved(flow: Flow, step: Step, n: int, numbers: np.ndarray) -> np.ndarray | None:
    """Where a step takes the entries of its n-th input; None where it does not only move or scale them."""
    if step.primitive in _CAST:
        return numbers
    if step.primitive in _MOVES:
        with jax.ensure_compile_time_eval():
            return np.asarray(step.run([jnp.asarray(numbers)])[0])
    if step.unit and len(flow.varying(step)) == 1:
        return np.broadcast_to(numbers, flow.program.avals[step.outputs[0]].shape)
    return None


def _axes(step: Step, n: int, numbers: np.ndarray, summed: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...] | None:
    """Of probabilities that enter a product as its n-th operand the axes of queries, keys and heads; None where it sums over others than the softmax does."""
    contracted, batch = step.param("dimension_numbers")
    free = [d for d in range(numbers.ndim) if d not in contracted[n] and d not in batch[n]]
    places = np.unravel_index(numbers, shape)
    queries, keys, heads = (tuple(a for a, place in enumerate(places) if any(_changes(place, d) for d in dims)) for dims in (free, contracted[n], batch[n]))
    wide = tuple(a for a in summed if shape[a] > 1)
    if keys != wide or set(queries) & set(heads) or set(keys) & {*queries, *heads}:
        return None
    return queries, keys or summed, heads


def _changes(place: np.ndarray, d: int) -> bool:
    """Whether an axis of the probabilities is gone along where the operand's axis d is."""
    return bool((place != place.take([0], d)).any())


def _made(flow: Flow, logits: int, keys: tuple[int, ...]) -> tuple[int | None, int | None]:
    """The query and the key that logits are a product of, given their axes of keys; (None, None) where they are made in another way."""
    program, after, r = flow.program, [], logits
    while (step := program.makers.get(r)) is not None and step.primitive != "dot_general":
        varying = flow.varying(step)
        if len(varying) != 1 or not (step.unit or step.primitive in _MOVES):
            return None, None
        after.append(step)
        r = varying[0]
    if step is None:
        return None, None
    shape = program.avals[r].shape
    numbers = np.arange(math.prod(shape), dtype=np.int32).reshape(shape)
    for move in reversed(after):
        moved = _moved(flow, move, move.inputs.index(r), numbers)
        if moved is None:
            return None, None
        numbers, r = moved, move.outputs[0]
    places = np.unravel_index(numbers, shape)
    along = {a for a, place in enumerate(places) if any(_changes(place, d) for d in keys)}
    contracted, batch = step.param("dimension_numbers")
    first = len(program.avals[step.inputs[0]].shape) - len(contracted[0])
    own = [set(range(len(batch[0]), first)), set(range(first, len(shape)))]
    if not along or not any(along <= axes for axes in own):
        return None, None
    key = 0 if along <= own[0] else 1
    return step.inputs[1 - key], step.inputs[key]
