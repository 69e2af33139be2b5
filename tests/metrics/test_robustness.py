"""Sensitivity, Lipschitz estimates and relative stability against closed forms and plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai.attribution.gradient import gradient, input_x_gradient, smoothgrad
from jxai.metrics import robustness, stability
from jxai.metrics.explaining import neighbours

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def compiled(metric, target, options):
    return jax.jit(lambda f, x, a, key: metric(f, x, target, a, key, **dict(options)))


PICTURES = {"max_sensitivity": 0.02, "avg_sensitivity": 0.02, "local_lipschitz": 0.1}


def whole(metric):
    """The metric compiled whole, and once for each set of options: models and keys are data."""

    def call(f, x, target, attribution, key=None, **options):
        f = f if isinstance(f, Partial) else Partial(f)
        options = {"method": gradient, "radius": PICTURES.get(metric.__name__, 0.05)} | options  # vectors have no default
        return np.asarray(compiled(metric, target, tuple(sorted(options.items(), key=lambda item: item[0])))(f, x, attribution, key))

    call.__name__ = metric.__name__
    return call


METRICS = [whole(getattr(module, name)) for module in (robustness, stability) for name in module.__all__]
avg_sensitivity, local_lipschitz, max_sensitivity, *RELATIVE = METRICS
relative_input_stability, relative_output_stability, relative_representation_stability = RELATIVE
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 0.8, 6).astype(np.float32)
W = RNG.normal(size=(6, 3)).astype(np.float32)
M = RNG.normal(size=(6, 6)).astype(np.float32)
HIDDEN = RNG.normal(size=(6, 5)).astype(np.float32)


def _linear(w, x):
    return x @ w


def linear(w=W):
    return Partial(_linear, w)


def _quadratic(m, scale, x):
    value = x @ m @ x
    return scale * jnp.stack([value, value - 1 - (x**2).sum()])


def quadratic(scale=1.0):
    """The gradient of class 0 is `(M + Mᵀ) x`; class 0 is predicted everywhere."""
    return Partial(_quadratic, M, np.float32(scale))


def slope(x=X):
    return (M + M.T) @ x


@Partial
def deep(x):
    return jnp.tanh(x @ HIDDEN) @ HIDDEN.T[:, :3]


@functools.cache
def explained(method, target):
    """The method and the logits at many points: one program for each class."""
    return jax.jit(jax.vmap(lambda f, x: (method(f, x, target), f(x)), (None, 0)))


def copies(x=X, n=10, noise="uniform", radius=0.02):
    return np.asarray(jax.jit(lambda x: jax.vmap(neighbours("test", x, KEY, noise, radius, n))(np.arange(n)))(x))


@pytest.mark.parametrize("metric", METRICS)
def test_the_gradient_of_a_linear_model_stands_still(metric):
    assert metric(linear(), X, 1, W[:, 1], KEY, **({"layer": 0} if "representation" in metric.__name__ else {})) < 1e-5


def test_a_radius_is_that_of_pictures_or_each_features_own():
    names = [getattr(module, name) for module in (robustness, stability) for name in module.__all__]
    for metric in names:
        with pytest.raises(ValueError, match=r"radius=None is 0\.\d+ for pictures; .* \(6,\) have units of their own"):
            metric(linear(), X, 1, W[:, 1], KEY, method=gradient)
    # Units: what moves by the same share of its own scale moves the map by the same share.
    units = np.float32([1, 1e3, 1, 1, 1e-3, 1])
    scaled = lambda x: _quadratic(M, np.float32(1), x / units)
    change = lambda f, x, a, radius: np.asarray(jax.jit(lambda x, a: robustness.max_sensitivity(f, x, 0, a, KEY, radius=radius, method=input_x_gradient))(x, a))
    assert np.isclose(change(scaled, X * units, X * slope(), 0.02 * units), change(quadratic(), X, X * slope(), 0.02), rtol=1e-3)


@pytest.mark.parametrize("noise", ["uniform", pytest.param("normal", marks=pytest.mark.slow)])
def test_sensitivity_and_lipschitz_are_what_a_loop_over_the_copies_finds(noise):
    a, near = slope(), copies(noise=noise)
    # By the closed form of the gradient.
    moved, steps = np.linalg.norm((near - X) @ (M + M.T), axis=1), np.linalg.norm(near - X, axis=1)
    options = dict(num_samples=10, radius=0.02, noise=noise, chunk=3)
    size = np.linalg.norm(a)
    assert np.isclose(max_sensitivity(quadratic(), X, 0, a, KEY, **options), moved.max() / size, rtol=1e-4)
    assert np.isclose(avg_sensitivity(quadratic(), X, 0, a, KEY, **options), moved.mean() / size, rtol=1e-4)
    assert np.isclose(local_lipschitz(quadratic(), X, 0, a, KEY, **options), (moved / steps).max(), rtol=1e-4)


def test_the_lipschitz_estimate_nears_the_spectral_norm_from_below():
    a = slope()
    bound = np.linalg.norm(M + M.T, 2)
    found = local_lipschitz(quadratic(), X, 0, a, KEY, num_samples=3000, chunk=3000)
    assert 0.9 * bound < found <= bound * (1 + 1e-4)


def test_captums_and_quantuss_noise_lies_in_the_cube_and_fills_it():
    points = copies(n=400, radius=0.2) - X
    assert 0.19 < abs(points).max() <= 0.2 and abs(points.mean()) < 0.01 and np.isclose(points.std(), 0.2 / np.sqrt(3), rtol=0.05)
    assert np.isclose((copies(n=400, noise="normal", radius=0.2) - X).std(), 0.2, rtol=0.05)


def test_sensitivity_of_a_map_of_zeros_is_absolute_and_scale_does_not_matter_otherwise():
    zeros = np.zeros(6, np.float32)
    assert np.isclose(max_sensitivity(linear(), X, 0, zeros, KEY), np.linalg.norm(W[:, 0]), rtol=1e-5)
    assert max_sensitivity(linear(0 * W), X, 0, zeros, KEY) == 0
    expected = max_sensitivity(quadratic(), X, 0, slope(), KEY)
    tiny = np.float32(1e-30)
    assert np.isclose(max_sensitivity(quadratic(tiny), X, 0, tiny * slope(), KEY), expected, rtol=1e-4)


def test_with_the_key_of_the_attribution_no_sampling_error_is_measured():
    """SmoothGrad of a quadratic is `S (x + mean ε)`: with equal draws only x moves."""
    options = {"num_samples": 2, "noise": "absolute", "sigma": 0.5}

    @jax.jit
    def sensitivity(x, key):
        a = smoothgrad(quadratic(), x, 0, KEY, **options)
        return robustness.max_sensitivity(quadratic(), x, 0, a, key, method=smoothgrad, method_options=options, radius=1e-4)

    assert sensitivity(X, KEY) < 1e-3 < 0.05 < sensitivity(X, jax.random.key(1))


def relative(v, w, eps=1e-6):
    v, w = np.asarray(v, np.float64), np.asarray(w, np.float64)
    return np.linalg.norm((v - w) / np.where(v == 0, eps, v))


def test_relative_stability_is_what_a_loop_over_the_copies_finds():
    """Also where x and a have zeros, and the class changes for some of the copies."""
    x = np.where(np.arange(6) == 2, 0, X)
    near = copies(x, 20, "normal", 0.6)
    hidden = [np.tanh(v @ HIDDEN) for v in [x, *near]]
    (z, *zs), (out, *outs) = hidden, [h @ HIDDEN.T[:, :3] for h in hidden]
    same = [n for n in range(20) if np.argmax(outs[n]) == np.argmax(out)]
    assert 0 < len(same) < 20
    a, *again = np.asarray(explained(input_x_gradient, 1)(deep, np.stack([x, *near]))[0])
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
    a = slope()
    top = max(relative(a, v @ (M + M.T)) for v in copies(n=5, noise="normal"))
    assert np.isclose(relative_output_stability(quadratic(), X, 0, a, KEY, num_samples=5, radius=0.02, epsilon=100.0), top / 100, rtol=1e-3)


@pytest.mark.parametrize("metric", RELATIVE)
def test_without_a_copy_of_the_same_class_nothing_was_measured(metric):
    """The logit of class 0 is higher at x alone."""

    def alone(x):
        return jnp.stack([1.0 - 1e3 * ((x - X) ** 2).sum(), 0.5 + 0 * x[0]])

    options = {"layer": 0} if "representation" in metric.__name__ else {}
    assert np.isnan(metric(alone, X, 0, np.ones(6, np.float32), KEY, num_samples=4, **options))


def test_target_none_counts_every_copy():
    s, a = Partial(lambda f, x: f(x)[0], quadratic()), slope()
    assert np.isclose(relative_input_stability(s, X, None, a, KEY), relative_input_stability(quadratic(), X, 0, a, KEY), rtol=1e-5)


def test_the_representation_is_the_layer_asked_for():
    """At the output layer it is the relative change of the logits."""
    near = copies(n=6, noise="normal", radius=0.01)
    (a, *again), (at_x, *outs) = map(np.asarray, explained(gradient, 1)(deep, np.stack([X, *near])))
    expected = max(relative(a, g) / relative(at_x, out) for g, out in zip(again, outs))
    assert np.isclose(relative_representation_stability(deep, X, 1, a, KEY, num_samples=6, radius=0.01, layer=2), expected, rtol=1e-3)


@pytest.mark.parametrize(
    "metric", [pytest.param(metric, marks=() if metric in (max_sensitivity, relative_output_stability) else pytest.mark.slow) for metric in METRICS]
)
def test_one_class_one_feature_and_half_precision(metric):
    f = lambda x: (x.astype(jnp.float32) ** 3).sum(keepdims=True)
    x = np.float16([0.5])
    options = {"layer": 0} if "representation" in metric.__name__ else {}
    value = metric(f, x, 0, np.float16([0.75]), KEY, **options)
    assert np.isfinite(value) and value > 0 and value.dtype == jnp.float32


def test_nan_in_nan_out():
    options = [{"layer": 0} if "representation" in name else {} for module in (robustness, stability) for name in module.__all__]
    names = [getattr(module, name) for module in (robustness, stability) for name in module.__all__]
    all_of = jax.jit(lambda a: [metric(deep, X, 1, a, KEY, num_samples=2, radius=0.02, method=gradient, **own) for metric, own in zip(names, options)])
    assert np.isnan(all_of(np.where(np.arange(6) == 0, np.nan, X))).all() and np.isfinite(all_of(X)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_bad_arguments(metric):
    f, a = deep, X
    layer = {"layer": 0} if "representation" in metric.__name__ else {}
    run = functools.partial(metric, num_samples=2, **layer)
    for named, arguments, options in [
        ("key=None", (f, X, 1, a), {}),
        ("method=None must be the method that made this attribution", (f, X, 1, a, KEY), {"method": None}),
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
