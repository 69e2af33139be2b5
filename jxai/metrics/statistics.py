"""Correlations of vectors, with a defined value where one of them is constant: 0, no association."""

from __future__ import annotations

import jax.numpy as jnp

from jxai.kernels.order import order_keys
from jxai.scores import wide
from jxai.typing import Array

CORRELATIONS = ("pearson", "spearman")


def correlate(kind: str, a: Array, b: Array, where: Array | None = None) -> Array:
    """`pearson` or `spearman` of the entries of a and b, or only of those where `where` holds."""
    a, b = wide(jnp.ravel(a)), wide(jnp.ravel(b))
    if kind == "spearman":
        # What does not count comes last, and so leaves the other ranks alone.
        a, b = (ranks(v if where is None else jnp.where(where, v, jnp.inf)) for v in (a, b))
    if where is not None:
        # An entry that is the mean of the others in both changes neither covariance nor variances.
        count = jnp.maximum(where.sum(), 1)
        a, b = (jnp.where(where, v, _total(v, where) / count) for v in (a - a[0], b - b[0]))
    return pearson(a, b)


def pearson(a: Array, b: Array) -> Array:
    """Pearson's correlation of all entries of a and b, in [−1, 1]; 0 where either is constant, NaN where an entry is not finite."""
    a, b = wide(jnp.ravel(a)), wide(jnp.ravel(b))
    # Shifted first, so that a constant becomes exactly 0, and scaled, so that squares neither overflow nor vanish.
    a, b = a - a[0], b - b[0]
    a, b = a - a.mean(), b - b.mean()
    a, b = (v / jnp.where(t == 0, 1, t) for v, t in ((a, jnp.abs(a).max()), (b, jnp.abs(b).max())))
    norm = jnp.sqrt((a * a).sum() * (b * b).sum())
    return jnp.where(norm == 0, 0.0, jnp.clip((a * b).sum() / jnp.where(norm == 0, 1, norm), -1, 1))


def ranks(v: Array) -> Array:
    """Ranks from 1, float32; equal entries share the mean of their ranks (`scipy.stats.rankdata`); NaN stays NaN."""
    v = jnp.ravel(v)
    keys = order_keys(v)
    ordered = jnp.sort(keys)
    rank = (jnp.searchsorted(ordered, keys, side="left") + jnp.searchsorted(ordered, keys, side="right") + 1).astype(jnp.float32) / 2
    return jnp.where(jnp.isnan(v), jnp.nan, rank)


def spearman(a: Array, b: Array) -> Array:
    """Spearman's rank correlation of all entries, ties by mean ranks, in [−1, 1]; 0 where either is constant."""
    return pearson(ranks(a), ranks(b))


def _total(v: Array, where: Array) -> Array:
    return jnp.where(where, v, 0).sum()
