"""Models, generators and data for the metrics of counterfactuals, of which the truth is known."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

CLASSES, SIZE = 3, 6


def _dataclass(cls):
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


@_dataclass
class Weighted:
    """`x -> weights x + bias`, of x flattened."""

    weights: jax.Array
    bias: jax.Array

    def __call__(self, x):
        return self.weights @ x.reshape(-1) + self.bias


@_dataclass
class Projection:
    """The autoencoder of an affine subspace: `encode(x) = basisᵀ (x − mean)`, `decode(z) = basis z + mean`, `basis [D, d]` orthonormal."""

    basis: jax.Array
    mean: jax.Array

    def encode(self, x):
        return self.basis.T @ (x - self.mean).reshape(-1)

    def decode(self, z):
        return (self.basis @ z).reshape(self.mean.shape) + self.mean


@_dataclass
class Gaussians:
    """One isotropic Gaussian for each class: `log_prob(h) -> [K]`."""

    means: jax.Array
    sigma: jax.Array

    def log_prob(self, h):
        return -0.5 * ((h - self.means) ** 2).sum(-1) / self.sigma**2 - h.size * jnp.log(self.sigma * jnp.sqrt(2 * jnp.pi))


@_dataclass
class Normal:
    """A standard normal density of x: `log_prob(x) -> []`."""

    mean: jax.Array

    def log_prob(self, x):
        return -0.5 * ((x - self.mean) ** 2).sum() - x.size / 2 * jnp.log(2 * jnp.pi)


def model(seed=0, classes=CLASSES, size=SIZE):
    rng = np.random.default_rng(seed)
    return Weighted(jnp.asarray(np.float32(rng.normal(size=(classes, size)))), jnp.asarray(np.float32(rng.normal(size=classes))))


def logits(f, x):
    """What the model says of examples `[n, size]`, in NumPy."""
    return np.asarray(x) @ np.asarray(f.weights).T + np.asarray(f.bias)


def stacked(models):
    return jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *models)


def projection(seed, size=SIZE, codes=2):
    rng = np.random.default_rng(seed)
    return Projection(jnp.asarray(np.float32(np.linalg.qr(rng.normal(size=(size, codes)))[0])), jnp.asarray(np.float32(rng.uniform(size=size))))


def data(n=200, seed=0, size=SIZE):
    """Points about three centres, with their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, n)
    centres = 2 * np.eye(CLASSES, size)
    return (centres[labels] + 0.7 * rng.normal(size=(n, size))).astype(np.float32), labels.astype(np.int32)


def pairs(n=8, seed=5):
    """Examples, counterfactuals that change some of their entries, and targets: `[n, SIZE]`, `[n, SIZE]`, `[n]`."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(n, SIZE)).astype(np.float32)
    changed = rng.uniform(size=x.shape) < 0.6
    return (
        jnp.asarray(x),
        jnp.asarray(np.where(changed, x + rng.normal(size=x.shape), x).astype(np.float32)),
        jnp.asarray(rng.integers(0, CLASSES, n).astype(np.int32)),
    )
