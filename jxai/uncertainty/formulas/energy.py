"""Scores of the logits before they become probabilities: their size says what the softmax forgets."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array, PyTree
from jxai.uncertainty.checks import check_convention, check_features, check_logits, check_positive
from jxai.uncertainty.heads import Head

__all__ = ["energy", "max_logit"]


@plainly
def max_logit(logits: Array, features: Array | None = None, fitted: PyTree = None, *, convention: str = "paper") -> Array:
    """How small the largest logit is (MLS): `−max_k z_k`.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.
      convention: "paper" or "openood", which are the same here.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: an unknown convention; where they are concrete, logits that are NaN or probabilities.

    Range: (−∞, ∞).
    Cost: `O(K)` operations.
    Reference: Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection for Real-World Settings", ICML.
    """
    check_logits(logits)
    check_convention(convention)
    return -wide(jnp.asarray(logits)).max()


@plainly
def energy(logits: Array, features: Array | None = None, fitted: PyTree = None, *, temperature: float = 1.0, convention: str = "paper") -> Array:
    """The free energy of the logits (EBO): `−T log Σ_k exp(z_k / T)`.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.
      temperature: T > 0.
      convention: "paper" or "openood", which are the same here.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: a bad option; where they are concrete, logits that are NaN or probabilities.

    Range: (−∞, ∞).
    Cost: `O(K)` operations.
    Reference: Liu et al. 2020, "Energy-based Out-of-distribution Detection", NeurIPS.
    """
    check_logits(logits)
    check_positive(temperature=temperature)
    check_convention(convention)
    return free_energy(wide(jnp.asarray(logits)), temperature)


def before_head(logits: Array, features: Array | None, head: Head, convention: str) -> Array:
    """Features `[D]` that a head is applied to, in float32 or wider; what a score of them is given is checked."""
    check_logits(logits)
    check_features(features, size=jnp.shape(head.weights)[0])
    check_convention(convention)
    return wide(jnp.asarray(features))


def free_energy(z: Array, temperature: float | Array = 1.0) -> Array:
    """`−T log Σ_k exp(z_k / T)` of logits that another score has made."""
    return -temperature * jax.nn.logsumexp(z / temperature)
