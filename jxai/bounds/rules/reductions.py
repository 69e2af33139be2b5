"""What takes several values together: the greatest of them, softmax, the logarithm of a sum of exponentials."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.region import Interval, magnitude
from jxai.bounds.rules.curve import chord
from jxai.bounds.rules.operations import LinearMap, Operation, Relaxation
from jxai.typing import Array


@dataclasses.dataclass(frozen=True)
class Greatest(Operation):
    """`y = max over some axes`. valid: static booleans that say which entries count (None: all); padding does not.

    Below lies the entry with the greatest lower end. Above lies, with j the entry of the greatest upper end and m the greatest upper end
    of the others, `max(x_j, m)`, or the chord above it.
    """

    axes: tuple[int, ...]
    valid: np.ndarray | None = None

    exact_ends = True

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*(end.max(self.axes) for end in self._counted(inputs[0])))

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        l, u = self._counted(inputs[0])
        below, above = _first_greatest(l, self.axes), _first_greatest(u, self.axes)
        rest = jnp.where(above, -jnp.inf, u).max(self.axes)
        low, high = jnp.where(above, l, -jnp.inf).max(self.axes), u.max(self.axes)
        unsure = rest > low
        slope = jnp.where(unsure, chord(low, high, rest, high, jnp.zeros_like(high)), 1.0)
        known = jnp.isfinite(high) & jnp.isfinite(low) & (jnp.isfinite(rest) | ~unsure)
        slope = jnp.where(known, slope, 0.0)
        upper = jnp.where(known, jnp.where(unsure, jnp.where(unsure, rest, 0) - slope * jnp.where(known, low, 0), 0.0), high)
        weight = above * jnp.expand_dims(slope, self.axes)
        maps = [LinearMap(lambda x, w=w: (w * x).sum(self.axes)) for w in (below.astype(l.dtype), weight)]
        return Relaxation((maps[0],), (maps[1],), None, upper)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        # Entries that cannot be the greatest have no weight, whatever their size (a start of −1e30).
        l, u = self._counted(inputs[0])
        return 8 * unit * jnp.where(u >= l.max(self.axes, keepdims=True), magnitude(Interval(l, u)), 0).max(self.axes)

    def _counted(self, bounds: Interval) -> Interval:
        return bounds if self.valid is None else Interval(*(jnp.where(self.valid, end, -jnp.inf) for end in bounds))


@dataclasses.dataclass(frozen=True)
class LogSumExp(Operation):
    """`y = log Σ exp(x)` over some axes (convex: a tangent below; above, chords of the exponentials and a tangent of the logarithm)."""

    axes: tuple[int, ...]

    exact_ends = True

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*(jax.nn.logsumexp(end, self.axes) for end in inputs[0]))

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        l, u = inputs[0]
        (p, low), (q, high) = _log_sum_exp_lines(l, u, self.axes)
        maps = [LinearMap(lambda x, w=w: (w * x).sum(self.axes)) for w in (p, q)]
        return Relaxation((maps[0],), (maps[1],), low, high)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        count = _count(inputs[0], self.axes)
        return 2 * (count + 16) * unit * (1 + magnitude(value) + magnitude(inputs[0]).max(self.axes))

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> float:
        return 2 * (_count(inputs[0], self.axes) + 16) * tiny


@dataclasses.dataclass(frozen=True)
class Softmax(Operation):
    """`y = exp(x − log Σ exp(x))` over some axes, with the exact range of every entry on a box.

    Its lines go by `z = x − log Σ exp(x)`, between two linear functions of x, and a tangent and a chord of exp(z).
    """

    axes: tuple[int, ...]

    exact_ends = True

    def interval(self, *inputs: Interval) -> Interval:
        return Interval(*(jnp.exp(z) for z in self._log(inputs[0])))

    def _log(self, x: Interval) -> Interval:
        """`−log(1 + Σ_{j ≠ i} exp(x_j − x_i))` is least where x_i is least and all others are greatest."""
        others_low, others_high = (_log_sum_of_others(end, self.axes) for end in x)
        return Interval(-jnp.logaddexp(0, others_high - x.lower), -jnp.logaddexp(0, others_low - x.upper))

    def relax(self, value: Interval, inputs: Sequence[Interval], t: Any = None) -> Relaxation:
        l, u = inputs[0]
        z = self._log(inputs[0])
        (p, low), (q, high) = _log_sum_exp_lines(l, u, self.axes)
        low, high = (jnp.expand_dims(v, self.axes) for v in (low, high))
        point = 0.5 * z.lower + 0.5 * z.upper
        below = jnp.exp(point)
        above = chord(z.lower, z.upper, jnp.exp(z.lower), jnp.exp(z.upper), below)
        maps = [
            LinearMap(*(lambda x, s=s, w=w, sign=sign: s * (x + sign * (w * x).sum(self.axes, keepdims=True)) for sign in (-1, 1)))
            for s, w in ((below, q), (above, p))
        ]
        lower = below * (1 - point) - below * high
        upper = jnp.maximum(jnp.exp(z.lower) - above * z.lower, jnp.exp(z.upper) - above * z.upper) - above * low
        return Relaxation((maps[0],), (maps[1],), lower, upper)

    def error(self, inputs: Sequence[Interval], value: Interval, unit: float) -> Array:
        count = _count(inputs[0], self.axes)
        # What is far below the greatest rounds to 0 and does not matter; a masked entry must not count by its size.
        l, u = inputs[0]
        counts = u >= l.max(self.axes, keepdims=True) - 110
        size = jnp.where(counts, magnitude(inputs[0]), 0).max(self.axes, keepdims=True)
        return jnp.expm1(1.1 * (count + 16 + 4 * size) * unit) * (value.upper + unit)

    def flushed(self, inputs: Sequence[Interval], tiny: float) -> float:
        return 2 * (_count(inputs[0], self.axes) + 16) * tiny


def _count(x: Interval, axes: tuple[int, ...]) -> int:
    return math.prod(x.lower.shape[a] for a in axes)


def _first_greatest(v: Array, axes: tuple[int, ...]) -> Array:
    """One-hot over `axes`: the first entry that is greatest."""
    rest = [a for a in range(v.ndim) if a not in axes]
    flat = v.transpose(*rest, *axes).reshape(*(v.shape[a] for a in rest), -1)
    hot = jax.nn.one_hot(jnp.argmax(flat, -1), flat.shape[-1], dtype=bool)
    return hot.reshape(*(v.shape[a] for a in (*rest, *axes))).transpose(np.argsort([*rest, *axes]))


def _log_sum_exp_lines(l: Array, u: Array, axes: tuple[int, ...]) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """`(p, a), (q, b)` with `Σ p x + a <= log Σ exp(x) <= Σ q x + b` on [l, u]; weights of x's shape, offsets reduced."""
    finite = jnp.isfinite(l).all() & jnp.isfinite(u).all()
    l, u = jnp.where(finite, l, 0), jnp.where(finite, u, 0)
    c = 0.5 * l + 0.5 * u
    p = jax.nn.softmax(c, axes)
    low = jax.nn.logsumexp(c, axes) - (p * c).sum(axes)
    top = u.max(axes, keepdims=True)
    below, above = jnp.exp(l - top), jnp.exp(u - top)
    slope = chord(l, u, below, above, below)
    offset = jnp.maximum(below - slope * l, above - slope * u)
    total = (slope * c + offset).sum(axes, keepdims=True)
    # log S <= log S0 + (S − S0) / S0, with S0 the chords' sum in the middle.
    q = slope / total
    high = (offset / total).sum(axes) - 1 + jnp.squeeze(jnp.log(total) + top, axes)
    return (p, jnp.where(finite, low, -jnp.inf)), (q, jnp.where(finite, high, jnp.inf))


def _log_sum_of_others(v: Array, axes: tuple[int, ...]) -> Array:
    """`log Σ_{j ≠ i} exp(v_j)` for every i, by sums from both sides: no differences of nearly equal numbers."""
    rest = [a for a in range(v.ndim) if a not in axes]
    order = [*rest, *axes]
    flat = v.transpose(order).reshape(*(v.shape[a] for a in rest), -1)
    start = jnp.full((*flat.shape[:-1], 1), -jnp.inf, flat.dtype)
    before = jnp.concatenate([start, jax.lax.cumlogsumexp(flat, axis=flat.ndim - 1)[..., :-1]], -1)
    after = jnp.concatenate([jax.lax.cumlogsumexp(flat, axis=flat.ndim - 1, reverse=True)[..., 1:], start], -1)
    others = jnp.logaddexp(before, after)
    return others.reshape(*(v.shape[a] for a in order)).transpose(np.argsort(order))
