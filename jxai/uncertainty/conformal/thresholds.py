"""Which nonconformity is too much: thresholds (on the host, exact), and the sets and p-values of new examples (traceable)."""

from __future__ import annotations

import math
import numbers
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import check_labels, positive
from jxai.typing import Array
from jxai.uncertainty.checks import check_host, check_level, host_numbers, same_length
from jxai.uncertainty.conformal.nonconformity import checked_draws, class_scores

__all__ = ["p_values", "rank", "sets", "threshold"]

_DENOMINATOR = 10**9
"""Levels are fractions of a denominator up to this: 1 − 0.9 is one tenth, though no float is."""


def rank(n: int, alpha: float) -> int:
    """k = ⌈(n + 1)(1 − α)⌉, in exact arithmetic: the threshold is the k-th smallest of n scores, and infinite where k > n.

    A float means the simplest fraction near to it: `1 - 0.9`, which is a little less than 0.1, is one tenth, and of n = 9 the rank is 9, not 10.

    Args:
      n: scores, >= 0. alpha: in (0, 1), a number or a `fractions.Fraction`.

    Raises:
      ValueError: α outside of (0, 1), a negative n.
    """
    if isinstance(n, bool) or not isinstance(n, numbers.Integral) or n < 0:
        raise ValueError(f"{n=} must be an integer, 0 or more")
    return max(1, math.ceil((int(n) + 1) * (1 - exact(alpha))))


def exact(alpha: float) -> Fraction:
    """The fraction that a level means; ValueError unless it lies in (0, 1)."""
    check_host("a level", alpha=alpha)
    alpha = np.asarray(alpha)[()] if isinstance(alpha, jax.Array | np.ndarray) else alpha
    check_level(alpha=alpha)
    return Fraction(alpha) if isinstance(alpha, numbers.Rational) else Fraction(float(str(alpha))).limit_denominator(_DENOMINATOR)


def threshold(scores: Array, alpha: float, *, groups: Array | None = None, num_groups: int | None = None) -> Any:
    """The conformal threshold: the k-th smallest score of a calibration, k = `rank(n, alpha)`; ∞, with which every class is in the set, where k > n.

    Args:
      scores: `[n]`, of a calibration (`scores`); may be infinite. alpha: in (0, 1), the share of new examples whose class may be missing.
      groups: `[n]`, integers from 0 (Mondrian): a threshold for each group of its own scores alone. With the labels as groups coverage holds for each class, and a class of fewer than
        `1/α − 1` examples has ∞.
      num_groups: G, the number of groups; None is the largest of `groups` plus 1.

    Returns:
      A number, or with groups `[G]`; float64.

    Raises:
      ValueError: traced, empty or NaN scores, α outside of (0, 1), groups that are not n integers in [0, G).

    Reference: Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World"; Lei et al. 2018, "Distribution-Free Predictive Inference for Regression", JASA.
    """
    (s,) = host_numbers("threshold", finite=False, scores=scores)
    if groups is None:
        if num_groups is not None:
            raise ValueError(f"{num_groups=} says nothing where groups=None")
        return _order_statistic(s, alpha)
    check_host("threshold", groups=groups)
    check_labels(groups, same_length(scores=s, groups=groups), num_groups, "groups")
    groups = np.asarray(groups)
    if num_groups is None:
        num_groups = int(groups.max()) + 1
    positive(num_groups=num_groups)
    return np.asarray([_order_statistic(s[groups == g], alpha) for g in range(num_groups)])


@plainly
def sets(
    probabilities: Array,
    threshold: Array | float,
    *,
    method: str,
    u: Array | None = None,
    penalty: float = 0.01,
    free_ranks: int = 5,
    allow_empty: bool = True,
) -> Array:
    """The classes that conform: `{y: score(x, y) ≤ threshold}`.

    Args:
      probabilities: `[n, K]`, of new examples.
      threshold: a number; `[K]`, one for each class (`threshold(…, groups=labels)`); or `[n, 1]`, one for each example (its group's).
      method, penalty, free_ranks: as in the calibration. u: `[n]`, drawn anew, by another key than the calibration's.
      allow_empty: False puts the most probable class into a set that would be empty: coverage can only rise.

    Returns:
      `[n, K]` boolean. Under a trace, a class whose score is NaN is in the set: it is not known to be out.

    Raises:
      ValueError: as `class_scores`; a threshold of another shape, or NaN.
    """
    s = class_scores(probabilities, method=method, u=u, penalty=penalty, free_ranks=free_ranks)
    n, k = s.shape
    if np.shape(threshold) not in ((), (k,), (n, 1)):
        missing = "; a class without examples: threshold(…, num_groups=K)" if len(np.shape(threshold)) == 1 else ""
        raise ValueError(f"threshold must be a number, [{k}] (of each class) or [{n}, 1] (of each example), got shape {np.shape(threshold)}{missing}")
    if not isinstance(threshold, jax.core.Tracer) and np.isnan(np.asarray(threshold, np.float64)).any():
        raise ValueError(f"threshold must be numbers, got {threshold}")
    found = ~(s > jnp.asarray(threshold, s.dtype))
    if allow_empty:
        return found
    best = jnp.arange(k) == jnp.asarray(probabilities).argmax(1)[:, None]
    return found | (best & ~found.any(1, keepdims=True))


@plainly
def p_values(
    probabilities: Array,
    scores: Array,
    *,
    method: str,
    u: Array | None = None,
    penalty: float = 0.01,
    free_ranks: int = 5,
    groups: Array | None = None,
    tie: Array | None = None,
) -> Array:
    """How many of the calibration conform no better than a class: `p_y = (1 + #{sᵢ ≥ s(x, y)}) / (m + 1)`; the set at α is `{y: p_y > α}`.

    Args:
      probabilities, method, u, penalty, free_ranks: as for `sets`. scores: `[m]`, of a calibration.
      groups: `[m]`, the labels of the calibration: each class is compared with its own examples alone (Mondrian).
      tie: `[n]` in [0, 1], drawn uniformly: smoothed p-values `(#{sᵢ > s} + tie · (1 + #{sᵢ = s})) / (m + 1)`, which are uniform of exchangeable data.

    Returns:
      `[n, K]` in (0, 1], float32 or wider; NaN where the score is.

    Raises:
      ValueError: as `class_scores`; no calibration scores `[m]`, NaN among them; groups that are not m classes; ties that are not n numbers in [0, 1].

    Reference: Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World".
    """
    s = class_scores(probabilities, method=method, u=u, penalty=penalty, free_ranks=free_ranks)
    n, k = s.shape
    if isinstance(scores, jax.core.Tracer):
        if scores.ndim != 1 or not scores.size:
            raise ValueError(f"scores must be [m], of a calibration of one example or more, got shape {scores.shape}")
    else:
        host_numbers("p_values", finite=False, scores=scores)
    known = jnp.asarray(scores, s.dtype)
    if groups is None:
        kept = jnp.ones((1, len(known)), bool)
    else:
        check_labels(groups, len(known), k, "groups")
        kept = jnp.arange(k)[:, None] == jnp.asarray(groups)
    count = kept.sum(1)
    # What is of another class stands below all: places are counted from the end.
    ordered = jnp.broadcast_to(jnp.sort(jnp.where(kept, known, -jnp.inf), axis=1), (k, len(known)))
    place = lambda side: jax.vmap(lambda own, v: jnp.searchsorted(own, v, side=side), (0, 1), 1)(ordered, s)
    as_much = len(known) - place("left")
    if tie is None:
        p = (1 + as_much) / (count + 1)
    else:
        more = len(known) - place("right")
        p = (more + checked_draws(tie, n, 1.0, s.dtype, "tie")[:, None] * (1 + as_much - more)) / (count + 1)
    return jnp.where(jnp.isnan(s), jnp.nan, p)


def _order_statistic(s: np.ndarray, alpha: float) -> np.float64:
    k = rank(len(s), alpha)
    return np.float64(np.inf) if k > len(s) else np.partition(s, k - 1)[k - 1]
