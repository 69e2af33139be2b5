"""Points of a region, drawn and climbed to, at which bounds must hold."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.bounds import Box


def points(box: Box, count: int, key: jax.Array) -> jax.Array:
    """`[count, *shape]` points of a box: uniform ones, corners, points on its faces, and its centre."""
    shares, kind, side = jax.random.split(key, 3)
    shape = (count, *box.lower.shape)
    share = jax.random.uniform(shares, shape)
    corner = jax.random.bernoulli(side, 0.5, shape).astype(share.dtype)
    how = jnp.arange(count).reshape((-1,) + (1,) * box.lower.ndim) % 3
    on_face = jax.random.bernoulli(kind, 0.7, shape)
    share = jnp.where(how == 0, share, jnp.where((how == 1) | on_face, corner, share)).at[0].set(0.5)
    return jnp.clip(box.lower + share * (box.upper - box.lower), box.lower, box.upper)


def climbed(f: Callable, box: Box, count: int, key: jax.Array, steps: int = 20) -> jax.Array:
    """Values `[2, n, K]` of f at points that projected gradient descent drives to the least (0) and the greatest (1) of each entry."""
    size = int(np.prod(jax.eval_shape(f, box.lower).shape))
    starts = points(box, count, key)

    def run(x, entry, sign):
        def step(x, n):
            g = jax.grad(lambda v: sign * f(v).ravel()[entry])(x)
            moved = x + (0.5 * 0.8**n) * (box.upper - box.lower) * jnp.sign(jnp.where(jnp.isfinite(g), g, 0))
            return jnp.clip(moved, box.lower, box.upper), None

        return f(lax.scan(step, x, jnp.arange(steps))[0]).ravel()

    each = jax.vmap(jax.vmap(run, (0, None, None)), (None, 0, None))
    return jnp.stack([each(starts, jnp.arange(size), sign).reshape(-1, size) for sign in (-1.0, 1.0)])
