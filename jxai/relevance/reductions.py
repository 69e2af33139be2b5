"""Exact linear maps between two points of steps that bring entries of one value together.

- maxima and minima: what y rose by is due to the largest at x, what it fell by to the largest at the baseline (cross-max), by entry, axis or window;
- a softmax p, however it is spelled: `p = exp(u)` with `u = v − log Σ exp v` has the chord m of `exp`, the logarithm of the sum the shares `m/Σ m`, so that
  `D = diag(m) − m mᵀ/Σ m`, a softmax's derivative at the logarithmic means of both p: no entry gains what another has not lost;
- sorting, products over an axis, logarithms of sums along one: the derivative midway, and what is missing shared out in proportion to the changes,
  the smallest correction that makes it exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jxai.relevance.secants import SMALL, Use, chord, difference, elementwise, jumps, midway, numbers, size
from jxai.typing import Array


def softmax(p: Array, before: Array, v: Array, base: Array, axes: tuple[int, ...], change: Array) -> Array:
    """The change of a softmax of v along axes; entries where p is 0 at both points, as a mask makes them, have none."""

    def logarithm(p: Array, v: Array) -> Array:
        p, v = numbers(p), numbers(v)
        seen = jnp.where(p > 0, v, -jnp.inf)
        return v - jax.scipy.special.logsumexp(seen, axes, keepdims=True)

    seen = (p > 0) | (before > 0)
    u, u0 = (jnp.where(seen, u, 0) for u in (logarithm(p, v), logarithm(before, base)))
    m = jnp.where(seen, chord(difference(p, before), u - u0, size(u, u0), jnp.exp((u + u0) / 2), size(p, before)), 0)
    whole, change = m.sum(axes, keepdims=True), change.astype(m.dtype)
    return m * (change - (m * change).sum(axes, keepdims=True) / jnp.where(whole > 0, whole, 1))


def extreme(sign: int) -> Callable[[Use], list[Array]]:
    """Cross-max of entries, axes and windows: y rises by the largest at x, falls by the largest at the baseline."""

    def rule(use: Use) -> list[Array]:
        if len(use.varying) < len(use.values) or jumps(use):
            return elementwise(use) if use.step.unit or len(use.values) > 1 else _missing(use)
        values, bases = lax.optimization_barrier((use.values, use.bases))
        use = dataclasses.replace(use, values=values, bases=bases)
        y, y0, deltas = use.outputs[0], use.before[0], use.deltas
        dy, large = difference(y, y0), size(y, y0)
        found = 0
        for points, side in ((use.values, 1), (use.bases, -1)):
            by = numbers(use.slope(points, deltas)[0])
            rises = sign * side * dy > 0
            still = (dy == 0) & (jnp.abs(by) <= SMALL * large)
            weight = jnp.where(rises, chord(dy, by, large, jnp.ones_like(dy)), jnp.where(still, 0.5, 0))
            found += weight.astype(y.dtype) * use.slope(points, use.changes)[0]
        return [found]

    return rule


def _missing(use: Use) -> list[Array]:
    raise use.error("it is of numbers that are no real ones")


def corrected(total: Callable[[Use, Array], Array]) -> Callable[[Use], list[Array]]:
    """The derivative midway, and what it misses in proportion to the changes: `J Δv + r ⟨δ, Δv⟩/⟨δ, δ⟩`; total: the sum over what an output is made of."""

    def rule(use: Use) -> list[Array]:
        if len(use.varying) != 1 or use.varying[0] != 0:
            raise use.error("only its first operand may depend on x")
        if not jnp.issubdtype(use.outputs[0].dtype, jnp.inexact):
            return [_shared(use, 0, total)]
        middle = [midway(use.values[0], use.bases[0]), *use.values[1:]]
        along = lambda change: use.slope(middle, [change, *[None] * (len(middle) - 1)])[0]
        by, delta = along(use.changes[0]), use.deltas[0]
        return [by + _shared(use, numbers(along(delta)), total).astype(by.dtype)]

    return rule


def _shared(use: Use, explained: Array | int, total: Callable[[Use, Array], Array]) -> Array:
    delta = use.deltas[0]
    rest, norm = difference(use.outputs[0], use.before[0]) - explained, total(use, delta**2)
    return jnp.where(norm > 0, rest / jnp.where(norm > 0, norm, 1), 0) * total(use, delta * use.changes[0])


def reduced(use: Use, v: Array) -> Array:
    """v summed over the axes that the step reduces."""
    return v.sum(tuple(use.step.param("axes")))


def running(use: Use, v: Array) -> Array:
    """v summed up along the step's axis, in its direction."""
    return lax.cumsum(v, use.step.param("axis"), reverse=use.step.param("reverse"))


def whole(name: str) -> Callable[[Use, Array], Array]:
    """v summed over the one axis that the step's parameter of this name gives, kept with size 1."""
    return lambda use, v: v.sum(use.step.param(name), keepdims=True)
