"""Growing spheres: points uniform in shells, distances near the boundary's, and as few entries as the class needs."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.tree_util import Partial

from jxai.counterfactual import run
from jxai.counterfactual.spheres import growing_spheres, in_shell

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


def linear(w, b=0.0):
    return Partial(_linear, np.float32(w), np.float32(b))


def _linear(w, b, x):
    return jnp.stack([jnp.zeros(()), w @ x.ravel() + b])


def found_by(f, x, **options):
    """The method, compiled whole, for class 1."""
    return jax.tree.map(np.asarray, jax.jit(lambda f, x: growing_spheres(f, x, 1, KEY, **options))(f, np.float32(x)))


@jax.jit
def drawn(keys, opened, inner, outer):
    return jax.vmap(lambda k: in_shell(k, opened, inner, outer, jnp.float32))(keys)


@pytest.mark.parametrize("inner, outer", [(0.0, 1.0), (0.5, 0.75), (3.0, 4.0)])
def test_points_are_uniform_in_the_shell_of_the_open_entries(inner, outer):
    v = np.asarray(drawn(jax.random.split(KEY, 4000), np.asarray([True, True, False, True]), np.float32(inner), np.float32(outer)), np.float64)
    np.testing.assert_array_equal(v[:, 2], 0)
    r = np.linalg.norm(v, axis=1)
    assert inner - 1e-5 < r.min() and r.max() <= outer + 1e-5
    assert scipy.stats.kstest((r**3 - inner**3) / (outer**3 - inner**3), "uniform").pvalue > 1e-3
    # In three dimensions each coordinate of a direction is uniform in [−1, 1].
    for i in (0, 1, 3):
        assert scipy.stats.kstest(v[:, i] / r, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_radii_hold_in_high_dimension():
    v = drawn(jax.random.split(KEY, 50), np.ones(3000, bool), np.float32(0.5), np.float32(1.0))
    r = np.linalg.norm(np.asarray(v), axis=1)
    assert (r > 0.99).all() and (r <= 1 + 1e-5).all()


@pytest.mark.parametrize("radius", [0.05, 2.0])
def test_the_nearest_point_is_at_the_boundary(radius):
    w = np.asarray([1.0, -2.0, 0.5])
    x = np.float32([[0.4, 0.6, 0.2], [0.1, 0.5, 0.9]])
    found = run(growing_spheres.search(radius=np.asarray(radius, np.float32), num_samples=4000, sparse=False, clip=None), linear(w), x, np.ones(2, int), KEY)
    truth = np.abs(x @ w) / np.linalg.norm(w)
    far = np.linalg.norm(found.x - x, axis=1)
    assert found.valid.all() and (far >= truth - 1e-6).all() and (far <= 1.1 * truth + 0.02).all()


def test_entries_go_back_smallest_first_until_the_class_would_change():
    w = np.asarray([2.0, 0.5, -1.0, 0.2, 0.1, 0.05])
    f, x = linear(w, -1.0), np.float32([0.1, 0.2, 0.9, 0.5, 0.5, 0.5])
    dense, found = (found_by(f, x, radius=0.3, num_samples=200, sparse=sparse) for sparse in (False, True))
    change, before = found.x - x, dense.x - x
    assert found.valid and dense.valid and found.steps == dense.steps + 1
    order = np.argsort(abs(before))
    count = (change == 0).sum()
    np.testing.assert_array_equal(np.sort(np.flatnonzero(change == 0)), np.sort(order[:count]))
    np.testing.assert_array_equal(change[order[count:]], before[order[count:]])
    assert count >= 2
    again = found.x.copy()
    again[order[count]] = x[order[count]]
    assert w @ again - 1 <= 0


def test_restoring_goes_on_over_several_blocks():
    w = np.zeros(40)
    w[7] = 1.0
    found = found_by(linear(w, -0.3), np.full(40, 0.2), radius=1.0, num_samples=8)
    assert found.valid and (found.x != np.float32(0.2)).sum() < 20
    assert found.x[7] > 0.3


@pytest.mark.parametrize("dtype", [pytest.param(np.float32, marks=pytest.mark.slow), np.float16])
def test_batches_chunks_and_regions_agree(dtype):
    rng = np.random.default_rng(0)
    w = rng.normal(size=12)
    f, x = linear(w, -0.5), rng.uniform(0.2, 0.8, (4, 4, 3, 1)).astype(dtype)
    region = np.arange(12).reshape(4, 3) % 3 > 0
    target = np.where(x.reshape(4, 12) @ w > 0.5, 0, 1)
    options = dict(num_samples=64, radius=0.5, region=region, steps=60)
    found = run(growing_spheres.search(**options), f, x, target, KEY, restarts=2, block=4, batch_size=1)
    assert found.x.dtype == dtype and found.valid.all()
    np.testing.assert_array_equal(found.x[:, :, ~region], np.repeat(x[:, None], 2, 1)[:, :, ~region])
    assert found.x.min() >= 0 and found.x.max() <= 1
    assert (found.x[:, 0] != found.x[:, 1]).any()
    alone = jax.jit(lambda x, t, k: growing_spheres(f, x, t, k, **{**options, "chunk": 5}))
    for i in range(4):
        one = alone(x[i], target[i], jax.random.fold_in(KEY, 2 * i + 1))
        np.testing.assert_allclose(one.x, found.x[i, 1], atol=1e-5)
        assert one.steps == found.steps[i, 1]


def test_an_unreachable_target_fails_in_data():
    found = found_by(linear(np.ones(3), -100.0), np.full(3, 0.5), steps=6, num_samples=16)
    assert not found.valid and found.steps == 6 and found.logits[1] > -98.5


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(radius=0.0), "radius=0.0 must lie in"),
        (dict(radius=math.inf), "radius=inf must lie in"),
        (dict(num_samples=0), "num_samples=0 must be a positive integer"),
        (dict(steps=0), "steps=0 must be a positive integer"),
        (dict(chunk=0), "chunk=0 must be a positive integer"),
        (dict(region=np.zeros(3, bool)), "region freezes every entry"),
        (dict(key=None), "growing_spheres draws random numbers: key=None"),
        (dict(target=None), "target=None must be a class"),
    ],
)
def test_bad_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        growing_spheres(**{**dict(f=linear(np.ones(3)), x=-np.ones(3, np.float32), target=1, key=KEY, clip=None), **options})
