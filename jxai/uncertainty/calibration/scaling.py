"""Recalibration by linear maps: temperature, vector and matrix scaling of logits, and Dirichlet calibration of log-probabilities."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.typing import Array
from jxai.uncertainty.calibration.recalibration import Recalibration, fitting
from jxai.uncertainty.checks import check_host, check_not_negative

__all__ = ["Dirichlet", "MatrixScaling", "TemperatureScaling", "VectorScaling", "fit_dirichlet", "fit_matrix", "fit_temperature", "fit_vector"]

_LIMITS = (1e-6, 1e6)
"""Between which 1 / temperature is looked for, of logits whose standard deviation is 1."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TemperatureScaling(Recalibration):
    """`z / T`.

    Attributes:
      temperature: `[]`, T > 0; above 1 of a model that is too sure.
    """

    temperature: Array

    def _of(self, logits: Array) -> Array:
        return logits / self.temperature


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class VectorScaling(Recalibration):
    """`w ⊙ z + b`.

    Attributes:
      scale: `[K]`, w. bias: `[K]`, b.
    """

    scale: Array
    bias: Array

    @property
    def num_classes(self) -> int:
        return self.bias.shape[0]

    def _of(self, logits: Array) -> Array:
        return logits * self.scale + self.bias


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MatrixScaling(Recalibration):
    """`z W + b`.

    Attributes:
      weights: `[K, K]`, W: from the class of the row to that of the column. bias: `[K]`, b.
    """

    weights: Array
    bias: Array

    @property
    def num_classes(self) -> int:
        return self.bias.shape[0]

    def _of(self, logits: Array) -> Array:
        return jnp.matmul(logits, self.weights, precision=lax.Precision.HIGHEST) + self.bias


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Dirichlet(MatrixScaling):
    """`log softmax(z) W + b`: matrix scaling of log-probabilities.

    Attributes:
      weights: `[K, K]`, W: from the class of the row to that of the column. bias: `[K]`, b.
    """

    def _of(self, logits: Array) -> Array:
        return super()._of(jax.nn.log_softmax(logits))


def fit_temperature(logits: Array, labels: Array) -> TemperatureScaling:
    """The temperature under which labels are likeliest: `argmin_T 1/n Σ_i −log softmax(z_i / T)[y_i]`.

    The likelihood is convex in 1/T, so that the root of its derivative is found to rounding. No prediction changes its class.

    Args:
      logits: `[n, K]` of examples that the model has not learnt from. labels: `[n]`, integers in [0, K); a class may be without examples.

    Returns:
      A `TemperatureScaling`, float32.

    Raises:
      ValueError: traced, probabilities, labels that are no classes, unequal lengths; or there is no such temperature: every label has the largest logit (the likelihood
        grows as T falls to 0), or labels have on average no larger logits than the mean of all (it grows as T rises).

    Cost: about 40 passes over n K numbers, on the host.
    Reference: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", ICML.
    """
    z, y = fitting("fit_temperature", logits, labels, every_class=False)
    z = z - z.max(1, keepdims=True)
    own = z[np.arange(len(y)), y]
    if (own >= 0).all():
        raise ValueError(
            "every label has the largest logit: its likelihood grows without end as the temperature falls to 0; give examples of which some are predicted wrongly"
        )
    unit, ends = z.std(), np.log(_LIMITS)
    from scipy.optimize import brentq
    from scipy.special import softmax

    slope = lambda log_inverse: ((softmax(z * np.exp(log_inverse) / unit, axis=1) * z).sum(1) - own).mean()
    if slope(ends[0]) >= 0:
        raise ValueError(
            "labels have no larger logits than the mean of all: the likelihood grows without end with the temperature; are labels those of these logits?"
        )
    found = brentq(slope, *ends, xtol=1e-12) if slope(ends[1]) > 0 else ends[1]
    return TemperatureScaling(jnp.asarray(unit * np.exp(-found), jnp.float32))


def fit_vector(logits: Array, labels: Array) -> VectorScaling:
    """Vector scaling: a weight and a bias of each class, `argmin_{w, b} 1/n Σ_i −log softmax(w ⊙ z_i + b)[y_i]`, from w = 1, b = 0 by L-BFGS.

    Args:
      logits: `[n, K]` of examples that the model has not learnt from. labels: `[n]`, integers in [0, K), every class among them.

    Returns:
      A `VectorScaling`, float32.

    Raises:
      ValueError: as `fit_temperature`; a class without examples (its bias would fall without end), or classes that can be told without error.

    Reference: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", ICML.
    """
    z, y = fitting("fit_vector", logits, labels, every_class=True)
    k = z.shape[1]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, residual = _likelihood(z * theta[:k] + theta[k:], y)
        return value, np.concatenate([(residual * z).sum(0), residual.sum(0)])

    theta = _minimised(loss, np.concatenate([np.ones(k), np.zeros(k)]))
    _not_separated(z * theta[:k] + theta[k:], y, "vector scaling")
    return VectorScaling(jnp.asarray(theta[:k], jnp.float32), jnp.asarray(theta[k:], jnp.float32))


def fit_matrix(logits: Array, labels: Array, *, off_diagonal: float = 0.0, bias: float = 0.0) -> MatrixScaling:
    """Matrix scaling: `argmin_{W, b} 1/n Σ_i −log softmax(z_i W + b)[y_i]`, from W = 1, b = 0 by L-BFGS; with penalties it is Kull's MS-ODIR.

    Of many classes it learns few examples by heart: K² + K numbers are fitted.

    Args:
      logits: `[n, K]` of examples that the model has not learnt from. labels: `[n]`, integers in [0, K), every class among them.
      off_diagonal: λ of the penalty `λ / (K (K − 1)) Σ_{k≠j} W_kj²`. bias: μ of `μ / K Σ_k b_k²`.

    Returns:
      A `MatrixScaling`, float32.

    Raises:
      ValueError: as `fit_vector`; a penalty below 0.

    Reference: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", ICML.
    """
    z, y = fitting("fit_matrix", logits, labels, every_class=True)
    return MatrixScaling(*_regression(z, y, off_diagonal, bias, "matrix scaling"))


def fit_dirichlet(logits: Array, labels: Array, *, off_diagonal: float = 1e-3, bias: float = 1e-3) -> Dirichlet:
    """Dirichlet calibration: `argmin_{W, b} 1/n Σ_i −log softmax(log p_i W + b)[y_i]` with off-diagonal and intercept regularisation (ODIR).

    It can represent every calibration of predictions that are Dirichlet distributed for each class.

    Args:
      logits: `[n, K]` of examples that the model has not learnt from; p is their softmax. labels: `[n]`, integers in [0, K), every class among them.
      off_diagonal: λ of the penalty `λ / (K (K − 1)) Σ_{k≠j} W_kj²`. bias: μ of `μ / K Σ_k b_k²`. The paper chooses both by cross-validation.

    Returns:
      A `Dirichlet`, float32.

    Raises:
      ValueError: as `fit_vector`; a penalty below 0.

    Reference: Kull et al. 2019, "Beyond Temperature Scaling: Obtaining Well-Calibrated Multiclass Probabilities with Dirichlet Calibration", NeurIPS.
    """
    z, y = fitting("fit_dirichlet", logits, labels, every_class=True)
    from scipy.special import log_softmax

    return Dirichlet(*_regression(log_softmax(z, axis=1), y, off_diagonal, bias, "Dirichlet calibration"))


def _regression(x: np.ndarray, y: np.ndarray, off_diagonal: Any, bias: Any, what: str) -> tuple[Array, Array]:
    """W and b of a penalised softmax regression of inputs `[n, K]`."""
    check_host(what, off_diagonal=off_diagonal, bias=bias)
    check_not_negative(off_diagonal=off_diagonal, bias=bias)
    k = x.shape[1]
    price = np.concatenate([(off_diagonal / (k * (k - 1)) * (1 - np.eye(k))).ravel(), np.full(k, bias / k)])

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, residual = _likelihood(x @ theta[: k * k].reshape(k, k) + theta[k * k :], y)
        gradient = np.concatenate([(x.T @ residual).ravel(), residual.sum(0)])
        return value + (price * theta**2).sum(), gradient + 2 * price * theta

    theta = _minimised(loss, np.concatenate([np.eye(k).ravel(), np.zeros(k)]))
    weights, offset = theta[: k * k].reshape(k, k), theta[k * k :]
    _not_separated(x @ weights + offset, y, f"{what} without penalties" if not off_diagonal else what)
    return jnp.asarray(weights, jnp.float32), jnp.asarray(offset, jnp.float32)


def _likelihood(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """The mean negative log-likelihood, and its derivative by the logits."""
    from scipy.special import log_softmax

    log_p = log_softmax(logits, axis=1)
    residual = np.exp(log_p)
    residual[np.arange(len(y)), y] -= 1
    return -log_p[np.arange(len(y)), y].mean(), residual / len(y)


def _minimised(loss: Any, start: np.ndarray) -> np.ndarray:
    from scipy.optimize import minimize

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 10000, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-8})
    if not np.isfinite(found.fun) or (not found.success and np.abs(found.jac).max() > 1e-4):
        raise ValueError(f"logits could not be fitted to: after {found.nit} steps the greatest derivative is {np.abs(found.jac).max():.2g} ({found.message})")
    return found.x


def _not_separated(logits: np.ndarray, y: np.ndarray, what: str) -> None:
    own = logits[np.arange(len(y)), y][:, None]
    if ((own > logits).sum(1) == logits.shape[1] - 1).all():
        raise ValueError(
            f"{what} tells the classes of all {len(y)} examples: its likelihood grows without end with the weights; give more examples, or fit_temperature"
        )
