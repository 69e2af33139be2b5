"""Scores of the class probabilities alone: how large the largest is, and how spread they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai.callables import plainly
from jxai.scores import positive, wide
from jxai.typing import Array, PyTree
from jxai.uncertainty.checks import check_convention, check_logits, check_positive

__all__ = ["entropy", "gen", "gini", "max_softmax", "probability_margin"]


@plainly
def max_softmax(logits: Array, features: Array | None = None, fitted: PyTree = None, *, convention: str = "paper") -> Array:
    """How small the largest class probability is, the baseline of all scores (MSP): `−max_k p_k`, p = softmax(logits).

    In float32 all that is surer than 1 − 6e-8 is equally sure.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.
      convention: "paper" or "openood", which are the same here.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: an unknown convention; where they are concrete, logits that are NaN or probabilities.

    Range: [−1, 0].
    Cost: `O(K)` operations.
    Reference: Hendrycks & Gimpel 2017, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples in Neural Networks", ICLR.
    """
    check_logits(logits)
    check_convention(convention)
    return -jnp.exp(jax.nn.log_softmax(wide(jnp.asarray(logits))).max())


@plainly
def entropy(logits: Array, features: Array | None = None, fitted: PyTree = None) -> Array:
    """How spread the class probabilities are, in nats: `−Σ_k p_k log p_k`, p = softmax(logits).

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.

    Returns:
      `[]`, float32 or wider; at most log K.

    Raises:
      ValueError: where they are concrete, logits that are NaN or probabilities.

    Range: [0, ∞).
    Cost: `O(K)` operations.
    Reference: Shannon 1948, "A Mathematical Theory of Communication", Bell System Technical Journal.
    """
    check_logits(logits)
    log_p = jax.nn.log_softmax(wide(jnp.asarray(logits)))
    return jnp.maximum(-(jnp.exp(log_p) * jnp.where(jnp.isneginf(log_p), 0, log_p)).sum(), 0)


@plainly
def probability_margin(logits: Array, features: Array | None = None, fitted: PyTree = None) -> Array:
    """How near the second largest class probability comes to the largest (PCS, negated): `p₍₂₎ − p₍₁₎`, p = softmax(logits).

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: where they are concrete, logits that are NaN or probabilities.

    Range: [−1, 0].
    Cost: `O(K)` operations.
    Reference: Scheffer et al. 2001, "Active Hidden Markov Models for Information Extraction", IDA.
    """
    check_logits(logits)
    first, second = jax.lax.top_k(jax.nn.log_softmax(wide(jnp.asarray(logits))), 2)[0]
    return jnp.exp(second) - jnp.exp(first)


@plainly
def gini(logits: Array, features: Array | None = None, fitted: PyTree = None) -> Array:
    """How probable it is that two draws from the class probabilities differ (DeepGini): `1 − Σ_k p_k²`, p = softmax(logits).

    As `Σ_k p_k (1 − p_k)`, with `1 − p_k` from the other classes: what is almost sure is not rounded to 0.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.

    Returns:
      `[]`, float32 or wider; at most 1 − 1 / K.

    Raises:
      ValueError: where they are concrete, logits that are NaN or probabilities.

    Range: [0, 1].
    Cost: `O(K)` operations.
    Reference: Feng et al. 2020, "DeepGini: Prioritizing Massive Tests to Enhance the Robustness of Deep Neural Networks", ISSTA.
    """
    check_logits(logits)
    log_p, log_rest = _with_rest(logits)
    return jnp.exp(log_p + log_rest).sum()


@plainly
def gen(logits: Array, features: Array | None = None, fitted: PyTree = None, *, gamma: float = 0.1, num_top: int = 100, convention: str = "paper") -> Array:
    """A generalised entropy that hears small probabilities: `Σ p_k^γ (1 − p_k)^γ` over the largest p, p = softmax(logits).

    With `1 − p_k` from the other classes, in logarithms: a power of .1 makes .1 of what float32 would round to 0.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.
      gamma: γ > 0.
      num_top: M, how many of the largest probabilities are summed; all, where there are fewer.
      convention: "paper" or "openood", which are the same here.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: a bad option; where they are concrete, logits that are NaN or probabilities.

    Range: [0, ∞).
    Cost: `O(K)` operations.
    Reference: Liu, Lochman & Zach 2023, "GEN: Pushing the Limits of Softmax-Based Out-of-Distribution Detection", CVPR.
    """
    k = check_logits(logits)
    check_positive(gamma=gamma)
    positive(num_top=num_top)
    check_convention(convention)
    log_p, log_rest = _with_rest(logits)
    if num_top < k:
        log_p, largest = jax.lax.top_k(log_p, num_top)
        log_rest = log_rest[largest]
    return jnp.exp(gamma * (log_p + log_rest)).sum()


def _with_rest(logits: Array) -> tuple[Array, Array]:
    """`log p` and `log(1 − p)` `[K]`; of the largest p the latter from the others, where 1 − p would round."""
    log_p = jax.nn.log_softmax(wide(jnp.asarray(logits)))
    first = jnp.arange(log_p.size) == jnp.argmax(log_p)
    others = jnp.where(first, -jnp.inf, log_p)
    return log_p, jnp.where(first, jax.nn.logsumexp(others), jnp.log1p(-jnp.exp(others)))
