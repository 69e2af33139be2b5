"""JAX's loops and choices for routines: compiled once where they are called eagerly, and at home inside of `jax.shard_map`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jxai.callables import vary, varying_in
from jxai.loops.staging import staged
from jxai.typing import Array, PyTree

# Inside `jax.shard_map` a constant is the same on every device, and a derivative by it is summed over the devices. So whatever a loop starts
# from varies over all axes that anything in it does: its examples are each device's own.


def scan(body: Callable, init: PyTree, xs: PyTree = None, length: int | None = None) -> tuple[PyTree, PyTree]:
    """`lax.scan`."""
    first = lambda xs: jax.tree.map(lambda v: v[0], xs)
    return staged(lambda init, xs: lax.scan(body, _own(init, (lambda carry: body(carry, first(xs)), init), given=xs), xs, length), init, xs)


def while_loop(condition: Callable, body: Callable, init: PyTree) -> PyTree:
    """`lax.while_loop`."""
    return staged(lambda init: lax.while_loop(condition, body, _own(init, (condition, init), (body, init))), init)


def fori_loop(lower: Array | int, upper: Array | int, body: Callable, init: PyTree) -> PyTree:
    """`lax.fori_loop`."""
    return staged(lambda init: lax.fori_loop(lower, upper, body, _own(init, (lambda carry: body(lower, carry), init), given=(lower, upper))), init)


def map(fn: Callable, xs: PyTree, *, batch_size: int | None = None) -> PyTree:
    """`lax.map`."""
    return staged(lambda xs: lax.map(fn, xs, batch_size=batch_size), xs)


def cond(flag: Array, true: Callable, false: Callable, *operands: PyTree) -> PyTree:
    """`lax.cond`."""
    return switch(jnp.asarray(flag).astype(jnp.int32), (false, true), *operands)


def switch(index: Array, branches: Sequence[Callable], *operands: PyTree) -> PyTree:
    """`lax.switch`."""
    axes = varying_in((index, operands), *((branch, *operands) for branch in branches))
    branches = [lambda *given, branch=branch: _spread(branch(*given), axes) for branch in branches]
    return staged(lambda index, operands: lax.switch(index, branches, *operands), index, _spread(operands, axes))


def _own(init: PyTree, *calls: tuple, given: PyTree = None) -> PyTree:
    """What a loop starts from, of each device's own."""
    return _spread(init, varying_in((init, given), *calls))


def _spread(tree: PyTree, axes: frozenset[str]) -> PyTree:
    return vary(jax.tree.map(jnp.asarray, tree), axes) if axes else tree
