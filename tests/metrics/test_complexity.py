"""Complexity against closed forms and independent implementations."""

import functools

import jax
import numpy as np
import pytest
from scipy import stats

from jxai.metrics import complexity
from jxai.metrics.complexity import effective_complexity, entropy, sparseness

pytestmark = pytest.mark.usefixtures("quick_compilation")

METRICS = [getattr(complexity, name) for name in complexity.__all__]
RNG = np.random.default_rng(0)
X = np.zeros((6, 5, 3), np.float32)
MAP = RNG.normal(size=(6, 5, 3)).astype(np.float32)


@functools.cache
def compiled(metric, relative):
    options = {} if relative is None else {"relative": relative}
    return jax.jit(lambda x, a, more: metric(None, x, None, a, **options, **more))


def measure(metric, a, x=X, relative=None, **more):
    """Compiled once for each shape; thresholds are data."""
    return np.asarray(compiled(metric, relative)(x, a, {name: np.float32(value) for name, value in more.items()}))


def test_gini_is_the_mean_absolute_difference():
    """The other definition: Σ_ij |v_i − v_j| / (2 n Σ v), with ties and zeros."""
    for a in (MAP, np.round(MAP), np.where(MAP > 0.5, MAP, 0)):
        v = np.abs(a.sum(-1)).ravel().astype(np.float64)
        expected = np.abs(v[:, None] - v).sum() / (2 * v.size * v.sum())
        assert np.isclose(measure(sparseness, a), expected, atol=1e-6)


def test_two_levels_have_closed_forms():
    """m of n positions share everything: Gini 1 − m/n, entropy ln m, m positions matter."""
    for m in (1, 2, 7, 29, 30):
        a = np.zeros(30, np.float32)
        a[RNG.permutation(30)[:m]] = 0.7 * RNG.choice([-1, 1], m)
        a = a.reshape(6, 5, 1)
        assert np.isclose(measure(sparseness, a), 1 - m / 30, atol=1e-6)
        assert np.isclose(measure(entropy, a), np.log(m), atol=1e-6)
        assert measure(effective_complexity, a) == m


def test_entropy_is_scipys():
    assert np.isclose(measure(entropy, MAP), stats.entropy(np.abs(MAP.sum(-1)).ravel()), atol=1e-5)


def test_effective_complexity_counts():
    v = np.abs(MAP.sum(-1))
    for eps in (0.0, 0.1, 0.5, 1.0):
        assert measure(effective_complexity, MAP, eps=eps) == (v > np.float32(eps) * v.max()).sum()
        assert measure(effective_complexity, MAP, eps=eps, relative=False) == (v > eps).sum()
    assert measure(effective_complexity, MAP, eps=100.0, relative=False) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_neither_sign_nor_scale_nor_order_nor_channels_matter(metric):
    value = measure(metric, MAP)
    for scale in (-1, 1e-30, 3e36):
        assert np.isclose(measure(metric, (MAP * np.float32(scale)).astype(np.float32)), value, rtol=1e-5)
    shuffled = RNG.permutation(MAP.reshape(30, 3)).reshape(6, 5, 3)
    assert np.isclose(measure(metric, shuffled), value, rtol=1e-5)
    assert np.isclose(measure(metric, MAP.sum(-1, keepdims=True)), value, rtol=1e-5)


@pytest.mark.parametrize("metric", METRICS)
def test_constant_maps_and_maps_that_are_not_finite(metric):
    constant = {sparseness: 0, entropy: np.log(30), effective_complexity: 30}[metric]
    zero = {sparseness: 0, entropy: np.log(30), effective_complexity: 0}[metric]
    for value in (0.3, -1e-37, 3e37):
        assert np.isclose(measure(metric, np.full((6, 5, 1), value, np.float32)), constant)
    assert np.isclose(measure(metric, np.zeros((6, 5, 1))), zero)
    for bad in (np.nan, np.inf):
        assert np.isnan(measure(metric, np.where(np.arange(5)[:, None] == 2, bad, np.ones((6, 5, 1)))))


@pytest.mark.parametrize("metric", METRICS)
def test_one_position_and_many(metric):
    one = {sparseness: 0, entropy: 0, effective_complexity: 1}[metric]
    assert measure(metric, np.ones((1, 1, 1)), np.zeros((1, 1, 3), np.float32)) == one and measure(metric, np.ones(1), np.zeros(1, np.float32)) == one
    # The exponential distribution: Gini 1/2; entropy of the shares ln n − (1 − γ); float32 sums over 40,000 positions.
    a = RNG.exponential(size=(200, 200, 1))
    v = np.sort(a.ravel())
    expected = {
        sparseness: ((2 * np.arange(1, v.size + 1) - v.size - 1) * v).sum() / (v.size * v.sum()),
        entropy: stats.entropy(v),
        effective_complexity: (v > 1e-5 * v.max()).sum(),
    }[metric]
    assert np.isclose(measure(metric, a, np.zeros((200, 200, 1), np.float32)), expected, rtol=1e-5)
    assert metric is not sparseness or abs(expected - 0.5) < 0.01


@pytest.mark.parametrize("metric", METRICS)
def test_bad_input(metric):
    for a, words in ((MAP[0], "attribution must have shape"), (MAP.astype(int), "attribution must be floating point")):
        with pytest.raises(ValueError, match=words):
            measure(metric, a)
    with pytest.raises(ValueError, match="x must be a floating-point array"):
        measure(metric, MAP, X.astype(np.uint8))


def test_bad_eps():
    for eps in (-1e-9, np.nan):
        with pytest.raises(ValueError, match="eps="):
            effective_complexity(None, X, None, MAP, eps=eps)
