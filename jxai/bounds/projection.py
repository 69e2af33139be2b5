"""Moving within a region: the steepest step in its norm, the projection onto it, points of it at random."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jxai.bounds.region import Ball, Region
from jxai.typing import Array


def contains(region: Region, x: Array) -> Array:
    """`[]`: whether x lies in the region; a point on a ball's surface may count as outside by rounding, none outside counts as inside."""
    within = ((x >= region.lower) & (x <= region.upper)).all()
    if not isinstance(region, Ball):
        return within
    return within & (_norm(region, _scaled(region, x)) <= 1 - _slack(x) / 2)


def projection(region: Region) -> Callable[[Array], Array]:
    """`x -> a point of the region near x`, x itself where it lies well inside.

    For a box the nearest point; for a ball the nearest of the ball (for p = 1 by sorting), cut to its box, which contains the centre. Every
    rounding is towards the centre, so that the point lies in the region in real numbers.
    """
    if not isinstance(region, Ball):
        return lambda x: jnp.clip(x, region.lower, region.upper)

    def project(x: Array) -> Array:
        u = _scaled(region, x)
        size, most = _norm(region, u), 1 - _slack(x)
        if region.p == 1:
            u = jnp.where(size > most, _soft(u, most), u)
            size = _norm(region, u)
        u = u * jnp.where(size > most, most / jnp.where(size > most, size, 1), 1)
        inner, stop = region.center + region.radius * u, jax.lax.stop_gradient
        # The rounding has no derivative; what is added is 0.
        inner = jnp.nextafter(stop(inner), stop(region.center)) + (inner - stop(inner))
        return jnp.clip(inner, region.lower, region.upper)

    return project


def descent(region: Region, x: Array, gradient: Array, size: Array) -> Array:
    """The step from x that raises a linear function of this gradient most, among those of that size in the region's norm.

    p = ∞: `size · r · sign(g)`; p = 2: `size · r · g r / ‖g r‖`; p = 1: the features in the order of |g r|, each as far as the box lets it
    go, until the size is spent.
    """
    radius = region.radius if isinstance(region, Ball) else 0.5 * (region.upper - region.lower)
    if not isinstance(region, Ball):
        return size * radius * jnp.sign(gradient)
    g = gradient * radius
    top = jnp.abs(g).max()
    g = g / jnp.where(top > 0, top, 1)
    if region.p == 2:
        length = jnp.sqrt((g**2).sum())
        return size * radius * g / jnp.where(length > 0, length, 1)
    room = jnp.where(g > 0, region.upper - x, x - region.lower) / jnp.where(radius > 0, radius, 1)
    room = jnp.where(g == 0, 0, room).ravel()
    order = jnp.argsort(-jnp.abs(g).ravel())
    spent = jnp.cumsum(room[order])
    moved = jnp.clip(size - (spent - room[order]), 0, room[order])
    return radius * jnp.sign(g) * jnp.zeros_like(moved).at[order].set(moved).reshape(g.shape)


def random_point(region: Region, key: Array) -> Array:
    """A point drawn uniformly from a box, or from a ball and then cut to its box."""
    shape, dtype = region.lower.shape, region.lower.dtype
    if not isinstance(region, Ball):
        share = jax.random.uniform(key, shape, dtype)
        return jnp.clip(region.lower + share * (region.upper - region.lower), region.lower, region.upper)
    direction, signs, radius = jax.random.split(key, 3)
    free = region.radius > 0
    if region.p == 2:
        u = jnp.where(free, jax.random.normal(direction, shape, dtype), 0)
    else:
        u = jnp.where(free, jax.random.exponential(direction, shape, dtype) * jax.random.rademacher(signs, shape, dtype), 0)
    size = _norm(region, u)
    share = jax.random.uniform(radius, (), dtype) ** (1 / jnp.maximum(free.sum(), 1).astype(dtype))
    return projection(region)(region.center + region.radius * u * share / jnp.where(size > 0, size, 1))


def _scaled(ball: Ball, x: Array) -> Array:
    return jnp.where(ball.radius > 0, (x - ball.center) / jnp.where(ball.radius > 0, ball.radius, 1), 0)


def _norm(ball: Ball, u: Array) -> Array:
    if ball.p == 1:
        return _total(jnp.abs(u))
    square = _total(u * u)
    # The root of 0 has no derivative, and a search begins there: it is taken of something positive, and thrown away.
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _slack(x: Array) -> float:
    """A relative bound of what `_norm` may be off, twice."""
    return 2 * (math.ceil(math.log2(x.size + 1)) + 8) * float(jnp.finfo(x.dtype).eps)


def _total(v: Array) -> Array:
    """The sum, halves on halves, so that its relative error is known: log₂(n) roundings."""
    v = v.ravel()
    while v.size > 1:
        v = jnp.pad(v, (0, v.size % 2))
        v = v[: v.size // 2] + v[v.size // 2 :]
    return v[0]


def _soft(u: Array, size: float) -> Array:
    """The nearest point of the ℓ1 ball of that size to a point outside of it (Duchi et al. 2008)."""
    ordered = jnp.sort(jnp.abs(u).ravel())[::-1]
    excess = (jnp.cumsum(ordered) - size) / jnp.arange(1, ordered.size + 1, dtype=u.dtype)
    threshold = excess[jnp.maximum((ordered > excess).sum() - 1, 0)]
    return jnp.sign(u) * jnp.maximum(jnp.abs(u) - threshold, 0)
