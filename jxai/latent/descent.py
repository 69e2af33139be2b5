"""Descent among codes until the cost no longer falls."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jxai.loops import while_loop
from jxai.scores import positive, within
from jxai.typing import Array, PyTree

WINDOW = 10
LEAST = 20


class Found(NamedTuple):
    """Where a descent came to."""

    code: PyTree
    """Of the least cost that was seen, the start's included."""
    cost: Array
    """`[]`: there."""
    steps: Array
    """`[]`, int32: how many were made."""


def descend(
    cost: Callable[[PyTree], Array],
    start: PyTree,
    *,
    steps: int,
    learning_rate: float,
    tolerance: float = 0.0,
    relative: bool = False,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
) -> Found:
    """The best of `z ← z − η · direction(∇ cost)`, from `start`, until the cost no longer falls.

    It stops, after 20 steps at the soonest, where the mean decrease of a step (an exponential mean over about ten) is below `tolerance`, or with
    `relative` below that share of what it was after ten steps: `LossNotDecreasing` of TensorFlow Probability. With `tolerance=0` that is where the cost
    rises on average; `-inf` makes all steps.

    Args:
      cost: `z -> []`; an infinite or undefined one is never the best. start: the first z. steps: at most, >= 1. learning_rate: η > 0.
      optimizer: `learning_rate -> optax transformation`.

    Returns:
      `Found`; nothing in it has a derivative.

    Raises:
      ValueError: bad steps or learning rate.

    Cost: `steps + 1` forward and backward passes of the cost, one after another.
    """
    positive(steps=steps)
    within(math.ulp(0.0), math.inf, learning_rate=learning_rate)
    rule = optimizer(learning_rate)
    value_and_grad = jax.value_and_grad(cost)

    def look(z: PyTree) -> tuple[Array, PyTree]:
        # A constant: a loop of unknown length has no derivative backwards, and the way to the end is not what is differentiated.
        value, slope = lax.stop_gradient(value_and_grad(z))
        return value, jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), slope)

    def step(carry):
        k, z, state, best, (value, slope), (mean, first), _ = carry
        updates, state = rule.update(slope, state, z)
        z = optax.apply_updates(z, updates)
        after = look(z)
        fall = value - after[0]
        mean = fall + (1 - 1 / WINDOW) * (mean - fall)
        first = jnp.where(k + 1 <= WINDOW, mean, first)
        enough = (k + 1 >= LEAST) & (mean < (tolerance * first if relative else tolerance))
        better = after[0] < best[1]
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), (z, after[0]), best)
        return k + 1, z, state, best, after, (mean, first), enough

    start = lax.stop_gradient(start)
    seen = look(start)
    known = jnp.where(jnp.isfinite(seen[0]), seen[0], jnp.inf)
    begin = (jnp.int32(0), start, rule.init(start), (start, known), seen, (jnp.zeros_like(known), jnp.zeros_like(known)), jnp.bool_(False))
    made, _, _, (code, least), *_ = while_loop(lambda carry: (carry[0] < steps) & ~carry[-1], step, begin)
    return Found(code, least, made)
