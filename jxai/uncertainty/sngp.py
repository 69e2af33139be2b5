"""Spectral-normalised neural Gaussian processes: random features, the posterior of their weights, and logits that shrink with its variance."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
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

__all__ = ["mean_field", "precision", "random_features", "spectral_normalize", "variance"]

_HIGHEST = lax.Precision.HIGHEST


@plainly
def random_features(x: Array, w: Array, b: Array, *, scale: float | Array | None = None) -> Array:
    """Random Fourier features: `φ = scale · cos(x W + b)`.

    With the default scale, `√(2/R)`, W of independent `N(0, 1/ℓ²)` and b uniform on [0, 2π], `φ(x)ᵀ φ(y)` tends to the Gaussian kernel `exp(−‖x − y‖²/2ℓ²)`.

    Args:
      x: `[D]` or `[n, D]`. w: `[D, R]`; `[R, D]`, as papers write it, is taken too where it cannot be the other. b: `[R]`.
      scale: None for √(2/R); the published networks take 1 (`edward2`).

    Returns:
      `[R]` or `[n, R]`.

    Raises:
      ValueError: shapes that do not fit.

    Reference: Rahimi & Recht 2007, "Random Features for Large-Scale Kernel Machines", NeurIPS.
    """
    x, w, b = (wide(jnp.asarray(v)) for v in (x, w, b))
    if x.ndim not in (1, 2) or w.ndim != 2 or b.ndim != 1 or {*w.shape} != {x.shape[-1], b.size}:
        raise ValueError(f"x [D] or [n, D], w [D, R] and b [R] must fit, got {x.shape}, {w.shape} and {b.shape}")
    if w.shape != (x.shape[-1], b.size):
        w = w.T
    size = math.sqrt(2 / b.size) if scale is None else scale
    return size * jnp.cos(jnp.matmul(x, w, precision=_HIGHEST) + b)


@plainly
def precision(phi: Array, *, ridge: float | Array = 1.0, momentum: float | None = None, weights: Array | None = None, previous: Array | None = None) -> Array:
    """The precision of the weights of features: `P + Σ_i w_i φ_i φ_iᵀ`, or with a momentum `m P + (1 − m) Σ_i w_i φ_i φ_iᵀ / n`.

    Args:
      phi: `[n, R]`. ridge: r > 0; P is `r I` before any data. momentum: m in [0, 1), for a moving mean over batches; None adds up, so that P must begin anew
        with each pass over the data, which a call without `previous` does.
      weights: `[n]`, None for 1, which is the likelihood "gaussian" that edward2 takes for several classes, too; its binary one has `p (1 − p)`.
      previous: `[R, R]`, P of the batches before.

    Returns:
      `[R, R]`.

    Raises:
      ValueError: shapes that do not fit, a bad option.

    Cost: `n R²` operations.
    """
    size = check_features(phi, rank=2, name="phi")
    within(math.ulp(0.0), math.inf, ridge=ridge)
    if momentum is not None:
        within(0.0, math.nextafter(1.0, 0.0), momentum=momentum)
    if weights is not None:
        same_length(phi=phi, weights=weights)
    if previous is not None and jnp.shape(previous) != (size, size):
        raise ValueError(f"previous must be a precision [{size}, {size}], got shape {jnp.shape(previous)}")
    phi = wide(jnp.asarray(phi))
    own = phi if weights is None else phi * wide(jnp.asarray(weights))[:, None]
    before = ridge * jnp.eye(size, dtype=phi.dtype) if previous is None else wide(jnp.asarray(previous))
    seen = jnp.matmul(own.T, phi, precision=_HIGHEST)
    return before + seen if momentum is None else momentum * before + (1 - momentum) * seen / len(phi)


@plainly
def variance(phi: Array, precision: Array, *, ridge: float | Array = 1.0) -> Array:
    """The variance of a logit: `r φᵀ P⁻¹ φ`, in [0, ‖φ‖²]; before any data it is `‖φ‖²`.

    Args:
      phi: `[R]` or `[n, R]`. precision: `[R, R]`, P. ridge: r, with which P was made.

    Returns:
      `[]` or `[n]`.

    Raises:
      ValueError: shapes that do not fit.

    Cost: `R³` operations and `R²` for each example.
    """
    size = check_features(phi, rank=min(max(jnp.ndim(phi), 1), 2), name="phi")
    if jnp.shape(precision) != (size, size):
        raise ValueError(f"precision must be [{size}, {size}], as phi has {size} features, got shape {jnp.shape(precision)}")
    phi = wide(jnp.asarray(phi))
    factor = jnp.linalg.cholesky(wide(jnp.asarray(precision)))
    return ridge * (jax.scipy.linalg.solve_triangular(factor, phi.T, lower=True) ** 2).sum(0)


@plainly
def mean_field(logits: Array, variance: Array, *, factor: float | Array, likelihood: str = "categorical") -> Array:
    """Logits `[K]` whose softmax is about the mean probability under a variance v: `z / √(1 + λ v)`.

    Args:
      logits: `[K]` or `[n, K]`. variance: `[]` or `[n]`, of all classes; or of the shape of the logits.
      factor: λ; π/8 is the probit approximation's and the paper's, 1 edward2's default; below 0 it is off: logits as they are.
      likelihood: "categorical", or "poisson" for the logarithm of a rate, `z / exp(−λ v / 2)`.

    Raises:
      ValueError: shapes that do not fit, a bad option.
    """
    one_of("likelihood", likelihood, ("categorical", "poisson"))
    z, v = wide(jnp.asarray(logits)), wide(jnp.asarray(variance))
    if v.shape not in (z.shape, z.shape[:-1]):
        raise ValueError(f"variance must be {list(z.shape[:-1])} or {list(z.shape)}, one for each of the logits {z.shape} or of their rows, got {v.shape}")
    v = v if v.shape == z.shape else v[..., None]
    off = jnp.asarray(factor) < 0
    v = jnp.where(off, 0, v)  # so that its derivative is none, too
    return z / (jnp.sqrt(1 + factor * v) if likelihood == "categorical" else jnp.exp(-factor * v / 2))


@plainly
def spectral_normalize(
    w: Array,
    *,
    bound: float | Array = 0.95,
    steps: int = 100,
    size: tuple[int, int] | None = None,
    strides: tuple[int, int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
) -> Array:
    """Weights held to a norm as the linear map that they are: `W · min(1, c / σ)`, σ the greatest singular value.

    σ is found by power iteration from a fixed start, from below, and held constant in derivatives, as in edward2. Nothing is kept between calls, so a single step is a
    rough guess; a network in training takes `jxai.models.SpectralNorm`, through which the norm's own derivative passes.

    Args:
      w: a matrix, or a kernel `[kh, kw, C, F]`, whose map is the convolution itself: reshaping it to a matrix bounds another one. bound: c > 0. steps: >= 1.
      size: `(H, W)` of the images that a kernel is applied to. strides, padding: of the convolution, as `jxai.kernels.conv2d` takes them.

    Raises:
      ValueError: another rank, a kernel without a size, a bad option.

    Cost: 2 · steps products.
    Reference: Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness", NeurIPS; Gouk et al. 2021,
    "Regularisation of Neural Networks by Enforcing Lipschitz Continuity", Machine Learning.
    """
    from jxai.models.spectral import convolution, operator_norm  # brings flax

    w = wide(jnp.asarray(w))
    within(math.ulp(0.0), math.inf, bound=bound)
    if w.ndim == 2:
        norm = operator_norm(jnp.matmul, w, (w.shape[0],), steps)
    elif w.ndim == 4:
        if size is None:
            raise ValueError(f"w is a kernel {w.shape}: size=(H, W) of the images says what its norm is of")
        norm = operator_norm(convolution(strides, padding), w, (*size, w.shape[2]), steps)
    else:
        raise ValueError(f"w must be a matrix or a kernel [kh, kw, C, F], got shape {w.shape}")
    return w / lax.stop_gradient(jnp.maximum(norm / bound, 1))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SNGPPosterior:
    """The posterior of the weights of random features; made by `fit_sngp`.

    Attributes:
      whitening: `[R, R]`, lower triangular L⁻¹ of the Cholesky factor of the precision. ridge: `[]`.
    """

    whitening: Array
    ridge: Array

    def variance(self, features: Array) -> Array:
        """`[]`: `r φᵀ P⁻¹ φ` at features `[R]`."""
        check_features(features, size=len(self.whitening))
        # A product with a matrix that all examples share: under vmap a triangular solve would copy it for each.
        return self.ridge * (jnp.matmul(self.whitening, wide(jnp.asarray(features)), precision=_HIGHEST) ** 2).sum()


@plainly
def fit_sngp(
    features: Array, logits: Array, labels: Array | None = None, head: Head | None = None, *, ridge: float = 1.0, likelihood: str = "gaussian"
) -> SNGPPosterior:
    """The posterior of the last layer's weights from one pass over the training data: `P = r I + Σ_i w_i φ_i φ_iᵀ`, on the host in float64.

    Args:
      features: `[n, R]`, the random features, which the last linear map of an `SNGP` is applied to. logits: `[n, K]`. labels: `[n]`, checked but not read.
      head: not read.
      ridge: r > 0. likelihood: "gaussian", w = 1, which edward2 takes for several classes, too; "binary", of two classes, `w = p (1 − p)`.

    Raises:
      ValueError: shapes that do not fit, unequal lengths, NaN, logits that are probabilities, a bad option, tracers.

    Cost: `n R² + R³` operations.
    Reference: Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness", NeurIPS.
    """
    from scipy.linalg import solve_triangular
    from scipy.special import softmax

    one_of("likelihood", likelihood, ("gaussian", "binary"))
    within(math.ulp(0.0), math.inf, ridge=ridge)
    _, size, classes = fitting.given("fit_sngp", features, logits, labels, read=("logits",))
    if likelihood == "binary" and classes != 2:
        raise ValueError(f"{likelihood=} is of two classes, but logits are of {classes}: 'gaussian' takes any number")
    total = ridge * np.eye(size)
    for phi, z in fitting.blocks(features, logits):
        p = softmax(z, 1)[:, 1]
        total += (phi * (p * (1 - p))[:, None] if likelihood == "binary" else phi).T @ phi
    whitening = solve_triangular(np.linalg.cholesky(total), np.eye(size), lower=True)
    dtype = fitting.wide_dtype(features)
    return SNGPPosterior(jnp.asarray(whitening, dtype), jnp.asarray(ridge, dtype))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SNGPModel(Adapter):
    """A trained SNGP with its posterior: `x -> logits [K]` by the mean field, whose softmax is the predictive probability; and `samples(x, key) -> [S, K]`.

    Attributes:
      f: the network. fitted: of `fit_sngp`. factor: λ of `mean_field`. num_samples: S (static).
    """

    f: Any
    fitted: SNGPPosterior
    factor: float | Array = math.pi / 8
    num_samples: int = dataclasses.field(default=100, metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        logits, features = answers(self.f, x)
        return mean_field(logits, self.fitted.variance(features), factor=self.factor)

    def samples(self, x: Array, key: Array | None = None) -> Array:
        """`[S, K]`: logits drawn from the posterior, the classes independent with one variance."""
        positive(num_samples=self.num_samples)
        logits, features = answers(self.f, x)
        noise = jax.random.normal(need_key(key, "a posterior"), (self.num_samples, logits.size), logits.dtype)
        return logits + jnp.sqrt(self.fitted.variance(features)) * noise
