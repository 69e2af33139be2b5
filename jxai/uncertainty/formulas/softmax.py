"""Scores of the softmax alone: how far the probabilities are from a sure answer."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import entr

from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_convention, check_logits

__all__ = ["entropy", "gini", "max_softmax", "probability_margin"]


def softmax(logits: Array) -> Array:
    """The probabilities of logits `[K]` that have been checked."""
    check_logits(logits)
    return jax.nn.softmax(wide(jnp.asarray(logits)))


@plainly
def max_softmax(logits: Array, features: Array | None = None, fitted: Any = None, *, convention: str = "paper") -> Array:
    """The negative maximum softmax probability, `−max_k p_k`.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.
      convention: `"paper"` and `"openood"` (MSP) are the same.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits that are none, an unknown convention.

    Range: [−1, 0], at most −1/K.
    Cost: `O(K)` operations.
    Reference: Hendrycks and Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", ICLR.
    """
    check_convention(convention)
    return -softmax(logits).max()


@plainly
def probability_margin(logits: Array, features: Array | None = None, fitted: Any = None) -> Array:
    """The negative margin between the two largest probabilities (prediction confidence score), `p₍₂₎ − p₍₁₎`.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits that are none.

    Range: [−1, 0]; 0 where two classes tie.
    Cost: `O(K)` operations.
    Reference: Zhang et al. 2020, "Towards Characterizing Adversarial Defects of Deep Learning Software from the Lens of Uncertainty", ICSE.
    """
    first, second = jax.lax.top_k(softmax(logits), 2)[0]
    return second - first


@plainly
def entropy(logits: Array, features: Array | None = None, fitted: Any = None) -> Array:
    """The entropy of the softmax in nats, `−Σ_k p_k log p_k`.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits that are none.

    Range: [0, ∞], at most log K.
    Cost: `O(K)` operations.
    Reference: Shannon 1948, "A Mathematical Theory of Communication".
    """
    return entr(softmax(logits)).sum()


@plainly
def gini(logits: Array, features: Array | None = None, fitted: Any = None) -> Array:
    """The Gini impurity of the softmax (DeepGini), `1 − Σ_k p_k²`.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits that are none.

    Range: [0, 1], at most 1 − 1/K.
    Cost: `O(K)` operations.
    Reference: Feng et al. 2020, "DeepGini: Prioritizing Massive Tests to Enhance the Robustness of Deep Neural Networks", ISSTA.
    """
    return 1 - (softmax(logits) ** 2).sum()
