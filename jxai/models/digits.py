"""A small network for scikit-learn's digits, trained on the spot: a model that needs no download."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.models.simple import CNN

__all__ = ["digits_cnn"]

TRAINED_ON = 1200
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
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ImportError("the digits come with scikit-learn: pip install scikit-learn") from None
    digits = load_digits()
    x = jnp.asarray(digits.images[:TRAINED_ON, ..., None] / 16, jnp.float32)
    y = jnp.asarray(digits.target[:TRAINED_ON])
    structure, weights = nnx.split(CNN(1, rngs=nnx.Rngs(seed)))
    order = np.random.default_rng(seed).integers(0, TRAINED_ON, (steps, 128))
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))

    def loss(weights, rows):
        logits = jax.vmap(nnx.merge(structure, weights))(x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def step(carry, rows):
        weights, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weights, rows), state)
        return (optax.apply_updates(weights, updates), state), None

    train = jax.jit(lambda weights: jax.lax.scan(step, (weights, optimizer.init(weights)), order)[0][0])
    return nnx.merge(structure, train(weights))
