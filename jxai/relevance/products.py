"""How a product of two values, and a softmax, hand relevance on.

A product rule is `rule(multiply, a, b, relevance, *, gate, options) -> (relevance of a, relevance of b)`, where `multiply(a, b)` is bilinear: entry by
entry, or a product of matrices; `gate` is 0 or 1 where that operand is a gate (a sigmoid, a hard sigmoid, a softmax) or the factor of a normalisation,
else None. A softmax rule is `rule(softmax, v, relevance) -> relevance of v`.

Sources: Achtibat et al. 2024 (½ to each, softmax), Arras et al. 2017 (all to the signal), Ali et al. 2022 (attention and σ as constants).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jxai.callables import transpose
from jxai.relevance.rules import Shares, public, stabilize
from jxai.typing import Array

__all__ = ["constant", "half", "signal", "slope", "taylor"]

Multiply = Callable[[Array, Array], Array]


@public
def half(multiply: Multiply, a: Array, b: Array, relevance: Array, *, gate: int | None = None, epsilon: float = 1e-6) -> Shares:
    """Half to each operand, by the ε rule: `R_a = a ⊙ Bᵀ(R / 2 st(z))`, `z = multiply(a, b)`; a gate gets its half, too.

    `epsilon`: ε > 0. Entry by entry, where `a ⊙ b / z = 1`, it is R/2 without a stabiliser.
    """
    if _entrywise(multiply, a, b):
        return Shares((relevance / 2, relevance / 2), jnp.zeros(()))
    z = multiply(a, b)
    s = relevance / stabilize(z, epsilon)
    back_a, back_b = _backs(multiply, a, b, s)
    return Shares((a * back_a / 2, b * back_b / 2), (s * (stabilize(z, epsilon) - z)).sum())


@public
def signal(multiply: Multiply, a: Array, b: Array, relevance: Array, *, gate: int | None = None, epsilon: float = 1e-6) -> Shares:
    """All to the signal where the other operand is a gate, by the ε rule; half to each where neither is. `epsilon`: ε > 0."""
    if gate is None:
        return half.parts(multiply, a, b, relevance, epsilon=epsilon)
    if _entrywise(multiply, a, b):
        none = jnp.zeros_like(relevance)
        return Shares((none, relevance) if gate == 0 else (relevance, none), jnp.zeros(()))
    z = multiply(a, b)
    s = relevance / stabilize(z, epsilon)
    back_a, back_b = _backs(multiply, a, b, s)
    found = (jnp.zeros_like(a), b * back_b) if gate == 0 else (a * back_a, jnp.zeros_like(b))
    return Shares(found, (s * (stabilize(z, epsilon) - z)).sum())


@public
def slope(multiply: Multiply, a: Array, b: Array, relevance: Array, *, gate: int | None = None, epsilon: float = 1e-6) -> Shares:
    """Gradient × input: to each operand all of it, which doubles relevance. For comparison only: it does not conserve."""
    if _entrywise(multiply, a, b):
        return Shares((relevance, relevance), jnp.zeros(()))
    z = multiply(a, b)
    s = relevance / stabilize(z, epsilon)
    back_a, back_b = _backs(multiply, a, b, s)
    return Shares((a * back_a, b * back_b), (s * (stabilize(z, epsilon) - z)).sum())


@public
def taylor(softmax: Callable[[Array], Array], v: Array, relevance: Array, *, axes: tuple[int, ...] = (-1,)) -> Shares:
    """AttnLRP's: `R_v = v ⊙ (R − p Σ R)`, `p = softmax(v)`, summed along its axes; of logits of −∞ 0. It does not conserve: the expansion's constant belongs to nobody."""
    found = relevance - softmax(v) * relevance.sum(axes, keepdims=True)
    return Shares(jnp.where(jnp.isfinite(v), v, 0) * found, jnp.zeros(()))


@public
def constant(softmax: Callable[[Array], Array], v: Array, relevance: Array, *, axes: tuple[int, ...] = (-1,)) -> Shares:
    """CP-LRP's: the probabilities count as constants, and what reaches them is absorbed."""
    return Shares(jnp.zeros_like(v), relevance.sum())


def entrywise(a: Array, b: Array) -> Array:
    """`a ⊙ b`."""
    return a * b


def _entrywise(multiply: Multiply, a: Array, b: Array) -> bool:
    return multiply is entrywise


def _backs(multiply: Multiply, a: Array, b: Array, s: Array) -> tuple[Array, Array]:
    like = lambda v: jax.ShapeDtypeStruct(v.shape, v.dtype)
    return transpose(lambda v: multiply(v, b), like(a), s), transpose(lambda v: multiply(a, v), like(b), s)
