"""Order statistics without sorting, which XLA does slowly on a CPU."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.typing import Array

_ABOVE_INFINITY = int(np.float32(np.inf).view(np.int32)) + 1


def kth_largest(v: Array, k: Array | int) -> Array:
    """The k-th largest entry of v, exactly, by bisection over float32 bit patterns.

    Args:
      v: any shape, float32 or narrower, entries in [0, ∞]. k: in [1, v.size]; may be traced.

    Returns:
      A float32 scalar; no derivative.
    """
    bits = lax.bitcast_convert_type(lax.stop_gradient(v).astype(jnp.float32), jnp.int32)

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = low + (high - low) // 2
        enough = (bits >= middle).sum() >= k
        return jnp.where(enough, middle, low), jnp.where(enough, high, middle)

    low, _ = lax.fori_loop(0, 31, halve, (jnp.int32(0), jnp.int32(_ABOVE_INFINITY)))
    return lax.bitcast_convert_type(low, jnp.float32)
