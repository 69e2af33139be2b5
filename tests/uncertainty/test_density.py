"""Gaussian densities: against scipy and scikit-learn, and what happens where a covariance is singular."""

from __future__ import annotations

import functools

import chex
import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats

from jxai.uncertainty import GaussianDensity, fit_gaussian_density

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 200)
MIX = 0.5 * RNG.normal(size=(3, 4, 4)) + 2 * np.eye(4)
FEATURES = (np.einsum("nij,nj->ni", MIX[LABELS], RNG.normal(size=(200, 4))) + LABELS[:, None]).astype(np.float32)
LOGITS = RNG.normal(size=(200, 3)).astype(np.float32)


DENSITY = functools.cache(lambda: fit_gaussian_density(FEATURES, LOGITS, LABELS))


@jax.jit
def measured(density, points):
    """The log-densities of each point by class, with the classes' shares and without, and the slope of the marginal."""
    marginals = [jax.vmap(lambda h, prior=prior: density.marginal(h, prior=prior))(points) for prior in (True, False)]
    return jax.vmap(density.log_prob)(points), *marginals, jax.vmap(jax.grad(density.marginal))(points)


def test_log_densities_are_scipys():
    density = DENSITY()
    points = RNG.normal(1, 2, (5, 4)).astype(np.float32)
    groups = [FEATURES[LABELS == c].astype(np.float64) for c in range(3)]
    truth = np.stack([scipy.stats.multivariate_normal(g.mean(0), np.cov(g.T, bias=True)).logpdf(points) for g in groups], 1)
    by_class, marginal, equal, _ = measured(density, points)
    np.testing.assert_allclose(by_class, truth, rtol=1e-4, atol=1e-3)
    shares = np.log(np.bincount(LABELS) / 200)
    np.testing.assert_allclose(density.log_prior, shares, rtol=1e-5)
    np.testing.assert_allclose(marginal, scipy.special.logsumexp(truth + shares, 1), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(equal, scipy.special.logsumexp(truth, 1), rtol=1e-4, atol=1e-3)


def test_classes_follow_quadratic_discriminant_analysis():
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    theirs = discriminant.QuadraticDiscriminantAnalysis().fit(FEATURES, LABELS)
    density = DENSITY()
    ours = scipy.special.softmax(np.asarray(measured(density, FEATURES)[0]) + density.log_prior, 1)
    # Releases differ in whether a covariance divides by n or by n − 1.
    np.testing.assert_allclose(ours, theirs.predict_proba(FEATURES), atol=0.03)
    assert (ours.argmax(1) == theirs.predict(FEATURES)).mean() > 0.98


def test_features_of_any_shape_and_under_jit():
    density = fit_gaussian_density(FEATURES.reshape(200, 2, 2, 1), LOGITS, LABELS)
    traced = jax.jit(lambda h, labels: fit_gaussian_density(h, None, labels, num_classes=3))(FEATURES, LABELS)
    chex.assert_trees_all_close(density, traced, rtol=1e-4, atol=1e-5)
    of_image, of_vector = jax.jit(lambda a, b, h: (a.log_prob(h.reshape(2, 2, 1)), b.log_prob(h)))(density, traced, FEATURES[0])
    np.testing.assert_allclose(of_image, of_vector, rtol=1e-4)


@jax.jit
def within_and_outside(h, labels, scale):
    density = fit_gaussian_density(h, None, labels, num_classes=3)
    return jax.vmap(density.log_prob)(h), density.log_prob(h[0] + scale * np.eye(6, dtype=np.float32)[5])


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_a_singular_covariance_gets_jitter_in_proportion(scale):
    h = np.concatenate([FEATURES, FEATURES[:, :1] + FEATURES[:, 1:2], np.zeros((200, 1), np.float32)], 1) * np.float32(scale)
    values, outside = map(np.asarray, within_and_outside(h, LABELS, np.float32(scale)))
    assert np.isfinite(values).all()
    # log N moves by −6 log scale with the units, and the classes' differences not at all.
    reference = np.asarray(within_and_outside(h / np.float32(scale), LABELS, np.float32(1))[0])
    np.testing.assert_allclose(values + 6 * np.log(scale), reference, rtol=2e-2, atol=5e-2)
    assert (outside < values[0] - 100).all()


def test_fewer_examples_than_features_and_equal_ones():
    def at_zero(h, labels):
        density = fit_gaussian_density(h, None, labels, num_classes=2)
        return density, density.log_prob(np.zeros(h.shape[1], np.float32))

    few, same = RNG.normal(size=(6, 20)).astype(np.float32), np.ones((4, 3), np.float32)
    (_, of_few), (density, of_same) = jax.jit(lambda a, b: (at_zero(a, np.asarray([0, 0, 0, 1, 1, 1])), at_zero(b, np.asarray([0, 0, 1, 1]))))(few, same)
    assert np.isfinite(of_few).all() and np.isfinite(of_same).all()
    np.testing.assert_array_equal(density.mean, 1)


def test_a_class_without_examples_has_density_zero_under_a_trace():
    density = jax.jit(lambda h, labels: fit_gaussian_density(h, None, labels, num_classes=4))(FEATURES, LABELS)
    by_class, marginal, _, slope = map(np.asarray, measured(density, FEATURES[:5]))
    assert (by_class[:, 3] == -np.inf).all() and np.asarray(density.log_prior)[3] == -np.inf
    np.testing.assert_allclose(marginal, measured(DENSITY(), FEATURES[:5])[1], rtol=1e-5)
    of_one = jax.jit(lambda h, labels: fit_gaussian_density(h, None, labels, num_classes=4))(FEATURES, np.where(np.arange(200) == 9, 3, LABELS))
    np.testing.assert_array_equal(np.isneginf(of_one.log_prior), [False, False, False, True])
    assert np.isfinite(slope).all()


def test_gradient_is_the_whitened_difference():
    density = GaussianDensity(np.float32([[1, 2]]), np.float32([[[0.5, 0], [-1, 2]]]), np.zeros(1, np.float32))
    h = np.asarray([0.3, -0.2], np.float32)
    factor = np.linalg.inv(density.whitening[0])
    covariance = factor @ factor.T
    np.testing.assert_allclose(jax.jit(jax.grad(density.marginal))(h), np.linalg.solve(covariance, np.asarray([1, 2]) - h), rtol=1e-4)


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(num_classes=0), "num_classes=0 must be a positive integer"),
        (dict(features=FEATURES[0]), r"features must be floating-point \[n, …\], got float32 of shape \(4,\)"),
        (dict(features=FEATURES.astype(int)), "features must be floating-point"),
        (dict(labels=LABELS[:5]), r"labels must be integers \[200\] in \[0, 3\), one class for each example, got int64 of shape \(5,\)"),
        (dict(labels=LABELS.astype(float)), "labels must be integers"),
        (dict(labels=LABELS - 1), r"labels must be classes in \[0, 3\), but go from -1 to 1"),
        (dict(num_classes=2), r"labels must be classes in \[0, 2\), but go from 0 to 2"),
        (dict(num_classes=4), "class 3 has fewer than 2 examples"),
        (dict(num_classes=None), "logits=None leaves open how many classes there are"),
        (dict(logits=LOGITS, num_classes=4), "num_classes=4 must be the 3 of the logits"),
        (dict(logits=LOGITS[:5]), "features and logits must be of the same examples, got lengths 200, 5"),
        (dict(logits=LOGITS[0]), r"logits must be \[n, K\], got shape \(3,\)"),
        (dict(features=np.where(np.arange(4) > 2, np.nan, FEATURES).astype(np.float32)), "features must be finite"),
    ],
)
def test_bad_input_is_an_error(given, message):
    with pytest.raises(ValueError, match=message):
        fit_gaussian_density(**{**dict(features=FEATURES, logits=None, labels=LABELS, num_classes=3), **given})


def test_features_that_do_not_fit_are_an_error():
    with pytest.raises(ValueError, match=r"h must be features \[4\], got 3 values"):
        DENSITY().log_prob(np.zeros(3, np.float32))
