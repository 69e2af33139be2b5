"""Tiny generators and classifiers of which the truth is known."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np


def _dataclass(cls):
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@_dataclass
class Linear:
    """`decode(z) = basis z + mean` and its least-squares inverse; `basis [D, d]` with orthonormal columns, x of any shape with D entries."""

    basis: jax.Array
    mean: jax.Array

    def decode(self, z):
        return (self.basis @ z).reshape(self.mean.shape) + self.mean

    def encode(self, x):
        return self.basis.T @ (x - self.mean).reshape(-1)


@_dataclass
class Cubic:
    """An invertible map that is not linear: `decode(z) = A (z + z³)`, elementwise cubes, A square and regular."""

    matrix: jax.Array

    def decode(self, z):
        return self.matrix @ (z + z**3)

    def encode(self, x):
        w = jnp.linalg.solve(self.matrix, x)
        # Cardano: the one real root of z³ + z = w.
        root = jnp.sqrt(w**2 / 4 + 1 / 27)
        return jnp.cbrt(w / 2 + root) + jnp.cbrt(w / 2 - root)


@_dataclass
class Weighted:
    """`x -> weights x + bias`, of x flattened."""

    weights: jax.Array
    bias: jax.Array

    def __call__(self, x):
        return self.weights @ x.reshape(-1) + self.bias


@_dataclass
class Ensemble:
    """Linear members: `x -> logits [S, K]`."""

    weights: jax.Array

    def __call__(self, x):
        return self.weights @ x.reshape(-1)


@_dataclass
class Disc:
    """Two classes in the plane of which the logit is `scale (‖x − centre‖² − 1)`: uncertain on the unit circle."""

    centre: jax.Array
    scale: float = dataclasses.field(default=4.0, metadata={"static": True})

    def __call__(self, x):
        return jnp.stack([jnp.zeros(()), self.scale * (((x - self.centre) ** 2).sum() - 1)])


@_dataclass
class Colours:
    """Each part's code is its mean colour, and paints it evenly."""

    parts: int = dataclasses.field(metadata={"static": True})

    def encode(self, x, segments):
        member = jax.nn.one_hot(segments, self.parts)
        return jnp.einsum("hwr,hwc->rc", member, x) / jnp.maximum(member.sum((0, 1)), 1)[:, None]

    def decode(self, codes, segments):
        return codes[segments]


def orthonormal(rows, columns, seed=0):
    return jnp.asarray(np.float32(np.linalg.qr(np.random.default_rng(seed).normal(size=(rows, columns)))[0]))


def linear_generator(size=6, codes=None, seed=0, centre=0.5):
    return Linear(orthonormal(size, codes or size, seed), jnp.asarray(np.full(size, centre, np.float32)))


def linear_model(classes=3, size=6, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return Weighted(jnp.asarray(np.float32(scale * rng.normal(size=(classes, size)))), jnp.asarray(np.float32(rng.normal(size=classes))))


def each_alone(found, one, *inputs):
    """Whether row i of a run's result is `one(inputs[0][i], …)`, the method compiled for one example, for every i."""
    one = jax.jit(one)
    for i in np.ndindex(inputs[-1].shape):
        alone = one(*(v[i[: v.ndim]] if v is inputs[-1] else v[i[0]] for v in inputs))
        same(jax.tree.map(lambda leaf, i=i: leaf[i], found), alone)


def same(batched, single):
    """Whether results, with and without a batch axis in front, agree to rounding."""
    for many, one in zip(jax.tree.leaves(batched), jax.tree.leaves(single), strict=True):
        assert np.allclose(np.asarray(many, np.float64), np.asarray(one, np.float64), atol=2e-4, rtol=2e-3), (many, one)
