"""Faithfulness by subsets: exact linear models, the masks that the model sees, and agreement with NumPy and SciPy."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats

from jxai import fills
from jxai.metrics import subsets
from jxai.metrics.subsets import faithfulness_correlation, faithfulness_estimate, mu_fidelity, sensitivity_n

KEY = jax.random.key(0)
IMAGE = (7, 6, 3)
RNG = np.random.default_rng(1)
W = RNG.normal(size=IMAGE).astype(np.float32)
X = RNG.uniform(size=IMAGE).astype(np.float32)
MAP = X * W  # exact for the linear model
OTHER = RNG.normal(size=IMAGE).astype(np.float32)
METRICS = [mu_fidelity, faithfulness_correlation, faithfulness_estimate, sensitivity_n]
RANDOM = [mu_fidelity, faithfulness_correlation, sensitivity_n]


def _network(linear, curved, at, v):
    additive = (v * W).sum()
    return jnp.stack([linear * additive + curved * (jnp.sin(additive / 2) + (v**2 * OTHER).sum() / 20) + at[0], -linear * additive + at[1]])


def network(linear, curved, at):
    """Which model it is, is data, so that one program judges all."""
    return Partial(_network, np.float32(linear), np.float32(curved), np.float32(at))


LINEAR, CONSTANT = network(1, 0, (3, 0)), network(0, 0, (0.1, 0.7))
CURVED = network(0, 1, (0, 0))
"""Not additive: what one position does depends on the others."""


def curved(v):
    return np.sin((v * W).sum((-1, -2, -3)) / 2) + (v**2 * OTHER).sum((-1, -2, -3)) / 20


def jitted(metric):
    """Compiled once for each model and options; eager, a loop compiles at every call."""
    traced = ("f", "x", "target", "attribution", "key", "segments")
    return jax.jit(metric, static_argnames=[name for name in inspect.signature(metric).parameters if name not in traced])


jitted_n = jitted(sensitivity_n)


@functools.cache
def compiled(metric, scalar, options):
    return jax.jit(lambda f, x, a, target, key, fill: metric(f, x, None if scalar else target, a, key, fill=fill, **dict(options)))


def judged(metric, attribution, f=LINEAR, x=X, target=0, key=KEY, fill=np.float32(0), **options):
    """Compiled once for the same options."""
    options = {"score": "logit", **({"num_samples": 20} if metric in RANDOM else {}), **options}
    return compiled(metric, target is None, tuple(sorted(options.items())))(f, x, attribution, np.int32(target or 0), key, fill)


def value(metric, attribution, **options):
    """The metric as a float, its auc where it is a curve."""
    result = judged(metric, attribution, **options)
    return float(result.auc if metric is sensitivity_n else result)


@pytest.mark.parametrize("metric", METRICS)
def test_an_exact_linear_model_scores_one_and_the_reversed_attribution_minus_one(metric):
    assert value(metric, MAP) == pytest.approx(1, abs=1e-5)
    assert value(metric, -MAP) == pytest.approx(-1, abs=1e-5)
    # A map of positions, and uneven cells: totals, not means, are what an additive attribution says.
    assert value(metric, MAP.sum(-1, keepdims=True), grid=(3, 4)) == pytest.approx(1, abs=1e-5)
    assert value(metric, (X - 0.3) * W, fill=np.float32(0.3)) == pytest.approx(1, abs=1e-5)
    assert abs(value(metric, OTHER)) < 0.7


def test_sensitivity_n_is_one_at_every_n_for_a_linear_model():
    """Quantus correlates one step's attribution with the drop of all steps, and gives 1, .37, .30 … there."""
    for options in ({}, {"subsets": "ranked", "correlation": "spearman"}):
        curve = jax.tree.map(np.asarray, judged(sensitivity_n, MAP, **options))
        assert np.allclose(curve.y, 1, atol=1e-5), options
        assert curve.auc == pytest.approx(curve.y.mean()) and (np.diff(curve.x) > 0).all()
        assert curve.x[0] == pytest.approx(1 / 42) and curve.x[-1] == pytest.approx(33 / 42)
    counts, shares = judged(sensitivity_n, MAP, sizes=(2, 21, 42)), judged(sensitivity_n, MAP, sizes=(0.05, 0.5, 1.0))
    assert np.allclose(counts.y, [1, 1, 0], atol=1e-5) and np.allclose(counts.x, [2 / 42, 0.5, 1])
    assert np.array_equal(counts.y, shares.y) and np.array_equal(counts.x, shares.x)


@pytest.mark.parametrize(
    "metric, correlation",
    [
        ("exact", "spearman"),
        ("bernoulli", "pearson"),
        ("correlation", "pearson"),
        ("sensitivity_n", "spearman"),
        pytest.param("exact", "pearson", marks=pytest.mark.slow),
        pytest.param("bernoulli", "spearman", marks=pytest.mark.slow),
        pytest.param("correlation", "spearman", marks=pytest.mark.slow),
        pytest.param("sensitivity_n", "pearson", marks=pytest.mark.slow),
    ],
)
def test_correlations_are_scipys_over_the_drawn_subsets(monkeypatch, metric, correlation):
    """Over the masks' sums and the scores of every pass, as the metric sees them."""
    seen = {}

    def stack(fn, n, chunk):
        seen["sums"], seen["left"] = out = jax.vmap(fn)(jnp.arange(n))
        return out

    monkeypatch.setattr(subsets.loops, "stack", stack)
    fn, options = {
        "exact": (mu_fidelity, {"num_samples": 30}),
        "bernoulli": (mu_fidelity, {"num_samples": 30, "subsets": "bernoulli"}),
        "correlation": (faithfulness_correlation, {"num_samples": 30, "subset_size": 10}),
        "sensitivity_n": (sensitivity_n, {"num_samples": 15, "sizes": (3, 9)}),
    }[metric]
    result, seen = jax.jit(lambda f, x, a: (fn(f, x, 0, a, KEY, correlation=correlation, **options), dict(seen)))(CURVED, X, OTHER)
    reference = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[correlation]
    sizes = np.asarray(result.y if metric == "sensitivity_n" else [result])
    sums, left = (np.asarray(seen[name]).reshape(sizes.size, -1) for name in ("sums", "left"))
    for found, a, b in zip(sizes, sums, left):
        assert found == pytest.approx(reference(a, -b)[0], abs=2e-5)


def test_the_sums_and_scores_are_those_of_the_removed_features():
    """From the masks that f sees, for x without zeros: sums, sizes, and all channels of a position together."""
    seen = []

    def watched(v):
        jax.debug.callback(lambda v: seen.append(np.asarray(v)), v, ordered=True)
        return CURVED(v)

    options = {"subset_size": 10, "num_samples": 8, "chunk": 1}
    result = jax.jit(lambda x: faithfulness_correlation(watched, x, 0, OTHER, KEY, **options))(X)
    jax.effects_barrier()
    seen = np.stack(seen)
    assert seen.shape == (8, *IMAGE)
    gone = seen == 0
    assert (gone.any(-1) == gone.all(-1)).all() and (gone.any(-1).sum((1, 2)) == 10).all() and np.array_equal(seen, np.where(gone, 0, X))
    sums = [float((OTHER * g).sum()) for g in gone]
    assert result == pytest.approx(stats.pearsonr(sums, curved(X) - curved(seen))[0], abs=1e-5)


def test_faithfulness_estimate_is_a_loop_over_the_positions():
    drops = []
    for i, j in np.ndindex(IMAGE[:2]):
        without = X.copy()
        without[i, j] = 0.4
        drops.append(curved(X) - curved(without))
    for options, reference in (({}, stats.pearsonr), ({"correlation": "spearman"}, stats.spearmanr)):
        result = value(faithfulness_estimate, OTHER, f=CURVED, fill=np.float32(0.4), **options)
        assert result == pytest.approx(reference(OTHER.sum(-1).ravel(), drops)[0], abs=1e-4)
    assert value(faithfulness_estimate, OTHER, f=CURVED, score="probability") != value(faithfulness_estimate, OTHER, f=CURVED)


def test_ranked_sensitivity_removes_the_highest_attributions_first():
    x, a = np.arange(1, 6, dtype=np.float32), np.float32([0.1, 3.0, -2.0, 0.5, 0.4])
    f = Partial(lambda v: jnp.stack([(v**2).sum() + v[0] * v[1], v[2]]))
    y = np.asarray(jitted_n(f, x, 0, a, sizes=(1, 2, 4, 5), subsets="ranked").y)
    order, left, sums = np.array([1, 3, 4, 0, 2]), [], []
    for n in (0, 1, 2, 4, 5):
        v = x.copy()
        v[order[:n]] = 0
        left.append((v**2).sum() + v[0] * v[1])
        sums.append(a[order[:n]].sum())
    for n in range(1, 5):
        assert y[n - 1] == pytest.approx(np.corrcoef(sums[: n + 1], -np.array(left[: n + 1]))[0, 1], abs=1e-5)


def test_ties_are_in_order_of_position_or_by_the_key():
    x = np.arange(1, 9, dtype=np.float32)
    f = Partial(lambda v: jnp.stack([v @ x, v[0]]))
    tied = np.float32([1, 1, 1, 1, 1, 1, 1, 0])
    run = lambda key: np.asarray(jitted_n(f, x, 0, tied, key, sizes=5, subsets="ranked").y)
    left = [(x[n:] ** 2).sum() for n in range(4)]
    assert run(None)[2] == pytest.approx(np.corrcoef(range(4), -np.array(left))[0, 1], abs=1e-5)
    assert not np.array_equal(run(None), run(KEY)) and not np.array_equal(run(KEY), run(jax.random.key(5)))


@pytest.mark.parametrize("metric", [*(pytest.param(metric, marks=pytest.mark.slow) for metric in METRICS[:2]), *METRICS[2:]])
def test_labels_without_positions_do_not_change_the_result(metric):
    labels = np.arange(42).reshape(7, 6) // 5
    options = {"score": "logit", **({"sizes": (2, 4), "num_samples": 15} if metric is sensitivity_n else {})}

    def run(segments, num_segments):
        return jax.jit(lambda x, s: metric(CURVED, x, 0, OTHER, KEY, segments=s, num_segments=num_segments, **options))(X, segments)

    few, more = run(labels, 9), run(2 * labels + 1, 40)
    assert all(np.allclose(a, b, atol=1e-5) and np.abs(a).max() > 1e-3 for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(more)))


@pytest.mark.parametrize("metric", METRICS)
def test_degenerate_maps_and_models(metric):
    for level in (0.0, 0.1, -3.0):
        assert value(metric, np.full(IMAGE, level, np.float32), f=CURVED) == 0
        assert value(metric, np.full((*IMAGE[:2], 1), level, np.float32), f=CURVED, grid=(3, 4)) == 0
    assert value(metric, OTHER, f=CONSTANT) == 0
    for bad in (np.nan, np.inf):
        spoilt = MAP.copy()
        spoilt[0, 0, 0] = bad
        assert np.isnan(value(metric, spoilt))
    assert np.isnan(value(metric, MAP, target=2)) and np.isnan(value(metric, np.ones_like(MAP), target=2))


@pytest.mark.parametrize("metric", [mu_fidelity, pytest.param(faithfulness_correlation, marks=pytest.mark.slow), *METRICS[2:]])
def test_one_feature_one_class_and_no_class(metric):
    one = np.full((1, 1, 2), 0.5, np.float32)
    assert value(metric, one, f=Partial(lambda v: v.sum()[None]), x=one) == 0
    assert value(metric, X[..., 0, 0], f=Partial(lambda v: v.sum()), x=X[..., 0, 0], target=None) == pytest.approx(1, abs=1e-5)


def test_mu_fidelity_has_nine_cells_by_default_and_bernoulli_sizes_vary():
    x = np.ones((18, 20, 1), np.float32)
    cells = np.arange(18)[:, None] * 9 // 18 * 9 + np.arange(20) * 9 // 20
    masks = []

    def watched(v):
        jax.debug.callback(lambda v: masks.append(np.asarray(v[..., 0]) == 0), v, ordered=True)
        return v.sum()[None]

    for draw in ("exact", "bernoulli"):
        masks.clear()
        jax.jit(lambda x, draw=draw: mu_fidelity(watched, x, 0, x, KEY, subsets=draw, num_samples=30, chunk=1))(x)
        jax.effects_barrier()
        gone = [np.unique(cells[m]) for m in masks]
        assert all(np.isin(cells, g).sum() == m.sum() for g, m in zip(gone, masks))
        sizes = np.array([g.size for g in gone])
        assert (sizes == 16).all() if draw == "exact" else sizes.std() > 1 and abs(sizes.mean() - 16.2) < 5


def test_fills_that_draw_noise_differ_by_subset():
    assert value(faithfulness_correlation, MAP, fill=fills.Uniform()) < 0.999
    with pytest.raises(ValueError, match="key=None"):
        faithfulness_estimate(LINEAR, X, 0, MAP, fill=fills.Uniform())


@pytest.mark.parametrize("metric", RANDOM)
def test_bad_input(metric):
    name = "sizes" if metric is sensitivity_n else "subset_size"
    bad = [0, 43, 1.5, 0.0, True, "half"]
    for wrong in bad:
        options = {name: (wrong,) if metric is sensitivity_n else wrong}
        with pytest.raises(ValueError, match=f"{name}="):
            metric(LINEAR, X, 0, MAP, KEY, **options, **({"grid": (7, 6)} if metric is mu_fidelity else {}))
    with pytest.raises(ValueError, match="key=None"):
        metric(LINEAR, X, 0, MAP)
    with pytest.raises(ValueError, match="correlation='kendall'"):
        metric(LINEAR, X, 0, MAP, KEY, correlation="kendall")
    with pytest.raises(ValueError, match="num_samples=0"):
        metric(LINEAR, X, 0, MAP, KEY, num_samples=0)
    with pytest.raises(ValueError, match="attribution must have shape"):
        metric(LINEAR, X, 0, MAP[..., 0], KEY)
    with pytest.raises(ValueError, match="segments or grid"):
        metric(LINEAR, X, 0, MAP, KEY, grid=2, segments=np.zeros((7, 6), int))


def test_bad_sizes_of_sensitivity_n():
    for sizes in ((), (3, 2), (2, 2), (1, 0.5), 0, True):
        with pytest.raises(ValueError, match="sizes="):
            sensitivity_n(LINEAR, X, 0, MAP, KEY, sizes=sizes)
