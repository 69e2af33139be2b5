"""The losses of adversarial models: pure functions `loss(model, x [B, …], y [B] or None, key) -> (scalar, {name: scalar})`, and which weights each trains."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jxai.models.coders import given
from jxai.models.variational import LIKELIHOODS, reconstruction
from jxai.scores import one_of, positive, within
from jxai.training.updates import Part
from jxai.typing import Array

__all__ = ["adversarial_autoencoder", "gradient_penalty", "wgan_gp"]


def wgan_gp(*, penalty: float = 10.0, critic_updates: int = 5, optimizer: optax.GradientTransformation | None = None) -> tuple[Part, Part]:
    """The Wasserstein GAN with gradient penalty, for `jxai.train.train`: `critic_loss` and `generator_loss`, of a `GAN` or with y of a `ConditionalGAN`.

    Args:
      penalty: λ >= 0. critic_updates: for each of the generator's, >= 1.
      optimizer: of both; by default the paper's, `optax.adam(1e-4, b1=0, b2=0.9)`.

    Reference: Gulrajani et al. 2017, "Improved Training of Wasserstein GANs", NeurIPS, arXiv 1704.00028.
    """
    within(0.0, math.inf, penalty=penalty)
    positive(critic_updates=critic_updates)
    optimizer = optax.adam(1e-4, b1=0.0, b2=0.9) if optimizer is None else optimizer
    critic = Part(functools.partial(critic_loss, penalty=penalty), optimizer, ("critic",), critic_updates, "critic")
    return critic, Part(generator_loss, optimizer, ("generator",), 1, "generator")


def critic_loss(model: Any, x: Array, y: Array | None, key: Array, *, penalty: float = 10.0) -> tuple[Array, dict[str, Array]]:
    """`E[D(G(z))] − E[D(x)] + λ E[(‖∇D(x̂)‖₂ − 1)²]`: what the critic minimises, so that `distance` estimates the Wasserstein distance of data and samples.

    Returns:
      `(loss [], {"distance": E[D(x)] − E[D(G(z))], "gradient_penalty": E[(‖∇D‖ − 1)²]})`.
    """

    def one(v: Array, label: Array | None, k: Array) -> tuple[Array, Array]:
        view = given(model, label)
        draw, mix = jax.random.split(k)
        fake = jax.lax.stop_gradient(view.sample(draw))
        return view.score(v) - view.score(fake), gradient_penalty(view.score, v, fake, mix)

    distance, steepness = jax.tree.map(jnp.mean, jax.vmap(one)(x, y, jax.random.split(key, x.shape[0])))
    return penalty * steepness - distance, {"distance": distance, "gradient_penalty": steepness}


def generator_loss(model: Any, x: Array, y: Array | None, key: Array) -> tuple[Array, dict[str, Array]]:
    """`−E[D(G(z))]`: what the generator minimises; of x only the number of examples matters.

    Returns:
      `(loss [], {"score": E[D(G(z))]})`.
    """

    def one(label: Array | None, k: Array) -> Array:
        view = given(model, label)
        return view.score(view.sample(k))

    score = jax.vmap(one)(y, jax.random.split(key, x.shape[0])).mean()
    return -score, {"score": score}


def gradient_penalty(score: Callable[[Array], Array], real: Array, fake: Array, key: Array) -> Array:
    """`(‖∇score(x̂)‖₂ − 1)²` at a random point `x̂ = ε real + (1 − ε) fake`, ε ~ U(0, 1), of one pair of examples."""
    share = jax.random.uniform(key, dtype=real.dtype)
    square = (jax.grad(score)(share * real + (1 - share) * fake) ** 2).sum()
    # The norm's own gradient at 0 is taken as 0.
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return (norm - 1) ** 2


def adversarial_autoencoder(
    *, weight: float = 1.0, likelihood: str = "bernoulli", sigma: float = 0.1, optimizer: optax.GradientTransformation | None = None
) -> tuple[Part, Part]:
    """What an `AdversarialAutoencoder` is trained with by `jxai.train.train`: `latent_critic_loss`, and `autoencoder_loss` of encoder and decoder.

    Args:
      weight: >= 0, of the term that draws the encoder's z to the prior, beside a reconstruction in nats per example.
      likelihood: "bernoulli" or "gaussian". sigma: σ > 0 of the Gaussian.
      optimizer: of both; `optax.adam(1e-3, b1=0.5)` by default.

    Reference: Makhzani et al. 2015, arXiv 1511.05644; the encoder's term is Goodfellow's non-saturating one, `−log D(E(x))`.
    """
    within(0.0, math.inf, weight=weight)
    within(math.ulp(0.0), math.inf, sigma=sigma)
    one_of("likelihood", likelihood, LIKELIHOODS)
    optimizer = optax.adam(1e-3, b1=0.5) if optimizer is None else optimizer
    outer = functools.partial(autoencoder_loss, weight=weight, likelihood=likelihood, sigma=sigma)
    return Part(latent_critic_loss, optimizer, ("critic",), 1, "critic"), Part(outer, optimizer, ("encoder", "decoder"), 1, "autoencoder")


def latent_critic_loss(model: Any, x: Array, y: Array | None, key: Array) -> tuple[Array, dict[str, Array]]:
    """`−E[log D(z)] − E[log(1 − D(E(x)))]` with `z ~ N(0, I)`; `2 log 2` where the critic cannot tell them apart.

    Returns:
      `(loss [], {"accuracy": share of z and E(x) that the critic tells rightly})`.
    """
    own = jax.lax.stop_gradient(jax.vmap(model.encode)(x))
    true, false = jax.vmap(model.score)(jax.random.normal(key, own.shape, own.dtype)), jax.vmap(model.score)(own)
    loss = (jax.nn.softplus(-true) + jax.nn.softplus(false)).mean()
    return loss, {"accuracy": ((true > 0).mean() + (false < 0).mean()) / 2}


def autoencoder_loss(
    model: Any, x: Array, y: Array | None, key: Array, *, weight: float = 1.0, likelihood: str = "bernoulli", sigma: float = 0.1
) -> tuple[Array, dict[str, Array]]:
    """`E[−log p(x | E(x))] + w E[−log D(E(x))]`; it draws nothing.

    Returns:
      `(loss [], {"reconstruction": [] in nats per example, "deception": E[−log D(E(x))]})`.
    """

    def one(v: Array) -> tuple[Array, Array]:
        z = model.encode(v)
        return reconstruction(model, z, v, likelihood, sigma), jax.nn.softplus(-model.score(z))

    nll, deception = jax.tree.map(jnp.mean, jax.vmap(one)(x))
    return nll + weight * deception, {"reconstruction": nll, "deception": deception}
