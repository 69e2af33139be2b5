"""Complexity: how few positions carry the attribution.

All three look at magnitudes `|a_p|` of the attribution summed over a position's channels; f, target and key are not looked
at and may be None. A map that is not finite gives NaN.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from jxai.callables import plainly
from jxai.metrics.common import by_position, nan_unless_finite
from jxai.scores import check_example, within
from jxai.typing import Array, Model

__all__ = ["effective_complexity", "entropy", "sparseness"]


@plainly
def sparseness(f: Model | None, x: Array, target: int | Array | None, attribution: Array, key: Array | None = None) -> Array:
    """The Gini index of the magnitudes: `Σ_i (2i − n − 1) |a|_(i) / (n Σ_i |a|_(i))`, `|a|_(1) ≤ … ≤ |a|_(n)`.

    Args:
      f, target, key: not looked at. x: one example, used for its shape; n is the number of its positions.
      attribution: has x's rank and broadcasts against x.

    Returns:
      float32; 0 for a constant map (zero too), `1 − 1/n` where one position has everything.

    Raises:
      ValueError: a bad attribution.

    Range: [0, 1 − 1/n].
    Direction: higher is better.
    Cost: no passes.
    Reference: Chalasani et al. 2020, "Concise Explanations of Neural Networks using Adversarial Training", ICML.
    """
    share = _shares(attribution, x)
    n = share.size
    # In order of their bits, as integers: for numbers from 0 on it is the same order, and XLA sorts it several times faster.
    ordered = lax.bitcast_convert_type(jnp.sort(lax.bitcast_convert_type(share, jnp.int32)), jnp.float32)
    weight = (2 * jnp.arange(1, n + 1, dtype=jnp.float32) - n - 1) / n
    gini = (weight * ordered).sum() / jnp.maximum(ordered.sum(), 1)
    # A constant's terms cancel up to rounding only.
    return nan_unless_finite(jnp.where(ordered[0] == ordered[-1], 0.0, jnp.maximum(gini, 0)), attribution)


@plainly
def entropy(f: Model | None, x: Array, target: int | Array | None, attribution: Array, key: Array | None = None) -> Array:
    """The entropy of the magnitudes as a distribution over positions, in nats: `−Σ_p q_p ln q_p`, `q = |a| / Σ |a|`.

    Args:
      f, target, key: not looked at. x: one example, used for its shape; n is the number of its positions.
      attribution: has x's rank and broadcasts against x.

    Returns:
      float32; 0 where one position has everything, `ln n` for a constant map (zero too, as the limit of small constants).

    Raises:
      ValueError: a bad attribution.

    Range: [0, ln n].
    Direction: lower is better.
    Cost: no passes.
    Reference: Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI.
    """
    share = _shares(attribution, x)
    q = jnp.where(share.max() > 0, share / jnp.maximum(share.sum(), 1), 1 / share.size)
    return nan_unless_finite(jnp.maximum(-(q * jnp.log(jnp.where(q > 0, q, 1))).sum(), 0), attribution)


@plainly
def effective_complexity(
    f: Model | None,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    eps: float = 1e-5,
    relative: bool = True,
) -> Array:
    """The number of positions that matter: `#{p : |a_p| > eps · max_q |a_q|}`.

    Quantus' reading, which divides by the largest magnitude first; the paper's own k* also asks for the model's loss when
    all but the k largest are removed.

    Args:
      f, target, key: not looked at. x: one example, used for its shape; n is the number of its positions.
      attribution: has x's rank and broadcasts against x.
      eps: the threshold, at least 0.
      relative: eps is in units of the largest magnitude; `False`: in the attribution's own, `#{p : |a_p| > eps}`.

    Returns:
      A count, float32; 0 for a map of zeros, n for any other constant map above eps.

    Raises:
      ValueError: a bad attribution or a negative eps.

    Range: [0, n].
    Direction: lower is better.
    Cost: no passes.
    Reference: Nguyen and Martínez 2020, "On Quantitative Aspects of Model Interpretability", arXiv 2007.07584.
    """
    within(0, float("inf"), eps=eps)
    a = _magnitudes(attribution, x)
    threshold = eps * a.max() if relative else eps
    return nan_unless_finite((a > threshold).sum().astype(jnp.float32), attribution)


def _magnitudes(attribution: Array, x: Array) -> Array:
    check_example(x)
    return jnp.abs(by_position(attribution, x).ravel()).astype(jnp.float32)


def _shares(attribution: Array, x: Array) -> Array:
    """`|a|` of all positions in units of the largest, so that no sum overflows; all 0 for a map of zeros."""
    a = _magnitudes(attribution, x)
    return a / jnp.where(a.max() > 0, a.max(), 1)
