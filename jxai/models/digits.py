"""Small networks for scikit-learn's digits, trained on the spot: a classifier and a generator that need no download."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.data import Digits
from jxai.models.simple import CNN
from jxai.models.vae import VAE
from jxai.models.variational import vae_loss

__all__ = ["digits_cnn", "digits_vae"]

TRAINED_ON = Digits.TRAINED_ON
"""The digits from this one on were not seen in training."""


@functools.cache
def digits_cnn(seed: int = 0, steps: int = 400) -> CNN:
    """Returns a `CNN` for `f(x [8, 8, 1] in [0, 1]) -> logits [10]`, trained on the first 1200 digits; the other 597 are new to it.

    Args:
      seed: of the first weights and of the order of the digits; equal seeds give equal networks.
      steps: of Adam at a learning rate of 3e-3 falling to 0 by a cosine, on batches of 128.

    Raises:
      ImportError: scikit-learn is not installed.
    """

    def loss(model, x, y, key):
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean()

    return _trained(CNN(1, rngs=nnx.Rngs(seed)), loss, seed, steps, 3e-3)


@functools.cache
def digits_vae(seed: int = 0, steps: int = 3000, latent: int = 24, beta: float = 0.1) -> VAE:
    """Returns a `VAE` of x `[8, 8, 1]` in [0, 1], trained on the first 1200 digits, so that the other 597 are new to it.

    Args:
      seed: of the first weights, the order of the digits and the draws; equal seeds give equal networks.
      steps: of Adam at a learning rate of 3e-3 falling to 0 by a cosine, on batches of 128.
      latent: numbers in z. beta: weight of the KL divergence; with 1 codes say little of such small pictures, and few classes lie within reach.

    Raises:
      ImportError: scikit-learn is not installed.
    """
    model = VAE((8, 8, 1), latent=latent, hidden=(128, 64), rngs=nnx.Rngs(seed))
    return _trained(model, lambda model, x, y, key: vae_loss(model, x, None, key, beta=beta)[0], seed, steps, 3e-3)


def _trained(model: nnx.Module, loss: Callable[..., Any], seed: int, steps: int, learning_rate: float) -> Any:
    """The model after that many steps down `loss(model, x [B, 8, 8, 1], y [B], key) -> []`."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from None
    digits = load_digits()
    x = jnp.asarray(digits.images[:TRAINED_ON, ..., None] / 16, jnp.float32)
    y = jnp.asarray(digits.target[:TRAINED_ON])
    structure, weights, rest = nnx.split(model, nnx.Param, ...)
    order = np.random.default_rng(seed).integers(0, TRAINED_ON, (steps, 128))
    optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))

    def step(carry, at):
        weights, state = carry
        rows, n = at
        key = jax.random.fold_in(jax.random.key(seed), n)
        gradient = jax.grad(lambda w: loss(nnx.merge(structure, w, rest), x[rows], y[rows], key))(weights)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(weights, updates), state), None

    train = jax.jit(lambda weights: jax.lax.scan(step, (weights, optimizer.init(weights)), (order, jnp.arange(steps)))[0][0])
    return nnx.merge(structure, train(weights), rest)
