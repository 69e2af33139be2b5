"""Scores of generators and densities: against closed forms, on our own models, and by the contract of scores."""

from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jxai import uncertainty
from jxai.models.flows import RealNVP
from jxai.models.vae import VAE
from jxai.testing import SHAPES, check_score, example
from jxai.uncertainty import Typicality, fit_typicality, reconstruction_error, typicality

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
D = SHAPES["vector"][0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plane:
    """Principal components: an autoencoder whose examples lie in a plane."""

    axes: jax.Array

    def encode(self, x):
        return self.axes @ x

    def decode(self, z):
        return z @ self.axes


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Normal:
    """`N(m, I)`."""

    mean: jax.Array

    def log_prob(self, x):
        return -0.5 * ((x - self.mean) ** 2).sum() - 0.5 * D * math.log(2 * math.pi)


def plane(shape, seed):
    return Plane(jnp.asarray(np.linalg.qr(np.random.default_rng(seed).normal(size=(shape[0], 2)))[0].T, jnp.float32))


def normal(shape, seed):
    return Normal(jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32))


ENTROPY = 0.5 * D * (1 + math.log(2 * math.pi))


def test_the_contract_of_scores():
    f, x = plane((D,), 0), example((D,))
    check_score(reconstruction_error, model=plane, certain=(f, f.decode(f.encode(x))), uncertain=(f, x))
    f, fitted = normal((D,), 0), Typicality(jnp.float32(ENTROPY))
    typical = f.mean + 1
    check_score(typicality, model=normal, fitted=fitted, certain=(f, typical), uncertain=(f, f.mean))


def test_the_error_is_the_distance_from_the_plane():
    f, x = plane((D,), 1), RNG.normal(size=D).astype(np.float32)
    axes = np.asarray(f.axes, np.float64)
    away = x - axes.T @ (axes @ x)
    np.testing.assert_allclose(reconstruction_error(f, x), (away**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(reconstruction_error(f, x, distance="mae"), np.abs(away).mean(), rtol=1e-5)
    np.testing.assert_allclose(reconstruction_error(lambda x: f.decode(f.encode(x)), x), (away**2).mean(), rtol=1e-5)
    assert reconstruction_error(f, jnp.asarray(axes.T @ np.float32([1, 2]), jnp.float32)) < 1e-12


def test_what_is_more_probable_than_typical_is_unusual():
    f = normal((D,), 2)
    draws = np.asarray(f.mean) + RNG.normal(size=(4000, D)).astype(np.float32)
    fitted = fit_typicality(jax.vmap(f.log_prob)(draws))
    assert fitted.entropy == pytest.approx(ENTROPY, abs=4 * math.sqrt(D / 2 / 4000))
    scores = jax.vmap(lambda x: typicality(f, x, fitted=fitted))(draws)
    # ‖x − m‖² is χ² of D degrees, so that the score is half its distance from its mean.
    np.testing.assert_allclose(scores, np.abs(0.5 * ((draws - f.mean) ** 2).sum(1) + 0.5 * D * math.log(2 * math.pi) - fitted.entropy), rtol=1e-4, atol=1e-5)
    assert typicality(f, f.mean, fitted=fitted) > np.quantile(scores, 0.75)
    assert typicality(lambda x: jnp.float32(-jnp.inf) + 0 * x.sum(), f.mean, fitted=fitted) == np.inf


@pytest.mark.slow
def test_a_vae_and_a_flow():
    vae, x = VAE((8, 8, 1), latent=3, hidden=(16,), rngs=nnx.Rngs(0)), example((8, 8, 1))
    np.testing.assert_allclose(jax.jit(reconstruction_error)(vae, x), ((vae.decode(vae.encode(x)) - x) ** 2).mean(), rtol=1e-5)
    flow = RealNVP((8, 8, 1), rngs=nnx.Rngs(0))
    log_p, inside = flow.log_prob(x), Typicality(jnp.float32(3.0))
    np.testing.assert_allclose(jax.jit(lambda f, x: typicality(f, x, fitted=inside))(flow, x), abs(-log_p - 3), rtol=1e-4)


def test_a_fit_comes_back_from_its_file(tmp_path):
    fitted = fit_typicality(np.float32([-3, -5]))
    uncertainty.save(tmp_path / "fit.npz", fitted)
    assert uncertainty.load(tmp_path / "fit.npz") == fitted == Typicality(jnp.float32(4))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: reconstruction_error(plane((5,), 0), x), "generator=Plane does not take x of shape"),
        (lambda x: reconstruction_error(3, x), "generator=int must have a method encode"),
        (lambda x: reconstruction_error(lambda v: v[:2], x), r"f\(x\) must be x made again, of shape \(6,\), got \(2,\)"),
        (lambda x: reconstruction_error(plane((D,), 0), x, distance="l2"), "distance='l2' must be one of 'mse', 'mae'"),
        (lambda x: reconstruction_error(plane((D,), 0), x * np.nan), "x must be finite"),
        (lambda x: reconstruction_error(plane((D,), 0), x, fitted=Typicality(x)), "fitted must be None"),
        (lambda x: typicality(normal((D,), 0), x), r"fitted must be a Typicality, made by fit_typicality\(log_densities\), got None"),
        (lambda x: typicality(plane((D,), 0), x, fitted=Typicality(x[0])), "f must be a density with a method log_prob"),
        (lambda x: typicality(lambda v: v, x, fitted=Typicality(x[0])), r"log p\(x\) must be one number, got shape \(6,\)"),
        (lambda x: fit_typicality(np.float32([1, -np.inf])), r"log_densities must be finite, but log_densities\[1\] is -inf"),
        (lambda x: fit_typicality(np.ones((2, 2))), r"log_densities must be numbers \[n\]"),
        (lambda x: jax.jit(fit_typicality)(x), "log_densities must be concrete"),
    ],
)
def test_bad_input_is_an_error(call, message):
    with pytest.raises(ValueError, match=message):
        call(example((D,)))
