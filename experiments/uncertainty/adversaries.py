"""Adversarial images of four published attacks in the maximum norm, each at the smallest of several radii at which it succeeds."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

RADII = (0.0, 0.003, 0.01, 0.1, 0.3, 0.5, 1.0)
"""The benchmark's but for those below .003, at which nothing succeeds here."""
ATTACKS = ("FGSM", "PGD", "BIM", "DeepFool")


def adversarial(f: Callable, x: np.ndarray, labels: np.ndarray, key: jax.Array) -> np.ndarray:
    """`[m, *shape]`, m <= n: a quarter of the images attacked in each way, those of which the attack changes the class."""
    parts = np.array_split(np.arange(len(x)), len(ATTACKS))
    found = []
    for n, (name, rows) in enumerate(zip(ATTACKS, parts)):
        keys = jax.random.split(jax.random.fold_in(key, n), len(rows))
        made, success = _attacked(f, jnp.asarray(x[rows]), jnp.asarray(labels[rows]), keys, name)
        found.append(np.asarray(made)[np.asarray(success)])
    return np.concatenate(found)


@functools.partial(jax.jit, static_argnames="name")
def _attacked(f: Callable, x: jax.Array, labels: jax.Array, keys: jax.Array, name: str) -> tuple[jax.Array, jax.Array]:
    return jax.vmap(lambda v, y, k: _smallest(f, v, y, k, name))(x, labels, keys)


def _smallest(f: Callable, x: jax.Array, label: jax.Array, key: jax.Array, name: str) -> tuple[jax.Array, jax.Array]:
    """The image at the smallest radius that succeeds, and whether one does."""
    if name == "DeepFool":
        made = deep_fool(f, x, label)
        return made, f(made).argmax() != label
    steps, share, random = {"FGSM": (1, 1.0, False), "PGD": (20, 0.1, True), "BIM": (10, 0.2, False)}[name]

    def at(radius: jax.Array) -> tuple[jax.Array, jax.Array]:
        made = descent(f, x, label, radius, key if random else None, steps, share)
        return made, f(made).argmax() != label

    made, success = jax.lax.map(at, jnp.asarray(RADII))
    return made[success.argmax()], success.any()


def descent(f: Callable, x: jax.Array, label: jax.Array, radius: jax.Array, key: jax.Array | None, steps: int, share: float) -> jax.Array:
    """Steps of `share · radius` along the sign of the cross-entropy's gradient, within the radius and [0, 1]; begun at random if there is a key."""
    loss = lambda v: jax.nn.logsumexp(f(v)) - f(v)[label]
    project = lambda v: jnp.clip(jnp.clip(v, x - radius, x + radius), 0, 1)
    begin = x if key is None else project(x + radius * jax.random.uniform(key, x.shape, minval=-1, maxval=1))
    return jax.lax.fori_loop(0, steps, lambda _, v: project(v + share * radius * jnp.sign(jax.grad(loss)(v))), begin)


def deep_fool(f: Callable, x: jax.Array, label: jax.Array, steps: int = 50, overshoot: float = 0.02) -> jax.Array:
    """To the nearest boundary of the linearised classifier in the maximum norm, again until the class changes (Moosavi-Dezfooli et al. 2016)."""

    def step(v: jax.Array) -> jax.Array:
        logits, slopes = f(v), jax.jacrev(f)(v)
        gap, way = logits - logits[label], slopes - slopes[label]
        size = jnp.abs(way).reshape(len(gap), -1).sum(1)
        distance = jnp.where(jnp.arange(len(gap)) == label, jnp.inf, jnp.abs(gap) / (size + 1e-8))
        nearest = distance.argmin()
        return jnp.clip(v + (1 + overshoot) * (distance[nearest] + 1e-4) * jnp.sign(way[nearest]), 0, 1)

    return jax.lax.while_loop(lambda s: (s[0] < steps) & (f(s[1]).argmax() == label), lambda s: (s[0] + 1, step(s[1])), (0, x))[1]
