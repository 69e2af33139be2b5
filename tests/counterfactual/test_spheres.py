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
    return Partial(lambda w, b, x: jnp.stack([jnp.zeros(()), w @ x.ravel() + b]), jnp.asarray(w, jnp.float32), jnp.float32(b))


@pytest.mark.parametrize("inner, outer", [(0.0, 1.0), (0.5, 0.75), (3.0, 4.0)])
def test_points_are_uniform_in_the_shell_of_the_open_entries(inner, outer):
    opened = jnp.asarray([True, True, False, True])
    draw = jax.vmap(lambda k: in_shell(k, opened, jnp.float32(inner), jnp.float32(outer), jnp.float32))
    v = np.asarray(draw(jax.random.split(KEY, 4000)), np.float64)
    np.testing.assert_array_equal(v[:, 2], 0)
    r = np.linalg.norm(v, axis=1)
    assert inner - 1e-5 < r.min() and r.max() <= outer + 1e-5
    assert scipy.stats.kstest((r**3 - inner**3) / (outer**3 - inner**3), "uniform").pvalue > 1e-3
    # In three dimensions each coordinate of a direction is uniform in [−1, 1].
    for i in (0, 1, 3):
        assert scipy.stats.kstest(v[:, i] / r, scipy.stats.uniform(-1, 2).cdf).pvalue > 1e-3


def test_radii_hold_in_high_dimension():
    v = jax.vmap(lambda k: in_shell(k, jnp.ones(3000, bool), jnp.float32(0.5), jnp.float32(1.0), jnp.float32))(jax.random.split(KEY, 50))
    r = np.linalg.norm(np.asarray(v), axis=1)
    assert (r > 0.99).all() and (r <= 1 + 1e-5).all()


@pytest.mark.parametrize("radius", [0.05, 2.0])
def test_the_nearest_point_is_at_the_boundary(radius):
    w = np.asarray([1.0, -2.0, 0.5])
    x = jnp.asarray([[0.4, 0.6, 0.2], [0.1, 0.5, 0.9]], jnp.float32)
    found = run(growing_spheres.search(radius=radius, num_samples=4000, sparse=False, clip=None), linear(w), x, np.ones(2, int), KEY)
    truth = np.abs(np.asarray(x) @ w) / np.linalg.norm(w)
    far = np.linalg.norm(found.x - np.asarray(x), axis=1)
    assert found.valid.all() and (far >= truth - 1e-6).all() and (far <= 1.1 * truth + 0.02).all()


def test_entries_go_back_smallest_first_until_the_class_would_change():
    w = np.asarray([2.0, 0.5, -1.0, 0.2, 0.1, 0.05])
    f, x = linear(w, -1.0), jnp.asarray([0.1, 0.2, 0.9, 0.5, 0.5, 0.5])
    options = dict(radius=0.3, num_samples=200)
    dense = growing_spheres(f, x, 1, KEY, sparse=False, **options)
    found = growing_spheres(f, x, 1, KEY, **options)
    change, before = np.asarray(found.x - x), np.asarray(dense.x - x)
    assert found.valid and dense.valid and found.steps == dense.steps + 1
    order = np.argsort(abs(before))
    count = (change == 0).sum()
    np.testing.assert_array_equal(np.sort(np.flatnonzero(change == 0)), np.sort(order[:count]))
    np.testing.assert_array_equal(change[order[count:]], before[order[count:]])
    assert count >= 2
    again = np.asarray(found.x).copy()
    again[order[count]] = x[order[count]]
    assert f(jnp.asarray(again)).argmax() == 0


def test_restoring_goes_on_over_several_blocks():
    w = np.zeros(40)
    w[7] = 1.0
    found = growing_spheres(linear(w, -0.3), jnp.full(40, 0.2), 1, KEY, radius=1.0, num_samples=8)
    assert found.valid and (found.x != 0.2).sum() < 20
    assert found.x[7] > 0.3


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_batches_chunks_and_regions_agree(dtype):
    rng = np.random.default_rng(0)
    f, x = linear(rng.normal(size=12), -0.5), rng.uniform(0.2, 0.8, (5, 4, 3, 1)).astype(dtype)
    region = np.arange(12).reshape(4, 3) % 3 > 0
    target = 1 - np.asarray(jax.vmap(f)(jnp.asarray(x))).argmax(1)
    options = dict(num_samples=64, radius=0.5, region=region, steps=60)
    found = run(growing_spheres.search(**options), f, x, target, KEY, restarts=2, block=4)
    assert found.x.dtype == dtype and found.valid.all()
    np.testing.assert_array_equal(found.x[:, :, ~region], np.repeat(x[:, None], 2, 1)[:, :, ~region])
    assert found.x.min() >= 0 and found.x.max() <= 1
    assert (found.x[:, 0] != found.x[:, 1]).any()
    alone = jax.jit(lambda x, t, k: growing_spheres(f, x, t, k, **{**options, "chunk": 5}))
    for i in range(5):
        one = alone(x[i], target[i], jax.random.fold_in(KEY, 2 * i + 1))
        np.testing.assert_allclose(one.x, found.x[i, 1], atol=1e-5)
        assert one.steps == found.steps[i, 1]


def test_an_unreachable_target_fails_in_data():
    found = growing_spheres(linear(np.ones(3), -100.0), jnp.full(3, 0.5), 1, KEY, steps=6, num_samples=16)
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
        growing_spheres(**{**dict(f=linear(np.ones(3)), x=-jnp.ones(3), target=1, key=KEY), **options})
