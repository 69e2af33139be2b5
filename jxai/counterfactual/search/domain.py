"""Where a counterfactual may lie: the valid range and the constraints, what is wrong with them, and whether a point keeps to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.counterfactual.search.constraints import Constraint, Frozen, Monotone, Near, OneHot, Ordinal, Range, broadcasts, frozen, keeps, tolerance
from jxai.scores import wide
from jxai.typing import Array, Clip

_PLAIN = 10.0

__all__ = ["Domain", "check_constraints", "clipped"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Domain:
    """All points within `clip = (low, high)`, numbers or arrays that broadcast against x (None: everywhere), that every constraint holds of."""

    clip: Clip | None = None
    constraints: tuple[Constraint, ...] = ()
    region: Array | None = None
    """Where x may change, see `Frozen`; an example may have its own in its place."""
    scale: float | Array | None = 1.0
    """The unit of each entry, in which a method measures and steps; None where nobody said, which is 1 for pictures."""

    def contains(self, v: Array, x: Array) -> Array:
        """`[]`: whether v keeps to the domain of the example x, up to 1e-5 of an entry's size (in half precision two roundings); `[k]` of points `[k, …]`."""
        if v.ndim > x.ndim:
            return jax.vmap(lambda one: self.contains(one, x))(v)
        v, x = jnp.asarray(v), jnp.asarray(x)
        held = jnp.isfinite(v).all()
        for constraint in (*(() if self.clip is None else (Range(*self.clip),)), *self.all):
            held = held & keeps(constraint, v, x)
        return held

    @property
    def all(self) -> tuple[Constraint, ...]:
        """The constraints, the region as the last of them, so that what it freezes stays to the bit."""
        return (*self.constraints, *frozen(self.region))

    def within(self, x: Array) -> Array:
        """`[]`: whether x lies in the valid range."""
        return Domain(self.clip).contains(x, x)

    def check(self, x: Array) -> None:
        """Raises ValueError for constraints that do not fit x or one another, and where x is concrete if it lies outside of the range or nothing can keep
        to them all."""
        check_clip(self.clip, x)
        check_scale(self.scale, x)
        if self.region is not None and jnp.shape(self.region) not in (x.shape, x.shape[: jnp.ndim(self.region)]):
            raise ValueError(f"region of shape {jnp.shape(self.region)} must have the shape of x, {x.shape}, or of its positions")
        constraints = check_constraints(self.all, x)
        if concrete(x) and np.isfinite(np.asarray(x, np.float64)).all():
            _feasible(self.clip, constraints, np.asarray(x, np.float64))


def concrete(*values: object) -> bool:
    """Whether no array in these pytrees is traced (or a shape alone)."""
    return not any(isinstance(leaf, (jax.core.Tracer, jax.ShapeDtypeStruct)) for leaf in jax.tree.leaves(values))


def clipped(v: Array, clip: Clip | None) -> Array:
    """v cut to the valid range, in its own type."""
    return v if clip is None else jnp.clip(v, *(jnp.asarray(end, v.dtype) for end in clip))


def check_clip(clip: Clip | None, x: Array, name: str = "x") -> None:
    """Raises ValueError for a clip that is no (low, high) for x, or a concrete x that does not lie in it."""
    if clip is None:
        return
    if not isinstance(clip, (tuple, list)) or len(clip) != 2:
        raise ValueError(f"{clip=} must be (low, high), numbers or arrays that broadcast against x, or None")
    for end in clip:
        if not broadcasts(end, x):
            raise ValueError(f"clip of shape {jnp.shape(end)} must broadcast against x of shape {x.shape}")
    if not concrete(clip):
        return
    low, high = (np.asarray(end, np.float64) for end in clip)
    if not (low < high).all():
        raise ValueError(f"clip=({_shown(low)}, {_shown(high)}) must be (low, high) with low < high, or None")
    v = np.asarray(x, np.float64) if concrete(x) else None
    if v is not None and np.isfinite(v).all():
        held = np.clip(v, low, high)
        if not (np.abs(held - v) <= tolerance(x.dtype) * np.maximum(np.abs(v), np.abs(held))).all():  # as `keeps` of a Range
            raise ValueError(
                f"{name} must lie in clip=({_shown(low)}, {_shown(high)}), the valid range of its entries, but they go from {v.min():g} to {v.max():g}: "
                "give clip=(low, high), numbers or an array each with every feature's own, or clip=None for no range"
            )


def check_scale(scale: float | Array | None, x: Array | None = None) -> None:
    """Raises ValueError for a scale that is not positive or does not fit x, and for none where x is a vector or a series of which the features are in units
    of their own.

    Features in a common unit of about 1 (standardised, or in [0, 1]) are rarely beyond 10; ages, incomes and years are.
    """
    if scale is None:
        if x is not None and concrete(x) and len(x.shape) < 3 and (most := np.abs(np.asarray(x, np.float64)).max()) > _PLAIN and np.isfinite(most):
            raise ValueError(
                f"scale=None: x is a {'vector' if len(x.shape) == 1 else 'series'} with entries up to {most:g}, so that steps and distances need each "
                "feature's own unit: give scale=, a number or an array that broadcasts against x (each feature's standard deviation or median absolute deviation), or scale=1.0 if one unit fits all"
            )
        return
    if concrete(scale) and not (np.isfinite(values := np.asarray(scale, np.float64)) & (values > 0)).all():
        raise ValueError(f"scale={values[~(np.isfinite(values) & (values > 0))].ravel()[0] if values.ndim else values} must be finite and greater than 0")
    if x is not None and not broadcasts(scale, x):
        raise ValueError(f"scale of shape {jnp.shape(scale)} must broadcast against x of shape {x.shape}")


def unit(scale: float | Array | None, x: Array) -> Array:
    """The scale as an array of the type that x is searched in; 1 for None."""
    return jnp.asarray(1.0 if scale is None else scale, wide(x).dtype)


def check_constraints(constraints: Sequence[Constraint], x: Array) -> tuple[Constraint, ...]:
    """The constraints as a tuple.

    Raises:
      ValueError: something else, one that does not fit x or holds of nothing, two for one category, or a categorical feature of x that is out of range.
    """
    constraints = tuple(constraints)
    owner: dict[int, int] = {}
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
        _check_values(n, c)
        _check_categories(n, c, x)
        for feature in _categorical(c):
            if feature in owner:
                raise ValueError(f"constraints[{n}]: feature {feature} is a category of constraints[{owner[feature]}] already")
            owner[feature] = n
    return constraints


def check_examples(domain: Domain, x: np.ndarray, region: np.ndarray | None = None) -> None:
    """Raises ValueError unless every one of the examples `[n, …]` fits the domain, with regions `[n, …]` of their own."""
    check_clip(domain.clip, x[0])
    check_clip(domain.clip, x)
    check_scale(domain.scale, x[np.argmax(np.abs(x).reshape(len(x), -1).max(1))])
    check_constraints(domain.constraints, x[0])
    for i, example in enumerate(x if domain.constraints else ()):
        own = domain if region is None else dataclasses.replace(domain, region=region[i])
        try:
            for n, c in enumerate(domain.constraints):
                _check_categories(n, c, example)
            _feasible(own.clip, own.all, np.asarray(example, np.float64))
        except ValueError as error:
            raise ValueError(f"example {i}: {error}") from None


def _check_features(n: int, c: Constraint, x: Array) -> None:
    if isinstance(c, OneHot):
        for group in c.groups:
            if not group or min(group) < 0 or max(group) >= x.size or len(set(group)) < len(group):
                raise ValueError(f"constraints[{n}]: the group {group} must hold features in [0, {x.size}), each once")
    if isinstance(c, Ordinal):
        if not 0 <= c.feature < x.size or list(c.levels) != sorted(c.levels) or not c.levels or not np.isfinite(c.levels).all():
            raise ValueError(f"constraints[{n}]: feature={c.feature} must be in [0, {x.size}) and levels={c.levels} ascending")


def _check_values(n: int, c: Constraint) -> None:
    if not concrete(c):
        return
    if isinstance(c, Range):
        low, high = np.broadcast_arrays(np.asarray(c.low, np.float64), np.asarray(c.high, np.float64))
        if not (low <= high).all():
            at = tuple(np.argwhere(~(low <= high))[0].tolist())
            raise ValueError(f"constraints[{n}]=Range: low={low[at]:g} must not exceed high={high[at]:g}" + (f" at {at}" if at else ""))
    if isinstance(c, Monotone) and not np.isfinite(np.asarray(c.direction, np.float64)).all():
        raise ValueError(f"constraints[{n}]=Monotone: direction={np.asarray(c.direction)} must be finite")
    if isinstance(c, Frozen) and not np.any(c.region):
        raise ValueError("region freezes every entry: nothing may change")


def _categorical(c: Constraint) -> tuple[int, ...]:
    if isinstance(c, OneHot):
        return tuple(feature for group in c.groups for feature in group)
    return (c.feature,) if isinstance(c, Ordinal) else ()


def _check_categories(n: int, c: Constraint, x: Array) -> None:
    if not concrete(x):
        return
    v = np.asarray(x)
    if isinstance(c, OneHot):
        for group in c.groups:
            if not np.allclose(np.sort(v[list(group)]), np.arange(len(group)) == len(group) - 1, atol=1e-5):
                raise ValueError(f"constraints[{n}]: x is not one-hot in the group {group}: {v[list(group)]}")
    if isinstance(c, Ordinal) and not np.isclose(np.asarray(c.levels), v[c.feature], atol=1e-5).any():
        raise ValueError(f"constraints[{n}]: x[{c.feature}]={v[c.feature]} is none of the levels {c.levels}")


def _feasible(clip: Clip | None, constraints: Sequence[Constraint], x: np.ndarray) -> None:
    """Raises ValueError where nothing keeps to all of these: for each entry the interval that is left, then balls and categories within it."""
    low, high = np.full(x.shape, -np.inf), np.full(x.shape, np.inf)
    below, above = np.full(x.shape, -2), np.full(x.shape, -2)
    name = lambda n: "clip" if n < 0 else f"constraints[{n}]={type(constraints[n]).__name__}" if n < len(constraints) else ""
    for n, (least, most) in enumerate([(-np.inf, np.inf) if clip is None else clip, *(_interval(c, x) for c in constraints)], -1):
        if not concrete((least, most)):
            continue
        least, most = (np.broadcast_to(np.asarray(end, np.float64), x.shape) for end in (least, most))
        below, above = np.where(least > low, n, below), np.where(most < high, n, above)
        low, high = np.maximum(low, least), np.minimum(high, most)
    room = 1e-5 * np.maximum(np.abs(_finite(low)), np.abs(_finite(high)))
    for at in map(tuple, np.argwhere(low > high + room).tolist()):
        where = at[0] if len(at) == 1 else at
        raise ValueError(
            f"nothing keeps to both {name(below[at])} and {name(above[at])}: entry {where} of x, {x[at]:g}, must be at least {low[at]:g} and at most {high[at]:g}"
        )
    nearest = np.clip(x, low, high)
    for n, c in enumerate(constraints):
        inside = lambda feature, value: low[feature] - 1e-5 <= value <= high[feature] + 1e-5
        if isinstance(c, Near) and concrete(c) and not bool(keeps(c, jnp.asarray(nearest, jnp.float32), jnp.asarray(x, jnp.float32))):
            raise ValueError(
                f"nothing keeps to {name(n)} and the other constraints: the nearest point to x that keeps to those is further than radius={c.radius}"
            )
        if isinstance(c, Ordinal) and not any(inside(c.feature, level) for level in c.levels):
            raise ValueError(
                f"constraints[{n}]: none of levels={c.levels} of feature {c.feature} lies in [{low[c.feature]:g}, {high[c.feature]:g}], where it may be"
            )
        for group in c.groups if isinstance(c, OneHot) else ():
            if not any(all(inside(feature, float(feature == one)) for feature in group) for one in group):
                raise ValueError(f"constraints[{n}]: no category of the group {group} may be 1 with the others 0, by clip and the other constraints")


def _interval(c: Constraint, x: np.ndarray) -> tuple[Any, Any]:
    """What a constraint asks of each entry alone."""
    free = -np.inf, np.inf
    if not concrete(c):
        return free
    if isinstance(c, Range):
        return c.low, c.high
    if isinstance(c, Near):
        return x - np.asarray(c.radius), x + np.asarray(c.radius)
    if isinstance(c, Monotone):
        direction = np.broadcast_to(np.asarray(c.direction), x.shape)
        return np.where(direction > 0, x, -np.inf), np.where(direction < 0, x, np.inf)
    if isinstance(c, Frozen):
        region = np.asarray(c.region, bool)
        opened = np.broadcast_to(region.reshape(region.shape + (1,) * (x.ndim - region.ndim)), x.shape)
        return np.where(opened, -np.inf, x), np.where(opened, np.inf, x)
    return free


def _finite(value: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(value), value, 0)


def _shown(end: np.ndarray) -> str:
    return f"{end}" if end.ndim == 0 or end.size <= 6 else f"array of {end.size} from {end.min():g} to {end.max():g}"
