"""ROAD against a sparse direct solve of its imputation, and the definition of its accuracy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jxai import fills
from jxai.metrics.road import road

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
RNG = np.random.default_rng(1)
X = RNG.uniform(size=(6, 7, 2)).astype(np.float32)
A = RNG.normal(size=(6, 7, 1)).astype(np.float32)


def corner(x):
    """Class 0 where the corner pixel is bright."""
    return jnp.stack([x[0, 0].sum(), jnp.float32(1.0)])


BRIGHT = X.copy()
BRIGHT[:2, :2], BRIGHT[0, 0] = 0.1, 0.9


def test_the_answer_changes_when_the_pixel_that_decides_it_goes():
    seen = np.zeros((6, 7, 1), np.float32)
    seen[0, 0] = 1
    judge = jax.jit(lambda x, a, target: road(corner, x, target, a, KEY, steps=6, max_fraction=0.6))
    run = lambda a, target: jax.tree.map(np.asarray, judge(BRIGHT, a, target))
    assert np.array_equal(run(seen, 0).y, [1, 0, 0, 0, 0, 0, 0]) and np.allclose(run(seen, 0).x, np.arange(7) * 0.1, atol=0.02)
    assert np.array_equal(run(-seen, 0).y, np.ones(7)) and run(-seen, 0).auc == 1
    assert np.array_equal(run(seen, 1).y, 1 - run(seen, 0).y) and np.isnan(run(seen, 5).y).all()


@pytest.mark.parametrize("order", ["least", pytest.param("most", marks=pytest.mark.slow)])
def test_the_probability_is_that_of_the_imputed_image(order):
    w = RNG.normal(size=(6, 7, 2, 3)).astype(np.float32)
    f = lambda x: jnp.tensordot(x, w, 3)
    options = dict(steps=3, score="probability", fill=fills.Neighbours(noise=0.0, tol=1e-6))
    y = np.asarray(jax.jit(lambda x, a: road(f, x, 1, a, KEY, order=order, **options))(X, A).y)
    rank = np.empty(42, int)
    rank[np.argsort((-A if order == "most" else A).ravel())] = np.arange(42)
    for share, value in zip((0, 0.3, 0.6, 0.9), y):
        keep = (rank >= round(share * 42)).reshape(6, 7, 1)
        assert np.allclose(value, special.softmax(np.tensordot(solved(X, keep), w, 3))[1], atol=1e-4)


def solved(x, keep):
    """Each pixel not kept as the weighted mean of its neighbours, densely."""
    height, width, _ = x.shape
    known, index = keep.ravel(), np.arange(height * width).reshape(height, width)
    system = np.zeros((height * width, height * width))
    for down, right, weight in [(0, 1, 1 / 6), (1, 0, 1 / 6), (1, 1, 1 / 12), (1, -1, 1 / 12)]:
        a = index[: height - down, max(0, -right) : width - max(0, right)].ravel()
        b = index[down:, max(0, right) : width + min(0, right)].ravel()
        system[a, b] = system[b, a] = -weight
    np.fill_diagonal(system, -system.sum(1))
    out = np.asarray(x).reshape(-1, x.shape[-1]).copy()
    if (~known).any():
        out[~known] = np.linalg.solve(system[np.ix_(~known, ~known)], -system[np.ix_(~known, known)] @ out[known])
    return out.reshape(x.shape)


def traced(*arguments, **options):
    """Errors come before any work."""
    return jax.eval_shape(functools.partial(road, *arguments, **options))


def test_bad_input_says_so():
    for options, word in [({"score": "entropy"}, "score='entropy'"), ({"order": "x"}, "order='x'"), ({"steps": 0}, "steps=0")]:
        with pytest.raises(ValueError, match=word):
            traced(corner, X, 0, A, KEY, **options)
    with pytest.raises(ValueError, match="key=None"):
        traced(corner, X, 0, A)
    with pytest.raises(ValueError, match="target=None"):
        traced(lambda x: x.sum(), X, None, A, KEY)
    with pytest.raises(ValueError, match="attribution must"):
        traced(corner, X, 0, A[..., 0], KEY)
    with pytest.raises(ValueError, match="Neighbours needs an image"):
        traced(lambda x: x, X[0, 0], 0, X[0, 0], KEY)
    nothing = jax.jit(lambda x, a: road(corner, x, 0, a, KEY, steps=2))(X, np.where(np.arange(6)[:, None, None] == 0, np.nan, A))
    assert np.isnan(nothing.y).all() and np.isnan(nothing.auc)
