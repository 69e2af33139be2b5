"""Images that move away from what was learnt, step by step: digits rotated and rolled, pictures corrupted; and the small network that learns the images as they are."""

from __future__ import annotations

import functools

import jax
import numpy as np
import optax
from flax import nnx
from scipy import ndimage

from jxai import data
from jxai.models.layers import Conv
from jxai.models.ordinary import mnist

ANGLES = (15, 30, 45, 60, 90, 120, 180)
"""In degrees."""
STEPS = (2, 4, 6, 8, 10, 12, 14)
"""In pixels of 28."""
SEVERITIES = (1, 2, 3, 4, 5)


def shifts(dataset: str, count: int, corruptions: tuple[str, ...]) -> list[tuple[str, int, np.ndarray, np.ndarray]]:
    """The first `count` test images and what becomes of them: `(kind, level, x [n, H, W, C], labels [n])`, as they are first, at level 0.

    Digits are rotated, and rolled to the right, what leaves on one side entering on the other; others are corrupted, all corruptions of a severity together.
    """
    x, y = mnist("test", count, None, dataset)
    found = [("as it is", 0, x, y)]
    if dataset == "mnist":
        found += [("rotated", angle, ndimage.rotate(x, angle, axes=(1, 2), reshape=False, order=1).clip(0, 1), y) for angle in ANGLES]
        return found + [("rolled", step, np.roll(x, step, 2), y) for step in STEPS]
    for severity in SEVERITIES:
        changed = [corrupted(dataset, count, name, severity) for name in corruptions]
        found.append(("corrupted", severity, np.concatenate(changed), np.tile(y, len(changed))))
    return found


@functools.cache
def corrupted(dataset: str, count: int, name: str, severity: int) -> np.ndarray:
    """The first test images, each with draws of its own."""
    x, _ = mnist("test", count, None, dataset)
    pixels = np.rint(255 * x).astype(np.uint8)
    return np.stack([np.float32(data.corrupt(one, name, severity, seed=(0, n))) / 255 for n, one in enumerate(pixels)])


class Network(nnx.Module):
    """`f(x [H, W, C]) -> logits [10]`: two convolutions at stride 2 and two linear layers; with a key, `f(x, key)`, a share `rate` of every layer's outputs is dropped."""

    def __init__(self, shape: tuple[int, ...], rate: float = 0.0, *, rngs: nnx.Rngs):
        padding = ((1, 1), (1, 1))
        self.first = Conv(shape[-1], 16, 4, stride=2, padding=padding, activation=nnx.relu, rngs=rngs)
        self.second = Conv(16, 32, 4, stride=2, padding=padding, activation=nnx.relu, rngs=rngs)
        self.hidden = nnx.Linear(shape[0] // 4 * (shape[1] // 4) * 32, 64, rngs=rngs)
        self.classifier = nnx.Linear(64, 10, rngs=rngs)
        self.rate = rate

    def __call__(self, x: jax.Array, key: jax.Array | None = None) -> jax.Array:
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        x = self._kept(self.second(self._kept(self.first(x), keys[0])), keys[1])
        return self.classifier(self._kept(nnx.relu(self.hidden(x.reshape(-1))), keys[2]))

    def _kept(self, x: jax.Array, key: jax.Array | None) -> jax.Array:
        return x if key is None or not self.rate else x * jax.random.bernoulli(key, 1 - self.rate, x.shape) / (1 - self.rate)


def loss(model: Network, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict]:
    """The cross entropy, with dropout where the network has it."""
    logits = jax.vmap(model)(x, jax.random.split(key, len(x))) if model.rate else jax.vmap(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {}


@functools.cache
def adam(steps: int) -> optax.GradientTransformation:
    """Adam at 3e-3 falling to 0: one object for each number of steps, so that a second training compiles nothing."""
    return optax.adam(optax.cosine_decay_schedule(3e-3, steps))
