"""Units: with each feature's own scale a search goes the way of the scaled problem; where one is needed and not given, that is an error."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai.counterfactual import (
    Identity,
    clue,
    dive,
    growing_spheres,
    jsma,
    native_guide,
    nearest_unlike,
    prototype,
    revise,
    sparse_vce,
    wachter,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
S = np.float32([8, 16384, 0.5, 2])  # powers of two: products with them are exact
X = np.float32([0.3, -0.4, 0.2, 0.1])
W = np.float32([[1.0, -0.5, 0.3, 0.2], [-0.8, 0.6, 0.1, -0.4]])
UNLIKE = np.float32([[-1, 1, 0, 0], [-0.9, 0.8, 0.4, -0.6], [0.4, -0.5, 0.1, 0.2]])
LABELS = np.asarray([1, 1, 0])


def model(scale):
    return Partial(lambda w, s, x: w @ jnp.tanh(x / s), W, np.float32(scale))


METHODS = {
    "wachter": functools.partial(wachter, steps=60, learning_rate=0.05),
    "wachter l2": functools.partial(wachter, distance="l2", steps=60, learning_rate=0.05),
    "jsma": functools.partial(jsma, steps=20, delta=0.25),
    "growing_spheres": functools.partial(growing_spheres, num_samples=16, steps=12),
    "sparse_vce": functools.partial(sparse_vce, radius=1.0, p=2.0, steps=10),
    "prototype": functools.partial(prototype, generator=Identity(), prototypes=np.zeros((2, 4), np.float32), attraction=0.0, steps=60, learning_rate=0.05),
}


LATENT = {
    "revise": lambda scale, **options: revise(generator=Identity(scale), scale=scale, steps=80, learning_rate=0.05, **options),
    "clue": lambda scale, **options: clue(generator=Identity(scale), scale=scale, steps=10, **{**options, "target": None}),
    "dive": lambda scale, **options: dive(generator=Identity(scale), scale=scale, num_counterfactuals=2, steps=10, **options),
}


@pytest.mark.parametrize("name", ["revise", *(pytest.param(name, marks=pytest.mark.slow) for name in ("clue", "dive"))])
def test_in_units_as_coordinates_too(name):
    plain, raw = (LATENT[name](s, f=model(s), x=X * s, target=1, key=KEY, clip=(-2 * s, 2 * s)) for s in (np.ones(4, np.float32), S))
    assert (np.asarray(plain.x) != X).any() and np.array_equal(raw.valid, plain.valid)
    np.testing.assert_allclose(raw.x / S, plain.x, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="scale=None: x is a vector with entries up to 6553"):
        LATENT[name](None, f=model(S), x=X * S, target=1, key=KEY, clip=None)


@functools.cache
def found(name, scaled):
    scale = S if scaled else np.ones(4, np.float32)
    clip = (-2 * scale, 2 * scale)
    return jax.tree.map(np.asarray, METHODS[name](model(scale), X * scale, 1, KEY, scale=scale, clip=clip))


@pytest.mark.parametrize(
    "name", ["wachter", "jsma", *(pytest.param(name, marks=pytest.mark.slow) for name in ("growing_spheres", "wachter l2", "sparse_vce", "prototype"))]
)
def test_raw_units_with_their_scale_go_the_way_of_scaled_ones(name):
    raw, plain = found(name, True), found(name, False)
    assert plain.valid and raw.valid and raw.steps == plain.steps
    np.testing.assert_allclose(raw.x / S, plain.x, rtol=1e-4, atol=1e-5)
    assert (plain.x != X).any()


def test_the_nearest_neighbour_is_that_of_scaled_features():
    plain = native_guide(model(np.ones(4)), X, 1, examples=UNLIKE, labels=LABELS)
    raw = native_guide(model(S), X * S, 1, examples=UNLIKE * S, labels=LABELS, scale=S)
    np.testing.assert_allclose(raw.x / S, plain.x, rtol=1e-5)
    np.testing.assert_array_equal(nearest_unlike(X * S, UNLIKE * S, LABELS, 1, "l1", S), (UNLIKE * S)[0])
    # In one unit the second feature is all that counts.
    np.testing.assert_array_equal(nearest_unlike(X * S, UNLIKE * S, LABELS, 1, "l1", 1.0), (UNLIKE * S)[1])


def test_a_raw_table_is_searched_to_its_optimum():
    """Age, income and hours: the cheapest way to the other class is income alone, at `(6.5 − w·x) / w_2 = 13 500` or 1.35 of its units."""
    w, s, x = np.float32([0.05, 0.0001, 0.03]), np.float32([10, 10_000, 10]), np.float32([39, 20_000, 40])
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x - 6.5]), w)
    got = wachter(f, x, 1, clip=None, scale=s, steps=1000)
    assert got.valid
    np.testing.assert_allclose(got.x, [39, 33_500, 40], rtol=1e-3)


@pytest.mark.parametrize("name", METHODS)
def test_a_vector_in_units_of_its_own_needs_a_scale(name):
    with pytest.raises(ValueError, match="scale=None: x is a vector with entries up to 6553"):
        METHODS[name](model(S), X * S, 1, KEY, clip=None)
    for scale, message in ((np.float32([1, 0, 1, 1]), "scale=0.0 must be finite and greater than 0"), (-1.0, "scale=-1.0 must be finite")):
        with pytest.raises(ValueError, match=message):
            METHODS[name](model(S), X * S, 1, KEY, scale=scale, clip=None)


def test_so_does_a_series():
    f = Partial(lambda w, x: w @ x.mean(0), W)
    with pytest.raises(ValueError, match="scale=None: x is a series with entries up to 6553"):
        wachter(f, np.stack([X * S, X * S]), 1, clip=None)
    assert not wachter(f, np.stack([X, X]), 1, clip=None, steps=1).valid
