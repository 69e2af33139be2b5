"""How different the counterfactuals of one example are: metrics of a set `counterfactual [k, *x.shape]`."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax

from jxai import loops
from jxai.callables import plainly
from jxai.counterfactual import diversity
from jxai.loops import at_once
from jxai.metrics.counterfactual.common import check_set, finite
from jxai.scores import num_classes, one_of, wide, within
from jxai.typing import Array, Model

__all__ = ["apd", "dpp", "label_coverage", "squared_cosines"]

DISTANCES = ("l1", "l2")


@plainly
def apd(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None, *, distance: str = "l2") -> Array:
    """The average pairwise distance of a set, `2 / (k (k − 1)) Σ_{i<j} ‖x'_i − x'_j‖`.

    Args:
      f, target: not looked at. x: the example, used for its shape. counterfactual: x'_i, `[k, *x.shape]`. distance: "l1" or "l2".

    Returns:
      float32; 0 for a single one, NaN where one is not finite.

    Raises:
      ValueError: bad x, an empty set or of other shapes than x's, an unknown distance.

    Range: [0, ∞).
    Direction: higher is better.
    Cost: no passes.
    Reference: Mothilal et al. 2020, "Explaining Machine Learning Classifiers through Diverse Counterfactual Explanations", FAT*.
    """
    check_set(x, counterfactual)
    return finite(diversity.apd(counterfactual, one_of("distance", distance, DISTANCES)), counterfactual)


@plainly
def dpp(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None, *, distance: str = "l2", jitter: float | Array = 0.0) -> Array:
    """The diversity of a determinantal point process, `det K`, `K_ij = 1 / (1 + ‖x'_i − x'_j‖)`.

    Args:
      f, target: not looked at. x: the example, used for its shape. counterfactual: x'_i, `[k, *x.shape]`. distance: "l1" or "l2".
      jitter: added to the diagonal, >= 0; 1e-4 in DiCE's PyTorch code.

    Returns:
      float32; 1 for a single one (plus jitter), 0 where two are equal, NaN where one is not finite.

    Raises:
      ValueError: bad x, an empty set or of other shapes than x's, an unknown distance, a negative jitter.

    Range: [0, ∞).
    Direction: higher is better.
    Cost: no passes.
    Reference: Mothilal et al. 2020, "Explaining Machine Learning Classifiers through Diverse Counterfactual Explanations", FAT*.
    """
    check_set(x, counterfactual)
    within(0.0, math.inf, jitter=jitter)
    value = diversity.dpp(counterfactual, one_of("distance", distance, DISTANCES), jitter)
    # The kernel is positive semidefinite: what is below 0 is rounding.
    return finite(jnp.maximum(value, 0), counterfactual)


@plainly
def squared_cosines(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None) -> Array:
    """How alike the directions of the changes are, `Σ_{i≠j} cos²(x'_i − x, x'_j − x)`: DiVE's penalty, which it takes of changes in latent space.

    Args:
      f, target: not looked at. x: the example, or its latent code. counterfactual: `[k, *x.shape]`, the counterfactuals or their codes.

    Returns:
      float32; 0 where all directions are orthogonal, k (k − 1) where they are one; no change at all is orthogonal to any. NaN where one is not finite.

    Raises:
      ValueError: bad x, an empty set or of other shapes than x's.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: no passes.
    Reference: Rodríguez et al. 2021, "Beyond Trivial Counterfactual Explanations with Diverse Valuable Explanations", ICCV.
    """
    check_set(x, counterfactual)
    change = (wide(counterfactual) - wide(x)).reshape(counterfactual.shape[0], -1)
    # By the largest entry first, so that squares neither overflow nor vanish.
    change = change / jnp.maximum(jnp.abs(change).max(1, keepdims=True), jnp.finfo(change.dtype).tiny)
    length = jnp.sqrt((change**2).sum(1, keepdims=True))
    direction = change / jnp.where(length > 0, length, 1)
    cosines = jnp.matmul(direction, direction.T, precision=lax.Precision.HIGHEST)
    return finite(jnp.where(jnp.eye(change.shape[0], dtype=bool), 0, cosines**2).sum(), x, counterfactual)


@plainly
def label_coverage(f: Model, x: Array, counterfactual: Array, target: int | Array | None) -> Array:
    """The share of the other classes that a set reaches, `#{argmax f(x'_i)} / (K − 1)`, the class of x left out.

    Args:
      f: a model. x: the example. counterfactual: x'_i, `[k, *x.shape]`. target: not looked at.

    Returns:
      float32; NaN where one of the set, or an output of f, is not finite.

    Raises:
      ValueError: bad x, an empty set or of other shapes than x's, a model that gives no vector or one class.

    Range: [0, 1].
    Direction: higher is better.
    Cost: k + 1 forward passes.
    Reference: Ley et al. 2022, "Diverse, Global and Amortised Counterfactual Explanations for Uncertainty Estimates", AAAI.
    """
    check_set(x, counterfactual)
    classes, own = num_classes(f, x), wide(f(x))
    logits = loops.map(lambda v: wide(f(v)), counterfactual, batch_size=min(at_once(x, None), counterfactual.shape[0]))
    met = jax.nn.one_hot(logits.argmax(-1), classes).any(0) & (jnp.arange(classes) != own.argmax())
    return finite(met.sum() / (classes - 1), jnp.where(jnp.isnan(logits), jnp.nan, 0), own, x, counterfactual)
