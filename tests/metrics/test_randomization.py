"""Randomisation tests: which weights become which, against loops that replace them by hand, and what published sanity checks found."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jxai import each
from jxai.attribution.gradient import gradient, input_x_gradient
from jxai.metrics import parameters, randomization
from jxai.metrics.compare import kendall, pearson, spearman, ssim, top_k_overlap
from jxai.tracing.interpret import trace

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY, SHARED = jax.random.key(0), jax.random.key(1)
RNG = np.random.default_rng(0)
X = RNG.uniform(size=7).astype(np.float32)


@functools.cache
def compiled(metric, target, options):
    return jax.jit(lambda f, x, a, key, arrays: metric(f, x, target, a, key, **dict(options), **arrays))


def whole(metric):
    """The metric compiled whole, and once for each set of options: eagerly, every operation of every test would be compiled by itself."""

    def call(f, x, target, attribution, key=None, **options):
        if metric is randomization.smooth_parameter_randomization:  # of a vector, the noise of each feature in its own unit
            options["sigma"] = jnp.asarray(np.full(np.shape(x), options.get("sigma", 0.1) * np.ptp(X), np.float32))
        arrays = {name: options.pop(name) for name in list(options) if isinstance(options[name], jax.Array)}
        return jax.tree.map(
            np.asarray,
            compiled(metric, target, tuple(sorted({"method": gradient, **options}.items(), key=lambda item: item[0])))(f, x, attribution, key, arrays),
        )

    return call


METRICS = [whole(getattr(randomization, name)) for name in randomization.__all__]
efficient_parameter_randomization, parameter_randomization, random_logit, smooth_parameter_randomization = METRICS
CURVES = [parameter_randomization, smooth_parameter_randomization]


def forward(weights, x):
    """The last layer is named first, and block10 sorts before block2."""
    x = jnp.tanh(x @ weights["first"]["kernel"] + weights["first"]["bias"])
    for n in (2, 10):
        x = jnp.tanh(x @ weights[f"block{n}"]["kernel"] * jax.lax.rsqrt(weights[f"block{n}"]["variance"]))
    return x @ weights["classifier"]["kernel"]


def network():
    rng = np.random.default_rng(0)
    weights = {"first": {"kernel": rng.normal(size=(7, 6)), "bias": rng.normal(size=6)}, "classifier": {"kernel": rng.normal(size=(6, 4))}}
    for n in (2, 10):
        weights[f"block{n}"] = {"kernel": rng.normal(size=(6, 6)), "variance": rng.uniform(0.5, 2, 6)}
    weights = jax.tree.map(lambda w: jnp.asarray(np.float32(w)), weights)
    weights["steps"], weights["key"], weights["unused"] = jnp.int32(3), jax.random.key(9), jnp.asarray(np.ones(5, np.float32))
    return jax.tree_util.Partial(forward, weights)


F = network()
jitted_gradient = jax.jit(lambda f, x: gradient(f, x, 1))
A = np.asarray(jitted_gradient(F, X))
SMALL = jax.tree_util.Partial(lambda weights, x: x @ weights["kernel"], {"kernel": np.random.default_rng(3).normal(size=(7, 4)).astype(np.float32)})
"""One layer, where more would say no more: each random weight is a sort to compile."""
B = np.asarray(jitted_gradient(SMALL, X))


def names(f, x):
    all_names = trace(f, x).names
    return [[all_names[n] for n in group] for group in parameters.layers(f, x)]


@functools.partial(jax.jit, static_argnums=(3,))
def chosen(f, key, done, randomize="permutation"):
    """f with random weights in the layers `done`."""
    x = np.ones(60, np.float32) if "a" in f.args[0] else X
    groups = parameters.layers(f, x)
    return parameters.randomized(f, groups, key, randomize)(jnp.isin(jnp.arange(len(groups)), jnp.asarray(done)))


@functools.cache
def by_hand(f, *done):
    """The gradient with random weights in these layers, padded by repetition so that it compiles once."""
    return np.asarray(jitted_gradient(chosen(f, SHARED, np.asarray((done * 4)[:4])), X))


def test_layers_come_in_order_of_use_without_integers_keys_and_what_is_unused():
    found = names(F, X)
    assert [set(group) for group in found] == [
        {"first.kernel", "first.bias"},
        {"block2.kernel", "block2.variance"},
        {"block10.kernel", "block10.variance"},
        {"classifier.kernel"},
    ]


def test_a_cast_of_all_weights_at_the_start_is_not_their_use():
    kernels = {name: w for name, w in F.args[0].items() if name != "key"}
    cast = jax.tree_util.Partial(lambda weights, x: forward(jax.tree.map(lambda w: w * 2, weights), x), kernels)
    assert [group[0].split(".")[0] for group in names(cast, X)] == ["first", "block2", "block10", "classifier"]


@pytest.mark.parametrize("randomize", parameters.RANDOMIZERS)
def test_random_weights_keep_what_they_should(randomize):
    big = {name: {"w": jnp.asarray(RNG.gamma(2, size=(50, 60)), dtype)} for name, dtype in (("a", jnp.float32), ("b", jnp.float16))}
    f = jax.tree_util.Partial(lambda w, x: (w["a"]["w"] * w["b"]["w"] * x).sum(0), big)
    fresh = jax.tree.map(np.asarray, chosen(f, KEY, np.array([0, 1]), randomize).args[0])
    for name in big:
        old, new = np.float64(big[name]["w"]), np.float64(fresh[name]["w"])
        assert new.shape == old.shape and fresh[name]["w"].dtype == big[name]["w"].dtype
        assert (old == new).mean() < 0.05 and abs(np.corrcoef(old.ravel(), new.ravel())[0, 1]) < 0.1
        assert np.isclose(new.mean(), old.mean(), rtol=0.1) and np.isclose(new.std(), old.std(), rtol=0.1)
        if randomize == "permutation":
            np.testing.assert_array_equal(np.sort(old, None), np.sort(new, None))
        else:
            assert stats.kstest((new.ravel() - old.mean()) / old.std(), "norm").pvalue > 1e-3
    one = chosen(f, KEY, np.array([1, 1]), randomize).args[0]
    np.testing.assert_array_equal(one["a"]["w"], big["a"]["w"])
    np.testing.assert_array_equal(one["b"]["w"], fresh["b"]["w"])


def test_leaves_of_one_size_change_apart():
    same = np.arange(60, dtype=np.float32)
    f = jax.tree_util.Partial(lambda w, x: (w["a"]["w"] + w["b"]["w"]) * x, {"a": {"w": same}, "b": {"w": same}})
    fresh = chosen(f, KEY, np.array([0, 1])).args[0]
    assert not np.array_equal(fresh["a"]["w"], fresh["b"]["w"])


def test_variances_stay_positive():
    fresh = chosen(F, KEY, np.arange(4)).args[0]
    assert all((np.asarray(fresh[f"block{n}"]["variance"]) > 0).all() for n in (2, 10)) and fresh["steps"] == 3


@pytest.mark.parametrize(
    "order, direction",
    [
        ("cascading", "bottom_up"),
        ("independent", "top_down"),
        pytest.param("cascading", "top_down", marks=pytest.mark.slow),
        pytest.param("independent", "bottom_up", marks=pytest.mark.slow),
    ],
)
def test_curves_are_what_replacing_layers_by_hand_gives(order, direction):
    sequence = range(4) if direction == "bottom_up" else range(3, -1, -1)
    expected = []
    for step, layer in enumerate(sequence):
        done = list(sequence)[: step + 1] if order == "cascading" else [layer]
        expected.append(stats.spearmanr(np.abs(A), np.abs(by_hand(F, *done))).statistic)
    found = parameter_randomization(F, X, 1, A, weights_key=SHARED, order=order, direction=direction, absolute=True)
    assert np.isfinite(found.y).all()
    np.testing.assert_allclose(found.y, expected, atol=1e-5)
    np.testing.assert_allclose(found.x, np.arange(1, 5) / 4)
    np.testing.assert_allclose(found.auc, np.trapezoid(expected, found.x) / 0.75, atol=1e-5)


@pytest.mark.parametrize("name, fn", [("spearman", spearman), ("pearson", pearson), ("kendall", kendall), ("ssim", ssim), ("top_k_overlap", top_k_overlap)])
def test_similarities_by_name_are_the_functions(name, fn):
    both = jax.jit(lambda f, a: [randomization.random_logit(f, X, 1, a, KEY, similarity=similarity, method=gradient) for similarity in (name, fn)])
    found = np.asarray(both(F, A))
    assert np.isclose(*found, atol=1e-6) and np.isfinite(found[0])


def test_a_method_that_does_not_see_the_weights_fails_and_reversed_maps_score_the_reverse():
    blind = lambda f, x, target, key=None: x
    for metric in CURVES:
        kept = metric(SMALL, X, 1, X, KEY, method=blind, **({"sigma": 0.0, "num_samples": 2} if metric is smooth_parameter_randomization else {}))
        np.testing.assert_allclose(kept.y, 1, atol=1e-6)
    assert np.isclose(random_logit(SMALL, X, 1, X, KEY, method=blind), 1) and efficient_parameter_randomization(SMALL, X, 1, X, KEY, method=blind) == 0
    np.testing.assert_allclose(parameter_randomization(SMALL, X, 1, -B, KEY).y, -parameter_randomization(SMALL, X, 1, B, KEY).y, atol=1e-6)


def two_layers():
    """A linear network, and its gradient."""
    weights = {name: {"k": RNG.normal(size=size).astype(np.float32)} for name, size in (("first", (7, 5)), ("last", (5, 3)))}
    f = jax.tree_util.Partial(lambda w, x: x @ w["first"]["k"] @ w["last"]["k"], weights)
    a = np.asarray(jitted_gradient(f, X))
    return f, a


@pytest.mark.slow
def test_the_gradient_of_a_linear_network_does_not_feel_the_noise():
    f, a = two_layers()
    plain = parameter_randomization(f, X, 1, a, KEY, direction="bottom_up")
    np.testing.assert_allclose(smooth_parameter_randomization(f, X, 1, a, KEY, num_samples=5).y, plain.y, atol=1e-5)


def test_smooth_averages_both_sides_over_the_same_noise():
    """With much noise, input × gradient of a linear network is (x + mean noise) × gradient."""
    f, a = two_layers()
    options = dict(method=input_x_gradient, weights_key=SHARED, similarity="pearson")
    near = randomization.neighbours("test", X, KEY, "normal", 2.0 * (X.max() - X.min()), 5)
    mean = np.asarray(jax.jit(jax.vmap(near))(np.arange(5))).mean(0)
    expected = parameter_randomization(f, mean, 1, mean * a, direction="bottom_up", **options)
    found = smooth_parameter_randomization(f, X, 1, a, KEY, num_samples=5, sigma=2.0, chunk=2, **options)
    np.testing.assert_allclose(found.y, expected.y, atol=1e-4)


@pytest.mark.parametrize("bins, count", [(100, 100), pytest.param(9, 9, marks=pytest.mark.slow), ("square_root", 3), ("sturges", 4), ("rice", 4)])
def test_efficient_is_the_rise_of_the_histograms_entropy(bins, count):
    before, after = (stats.entropy(np.histogram(v, count)[0], base=2) for v in (B, by_hand(SMALL, 0)))
    assert np.isclose(efficient_parameter_randomization(SMALL, X, 1, B, bins=bins, weights_key=SHARED), (after - before) / before, atol=1e-5)
    flat = efficient_parameter_randomization(SMALL, X, 1, np.ones(7, np.float32), bins=bins, weights_key=SHARED)
    assert np.isclose(flat, after, atol=1e-5)


def test_random_logit_takes_any_other_class_and_never_the_target():
    f = lambda x: jnp.stack([x[0], x[1], x[2], x[3]])
    found = jax.jit(
        jax.vmap(
            lambda x, key: randomization.random_logit(
                f, x, 2, gradient(f, x, 2), key, method=gradient, similarity=lambda a, b: jnp.argmax(b).astype(jnp.float32)
            ),
            (None, 0),
        )
    )(X, jax.random.split(KEY, 300))
    values, counts = np.unique(found, return_counts=True)
    assert values.tolist() == [0, 1, 3] and counts.min() > 70
    out = jax.jit(lambda t: randomization.random_logit(f, X, t, A, KEY, method=gradient))
    assert np.isnan(out(4)) and np.isnan(out(-1)) and np.isfinite(out(3))


def test_one_weights_key_is_one_set_of_networks_for_a_batch():
    run = functools.partial(each, randomization.parameter_randomization, SMALL, np.stack([X, X]), np.array([1, 1]), np.stack([B, B]), key=KEY, method=gradient)
    shared, own = np.asarray(run(weights_key=SHARED).y), np.asarray(run().y)
    np.testing.assert_allclose(shared[0], shared[1], atol=1e-6)
    np.testing.assert_allclose(shared[0], parameter_randomization(SMALL, X, 1, B, weights_key=SHARED).y, atol=1e-5)
    assert not np.allclose(own[0], own[1])


def test_constant_and_spoilt_maps():
    flat, spoilt = np.ones(7, np.float32), np.where(np.arange(7) == 2, np.inf, B)
    for metric in METRICS:
        rest = {"num_samples": 2} if metric is smooth_parameter_randomization else {}
        kept, nan = (metric(SMALL, X, 1, a, KEY, **rest) for a in (flat, spoilt))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(kept))
        assert np.isnan(getattr(nan, "y", nan)).all() and np.isnan(getattr(nan, "auc", nan))
    assert (parameter_randomization(SMALL, X, 1, flat, KEY).y == 0).all()


def test_one_layer_and_a_single_pixel():
    f = jax.tree_util.Partial(lambda w, x: x.ravel() @ w, RNG.normal(size=(1, 3)).astype(np.float32))
    x = np.full((1, 1, 1), 0.5, jnp.bfloat16)
    curve = parameter_randomization(f, x, 1, jitted_gradient(f, x), KEY, similarity="ssim")
    assert curve.y.shape == (1,) and curve.x[0] == 1 and curve.auc == curve.y[0] and np.isfinite(curve.auc)


def test_bad_arguments_are_named():
    for metric in METRICS:
        for named, arguments, options in [
            ("key=None", (F, X, 1, A), {}),
            ("method=None must be the method that made this attribution", (F, X, 1, A, KEY), {"method": None}),
            ("target=4", (F, X, 4, A, KEY), {}),
            ("attribution must have shape", (F, X, 1, A[:3], KEY), {}),
            ("x must be", (F, np.arange(7), 1, A, KEY), {}),
        ]:
            with pytest.raises(ValueError, match=named) as error:
                metric(*arguments, **options)
            assert "\n" not in str(error.value)
    for metric in (parameter_randomization, smooth_parameter_randomization, efficient_parameter_randomization):
        with pytest.raises(ValueError, match="f=Partial has no weights"):
            metric(jax.tree_util.Partial(lambda x: x[:4]), X, 1, A, KEY)
    for option in ("order", "direction", "randomize", "similarity"):
        with pytest.raises(ValueError, match=f"{option}='none' must be one of"):
            parameter_randomization(F, X, 1, A, KEY, **{option: "none"})
    for bad in (0, "scott"):
        with pytest.raises(ValueError, match=f"bins={bad!r}"):
            efficient_parameter_randomization(F, X, 1, A, KEY, bins=bad)
    for named, call in (
        ("num_samples=0", lambda: smooth_parameter_randomization(F, X, 1, A, KEY, num_samples=0)),
        ("two classes or more", lambda: randomization.random_logit(lambda v: v[:1], X, 0, A, KEY, method=gradient)),
        ("target=None", lambda: randomization.random_logit(lambda v: v[0], X, None, A, KEY, method=gradient)),
    ):
        with pytest.raises(ValueError, match=named):
            call()
