"""Models, generators and searches of known length for the tests of what all searches share."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jxai.counterfactual import Candidate, Search, diffeomorphic, wachter

SHAPE, CLASSES = (4, 4, 1), 3
REGION = np.arange(16).reshape(4, 4) % 3 > 0
traces: list[int] = []


def _logits(w, v, x):
    traces.append(1)
    return jnp.tanh((x.ravel() - 0.5) @ w) @ v


def model(seed=0):
    rng = np.random.default_rng(seed)
    return Partial(_logits, rng.normal(size=(16, 12)).astype(np.float32), (2 * rng.normal(size=(12, CLASSES))).astype(np.float32))


def logits_of(f, x):
    """What `model()` says of examples, in NumPy."""
    w, v = f.args
    return np.tanh((np.asarray(x, np.float32).reshape(len(x), 16) - 0.5) @ w) @ v


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rotation:
    """An exact generator: z is x, turned."""

    matrix: jax.Array

    def encode(self, x):
        return self.matrix @ (x.ravel() - 0.5)

    def decode(self, z):
        return (self.matrix.T @ z + 0.5).reshape(SHAPE)


def rotation(seed=0):
    return Rotation(np.linalg.qr(np.random.default_rng(seed).normal(size=(16, 16)))[0].astype(np.float32))


def examples(n, seed=1):
    return np.random.default_rng(seed).uniform(0.2, 0.8, (n, *SHAPE)).astype(np.float32)


SEARCHES = {
    "wachter": functools.partial(wachter, steps=120, patience=8, learning_rate=0.05),
    "diffeomorphic": functools.partial(diffeomorphic, generator=rotation(), threshold=0.9, steps=60),
}
"""Of methods with these options, called as the method is."""


def built(name, **options):
    given = SEARCHES[name]
    return given.func.search(**{**given.keywords, **options})


def climbing(threshold=0.0, speed=1.0, steps=2000):
    """A search of known length: it adds `speed` to x until the model says 1; with a key it begins up to 20 lower."""
    return Search(Partial(_climb_from), Partial(_climb, np.float32(threshold), speed), steps)


def _climb_from(f, x, target, key, offset=0.0):
    drop = 0.0 if key is None else jax.random.randint(key, (), 0, 20).astype(jnp.float32)
    return x - drop - offset, {"target": jnp.asarray(target)}


def _climb(threshold, speed, f, v, memory):
    logits = f(v)
    valid = (logits.argmax() == memory["target"]) & (logits.max() > threshold)
    return v + speed, memory, Candidate(v, None, logits, valid, -logits[memory["target"]], valid)


def above_one(x):
    return jnp.stack([jnp.zeros(()), x[0] - 1])


def lengths(steps):
    """Examples that `climbing` takes so many steps for."""
    return np.asarray([[1.5 - n] for n in steps], np.float32)
