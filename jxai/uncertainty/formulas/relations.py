"""The score from an example's relations to all training examples: alike in features and in what the model says of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import plainly
from jxai.scores import wide, within
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import check_convention, check_logits, check_positive, need_fitted
from jxai.uncertainty.formulas import banks
from jxai.uncertainty.rows import blocks

__all__ = ["RelationGraph", "fit_relation", "relation"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class RelationGraph:
    """The training examples that relations are summed over; made by `fit_relation`.

    Attributes:
      bank: `[N, D]`, features of norm 1. probabilities: `[N, K]`.
    """

    bank: Array
    probabilities: Array


@plainly
def fit_relation(features: Array, logits: Array, labels: Array | None = None, head: Any = None) -> RelationGraph:
    """The features `h/‖h‖` and the probabilities of all examples.

    Args:
      features: `[n, D]`. logits: `[n, K]`. labels, head: not read.

    Returns:
      A `RelationGraph` of all n.

    Raises:
      ValueError: shapes and numbers that cannot be these, tracers.

    Cost: `n (D + K)` operations; its memory is that of the features and logits.
    """
    fitting.given("fit_relation", features, logits, labels, read=("logits",))
    shares = [np.exp(block - np.logaddexp.reduce(block, 1, keepdims=True)).astype(banks.precision()) for (block,) in blocks(logits)]
    return RelationGraph(banks.units(features), jnp.asarray(np.concatenate(shares)))


@plainly
def relation(
    logits: Array,
    features: Array | None = None,
    fitted: RelationGraph | None = None,
    *,
    power: float = 1.0,
    threshold: float = 0.03,
    convention: str = "paper",
    chunk: int = banks.CHUNK,
) -> Array:
    """The negative sum of relations to the training examples, `−Σ_i r_i^t [r_i > τ]` with `r_i = max(0, cos(h, h_i)) · ⟨p, p_i⟩`.

    Args:
      logits: `[K]`, whose probabilities are p.
      features: `[D]`, h.
      fitted: of `fit_relation`: examples i.
      power: t > 0. threshold: τ >= 0: weaker relations are dropped, as the published code does.
      convention: `"paper"` and `"openood"` (Relation) are the same; the published code has the reciprocal of the sum, which is of the same order.
      chunk: rows of the bank at once.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits or features that are none or of another size, nothing fitted, an option out of range, an unknown convention.

    Range: (−∞, 0].
    Cost: `O(N (D + K))` operations, products of matrices under vmap, with memory for `chunk` numbers.
    Reference: Kim et al. 2023, "Neural Relation Graph: A Unified Framework for Identifying Label Noise and Outlier Data", NeurIPS.
    """
    check_convention(convention)
    known = need_fitted(fitted, RelationGraph, "fit_relation(features, logits, labels)")
    check_positive(power=power)
    within(0, np.inf, threshold=threshold)
    check_logits(logits, size=known.probabilities.shape[1])
    z, p = banks.unit(features, known.bank), jax.nn.softmax(wide(jnp.asarray(logits)))

    def block(i: Array, live: Array) -> Array:
        similar = jnp.maximum(banks.products(known.bank[i], z), 0) * banks.products(known.probabilities[i], p)
        kept = ~(similar <= threshold) & (live > 0)  # NaN stays
        return jnp.where(kept, jnp.where(kept, similar, 1) ** power, 0).sum()

    return -loops.block_sums(block, known.bank.shape[0], chunk)
