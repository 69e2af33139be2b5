"""Features, grids, resizing and designs of points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import qmc

from jxai import masks

X = jnp.zeros((7, 10, 3))


def test_a_regular_grid_has_cells_of_nearly_equal_size_in_c_order():
    labels = masks.regular((7, 10), (3, 5))
    assert labels[0, 0] == 0 and labels[0, -1] == 4 and labels[-1, -1] == 14
    sizes = np.bincount(labels.ravel())
    assert len(sizes) == 15 and set(sizes) == {4, 6}
    assert np.array_equal(masks.regular((4,), 4), np.arange(4))


def test_features_of_vectors_images_and_given_maps():
    assert masks.features(jnp.zeros(5)).num == 5
    assert masks.features(X, grid=2).num == 4
    given = np.zeros((7, 10), int)
    given[2:] = 6
    assert masks.features(X, given).num == 2 and masks.features(X, given, num_segments=7).num == 7
    traced = jax.jit(lambda s: masks.spread(jnp.arange(1.0, 8.0), masks.features(X, s, num_segments=7).labels, X))(given)
    assert traced.shape == (7, 10, 1) and set(np.unique(traced)) == {1.0, 7.0}


def test_positions_outside_every_feature_keep_the_value_they_are_given():
    labels = np.array([[0, 1], [2, 9]])
    out = masks.spread(jnp.array([1.0, 2.0, 3.0]), labels, jnp.zeros((2, 2, 1)), outside=-5.0)
    assert out[..., 0].tolist() == [[1, 2], [3, -5]]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "needs one of them"),
        ({"grid": 8}, "grid=8 is larger"),
        ({"grid": 0}, "positive integer"),
        ({"grid": (2, 2, 2)}, "grid="),
        ({"segments": np.zeros((3, 3), int)}, "segments must be integers of shape"),
        ({"segments": np.zeros((7, 10))}, "segments must be integers"),
        ({"segments": np.full((7, 10), -1)}, "must not be negative"),
        ({"segments": np.zeros((7, 10), int), "grid": 2}, "not both"),
    ],
)
def test_bad_features_say_so(options, word):
    with pytest.raises(ValueError, match=word):
        masks.features(X, **options)
    with pytest.raises(ValueError, match="num_segments=None"):
        jax.jit(lambda s: masks.features(X, s).num)(np.zeros((7, 10), int))


def test_upsampling_has_its_pixel_centres_at_half_integers():
    values = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    bilinear = masks.upsample(values, (8, 8), "bilinear")
    points = np.meshgrid(*[(np.arange(8) + 0.5) / 2 - 0.5] * 2, indexing="ij")
    assert np.allclose(bilinear, ndimage.map_coordinates(values, points, order=1, mode="nearest"), atol=1e-5)
    assert np.array_equal(masks.upsample(values, (8, 8), "nearest"), np.kron(values, np.ones((2, 2))))
    assert np.allclose(np.kron(values, np.ones((2, 2)))[masks.regular((8, 8), 4) == 5], values[1, 1])


def test_the_sobol_table_is_scipys_and_the_others_are_uniform_and_follow_the_key():
    assert np.allclose(masks.design("sobol", 31, 5), qmc.Sobol(5, scramble=False).random(32)[1:], atol=1e-7)
    for sampler in masks.SAMPLERS[1:]:
        draw = jax.jit(lambda key, sampler=sampler: masks.design(sampler, 256, 3, key))
        a, b = (np.asarray(draw(jax.random.key(seed))) for seed in (0, 1))
        assert a.min() >= 0 and a.max() < 1 and not np.allclose(a, b)
        assert np.allclose(a.mean(0), 0.5, atol=0.08) and np.allclose(np.cov(a.T), np.eye(3) / 12, atol=0.02)
        limit = 1e-2 if sampler == "monte_carlo" else 1e-3
        assert qmc.discrepancy(a) < limit
    hyper = np.asarray(jax.jit(lambda key: masks.design("latin_hypercube", 16, 4, key))(jax.random.key(2)))
    assert np.array_equal(np.sort(np.floor(hyper * 16), axis=0), np.tile(np.arange(16)[:, None], (1, 4)))


def test_a_scrambled_table_keeps_the_nets_balance():
    points = np.asarray(jax.jit(lambda key: masks.design("scrambled_sobol", 63, 2, key))(jax.random.key(4)))
    # All points but the origin's image: every half holds 31 or 32 of them.
    assert set(((points < 0.5).sum(0)).tolist()) <= {31, 32}


def test_keys_and_names_are_asked_for():
    with pytest.raises(ValueError, match="sampler='cubes' must be one of"):
        masks.design("cubes", 4, 2)
    with pytest.raises(ValueError, match="key=None"):
        masks.design("halton", 4, 2)
