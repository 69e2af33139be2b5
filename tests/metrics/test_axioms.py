"""Completeness, monotonicity and non-sensitivity, on models whose answer is known."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats

from jxai import fills, metrics
from jxai.metrics import axioms


def jitted(metric):
    """Compiled once for each model and options; eager, a loop compiles at every call."""
    traced = ("f", "x", "target", "attribution", "key", "segments", "fill", "eps")
    return jax.jit(metric, static_argnames=[name for name in inspect.signature(metric).parameters if name not in traced])


completeness_error, monotonicity = jitted(axioms.completeness_error), jitted(axioms.monotonicity)
monotonicity_correlation, non_sensitivity = jitted(axioms.monotonicity_correlation), jitted(axioms.non_sensitivity)

KEY = jax.random.key(0)
IMAGE = (4, 5, 2)
RNG = np.random.default_rng(1)
W = RNG.normal(size=IMAGE).astype(np.float32)
X = RNG.uniform(0.1, 1, IMAGE).astype(np.float32)
OTHER = RNG.normal(size=IMAGE).astype(np.float32)
ONES = np.ones(IMAGE, np.float32)
LOGIT = {"score": "logit"}


def _network(w, other, at, v):
    value = (v * w).sum()
    return jnp.stack([jnp.where(other == 0, value + at, jnp.sin(value / 2) + (v**2 * OTHER).sum()), jnp.where(other == 0, -value, 0)])


def network(w, curved=0, at=0):
    """Which model it is, is data, so that one program judges all."""
    return Partial(_network, w, np.float32(curved), np.float32(at))


linear, curved = network(W, at=3), network(W, 1)


def said(v):
    """The first logit of `curved` in NumPy."""
    return np.sin((v * W).sum() / 2) + (v**2 * OTHER).sum()


@Partial
def ordered(v):
    """Feature i lowers the score by 2 if it comes before a smaller one, so that only the increasing order is monotone."""
    on = (v > 0).astype(jnp.float32)
    before = jnp.cumprod(jnp.append(1.0, on))[:-1]
    return jnp.stack([(on * (2 * before - 1)).sum(), 0.0])


def test_completeness_is_a_number():
    """Quantus compares floats by ==: False for an error of 1e-16."""
    assert completeness_error(linear, X, 0, X * W) < 1e-5
    assert completeness_error(linear, X, 0, (X * W).sum(-1, keepdims=True)) < 1e-5
    assert completeness_error(linear, X, 0, (X - np.float32(0.3)) * W, baseline=0.3) < 1e-5
    assert completeness_error(linear, X, 0, (X - X.mean((0, 1))) * W, baseline=fills.Mean()) < 1e-5
    change = float((X * W).sum())
    assert completeness_error(linear, X, 0, -X * W) == pytest.approx(2 * abs(change), rel=1e-5)
    assert completeness_error(linear, X, 0, -X * W, relative=True) == pytest.approx(2, rel=1e-5)
    assert completeness_error(linear, X, 0, X * W + 0.5) == pytest.approx(0.5 * X.size, rel=1e-4)
    # An attribution with one position is the same everywhere: it is counted as often as x has positions.
    assert completeness_error(linear, X, 0, np.ones((1, 1, 1), np.float32)) == pytest.approx(abs(20 - change), rel=1e-5)


def test_relative_completeness_where_nothing_changes():
    f = network(0 * W)
    assert completeness_error(f, X, 0, 0 * ONES, relative=True) == 0
    assert np.isposinf(completeness_error(f, X, 0, ONES, relative=True))


def test_monotonicity_is_not_vacuous():
    """Quantus writes the baseline over the baseline: every attribution is monotone there."""
    x, order = np.full(6, 0.5, np.float32), np.arange(1, 7, dtype=np.float32)
    assert monotonicity(ordered, x, 0, order, **LOGIT) == 1
    assert monotonicity(ordered, x, 0, -order, **LOGIT) == pytest.approx(1 / 6)
    assert monotonicity(ordered, x, 0, -order, steps=2, **LOGIT) == pytest.approx(0.5)


def test_monotonicity_of_a_linear_model_is_the_share_of_positive_contributions():
    signs = (X * W).sum(-1) >= 0
    for a in (X * W, -X * W, OTHER):
        assert monotonicity(linear, X, 0, a, **LOGIT) == pytest.approx(signs.mean())
    assert monotonicity(linear, X, 0, X * np.abs(W), **LOGIT) == pytest.approx(signs.mean())
    assert monotonicity(network(np.abs(W)), X, 0, X * np.abs(W), **LOGIT) == 1
    assert monotonicity(network(-np.abs(W)), X, 0, OTHER, **LOGIT) == 0


def test_monotonicity_is_aix360s_loop():
    a = OTHER.sum(-1).ravel()
    v, scores = np.full(IMAGE, 0.3, np.float32), []
    for i in [None, *np.argsort(a)]:
        if i is not None:
            v.reshape(-1, 2)[i] = X.reshape(-1, 2)[i]
        scores.append(1 / (1 + np.exp(-said(v))))
    result = monotonicity(curved, X, 0, OTHER, fill=0.3)
    assert result == pytest.approx((np.diff(scores) >= 0).mean()) and 0.1 < result < 0.9


def test_monotonicity_ties_and_labels_without_positions():
    x, flat = np.full(6, 0.5, np.float32), np.ones(6, np.float32)
    assert monotonicity(ordered, x, 0, flat, **LOGIT) == 1
    assert monotonicity(ordered, x, 0, flat, KEY, **LOGIT) < 1
    labels = np.array([5, 5, 1, 1, 3, 3])
    a = np.float32([3, 3, 2, 2, 1, 1])
    two = monotonicity(ordered, x, 0, a, segments=labels, num_segments=9, **LOGIT)
    assert two == monotonicity(ordered, x, 0, a, segments=(labels - 1) // 2, num_segments=3, **LOGIT)


def test_non_sensitivity_counts_the_features_that_disagree():
    """A linear model that ignores the first two rows."""
    w = np.where(np.arange(4)[:, None, None] < 2, 0, W)
    f = network(w)
    one_more = X * w
    one_more[0, 0] = 1
    for options in ({}, {"fill": 0.0, "grid": (4, 5)}):
        count = lambda a, o=options: non_sensitivity(f, X, 0, a, KEY, num_samples=3, eps=np.float32(1e-6), **o)
        assert count(X * w) == 0
        assert count(0 * ONES) == 10 and count(ONES) == 10
        assert count((w == 0).astype(np.float32)) == 20
        assert count(one_more) == 1
    assert non_sensitivity(f, X, 0, ONES, KEY, num_samples=3, relative=True) == 0.5
    labels = np.arange(4)[:, None] * 2 + np.zeros((4, 5), int)
    count = lambda **options: non_sensitivity(f, X, 0, ONES, KEY, num_samples=3, segments=labels, num_segments=9, **options)
    assert count() == 2 and count(relative=True) == 0.5


def test_a_deterministic_fill_is_evaluated_once():
    count = []

    def counted(v):
        jax.debug.callback(lambda v: count.append(0), v[0, 0, 0])
        return linear(v)

    for fill, passes in ((0.5, 21), (fills.Uniform(), 61)):
        count.clear()
        non_sensitivity(Partial(counted), X, 0, W, KEY, num_samples=3, fill=fill, chunk=1)
        jax.effects_barrier()
        assert len(count) == passes


def test_monotonicity_correlation_ranks_magnitudes_by_influence():
    assert monotonicity_correlation(linear, X, 0, X * W, fill=0.0, **LOGIT) == pytest.approx(1, abs=1e-6)
    assert monotonicity_correlation(linear, X, 0, -X * W, fill=0.0, **LOGIT) == pytest.approx(1, abs=1e-6)
    sizes = np.abs((X * W).sum(-1, keepdims=True))
    assert monotonicity_correlation(linear, X, 0, sizes.max() - sizes, fill=0.0, **LOGIT) == pytest.approx(-1, abs=1e-6)
    gone = [np.where(np.arange(20).reshape(4, 5, 1) == i, np.float32(0.4), X) for i in range(20)]
    influence = [(said(X) - said(v)) ** 2 for v in gone]
    result = monotonicity_correlation(curved, X, 0, OTHER, fill=0.4, **LOGIT)
    assert result == pytest.approx(stats.spearmanr(np.abs(OTHER.sum(-1)).ravel(), influence)[0], abs=1e-5)
    # Uniform noise in one entry of a linear model: the expected change has a closed form.
    x, w = X[..., 0].ravel(), W[..., 0].ravel()
    expected = w**2 * (x**2 - x + 1 / 3)
    many = monotonicity_correlation(
        Partial(lambda v: (v @ w)[None]), x, 0, expected, KEY, num_samples=2000, correlation="pearson", fill=fills.Uniform(0.0, 1.0), **LOGIT
    )
    assert many > 0.999


def test_positions_of_no_feature_stay_where_they_are():
    """f sees the upper rows alone, whose label is that of no feature: none of the two features has any influence."""
    labels = np.array([2, 2, 0, 1])[:, None] + np.zeros((4, 5), int)
    assert non_sensitivity(Partial(lambda v: v[:2].sum()[None]), X, 0, 0 * ONES, KEY, segments=labels, num_segments=2) == 0


@pytest.mark.parametrize("metric", [completeness_error, monotonicity, non_sensitivity, monotonicity_correlation])
def test_degenerate_maps_and_bad_input(metric):
    run = lambda a, target=0: metric(linear, X, np.int32(target), a, KEY, **LOGIT)
    for bad in (np.nan, np.inf):
        spoilt = OTHER.copy()
        spoilt[0, 0, 0] = bad
        assert np.isnan(run(spoilt))
    assert np.isnan(run(OTHER, 2)) and np.isnan(run(ONES, 2))
    level = run(np.full(IMAGE, 0.1, np.float32))
    assert np.isfinite(level) and (metric is not monotonicity_correlation or level == 0)
    one = np.full((1, 1, 2), 0.5, np.float32)
    assert np.isfinite(metric(Partial(lambda v: v.sum()[None]), one, 0, one, KEY, **LOGIT))
    with pytest.raises(ValueError, match="attribution must have shape"):
        metric(linear, X, 0, OTHER[..., 0], KEY)


@pytest.mark.parametrize("metric", [non_sensitivity, monotonicity_correlation])
def test_bad_options(metric):
    with pytest.raises(ValueError, match="key=None"):
        metric(linear, X, 0, OTHER)
    with pytest.raises(ValueError, match="num_samples=0"):
        metric(linear, X, 0, OTHER, KEY, num_samples=0)
    with pytest.raises(ValueError, match="eps=-1"):
        axioms.non_sensitivity(linear, X, 0, OTHER, KEY, eps=-1.0)
    with pytest.raises(ValueError, match="correlation='kendall'"):
        monotonicity_correlation(linear, X, 0, OTHER, KEY, correlation="kendall")
    with pytest.raises(ValueError, match="steps=0"):
        monotonicity(linear, X, 0, OTHER, steps=0)


def test_a_group_counts_once_in_a_map_by_groups():
    """Of groups of unequal size, a map by groups predicts what its groups do: completeness, infidelity, correlations."""
    x, labels = np.float32([1, 2, 3, 5]), np.array([0, 1, 1, 1])
    s = lambda v: v.sum()
    by_groups = np.float32([1, 10, 10, 10])

    @jax.jit
    def measure():
        found = metrics.completeness_error(s, x, None, by_groups, segments=labels), metrics.completeness_error(s, x, None, by_groups)
        apart = [metrics.infidelity(s, x, None, by_groups, sizes=4, segments=given) for given in (labels, None)]
        options = dict(segments=np.array([0, 1, 1, 2]), correlation="pearson", fill=0.0)
        map_of_three = np.float32([1, 5, 5, 5])
        return *found, *apart, *(metrics.faithfulness_estimate(s, x, None, map_of_three, pooling=how, **options) for how in ("mean", "sum"))

    once, thrice, right, wrong, means, sums = map(float, measure())
    assert abs(once) < 1e-6 and thrice == pytest.approx(20, abs=1e-4)
    assert right < 1e-9 and wrong == pytest.approx(400, rel=1e-4)
    assert means == pytest.approx(1, abs=1e-6) and sums < 0.95
