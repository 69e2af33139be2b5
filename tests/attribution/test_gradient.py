"""Gradients and their smoothed kin against closed forms and NumPy."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from jxai.attribution.gradient import gradient, input_x_gradient, smoothgrad, squaregrad, vargrad
from jxai.attribution.path import integrated_gradients

KEY = jax.random.key(0)
W = np.float32(np.random.default_rng(0).normal(size=(5, 3)))
X = np.float32([0.1, 0.9, 0.4, 0.6, 0.3])
A = np.float32(np.random.default_rng(1).normal(size=(5, 5)))


def whole(method):
    """The method compiled whole: eagerly, every operation of every test would be compiled by itself."""

    def call(f, x, target, key=None, **options):
        return np.asarray(jax.jit(lambda x: method(f, x, target, key, **options))(x))

    def of_a_row(f, x, target, key=None, **options):
        """As of a picture of one row, whose entries have one scale."""
        return call(lambda row: f(row.reshape(x.shape)), x.reshape(1, -1, 1), target, key, **options).reshape(x.shape)

    return of_a_row if "noise" in inspect.signature(method).parameters else call


PLAIN = gradient, input_x_gradient = [whole(method) for method in (gradient, input_x_gradient)]
smooth = smoothgrad
SMOOTHED = smoothgrad, squaregrad, vargrad = [whole(method) for method in (smoothgrad, squaregrad, vargrad)]


def linear(x):
    return x @ W + np.float32([1, 2, 3])


def quadratic(x):
    """Two logits, `½ xᵀ S x` and its negative, with gradient S x."""
    value = 0.5 * x @ (A + A.T) @ x
    return jnp.stack([value, -value])


def test_gradient_of_a_linear_model_is_its_weights():
    np.testing.assert_allclose(gradient(linear, X, 1), W[:, 1], rtol=1e-6)


def test_gradient_of_the_probability_follows_the_softmax():
    p = softmax(linear(X))
    expected = p[1] * (W[:, 1] - W @ p)
    np.testing.assert_allclose(gradient(linear, X, 1, score="probability"), expected, rtol=1e-4, atol=1e-6)


def test_input_x_gradient_is_complete_for_a_linear_model():
    values = input_x_gradient(linear, X, 2)
    np.testing.assert_allclose(values, X * W[:, 2], rtol=1e-6)
    np.testing.assert_allclose(values.sum(), linear(X)[2] - linear(0 * X)[2], rtol=1e-5)


def test_target_none_explains_a_scalar():
    np.testing.assert_allclose(gradient(lambda x: (x**3).sum(), X, None), 3 * X**2, rtol=1e-6)


def test_a_linear_model_stays_itself_under_smoothing():
    np.testing.assert_allclose(smoothgrad(linear, X, 0, KEY), W[:, 0], rtol=1e-5)
    np.testing.assert_allclose(squaregrad(linear, X, 0, KEY), W[:, 0] ** 2, rtol=1e-5)
    np.testing.assert_allclose(vargrad(linear, X, 0, KEY), 0, atol=1e-10)


@pytest.mark.parametrize("noise, level", [("relative", 0.3 * 0.8), ("absolute", 0.3)])
def test_moments_on_a_quadratic(noise, level):
    """The gradient of a noisy copy is N(S x, level² S²): the three methods are its moments."""
    options = dict(num_samples=20_000, sigma=0.3, noise=noise, chunk=20_000)
    matrix = np.asarray(A + A.T, np.float64)
    mean, variance = matrix @ np.asarray(X), level**2 * (matrix**2).sum(1)
    error = 5 * np.sqrt(variance / 20_000)
    assert np.all(abs(smoothgrad(quadratic, X, 0, KEY, **options) - mean) < error)
    np.testing.assert_allclose(vargrad(quadratic, X, 0, KEY, **options), variance, rtol=0.05)
    np.testing.assert_allclose(squaregrad(quadratic, X, 0, KEY, **options), mean**2 + variance, rtol=0.05)


def test_square_is_mean_squared_plus_variance_on_the_same_draws():
    smooth, square, variance = (m(quadratic, X, 1, KEY, num_samples=13, chunk=5) for m in SMOOTHED)
    np.testing.assert_allclose(square, smooth**2 + variance, rtol=1e-5)


def test_vargrad_is_the_population_variance_of_its_own_draws():
    """Every gradient is S times a noisy copy; NumPy takes their variance in float64."""
    gradients = np.asarray(_draws(23), np.float64) @ np.asarray(A + A.T, np.float64)
    values = vargrad(quadratic, X, 0, KEY, num_samples=23, chunk=4)
    np.testing.assert_allclose(values, gradients.var(0), rtol=1e-4)
    np.testing.assert_allclose(smoothgrad(quadratic, X, 0, KEY, num_samples=23, chunk=4), gradients.mean(0), rtol=1e-5)


@functools.cache
def _draws(n):
    """The noisy copies, from the documented stream: `fold_in(key, i)`, first half of its split."""
    draw = lambda i: X + 0.15 * 0.8 * jax.random.normal(jax.random.split(jax.random.fold_in(KEY, i))[0], X.shape)
    return np.asarray(jax.jit(jax.vmap(draw))(np.arange(n)))


@pytest.mark.parametrize("chunk", [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(16, marks=pytest.mark.slow), 64])
def test_variance_survives_a_mean_that_dwarfs_it(chunk):
    """Gradients near 1000 with a spread of 0.01: E[g²] − E[g]² in float32 would have no correct digit."""
    s = lambda x: (1000 * x + 0.005 * x**2).sum()
    values = vargrad(s, X, None, KEY, num_samples=50, sigma=1.0, noise="absolute", chunk=chunk)
    noise = (np.asarray(_draws(50), np.float64) - np.asarray(X)) / (0.15 * 0.8)
    exact = (0.01 * noise).var(0)
    np.testing.assert_allclose(values, exact, rtol=0.05)  # the gradients themselves are rounded to 6e-5


def test_smoothing_integrated_gradients_of_a_linear_model():
    """IG of a linear model is (x − b) ⊙ w, so its mean is that of the mean copy; the score "logit" is handed on."""
    values = smoothgrad(linear, X, 1, KEY, num_samples=9, method=integrated_gradients, method_options={"steps": 3, "baseline": 0.5})
    copies = _draws(9)
    np.testing.assert_allclose(values, W[:, 1] * (copies.mean(0) - 0.5), rtol=1e-4)


def test_a_method_explains_the_score_that_is_named_for_it_or_has_none():
    own = smoothgrad(linear, X, 1, KEY, num_samples=2, method_options={"score": "probability"})
    np.testing.assert_allclose(own, smoothgrad(linear, X, 1, KEY, num_samples=2, score="probability"), rtol=1e-5)
    assert not np.allclose(own, smoothgrad(linear, X, 1, KEY, num_samples=2), rtol=0.1)
    scoreless = lambda f, x, target, key=None: 2 * x
    np.testing.assert_allclose(smoothgrad(linear, X, 1, KEY, num_samples=9, method=scoreless), 2 * _draws(9).mean(0), rtol=1e-4)


def test_a_constant_image_gets_no_relative_noise():
    flat = np.full(5, 0.4, np.float32)
    np.testing.assert_allclose(smoothgrad(quadratic, flat, 0, KEY), gradient(quadratic, flat, 0), rtol=1e-5)


@pytest.mark.parametrize("method", SMOOTHED)
@pytest.mark.parametrize(
    "options, message",
    [
        (dict(key=None), "key=None"),
        (dict(noise="gaussian"), "noise='gaussian'"),
        (dict(sigma=-0.1), "sigma=-0.1"),
        (dict(num_samples=0), "n=0"),
        (dict(score="loss"), "score='loss'"),
        (dict(target=3), "target=3"),
        (dict(x=np.arange(5)), "floating-point"),
    ],
)
def test_bad_input(method, options, message):
    arguments = dict(x=X, target=0, key=KEY) | options
    x, target, key = (arguments.pop(name) for name in ("x", "target", "key"))
    with pytest.raises(ValueError, match=message) as error:
        method(linear, x, target, key, **arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", PLAIN)
def test_bad_input_of_the_plain_gradients(method):
    with pytest.raises(ValueError, match="target=-1"):
        method(linear, X, -1)
    with pytest.raises(ValueError, match="score='margin'"):
        method(linear, X, 0, score="margin")


def test_noise_is_in_each_features_own_scale():
    """An income beside a flag: a series' channels have ranges of their own, a vector's features must be given."""
    f = lambda x: jnp.tanh(x[..., 0] / 1e5).sum() + jnp.tanh(x[..., 1]).sum()
    row = np.float32([6e4, 0.3])
    with pytest.raises(ValueError, match=r"x of shape \(2,\) is a vector, .* give sigma=\[…\] for each feature, with noise='absolute'"):
        smooth(f, row, None, KEY)
    series = np.float32([[6e4, 0.3], [5e4, 0.2], [6e4, 0.3]])
    for x, options in ((row, {"sigma": np.float32([1e3, 0.01]), "noise": "absolute"}), (series, {})):
        found = np.asarray(jax.jit(lambda x, options=options: smooth(f, x, None, KEY, num_samples=200, **options))(x)).reshape(-1, 2)
        np.testing.assert_allclose(found[0], [(1 - np.tanh(0.6) ** 2) / 1e5, 1 - np.tanh(0.3) ** 2], rtol=0.01)
