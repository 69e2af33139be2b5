"""Scores that look at the last layer's weights: DICE keeps those that contribute, GradNorm asks how far they would move."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import wide, within
from jxai.typing import Array, PyTree
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import check_convention, check_features, check_logits, need_fitted
from jxai.uncertainty.formulas.energy import before_head, free_energy
from jxai.uncertainty.heads import Head

__all__ = ["Dice", "dice", "fit_dice", "grad_norm"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dice:
    """What `dice` is fitted by.

    Attributes:
      head: the model's last linear map, its weights 0 where they contribute little.
    """

    head: Head


@plainly
def fit_dice(features: Array, logits: Array, labels: Array | None = None, head: Head | None = None, *, percentile: float = 90.0) -> Dice:
    """The last layer without the weights that contribute little: `W ⊙ [C > percentile of C]`, `C_dk = (mean of h_d) W_dk`.

    The contribution is signed: a large negative one counts as little.

    Args:
      features: `[n, D]`, of the training set.
      logits: `[n, K]`, of which K is read.
      labels: not read.
      head: the model's last linear map, as `jxai.uncertainty.linear_head(f, x)` finds it.
      percentile: in [0, 100], of the contributions of all classes together, interpolated linearly.

    Returns:
      `Dice(head)`.

    Raises:
      ValueError: no head, arrays that do not fit together, features that are not finite, a bad percentile, or arrays that are traced.

    Cost: a mean over n examples and a selection among D K numbers, in float64 on the host.
    Reference: Sun & Li 2022, "DICE: Leveraging Sparsification for Out-of-Distribution Detection", ECCV.
    """
    _, d, k = fitting.given("fit_dice", features, logits, labels, read=("logits",))
    weights, bias = fitting.need_head(head, d, k, "fit_dice")
    within(0, 100, percentile=percentile)
    contribution = fitting.mean(features)[:, None] * weights
    kept = contribution > np.percentile(contribution, percentile)
    return Dice(Head(jnp.asarray(np.where(kept, weights, 0)), jnp.asarray(bias)))


@plainly
def dice(logits: Array, features: Array | None = None, fitted: Dice | None = None, *, convention: str = "paper") -> Array:
    """The energy of the logits that the weights which contribute most give: `−log Σ_k exp((W ⊙ M)ᵀ h + b)_k`.

    Args:
      logits: `[K]`, not read.
      features: `[D]`, what the last layer is applied to.
      fitted: of `fit_dice`.
      convention: "paper" or "openood", which are the same here.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: not fitted, an unknown convention, features of another size; where they are concrete, NaN.

    Range: (−∞, ∞).
    Cost: `O(D K)` operations.
    Reference: Sun & Li 2022, "DICE: Leveraging Sparsification for Out-of-Distribution Detection", ECCV.
    """
    fitted = need_fitted(fitted, Dice, "fit_dice(features, logits, labels, head)")
    return free_energy(fitted.head(before_head(logits, features, fitted.head, convention)))


@plainly
def grad_norm(logits: Array, features: Array | None = None, fitted: PyTree = None, *, convention: str = "paper") -> Array:
    """How little the last layer's weights would have to move for a uniform answer: `−‖∂KL(u ‖ p) / ∂W‖₁ = −Σ_k |p_k − 1/K| · ‖h‖₁`, p = softmax(logits).

    Args:
      logits: `[K]`.
      features: `[D]`, what the last layer is applied to.
      fitted: not read.
      convention: "paper" takes the uniform distribution u for the target; "openood" a one for every class, K times as much.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: an unknown convention; where they are concrete, features that are not finite, logits that are NaN or probabilities.

    Range: (−∞, 0].
    Cost: `O(D + K)` operations: the gradient is known in closed form.
    Reference: Huang, Geng & Li 2021, "On the Importance of Gradients for Detecting Distributional Shifts in the Wild", NeurIPS.
    """
    k = check_logits(logits)
    check_features(features)
    check_convention(convention)
    p = jax.nn.softmax(wide(jnp.asarray(logits)))
    norm = jnp.abs(p - 1 / k).sum() * jnp.abs(wide(jnp.asarray(features))).sum()
    return -(norm if convention == "paper" else k * norm)
