"""Bounds of whole networks: those that strangers would write, and trained ones with the fast kernels of our own models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

from jxai import taps
from jxai.bounds import ball, bound
from jxai.bounds.projection import random_point
from jxai.callables import partition
from jxai.models import available

pytestmark = pytest.mark.usefixtures("quick_compilation")

QUICK = ("mlp", "framewise_cnn")
NETWORKS = [
    pytest.param(kind, name, marks=() if name in QUICK else pytest.mark.slow, id=name) for kind in ("IMAGE", "VECTOR", "VIDEO") for name in getattr(zoo, kind)
]


def hold(f, x, radius, points=64):
    """Interval and CROWN-IBP bounds of f around x: what random points and corners give lies inside, one inside the other, and not by being vast."""
    arrays, static = partition(f)
    inside = {}
    for method in ("interval", "crown_ibp"):
        bounds = jax.jit(lambda arrays, x, r, method=method: bound(static.combine(arrays), ball(x, r), method=method))
        inside[method] = bounds(arrays, x, jnp.float32(radius))
        exact = bounds(arrays, x, jnp.float32(0))
        own = jax.jit(lambda arrays, v: static.combine(arrays)(v))(arrays, x)
        for end in exact:
            assert np.allclose(end, own, rtol=2e-3, atol=2e-3 * np.abs(own).max()), method
    region, key = ball(x, radius), jax.random.key(0)
    corner = lambda k: x + radius * jnp.sign(jax.random.normal(k, x.shape))
    draw = lambda k: jnp.stack([random_point(region, k), corner(k)])
    drawn = jax.jit(lambda arrays: jax.lax.map(lambda k: jax.vmap(static.combine(arrays))(draw(k)), jax.random.split(key, points // 2)))(arrays)
    drawn = np.asarray(drawn).reshape(points, -1)
    slack = 1e-5 * np.abs(drawn).max() + 1e-6
    for method, (lower, upper) in inside.items():
        assert np.isfinite(lower).all() and np.isfinite(upper).all(), method
        assert (drawn >= lower - slack).all() and (drawn <= upper + slack).all(), method
    (low, high), (lower, upper) = inside["interval"], inside["crown_ibp"]
    assert (lower >= low - slack).all() and (upper <= high + slack).all()
    return np.asarray(high - low), np.asarray(upper - lower), np.ptp(drawn, 0)


@pytest.mark.parametrize(("kind", "name"), NETWORKS)
def test_bounds_of_strangers_networks_hold(kind, name):
    f, x = getattr(zoo, kind)[name](0), np.random.default_rng(5).uniform(size=zoo.SHAPES[kind]).astype(np.float32)
    loose, tight, sampled = hold(f, x, 1e-3)
    assert (tight >= sampled * 0.99).all() and tight.sum() <= loose.sum() * 1.0001


def built(name):
    try:
        return available()[name].build()
    except (FileNotFoundError, ImportError, ValueError) as error:
        pytest.skip(f"needs the weights of {name}: {error}")


@pytest.mark.slow
def test_bounds_of_a_trained_resnet_hold():
    f = built("cifar10_resnet20").model
    loose, tight, sampled = hold(f, jax.random.uniform(jax.random.key(1), (32, 32, 3)), 1e-5)
    # Twenty layers multiply what intervals lose, by 1e16 here, and CROWN-IBP begins from intervals: sound, tighter, and of no use at this depth.
    assert (tight >= sampled).all() and tight.mean() < 0.8 * loose.mean()


@pytest.mark.slow
def test_bounds_of_the_head_of_efficientnet_hold():
    subject = built("efficientnet_lite0")
    x = jax.random.uniform(jax.random.key(1), subject.input_shape)
    cut = taps.split(subject.model, x, None)
    assert cut.value.shape[:2] == (7, 7)
    loose, tight, sampled = hold(cut.head, cut.value, 1e-3)
    assert tight.sum() <= loose.sum() * 1.0001 and (tight >= sampled * 0.99).all()
