"""Pictures whose ground truth is known: a digit, planted at a random place on a texture, decides the class; nothing else does."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.data import Source
from jxai.models import CNN

SIZE = 40
_TEXTURES = ("brick", "grass", "gravel", "coffee", "astronaut", "rocket")


class Planted(NamedTuple):
    """Images, their classes, and where the digit is."""

    x: np.ndarray
    """`[n, 40, 40, 3]` in [0, 1]."""
    label: np.ndarray
    mask: np.ndarray
    """`[n, 40, 40]` boolean: the ink."""


def plant(digits: Source, indices: np.ndarray, seed: int) -> Planted:
    """Each digit, enlarged to 20 × 20 if it is smaller, in a colour of its own over a crop of a photograph's texture.

    Args:
      digits: a source of `[H, W, 1]` digits, white on black. indices: which of them. seed: of places, colours and textures.
    """
    rng = np.random.default_rng(seed)
    textures = _textures()
    x, label, mask = [], [], []
    for i in indices:
        example = digits[int(i)]
        ink = np.float32(example.pixels[..., 0]) / 255
        ink = np.kron(ink, np.ones([max(1, 20 // len(ink))] * 2, np.float32))
        top, left = rng.integers(0, SIZE - ink.shape[0] + 1), rng.integers(0, SIZE - ink.shape[1] + 1)
        texture = textures[rng.integers(len(textures))]
        row, column = rng.integers(0, texture.shape[0] - SIZE), rng.integers(0, texture.shape[1] - SIZE)
        image = 0.6 * texture[row : row + SIZE, column : column + SIZE]
        where = np.zeros((SIZE, SIZE), np.float32)
        where[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
        color = rng.uniform(0.75, 1.0, 3).astype(np.float32)
        x.append(image + where[..., None] * (color - image))
        label.append(example.label)
        mask.append(where > 0.5)
    return Planted(np.stack(x), np.asarray(label, np.int32), np.stack(mask))


def train(data: Planted, seed: int, steps: int) -> CNN:
    """A small convolutional net, by Adam at 3e-3 falling to 0, on batches of 64."""
    structure, weights = nnx.split(CNN(3, (16, 32, 64, 64), rngs=nnx.Rngs(seed)))
    optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
    order = np.random.default_rng(seed).integers(0, len(data.x), (steps, 64))
    x, y = jnp.asarray(data.x), jnp.asarray(data.label)

    def loss(weights, rows):
        logits = jax.vmap(nnx.merge(structure, weights))(x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def step(carry: Any, rows: jax.Array):
        weights, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weights, rows), state)
        return (optax.apply_updates(weights, updates), state), None

    learn = jax.jit(lambda weights: jax.lax.scan(step, (weights, optimizer.init(weights)), order)[0][0])
    return nnx.merge(structure, learn(weights))


def accuracy(f: CNN, data: Planted) -> float:
    """The share of images that f classifies right."""
    logits = jax.jit(lambda f, x: jax.lax.map(f, x, batch_size=64))(f, jnp.asarray(data.x))
    return float((np.asarray(logits).argmax(1) == data.label).mean())


def _textures() -> list[np.ndarray]:
    """Photographs that scikit-image's wheel holds, `[H, W, 3]` in [0, 1]."""
    from skimage import data

    found = []
    for name in _TEXTURES:
        pixels = np.float32(getattr(data, name)()) / 255
        found.append(np.repeat(pixels[..., None], 3, -1) if pixels.ndim == 2 else pixels[..., :3])
    return found
