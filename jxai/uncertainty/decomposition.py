"""What of an uncertainty is the data's and what the model's: entropies of samples' probabilities."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_probabilities

__all__ = ["Decomposition", "decompose"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decomposition:
    """Uncertainty in nats, `total = aleatoric + epistemic`.

    Attributes:
      total: `[]`, `H(mean_s p_s)`, in [0, log K]. aleatoric: `[]`, `mean_s H(p_s)`: what every sample is unsure of.
      epistemic: `[]`, their difference, the mutual information of answer and weights, in [0, log min(S, K)]: what they disagree about.
    """

    total: Array
    aleatoric: Array
    epistemic: Array


@plainly
def decompose(probabilities: Array) -> Decomposition:
    """The entropy of the mean prediction, the mean entropy of the predictions, and what is between them.

    Args:
      probabilities: `[S, K]`, of S samples: an ensemble's members, passes with dropout, draws from a posterior.

    Returns:
      A `Decomposition`, float32 or wider; its derivative by a probability that is exactly 0 is 0.

    Raises:
      ValueError: another shape; where they are concrete, NaN, or rows that are no probabilities.

    Reference: Depeweg et al. 2018, "Decomposition of Uncertainty in Bayesian Deep Learning for Efficient and Risk-sensitive Learning", ICML.
    """
    check_probabilities(probabilities, rank=2, axes="[S, K]")
    p = wide(jnp.asarray(probabilities))
    total, aleatoric = entropy(p.mean(0)), entropy(p).mean()
    return Decomposition(total, aleatoric, total - aleatoric)


def entropy(p: Array) -> Array:
    """`[…]`: `−Σ_k p_k log p_k` of probabilities `[…, K]`."""
    return -(p * jnp.log(jnp.where(p > 0, p, 1))).sum(-1)
