"""Nonconformity: how little a class conforms to what the model says of an example. Traceable: they compose with jit, vmap and grad."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import check_labels, need_key, one_of, positive, wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_not_negative, check_probabilities

__all__ = ["class_scores", "draws", "scores"]

METHODS = ("lac", "aps", "raps", "saps", "margin")
_SURE = 1 - 2.0**-10
"""Above it, 1 − p is summed up from the other classes."""


@plainly
def scores(probabilities: Array, labels: Array, *, method: str = "lac", u: Array | None = None, penalty: float = 0.01, free_ranks: int = 5) -> Array:
    """The nonconformity of each example's own label: what `threshold` is made of.

    Args:
      probabilities: `[n, K]`. labels: `[n]`, integers in [0, K). method, u, penalty, free_ranks: as for `class_scores`.

    Returns:
      `[n]`, float32 or wider; NaN of a traced label out of range.

    Raises:
      ValueError: as `class_scores`; labels that are not n classes.
    """
    of_classes = class_scores(probabilities, method=method, u=u, penalty=penalty, free_ranks=free_ranks)
    check_labels(labels, *of_classes.shape)
    labels = jnp.asarray(labels)
    own = jnp.take_along_axis(of_classes, labels[:, None], 1, mode="clip")[:, 0]
    return jnp.where((labels >= 0) & (labels < of_classes.shape[1]), own, jnp.nan)


@plainly
def class_scores(probabilities: Array, *, method: str, u: Array | None = None, penalty: float = 0.01, free_ranks: int = 5) -> Array:
    """The nonconformity of every class of each example.

    With p sorted downwards and r the rank of class y from 1 (of equal probabilities the lower class first):

    - `"lac"`: `1 − p_y`, which has the smallest sets on average; near 0 it is summed up from the other classes, so that examples whose p_y rounds to 1 are still told apart.
    - `"aps"`: `Σ_{rank ≤ r} p − u p_y`, larger where the model is unsure.
    - `"raps"`: that of `"aps"` and `penalty · max(r − free_ranks, 0)`, without the long tail of classes.
    - `"saps"`: `u p_max` where r = 1, and `p_max + (r − 2 + u) · penalty` beyond: of the probabilities only the first.
    - `"margin"`: `max_{j ≠ y} p_j − p_y`.

    Args:
      probabilities: `[n, K]`, rows of sum 1. method: one of these.
      u: `[n]` in [0, 1], ONE for each example, shared by all of its classes: `draws(key, n)`; uniform ones make coverage exact. None counts the whole of a class (u = 0 of `"aps"` and `"raps"`, u = 1 of
        `"saps"`): sets are much larger, and where the model is so sure that `p_max` rounds to 1, scores tie and coverage is more than asked for. The same choice has to be made for calibration and for
        new examples. `"lac"` and `"margin"` do not use it.
      penalty: λ >= 0 of `"raps"` and `"saps"`. free_ranks: k_reg >= 0 of `"raps"`, the ranks without penalty. `tune` chooses both.

    Returns:
      `[n, K]`, float32 or wider.

    Raises:
      ValueError: an unknown method; no probabilities `[n, K]` of two classes or more; u that are not n numbers in [0, 1]; a penalty or free ranks below 0.

    Reference: Sadinle, Lei & Wasserman 2019, "Least Ambiguous Set-Valued Classifiers with Bounded Error Levels", JASA (lac); Romano, Sesia & Candès 2020, "Classification with Valid and Adaptive
    Coverage", NeurIPS (aps); Angelopoulos et al. 2021, "Uncertainty Sets for Image Classifiers using Conformal Prediction", ICLR (raps); Huang et al. 2024, "Conformal Prediction for Deep
    Classifier via Label Ranking", ICML (saps).
    """
    one_of("method", method, METHODS)
    check_probabilities(probabilities)
    _check_constants(penalty, free_ranks)
    p = wide(jnp.asarray(probabilities))
    n, k = p.shape
    v = checked_draws(u, n, 1.0 if method == "saps" else 0.0, p.dtype)[:, None]
    if method == "lac":
        return jnp.where(p > _SURE, _others(p), 1 - p)
    if method == "margin":
        top = jax.lax.top_k(p, 2)[0]
        best = jnp.arange(k) == p.argmax(1)[:, None]
        return jnp.where(best, top[:, 1:], top[:, :1]) - p
    order = jnp.argsort(-p, axis=1, stable=True)
    ranks = jnp.argsort(order, axis=1, stable=True)  # from 0
    if method == "saps":
        first = jnp.take_along_axis(p, order[:, :1], 1)
        return jnp.where(ranks == 0, v * first, first + (ranks - 1 + v) * penalty)
    mass = jnp.take_along_axis(jnp.cumsum(jnp.take_along_axis(p, order, 1), 1), ranks, 1) - v * p
    return mass if method == "aps" else mass + penalty * jnp.maximum(ranks + 1 - free_ranks, 0)


def draws(key: Array, n: int, *, index: Array | None = None) -> Array:
    """`[n]`: a uniform number in [0, 1) for each example, from the key and the example's place in the data set alone: the same in whatever blocks they are drawn.

    Args:
      key: another for calibration than for new examples. n: how many. index: `[n]`, the places; 0 to n − 1 by default.

    Raises:
      ValueError: no key; n that is no positive integer, places of another number.
    """
    positive(n=n)
    places = jnp.arange(n) if index is None else jnp.asarray(index)
    if places.shape != (n,) or not jnp.issubdtype(places.dtype, jnp.integer):
        raise ValueError(f"index must be {n} integers, got {places.dtype} of shape {places.shape}")
    key = need_key(key, "draws")
    return jax.vmap(lambda i: jax.random.uniform(jax.random.fold_in(key, i)))(places)


def _others(p: Array) -> Array:
    """`Σ_{j ≠ y} p_j`, which is 1 − p_y without what is lost in the rounding of p_y: nine of ten examples of a network that is sure would tie at 0."""
    before = jnp.cumsum(jnp.pad(p, ((0, 0), (1, 0)))[:, :-1], 1)
    after = jnp.cumsum(jnp.pad(p, ((0, 0), (0, 1)))[:, :0:-1], 1)[:, ::-1]
    return before + after


def checked_draws(u: Array | None, n: int, otherwise: float, dtype: jnp.dtype, name: str = "u") -> Array:
    """`[n]`: the draws as given, checked, or what counts where there are none."""
    if u is None:
        return jnp.full(n, otherwise, dtype)
    if np.shape(u) != (n,):
        raise ValueError(f"{name} must be [{n}], one number for each example that all of its classes share, got shape {np.shape(u)}")
    if not isinstance(u, jax.core.Tracer):
        given = np.asarray(u, np.float64)
        if not ((given >= 0) & (given <= 1)).all():
            raise ValueError(f"{name} must be in [0, 1], but goes from {given.min():g} to {given.max():g}: draws(key, {n})")
    return jnp.asarray(u, dtype)


def _check_constants(penalty: float, free_ranks: int) -> None:
    check_not_negative(penalty=penalty, free_ranks=free_ranks)
    if not isinstance(free_ranks, jax.core.Tracer) and free_ranks != int(free_ranks):
        raise ValueError(f"{free_ranks=} must be an integer, 0 or more")
