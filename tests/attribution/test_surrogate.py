"""LIME against scikit-learn's weighted ridge; KernelSHAP against the Shapley values of whole games."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge

from jxai.attribution.surrogate import kernel_shap, lime


def game(z):
    """A game of six players, of JAX or NumPy: three interactions, a symmetric pair (0, 1) and a dummy (5)."""
    sin = np.sin if isinstance(z, np.ndarray) else jnp.sin
    return 1 + z[0] + z[1] + 3 * z[0] * z[1] - 2 * z[2] * z[3] * z[4] + sin(z[2] + 2 * z[3]) + 0 * z[5]


def shapley_values(value, d):
    """By the definition: the weighted rises over all coalitions."""
    coalitions = list(itertools.product((0, 1), repeat=d))
    v = {z: value(np.array(z, np.float64)) for z in coalitions}
    out = np.zeros(d)
    for z, before in v.items():
        for i in range(d):
            if not z[i]:
                with_i = z[:i] + (1,) + z[i + 1 :]
                out[i] += math.factorial(sum(z)) * math.factorial(d - sum(z) - 1) / math.factorial(d) * (v[with_i] - before)
    return out


def shap_of(value, d, num_samples):
    return jax.jit(lambda key: kernel_shap(value, np.ones(d, np.float32), None, key, num_samples=num_samples, chunk=100))


def mapped(method, f, *args, **options):
    """The map of a method, compiled whole: eagerly, every operation of every test would be compiled by itself."""
    x, *rest = args
    out = np.asarray(jax.jit(lambda x: method(f, x, *rest, **options))(x))
    jax.effects_barrier()
    return out


ONES = np.ones(6, np.float32)


def recorded(value):
    """The function, and the list of all inputs it will have seen."""
    seen = []

    def f(z):
        jax.debug.callback(lambda u: seen.append(np.asarray(u, np.float64)), z)
        return value(z)

    return f, seen


KINDS = list(itertools.product(("cosine", "l2"), (None, 0.9), (1.0, 0.01)))
QUICK = ("cosine", None, 1.0), ("l2", None, 0.01), ("l2", 0.9, 1.0)


@pytest.mark.parametrize(("distance", "width", "alpha"), [pytest.param(*kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in KINDS])
def test_lime_is_a_weighted_ridge(distance, width, alpha):
    f, seen = recorded(game)
    options = dict(num_samples=80, p=0.6, distance=distance, kernel_width=width, regularization=alpha, chunk=1)
    got = mapped(lime, f, ONES, None, jax.random.key(0), **options)
    z = np.stack(seen)
    assert z.shape == (80, 6) and set(np.unique(z)) == {0.0, 1.0} and (z == 1).all(1).any()
    assert abs(z.mean() - 0.6) < 0.1
    if distance == "cosine":
        norm = np.linalg.norm(z, axis=1) * np.sqrt(6)
        gap, sigma = 1 - np.where(norm > 0, z.sum(1) / np.maximum(norm, 1e-9), 0), width or 0.25 * np.sqrt(2)
    else:
        gap, sigma = np.linalg.norm(1 - z, axis=1), width or 0.75 * np.sqrt(12)
    y = np.array([game(row) for row in z])
    truth = Ridge(alpha=alpha).fit(z, y, sample_weight=np.exp(-((gap / sigma) ** 2))).coef_
    np.testing.assert_allclose(got, truth, atol=3e-4)


@pytest.mark.parametrize("distance", ["cosine", "l2"])
def test_lime_recovers_an_additive_score_on_segments(distance):
    rng = np.random.default_rng(0)
    x, w, labels = np.float32(rng.uniform(size=(6, 6, 2))), np.float32(rng.normal(size=(6, 6, 2))), rng.integers(0, 5, (6, 6))
    options = dict(segments=labels, num_samples=200, distance=distance, regularization=0.0, fill=0.2)
    got = mapped(lime, lambda v: 7 + jnp.sum(w * v), x, None, jax.random.key(3), **options)
    part = (w * (x - 0.2)).sum(-1)
    truth = np.array([part[labels == i].sum() for i in range(5)])
    np.testing.assert_allclose(got[..., 0], truth[labels], atol=2e-4)


def test_kernel_shap_over_all_coalitions_is_the_shapley_value():
    f, seen = recorded(game)
    got = mapped(kernel_shap, f, ONES, None, num_samples=62, chunk=1)  # 2^6 − 2: no key is needed
    assert len(seen) == 64 and len(np.unique(np.stack(seen), axis=0)) == 64
    truth = shapley_values(game, 6)
    np.testing.assert_allclose(got, truth, atol=2e-5)
    np.testing.assert_allclose(got.sum(), game(ONES) - game(0 * ONES), atol=1e-5)
    np.testing.assert_allclose(got[0], got[1], atol=1e-5)
    np.testing.assert_allclose(got[5], 0, atol=1e-5)


@pytest.mark.parametrize("samples", [60, 61])
def test_sampled_kernel_shap_is_complete_and_its_samples_are_paired(samples):
    f, seen = recorded(game)
    got = mapped(kernel_shap, f, ONES, None, jax.random.key(4), num_samples=samples, chunk=1)
    z = np.stack(seen)
    assert len(z) == samples + 2
    proper = z[(z.sum(1) > 0) & (z.sum(1) < 6)]
    assert len(proper) == samples
    # Every coalition comes as often as its complement, but for one where the number is odd.
    count, mirrored = (np.bincount((rows @ 2 ** np.arange(6)).astype(int), minlength=64) for rows in (proper, 1 - proper))
    assert np.abs(count - mirrored).sum() == 2 * (samples % 2)
    np.testing.assert_allclose(got.sum(), game(ONES) - game(0 * ONES), atol=2e-5)


@pytest.mark.slow
def test_sampled_kernel_shap_converges_and_is_exact_on_an_additive_score():
    d = 12  # 4094 coalitions

    def f(z):
        return game(z[:6]) + game(z[6:]) * z[0]

    truth = shapley_values(f, d)
    keys = jax.random.split(jax.random.key(5), 6)
    many, few = (np.stack([run(k) for k in keys]) for run in (shap_of(f, d, n) for n in (1600, 160)))
    np.testing.assert_allclose(many.mean(0), truth, atol=0.08)
    assert np.abs(many - truth).mean() < 0.5 * np.abs(few - truth).mean()
    w = np.sin(np.arange(12, dtype=np.float32))
    exact = shap_of(lambda z: 3 + z @ w, d, 100)(jax.random.key(6))
    np.testing.assert_allclose(exact, w, atol=1e-4)


def test_few_samples_leave_kernel_shap_finite_and_complete():
    """Twenty coalitions of ten features rarely determine the values: the least norm keeps them small, and complete."""
    w = np.sin(np.arange(10, dtype=np.float32))
    run = shap_of(lambda z: z @ w, 10, 20)
    got = np.stack([run(k) for k in jax.random.split(jax.random.key(11), 20)])
    np.testing.assert_allclose(got.sum(1), w.sum(), atol=1e-4)
    assert np.abs(got).max() < 3


def test_sizes_are_drawn_by_the_shapley_kernel():
    f, seen = recorded(jnp.sum)
    mapped(kernel_shap, f, np.ones(8, np.float32), None, jax.random.key(7), num_samples=240, chunk=1)
    sizes = np.stack(seen).sum(1).astype(int)
    share = np.bincount(sizes, minlength=9)[1:8] / 240
    k = np.arange(1, 8)
    truth = (1 / (k * (8 - k))) / (1 / (k * (8 - k))).sum()
    np.testing.assert_allclose(share, truth, atol=5 * np.sqrt(0.25 / 120))
    assert share[0] > 1.4 * share[3]


def test_segments_and_a_single_feature():
    x, labels = np.float32(np.random.default_rng(8).uniform(size=(4, 4, 3))), np.kron([[0, 1], [2, 2]], np.ones((2, 2), int))
    got = mapped(kernel_shap, lambda v: jnp.sum(v**2), x, None, segments=labels, fill=0.5)
    part = (x**2 - 0.25).sum(-1)
    np.testing.assert_allclose(got[..., 0], np.array([part[labels == i].sum() for i in range(3)])[labels], atol=1e-4)
    np.testing.assert_allclose(mapped(kernel_shap, lambda v: v[0] ** 2, np.float32([3]), None), [9.0], rtol=1e-6)


@pytest.mark.parametrize("method", [lime, kernel_shap])
def test_targets_share_the_passes(method):
    f, seen = recorded(lambda z: jnp.stack([game(z), z.sum(), z[0]]))
    got = np.asarray(jax.jit(jax.vmap(lambda t: method(f, ONES, t, jax.random.key(9), num_samples=30, chunk=1, score="logit")))(np.arange(3)))
    jax.effects_barrier()
    assert len(seen) == (30 if method is lime else 32)
    if method is kernel_shap:
        np.testing.assert_allclose(got[1:], [[1] * 6, [1, 0, 0, 0, 0, 0]], atol=1e-4)


@pytest.mark.parametrize(
    "method, options, words",
    [
        (lime, {"key": None}, "key=None"),
        (lime, {"distance": "l1"}, "distance='l1'"),
        (lime, {"num_samples": 0}, "num_samples=0"),
        (lime, {"p": 1.2}, "p=1.2"),
        (lime, {"regularization": -1.0}, "regularization=-1.0"),
        (lime, {"kernel_width": 0.0}, "kernel_width=0.0"),
        (lime, {"grid": 9}, "grid=9"),
        (kernel_shap, {"key": None}, "key=None"),
        (kernel_shap, {"num_samples": 100}, "num_samples=100"),
        (kernel_shap, {"segments": np.zeros(3, int)}, "segments"),
    ],
)
def test_bad_options(method, options, words):
    with pytest.raises(ValueError, match=words):
        method(lambda x: x.sum((0, 1)), np.ones((8, 8, 3), np.float32), 0, **({"key": jax.random.key(0)} | options))


def test_lime_without_a_ridge_takes_the_least_weights_that_fit_few_samples():
    """Of an additive score they are the projection of its weights on what the samples span: orthogonal to what is left of the weights."""
    w = np.float32(np.random.default_rng(5).normal(size=40))
    fit = jax.jit(lambda key, alpha: lime(lambda x: x @ w, np.ones(40, np.float32), None, key, num_samples=30, regularization=alpha))
    for alpha in (0.0, 1e-4):
        found = np.asarray(fit(jax.random.key(0), alpha), np.float64)
        assert 0.5 < found @ found / (w @ w) < 0.95
        assert abs(found @ (w - found)) < 1e-3 * (w @ w)
