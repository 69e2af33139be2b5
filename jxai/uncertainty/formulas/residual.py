"""The score from what of the features lies outside of the space that they vary in: a virtual logit (ViM)."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import check_convention, check_features, check_logits, need_fitted
from jxai.uncertainty.formulas import banks
from jxai.uncertainty.heads import Head
from jxai.uncertainty.rows import blocks

__all__ = ["VirtualLogit", "fit_vim", "vim"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VirtualLogit:
    """A class of its own for what lies outside of the principal space; made by `fit_vim`.

    Attributes:
      origin: `[D]`, o = −(Wᵀ)⁺ b, where the head's logits are least. residual: `[D, D − dimension]`, R, orthonormal columns. scale: `[]`, α.
    """

    origin: Array
    residual: Array
    scale: Array


@plainly
def fit_vim(features: Array, logits: Array, labels: Array | None = None, head: Head | None = None, *, dimension: int | None = None) -> VirtualLogit:
    """The directions in which the features vary least about the head's origin, and the scale that makes of what lies in them a logit.

    `o = −(Wᵀ)⁺ b`; R are the eigenvectors of `1/n Σ_i (h_i − o)(h_i − o)ᵀ` after the first `dimension`; `α = Σ_i max_k z_ik / Σ_i ‖Rᵀ(h_i − o)‖`.

    On the host in float64: of a head whose rank is less than it seems (classes whose weights sum to 0, equal classes) a pseudo-inverse in float32 is noise. Singular
    values that are within the rounding of the weights count as 0.

    Args:
      features: `[n, D]`. logits: `[n, K]`. labels: not read.
      head: `Head(weights [D, K], bias [K])`, as `jxai.uncertainty.linear_head(f, x)` finds it.
      dimension: of the principal space, in [1, D); None for 1000 where D >= 2048, 512 where D >= 768, else ⌊D/2⌋, as the published code chooses. OpenOOD: 256.

    Returns:
      A `VirtualLogit`.

    Raises:
      ValueError: shapes and numbers that cannot be these, no head or another's, a dimension out of range or one that leaves no residual, tracers.

    Cost: `n D² + D³` operations in two passes over the rows.
    """
    _, d, k = fitting.given("fit_vim", features, logits, labels, read=("logits",))
    weights, bias = fitting.need_head(head, d, k, "fit_vim")
    if d < 2:
        raise ValueError(f"features must have D >= 2 entries for a residual beside the principal space, got {d}")
    dimension = _principal(d) if dimension is None else dimension
    if isinstance(dimension, bool) or not isinstance(dimension, int | np.integer) or not 1 <= dimension < d:
        raise ValueError(f"{dimension=} must be an integer in [1, {d}), less than the {d} features, so that a residual is left")
    origin = -np.linalg.pinv(weights.T, rcond=_smallest(weights, fitting.rounding(head.weights))) @ bias
    moment = fitting.second_moment(features, origin)
    residual = np.linalg.eigh(moment)[1][:, : d - dimension]
    largest = sum(block.max(1).sum() for (block,) in blocks(logits))
    outside = sum(np.linalg.norm((block - origin) @ residual, axis=1).sum() for (block,) in blocks(features))
    if outside <= len(features) * fitting.rounding(features) * np.sqrt(np.trace(moment)):
        raise ValueError(f"{dimension=} must be less than the rank of the features about the head's origin: nothing of them is left outside")
    return VirtualLogit(*map(jnp.asarray, (origin, residual, largest / outside)))


def _principal(d: int) -> int:
    return 1000 if d >= 2048 else 512 if d >= 768 else d // 2


def _smallest(weights: np.ndarray, eps: float) -> float:
    """Relative to the largest singular value, what the others must exceed: the norm of the rounding of the weights, eight times over."""
    return float(4 * eps * np.linalg.norm(weights) / max(np.linalg.norm(weights, 2), np.finfo(np.float64).tiny))


@plainly
def vim(logits: Array, features: Array | None = None, fitted: VirtualLogit | None = None, *, convention: str = "paper") -> Array:
    """The virtual logit of the residual less the energy of the real ones, `α ‖Rᵀ(h − o)‖ − log Σ_k exp z_k`.

    Args:
      logits: `[K]`, z.
      features: `[D]`, h.
      fitted: of `fit_vim`.
      convention: `"paper"` and `"openood"` (VIM) are the same; the probability of the virtual class, which the paper also gives, is its sigmoid.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits or features that are none or of another size, nothing fitted, an unknown convention.

    Range: (−∞, ∞).
    Cost: `O(D (D − dimension))` operations.
    Reference: Wang et al. 2022, "ViM: Out-Of-Distribution with Virtual-logit Matching", CVPR.
    """
    check_convention(convention)
    known = need_fitted(fitted, VirtualLogit, "fit_vim(features, logits, labels, head)")
    check_logits(logits)
    check_features(features, size=known.origin.shape[0])
    outside = jnp.matmul(wide(jnp.asarray(features)) - known.origin, known.residual, precision=lax.Precision.HIGHEST)
    return known.scale * banks.root((outside**2).sum()) - jax.nn.logsumexp(wide(jnp.asarray(logits)))
