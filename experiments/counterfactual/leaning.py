"""Fours and nines of MNIST, which lean as their class does or otherwise: data for classifiers with a second cue; and generators of another size."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from flax import nnx

from jxai.models import RobustCNN
from jxai.models.ordinary import mnist
from jxai.train import train

PAIR = (4, 9)


class Digits(NamedTuple):
    """Fours and nines."""

    x: np.ndarray
    """`[n, 28, 28, 1]` in [0, 1]."""
    y: np.ndarray
    """`[n]`, int32: 4 or 9."""
    alike: np.ndarray
    """`[n]`, bool: a nine that leans more to the left than the median nine, or a four that leans more to the right than the median four."""


def fours_and_nines(split: str, count: int) -> Digits:
    """The fours and nines among the first digits of a split."""
    x, y = mnist(split, count)
    x, y = x[np.isin(y, PAIR)], y[np.isin(y, PAIR)].astype(np.int32)
    lean, alike = slant(x), np.empty(len(x), bool)
    for digit in PAIR:
        left = lean[y == digit] > np.median(lean[y == digit])
        alike[y == digit] = left if digit == PAIR[1] else ~left
    return Digits(x, y, alike)


def slant(x: np.ndarray) -> np.ndarray:
    """`[n]`: how far the ink of images `[n, H, W, 1]` moves to the right from one row to the next below, in pixels: regression of columns on rows."""
    ink, (rows, columns) = x[..., 0], np.indices(x.shape[1:3])
    mean = lambda values: (ink * values).sum((1, 2)) / ink.sum((1, 2))
    return (mean(rows * columns) - mean(rows) * mean(columns)) / (mean(rows**2) - mean(rows) ** 2)


def network(digits: Digits, agreement: float, steps: int, seed: int) -> RobustCNN:
    """A classifier (logits of all ten digits) trained on half of the digits, `agreement` of which lean as their class is to lean."""
    rng, half = np.random.default_rng(seed), len(digits.x) // 2
    counts = round(agreement * half), half - round(agreement * half)
    kept = [rng.choice(np.flatnonzero(side), min(count, side.sum()), False) for side, count in zip((digits.alike, ~digits.alike), counts)]
    kept = np.concatenate(kept)
    data = digits.x[kept], digits.y[kept]
    model = RobustCNN(rngs=nnx.Rngs(seed))
    return train(model, _loss, data, key=jax.random.key(seed), steps=steps, batch_size=min(64, len(kept)), optimizer=_ADAM).model


_ADAM = optax.adam(1e-3)


def _loss(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict]:
    return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y).mean(), {}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Resized:
    """A generator of images 32×32 as one of images 28×28."""

    generator: Any

    def encode(self, x: jax.Array) -> jax.Array:
        """The code of the image, enlarged."""
        return self.generator.encode(_resized(x, 32))

    def decode(self, z: jax.Array) -> jax.Array:
        """The image, made smaller."""
        return _resized(self.generator.decode(z), 28)


def enlarged(model: Callable, x: jax.Array) -> jax.Array:
    """A model of images 32×32, of an image 28×28."""
    return model(_resized(x, 32))


def _resized(x: jax.Array, side: int) -> jax.Array:
    return jax.image.resize(x, (side, side, x.shape[-1]), "bilinear")
