"""Last-layer Laplace: a Gaussian posterior of the last layer's weights in Kronecker form, and what it predicts."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.callables import Adapter, plainly
from jxai.scores import need_key, one_of, positive, wide, within
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import check_features, same_length
from jxai.uncertainty.heads import Head, answers

__all__ = ["Laplace", "LaplaceModel", "fit_laplace"]

LIKELIHOODS = ("categorical", "gaussian")
CONVENTIONS = (None, "laplace-torch")
_PROBIT = math.pi / 8
_HIGHEST = lax.Precision.HIGHEST


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Laplace:
    """The posterior `N(W, (A ⊗ B + τ I)⁻¹)` of a last layer's weights and biases, by the eigenvectors of its factors; made by `fit_laplace`.

    `A = Σ_i φ_i φ_iᵀ`, φ the features with a 1 for the bias, `B` the mean over examples of the likelihood's curvature by the logits. The prior is added to
    the eigenvalues of the whole, so that it is exact, and neither `A ⊗ B` nor `φ ⊗ I` is ever made.

    Attributes:
      inputs: `[D + 1, D + 1]`, eigenvectors of A as columns. input_values: `[D + 1]`. outputs: `[K, K]`, of B. output_values: `[K]`.
      prior_precision: `[]`, τ.
    """

    inputs: Array
    input_values: Array
    outputs: Array
    output_values: Array
    prior_precision: Array

    def covariance(self, features: Array) -> Array:
        """`[K, K]`: of the logits at features `[D]`, `φᵀ V φ` in every pair of classes."""
        return jnp.einsum("ij,j,kj->ik", self.outputs, self._spread(features), self.outputs, precision=_HIGHEST)

    def variance(self, features: Array) -> Array:
        """`[K]`: of each logit at features `[D]`, the diagonal of `covariance`."""
        return jnp.matmul(self.outputs**2, self._spread(features), precision=_HIGHEST)

    def apart(self, features: Array) -> Array:
        """`[K]`: the variance of each logit less the mean of all, at features `[D]`: a softmax knows nothing of what all share in."""
        return jnp.matmul(self._beside() ** 2, self._spread(features), precision=_HIGHEST)

    def differences(self, features: Array) -> Array:
        """`[K, K]`: the variance of the difference of each two logits at features `[D]`."""
        own, beside = self.apart(features), self._beside()
        between = jnp.einsum("ij,j,kj->ik", beside, self._spread(features), beside, precision=_HIGHEST)
        return jnp.maximum(own[:, None] + own - 2 * between, 0)  # below 0 but by rounding

    def draw(self, features: Array, key: Array) -> Array:
        """`[K]`: what a draw from the posterior adds to the logits at features `[D]`."""
        noise = jnp.sqrt(self._spread(features)) * jax.random.normal(key, self.output_values.shape, self.output_values.dtype)
        return jnp.matmul(self.outputs, noise, precision=_HIGHEST)

    def _beside(self) -> Array:
        """The eigenvectors of B without their share in all classes alike, which would drown the rest in rounding."""
        return self.outputs - self.outputs.mean(0)

    def _spread(self, features: Array) -> Array:
        """`[K]`: the variance along each eigenvector of B."""
        check_features(features, size=len(self.input_values) - 1)
        phi = jnp.append(wide(jnp.asarray(features)), 1)
        along = jnp.matmul(phi, self.inputs, precision=_HIGHEST) ** 2
        return (along / (self.input_values * self.output_values[:, None] + self.prior_precision)).sum(1)


@plainly
def fit_laplace(
    features: Array,
    logits: Array,
    labels: Array | None = None,
    head: Head | None = None,
    *,
    prior_precision: float = 1.0,
    likelihood: str = "categorical",
    noise: float = 1.0,
) -> Laplace:
    """The Laplace approximation of a last layer: the curvature of the likelihood at the trained weights, summed over the training examples, and the prior.

    The generalised Gauss–Newton matrix `Σ_i φ_i φ_iᵀ ⊗ Λ_i` is taken as `(Σ_i φ_i φ_iᵀ) ⊗ (Σ_i Λ_i / n)`: with a Gaussian likelihood, where all Λ_i are
    alike, that is exact, and so is the posterior of a linear model. On the host in float64. Sums, never means: n times the examples make the variance n times smaller where
    the prior says little. A penalty `½ λ ‖w‖²` beside a MEAN loss is `prior_precision = n λ` here.

    Args:
      features: `[n, D]`, of the training examples. logits: `[n, K]`, at the trained weights. labels: `[n]`, checked but not read: the curvature does not depend
        on them. head: not read.
      prior_precision: τ > 0, of every weight and bias. likelihood: "categorical", `Λ = diag(p) − p pᵀ`, or "gaussian", `Λ = I / noise²`, of a regression.
      noise: > 0, the standard deviation of a regression's targets.

    Returns:
      A `Laplace`, float32 or wider.

    Raises:
      ValueError: shapes that do not fit, unequal lengths, NaN, logits that are probabilities, a bad option, tracers.

    Cost: `n (D² + K²) + D³ + K³` operations.
    Reference: Kristiadi et al. 2020, "Being Bayesian, Even Just a Bit, Fixes Overconfidence in ReLU Networks", ICML; Daxberger et al. 2021, "Laplace Redux —
    Effortless Bayesian Deep Learning", NeurIPS (its damping, the eigenvalues', not √τ on each factor).
    """
    from scipy.special import softmax

    one_of("likelihood", likelihood, LIKELIHOODS)
    within(math.ulp(0.0), math.inf, prior_precision=prior_precision, noise=noise)
    if likelihood == "categorical":
        n, _, classes = fitting.given("fit_laplace", features, logits, labels, read=("logits",))
    else:  # of a regression there may be one output
        n, _, _ = fitting.given("fit_laplace", features)
        classes = check_features(logits, rank=2, name="logits")
        same_length(features=features, logits=logits)
    gram, curvature = 0.0, np.eye(classes) / noise**2 if likelihood == "gaussian" else np.zeros((classes, classes))
    for h, z in fitting.blocks(features, logits):
        phi = np.concatenate([h, np.ones((len(h), 1))], 1)
        gram = gram + phi.T @ phi
        if likelihood == "categorical":
            p = softmax(z, 1)
            curvature += (np.diag(p.sum(0)) - p.T @ p) / n
    input_values, inputs = np.linalg.eigh(gram)
    output_values, outputs = np.linalg.eigh(curvature)
    # A curvature is never negative but by rounding.
    arrays = inputs, np.maximum(input_values, 0), outputs, np.maximum(output_values, 0), prior_precision
    return Laplace(*(jnp.asarray(v, fitting.wide_dtype(features)) for v in arrays))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LaplaceModel(Adapter):
    """A model with the posterior of its last layer: `x -> logits [K]` whose softmax is the predictive probability, and `samples(x, key) -> [S, K]`, logits of
    draws from the posterior, exact since the last layer is linear in its weights.

    The logits are `log Σ_j exp z_j − log Σ_j exp((z_j − z_k) / √(1 + π v_kj / 8))`, v_kj the variance of `z_k − z_j`: the probit approximation of every pair, of
    two classes the whole answer, and f's own logits without any variance. What all classes share in, of which the data say nothing, is in no difference. In the
    variance of each logit alone it is: `‖φ‖² / τK`, more than all else for wide features, which makes a probit of each class, `z_k / √(1 + π v_k / 8)`, unsure of everything.

    Attributes:
      f: the trained model. fitted: of `fit_laplace`. num_samples: S (static). layer: where the features are read (static), None for what the last linear map is
        applied to. convention: None, or "laplace-torch" for its `link_approx="probit"`, the one of each class (static).

    Cost: `K³` operations an example besides those of f; with a convention `K²`.
    Reference: Lu et al. 2020, "Mean-Field Approximation to Gaussian-Softmax Integral with Application to Uncertainty Estimation", arXiv 2006.07584.
    """

    f: Any
    fitted: Laplace
    num_samples: int = dataclasses.field(default=100, metadata={"static": True})
    layer: int | str | None = dataclasses.field(default=None, metadata={"static": True})
    convention: str | None = dataclasses.field(default=None, metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        one_of("convention", self.convention, CONVENTIONS)
        logits, features = answers(self.f, x, self.layer)
        if self.convention == "laplace-torch":
            return logits / jnp.sqrt(1 + _PROBIT * self.fitted.variance(features))
        behind = (logits - logits[:, None]) / jnp.sqrt(1 + _PROBIT * self.fitted.differences(features))
        return jax.nn.logsumexp(logits) - jax.nn.logsumexp(behind, 1)

    def samples(self, x: Array, key: Array | None = None) -> Array:
        """`[S, K]`: logits of the model under S draws of its last layer."""
        positive(num_samples=self.num_samples)
        logits, features = answers(self.f, x, self.layer)
        keys = jax.random.split(need_key(key, "a posterior"), self.num_samples)
        return logits + jax.vmap(lambda key: self.fitted.draw(features, key))(keys)
