"""Models with weights by NumPy, for tests that would compile an initialiser for each shape."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx


def numbers(shapes: Any, seed: int = 0) -> Any:
    """Arrays for a tree of shapes: kernels of variance 2 / (what a unit sums), vectors about 0 (biases) or 1 (scales and variances), counts 0."""
    rng = np.random.default_rng(seed)

    def number(path: Any, leaf: Any) -> Any:
        if not jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating):
            return jax.random.key(seed) if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.zeros(leaf.shape, leaf.dtype)
        near = 1 if re.search(r"\b(scale|var)\b", jax.tree_util.keystr(path)) else 0
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if leaf.ndim > 1 else 0.1
        return (near + scale * rng.normal(size=leaf.shape)).astype(leaf.dtype)

    return jax.tree_util.tree_map_with_path(number, shapes)


def drawn(make: Callable[[nnx.Rngs], Any], seed: int = 0) -> Any:
    """The module `make(rngs)` with these numbers."""
    return numbers(nnx.eval_shape(lambda: make(nnx.Rngs(0))), seed)
