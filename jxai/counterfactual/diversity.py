"""How far apart the counterfactuals of a set are."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai.counterfactual.search.norms import length
from jxai.scores import one_of, wide
from jxai.typing import Array

DIVERSITIES = ("dpp", "apd")


def diversity(points: Array, kind: str, distance: str = "l2") -> Array:
    """`[]`: the diversity of points `[k, …]`, `"dpp"` or `"apd"`, with a gradient that is finite where points coincide."""
    return {"dpp": dpp, "apd": apd}[one_of("diversity", kind, DIVERSITIES)](points, distance)


def dpp(points: Array, distance: str = "l2", jitter: float = 1e-4) -> Array:
    """The determinant of a determinantal point process, `det K`, `K_ij = 1 / (1 + d(x_i, x_j))`, for the whole set at once.

    In (0, 1 + …]: near 0 where two points coincide, near 1 where all are far apart.

    Args:
      points: `[k, …]`. distance: of two points, "l1" or "l2". jitter: added to the diagonal.
    """
    kernel = 1 / (1 + distances(points, distance))
    return jnp.linalg.det(kernel + jitter * jnp.eye(kernel.shape[0], dtype=kernel.dtype))


def apd(points: Array, distance: str = "l2") -> Array:
    """The average distance of two points of the set, `2 / (k (k − 1)) Σ_{i<j} d(x_i, x_j)`; 0 for a single point."""
    k = points.shape[0]
    return distances(points, distance).sum() / max(k * (k - 1), 1)


def distances(points: Array, distance: str = "l2") -> Array:
    """`[k, k]`: the distances of all pairs of points `[k, …]`."""
    flat = wide(points).reshape(points.shape[0], -1)
    return jax.vmap(lambda a: jax.vmap(lambda b: length(a - b, distance))(flat))(flat)
