"""Detection: against scikit-learn, brute force over all pairs, ties, and both ways to say what is positive; bootstrap intervals against the normal law."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

from jxai.uncertainty import detection, selective
from jxai.uncertainty.detection import Estimate, bootstrap

RNG = np.random.default_rng(0)
CASES = {
    "distinct": (RNG.normal(size=70), RNG.normal(1, 1, 45)),
    "ties": (RNG.integers(0, 6, 70), RNG.integers(2, 8, 45)),
    "equal": (np.zeros(7), np.zeros(5)),
    "one each": (np.asarray([1.0]), np.asarray([2.0])),
    "apart": (np.arange(5.0), np.arange(10.0, 30)),
    "the wrong way": (np.arange(10.0, 30), np.arange(5.0)),
    "infinite": (np.asarray([-np.inf, 0, 0]), np.asarray([0, np.inf])),
}
NAN = float("nan")


def labelled(name, positive):
    """Labels and scores as scikit-learn takes them; ranks stand for scores, which may be infinite there."""
    inside, outside = CASES[name]
    ranks = np.unique(np.r_[inside, outside], return_inverse=True)[1]
    out = np.arange(len(ranks)) >= len(inside)
    return (out, ranks) if positive == "out" else (~out, -ranks)


@pytest.mark.parametrize("positive", ("out", "in"))
@pytest.mark.parametrize("name", CASES)
def test_areas_and_rates_are_scikit_learns(name, positive):
    inside, outside = CASES[name]
    y, score = labelled(name, positive)
    pairs = np.asarray(outside)[:, None] - np.asarray(inside, float)[None] if name != "infinite" else np.asarray([[np.inf, 0, 0], [np.inf, np.inf, np.inf]])
    assert detection.auroc(inside, outside) == pytest.approx(metrics.roc_auc_score(y, score)) == pytest.approx(np.mean((pairs > 0) + 0.5 * (pairs == 0)))
    assert detection.aupr(inside, outside, positive=positive) == pytest.approx(metrics.average_precision_score(y, score))
    precision, recall, _ = metrics.precision_recall_curve(y, score)
    assert detection.aupr(inside, outside, positive=positive, convention="openood") == pytest.approx(metrics.auc(recall, precision))
    false, true, _ = metrics.roc_curve(y, score, drop_intermediate=False)
    curve = detection.roc(inside, outside, positive=positive)
    np.testing.assert_allclose([curve.x, curve.y], [false, true])
    assert curve.auc == pytest.approx(detection.auroc(inside, outside))
    assert detection.fpr95(inside, outside, positive=positive) == pytest.approx(false[np.argmax(true >= 0.95)])
    found = detection.precision_recall(inside, outside, positive=positive)
    np.testing.assert_allclose([found.x, found.y], [recall[::-1][: len(found.x)], precision[::-1][: len(found.y)]])


def test_both_conventions_are_two_numbers():
    """Ten refused ones that are certain, and a few in distribution that are not: what counts as positive changes the number threefold and more."""
    inside, outside = np.r_[np.zeros(94), np.full(6, 2.0)], np.r_[np.full(10, 0.5), np.full(90, 1.0)]
    assert detection.fpr95(inside, outside, positive="out") == 0.06
    assert detection.fpr95(inside, outside, positive="in") == 1.0
    assert detection.fpr95(inside, outside) == 0.06  # out of distribution is positive


def test_ninety_five_percent_is_counted_in_whole_numbers():
    for n in range(1, 200):
        outside = np.arange(n, dtype=float)
        needed = next(k for k in range(1, n + 1) if 100 * k >= 95 * n)
        threshold = outside[n - needed]
        assert detection.fpr95(np.r_[threshold - 0.5, threshold + 0.5], outside) == 0.5


def test_the_trapezoid_is_too_kind_where_thresholds_are_few():
    inside, outside = CASES["equal"]
    assert detection.aupr(inside, outside) == pytest.approx(5 / 12)  # the share of the positive class
    assert detection.aupr(inside, outside, convention="openood") == pytest.approx((1 + 5 / 12) / 2)


def test_intervals_have_the_spread_of_the_mean():
    """Of a mean the interval is the normal one; of two samples each is drawn by itself, of pairs both together."""
    x = RNG.normal(3, 2, 400)
    found = bootstrap(np.mean, x, key=jax.random.key(0), num_samples=2000)
    half = 1.96 * x.std() / 20
    np.testing.assert_allclose([found.value, found.low, found.high], [x.mean(), x.mean() - half, x.mean() + half], atol=0.15 * half)
    narrow = bootstrap(np.mean, x, key=jax.random.key(0), num_samples=2000, level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * x.std() / 20, rel=0.1)
    difference = lambda a, b: np.mean(a - b)
    together = bootstrap(difference, x, x + 1, key=jax.random.key(1), num_samples=50, paired=True)
    assert together.low == pytest.approx(-1) and together.high == pytest.approx(-1)
    apart = bootstrap(difference, x, x + 1, key=jax.random.key(1), num_samples=500, paired=False)
    assert apart.high - apart.low == pytest.approx(2 * half * math.sqrt(2), rel=0.2)


def test_what_belongs_together_is_known_of_own_metrics():
    u = RNG.normal(size=50)
    wrong = (u > 0).astype(float)
    key = jax.random.key(0)
    assert bootstrap(selective.aurc, u, wrong, key=key, num_samples=50).high < 0.5 * wrong.mean() + 0.1  # of shuffled pairs it would be the mean loss
    assert bootstrap(functools.partial(detection.aupr, positive="in"), u, u + 9, key=key, num_samples=9).low == 1
    by_option = bootstrap(detection.fpr95, u, u + 0.5, key=key, num_samples=9, positive="in")
    assert by_option.value == detection.fpr95(u, u + 0.5, positive="in") and by_option.low <= by_option.value <= by_option.high
    unlike = bootstrap(lambda a, b: a.mean() - b.mean(), u, u[:20], key=key, num_samples=9)
    assert isinstance(unlike, Estimate) and unlike.low < unlike.high
    again = bootstrap(detection.fpr95, u, u + 0.5, key=key, num_samples=9, positive="in")
    assert (again.low, again.high) == (by_option.low, by_option.high)
    assert math.isnan(bootstrap(selective.raulc, u, np.ones(50), key=key, num_samples=3).high)


WRONG = [
    (lambda: detection.auroc([], [1.0]), r"uncertainty_in must be numbers \[n\]"),
    (lambda: detection.auroc([1.0], [NAN, NAN]), r"uncertainty_out\[0\] \(2 of 2\) is nan"),
    (lambda: detection.auroc([[1.0]], [1.0]), r"uncertainty_in must be numbers \[n\]"),
    (lambda: detection.aupr([1.0], [1.0], positive="ood"), "positive='ood' must be one of 'out', 'in'"),
    (lambda: detection.aupr([1.0], [1.0], convention="trapezoid"), "'average_precision', 'openood'"),
    (lambda: jax.jit(detection.auroc)(jnp.zeros(2), jnp.zeros(2)), "call auroc outside of jit"),
    (lambda: bootstrap(np.mean, [1.0]), "key=None must be"),
    (lambda: bootstrap(np.mean, [1.0], key=0), r"bootstrap draws random numbers: key=0 must be a jax.random.key"),
    (lambda: bootstrap(np.mean, [1.0], key=jax.random.key(0), level=1), "level=1 must lie in"),
    (lambda: bootstrap(np.mean, [], key=jax.random.key(0)), "arrays must have an axis of examples"),
    (lambda: bootstrap(lambda a, b: 0.0, [1.0], [2.0], key=jax.random.key(0)), "paired=None: of a metric"),
    (lambda: bootstrap(selective.aurc, [1.0, 2], [0.0], key=jax.random.key(0), paired=True), r"got lengths \[2, 1\]"),
    (lambda: bootstrap(detection.roc, [1.0], [2.0], key=jax.random.key(0)), "metric must return one number, got Curve"),
]


@pytest.mark.parametrize("n", range(len(WRONG)))
def test_what_is_wrong_is_said(n):
    call, message = WRONG[n]
    with pytest.raises(ValueError, match=message):
        call()
