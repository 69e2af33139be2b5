"""Calibration errors in bins: against NumPy written from the formulas, where numbers are on borders, and without what is wrong elsewhere."""

from __future__ import annotations

import inspect
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jxai.uncertainty import calibration as c

pytestmark = pytest.mark.usefixtures("quick_compilation")

OPTIONS = ("bins", "binning", "norm", "kind", "debiased", "level")
ECE, RELIABILITY = (
    jax.jit(call, static_argnames=tuple(o for o in OPTIONS if o in inspect.signature(call).parameters))
    for call in (c.expected_calibration_error, c.reliability)
)
ADAPTIVE = jax.jit(c.adaptive_calibration_error, static_argnames=("bin_size", "norm"))

RNG = np.random.default_rng(0)
N, K = 400, 4
P = scipy.stats.dirichlet([0.4] * K).rvs(N, random_state=1).astype(np.float32)
LABELS = np.array([RNG.choice(K, p=np.float64(p) ** 0.7 / (np.float64(p) ** 0.7).sum()) for p in P])


def parts(confidence, correct, bins, binning):
    """The bins' examples, as arrays of confidences and outcomes, from the definition."""
    if binning == "mass":
        order = np.argsort(confidence, kind="stable")
        return [(confidence[i], correct[i]) for i in np.array_split(order, bins)]
    borders = np.float64(np.float32(np.arange(1, bins) / bins))
    groups = np.unique(confidence, return_inverse=True)[1] if binning == "distinct" else np.digitize(confidence, borders, right=True)
    return [(confidence[groups == g], correct[groups == g]) for g in np.unique(groups)]


def error(confidence, correct, bins=15, binning="width", norm=1, debiased=False):
    total = []
    for conf, own in parts(np.float64(confidence), np.float64(correct), bins, binning):
        gap, acc, n = abs(own.mean() - conf.mean()), own.mean(), len(own)
        if debiased and norm == 2:
            value = gap**2 - acc * (1 - acc) / (n - 1) if n > 1 else 0
        elif debiased:
            value = 2 * gap - scipy.stats.foldnorm(gap / s, scale=s).mean() if (s := math.sqrt(acc * (1 - acc) / n)) else gap
        else:
            value = gap if math.isinf(norm) else gap**norm
        total.append((n, value))
    if math.isinf(norm):
        return max(value for _, value in total)
    return max(sum(n * value for n, value in total) / len(confidence), 0) ** (1 / norm)


def expected(p, labels, kind, **options):
    if kind == "top_label":
        return error(p.max(1), p.argmax(1) == labels, **options)
    if kind == "binary":
        return error(p[:, 1], labels == 1, **options)
    return np.mean([error(p[:, k], labels == k, **options) for k in range(p.shape[1])])


ROUNDED = np.float32(np.round(P[:, :2] / P[:, :2].sum(1, keepdims=True), 1))
TWO = np.stack([1 - ROUNDED[:, 1], ROUNDED[:, 1]], 1).astype(np.float32)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bins": 10, "norm": 2, "kind": "classwise"},
        {"binning": "mass", "norm": 1, "debiased": True},
        {"bins": 7, "binning": "mass", "norm": 3, "kind": "classwise"},
        {"norm": 2, "debiased": True, "kind": "classwise"},
        {"norm": math.inf},
    ],
    ids=str,
)
def test_expected_calibration_error_is_its_formula(options):
    kind = options.get("kind", "top_label")
    np.testing.assert_allclose(ECE(P, LABELS, **options), expected(P, LABELS, **{"kind": kind, **options}), rtol=1e-4, atol=1e-6)


def test_binary_errors_are_of_class_1_and_distinct_bins_of_each_value():
    events = (LABELS % 2).astype(np.int32)
    for options in ({"bins": 5}, {"binning": "distinct"}):
        np.testing.assert_allclose(ECE(TWO, events, kind="binary", **options), expected(TWO, events, kind="binary", **options), rtol=1e-4, atol=1e-6)


def test_maximum_and_rms_errors_are_those_norms():
    np.testing.assert_allclose(c.maximum_calibration_error(P, LABELS, bins=10), expected(P, LABELS, "top_label", bins=10, norm=math.inf), rtol=1e-4)
    np.testing.assert_allclose(c.rms_calibration_error(P, LABELS), expected(P, LABELS, "top_label", norm=2), rtol=1e-4)


def test_a_number_on_a_border_is_in_the_lower_bin_and_0_in_the_first():
    found = RELIABILITY(*two_classes([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]), bins=10, kind="binary")
    np.testing.assert_array_equal(found.count, [2, *[1] * 9])
    for bins in (15, 49):  # every border of these bins, as float32 knows it
        found = RELIABILITY(*two_classes(np.arange(1, bins + 1) / bins), bins=bins, kind="binary")
        np.testing.assert_array_equal(found.count, np.ones(bins))


def two_classes(event, labels=None):
    event = np.asarray(event, np.float64)
    return np.stack([1 - event, event], 1).astype(np.float32), np.zeros(len(event), np.int32) if labels is None else np.asarray(labels, np.int32)


def test_no_bin_is_left_out():
    """pytorch-ood and natural-adv-examples never look at the last bin; fortuna begins at 1/n and has nine; MAPIE has 49 bins of 50."""
    sure = two_classes(np.full(200, 0.99))  # all wrong
    np.testing.assert_allclose(ECE(*sure), 0.99, rtol=1e-5)
    np.testing.assert_allclose(ECE(*two_classes(np.full(200, 0.001), np.ones(200)), kind="binary"), 0.999, rtol=1e-5)
    found = RELIABILITY(*two_classes(np.linspace(0.001, 1, 5000)), bins=50, kind="binary")
    assert found.count.shape == (50,) and (np.asarray(found.count) > 90).all() and found.count.sum() == 5000


def test_the_greatest_gap_is_not_multiplied_by_the_number_of_examples():
    """fortuna's is."""
    p, labels = two_classes([0.95] * 30 + [0.65] * 10, [1] * 30 + [0] * 10)
    np.testing.assert_allclose(c.maximum_calibration_error(p, labels), 0.65, rtol=1e-5)


def test_equal_confidences_share_their_outcomes():
    p, labels = two_classes(np.full(40, 0.8), [1] * 30 + [0] * 10)
    for options in ({"binning": "mass", "bins": 7}, {"binning": "mass", "bins": 7, "norm": 2}, {"binning": "distinct"}, {}):
        np.testing.assert_allclose(ECE(p, labels, **options), 0.05, rtol=1e-4)
    order = RNG.permutation(N)
    one, other = (ECE(TWO[i], LABELS[i] % 2, binning="mass") for i in (slice(None), order))
    np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(ADAPTIVE(np.full(250, 0.5, np.float32), np.arange(250) < 150), 0.1, rtol=1e-5)


def hendrycks(confidence, correct, size, skipped):
    """The code of natural-adv-examples, whose last bin is skipped."""
    order = np.argsort(confidence)
    ends = [[i * size, (i + 1) * size] for i in range(len(confidence) // size)]
    ends[-1][1] = len(confidence)
    gaps = [(b - a, (confidence[order[a:b]].mean() - correct[order[a:b]].mean()) ** 2) for a, b in ends[: len(ends) - skipped]]
    return math.sqrt(sum(n * gap for n, gap in gaps) / len(confidence))


def test_the_last_adaptive_bin_takes_the_remainder():
    confidence, correct = P.max(1), P.argmax(1) == LABELS
    for size in (30, 100, 150):
        ours = ADAPTIVE(confidence, correct, bin_size=size)
        np.testing.assert_allclose(ours, hendrycks(np.float64(confidence), correct, size, 0), rtol=1e-4)
        assert ours > hendrycks(np.float64(confidence), correct, size, 1) + 1e-4
    np.testing.assert_allclose(ADAPTIVE(confidence, correct, bin_size=1000, norm=1), abs(confidence.mean() - correct.mean()), rtol=1e-4)
    np.testing.assert_allclose(ADAPTIVE(np.float32([0.2, 0.9]), np.float32([0.5, 0.5]), bin_size=1, norm=math.inf), 0.4, rtol=1e-5)


def test_sixty_thousand_numbers_lose_no_digits():
    n = 60_000
    p, labels = two_classes(np.full(n, 0.9873), np.arange(n) % 1000 < 986)
    np.testing.assert_allclose(ECE(p, labels), np.float64(p[0, 1]) - 0.986, rtol=1e-4)
    np.testing.assert_allclose(RELIABILITY(p, labels).confidence[-1], p[0, 1], rtol=1e-5)


def test_debiased_errors_of_a_calibrated_model_are_near_0():
    p = RNG.uniform(0.5, 1, (40, 300)).astype(np.float32)
    labels = (RNG.uniform(size=p.shape) < p).astype(np.int32)
    call = jax.jit(jax.vmap(lambda p, y: jnp.stack([c.rms_calibration_error(jnp.stack([1 - p, p], 1), y, debiased=d, binning="mass") for d in (False, True)])))
    plain, debiased = np.mean(call(p, labels) ** 2, 0)
    assert debiased < 0.35 * plain


def test_errors_have_derivatives_under_jit():
    p, labels = two_classes([0.93, 0.71, 0.75, 0.62, 0.67, 0.99], [1, 1, 0, 1, 1, 1])
    call = jax.jit(jax.value_and_grad(lambda p: c.expected_calibration_error(p, labels, bins=5, norm=2)))
    value, slope = call(p)
    for i in range(6):  # a step within the bin
        moved = np.float64(p.max(1))
        moved[i] += 1e-3
        ends = [error(v, labels == 1, bins=5, norm=2) for v in (moved, p.max(1))]
        np.testing.assert_allclose(slope[i, 1], (ends[0] - ends[1]) / 1e-3, rtol=2e-2, atol=1e-4)
    assert value > 0 and not np.asarray(slope)[:, 0].any()
    perfect = np.eye(2, dtype=np.float32)[labels]
    assert not np.asarray(call(perfect)[1]).any() and call(perfect)[0] == 0


def test_a_label_that_is_no_class_is_nan_under_a_trace():
    assert np.isnan(jax.jit(c.expected_calibration_error)(P, jnp.full(N, K)))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: c.expected_calibration_error(np.ones((3, 1), np.float32), np.zeros(3, int)), "two classes or more"),
        (lambda: c.expected_calibration_error(5 * P, LABELS), "probabilities.*must be probabilities"),
        (lambda: c.expected_calibration_error(P, LABELS[:-1]), "of the same examples"),
        (lambda: c.expected_calibration_error(P, LABELS + 1), "labels must be classes"),
        (lambda: c.expected_calibration_error(P, LABELS, kind="binary"), "kind='binary' needs"),
        (lambda: c.expected_calibration_error(P, LABELS, kind="all"), "kind='all' must be one of"),
        (lambda: c.expected_calibration_error(P, LABELS, binning="equal"), "binning='equal' must be one of"),
        (lambda: c.expected_calibration_error(P, LABELS, bins=0), "bins=0 must be a positive integer"),
        (lambda: c.expected_calibration_error(P, LABELS, norm=0.5), "norm=0.5 must be"),
        (lambda: c.expected_calibration_error(P, LABELS, norm=3, debiased=True), "debiased=True is known for"),
        (lambda: c.expected_calibration_error(np.where(P == P.max(), np.nan, P), LABELS), "has NaN"),
        (lambda: c.adaptive_calibration_error(P.max(1), np.ones(3)), "of the same examples"),
        (lambda: c.adaptive_calibration_error(2 + P.max(1), np.ones(N)), "confidence must lie in"),
        (lambda: c.adaptive_calibration_error(P, np.ones(N)), "confidence must be floating-point"),
        (lambda: c.adaptive_calibration_error(P.max(1), np.full(N, np.nan)), "correct must lie in"),
        (lambda: c.adaptive_calibration_error(P.max(1), np.ones(N), bin_size=0), "bin_size=0 must be a positive integer"),
        (lambda: c.reliability(P, LABELS, level=1.0), "level=1.0 must lie in"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
