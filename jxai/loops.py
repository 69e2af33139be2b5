"""Loops over perturbations: at most `chunk` passes at once, sums streamed, memory flat in their number.

The blocks are balanced (50 passes in chunks of 16 run as 4 blocks of 13, not as 3 of 16 and a wasteful fourth), and a body is
rematerialised under differentiation, so that a gradient through the loop does not keep the residuals of every pass.

`scan`, `while_loop`, `fori_loop`, `cond` and `switch` are `jax.lax`'s, for bodies that close over what varies over the axes of a `jax.shard_map`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jxai.callables import vary, varying_in
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
        return run(jnp.int32(0))
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
        _, mean, square = block(jnp.int32(0))
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
        return jax.vmap(fn)(jnp.arange(n))
    body = jax.checkpoint(jax.vmap(fn))
    out = lax.map(lambda b: body(jnp.minimum(b * size + jnp.arange(size), n - 1)), jnp.arange(blocks))
    return jax.tree.map(lambda value: value.reshape((blocks * size,) + value.shape[2:])[:n], out)


# Inside `jax.shard_map` a constant is the same on every device, and a derivative by it is summed over the devices. So whatever a loop starts
# from varies over all axes that anything in it does: its examples are each device's own.


def scan(body: Callable, init: PyTree, xs: PyTree = None, length: int | None = None) -> tuple[PyTree, PyTree]:
    """`lax.scan`."""
    return lax.scan(body, _own(init, (lambda carry: body(carry, jax.tree.map(lambda v: v[0], xs)), init), given=xs), xs, length)


def while_loop(condition: Callable, body: Callable, init: PyTree) -> PyTree:
    """`lax.while_loop`."""
    return lax.while_loop(condition, body, _own(init, (condition, init), (body, init)))


def fori_loop(lower: Array | int, upper: Array | int, body: Callable, init: PyTree) -> PyTree:
    """`lax.fori_loop`."""
    return lax.fori_loop(lower, upper, body, _own(init, (lambda carry: body(lower, carry), init), given=(lower, upper)))


def cond(flag: Array, true: Callable, false: Callable, *operands: PyTree) -> PyTree:
    """`lax.cond`."""
    return switch(jnp.asarray(flag).astype(jnp.int32), (false, true), *operands)


def switch(index: Array, branches: Sequence[Callable], *operands: PyTree) -> PyTree:
    """`lax.switch`."""
    axes = varying_in((index, operands), *((branch, *operands) for branch in branches))
    return lax.switch(index, [lambda *given, branch=branch: _spread(branch(*given), axes) for branch in branches], *_spread(operands, axes))


def _own(init: PyTree, *calls: tuple, given: PyTree = None) -> PyTree:
    """What a loop starts from, of each device's own."""
    return _spread(init, varying_in((init, given), *calls))


def _spread(tree: PyTree, axes: frozenset[str]) -> PyTree:
    return vary(jax.tree.map(jnp.asarray, tree), axes) if axes else tree


def _balanced(n: int, chunk: int) -> tuple[int, int]:
    blocks = -(-n // chunk)
    return blocks, -(-n // blocks)
