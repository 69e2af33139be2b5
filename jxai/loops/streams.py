"""Loops over perturbations: at most `chunk` passes at once, sums streamed, memory flat in their number.

The blocks are balanced (50 passes in chunks of 16 run as 4 blocks of 13, not as 3 of 16 and a wasteful fourth), and a body is
rematerialised under differentiation, so that a gradient through the loop does not keep the residuals of every pass.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jxai.loops.control import map, scan
from jxai.loops.staging import staged
from jxai.scores import positive, wide
from jxai.typing import Array, PyTree


def at_once(x: Array, chunk: int | None) -> int:
    """How many passes over examples like x run at once: `chunk`, or where it is None what keeps this kind of device busy.

    That is `2¹⁸ / x.size` between 2 and 64 on a CPU, whose caches a larger block of large images overruns (2 for
    224 × 224 pixels), and `2²³ / x.size` between 16 and 1024 on an accelerator (55).
    """
    if chunk is not None:
        positive(chunk=chunk)
        return chunk
    on_cpu = jax.default_backend() == "cpu"
    return min(max(2**18 // x.size, 2), 64) if on_cpu else min(max(2**23 // x.size, 16), 1024)


def block_sums(block: Callable[[Array, Array], PyTree], n: int, chunk: int) -> PyTree:
    """`Σ_b block(i_b, live_b)`: streams over `n` items in balanced blocks of at most `chunk`.

    Args:
      block: `(i [b], live [b]) -> pytree` of sums over its items; `i` holds indices below `n` (the last one repeated as
        padding) and `live` is 1.0 for an item that counts, 0.0 for padding.
      n: number of items, static. chunk: items per block at most.
    """
    positive(n=n, chunk=chunk)
    blocks, size = _balanced(n, chunk)

    def run(b: Array) -> PyTree:
        i = b * size + jnp.arange(size)
        return block(jnp.minimum(i, n - 1), (i < n).astype(jnp.float32))

    if blocks == 1:
        return staged(run, jnp.int32(0))
    body = jax.checkpoint(run)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(run, jnp.int32(0)))
    return scan(lambda total, b: (jax.tree.map(jnp.add, total, body(b)), None), zeros, jnp.arange(blocks))[0]


def sums(fn: Callable[[Array], PyTree], n: int, chunk: int) -> PyTree:
    """`Σ_{i<n} fn(i)` for a pytree-valued `fn`, float32 or wider, `chunk` calls at once by `vmap`."""

    def block(i: Array, live: Array) -> PyTree:
        def total(value: Array) -> Array:
            value = wide(value)
            keep = live.reshape(live.shape + (1,) * (value.ndim - 1)) > 0
            return jnp.where(keep, value, 0).sum(0)

        return jax.tree.map(total, jax.vmap(fn)(i))

    return block_sums(block, n, chunk)


def means(fn: Callable[[Array], PyTree], n: int, chunk: int) -> PyTree:
    """`1/n Σ_{i<n} fn(i)`, streamed as `sums` is."""
    return jax.tree.map(lambda value: value / n, sums(fn, n, chunk))


def moments(fn: Callable[[Array], Array], n: int, chunk: int) -> tuple[Array, Array]:
    """Mean and population variance (`ddof=0`) of `fn(0), …, fn(n-1)`, streamed, `chunk` calls at once by `vmap`.

    Blocks are merged as Chan et al. do (1983), so that float32 is accurate even where the mean dwarfs the spread, and the
    result does not depend on `chunk` but for rounding.
    """
    positive(n=n, chunk=chunk)
    blocks, size = _balanced(n, chunk)

    def block(b: Array) -> tuple[Array, Array, Array]:
        i = b * size + jnp.arange(size)
        value = jax.vmap(fn)(jnp.minimum(i, n - 1))
        value = wide(value)
        live = (i < n).reshape((size,) + (1,) * (value.ndim - 1))
        count = live.sum().astype(value.dtype)
        mean = jnp.where(live, value, 0).sum(0) / count
        return count, mean, jnp.where(live, (value - mean) ** 2, 0).sum(0)

    def merge(a, b):
        count, delta = a[0] + b[0], b[1] - a[1]
        return count, a[1] + delta * (b[0] / count), a[2] + b[2] + delta**2 * (a[0] * b[0] / count)

    if blocks == 1:
        _, mean, square = staged(block, jnp.int32(0))
    else:
        body = jax.checkpoint(block)
        zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(block, jnp.int32(0)))
        _, mean, square = scan(lambda total, b: (merge(total, body(b)), None), zeros, jnp.arange(blocks))[0]
    return mean, square / n


def stack(fn: Callable[[Array], PyTree], n: int, chunk: int) -> PyTree:
    """`[fn(0), …, fn(n-1)]`, for results that are small (a score per mask); `chunk` calls at once by `vmap`."""
    positive(n=n, chunk=chunk)
    blocks, size = _balanced(n, chunk)
    if blocks == 1:
        return staged(jax.vmap(fn), jnp.arange(n))
    body = jax.checkpoint(jax.vmap(fn))
    out = map(lambda b: body(jnp.minimum(b * size + jnp.arange(size), n - 1)), jnp.arange(blocks))
    return jax.tree.map(lambda value: value.reshape((blocks * size,) + value.shape[2:])[:n], out)


def _balanced(n: int, chunk: int) -> tuple[int, int]:
    blocks = -(-n // chunk)
    return blocks, -(-n // blocks)
