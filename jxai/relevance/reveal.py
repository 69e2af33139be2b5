"""RevealCancel: at a nonlinearity that a linear step feeds, what pushes up and what pulls down is told apart before both cancel.

With `Δ⁺` and `Δ⁻` the sums of the positive and of the negative contributions `L_ij Δ_j` to the argument `z = L x + b` of φ,

    Δy⁺ = ½ [φ(z₀ + Δ⁺) − φ(z₀) + φ(z) − φ(z₀ + Δ⁻)],    Δy⁻ = ½ [φ(z₀ + Δ⁻) − φ(z₀) + φ(z) − φ(z₀ + Δ⁺)],

and `m± = Δy±/Δ±`. An entry that rose gives `L⁺ m⁺ + L⁻ m⁻`, one that fell `L⁻ m⁺ + L⁺ m⁻`, one that did neither half of `L (m⁺ + m⁻)`: together
`½ (m⁺ + m⁻) L Δ + ½ (m⁺ − m⁻) |L| sgn(Δ_j) Δ`, so that one more linear map, of magnitudes, is all that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Container

import jax
import jax.numpy as jnp

from jxai.relevance.differences import Values, Walk
from jxai.relevance.secants import Use, chord, jumps, numbers, size
from jxai.tracing import equations
from jxai.tracing.interpret import Step
from jxai.tracing.linear import MOVES, PRODUCTS, SAME, moved
from jxai.typing import Array

DENSE, CONVOLUTION = "dense", "convolution"

_KINDS = {"dot_general": DENSE, "conv_general_dilated": CONVOLUTION, "conv2d": CONVOLUTION, "conv2d_transpose": CONVOLUTION}
_SCALED = frozenset("mul div neg".split())
_SHIFTED = frozenset("add add_any sub".split())


def reveal_cancel(after: Container[str]) -> Callable[[Walk, Step, Values], list[Array | None] | None]:
    """The rule of nonlinearities that a step of one of these kinds (`DENSE`, `CONVOLUTION`) feeds: itself, or by way of constants that scale and shift
    every entry, and moves."""

    def special(walk: Walk, step: Step, changes: Values) -> list[Array | None] | None:
        varying = [r for r in step.inputs if r in walk.plan.varies]
        if len(varying) != 1 or walk.linear(step) or not (step.unit or step.primitive in equations.ELEMENTWISE):
            return None
        way = _way(walk, varying[0])
        if way is None or _KINDS[way[0].primitive] not in after:
            return None
        use = walk.use(step, changes)
        if jumps(use) or use.values[use.varying[0]].shape != use.outputs[0].shape:
            return None
        return _revealed(use, *_magnitudes(walk, way, changes))

    return special


def _way(walk: Walk, reference: int) -> list[Step] | None:
    """The dense step or convolution that feeds a value, and what lies between; None where there is none."""
    way: list[Step] = []
    while (step := walk.plan.program.makers.get(reference)) is not None:
        varying = [r for r in step.inputs if r in walk.plan.varies]
        if len(varying) != 1 or not walk.linear(step) or len(step.outputs) > 1:
            return None
        way.append(step)
        if step.primitive in _KINDS:
            return way[::-1]
        if not any(step.primitive in kind for kind in (SAME, MOVES, _SCALED, _SHIFTED)):
            return None
        reference = varying[0]
    return None


def _magnitudes(walk: Walk, way: list[Step], changes: Values) -> tuple[Array, Array]:
    """`|L| |Δ|` and `|L| sgn(Δ) · change`, from the step that feeds on."""
    first = walk.use(way[0], changes)
    (at,) = first.varying
    delta = first.deltas[at]
    pair = [jnp.abs(delta).astype(first.changes[at].dtype), jnp.sign(delta).astype(first.changes[at].dtype) * first.changes[at]]
    for step in way:
        use = walk.use(step, changes)
        (at,) = use.varying
        held = [jnp.abs(v) if step.primitive in PRODUCTS or step.primitive == "div" else v for v in use.values]
        pair = [_passed(step, held, at, v, use) for v in pair]
    return pair[0], pair[1]


def _passed(step: Step, held: list[Array], at: int, value: Array, use: Use) -> Array:
    if step.primitive in _SHIFTED or step.primitive == "neg":
        return jnp.broadcast_to(value, use.outputs[0].shape)
    return moved(step, held, [value if n == at else None for n in range(len(held))], use.outputs)[0]


def _revealed(use: Use, magnitude: Array, spread: Array) -> list[Array | None]:
    (n,) = use.varying
    z, base, y, y0 = use.values[n], numbers(use.bases[n]), numbers(use.outputs[0]), numbers(use.before[0])
    delta, magnitude = use.deltas[n], numbers(magnitude)
    up, down = jnp.maximum(delta + magnitude, 0) / 2, jnp.minimum(delta - magnitude, 0) / 2
    phi = lambda v: use.run({n: v.astype(z.dtype)})[0]
    slope = lambda v: numbers(jax.vjp(phi, v.astype(z.dtype))[1](jnp.ones_like(use.outputs[0]))[0])
    above, below = numbers(phi(base + up)), numbers(phi(base + down))
    large = jnp.maximum(size(z, base), magnitude)

    def multiplier(part: Array, other: Array, own: Array, without: Array) -> Array:
        middle = (slope(base + part / 2) + slope(base + other + part / 2)) / 2
        return chord((own - y0 + y - without) / 2, part, large, middle, size(y, y0))

    rising, falling = multiplier(up, down, above, below), multiplier(down, up, below, above)
    kind = use.outputs[0].dtype
    return [((rising + falling) / 2).astype(kind) * use.changes[n].astype(kind) + ((rising - falling) / 2).astype(kind) * spread.astype(kind)]
