"""Scores from the training features nearest to an example's."""

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

__all__ = ["Guide", "Neighbours", "fit_knn", "fit_nn_guide", "knn", "nn_guide"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neighbours:
    """The features that neighbours are sought among; made by `fit_knn`.

    Attributes:
      bank: `[N, D]`, of norm 1.
    """

    bank: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Guide:
    """Directions of training features, as long as the model was sure of them; made by `fit_nn_guide`.

    Attributes:
      bank: `[N, D]`, `log Σ_k exp z_k · h/‖h‖`.
    """

    bank: Array


@plainly
def fit_knn(features: Array, logits: Array | None = None, labels: Array | None = None, head: Any = None) -> Neighbours:
    """The features `h/‖h‖` of all examples; features that are all 0 stay so.

    Args:
      features: `[n, D]`. logits, labels, head: not read.

    Returns:
      A `Neighbours` of all n.

    Raises:
      ValueError: shapes and numbers that cannot be these, tracers.

    Cost: `n D` operations; its memory is that of the features.
    """
    fitting.given("fit_knn", features, logits, labels)
    return Neighbours(banks.units(features))


@plainly
def fit_nn_guide(features: Array, logits: Array, labels: Array | None = None, head: Any = None, *, fraction: float = 1.0) -> Guide:
    """The features `h/‖h‖` times the negative energy of the logits, of a share of the examples.

    Args:
      features: `[n, D]`. logits: `[n, K]`. labels, head: not read.
      fraction: of the examples, in (0, 1]: the first ⌈fraction · n⌉, so shuffle what is sorted; .01 of ImageNet's is published.

    Returns:
      A `Guide`.

    Raises:
      ValueError: shapes and numbers that cannot be these, a fraction out of range, tracers.

    Cost: `n D` operations; its memory is that of the features it keeps.
    """
    n, _, _ = fitting.given("fit_nn_guide", features, logits, labels, read=("logits",))
    check_positive(fraction=fraction)
    within(0, 1, fraction=fraction)
    kept = int(np.ceil(fraction * n - 1e-9))
    energies = np.concatenate([np.logaddexp.reduce(block, 1) for (block,) in blocks(logits[:kept])])
    return Guide(banks.units(features[:kept], energies))


@plainly
def knn(
    logits: Array | None,
    features: Array | None = None,
    fitted: Neighbours | None = None,
    *,
    num_neighbours: int = 50,
    convention: str = "paper",
    chunk: int = banks.CHUNK,
) -> Array:
    """The distance from the k-th nearest training features, `‖h/‖h‖ − b₍ₖ₎‖`.

    Exact: the bank is gone through in blocks, and the distance from the k-th is computed from the difference, so that it does not cancel.

    Args:
      logits: not read.
      features: `[D]`, h.
      fitted: of `fit_knn`.
      num_neighbours: k >= 1, at most the size of the bank; 50 is published for CIFAR-10.
      convention: `"openood"` (KNN) has the square of the distance, as faiss measures it.
      chunk: rows of the bank at once.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: features that are none or of another size, nothing fitted, more neighbours than rows, an unknown convention.

    Range: [0, 4].
    Cost: `O(N D)` operations, a product of matrices under vmap, with memory for `chunk + k` numbers.
    Reference: Sun et al. 2022, "Out-of-Distribution Detection with Deep Nearest Neighbors", ICML.
    """
    check_convention(convention)
    known = need_fitted(fitted, Neighbours, "fit_knn(features, logits, labels)")
    z = banks.unit(features, known.bank)
    last = banks.nearest(known.bank, z, num_neighbours, chunk)[-1]
    square = ((z - known.bank[last]) ** 2).sum()
    return square if convention == "openood" else banks.root(square)


@plainly
def nn_guide(
    logits: Array,
    features: Array | None = None,
    fitted: Guide | None = None,
    *,
    num_neighbours: int = 10,
    convention: str = "paper",
    chunk: int = banks.CHUNK,
) -> Array:
    """The negative energy times the mean similarity to the most similar training features, `−log Σ_k exp z_k · 1/k Σ_{i≤k} ⟨h/‖h‖, g₍ᵢ₎⟩`.

    Args:
      logits: `[K]`, z.
      features: `[D]`, h.
      fitted: of `fit_nn_guide`: rows g.
      num_neighbours: k >= 1, at most the size of the bank; published: 10, by OpenOOD 100.
      convention: `"paper"` and `"openood"` (NNGuide) are the same but for 10⁻¹⁰.
      chunk: rows of the bank at once.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits or features that are none or of another size, nothing fitted, more neighbours than rows, an unknown convention.

    Range: (−∞, ∞).
    Cost: `O(N D)` operations, a product of matrices under vmap, with memory for `chunk + k` numbers.
    Reference: Park et al. 2023, "Nearest Neighbor Guidance for Out-of-Distribution Detection", ICCV.
    """
    check_convention(convention)
    known = need_fitted(fitted, Guide, "fit_nn_guide(features, logits, labels)")
    check_logits(logits)
    z = banks.unit(features, known.bank)
    rows = banks.nearest(known.bank, z, num_neighbours, chunk)
    total, _ = loops.scan(lambda total, row: (total + known.bank[row], None), jnp.zeros_like(z), rows)
    return -jax.nn.logsumexp(wide(jnp.asarray(logits))) * (z * total).sum() / num_neighbours
