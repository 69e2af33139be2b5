"""Exact linear maps between two points: what a nonlinear step's output changes by, shared out among the changes of its operands.

Each rule gives `D` with `D (v − v₀) = g(v) − g(v₀)`, to rounding:

- entry by entry, of one operand: the slope of the chord, `Δy/Δv` (Rescale); where |Δv| ≤ 1e-6 max(|v|, |v₀|), or y moves by as little of its size, the
  derivative midway;
- entry by entry, of several: each one's chord with the others at either end, over all orders in which they may change (of a product, `b̄ Δa + ā Δb`);
- products of matrices and convolutions of two: the same, `Δa · b̄ + ā · Δb`.

`reductions` has those of steps that bring entries of one value together.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jxai.scores import wide
from jxai.tracing.interpret import Step
from jxai.typing import Array

SMALL = 1e-6
"""Changes of at most this share of the numbers are rounding: there the chord's slope is the derivative midway."""

_STEPS = frozenset("sign floor ceil round is_finite eq ne lt le gt ge not and or xor".split())
"""Derivative 0 wherever there is one: every jump counts, however small the change."""


@dataclasses.dataclass(frozen=True)
class Use:
    """A step as a rule sees it.

    Attributes:
      values, bases: its operands at x and at the baseline. changes: of each the linear change, None where it does not depend on x.
      outputs, before: its results at x and at the baseline.
    """

    step: Step
    values: list[Array]
    bases: list[Array]
    changes: list[Array | None]
    outputs: list[Array]
    before: list[Array]

    @property
    def varying(self) -> list[int]:
        return [n for n, change in enumerate(self.changes) if change is not None]

    @property
    def deltas(self) -> list[Array | None]:
        """Of each operand what it changed by."""
        return [None if change is None else difference(v, b) for v, b, change in zip(self.values, self.bases, self.changes)]

    def run(self, given: dict[int, Array]) -> list[Array]:
        """The step with these in place of its operands at x."""
        return self.step.run([given.get(n, v) for n, v in enumerate(self.values)])

    def slope(self, points: list[Array], directions: list[Array | None]) -> list[Array]:
        """The derivative of the step at points of all its operands, applied to changes of those that vary."""
        at = self.varying
        run = lambda *varying: self.step.run([varying[at.index(n)] if n in at else p for n, p in enumerate(points)])
        return jax.jvp(run, [points[n] for n in at], [directions[n].astype(points[n].dtype) for n in at])[1]  # type: ignore[union-attr]

    def error(self, why: str) -> ValueError:
        where = f" (in {self.step.scope})" if self.step.scope else ""
        return ValueError(f"DeepLIFT has no rule for the primitive {self.step.primitive!r}{where}: {why}")


def changing(value: Any) -> Any:
    """The type of a value's change: its own, or float32 where it holds no real numbers."""
    return value if jnp.issubdtype(value.dtype, jnp.inexact) else jax.ShapeDtypeStruct(value.shape, jnp.float32)


def numbers(v: Array) -> Array:
    """The value as numbers that can be subtracted, float32 or wider."""
    return wide(v) if jnp.issubdtype(v.dtype, jnp.inexact) else jnp.asarray(v, jnp.float32)


def difference(v: Array, base: Array) -> Array:
    """`v − base`, float32 or wider; 0 where both are the same infinity."""
    v, base = numbers(v), numbers(base)
    return jnp.where(jnp.isinf(v) & (v == base), 0, v - base)


def midway(v: Array, base: Array) -> Array:
    """`(v + base)/2`, in the type of a change of v."""
    return (numbers(base) + difference(v, base) / 2).astype(changing(v).dtype)


def chord(dy: Array, dv: Array, size: Array, slope: Array, value: Array | None = None) -> Array:
    """`dy/dv`; the slope where |dv| is at most `SMALL` of size, or |dy| and |slope dv| of value."""
    small = jnp.abs(dv) <= SMALL * size
    if value is not None:  # the function is as good as constant: of so small a change there is nothing but rounding
        small |= jnp.maximum(jnp.abs(dy), jnp.abs(slope * dv)) <= SMALL * value
    return jnp.where(small, slope, dy / jnp.where(small, 1, dv))


def size(v: Array, base: Array) -> Array:
    """The larger magnitude of the two points, entry by entry."""
    return jnp.maximum(jnp.abs(numbers(v)), jnp.abs(numbers(base)))


def jumps(use: Use) -> bool:
    """Whether a step has no derivative but 0."""
    inexact = all(jnp.issubdtype(v.dtype, jnp.inexact) for v in (use.outputs[0], *(use.values[n] for n in use.varying)))
    return use.step.primitive in _STEPS or not inexact


def elementwise(use: Use) -> list[Array]:
    """Chords of a step that acts entry by entry."""
    if any(jnp.issubdtype(use.values[n].dtype, jnp.complexfloating) for n in use.varying):
        raise use.error("it is a nonlinear function of complex numbers; write it in their real and imaginary parts")
    at, shape = use.varying, use.outputs[0].shape
    ends = [[jnp.broadcast_to(v, shape) if n in at else v for n, v in enumerate(vs)] for vs in (use.bases, use.values)]
    slope = _slopes(use, ends)
    known = {(0,) * len(at): use.before[0], (1,) * len(at): use.outputs[0]}

    def value(which: tuple[int, ...]) -> Array:
        """The step with each operand at one of its ends."""
        if which not in known:
            known[which] = use.step.run([ends[which[at.index(n)]][n] if n in at else v for n, v in enumerate(use.values)])[0]
        return known[which]

    total, large = 0, size(use.outputs[0], use.before[0])
    for k, n in enumerate(at):
        rise = 0
        for others in itertools.product((0, 1), repeat=len(at) - 1):
            share = 1 / (len(at) * math.comb(len(at) - 1, sum(others)))
            rise += share * difference(value((*others[:k], 1, *others[k:])), value((*others[:k], 0, *others[k:])))
        delta = difference(ends[1][n], ends[0][n])
        factor = chord(rise, delta, 0, 0) if jumps(use) else chord(rise, delta, size(ends[1][n], ends[0][n]), slope(n), large)
        total += factor * jnp.broadcast_to(use.changes[n], shape).astype(factor.dtype)
    return [total.astype(changing(use.outputs[0]).dtype)]


def _slopes(use: Use, ends: list[list[Array]]) -> Callable[[int], Array | int]:
    """`slope(n)`: the derivative by the n-th operand, all others midway."""
    if jumps(use):
        return lambda n: 0
    at = use.varying
    middle = [midway(v, b) if n in at else v for n, (v, b) in enumerate(zip(ends[1], ends[0]))]

    def slope(n: int) -> Array:
        own = lambda v: use.step.run([v if k == n else p for k, p in enumerate(middle)])[0]
        return numbers(jax.vjp(own, middle[n])[1](jnp.ones_like(use.outputs[0]))[0])

    return slope


def product(use: Use) -> list[Array]:
    """`b̄ ∘ Δa + ā ∘ Δb` of a bilinear step of two operands."""
    means = [midway(v, b) for v, b in zip(use.values, use.bases)]
    kind = changing(use.outputs[0]).dtype
    means = [mean.astype(change.dtype) for mean, change in zip(means, use.changes)]  # type: ignore[union-attr]
    return [(use.step.run([use.changes[0], means[1]])[0] + use.step.run([means[0], use.changes[1]])[0]).astype(kind)]


def quotient(use: Use) -> list[Array]:
    """`Δa · mean(1/b) − ā/(b b₀) · Δb`: a product with the reciprocal, whose chord is written out."""
    if jumps(use):
        return elementwise(use)
    (a, b), (a0, b0), (da, db), kind = map(numbers, use.values), map(numbers, use.bases), use.changes, use.outputs[0].dtype
    total = -((a + a0) / 2 / b / b0) * db.astype(b.dtype)
    if da is not None:
        total += (1 / b + 1 / b0) / 2 * da.astype(b.dtype)
    return [total.astype(kind)]


def square(use: Use) -> list[Array]:
    """`(v + v₀) Δv`."""
    if jumps(use) or (use.step.primitive == "integer_pow" and use.step.param("y") != 2):
        return elementwise(use)
    factor = numbers(use.values[0]) + numbers(use.bases[0])
    return [(factor * use.changes[0].astype(factor.dtype)).astype(use.outputs[0].dtype)]


def clamped(use: Use) -> list[Array]:
    """A chord between bounds that are the same at both points."""
    if use.varying != [1]:
        raise use.error("its bounds depend on x; write it by jnp.minimum and jnp.maximum")
    return elementwise(use)


def choice(use: Use) -> list[Array]:
    """`select_n` by a predicate that depends on x: the cases by the time that each is chosen, the rest is the predicate's doing."""
    if len(use.values) != 3 or use.values[0].dtype != bool:
        raise use.error("it chooses by a number that depends on x; choose among two at a time by jnp.where")
    kind = changing(use.outputs[0]).dtype
    which, before = numbers(use.values[0]), numbers(use.bases[0])
    share = jnp.broadcast_to((which + before) / 2, use.outputs[0].shape)
    total, rest = jnp.zeros(use.outputs[0].shape, kind), difference(use.outputs[0], use.before[0])
    for weight, v, b, change in zip((1 - share, share), use.values[1:], use.bases[1:], use.changes[1:]):
        if change is not None:
            delta = difference(v, b)
            seen = (weight > 0) & jnp.isfinite(delta)  # what is no number was not chosen
            total += jnp.where(seen, weight, 0).astype(kind) * change
            rest -= jnp.where(seen, weight * jnp.where(seen, delta, 0), 0)
    by = jnp.broadcast_to(which - before, rest.shape)
    slope = jnp.where(by == 0, 0, rest / jnp.where(by == 0, 1, by))
    return [total + (slope * use.changes[0]).astype(kind)]
