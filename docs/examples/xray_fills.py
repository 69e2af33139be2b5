"""Which fills lose the class of a chest X-ray: of each class, the share of images that keep it with everything replaced.

    python docs/examples/xray_fills.py

Needs pneumonia_mnist as TFDS prepares it (see `docs/howto/data_and_weights.md`). A small network, trained on the spot in half a minute, 624 test images.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai import data, fills
from jxai.models import CNN

FILLS = {"black": 0.0, "grey": 0.5, "white": 1.0, "its mean": fills.Mean(), "blur, 2": fills.Blur(2.0), "blur, 7": fills.Blur(7.0), "noise": fills.Uniform()}
CLASSES = ("normal", "pneumonia")


def images(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in [0, 1] `[n, 28, 28, 1]` and labels."""
    source = data.source("pneumonia_mnist", split=split)
    examples = [source[i] for i in range(len(source))]
    return np.float32([example.pixels for example in examples]) / 255, np.array([example.label for example in examples])


def trained(x: np.ndarray, y: np.ndarray, steps: int = 600) -> CNN:
    """A small network after that many steps of Adam, on batches of 64."""
    x, y = jnp.asarray(x), jnp.asarray(y)
    structure, weights = nnx.split(CNN(1, rngs=nnx.Rngs(0)))
    rows = np.random.default_rng(0).integers(0, len(x), (steps, 64))
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))

    def loss(weights, at):
        return optax.softmax_cross_entropy_with_integer_labels(jax.vmap(nnx.merge(structure, weights))(x[at]), y[at]).mean()

    def step(carry, at):
        updates, state = optimizer.update(jax.grad(loss)(carry[0], at), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    return nnx.merge(structure, jax.jit(lambda weights: jax.lax.scan(step, (weights, optimizer.init(weights)), rows)[0][0])(weights))


def kept(f: CNN, x: np.ndarray) -> dict[str, tuple[float, float]]:
    """By fill, of each predicted class the share of images that have it with everything replaced."""
    answer = lambda v: np.asarray(jax.jit(jax.vmap(f))(v)).argmax(1)
    said, keys = answer(x), jax.random.split(jax.random.key(0), len(x))
    found = {}
    for name, fill in FILLS.items():
        same = answer(jax.vmap(lambda v, key, fill=fill: fills.baseline(fill, v, key))(x, keys)) == said
        found[name] = tuple(float(same[said == c].mean()) for c in range(2))
    return found


def main() -> None:
    f = trained(*images("train"))
    x, y = images("test")
    print(f"{(np.asarray(jax.jit(jax.vmap(f))(x)).argmax(1) == y).mean():.2f} of {len(x)} test images are classified right")
    print(f"{'fill':<10}", *(f"{name:>10}" for name in CLASSES))
    for name, shares in kept(f, x).items():
        print(f"{name:<10}", *(f"{share:>10.2f}" for share in shares))


if __name__ == "__main__":
    main()
