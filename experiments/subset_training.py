"""Small networks that are trained on whole images, on pixel subsets, or with pixels dropped, for overinterpretation.py."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.models import CNN
from jxai.train import train

WIDTHS = (16, 32, 64)
KEEP = 0.8
"""The share of the pixels that input dropout keeps; the rest becomes 0 in normalised units, as in a removal."""


@jax.tree_util.register_pytree_node_class
class Ensemble:
    """`f(x) -> logits`: the logarithm of the members' mean probability."""

    def __init__(self, members):
        self.members = tuple(members)

    def tree_flatten(self):
        return (self.members,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(children[0])

    def __call__(self, x: jax.Array) -> jax.Array:
        each = jnp.stack([jax.nn.log_softmax(f(x)) for f in self.members])
        return jax.nn.logsumexp(each, 0) - jnp.log(len(self.members))


def plain(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross entropy; half of the images mirrored."""
    x = jnp.where(jax.random.bernoulli(key, 0.5, (len(x), 1, 1, 1)), x[:, :, ::-1], x)
    logits = jax.vmap(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {"accuracy": (logits.argmax(1) == y).mean()}


def dropping(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`plain` under input dropout: whole pixels become 0."""
    key, drop = jax.random.split(key)
    return plain(model, x * jax.random.bernoulli(drop, KEEP, (*x.shape[:3], 1)), y, key)


def small(x: np.ndarray, y: np.ndarray, seed: int, epochs: int, loss: Callable = plain, checkpoint: str | os.PathLike | None = None) -> nnx.Module:
    """A `CNN` of three convolutions, trained by Adam at 3e-3 falling to 0 in batches of 64; x in normalised units."""
    steps = epochs * (len(x) // 64)
    model = CNN(3, WIDTHS, rngs=nnx.Rngs(seed))
    options = dict(key=jax.random.key(seed), steps=steps, batch_size=64, optimizer=_adam(steps), checkpoint=checkpoint)
    return train(model, loss, (x, y.astype(np.int32)), **options).model


@functools.cache
def _adam(steps: int) -> optax.GradientTransformation:
    """One object for each number of steps, so that a second training compiles nothing."""
    return optax.adam(optax.cosine_decay_schedule(3e-3, steps))
