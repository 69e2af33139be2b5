"""Networks, examples and maps on which every option that is tried changes what comes out: by other random numbers than `jxai.testing`'s, under which
some choices coincide (a score that is saturated, a small network that no noise takes across a kink)."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jxai import testing
from jxai.testing import CLASSES


def network(shape: tuple[int, ...], model: Callable = testing.network) -> jax.tree_util.Partial:
    """`testing.network`, or another model, with other weights."""
    if model is not testing.network:
        return model(shape, 1)
    keys, scales = jax.random.split(jax.random.key(0), 4), (1, 1) if len(shape) == 1 else (0.5, 0.4, 2, 0.1)
    f = testing.network(shape)
    return jax.tree_util.Partial(f.func, [scale * jax.random.normal(key, w.shape) for key, scale, w in zip(keys, scales, f.args[0])])


def pointwise(shape: tuple[int, ...]) -> jax.tree_util.Partial:
    """`testing.pointwise` with other weights."""
    keys, where, hidden = jax.random.split(jax.random.key(0)), int(np.prod(shape[:-1])), 4
    first = jax.random.normal(keys[0], (shape[-1], hidden))
    second = jax.random.normal(keys[1], (where * hidden, CLASSES)) * (30 / where) ** 0.5
    return jax.tree_util.Partial(testing.pointwise(shape).func, {"first": {"kernel": first}, "second": {"kernel": second}})


def example(shape: tuple[int, ...]) -> jax.Array:
    return jax.random.uniform(jax.random.key(100), shape)


def attribution_map(shape: tuple[int, ...]) -> jax.Array:
    return jax.random.normal(jax.random.key(500), shape).astype(jnp.float32)
