"""Brier's score, its parts, and the likelihood: scikit-learn's, and sums that hold."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jxai.uncertainty import calibration as c

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
N, K = 200, 4
P = scipy.stats.dirichlet([0.5] * K).rvs(N, random_state=1).astype(np.float32)
LABELS = np.array([RNG.choice(K, p=np.float64(p) / np.float64(p).sum()) for p in P])
PARTS = jax.jit(c.brier_decomposition, static_argnames=("bins", "binning"))


def test_scores_are_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    np.testing.assert_allclose(c.negative_log_likelihood(P, LABELS), metrics.log_loss(LABELS, np.float64(P) / np.float64(P).sum(1, keepdims=True)), rtol=1e-5)
    np.testing.assert_allclose(c.brier(P, LABELS), ((P - np.eye(K)[LABELS]) ** 2).sum(1).mean(), rtol=1e-5)
    two = np.stack([1 - P[:, 0], P[:, 0]], 1)
    np.testing.assert_allclose(c.brier(two, (LABELS == 0).astype(int)), 2 * metrics.brier_score_loss(LABELS == 0, two[:, 1]), rtol=1e-5)


def test_diagrams_are_scikit_learns():
    calibration = pytest.importorskip("sklearn.calibration")
    accuracy, confidence = calibration.calibration_curve(LABELS == P.argmax(1), P.max(1), n_bins=10)
    found = c.reliability(P, LABELS, bins=10)
    some = np.asarray(found.count) > 0
    np.testing.assert_allclose(found.accuracy[some], accuracy, rtol=1e-5)
    np.testing.assert_allclose(found.confidence[some], confidence, rtol=1e-5)
    assert np.isnan(found.accuracy[~some]).all()
    for count, share, low, high in np.stack([found.count, found.accuracy, found.low, found.high], 1)[some]:
        interval = scipy.stats.binomtest(round(count * share), int(count)).proportion_ci(method="wilson")
        np.testing.assert_allclose([low, high], interval, atol=1e-5)
    np.testing.assert_array_equal(c.reliability(P, LABELS, kind="classwise").count.sum(1), np.full(K, N))


@pytest.mark.parametrize("options", [{}, {"bins": 7, "binning": "mass"}, {"binning": "distinct"}], ids=str)
def test_the_parts_sum_to_the_score(options):
    p = P if options.get("binning") != "distinct" else rounded()
    d = PARTS(p, LABELS, **options)
    np.testing.assert_allclose(d.reliability - d.resolution + d.uncertainty, c.brier(p, LABELS), rtol=1e-5)
    shares = np.bincount(LABELS, minlength=K) / N
    np.testing.assert_allclose(d.uncertainty, 1 - (shares**2).sum(), rtol=1e-5)


def rounded():
    p = np.round(P * 4) / 4
    return np.float32((p + 1e-9) / (p + 1e-9).sum(1, keepdims=True))


def test_of_distinct_values_the_parts_are_murphys():
    p, d = rounded(), PARTS(rounded(), LABELS, binning="distinct")
    reliability = resolution = 0
    for k in range(K):
        own = LABELS == k
        for value in np.unique(p[:, k]):
            group = p[:, k] == value
            reliability += group.mean() * (value - own[group].mean()) ** 2
            resolution += group.mean() * (own[group].mean() - own.mean()) ** 2
    np.testing.assert_allclose([d.reliability, d.resolution, d.within], [reliability, resolution, 0], rtol=1e-4, atol=1e-6)


def test_what_was_impossible_and_happened_is_infinite_and_traces_know_no_other_class():
    assert np.isinf(c.negative_log_likelihood(np.eye(2, dtype=np.float32), np.array([0, 0])))
    for call in (c.brier, c.negative_log_likelihood):
        assert np.isnan(jax.jit(call)(P, jnp.full(N, -1)))
    slope = jax.grad(lambda z: c.negative_log_likelihood(jax.nn.softmax(z), LABELS))(np.log(P))
    np.testing.assert_allclose(slope, (P - np.eye(K)[LABELS]) / N, atol=1e-5)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="must be of two classes or more"):
        c.brier(np.ones((3, 1), np.float32), np.zeros(3, int))
    with pytest.raises(ValueError, match="labels must be integers"):
        c.negative_log_likelihood(P, np.eye(K)[LABELS])
    with pytest.raises(ValueError, match="they look like logits"):
        c.brier_decomposition(5 * P - 1, LABELS)
