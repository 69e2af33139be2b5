"""Models with weights by NumPy, for tests that would compile an initialiser for each shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx


def drawn(make: Callable[[nnx.Rngs], Any], seed: int = 0) -> Any:
    """`make(rngs)` with normal weights: kernels of variance 2 / (what a unit sums), vectors (biases) of .01."""
    rng = np.random.default_rng(seed)

    def weight(leaf: Any) -> np.ndarray:
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1
        return (scale * rng.normal(size=leaf.shape)).astype(leaf.dtype)

    return jax.tree.map(weight, nnx.eval_shape(lambda: make(nnx.Rngs(0))))
