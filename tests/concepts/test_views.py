"""Random views of pictures: where each of their pixels comes from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jxai.concepts import Crops, Views

KEYS = jax.random.split(jax.random.key(0), 400)
PLACES = jnp.stack(jnp.meshgrid(jnp.arange(64.0), jnp.arange(48.0), indexing="ij"), -1)
"""A picture whose values are its own coordinates: a view of it says what it sees."""


def seen(view, picture, shape):
    return np.asarray(jax.jit(view, static_argnums=1)(picture, shape, KEYS[0], 0.0))


def maps(view, shape=(8, 6, 2), progress=0.0):
    """Of each key the affine map from the pixels in the middle of a view to the picture's: matrix, offset, and the largest deviation from it."""
    seen = np.asarray(jax.jit(jax.vmap(lambda key: view(PLACES, shape, key, progress)))(KEYS), np.float64)
    at = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape[:2]], indexing="ij"), -1).reshape(-1, 2)
    inner = np.abs(at).max(1) < 1.5
    design, seen = np.concatenate([at[inner], np.ones((inner.sum(), 1))], 1), seen.reshape(len(KEYS), -1, 2)[:, inner]
    found = np.linalg.pinv(design) @ seen
    return found[:, :2], found[:, 2], np.abs(design @ found - seen).max()


def test_a_view_without_chance_is_the_picture():
    still = Views(pad=0, jitter=0, scale=0, rotate=0, jitter_after=0)
    np.testing.assert_allclose(seen(still, PLACES, PLACES.shape), PLACES, atol=1e-4)
    whole = Crops(first=1.0, last=1.0, spread=0.0, centre=0.0, noise=0.0)
    np.testing.assert_allclose(seen(whole, PLACES, PLACES.shape), PLACES, atol=1e-4)


def test_outside_of_a_picture_it_is_grey():
    view = seen(Views(pad=0.5, jitter=0, scale=0, rotate=0, jitter_after=0), np.ones((8, 8, 1), np.float32), (16, 16, 1))[..., 0]
    truth = np.full((16, 16), 0.5)
    truth[4:12, 4:12] = 1
    np.testing.assert_allclose(view, truth, atol=1e-6)


def test_views_turn_scale_and_move_as_far_as_they_say():
    view = Views(pad=0.0, jitter=0.2, scale=0.1, rotate=20.0, jitter_after=0.1)
    matrix, middle, error = maps(view)
    assert error < 1e-3
    pixel = 64 / 8 * (1 - 0.2 - 0.1)  # of a view, in the picture's
    zoom = pixel / np.sqrt(np.linalg.det(matrix))
    np.testing.assert_allclose([zoom.min(), zoom.max()], [0.9, 1.1], atol=5e-3)
    angle = np.rad2deg(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    assert np.abs(angle).max() < 20.01 and angle.min() < -18 and angle.max() > 18
    assert abs((np.abs(angle) < 1e-3).mean() - 5 / 26) < 0.06
    moved = middle - [31.5, 23.5]
    assert np.abs(moved.mean(0)).max() < 0.5 and 0.8 * 0.15 * 64 < np.abs(moved[:, 0]).max() < 1.1 * 0.15 * 64


def test_crops_shrink_from_the_first_to_the_last():
    crop = Crops(first=0.6, last=0.2, spread=0.0, centre=0.01, noise=0.0)
    for progress, side in ((0.0, 0.6), (0.5, 0.4), (1.0, 0.2)):
        matrix, middle, error = maps(crop, progress=progress)
        assert error < 1e-3
        np.testing.assert_allclose(matrix, np.broadcast_to(np.diag([side * 63 / 7, side * 47 / 5]), matrix.shape), atol=1e-4)
        np.testing.assert_allclose(middle.std(0), [0.63, 0.47], rtol=0.2)


def test_noise_is_that_of_a_normal_and_an_even_one():
    flat = seen(Crops(noise=0.1, centre=0.0), np.full((64, 64, 1), 0.5, np.float32), (200, 200, 1)) - 0.5
    np.testing.assert_allclose([flat.mean(), flat.std()], [0, 0.1 * np.sqrt(1 + 1 / 12)], atol=2e-3)
