"""Path methods: completeness, closed forms, and an independent NumPy walk of the guided path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from jxai import fills
from jxai.attribution import adaptive_path, path
from jxai.attribution.path import RULES

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
W1 = np.float32(RNG.normal(size=(6, 8)))
W2 = np.float32(RNG.normal(size=(8, 3)))
A = np.float32(RNG.normal(size=(6, 6)))
X = np.float32(RNG.uniform(size=6))
B = np.float32(RNG.uniform(size=6))
BASELINES = np.float32(RNG.uniform(size=(7, 6)))
IMAGE = np.float32(RNG.uniform(size=(8, 9, 2)))
V = np.float32(RNG.normal(size=(8 * 9 * 2, 3)) * 0.3)


def whole(method):
    """The method compiled whole: eagerly, every operation of every test would be compiled by itself."""

    def call(f, x, target, key=None, **options):
        return np.asarray(jax.jit(lambda x: method(f, x, target, key, **options))(x))

    return call


integrated_gradients = whole(path.integrated_gradients)
expected_gradients = whole(path.expected_gradients)
gradient_shap = whole(path.gradient_shap)
blur_integrated_gradients = whole(adaptive_path.blur_integrated_gradients)
guided_integrated_gradients = whole(adaptive_path.guided_integrated_gradients)


def linear(x):
    return x @ W1[:, :3] + 1.0


def smooth(x):
    return jnp.tanh(x @ W1) @ W2


def quadratic(x):
    return 0.5 * x @ (A + A.T) @ x


def smooth_image(x):
    return jnp.tanh(x.ravel() @ V) @ W2[:3]


def test_quadrature_weights_sum_to_one_and_the_points_are_those_named():
    """On s = x⁴/4 the sum is Σ w_k α_k³; NumPy has the rules in its own words."""
    n = 8
    expected = {
        "left": np.mean((np.arange(n) / n) ** 3),
        "right": np.mean((np.arange(1, n + 1) / n) ** 3),
        "midpoint": np.mean(((np.arange(n) + 0.5) / n) ** 3),
        "trapezoid": np.trapezoid(np.linspace(0, 1, n) ** 3, dx=1 / (n - 1)),
        "gauss_legendre": 0.25,
    }
    for rule in RULES:
        value = integrated_gradients(lambda x: (x**4 / 4).sum(), np.ones(1, np.float32), None, steps=n, rule=rule)
        np.testing.assert_allclose(value, [expected[rule]], rtol=1e-6, err_msg=rule)


@pytest.mark.parametrize("rule", RULES)
def test_a_linear_model_needs_one_point(rule):
    steps = 2 if rule == "trapezoid" else 1
    values = integrated_gradients(linear, X, 2, baseline=B, steps=steps, rule=rule, score="logit")
    np.testing.assert_allclose(values, (X - B) * W1[:, 2], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule, steps", [("midpoint", 1), ("midpoint", 5), ("trapezoid", 2), ("trapezoid", 5), ("gauss_legendre", 1)])
def test_a_quadratic_is_exact(rule, steps):
    """The gradient is linear along the path, so these rules are exact: (x − b) ⊙ S (x + b) / 2."""
    values = integrated_gradients(quadratic, X, None, baseline=B, steps=steps, rule=rule)
    np.testing.assert_allclose(values, (X - B) * ((A + A.T) @ (X + B)) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("degree", [3, 7])
def test_gauss_legendre_is_exact_up_to_its_degree(degree):
    values = integrated_gradients(lambda x: (x**degree).sum(), X, None, steps=(degree + 1) // 2, rule="gauss_legendre")
    np.testing.assert_allclose(values, X**degree, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("score", ["logit", "probability"])
def test_completeness_and_each_entry_on_a_smooth_net(score):
    s = jax.jit(lambda x: jax.nn.softmax(smooth(x))[1] if score == "probability" else smooth(x)[1])
    alphas = np.float32((np.arange(4000) + 0.5) / 4000)
    slopes = jax.jit(jax.vmap(lambda a: jax.grad(s)(B + a * (X - B))))(alphas)
    exact = (X - B) * np.asarray(slopes, np.float64).mean(0)
    for rule, gap in (("midpoint", 2e-3), ("trapezoid", 3e-3), ("gauss_legendre", 2e-5)):
        values = integrated_gradients(smooth, X, 1, baseline=B, rule=rule, score=score)
        np.testing.assert_allclose(values.sum(), s(X) - s(B), atol=gap, err_msg=rule)
        np.testing.assert_allclose(values, exact, atol=gap, err_msg=rule)


def test_a_score_is_explained_as_the_function_that_it_is():
    for score, s in (
        ("logit", lambda x: smooth(x)[0]),
        ("probability", lambda x: jax.nn.softmax(smooth(x))[0]),
        ("sigmoid", lambda x: jax.nn.sigmoid(smooth(x)[0])),
    ):
        options = {} if score == "logit" else {"score": score}
        np.testing.assert_allclose(integrated_gradients(smooth, X, 0, **options), integrated_gradients(s, X, None), rtol=1e-5, atol=1e-7)


def test_the_path_runs_from_the_baseline_to_x():
    """Swapping both ends flips the sign, and a baseline equal to x gives zero."""
    forth = integrated_gradients(smooth, X, 0, baseline=B)
    back = integrated_gradients(smooth, B, 0, baseline=X)
    np.testing.assert_allclose(forth, -back, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(integrated_gradients(smooth, X, 0, baseline=X), 0)


def test_a_fill_is_a_baseline():
    start = np.broadcast_to(IMAGE.mean((0, 1)), IMAGE.shape)
    one = integrated_gradients(smooth_image, IMAGE, 0, baseline=fills.Mean(), steps=5)
    np.testing.assert_allclose(one, integrated_gradients(smooth_image, IMAGE, 0, baseline=start, steps=5), rtol=1e-4, atol=1e-7)


def test_expected_gradients_of_a_linear_model_is_complete_with_its_own_baselines():
    """With one baseline every draw is (x − b) ⊙ w, whatever α."""
    values = expected_gradients(linear, X, 1, KEY, baselines=B[None], num_samples=5)
    np.testing.assert_allclose(values, (X - B) * W1[:, 1], rtol=1e-4, atol=1e-6)


def test_expectation_on_a_quadratic():
    """Both sampled methods converge to mean_b (x − b) ⊙ S (x + b) / 2; noise on x adds sigma² S_ii / 2."""
    matrix = np.asarray(A + A.T, np.float64)
    exact = np.mean([(X - b) * (matrix @ (X + b)) / 2 for b in np.asarray(BASELINES, np.float64)], axis=0)
    options = dict(baselines=BASELINES, num_samples=20_000, chunk=20_000)
    values = expected_gradients(quadratic, X, None, KEY, **options)
    np.testing.assert_allclose(values, exact, atol=0.06)
    noisy = gradient_shap(quadratic, X, None, KEY, sigma=0.7, **options)
    np.testing.assert_allclose(noisy, exact + 0.7**2 * np.diag(matrix) / 2, atol=0.12)
    assert np.abs(0.7**2 * np.diag(matrix) / 2).max() > 0.3  # the noise term is not lost in the tolerance


def test_expected_gradients_averages_integrated_gradients_over_the_baselines():
    each = np.asarray(jax.jit(jax.vmap(lambda b: path.integrated_gradients(smooth, X, 1, baseline=b, score="logit")))(BASELINES))
    values = expected_gradients(smooth, X, 1, KEY, baselines=BASELINES, num_samples=20_000, chunk=20_000)
    np.testing.assert_allclose(values, each.mean(0), atol=0.03)


def test_gradient_shap_local_accuracy_in_expectation():
    s = jax.jit(jax.vmap(lambda x: smooth(x)[2]))
    values = gradient_shap(smooth, X, 2, KEY, baselines=BASELINES, num_samples=20_000, sigma=0.5, chunk=20_000)
    noisy = np.mean(s(np.float32(X + 0.5 * np.random.default_rng(9).normal(size=(100_000, 6)))))
    np.testing.assert_allclose(values.sum(), noisy - np.mean(s(BASELINES)), atol=0.05)


def test_gradient_shap_without_noise_is_expected_gradients():
    a = gradient_shap(smooth, X, 2, KEY, baselines=BASELINES, num_samples=9)
    np.testing.assert_array_equal(a, expected_gradients(smooth, X, 2, KEY, baselines=BASELINES, num_samples=9))


@pytest.mark.parametrize("padding, mode", [("symmetric", "reflect"), ("constant", "constant")])
def test_blur_path_of_a_linear_model_telescopes_to_scipys_blur(padding, mode):
    """For a linear score the map is w ⊙ (x − blurred x), for any number of steps; SciPy blurs."""
    blurred = ndimage.gaussian_filter(np.asarray(IMAGE), (3.0, 3.0, 0), mode=mode)
    weights = V[:, 0].reshape(IMAGE.shape)
    for steps in (1, 7):
        values = blur_integrated_gradients(lambda x: x.ravel() @ V, IMAGE, 0, max_sigma=3.0, steps=steps, padding=padding, score="logit")
        np.testing.assert_allclose(values, weights * (IMAGE - blurred), atol=1e-5)


def test_blur_path_is_complete_on_a_smooth_net():
    s = jax.jit(lambda x: jax.nn.softmax(smooth_image(x))[1])
    blurred = ndimage.gaussian_filter(IMAGE, (20.0, 20.0, 0), mode="reflect")
    total = s(IMAGE) - s(blurred)
    gaps = [abs(float(blur_integrated_gradients(smooth_image, IMAGE, 1, max_sigma=20.0, steps=n, score="probability").sum() - total)) for n in (20, 200)]
    assert abs(float(total)) > 0.01 and gaps[1] < 1e-4 and gaps[1] < gaps[0]


def test_blur_path_of_a_quadratic_is_complete_in_any_number_of_steps():
    s = lambda x: (x.ravel() @ V).dot(x.ravel() @ V)
    blurred = np.asarray(jax.jit(lambda x: fills.baseline(fills.Blur(5.0), x))(IMAGE))
    for steps in (1, 3):
        values = blur_integrated_gradients(s, IMAGE, None, max_sigma=5.0, steps=steps)
        np.testing.assert_allclose(values.sum(), s(IMAGE) - s(blurred), rtol=1e-4)


def test_blur_path_of_an_even_image_and_of_a_series():
    np.testing.assert_allclose(blur_integrated_gradients(smooth_image, np.full(IMAGE.shape, 0.5, np.float32), 0, steps=4), 0, atol=1e-6)
    blurred = ndimage.gaussian_filter(np.asarray(X), 2.0, mode="reflect")
    values = blur_integrated_gradients(lambda x: linear(x[:, 0]), X[:, None], 1, max_sigma=2.0, steps=3, score="logit")
    np.testing.assert_allclose(values[:, 0], W1[:, 1] * (X - blurred), atol=1e-5)
    with pytest.raises(ValueError, match="is a vector, .* a signal is given as"):
        blur_integrated_gradients(linear, X, 1)


def test_guided_path_of_a_linear_model_is_integrated_gradients():
    for fraction, max_dist in ((0.25, 0.02), (0.0, 1.0)):
        values = guided_integrated_gradients(linear, X, 0, baseline=B, steps=13, fraction=fraction, max_dist=max_dist, score="logit")
        np.testing.assert_allclose(values, (X - B) * W1[:, 0], rtol=1e-4, atol=1e-6)


def test_guided_path_without_freedom_is_the_left_rule():
    guided = guided_integrated_gradients(smooth, X, 1, baseline=B, steps=20, max_dist=0.0)
    straight = integrated_gradients(smooth, X, 1, baseline=B, steps=20, rule="left")
    np.testing.assert_allclose(guided, straight, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("max_dist", [0.02, 1.0])
def test_guided_path_is_complete_on_a_smooth_net(max_dist):
    s = jax.jit(lambda x: jax.nn.softmax(smooth(x))[1])
    gaps = [abs(float(guided_integrated_gradients(smooth, X, 1, steps=n, max_dist=max_dist, score="probability").sum() - (s(X) - s(0 * X)))) for n in (50, 800)]
    assert gaps[1] < 5e-3 and gaps[1] < gaps[0] / 4


@pytest.mark.parametrize("fraction, max_dist", [(0.25, 0.02), (0.1, 1.0), (0.3, 0.15)])
def test_guided_path_agrees_with_a_walk_in_numpy(fraction, max_dist):
    slope = jax.jit(jax.grad(lambda x: smooth_image(x)[1]))
    walked = _walk(lambda z: np.asarray(slope(np.float32(z)), np.float64), IMAGE, 0.3, 12, fraction, max_dist)
    values = guided_integrated_gradients(smooth_image, IMAGE, 1, baseline=0.3, steps=12, fraction=fraction, max_dist=max_dist, score="logit")
    np.testing.assert_allclose(values, walked, atol=1e-4)


def test_guided_path_moves_features_of_equal_gradient_together():
    """s = x₀x₁ + x₂ from black: the first two have gradient 0 and move as one, so each earns half of x₀x₁."""
    values = guided_integrated_gradients(lambda x: x[0] * x[1] + 5 * x[2], np.ones(3, np.float32), None, steps=300, fraction=0.0, max_dist=1.0)
    np.testing.assert_allclose(values, [0.5, 0.5, 5.0], atol=0.01)


def test_guided_path_is_differentiable():
    """d/dx of Σ a for a linear model is w, in both modes, through the order and the search for the last group."""
    total = lambda x: adaptive_path.guided_integrated_gradients(linear, x, 0, steps=5, score="logit").sum()
    backward, forward = jax.jit(lambda x: (jax.grad(total)(x), jax.jvp(total, (x,), (jnp.ones(6),))[1]))(X)
    np.testing.assert_allclose(backward, W1[:, 0], rtol=1e-4)
    np.testing.assert_allclose(forward, W1[:, 0].sum(), rtol=1e-4)


def _walk(slope, x, baseline, steps, fraction, max_dist):
    """The guided path in float64, one group after another, as the published description has it."""
    x = np.asarray(x, np.float64)
    start = np.full_like(x, baseline)
    z, total, length = start.copy(), np.zeros_like(x), np.abs(x - start).sum()
    for k in range(steps):
        g, old, alpha = slope(z), z.copy(), (k + 1) / steps
        way = lambda a: start + np.clip(a, 0, 1) * (x - start)
        low, high = way(alpha - max_dist), way(alpha + max_dist)
        z = np.where(np.abs(x - z) > np.abs(x - low) + 1e-12, low, z)
        size = np.abs(g)
        while (need := np.abs(x - z).sum() - length * (1 - alpha)) > 1e-9:
            size = np.where(np.isclose(z, high, rtol=0, atol=1e-12), np.inf, size)
            chosen = (size <= np.quantile(size, fraction, method="lower")) & np.isfinite(size)
            room = np.abs(high - z)[chosen].sum()
            z = np.where(chosen, z + min(1.0, need / room) * (high - z), z)
        total += g * (z - old)
    return total


BAD = [
    (integrated_gradients, dict(rule="simpson"), "rule='simpson'"),
    (integrated_gradients, dict(steps=0), "steps=0"),
    (integrated_gradients, dict(steps=1, rule="trapezoid"), "steps=1"),
    (integrated_gradients, dict(baseline=np.zeros(4)), "does not broadcast"),
    (integrated_gradients, dict(score="loss"), "score='loss'"),
    (expected_gradients, dict(baselines=B), "baselines must"),
    (expected_gradients, dict(baselines=BASELINES[:, :4]), "baselines must have shape"),
    (expected_gradients, dict(baselines=BASELINES[:0]), "baselines must"),
    (expected_gradients, dict(baselines=BASELINES, key=None), "expected_gradients"),
    (gradient_shap, dict(baselines=BASELINES, key=None), "gradient_shap"),
    (gradient_shap, dict(baselines=BASELINES, sigma=-1.0), "sigma=-1.0"),
    (gradient_shap, dict(baselines=BASELINES, num_samples=0), "n=0"),
    (blur_integrated_gradients, dict(max_sigma=0.0), "max_sigma=0.0"),
    (blur_integrated_gradients, dict(padding="edge"), "padding='edge'"),
    (blur_integrated_gradients, dict(steps=-3), "steps=-3"),
    (guided_integrated_gradients, dict(fraction=1.5), "fraction=1.5"),
    (guided_integrated_gradients, dict(max_dist=-0.1), "max_dist=-0.1"),
    (guided_integrated_gradients, dict(steps=2.5), "steps=2.5"),
]


@pytest.mark.parametrize("method, options, message", BAD)
def test_bad_input(method, options, message):
    options = dict(options)
    key = options.pop("key", KEY)
    with pytest.raises(ValueError, match=message) as error:
        method(smooth, X, 0, key, **options)
    assert "\n" not in str(error.value)
