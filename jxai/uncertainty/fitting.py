"""Sums over many examples that fits are made of: on the host, in float64, a block of rows at a time, so that memory is flat in their number."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jxai.uncertainty.checks import check_examples, check_host
from jxai.uncertainty.heads import Head
from jxai.uncertainty.rows import blocks


def given(name: str, features: Any, logits: Any = None, labels: Any = None, *, read: tuple[str, ...] = ()) -> tuple[int, int, int]:
    """`(n, D, K)` of what a fit was given, checked; K is 0 without logits.

    Args:
      name: of the fit. read: which of `"logits"` and `"labels"` it cannot do without.

    Raises:
      ValueError: what `check_examples` refuses, what must be given and is None, or what is traced.
    """
    for what, value, shape in (("logits", logits, "[n, K]"), ("labels", labels, "[n]")):
        if what in read and value is None:
            raise ValueError(f"{what} must be {shape}, which {name} reads, got None")
    check_host(name, **{what: value for what, value in (("features", features), ("logits", logits), ("labels", labels)) if value is not None})
    return check_examples(features, logits, labels)


def need_head(head: Any, d: int, k: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The weights `[D, K]` and the bias `[K]` of a head, in float64.

    Raises:
      ValueError: no Head, one of other sizes, or one with NaN or infinite entries.
    """
    if not isinstance(head, Head):
        raise ValueError(f"head must be a Head, which {name} reads: jxai.uncertainty.linear_head(f, x) finds a model's, got {type(head).__name__}")
    check_host(name, head=head)
    if jnp.shape(head.weights) != (d, k) or jnp.shape(head.bias) != (k,):
        raise ValueError(f"head must map the {d} features to the {k} logits, got weights {jnp.shape(head.weights)} and bias {jnp.shape(head.bias)}")
    weights, bias = np.asarray(head.weights, np.float64), np.asarray(head.bias, np.float64)
    if not (np.isfinite(weights).all() and np.isfinite(bias).all()):
        raise ValueError("head must be finite, but has NaN or infinite entries")
    return weights, bias


def rounding(array: Any) -> float:
    """The relative rounding of the numbers that an array holds."""
    return float(jnp.finfo(getattr(array, "dtype", np.float64)).eps)


def wide_dtype(array: Any) -> Any:
    """Of what is made of an array: that of its numbers, float32 or wider."""
    return jnp.promote_types(jnp.float32, getattr(array, "dtype", np.float32))


def mean(features: Any) -> np.ndarray:
    """`[D]`: the mean of rows."""
    return np.sum([block.sum(0) for (block,) in blocks(features)], 0) / len(features)


def gather(totals: np.ndarray, values: np.ndarray, labels: np.ndarray, by: np.ufunc = np.add) -> None:
    """Adds each row of values to the row of totals that its label says, in place; `by` another operation than the sum."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    totals[present] = by(totals[present], by.reduceat(values[order], starts, axis=0))


def class_means(features: Any, labels: Any, k: int) -> tuple[np.ndarray, np.ndarray]:
    """`[K, D]` and `[K]`: each class's mean, 0 without examples, and how many examples it has."""
    sums, counts = np.zeros((k, np.shape(features)[1])), np.zeros(k)
    for rows, own in blocks(features, labels):
        gather(sums, rows, own)
        counts += np.bincount(own, minlength=k)
    return sums / np.maximum(counts, 1)[:, None], counts


def second_moment(features: Any, origin: np.ndarray, labels: Any = None) -> np.ndarray:
    """`[D, D]`: the mean of `(h − o)(h − o)ᵀ`, o an origin `[D]`, or `[K, D]` where each class has its own."""
    total = np.zeros((np.shape(features)[1],) * 2)
    for rows, *own in blocks(features, *([] if labels is None else [labels])):
        away = rows - (origin[own[0]] if own else origin)
        total += away.T @ away
    return total / len(features)


def whitening(covariance: np.ndarray, centre: np.ndarray, eps: float) -> np.ndarray:
    """`[D, r]`: W with `W Wᵀ = Σ⁺`, the pseudo-inverse of a covariance of rank r.

    A direction counts if the features vary in it by more than the rounding of their numbers and of the products can say.

    Args:
      covariance: `[D, D]`, Σ. centre: `[D]`, where the features are. eps: the relative rounding of their numbers.

    Raises:
      ValueError: none counts.
    """
    values, vectors = np.linalg.eigh(covariance)
    noise = np.finfo(np.float64).eps * values[-1] + eps**2 * (np.diag(covariance) + centre**2).max()
    kept = values > len(values) * noise
    if not kept.any():
        raise ValueError("features must vary within the classes, but those of each class are all the same: no covariance")
    return vectors[:, kept] / np.sqrt(values[kept])
