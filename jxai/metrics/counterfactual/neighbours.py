"""Where a counterfactual lies among the examples of a data set: near those of its class, or of its old one.

Distances can be taken in a space of features: `features=φ` maps x', and `examples` are given mapped already. Neighbours are found block by block, so that
memory does not grow with the data set, and of equally near ones the first counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jxai import loops
from jxai.callables import plainly
from jxai.loops import scan
from jxai.metrics.counterfactual.common import at_class, check_class, check_pair, finite, is_class, norm, represent
from jxai.scores import check_labels, one_of, positive, wide
from jxai.typing import Array, Model

__all__ = ["class_density", "knn_target_share", "nearest", "nearest_target_distance", "prototype_gap", "trust_score", "ynn"]

DISTANCES = ("l1", "l2")
Features = Callable[[Array], Array] | None


def nearest(point: Array, examples: Array, k: int = 1, *, distance: str = "l2", allowed: Array | None = None, chunk: int = 512) -> tuple[Array, Array]:
    """The k nearest examples of a point: their distances `[k]`, ascending, and their indices `[k]`.

    Args:
      point: `[*shape]`. examples: `[n, *shape]`. k: in [1, n]. distance: "l1" or "l2".
      allowed: `[n]`, bool: which to look at; in place of one that is missing come a distance of ∞ and an index of −1. chunk: examples at once.

    Raises:
      ValueError: no examples or of another shape than the point, k out of its range, an unknown distance, a bad chunk.
    """
    one_of("distance", distance, DISTANCES)
    positive(k=k, chunk=chunk)
    examples = jnp.asarray(examples)
    if examples.ndim < 1 or not examples.shape[0] or examples.shape[1:] != point.shape:
        raise ValueError(f"examples must be [n, *{point.shape}] with n >= 1, got shape {examples.shape}")
    n, size = examples.shape[0], min(chunk, examples.shape[0])
    if k > n:
        raise ValueError(f"{k=} must be at most the number of examples, {n}")
    point, flat = wide(point).ravel(), examples.reshape(n, -1)
    allowed = jnp.ones(n, bool) if allowed is None else jnp.asarray(allowed)

    def block(best: tuple[Array, Array], first: Array) -> tuple[tuple[Array, Array], None]:
        # The last block is as large as the others: its first examples were in the one before.
        start = jnp.minimum(first, n - size)
        i = start + jnp.arange(size)
        far = jax.vmap(lambda v: norm(v - point, distance))(lax.dynamic_slice_in_dim(flat, start, size))
        # An example with NaN is near nothing.
        live = (i >= first) & lax.dynamic_slice_in_dim(allowed, start, size) & ~jnp.isnan(far)
        far = jnp.concatenate([best[0], jnp.where(live, far, jnp.inf)])
        least, at = lax.top_k(-far, k)
        return (-least, jnp.concatenate([best[1], jnp.where(live, i, -1)])[at]), None

    none = (jnp.full(k, jnp.inf, jnp.result_type(flat, point)), jnp.full(k, -1))
    return scan(block, none, jnp.arange(0, n, size))[0]


@plainly
def nearest_target_distance(
    f: Model | None,
    x: Array,
    counterfactual: Array,
    target: int | Array,
    *,
    examples: Array,
    labels: Array,
    features: Features = None,
    distance: str = "l2",
    chunk: int = 512,
) -> Array:
    """The distance to the nearest example of the target class, `min_{i: y_i = t} ‖φ(x') − φ(x_i)‖`.

    Args:
      f: used for its classes; may be None. x: the example, used for its shape. counterfactual: x', of x's shape. target: t.
      examples: `[n, …]`, in the space of φ. labels: `[n]`, their classes y, given or predicted. features: φ; None for x itself.
      distance: "l1" or "l2". chunk: examples at once.

    Returns:
      float32; NaN where x' is not finite, or there is no example of the target.

    Raises:
      ValueError: bad x, counterfactual, target or option, no examples or of another shape, labels of another length.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: no passes of f, one of φ, n distances.
    Reference: Kenny and Keane 2021, "On Generating Plausible Counterfactual and Semi-Factual Explanations for Deep Learning", AAAI.
    """
    known = _check(f, x, counterfactual, target, examples, labels)
    far = nearest(represent(features, counterfactual), examples, distance=distance, allowed=jnp.asarray(labels) == target, chunk=chunk)[0][0]
    return finite(jnp.where(known & jnp.isfinite(far), far, jnp.nan), counterfactual)


@plainly
def knn_target_share(
    f: Model | None,
    x: Array,
    counterfactual: Array,
    target: int | Array,
    *,
    examples: Array,
    labels: Array,
    k: int = 10,
    features: Features = None,
    distance: str = "l2",
    chunk: int = 512,
) -> Array:
    """The share of the target class among the nearest examples, `1/k Σ_{i ∈ kNN(x')} 1[y_i = t]`.

    Args:
      f: used for its classes; may be None. x: the example, used for its shape. counterfactual: x', of x's shape. target: t.
      examples: `[n, …]`, in the space of φ. labels: `[n]`, their classes y. k: neighbours, in [1, n]. features: φ; None for x itself.
      distance: "l1" or "l2". chunk: examples at once.

    Returns:
      float32; NaN where x' is not finite, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual, target or option, no examples or of another shape, labels of another length.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes of f, one of φ, n distances.
    Reference: Dombrowski et al. 2022, "Diffeomorphic Counterfactuals with Generative Models", arXiv 2206.05075.
    """
    known = _check(f, x, counterfactual, target, examples, labels)
    at = nearest(represent(features, counterfactual), examples, k, distance=distance, chunk=chunk)[1]
    return finite(jnp.where(known, (jnp.asarray(labels)[at] == target).mean(dtype=jnp.float32), jnp.nan), counterfactual)


@plainly
def ynn(
    f: Model,
    x: Array,
    counterfactual: Array,
    target: int | Array,
    *,
    examples: Array,
    k: int = 5,
    distance: str = "l2",
    chunk: int = 512,
) -> Array:
    """yNN: the share of the nearest examples that the model takes for the target, `1 − 1/k Σ_{i ∈ kNN(x')} 1[argmax f(x_i) ≠ t]`.

    CARLA's formula has `|t − argmax f(x_i)|` of two classes, which is the same there; this is its form for any number of classes.

    Args:
      f: a model. x: the example, used for its shape. counterfactual: x', of x's shape. target: t.
      examples: `[n, *x.shape]`. k: neighbours, in [1, n]. distance: "l1" or "l2". chunk: examples at once.

    Returns:
      float32; NaN where x' is not finite, an output of f has NaN, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual, target or option, no examples or of another shape.

    Range: [0, 1].
    Direction: higher is better.
    Cost: k forward passes, n distances.
    Reference: Pawelczyk et al. 2021, "CARLA: A Python Library to Benchmark Algorithmic Recourse and Counterfactual Explanation Algorithms", NeurIPS.
    """
    check_pair(x, counterfactual)
    check_class(f, x, target)
    at = nearest(counterfactual, examples, k, distance=distance, chunk=chunk)[1]
    share = loops.means(lambda i: is_class(wide(f(jnp.asarray(examples)[at[i]].astype(x.dtype))), target), k, loops.at_once(x, None))
    return finite(share, counterfactual)


@plainly
def trust_score(
    f: Model | None,
    x: Array,
    counterfactual: Array,
    target: int | Array,
    *,
    examples: Array,
    labels: Array,
    features: Features = None,
    distance: str = "l2",
    chunk: int = 512,
) -> Array:
    """The trust score of the target, `min_{i: y_i ≠ t} ‖φ(x') − φ(x_i)‖ / min_{i: y_i = t} ‖φ(x') − φ(x_i)‖`.

    Above 1, x' lies nearer to the target than to all other classes. The paper leaves outliers out of the examples first; so may the caller.

    Args:
      f: used for its classes; may be None. x: the example, used for its shape. counterfactual: x', of x's shape. target: t.
      examples: `[n, …]`, in the space of φ. labels: `[n]`, their classes y. features: φ; None for x itself.
      distance: "l1" or "l2". chunk: examples at once.

    Returns:
      float32; ∞ on an example of the target; NaN where x' is not finite, or there are no examples of the target, or of no other class.

    Raises:
      ValueError: bad x, counterfactual, target or option, no examples or of another shape, labels of another length.

    Range: [0, ∞].
    Direction: higher is better.
    Cost: no passes of f, one of φ, 2 n distances.
    Reference: Jiang et al. 2018, "To Trust Or Not To Trust A Classifier", NeurIPS.
    """
    known = _check(f, x, counterfactual, target, examples, labels)
    h, inside = represent(features, counterfactual), jnp.asarray(labels) == target
    own, other = (nearest(h, examples, distance=distance, allowed=of, chunk=chunk)[0][0] for of in (inside, ~inside))
    return finite(jnp.where(known & jnp.isfinite(own) & jnp.isfinite(other), other / own, jnp.nan), counterfactual)


@plainly
def prototype_gap(f: Model | None, x: Array, counterfactual: Array, target: int | Array, *, prototypes: Array, features: Features = None) -> Array:
    """How near the counterfactual comes to the target's prototype, of the way from the example: `‖φ(x') − m_t‖ / ‖φ(x) − m_t‖`.

    Args:
      f: not looked at. x: the example. counterfactual: x', of x's shape. target: t.
      prototypes: m `[K, …]`, one of each class in the space of φ: its mean, or an example. features: φ; None for x itself.

    Returns:
      float32; 1 where nothing changes, 0 on the prototype; NaN where x or x' is not finite, a traced target is no class, or x is the prototype.

    Raises:
      ValueError: bad x, counterfactual or target, prototypes of another shape.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: two passes of φ.
    Reference: Delaney et al. 2023, "Counterfactual Explanations for Misclassified Images: How Human and Machine Explanations Differ", Artificial Intelligence.
    """
    check_pair(x, counterfactual)
    prototypes = jnp.asarray(prototypes)
    here, there = represent(features, x), represent(features, counterfactual)
    if prototypes.ndim < 1 or prototypes.shape[1:] != here.shape:
        raise ValueError(f"prototypes must be [K, *{here.shape}], got shape {prototypes.shape}")
    before, after = (jax.vmap(lambda m, v=v: norm(v - m))(wide(prototypes)) for v in (here, there))
    gaps = jnp.where(before > 0, after / before, jnp.nan)
    return finite(at_class(gaps, target), x, counterfactual)


@plainly
def class_density(f: Model | None, x: Array, counterfactual: Array, target: int | Array, *, density: Any, features: Features = None) -> Array:
    """The log-density of the target class, `log p(φ(x') | t)`, in nats.

    Args:
      f: not looked at. x: the example, used for its shape. counterfactual: x', of x's shape. target: t.
      density: with `log_prob(h) -> [K]`, the log-density of features h given each class. features: φ; None for x itself.

    Returns:
      float32; NaN where x' is not finite, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual or target, a density that gives no vector.

    Range: (−∞, ∞).
    Direction: higher is better.
    Cost: a pass of φ and one of the density.
    Reference: Höltgen et al. 2021, "DeDUCE: Generating Counterfactual Explanations Efficiently", arXiv 2111.15639.
    """
    check_pair(x, counterfactual)
    values = wide(density.log_prob(represent(features, counterfactual)))
    if values.ndim != 1:
        raise ValueError(f"density.log_prob must give a log-density for each class [K], got shape {values.shape}")
    return finite(at_class(values, target), counterfactual)


def _check(f: Model | None, x: Array, counterfactual: Array, target: int | Array, examples: Array, labels: Array) -> Array:
    """Whether the target is a class; raises ValueError for bad arguments."""
    check_pair(x, counterfactual)
    check_labels(labels, jnp.shape(examples)[0])
    return check_class(f, x, target)
