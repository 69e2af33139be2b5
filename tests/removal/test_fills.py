"""What replaces a removed position, against SciPy, dense linear algebra and the definition."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, sparse

from jxai import fills

X = np.random.default_rng(0).uniform(size=(9, 11, 3)).astype(np.float32)
KEY = jax.random.key(1)


def mask(p=0.5, seed=2):
    return np.float32(np.random.default_rng(seed).uniform(size=(9, 11, 1)) > p)


@pytest.mark.parametrize("fill", [0.0, 0.4, np.float32([0.1, 0.2, 0.3]), fills.Mean(), fills.Blur(2.0), fills.Uniform(2.0, 3.0), fills.Neighbours()])
def test_remove_keeps_where_the_mask_is_one_and_mixes_in_between(fill):
    @jax.jit
    def measure(x, m, key):
        found = fills.remove(x, m, fill, key), fills.resolve(fill, x, m, key)
        return found if getattr(fill, "per_mask", False) else (*found, fills.remove(x, 0.25, fill, key), fills.remove(x, m, fills.fixed(fill, x, key), key))

    m = mask()
    removed, value, *others = map(np.asarray, measure(X, m, KEY))
    assert np.allclose(np.where(m == 1, removed - X, 0), 0, atol=1e-6)
    assert np.allclose(np.where(m == 0, removed - value, 0), 0, atol=1e-6)
    if others:
        assert np.allclose(others[0], 0.25 * X + 0.75 * value, atol=1e-6)
        assert np.allclose(others[1], removed, atol=1e-6)
    assert np.abs(removed - X).max() > 0.05


def test_mean_is_each_channels_mean_over_what_is_there():
    holed = np.where(mask() > 0, X, np.nan)
    assert np.allclose(fills.baseline(fills.Mean(), X), np.broadcast_to(np.mean(X, (0, 1)), X.shape), atol=1e-6)
    assert np.allclose(fills.baseline(fills.Mean(), holed), np.nanmean(holed, (0, 1)), atol=1e-6)
    assert np.allclose(fills.baseline(fills.Mean(), X[0]), X[0].mean(0), atol=1e-6)


@pytest.mark.parametrize("sigma", [0.5, 6.0, pytest.param(2.0, marks=pytest.mark.slow)])
def test_blur_is_scipys(sigma):
    video = np.stack([X, 1 - X])
    blur = lambda v, **options: fills.gaussian_blur(v, sigma, **options)
    ours, film, vector, constant = map(np.asarray, jax.jit(lambda x, v: (blur(x), blur(v), blur(x[:, 0, 0]), blur(x, padding="constant")))(X, video))
    assert np.allclose(ours, ndimage.gaussian_filter(X, (sigma, sigma, 0)), atol=1e-5)
    assert np.allclose(film[0], ours, atol=1e-6)
    assert np.allclose(vector, ndimage.gaussian_filter1d(X[:, 0, 0], sigma), atol=1e-5)
    assert np.allclose(constant, ndimage.gaussian_filter(X, (sigma, sigma, 0), mode="constant"), atol=1e-5)


def test_neighbours_solve_the_linear_system():
    m = np.asarray(mask(0.7))[..., 0]
    height, width = m.shape
    matrix, right = np.zeros((m.size, m.size)), np.zeros((m.size, 3))
    for i in range(height):
        for j in range(width):
            n = i * width + j
            matrix[n, n] = 1
            if m[i, j]:
                right[n] = X[i, j]
                continue
            near = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0) and 0 <= i + a < height and 0 <= j + b < width]
            weights = np.array([1 / 6 if 0 in pair else 1 / 12 for pair in near])
            for (a, b), w in zip(near, weights / weights.sum()):
                matrix[n, (i + a) * width + j + b] = -w
    solved = np.linalg.solve(matrix, right).reshape(height, width, 3)
    assert np.allclose(jax.jit(lambda x, m: fills.Neighbours(noise=0, tol=1e-6)(x, m, None))(X, m[..., None]), solved, atol=1e-4)


@pytest.mark.parametrize("shape", [(37, 50), *(pytest.param(shape, marks=pytest.mark.slow) for shape in ((64, 64), (1, 40)))])
def test_neighbours_solve_large_holes_in_few_steps(shape):
    """Against a sparse direct solver, and within the iterations that the preconditioner promises, for any shape of hole."""
    x = np.float32(ndimage.gaussian_filter(np.random.default_rng(0).random((*shape, 2)), (2, 2, 0)) + 0.3)
    solve = jax.jit(lambda m: fills.Neighbours(noise=0, steps=12)(x, m, None))
    index = np.arange(x[..., 0].size).reshape(shape)
    matrix = sparse.lil_matrix((index.size, index.size))
    for down, right, weight in [(0, 1, 1 / 6), (1, 0, 1 / 6), (1, 1, 1 / 12), (1, -1, 1 / 12)]:
        a = index[: shape[0] - down, max(0, -right) : shape[1] - max(0, right)].ravel()
        b = index[down:, max(0, right) : shape[1] + min(0, right)].ravel()
        matrix[a, b] = matrix[b, a] = -weight
    matrix = sparse.diags(-np.asarray(matrix.sum(1)).ravel()) + matrix.tocsr()
    one = np.zeros(shape, bool)
    one[shape[0] // 3, shape[1] // 3] = True
    hole = np.ones(shape, bool)
    hole[shape[0] // 8 : -(shape[0] // 8) or None, shape[1] // 8 : -(shape[1] // 8) or None] = False
    for known in (np.random.default_rng(1).random(shape) < 0.1, hole | one, one):
        out = np.asarray(x).reshape(-1, 2).copy()
        k = known.ravel()
        out[~k] = sparse.linalg.spsolve(matrix[~k][:, ~k].tocsc(), -matrix[~k][:, k] @ out[k]).reshape(-1, 2)
        assert np.abs(np.asarray(solve(known[..., None])).reshape(-1, 2) - out).max() < 2e-3


def test_neighbours_of_channels_and_frames_are_their_own():
    video = np.stack([X, 1 - X])
    m = np.stack([np.broadcast_to(mask(), X.shape), np.stack([mask(0.7, c)[..., 0] for c in range(3)], -1)])
    fill = jax.jit(fills.Neighbours(noise=0, tol=1e-6))
    together = np.asarray(fill(video, m, None))
    for t in range(2):
        for c in range(3):
            alone = fill(video[t, ..., c : c + 1], m[t, ..., c : c + 1], None)
            assert np.allclose(together[t, ..., c : c + 1], alone, atol=1e-4)


def test_neighbours_add_noise_of_the_stated_size_and_know_what_to_do_with_nothing():
    m = mask(0.7)

    @jax.jit
    def measure(x, m, key):
        noisy, still = (fills.Neighbours(noise=noise)(x, m, key) for noise in (0.05, 0))
        return noisy - still, fills.Neighbours(noise=0)(x, jnp.zeros_like(m), None)

    noise, nothing = map(np.asarray, measure(X, m, KEY))
    assert 0.03 < np.std(noise[np.broadcast_to(m == 0, X.shape)]) < 0.07
    assert np.allclose(nothing, X.mean((0, 1)), atol=1e-4)


def test_uniform_has_its_range_and_follows_the_key():
    draw = jax.jit(lambda key: fills.Uniform(2.0, 3.0)(X, mask(), key))
    noise, other = (np.asarray(draw(key)) for key in (KEY, jax.random.key(5)))
    assert 2 <= noise.min() < 2.1 and 2.9 < noise.max() < 3
    assert not np.allclose(noise, other)


def test_making_a_fill_anew_does_not_retrace():
    @jax.jit
    @chex.assert_max_traces(n=3)
    def run(x, fill):
        return fills.remove(x, mask(), fill, KEY)

    for _ in range(2):
        for fill in (fills.Blur(2.0), fills.Mean(), fills.Uniform(np.float32(0), np.float32(1))):
            run(X, fill)


def test_bad_fills_say_so():
    for fill, word in [
        (np.zeros(4), r"fill has shape \(4,\)"),
        (fills.Uniform(), "key=None"),
        (fills.Blur(-1.0), "sigma=-1"),
        (fills.Neighbours(), "key=None"),
    ]:
        with pytest.raises(ValueError, match=word):
            fills.remove(X, mask(), fill)
    for fill, word in [
        (fills.Mean(), "fills.Mean: x of shape"),
        (fills.Blur(), r"a signal is an x of shape \[T, 1\]"),
        (fills.Uniform(), "Uniform's low=None"),
    ]:
        with pytest.raises(ValueError, match=word):
            fills.remove(X[0, 0], 0.0, fill, KEY)
    with pytest.raises(ValueError, match="Neighbours needs an image"):
        fills.remove(X[0, 0], 0.0, fills.Neighbours(), KEY)
