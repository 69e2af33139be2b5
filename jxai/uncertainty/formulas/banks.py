"""Banks of training features: rows of norm 1, and the exact search for those most like an example's, in blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai import loops
from jxai.scores import positive, wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_features
from jxai.uncertainty.rows import blocks

CHUNK = 1024
"""Rows of a bank at once."""


def precision() -> np.dtype:
    """Of the numbers in a bank: float32, or float64 where JAX holds it."""
    return jax.dtypes.canonicalize_dtype(np.float64)


def units(features: Array, lengths: np.ndarray | None = None) -> Array:
    """`[n, D]`: rows of norm 1, or of these lengths; a row of zeros stays one."""
    rows, start = np.empty(np.shape(features), precision()), 0
    for (block,) in blocks(features):
        norm = np.linalg.norm(block, axis=1)
        stop = start + len(block)
        size = np.divide(1.0 if lengths is None else lengths[start:stop], norm, out=np.zeros(len(block)), where=norm > 0)
        rows[start:stop], start = block * size[:, None], stop
    return jnp.asarray(rows)


def nearest(bank: Array, z: Array, k: int, chunk: int) -> Array:
    """`[k]`: the rows of a bank `[N, D]` whose products with z `[D]` are largest, largest first, equal ones in their order.

    The bank is gone through in blocks of `chunk` rows, the best k so far carried along; nothing is differentiated through the choice.
    """
    positive(num_neighbours=k, chunk=chunk)
    n = bank.shape[0]
    if k > n:
        raise ValueError(f"num_neighbours={k} must be at most the {n} examples of the bank")
    bank, z = lax.stop_gradient((bank, z))
    size = min(chunk, n)

    def body(best: tuple[Array, Array], block: Array) -> tuple[tuple[Array, Array], None]:
        start = jnp.minimum(block * size, n - size)  # the last block begins before the one before it ends
        alike = products(lax.dynamic_slice_in_dim(bank, start, size), z)
        alike = jnp.where(start + jnp.arange(size) >= block * size, alike, -jnp.inf)
        values, at = lax.top_k(jnp.concatenate([best[0], alike]), k)
        return (values, jnp.where(at < k, best[1][jnp.minimum(at, k - 1)], start + at - k)), None

    none = jnp.full(k, -jnp.inf, z.dtype), jnp.zeros(k, jnp.int32)
    return loops.scan(body, none, jnp.arange(-(-n // size), dtype=jnp.int32))[0][1]


def products(rows: Array, z: Array) -> Array:
    """`rows @ z`, in full precision on every device."""
    return jnp.matmul(rows, z, precision=lax.Precision.HIGHEST)


def unit(features: Array | None, bank: Array) -> Array:
    """The features with norm 1, or 0 where they are; their size is divided out first, so that no square over- or underflows."""
    check_features(features, size=bank.shape[1])
    h = wide(jnp.asarray(features))
    size = lax.stop_gradient(jnp.abs(h).max())
    h = h / jnp.where(size > 0, size, 1)
    square = (h**2).sum()
    return h * lax.rsqrt(jnp.where(square > 0, square, 1))


def of_predicted(rows: Array, logits: Array) -> Array:
    """The row of the class with the largest logit; NaN where a logit is."""
    z = jnp.asarray(logits)
    return jnp.where(jnp.isnan(z).any(), jnp.nan, rows[jnp.argmax(z)])


def root(square: Array) -> Array:
    """√, whose derivative at 0 is 0."""
    here = square == 0
    return jnp.where(here, 0, jnp.sqrt(jnp.where(here, 1, square)))
