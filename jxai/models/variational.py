"""The losses of variational autoencoders: pure functions `loss(model, x [B, …], y [B] or None, key) -> (scalar, {name: scalar})`."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jxai.models.coders import check_shape, given
from jxai.scores import need_key, one_of, positive, within
from jxai.typing import Array

__all__ = ["KLTerms", "elbo", "gaussian_kl", "kl_decomposition", "tc_vae_loss", "vae_loss"]

LIKELIHOODS = ("bernoulli", "gaussian")
ESTIMATORS = ("weighted", "stratified")


class KLTerms(NamedTuple):
    """What the mean divergence of `q(z | x)` from the prior is made of, in nats; for one batch, and so only in expectation >= 0."""

    mutual_information: Array
    """Of x and z, `KL(q(z, x) ‖ q(z) p(x))`."""
    total_correlation: Array
    """`KL(q(z) ‖ Π_j q(z_j))`: how much the coordinates of z depend on each other."""
    dimension_wise: Array
    """`Σ_j KL(q(z_j) ‖ p(z_j))`."""


def gaussian_kl(mean: Array, log_variance: Array) -> Array:
    """`KL(N(μ, diag σ²) ‖ N(0, I)) = ½ Σ_j (μ_j² + σ_j² − 1 − log σ_j²)` in nats, of `[latent]` each."""
    return 0.5 * (mean**2 + jnp.exp(log_variance) - 1 - log_variance).sum()


def reconstruction(model: Any, z: Array, x: Array, likelihood: str, sigma: float) -> Array:
    """`−log p(x | z)` in nats: of Bernoulli pixels (a cross-entropy where x is between 0 and 1), or of `N(decode(z), σ² I)`."""
    if likelihood == "bernoulli":
        return optax.sigmoid_binary_cross_entropy(model.logits(z), x).sum()
    return (0.5 * ((x - model.decode(z)) / sigma) ** 2 + math.log(sigma) + 0.5 * math.log(2 * math.pi)).sum()


def elbo(model: Any, x: Array, key: Array, beta: float = 1.0, likelihood: str = "bernoulli", *, sigma: float = 0.1) -> tuple[Array, dict[str, Array]]:
    """The negative evidence lower bound of one example, `−E_q(z|x)[log p(x | z)] + β KL(q(z | x) ‖ p(z))`, by one sample of z.

    Args:
      model: a `VAE`, or `conditional.given(y)`. x: `[*shape]`, in [0, 1] for Bernoulli pixels. key: draws z.
      beta: β >= 0; with 1 the result bounds `−log p(x)` from above (in expectation), more weighs against what z says of x (β-VAE).
      likelihood: "bernoulli" or "gaussian". sigma: σ > 0 of the Gaussian.

    Returns:
      `(loss [], {"reconstruction": [], "kl": []})` in nats; the KL is the closed form, without β.

    Raises:
      ValueError: x of another shape than the model's, an option out of range.

    Reference: Kingma and Welling 2014, arXiv 1312.6114; Higgins et al. 2017, "β-VAE", ICLR.
    """
    _, mean, log_variance, nll = _drawn(model, x, key, likelihood, sigma)
    within(0.0, math.inf, beta=beta)
    kl = gaussian_kl(mean, log_variance)
    return nll + beta * kl, {"reconstruction": nll, "kl": kl}


def vae_loss(
    model: Any, x: Array, y: Array | None, key: Array, *, beta: float = 1.0, likelihood: str = "bernoulli", sigma: float = 0.1
) -> tuple[Array, dict[str, Array]]:
    """The mean of `elbo` over a batch x `[B, *shape]`; y `[B]` or `[B, num_classes]` is for a `ConditionalVAE`, and says nothing to others.

    Returns:
      `(loss [], {"reconstruction": [], "kl": []})`, means in nats per example.
    """

    def one(v: Array, label: Array | None, k: Array) -> tuple[Array, dict[str, Array]]:
        return elbo(given(model, label), v, k, beta, likelihood, sigma=sigma)

    return jax.tree.map(jnp.mean, jax.vmap(one)(x, y, jax.random.split(key, x.shape[0])))


def kl_decomposition(z: Array, mean: Array, log_variance: Array, num_examples: int, *, estimator: str = "weighted") -> KLTerms:
    """Mutual information, total correlation and dimension-wise KL of the aggregate posterior `q(z) = (1/N) Σ_n q(z | x_n)`, from a batch.

    With `log q(z)` and `log q(z_j)` estimated in the batch, the means over it of `log q(z | x) − log q(z)`, `log q(z) − Σ_j log q(z_j)` and
    `Σ_j (log q(z_j) − log p(z_j))`: they add up to the mean of `log q(z | x) − log p(z)` exactly, whatever the estimates.

    Args:
      z: `[B, latent]`, a sample of each posterior. mean, log_variance: `[B, latent]`. num_examples: N >= B of the data set.
      estimator: "weighted", `q(z) ≈ 1/(N B) Σ_m q(z | x_m)` (the paper's minibatch-weighted sampling: biased by constants as large as
        `(latent − 1) log N`, which move no gradient), or "stratified", where a sample's own posterior weighs `1/N` and each of the others
        `(N − 1) / (N (B − 1))`: an unbiased q(z), exact where the batch is the data set.

    Raises:
      ValueError: an unknown estimator, shapes that differ, fewer examples than the batch has.

    Cost: `B² · latent` densities.
    Reference: Chen et al. 2018, "Isolating Sources of Disentanglement in Variational Autoencoders", NeurIPS, arXiv 1802.04942.
    """
    one_of("estimator", estimator, ESTIMATORS)
    positive(num_examples=num_examples)
    if z.ndim != 2 or not z.shape == mean.shape == log_variance.shape:
        raise ValueError(f"z, mean and log_variance must all be [B, latent], got {z.shape}, {mean.shape} and {log_variance.shape}")
    size = z.shape[0]
    if num_examples < size:
        raise ValueError(f"{num_examples=} must be at least the batch's {size}")
    if estimator == "weighted":
        log_weights = jnp.full((size, size), -math.log(num_examples * size))
    else:
        others = (num_examples - 1) / (num_examples * max(size - 1, 1))
        log_weights = jnp.log(jnp.where(jnp.eye(size, dtype=bool), 1 / num_examples, others))
    log_q = _log_normal(z[:, None], mean[None], log_variance[None])
    log_joint = jax.nn.logsumexp(log_weights + log_q.sum(-1), axis=1)
    log_product = jax.nn.logsumexp(log_weights[..., None] + log_q, axis=1).sum(-1)
    log_own = _log_normal(z, mean, log_variance).sum(-1)
    log_prior = _log_normal(z, 0.0, 0.0).sum(-1)
    terms = KLTerms(log_own - log_joint, log_joint - log_product, log_product - log_prior)
    return jax.tree.map(jnp.mean, terms)


def tc_vae_loss(
    model: Any,
    x: Array,
    y: Array | None,
    key: Array,
    *,
    num_examples: int,
    alpha: float = 1.0,
    beta: float = 6.0,
    gamma: float = 1.0,
    likelihood: str = "bernoulli",
    sigma: float = 0.1,
    estimator: str = "weighted",
) -> tuple[Array, dict[str, Array]]:
    """β-TCVAE: `−E log p(x | z) + α I(x; z) + β TC(z) + γ Σ_j KL(q(z_j) ‖ p(z_j))` of a batch, the terms as in `kl_decomposition`.

    Args:
      x: `[B, *shape]`. y: as in `vae_loss`. num_examples: N of the data set. alpha, beta, gamma: >= 0.
      likelihood, sigma: as in `elbo`. estimator: as in `kl_decomposition`.

    Returns:
      `(loss [], {"reconstruction", "mutual_information", "total_correlation", "dimension_wise"})`, in nats per example.

    Reference: Chen et al. 2018, arXiv 1802.04942.
    """
    within(0.0, math.inf, alpha=alpha, beta=beta, gamma=gamma)
    draw = lambda v, label, k: _drawn(given(model, label), v, k, likelihood, sigma)
    z, mean, log_variance, nll = jax.vmap(draw)(x, y, jax.random.split(key, x.shape[0]))
    terms = kl_decomposition(z, mean, log_variance, num_examples, estimator=estimator)
    loss = nll.mean() + alpha * terms.mutual_information + beta * terms.total_correlation + gamma * terms.dimension_wise
    return loss, {"reconstruction": nll.mean(), **terms._asdict()}


def _drawn(model: Any, x: Array, key: Array, likelihood: str, sigma: float) -> tuple[Array, Array, Array, Array]:
    """A sample z of `q(z | x)`, that distribution's mean and log-variance, and `−log p(x | z)`."""
    one_of("likelihood", likelihood, LIKELIHOODS)
    within(math.ulp(0.0), math.inf, sigma=sigma)
    check_shape("x", x, model.shape)
    mean, log_variance = model.encode_distribution(x)
    z = mean + jnp.exp(log_variance / 2) * jax.random.normal(need_key(key, "a variational autoencoder's loss"), mean.shape, mean.dtype)
    return z, mean, log_variance, reconstruction(model, z, x, likelihood, sigma)


def _log_normal(z: Array, mean: Array | float, log_variance: Array | float) -> Array:
    return -0.5 * ((z - mean) ** 2 * jnp.exp(-log_variance) + log_variance + math.log(2 * math.pi))
