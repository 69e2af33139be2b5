"""Sensitivity, Lipschitz estimates and relative stability against closed forms and plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.attribution.gradient import gradient, input_x_gradient, smoothgrad
from jxai.metrics import robustness, stability
from jxai.metrics.explaining import neighbours

pytestmark = pytest.mark.usefixtures("quick_compilation")


def whole(metric):
    """The metric compiled whole: eagerly, every operation of every test would be compiled by itself."""

    def call(f, x, target, attribution, key=None, **options):
        return jax.jit(lambda x, a: metric(f, x, target, a, key, **options))(x, attribution)

    call.__name__ = metric.__name__
    return call


METRICS = [whole(getattr(module, name)) for module in (robustness, stability) for name in module.__all__]
avg_sensitivity, local_lipschitz, max_sensitivity, *RELATIVE = METRICS
relative_input_stability, relative_output_stability, relative_representation_stability = RELATIVE
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.uniform(0.2, 0.8, 6), jnp.float32)
W = jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32)
M = jnp.asarray(RNG.normal(size=(6, 6)), jnp.float32)
HIDDEN = jnp.asarray(RNG.normal(size=(6, 5)), jnp.float32)


def linear(x):
    return x @ W


def quadratic(x):
    """The gradient of class 0 is `(M + Mᵀ) x`; class 0 is predicted everywhere."""
    value = x @ M @ x
    return jnp.stack([value, value - 1 - (x**2).sum()])


def deep(x):
    return jnp.tanh(x @ HIDDEN) @ HIDDEN.T[:, :3]


def copies(x=X, n=10, noise="uniform", radius=0.02):
    near = neighbours("test", x, KEY, noise, radius, n)
    return list(jax.jit(jax.vmap(near))(jnp.arange(n)))


@pytest.mark.parametrize("metric", METRICS)
def test_the_gradient_of_a_linear_model_stands_still(metric):
    assert metric(linear, X, 1, gradient(linear, X, 1), KEY, **({"layer": 0} if "representation" in metric.__name__ else {})) < 1e-5


@pytest.mark.parametrize("noise", ["uniform", "normal"])
def test_sensitivity_and_lipschitz_are_what_a_loop_over_the_copies_finds(noise):
    a = gradient(quadratic, X, 0)
    near = np.stack(copies(noise=noise))
    # By the closed form of the gradient.
    moved, steps = np.linalg.norm((near - np.asarray(X)) @ np.asarray(M + M.T), axis=1), np.linalg.norm(near - np.asarray(X), axis=1)
    options = dict(num_samples=10, radius=0.02, noise=noise, chunk=3)
    size = np.linalg.norm(a)
    assert np.isclose(max_sensitivity(quadratic, X, 0, a, KEY, **options), moved.max() / size, rtol=1e-4)
    assert np.isclose(avg_sensitivity(quadratic, X, 0, a, KEY, **options), moved.mean() / size, rtol=1e-4)
    assert np.isclose(local_lipschitz(quadratic, X, 0, a, KEY, **options), (moved / steps).max(), rtol=1e-4)


def test_the_lipschitz_estimate_nears_the_spectral_norm_from_below():
    a = gradient(quadratic, X, 0)
    bound = np.linalg.norm(M + M.T, 2)
    found = local_lipschitz(quadratic, X, 0, a, KEY, num_samples=3000, chunk=3000)
    assert 0.9 * bound < found <= bound * (1 + 1e-4)


def test_captums_and_quantuss_noise_lies_in_the_cube_and_fills_it():
    points = np.stack(copies(n=400, radius=0.2)) - np.asarray(X)
    assert 0.19 < abs(points).max() <= 0.2 and abs(points.mean()) < 0.01 and np.isclose(points.std(), 0.2 / np.sqrt(3), rtol=0.05)
    assert np.isclose((np.stack(copies(n=400, noise="normal", radius=0.2)) - np.asarray(X)).std(), 0.2, rtol=0.05)


def test_sensitivity_of_a_map_of_zeros_is_absolute_and_scale_does_not_matter_otherwise():
    zeros = jnp.zeros(6)
    assert np.isclose(max_sensitivity(linear, X, 0, zeros, KEY), np.linalg.norm(W[:, 0]), rtol=1e-5)
    assert max_sensitivity(lambda x: 0 * linear(x), X, 0, zeros, KEY) == 0
    tiny = lambda x: 1e-30 * quadratic(x)
    expected = max_sensitivity(quadratic, X, 0, gradient(quadratic, X, 0), KEY)
    assert np.isclose(max_sensitivity(tiny, X, 0, gradient(tiny, X, 0), KEY), expected, rtol=1e-4)


def test_with_the_key_of_the_attribution_no_sampling_error_is_measured():
    """SmoothGrad of a quadratic is `S (x + mean ε)`: with equal draws only x moves."""
    method = functools.partial(smoothgrad, num_samples=2, noise="absolute", sigma=0.5)
    a = method(quadratic, X, 0, KEY)
    options = dict(method=smoothgrad, method_options={"num_samples": 2, "noise": "absolute", "sigma": 0.5}, radius=1e-4)
    assert max_sensitivity(quadratic, X, 0, a, KEY, **options) < 1e-3 < 0.05 < max_sensitivity(quadratic, X, 0, a, jax.random.key(1), **options)


def relative(v, w, eps=1e-6):
    v, w = np.asarray(v, np.float64), np.asarray(w, np.float64)
    return np.linalg.norm((v - w) / np.where(v == 0, eps, v))


def test_relative_stability_is_what_a_loop_over_the_copies_finds():
    """Also where x and a have zeros, and the class changes for some of the copies."""
    x = X.at[2].set(0.0)
    a = input_x_gradient(deep, x, 1)
    near = copies(x, 20, "normal", 0.6)
    hidden = [np.tanh(np.asarray(v) @ np.asarray(HIDDEN)) for v in [x, *near]]
    (z, *zs), (out, *outs) = hidden, [h @ np.asarray(HIDDEN).T[:, :3] for h in hidden]
    same = [n for n in range(20) if np.argmax(outs[n]) == np.argmax(out)]
    assert 0 < len(same) < 20
    again = jax.jit(jax.vmap(lambda v: input_x_gradient(deep, v, 1)))(jnp.stack(near))
    top = [relative(a, again[n]) for n in range(20)]
    expected = {
        relative_input_stability: max(top[n] / relative(x, near[n]) for n in same),
        relative_output_stability: max(top[n] / np.linalg.norm(out - outs[n]) for n in same),
        relative_representation_stability: max(top[n] / relative(z, zs[n]) for n in same),
    }
    for metric, value in expected.items():
        options = dict(num_samples=20, radius=0.6, method=input_x_gradient, chunk=7)
        assert np.isclose(metric(deep, x, 1, a, KEY, **options), value, rtol=1e-3), metric


def test_a_floor_holds_the_denominator():
    a = gradient(quadratic, X, 0)
    top = max(relative(a, v @ (M + M.T)) for v in copies(n=5, noise="normal"))
    assert np.isclose(relative_output_stability(quadratic, X, 0, a, KEY, num_samples=5, radius=0.02, epsilon=100.0), top / 100, rtol=1e-3)


@pytest.mark.parametrize("metric", RELATIVE)
def test_without_a_copy_of_the_same_class_nothing_was_measured(metric):
    """The logit of class 0 is higher at x alone."""

    def alone(x):
        return jnp.stack([1.0 - 1e3 * ((x - X) ** 2).sum(), 0.5 + 0 * x[0]])

    options = {"layer": 0} if "representation" in metric.__name__ else {}
    assert np.isnan(metric(alone, X, 0, jnp.ones(6), KEY, num_samples=4, **options))


def test_target_none_counts_every_copy():
    s = lambda x: quadratic(x)[0]
    a = gradient(s, X, None)
    assert np.isclose(relative_input_stability(s, X, None, a, KEY), relative_input_stability(quadratic, X, 0, a, KEY), rtol=1e-5)


def test_the_representation_is_the_layer_asked_for():
    """At the output layer it is the relative change of the logits."""
    a = gradient(deep, X, 1)
    near = copies(n=6, noise="normal", radius=0.01)
    again = jax.jit(jax.vmap(lambda v: (gradient(deep, v, 1), deep(v))))(jnp.stack(near))
    expected = max(relative(a, g) / relative(deep(X), out) for g, out in zip(*again))
    assert np.isclose(relative_representation_stability(deep, X, 1, a, KEY, num_samples=6, radius=0.01, layer=2), expected, rtol=1e-3)


@pytest.mark.parametrize("metric", METRICS)
def test_one_class_one_feature_and_half_precision(metric):
    f = lambda x: (x.astype(jnp.float32) ** 3).sum(keepdims=True)
    x = jnp.asarray([0.5], jnp.float16)
    options = {"layer": 0} if "representation" in metric.__name__ else {}
    value = metric(f, x, 0, gradient(f, x, 0), KEY, **options)
    assert np.isfinite(value) and value > 0 and value.dtype == jnp.float32


@pytest.mark.parametrize("metric", METRICS)
def test_nan_in_nan_out_and_bad_arguments(metric):
    f, a = deep, gradient(deep, X, 1)
    run = functools.partial(metric, num_samples=2)
    assert np.isnan(run(f, X, 1, a.at[0].set(jnp.nan), KEY))
    for named, arguments, options in [
        ("key=None", (f, X, 1, a), {}),
        ("attribution must have the shape of what method=gradient returns", (lambda v: f(v.ravel()[:6]), X[:, None], 1, a[:, None][:1], KEY), {}),
        ("attribution must have shape", (f, X, 1, a[:3], KEY), {}),
        ("noise='gauss'", (f, X, 1, a, KEY), {"noise": "gauss"}),
        ("radius=0.0", (f, X, 1, a, KEY), {"radius": 0.0}),
        ("num_samples=0", (f, X, 1, a, KEY), {"num_samples": 0}),
        ("target=5", (f, X, 5, a, KEY), {}),
    ]:
        with pytest.raises(ValueError, match=named) as error:
            run(*arguments, **options)
        assert "\n" not in str(error.value)
    if metric in RELATIVE:
        with pytest.raises(ValueError, match="epsilon=0"):
            run(f, X, 1, a, KEY, epsilon=0)
