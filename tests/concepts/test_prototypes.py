"""Prototypes: mixtures that were planted, scikit-learn's densities, and what cannot be fitted."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import concepts

mixture = pytest.importorskip("sklearn.mixture")

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
CENTRES = RNG.normal(size=(3, 2, 5))
"""Of three classes, of which the second has no example, two strategies each, one three times as frequent as the other."""
LABELS = np.repeat([0, 2], 200)
STRATEGY = np.tile(np.repeat([0, 1], [150, 50]), 2)
SPREAD = np.asarray([0.05, 0.1, 0.05, 0.1, 0.05])
RELEVANCES = (CENTRES[LABELS, STRATEGY] + SPREAD * RNG.normal(size=(400, 5))).astype(np.float32)
FIT = functools.cache(lambda covariance: concepts.prototypes(RELEVANCES, LABELS, KEY, count=2, covariance=covariance, num_nearest=3))


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_planted_strategies_are_found(covariance):
    found = FIT(covariance)
    np.testing.assert_allclose(found.weights, [[0.75, 0.25], [0, 0], [0.75, 0.25]], atol=1e-4)
    np.testing.assert_allclose(found.means[::2], CENTRES[::2], atol=0.06)
    variances = np.asarray(found.covariances[::2])
    diagonal = variances if covariance == "diag" else np.diagonal(variances, axis1=2, axis2=3)
    np.testing.assert_allclose(np.sqrt(diagonal), np.broadcast_to(SPREAD, diagonal.shape), rtol=0.4)
    assert found.converged.tolist() == [True, False, True] and np.isnan(found.means[1]).all() and (found.nearest[1] == -1).all()
    for label in (0, 2):
        for m in (0, 1):
            distance = np.where(LABELS == label, np.linalg.norm(RELEVANCES - np.asarray(found.means[label, m]), axis=1), np.inf)
            assert found.nearest[label, m].tolist() == distance.argsort()[:3].tolist()


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_densities_are_scikit_learns(covariance):
    found = FIT(covariance)
    points = np.concatenate([RELEVANCES[::40], RELEVANCES[::40] + 0.2 * RNG.normal(size=(10, 5)).astype(np.float32)])
    labels = np.tile(LABELS[::40], 2)
    ours, unexpected = jax.jit(lambda found, r, y: (concepts.log_likelihood(found, r, y), concepts.unexpectedness(found, r, y)))(found, points, labels)
    for label in (0, 2):
        theirs = mixture.GaussianMixture(2, covariance_type=covariance, random_state=0, n_init=3).fit(RELEVANCES[LABELS == label].astype(np.float64))
        np.testing.assert_allclose(ours[labels == label], theirs.score_samples(points[labels == label]), rtol=1e-4, atol=2e-3)
    np.testing.assert_array_equal(unexpected, -ours)
    assert unexpected[10:].min() > np.median(unexpected[:10])  # what is off every strategy is less expected
    traced = jax.jit(concepts.log_likelihood)(found, points[:3], np.asarray([0, 1, 2]))
    assert np.isnan(traced).tolist() == [False, True, False]


def test_a_difference_is_to_the_strategy_that_made_it():
    found = FIT("full")
    planted = CENTRES[2, 1] + [0, 0.2, 0, 0, 0]
    component, delta = jax.jit(concepts.difference)(found, jnp.float32(planted), 2)
    assert component == 1 and np.argmax(delta) == 1
    np.testing.assert_allclose(delta, planted - np.asarray(found.means[2, 1]), atol=1e-6)
    assert np.isnan(jax.jit(concepts.difference)(found, jnp.float32(planted), 1).delta).all()


def test_shares_are_of_the_sum_of_magnitudes():
    value = np.float32([[1, -3, 0], [0, 0, 0]])
    np.testing.assert_allclose(concepts.shares(value), [[0.25, -0.75, 0], [0, 0, 0]], rtol=1e-6)


def test_they_are_kept_in_a_file(tmp_path):
    found = FIT("full")
    found.save(tmp_path / "strategies.npz")
    again = concepts.Prototypes.load(tmp_path / "strategies.npz")
    jax.tree.map(np.testing.assert_array_equal, found, again)
    (tmp_path / "broken.npz").write_bytes((tmp_path / "strategies.npz").read_bytes()[:200])
    with pytest.raises(ValueError, match="holds no prototypes, or is damaged"):
        concepts.Prototypes.load(tmp_path / "broken.npz")
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        found.save(tmp_path / "strategies")


def test_one_component_is_the_mean_and_a_class_does_not_depend_on_others():
    one = concepts.prototypes(RELEVANCES[:200], LABELS[:200], KEY, count=1, covariance="diag", regularization=0.0)
    np.testing.assert_allclose(one.means[0, 0], RELEVANCES[:200].mean(0), atol=1e-6)
    np.testing.assert_allclose(one.covariances[0, 0], RELEVANCES[:200].var(0), rtol=1e-4)
    alone = concepts.prototypes(RELEVANCES[:200], LABELS[:200], KEY, count=2, num_classes=3, num_nearest=3)
    np.testing.assert_array_equal(alone.means[0], FIT("full").means[0])


WRONG = {
    "draws random numbers": dict(key=None),
    "count=0 must be": dict(count=0),
    "class 1 has 1 example, too few for count=2 prototypes: more than 2": dict(labels=np.asarray([1] + [0] * 9)),
    "class 0 has 10 examples, too few for count=10": dict(count=10),
    r"relevances must be finite, but relevances\[3\] is not \(1 of 10": dict(relevances=np.where(np.arange(10)[:, None] == 3, np.nan, RELEVANCES[:10])),
    r"relevances must be real \[n, C\]": dict(relevances=RELEVANCES[0]),
    "covariance='tied' must be one of 'full', 'diag'": dict(covariance="tied"),
    "labels must be classes in": dict(labels=np.full(10, 3), num_classes=3),
    "regularization=-1.0 must lie": dict(regularization=-1.0),
    "num_nearest=0 must be": dict(num_nearest=0),
    "class 0 have no mixture of count=2": dict(relevances=np.ones((10, 5)), regularization=0.0),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_cannot_be_fitted_is_said(said):
    given = {"relevances": RELEVANCES[:10], "labels": np.zeros(10, int), "key": KEY, "count": 2, **WRONG[said]}
    with pytest.raises(ValueError, match=said):
        concepts.prototypes(given.pop("relevances"), given.pop("labels"), given.pop("key"), **given)


def test_what_was_not_fitted_is_said():
    found = FIT("full")
    with pytest.raises(ValueError, match="class 1 has no prototypes"):
        concepts.log_likelihood(found, RELEVANCES[:2], np.asarray([0, 1]))
    with pytest.raises(ValueError, match="class 1 has no prototypes"):
        concepts.difference(found, RELEVANCES[0], 1)
    with pytest.raises(ValueError, match=r"relevances must be \[n, 5\]"):
        concepts.log_likelihood(found, RELEVANCES[:2, :4], np.asarray([0, 0]))
    with pytest.raises(ValueError, match="label must be classes in"):
        concepts.difference(found, RELEVANCES[0], 3)
    with pytest.raises(ValueError, match="fitted on the host"):
        jax.jit(lambda r: concepts.prototypes(r, LABELS, KEY))(RELEVANCES)
