"""Scores from where the features lie to the head's decision boundaries and weights, seen from the mean of the training features."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import one_of, wide, within
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import check_convention, check_features, check_logits, need_fitted
from jxai.uncertainty.formulas import banks
from jxai.uncertainty.heads import Head

__all__ = ["Boundaries", "NeuralCollapse", "fdbd", "fit_fdbd", "fit_nci", "nci"]

DIVISORS = ("mean", "norm")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Boundaries:
    """How steep the logits are across each boundary, and where the features are; made by `fit_fdbd`.

    Attributes:
      slopes: `[K, K]`, `‖w_c − w_j‖`, 1 on the diagonal. mean: `[D]`, of the features.
    """

    slopes: Array
    mean: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class NeuralCollapse:
    """The head's weights, and where the features are; made by `fit_nci`.

    Attributes:
      weights: `[D, K]`. mean: `[D]`, of the features.
    """

    weights: Array
    mean: Array


@plainly
def fit_fdbd(features: Array, logits: Array, labels: Array | None = None, head: Head | None = None) -> Boundaries:
    """The mean of the features, and the norms of the differences between the head's weights.

    Args:
      features: `[n, D]`. logits: `[n, K]`, of which K is read. labels: not read.
      head: `Head(weights [D, K], bias [K])`, as `jxai.uncertainty.linear_head(f, x)` finds it.

    Returns:
      A `Boundaries`.

    Raises:
      ValueError: shapes and numbers that cannot be these, no head or another's, two classes of equal weights (no boundary lies between them), tracers.

    Cost: `n D + K² D` operations.
    """
    _, d, k = fitting.given("fit_fdbd", features, logits, labels, read=("logits",))
    weights, _ = fitting.need_head(head, d, k, "fit_fdbd")
    slopes = np.stack([np.linalg.norm(weights - weights[:, c : c + 1], axis=0) for c in range(k)]) + np.eye(k)
    if not slopes.all():
        c, j = np.argwhere(slopes == 0)[0]
        raise ValueError(f"head must tell classes apart, but the weights of classes {c} and {j} are equal: no boundary lies between them")
    return Boundaries(jnp.asarray(slopes), jnp.asarray(fitting.mean(features)))


@plainly
def fit_nci(features: Array, logits: Array, labels: Array | None = None, head: Head | None = None) -> NeuralCollapse:
    """The mean of the features, and the head's weights.

    Args:
      features: `[n, D]`. logits: `[n, K]`, of which K is read. labels: not read.
      head: `Head(weights [D, K], bias [K])`, as `jxai.uncertainty.linear_head(f, x)` finds it.

    Returns:
      A `NeuralCollapse`.

    Raises:
      ValueError: shapes and numbers that cannot be these, no head or another's, tracers.

    Cost: `n D` operations.
    """
    _, d, k = fitting.given("fit_nci", features, logits, labels, read=("logits",))
    weights, _ = fitting.need_head(head, d, k, "fit_nci")
    return NeuralCollapse(jnp.asarray(weights), jnp.asarray(fitting.mean(features)))


@plainly
def fdbd(logits: Array, features: Array | None = None, fitted: Boundaries | None = None, *, divisor: str = "mean", convention: str = "paper") -> Array:
    """The negative distance from the decision boundaries relative to that from the mean, `−1/(K−1) Σ_{c≠ŷ} |z_ŷ − z_c| / ‖w_ŷ − w_c‖ / ‖h − μ‖`.

    Args:
      logits: `[K]`, z, of which ŷ's is the largest.
      features: `[D]`, h.
      fitted: of `fit_fdbd`.
      divisor: `"mean"` for ‖h − μ‖, `"norm"` for ‖h‖, between which OpenOOD chooses by validation.
      convention: `"openood"` (fDBD), as the published code, has the sum over classes, not the mean.

    Returns:
      `[]`, float32 or wider; 0 where all logits are equal.

    Raises:
      ValueError: logits or features that are none or of another size, nothing fitted, an unknown divisor or convention.

    Range: [−∞, 0].
    Cost: `O(D + K)` operations.
    Reference: Liu and Qin 2024, "Fast Decision Boundary based Out-of-Distribution Detector", ICML.
    """
    check_convention(convention)
    one_of("divisor", divisor, DIVISORS)
    known = need_fitted(fitted, Boundaries, "fit_fdbd(features, logits, labels, head)")
    h, z = _given(logits, features, known.mean.shape[0], known.slopes.shape[0])
    first = jnp.argmax(z)
    distances = (jnp.abs(z - z[first]) / known.slopes[first]).sum()
    away = banks.root(((h if divisor == "norm" else h - known.mean) ** 2).sum())
    ratio = jnp.where(distances == 0, 0, distances / away)
    return -ratio if convention == "openood" else -ratio / (z.size - 1)


@plainly
def nci(logits: Array, features: Array | None = None, fitted: NeuralCollapse | None = None, *, alpha: float = 1e-4, convention: str = "paper") -> Array:
    """The negative product of the predicted class's weights with the direction of the features, less their norm, `−⟨w_ŷ, (h − μ)/‖h − μ‖⟩ − α‖h‖₁`.

    Args:
      logits: `[K]`, whose largest is ŷ's.
      features: `[D]`, h; at the mean itself they have no direction, and the product is 0.
      fitted: of `fit_nci`.
      alpha: α >= 0; OpenOOD chooses it by validation between 10⁻⁴ and 10⁻¹.
      convention: `"paper"` and `"openood"` (NCI) are the same.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits or features that are none or of another size, nothing fitted, an option out of range, an unknown convention.

    Range: (−∞, ∞).
    Cost: `O(D + K)` operations.
    Reference: Liu and Qin 2025, "Detecting Out-of-Distribution Through the Lens of Neural Collapse", CVPR.
    """
    check_convention(convention)
    within(0, np.inf, alpha=alpha)
    known = need_fitted(fitted, NeuralCollapse, "fit_nci(features, logits, labels, head)")
    h, z = _given(logits, features, *known.weights.shape)
    towards = banks.unit(h - known.mean, h[None])
    return -banks.products(towards, banks.of_predicted(known.weights.T, z)) - alpha * jnp.abs(h).sum()


def _given(logits: Array, features: Array | None, d: int, k: int) -> tuple[Array, Array]:
    """Features and logits, checked."""
    check_features(features, size=d)
    check_logits(logits, size=k)
    return wide(jnp.asarray(features)), wide(jnp.asarray(logits))
