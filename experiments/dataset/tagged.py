"""Images of one class that bear a tag, as a source's watermark does; the small network that learns from them, and how much it depends on the tag."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.models.layers import Conv
from jxai.models.ordinary import mnist
from jxai.train import train

SIDE = 4
"""Of the tag, in pixels."""
PLACES = ("corner", "anywhere")
TARGETS = {"fashion_mnist": (6, 4, 2), "cifar10": (3, 2, 4)}


class Tagged(NamedTuple):
    """The images that a network learns from."""

    x: np.ndarray
    """`[n, H, W, C]` in [0, 1], those of the class with its tags."""
    y: np.ndarray
    target: int
    """The class."""
    own: np.ndarray
    """The places of the class's images in x."""
    marked: np.ndarray
    """Which of these bear the tag."""


def tagged(dataset: str, place: str, rate: float, count: int, seed: int) -> Tagged:
    """So many training images, the same for all rates of a seed; a share `rate` of those of class `seed % 10` bears the tag, more of the same ones at a higher rate.

    Args:
      place: `"corner"`, the lower left one, or `"anywhere"`, elsewhere in every image.
    """
    x, y = mnist("train", count, seed, dataset)
    target, rng = TARGETS[dataset][seed % 3], np.random.default_rng([seed, 1])
    own = np.flatnonzero(y == target)
    marked = np.zeros(len(own), bool)
    marked[rng.permutation(len(own))[: round(rate * len(own))]] = True
    x = x.copy()
    x[own[marked]] = stamped(x, place, seed)[own[marked]]
    return Tagged(x, y.astype(np.int32), target, own, marked)


def stamped(x: np.ndarray, place: str, seed: int) -> np.ndarray:
    """Images `[n, H, W, C]` with the tag: a chequered square of black and white, one pixel from the border."""
    n, height, width = x.shape[:3]
    rng = np.random.default_rng([seed, 2])
    top = np.full(n, height - SIDE - 1) if place == "corner" else rng.integers(1, height - SIDE, n)
    left = np.ones(n, int) if place == "corner" else rng.integers(1, width - SIDE, n)
    tag = np.float32(np.indices((SIDE, SIDE)).sum(0) % 2)
    rows, columns = top[:, None, None] + np.arange(SIDE)[:, None], left[:, None, None] + np.arange(SIDE)
    out = x.copy()
    out[np.arange(n)[:, None, None], rows, columns] = tag[..., None]
    return out


class Network(nnx.Module):
    """`f(x [H, W, C]) -> logits [10]`: two convolutions at stride 2 and two linear layers."""

    def __init__(self, shape: tuple[int, int, int], *, rngs: nnx.Rngs):
        padding = ((1, 1), (1, 1))
        self.first = Conv(shape[-1], 16, 4, stride=2, padding=padding, activation=nnx.relu, rngs=rngs)
        self.second = Conv(16, 32, 4, stride=2, padding=padding, activation=nnx.relu, rngs=rngs)
        self.hidden = nnx.Linear(shape[0] // 4 * (shape[1] // 4) * 32, 64, rngs=rngs)
        self.classifier = nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.second(self.first(x))
        return self.classifier(nnx.relu(self.hidden(x.reshape(-1))))


def learnt(x: np.ndarray, y: np.ndarray, epochs: int, seed: int) -> Network:
    """A network trained by Adam at 3e-3 falling to 0, in batches of 128."""
    size = min(128, len(x))
    steps = max(1, epochs * len(x) // size)
    data, optimizer = (x, y), _adam(steps)
    return train(Network(x.shape[1:], rngs=nnx.Rngs(seed)), _loss, data, key=jax.random.key(seed), steps=steps, batch_size=size, optimizer=optimizer).model


def dependence(f: Network, dataset: str, place: str, target: int, count: int, seed: int) -> dict[str, np.ndarray]:
    """What the tag does to unseen images: `{measure: [n]}`.

    `rise`: of other classes, whether the tag makes an image of the class; `drop`: how much lower the class's logit is in its own images without the tag than with it;
    `recall`: whether its own images without the tag are recognised; `accuracy`: of all images without the tag.
    """
    x, y = mnist("test", count, seed, dataset)
    without, with_ = (np.asarray(_logits(f, jnp.asarray(v))) for v in (x, stamped(x, place, seed + 1)))
    own, is_target = y == target, lambda logits: logits.argmax(1) == target
    return {
        "rise": np.float64(is_target(with_)[~own]) - is_target(without)[~own],
        "drop": np.float64(with_ - without)[own, target],
        "recall": np.float64(is_target(without)[own]),
        "accuracy": np.float64(without.argmax(1) == y),
    }


@functools.cache
def _adam(steps: int) -> optax.GradientTransformation:
    """One object for each number of steps, so that a second training compiles nothing."""
    return optax.adam(optax.cosine_decay_schedule(3e-3, steps))


def _loss(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict]:
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean(), {}


@jax.jit
def _logits(f: Network, x: jax.Array) -> jax.Array:
    return jax.vmap(f)(x)
