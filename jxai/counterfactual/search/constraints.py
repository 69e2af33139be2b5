"""What a counterfactual must keep to: projections onto sets, for every method that searches among examples.

A constraint has two functions of a point v and of the example x that it began from. `relaxed` is the projection onto a convex set in which a
gradient can move (probabilities for a one-hot group); `exact` gives a point of the set itself. For most they are the same. Whether a point is in the
set says `keeps`; a constraint whose set is thin in units of its own has a `holds(v, x)` for it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jxai.bounds.projection import projection
from jxai.bounds.region import ball
from jxai.scores import wide
from jxai.typing import Array

__all__ = ["Constraint", "Frozen", "Monotone", "Near", "OneHot", "Ordinal", "Range", "settled"]


def _static() -> Any:
    return dataclasses.field(metadata={"static": True})


class Constraint(Protocol):
    """A set of points, given the example x."""

    def relaxed(self, v: Array, x: Array) -> Array:
        """The nearest point of the set's convex hull, or one near it."""

    def exact(self, v: Array, x: Array) -> Array:
        """A point of the set near v, v itself in the set."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Range:
    """`low <= v <= high`, numbers or arrays that broadcast against x."""

    low: float | Array = 0.0
    high: float | Array = 1.0

    def relaxed(self, v: Array, x: Array) -> Array:
        return _between(v, self.low, self.high)

    exact = relaxed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Frozen:
    """Nothing changes but where `region` is True: booleans over the positions of x (`[H, W]`) or its entries; elsewhere v is x to the bit."""

    region: Array

    def relaxed(self, v: Array, x: Array) -> Array:
        region = jnp.asarray(self.region, bool)
        return jnp.where(region.reshape(region.shape + (1,) * (x.ndim - region.ndim)), v, x)

    exact = relaxed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Near:
    """`‖v − x‖_p <= radius` for p = 1, 2 or `math.inf` (see `jxai.bounds.ball` for radii by feature)."""

    radius: float | Array
    p: float = dataclasses.field(default=2.0, metadata={"static": True})

    def relaxed(self, v: Array, x: Array) -> Array:
        return projection(ball(x, self.radius, self.p))(v).astype(v.dtype)

    exact = relaxed

    def holds(self, v: Array, x: Array) -> Array:
        """`[]`: whether the distance is within the radius, up to the tolerance of each entry and of the radius."""
        radius = jnp.broadcast_to(jnp.asarray(self.radius, wide(x).dtype), x.shape)
        off = jnp.maximum(jnp.abs(wide(v) - wide(x)) - _slack(v, x), 0)
        share = jnp.where(off > 0, off / radius, 0)
        size = {1: share.sum(), 2: jnp.sqrt((share**2).sum()), math.inf: share.max()}[self.p]
        return size <= 1 + tolerance(v.dtype)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Monotone:
    """`direction · (v − x) >= 0`: +1 for a feature that may only grow, −1 for one that may only fall, 0 for any; broadcasts against x."""

    direction: Array

    def relaxed(self, v: Array, x: Array) -> Array:
        up, down = jnp.asarray(self.direction) > 0, jnp.asarray(self.direction) < 0
        return jnp.where((up & (v < x)) | (down & (v > x)), x, v)

    exact = relaxed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OneHot:
    """Of each group of features of a vector one is 1 and the others are 0; in the search they are probabilities.

    groups: indices of the features of each group.
    """

    groups: tuple[tuple[int, ...], ...] = _static()

    def relaxed(self, v: Array, x: Array) -> Array:
        for group in self.groups:
            at = np.asarray(group)
            v = v.at[at].set(optax.projections.projection_simplex(v[at]))
        return v

    def exact(self, v: Array, x: Array) -> Array:
        for group in self.groups:
            at = np.asarray(group)
            v = v.at[at].set(jax.nn.one_hot(jnp.argmax(v[at]), len(group), dtype=v.dtype))
        return v

    def holds(self, v: Array, x: Array) -> Array:
        """`[]`: whether each group is one-hot, up to the tolerance of 1."""
        return (jnp.abs(self.exact(v, x) - v) <= tolerance(v.dtype)).all()


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ordinal:
    """A feature of a vector takes one of its levels; in the search it moves between the least and the greatest.

    feature: its index. levels: ascending.
    """

    feature: int = _static()
    levels: tuple[float, ...] = _static()

    def relaxed(self, v: Array, x: Array) -> Array:
        return v.at[self.feature].set(_between(v[self.feature], self.levels[0], self.levels[-1]))

    def exact(self, v: Array, x: Array) -> Array:
        levels = jnp.asarray(self.levels, v.dtype)
        return v.at[self.feature].set(levels[jnp.argmin(jnp.abs(levels - v[self.feature]))])

    def holds(self, v: Array, x: Array) -> Array:
        """`[]`: whether the feature takes a level, up to the tolerance of the greatest."""
        return jnp.abs(self.exact(v, x) - v).max() <= tolerance(v.dtype) * max(map(abs, self.levels))


def tolerance(dtype: Any) -> float:
    """By which share of its size an entry may miss what a constraint asks of it: 1e-5, or two roundings of a narrower type."""
    return max(1e-5, 2 * float(jnp.finfo(dtype).eps))


def keeps(constraint: Constraint, v: Array, x: Array) -> Array:
    """`[]`: whether a constraint holds of v: by its own `holds(v, x)`, else if `exact` leaves v where it is, up to the tolerance of each entry."""
    if hasattr(constraint, "holds"):
        return constraint.holds(v, x)
    point = constraint.exact(wide(v), wide(x))
    return (jnp.abs(point - wide(v)) <= jnp.maximum(_slack(v, x), tolerance(v.dtype) * jnp.abs(point))).all()


def _slack(v: Array, x: Array) -> Array:
    return tolerance(v.dtype) * jnp.maximum(jnp.abs(wide(v)), jnp.abs(wide(x)))


def broadcasts(value: float | Array, x: Array) -> bool:
    """Whether a number or an array broadcasts against x."""
    shape = jnp.shape(value)
    return len(shape) <= len(x.shape) and all(a in (1, b) for a, b in zip(shape[::-1], x.shape[::-1]))


def settled(v: Array, x: Array, constraints: Sequence[Constraint]) -> Array:
    """The point that exact constraints make of v, one after the other; gradients pass a category as if it were v."""
    for constraint in constraints:
        exact = constraint.exact(v, x)
        # A projection onto a simplex has no derivative at its corners, where categories begin: it would hold them there.
        v = exact if type(constraint).exact is type(constraint).relaxed else jax.lax.stop_gradient(exact) + (v - jax.lax.stop_gradient(v))
    return v


def relaxed(v: Array, x: Array, constraints: Sequence[Constraint]) -> Array:
    """The point that relaxed constraints make of v, one after the other."""
    for constraint in constraints:
        v = constraint.relaxed(v, x)
    return v


def frozen(region: Array | None) -> tuple[Frozen, ...]:
    """The constraint of a method's option `region`, none for None; raises ValueError for one that freezes everything."""
    if region is None:
        return ()
    if not isinstance(region, jax.core.Tracer) and not np.any(region):
        raise ValueError("region freezes every entry: nothing may change")
    return (Frozen(jnp.asarray(region)),)


def _between(v: Array, low: float | Array, high: float | Array) -> Array:
    """v cut to a range, with a derivative of 1 at its ends."""
    return jnp.where(v < low, low, jnp.where(v > high, high, v)).astype(v.dtype)
