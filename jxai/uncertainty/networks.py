"""Networks that say how sure they are in one pass: DUQ, and the random-feature Gaussian process of SNGP, with the losses that train them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jxai.scores import positive, within
from jxai.training.batch_norm import in_batches
from jxai.training.updates import Part
from jxai.typing import Array
from jxai.uncertainty.duq import log_kernel
from jxai.uncertainty.sngp import random_features

__all__ = ["DUQ", "SNGP", "duq_loss", "duq_training", "moving_centroids"]

_LEAST = 1e-7
"""Of −log K_c in the loss: the logarithm of 1 − K_c has no value at a centroid itself."""


class DUQ(nnx.Module):
    """`f(x) -> log K_c [K]`: the logarithms of the kernels between an example and the classes' centroids, which are trained by `duq_training`.

    As logits they are what every method takes; their softmax is no part of DUQ, whose certainty is `max_c K_c` (`jxai.uncertainty.max_kernel`).

    Args:
      backbone: a module `x -> features [D]`. features: D. num_classes: K. embedding: d of each class. sigma: σ > 0, the length scale.
      count: what N begins with, about the batch size over K. spread: of the first centroids, `N(0, spread²)`.

    The published networks: Fashion-MNIST three convolutions (64, 128, 128) and 256 features, d = 256, σ = .1, γ = .999; spread 1 there, .05 on CIFAR-10.

    Reference: van Amersfoort et al. 2020, "Uncertainty Estimation Using a Single Deep Deterministic Neural Network", ICML.
    """

    def __init__(
        self,
        backbone: Callable[[Array], Array],
        features: int,
        num_classes: int,
        *,
        embedding: int = 256,
        sigma: float = 0.1,
        count: float = 12.0,
        spread: float = 1.0,
        rngs: nnx.Rngs,
    ):
        positive(features=features, num_classes=num_classes, embedding=embedding)
        within(math.ulp(0.0), math.inf, sigma=sigma, count=count, spread=spread)
        shape = (num_classes, embedding, features)
        self.backbone, self.sigma = backbone, sigma
        # As PyTorch's Kaiming initialiser counts the published tensor [d, K, D].
        self.weights = nnx.Param(math.sqrt(2 / (num_classes * features)) * jax.random.normal(rngs.params(), shape))
        self.counts = nnx.Param(jnp.full(num_classes, float(count)))
        self.sums = nnx.Param(count * spread * jax.random.normal(rngs.params(), shape[:2]))

    @property
    def centroids(self) -> Array:
        """`[K, d]`: e."""
        return self.sums[...] / self.counts[...][:, None]

    def embed(self, x: Array) -> Array:
        """`[K, d]`: `W_c f(x)`."""
        return jnp.einsum("kij,j->ki", self.weights[...], self.backbone(x))

    def __call__(self, x: Array) -> Array:
        return log_kernel(self.embed(x), self.centroids, self.sigma)


def duq_loss(model: DUQ, x: Array, y: Array, key: Array, *, penalty: float = 0.5) -> tuple[Array, dict[str, Array]]:
    """The mean cross entropy of each kernel with whether its class is the label, and a two-sided penalty of the gradient by x.

    `mean_{i, c} BCE(K_c(x_i), y_i = c) + λ mean_i (‖∂/∂x_i Σ_c K_c(x_i)‖₂ − 1)²`, of a batch (which batch normalisation sees as one).

    Args:
      x: `[n, …]`. y: `[n]`. penalty: λ >= 0 (static); the paper's grid is {0, .05, .1, .2, .3, .5, 1}. 0 leaves the gradient out.
    """

    def kernels(v: Array) -> tuple[Array, Array]:
        log_k = in_batches(model)(v)
        return jnp.exp(log_k).sum(), log_k

    if penalty:
        (_, log_k), slope = jax.value_and_grad(kernels, has_aux=True)(x)
    else:
        log_k, slope = kernels(x)[1], None
    near = jax.nn.one_hot(y, log_k.shape[1], dtype=log_k.dtype)
    fit = -(near * log_k + (1 - near) * jnp.log(-jnp.expm1(jnp.minimum(log_k, -_LEAST)))).mean()
    numbers = {"accuracy": (log_k.argmax(1) == y).mean(), "kernel": jnp.exp(log_k.max(1)).mean()}
    if slope is None:
        return fit, numbers
    square = (slope**2).reshape(len(x), -1).sum(1)
    size = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return fit + penalty * ((size - 1) ** 2).mean(), {**numbers, "slope": size.mean()}


def moving_centroids(model: DUQ, x: Array, y: Array, key: Array) -> tuple[Array, dict[str, Array]]:
    """What `optax.sgd(1 − γ)` makes the moving averages of a batch of: `½ ‖N − n‖² + ½ ‖m − Σ_{i ∈ c} W_c f(x_i)‖²`.

    A step down it is `jxai.uncertainty.duq.update`, with the weights as they are after the batch's own step, and batch normalisation by the batch itself (the
    published code's by its running statistics, which a training here has only at its end).
    """
    embedded = jax.lax.stop_gradient(in_batches(model, "embed")(x))
    own = jax.nn.one_hot(y, embedded.shape[1], dtype=embedded.dtype)
    counts, sums = own.sum(0), jnp.einsum("nk,nkd->kd", own, embedded)
    return 0.5 * ((model.counts[...] - counts) ** 2).sum() + 0.5 * ((model.sums[...] - sums) ** 2).sum(), {}


@functools.cache
def duq_training(optimizer: optax.GradientTransformation, *, penalty: float = 0.5, gamma: float = 0.999) -> tuple[Part, Part]:
    """The two parts that train a `DUQ`: `jxai.train.train(model, duq_training(optimizer), (x, y), …)`; with batch normalisation `settled` comes last.

    Args:
      optimizer: of backbone and embeddings; published is SGD at .05 with momentum .9 and weight decay 1e-4. penalty: λ of `duq_loss`.
      gamma: γ in [0, 1), of the moving averages.
    """
    within(0.0, math.inf, penalty=penalty)
    within(0.0, math.nextafter(1.0, 0.0), gamma=gamma)
    return (
        Part(functools.partial(duq_loss, penalty=penalty), optimizer, ("backbone", "weights")),
        Part(moving_centroids, optax.sgd(1 - gamma), ("counts", "sums"), name="centroids", again=True),
    )


class _Fixed(nnx.Variable):
    """What is drawn once and never trained."""


class SNGP(nnx.Module):
    """`f(x) -> logits [K]`: a backbone, its features normalised without parameters, random Fourier features, and a linear layer on them.

    Trained by the cross entropy of `SpectralNorm(c)(model)`, which holds the backbone's layers, so that far examples have far features. Then
    `fit_sngp(features, logits)` of the training data has the variance, and `SNGPModel(model, fitted)` the predictive logits.

    Args:
      backbone: a module `x -> features [D]`. features: D. num_classes: K. num_features: R. scale: of the random features, 1 as in edward2; None for √(2/R).
      normalized: whether the features get mean 0 and variance 1 first, each example's own.

    Reference: Liu et al. 2020, "Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness", NeurIPS; the initial
    numbers are edward2's: `W ~ N(0, 2 / D)`, `b ~ U(0, 2π)`.
    """

    def __init__(
        self,
        backbone: Callable[[Array], Array],
        features: int,
        num_classes: int,
        *,
        num_features: int = 1024,
        scale: float | None = 1.0,
        normalized: bool = True,
        rngs: nnx.Rngs,
    ):
        positive(features=features, num_classes=num_classes, num_features=num_features)
        self.backbone, self.scale, self.normalized = backbone, scale, normalized
        self.w = _Fixed(math.sqrt(2 / features) * jax.random.normal(rngs.params(), (features, num_features)))
        self.b = _Fixed(jax.random.uniform(rngs.params(), (num_features,), maxval=2 * math.pi))
        self.weights = nnx.Param(math.sqrt(1 / num_features) * jax.random.normal(rngs.params(), (num_features, num_classes)))
        self.bias = nnx.Param(jnp.zeros(num_classes))

    def random_features(self, x: Array) -> Array:
        """`[R]`: φ(x), what the last layer reads."""
        h = self.backbone(x)
        if self.normalized:
            h = (h - h.mean()) / jnp.sqrt(h.var() + 1e-6)
        return random_features(h, self.w[...], self.b[...], scale=self.scale)

    def __call__(self, x: Array) -> Array:
        return self.random_features(x) @ self.weights[...] + self.bias[...]
