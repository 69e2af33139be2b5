"""Cases: margins bounded separately for either sign of some ReLUs' inputs, which cover the region together."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jxai import loops
from jxai.bounds.interval import Ranges
from jxai.bounds.linear import specification, tighten, tightened
from jxai.bounds.optimized import optimised
from jxai.bounds.region import Interval
from jxai.bounds.rules.operations import Unary
from jxai.typing import Array


def by_cases(found: Ranges, rows: Array, worst: Array, splits: int, steps: int, learning_rate: float, chunk: int | None) -> Array:
    """`[n]`: lower bounds of `⟨rows[i], f(x)⟩`, the least over the `2^splits` cases that the signs of ReLUs' inputs can make.

    A ReLU whose sign is known is no more than a line, and the layers after it are bounded anew in every case. The ReLUs are those whose
    ends the bound of the row `worst` depends on most, by its gradient: as much as is won in the poorer of the two cases.
    """
    inputs = sorted({n.inputs[0] for n in found.graph.nodes if isinstance(n.operation, Unary) and n.operation.curve.name == "relu"})
    count = sum(found.known[r].lower.size for r in inputs)
    if not count:
        return jnp.full(rows.shape[0], -jnp.inf, rows.dtype)
    chosen = lax.top_k(_gains(found, rows[worst][None], inputs), min(splits, count))[1]

    def case(signs: Array) -> Array:
        return optimised(_in_case(found, inputs, chosen, signs, chunk), found.graph.output, rows, steps, learning_rate)

    patterns = (jnp.arange(2**chosen.size)[:, None] >> jnp.arange(chosen.size)) & 1
    return loops.map(case, patterns).min(0)


def _gains(found: Ranges, row: Array, inputs: list[int]) -> Array:
    """What the bound gains, to first order, where a ReLU's input is cut at 0: in the case where it gains less."""

    def bound(ends: dict[int, Interval]) -> Array:
        # Only the order matters, so that rounding need not be counted.
        known = Ranges(found.graph, found.region, "nearest", {**found.known, **ends})
        return specification(known, found.graph.output, row)[0]

    ends = {r: found.known[r] for r in inputs}
    slopes = jax.grad(bound)(ends)
    gains = []
    for r in inputs:
        (l, u), (dl, du) = ends[r], slopes[r]
        open_ = (l < 0) & (u > 0)
        gains.append(jnp.where(open_, jnp.minimum(-dl * l, -du * u), -jnp.inf).ravel())
    return lax.stop_gradient(jnp.nan_to_num(jnp.concatenate(gains), nan=-jnp.inf))


def _in_case(found: Ranges, inputs: list[int], chosen: Array, signs: Array, chunk: int | None) -> Ranges:
    """The ranges where the chosen inputs are at least 0 (sign 1) or at most 0 (sign 0)."""
    cuts, begin = {}, 0
    for r in inputs:
        size, shape = found.known[r].lower.size, found.known[r].lower.shape
        here = chosen - begin
        here = jnp.where((here >= 0) & (here < size), here, size)
        lower, upper = found.known[r]
        flat_l, flat_u = lower.ravel(), upper.ravel()
        at_l = flat_l.at[here].max(jnp.where(signs == 1, 0.0, -jnp.inf), mode="drop")
        at_u = flat_u.at[here].min(jnp.where(signs == 0, 0.0, jnp.inf), mode="drop")
        cuts[r] = Interval(at_l.reshape(shape), at_u.reshape(shape))
        begin += size
    inner = Ranges(found.graph, found.region, found.rounding, {found.graph.input: found.known[found.graph.input]}, found.errors)

    def improve(reference: int, needed: Array | None) -> None:
        tighten(inner, reference, chunk, needed)

    def cut(reference: int) -> None:
        inner.tighten(reference, cuts.get(reference, found.known[reference]))

    tightened(inner, improve, cut)
    return inner
