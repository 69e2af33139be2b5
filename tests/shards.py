"""A function of one example over two devices, inside `jax.shard_map` with its defaults, beside `vmap`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P


def sharded(call, *args):
    """`vmap(call)` with the first axis of every argument over two devices."""
    mesh = jax.make_mesh((2,), ("i",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2])
    return jax.jit(jax.shard_map(jax.vmap(call), mesh=mesh, in_specs=P("i"), out_specs=P("i")))(*args)


def same(call, *args, tolerance=2e-5):
    """Requires of two examples on two devices what they give on one."""
    ours, theirs = (jax.tree.map(np.asarray, run(*args)) for run in (lambda *a: sharded(call, *a), jax.jit(jax.vmap(call))))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=10 * tolerance, atol=tolerance * (np.nanmax(np.abs(b), initial=0) + 1e-3)), ours, theirs)


def two(make, shape):
    """Two of what is made by a shape and a seed."""
    return jnp.stack([make(shape, seed) for seed in range(2)])
