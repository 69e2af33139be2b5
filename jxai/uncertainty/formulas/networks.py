"""Scores of networks that are made to say how sure they are: the kernel of DUQ, evidence, and variances of last layers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_logits, need_fitted
from jxai.uncertainty.laplace import Laplace
from jxai.uncertainty.sngp import SNGPPosterior

__all__ = ["dempster_shafer", "laplace_variance", "max_kernel", "sngp_variance"]


@plainly
def max_kernel(logits: Array, features: Array | None = None, fitted: Any = None) -> Array:
    """The negative greatest kernel of a DUQ network, `−max_c K_c`: how far an example is from every centroid.

    Args:
      logits: `[K]`, log K_c, at most 0, as `jxai.uncertainty.networks.DUQ` gives them.
      features: not read.
      fitted: not read.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits that are none; where they are concrete, one above 0, which is the logarithm of no kernel.

    Range: [−1, 0].
    Cost: `O(K)` operations.
    Reference: van Amersfoort et al. 2020, "Uncertainty Estimation Using a Single Deep Deterministic Neural Network", ICML.
    """
    check_logits(logits)
    if not isinstance(logits, jax.core.Tracer) and (top := np.asarray(logits, np.float64).max()) > 1e-6:
        raise ValueError(f"logits must be log K_c of DUQ's kernels, at most 0, got {top:.4g}: of another network max_logit is the like")
    return -jnp.exp(jnp.minimum(wide(jnp.asarray(logits)).max(), 0))


@plainly
def dempster_shafer(logits: Array, features: Array | None = None, fitted: Any = None) -> Array:
    """What evidence leaves open, when the exponential of each logit is evidence for its class: `K / (K + Σ_k exp z_k)`.

    Args:
      logits: `[K]`.
      features: not read.
      fitted: not read.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits that are none.

    Range: [0, 1].
    Cost: `O(K)` operations.
    Reference: Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness", NeurIPS (SNGP's score);
      Sensoy et al. 2018, "Evidential Deep Learning to Quantify Classification Uncertainty", NeurIPS.
    """
    k = check_logits(logits)
    return jax.nn.sigmoid(jnp.log(k) - jax.nn.logsumexp(wide(jnp.asarray(logits))))


@plainly
def sngp_variance(logits: Array, features: Array | None = None, fitted: SNGPPosterior | None = None) -> Array:
    """The variance of a logit under a Gaussian process of random features, `r φᵀ (r I + Σ_i φ_i φ_iᵀ)⁻¹ φ`.

    Args:
      logits: `[K]`, not read.
      features: `[R]`, φ: what the last linear map of an SNGP is applied to.
      fitted: of `fit_sngp`.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: features of another size, nothing fitted.

    Range: [0, ∞).
    Cost: `O(R²)` operations.
    Reference: Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness", NeurIPS.
    """
    check_logits(logits)
    return need_fitted(fitted, SNGPPosterior, "fit_sngp(features, logits)").variance(features)


@plainly
def laplace_variance(logits: Array, features: Array | None = None, fitted: Laplace | None = None) -> Array:
    """The variance of the logits under the Laplace posterior of the last layer: half the mean variance of the difference of two.

    With `S = φᵀ V φ` it is `(tr S − 1ᵀ S 1 / K) / (K − 1)`: of logits that are independent with one variance just that. What all logits share in is left
    out: no softmax shows it, the data say nothing of it, and the prior alone would make it `‖φ‖² / τ`, more than all else.

    Args:
      logits: `[K]`, not read.
      features: `[D]`.
      fitted: of `fit_laplace`.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: features of another size, nothing fitted.

    Range: [0, ∞).
    Cost: `O(D² + D K + K²)` operations.
    Reference: Kristiadi et al. 2020, "Being Bayesian, Even Just a Bit, Fixes Overconfidence in ReLU Networks", ICML.
    """
    k = check_logits(logits)
    return need_fitted(fitted, Laplace, "fit_laplace(features, logits)").apart(features).sum() / (k - 1)
