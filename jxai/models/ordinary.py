"""Networks that experiments train for themselves, in seconds."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai import data
from jxai.models import RobustCNN


@functools.cache
def mnist(split: str, count: int, seed: int | None = None, dataset: str = "mnist") -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1] `[count, 28, 28, 1]` and labels of the first examples of a split, or of random ones by a seed."""
    source = data.source(dataset, split=split)
    order = np.arange(len(source)) if seed is None else np.random.default_rng(seed).permutation(len(source))
    examples = [source[int(i)] for i in order[:count]]
    return np.stack([np.float32(e.pixels) / 255 for e in examples]), np.asarray([e.label for e in examples])


def ordinary(seed: int = 0, count: int = 10000, dataset: str = "mnist") -> RobustCNN:
    """The robust networks' architecture, trained as usual: by Adam at 1e-3 falling to 0, in two passes over `count` images in batches of 64."""
    x, y = (jnp.asarray(v) for v in mnist("train", count, seed, dataset))
    rows = np.random.default_rng(seed + 1).integers(0, len(x), (max(1, 2 * len(x) // 64), 64))
    structure, weights = nnx.split(RobustCNN(rngs=nnx.Rngs(seed)))
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, len(rows)))

    def loss(weights, rows):
        logits = jax.vmap(nnx.merge(structure, weights))(x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def step(carry, rows):
        weights, state = carry
        updates, state = optimizer.update(jax.grad(loss)(weights, rows), state)
        return (optax.apply_updates(weights, updates), state), None

    learn = jax.jit(lambda weights: jax.lax.scan(step, (weights, optimizer.init(weights)), rows)[0][0])
    return nnx.merge(structure, learn(weights))
