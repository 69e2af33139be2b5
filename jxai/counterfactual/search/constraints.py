"""What a counterfactual must keep to: projections onto sets, for every method that searches among examples.

A constraint has two functions of a point v and of the example x that it began from. `relaxed` is the projection onto a convex set in which a
gradient can move (probabilities for a one-hot group); `exact` gives a point of the set itself. For most they are the same.
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
from jxai.typing import Array, PyTree

__all__ = ["Constraint", "Frozen", "Monotone", "Near", "OneHot", "Ordinal", "Range", "settled"]


def _static() -> Any:
    return dataclasses.field(metadata={"static": True})


class Constraint(Protocol):
    """A set of points, given the example x."""

    def relaxed(self, v: Array, x: Array) -> Array:
        """The nearest point of the set's convex hull, or one near it."""

    def exact(self, v: Array, x: Array) -> Array:
        """A point of the set near v."""


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


def check_constraints(constraints: Sequence[Constraint], x: Array) -> tuple[Constraint, ...]:
    """The constraints as a tuple.

    Raises:
      ValueError: something else, one that does not fit x, one that leaves nothing to change, or a categorical feature of x that is out of range.
    """
    constraints = tuple(constraints)
    for n, c in enumerate(constraints):
        if not (hasattr(c, "relaxed") and hasattr(c, "exact")):
            raise ValueError(f"constraints[{n}] must be a constraint (Range, Frozen, Near, Monotone, OneHot, Ordinal), got {type(c).__name__}")
        _check_features(n, c, x)
        try:
            shape = jax.eval_shape(lambda v, c=c: c.exact(v, v), jax.ShapeDtypeStruct(x.shape, wide(jnp.zeros((), x.dtype)).dtype)).shape
        except (TypeError, ValueError, IndexError) as error:
            raise ValueError(f"constraints[{n}]={type(c).__name__} does not fit x of shape {x.shape}: {error}") from None
        if shape != x.shape:
            raise ValueError(f"constraints[{n}]={type(c).__name__} makes {shape} of x of shape {x.shape}")
        if isinstance(c, Frozen):
            _check_region(c.region)
        _check_categories(n, c, x)
    return constraints


def _check_features(n: int, c: Constraint, x: Array) -> None:
    if isinstance(c, OneHot):
        for group in c.groups:
            if not group or min(group) < 0 or max(group) >= x.size or len(set(group)) < len(group):
                raise ValueError(f"constraints[{n}]: the group {group} must hold features in [0, {x.size}), each once")
    if isinstance(c, Ordinal):
        if not 0 <= c.feature < x.size or list(c.levels) != sorted(c.levels) or not c.levels:
            raise ValueError(f"constraints[{n}]: feature={c.feature} must be in [0, {x.size}) and levels={c.levels} ascending")


def _check_categories(n: int, c: Constraint, x: Array) -> None:
    if isinstance(x, jax.core.Tracer):
        return
    v = np.asarray(x)
    if isinstance(c, OneHot):
        for group in c.groups:
            if not math.isclose(float(v[list(group)].sum()), 1, abs_tol=1e-5) or not np.isclose(v[list(group)].max(), 1, atol=1e-5):
                raise ValueError(f"constraints[{n}]: x is not one-hot in the group {group}: {v[list(group)]}")
    if isinstance(c, Ordinal) and not np.isclose(np.asarray(c.levels), v[c.feature], atol=1e-5).any():
        raise ValueError(f"constraints[{n}]: x[{c.feature}]={v[c.feature]} is none of the levels {c.levels}")


def frozen(region: Array | None) -> tuple[Frozen, ...]:
    """The constraint of a method's option `region`, none for None; raises ValueError for one that freezes everything."""
    if region is None:
        return ()
    _check_region(region)
    return (Frozen(jnp.asarray(region)),)


def _check_region(region: Array) -> None:
    if not isinstance(region, jax.core.Tracer) and not np.any(region):
        raise ValueError("region freezes every entry: nothing may change")


def check_examples(tree: PyTree, x: np.ndarray) -> None:
    """Raises ValueError unless the constraints among the nodes of a pytree fit every one of the examples `[n, …]`."""

    def is_constraint(node: PyTree) -> bool:
        return dataclasses.is_dataclass(node) and hasattr(node, "relaxed") and hasattr(node, "exact")

    found = [node for node in jax.tree.leaves(tree, is_leaf=is_constraint) if is_constraint(node)]
    check_constraints(found, x[0])
    for n, c in enumerate(found):
        if isinstance(c, (OneHot, Ordinal)):
            for example in x[1:]:
                _check_categories(n, c, example)


def _between(v: Array, low: float | Array, high: float | Array) -> Array:
    """v cut to a range, with a derivative of 1 at its ends."""
    return jnp.where(v < low, low, jnp.where(v > high, high, v)).astype(v.dtype)
