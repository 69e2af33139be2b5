"""Faithfulness by subsets: exact linear models, the masks that the model sees, and agreement with NumPy and SciPy."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jxai import fills
from jxai.metrics import subsets
from jxai.metrics.subsets import faithfulness_correlation, faithfulness_estimate, mu_fidelity, sensitivity_n

KEY = jax.random.key(0)
IMAGE = (7, 6, 3)
W = jax.random.normal(jax.random.key(1), IMAGE)
X = jax.random.uniform(jax.random.key(2), IMAGE)
MAP = X * W  # exact for the linear model
OTHER = jax.random.normal(jax.random.key(3), IMAGE)
METRICS = [mu_fidelity, faithfulness_correlation, faithfulness_estimate, sensitivity_n]
RANDOM = [mu_fidelity, faithfulness_correlation, sensitivity_n]


def linear(v):
    return jnp.stack([(v * W).sum() + 3, -(v * W).sum()])


def curved(v):
    """Not additive: what one position does depends on the others."""
    return jnp.stack([jnp.sin((v * W).sum() / 2) + (v**2 * OTHER).sum() / 20, 0.0 * v.sum()])


def jitted(metric):
    """Compiled once for each model and options; eager, a loop compiles at every call."""
    traced = ("x", "target", "attribution", "key", "segments")
    return jax.jit(metric, static_argnames=[name for name in inspect.signature(metric).parameters if name not in traced])


jitted_n = jitted(sensitivity_n)


@functools.cache
def compiled(metric, f, scalar, options):
    return jax.jit(lambda x, a, target, key: metric(f, x, None if scalar else target, a, key, **dict(options)))


def value(metric, attribution, f=linear, x=X, target=0, key=KEY, **options):
    """The metric as a float, its auc where it is a curve; compiled once for the same options."""
    options = {"score": "logit", **({"num_samples": 20} if metric in RANDOM else {}), **options}
    result = compiled(metric, f, target is None, tuple(sorted(options.items())))(x, attribution, jnp.int32(target or 0), key)
    return float(result.auc if metric is sensitivity_n else result)


@pytest.fixture
def recorded(monkeypatch):
    """The masks and the scores of every pass, as the metric sees them."""
    seen = {}

    def stack(fn, n, chunk):
        seen["sums"], seen["left"] = out = jax.vmap(fn)(jnp.arange(n))
        return out

    monkeypatch.setattr(subsets.loops, "stack", stack)
    yield seen
    assert seen


@pytest.mark.parametrize("metric", METRICS)
def test_an_exact_linear_model_scores_one_and_the_reversed_attribution_minus_one(metric):
    assert value(metric, MAP) == pytest.approx(1, abs=1e-5)
    assert value(metric, -MAP) == pytest.approx(-1, abs=1e-5)
    assert value(metric, MAP.sum(-1, keepdims=True)) == pytest.approx(1, abs=1e-5)
    # Uneven cells: totals, not means, are what an additive attribution says.
    assert value(metric, MAP, grid=(3, 4)) == pytest.approx(1, abs=1e-5)
    shifted = (X - 0.3) * W
    assert value(metric, shifted, fill=0.3, grid=4) == pytest.approx(1, abs=1e-5)
    assert abs(value(metric, OTHER)) < 0.7


def test_sensitivity_n_is_one_at_every_n_for_a_linear_model():
    """Quantus correlates one step's attribution with the drop of all steps, and gives 1, .37, .30 … there."""
    for options in ({}, {"subsets": "ranked"}, {"subsets": "ranked", "correlation": "spearman"}):
        curve = jitted_n(linear, X, 0, MAP, KEY, num_samples=20, **options)
        assert np.allclose(curve.y, 1, atol=1e-5), options
        assert curve.auc == pytest.approx(curve.y.mean()) and (np.diff(curve.x) > 0).all()
        assert curve.x[0] == pytest.approx(1 / 42) and curve.x[-1] == pytest.approx(33 / 42)
    counts = jitted_n(linear, X, 0, MAP, KEY, sizes=(2, 21, 42), num_samples=20)
    shares = jitted_n(linear, X, 0, MAP, KEY, sizes=(0.05, 0.5, 1.0), num_samples=20)
    assert np.allclose(counts.y, [1, 1, 0], atol=1e-5) and np.allclose(counts.x, [2 / 42, 0.5, 1])
    assert np.array_equal(counts.y, shares.y) and np.array_equal(counts.x, shares.x)


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_correlations_are_scipys_over_the_drawn_subsets(recorded, correlation):
    reference = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}[correlation]
    for metric, options in ((mu_fidelity, {}), (mu_fidelity, {"subsets": "bernoulli"}), (faithfulness_correlation, {"subset_size": 10})):
        result = metric(curved, X, 0, OTHER, KEY, num_samples=30, correlation=correlation, **options)
        assert result == pytest.approx(reference(recorded["sums"], -recorded["left"])[0], abs=2e-5)
    curve = sensitivity_n(curved, X, 0, OTHER, KEY, sizes=(3, 9), num_samples=15, correlation=correlation)
    for n in range(2):
        rows = slice(15 * n, 15 * (n + 1))
        assert curve.y[n] == pytest.approx(reference(recorded["sums"][rows], -recorded["left"][rows])[0], abs=2e-5)


def test_the_sums_and_scores_are_those_of_the_removed_features():
    """From the masks that f sees, for x without zeros: sums, sizes, and all channels of a position together."""
    seen = []

    def watched(v):
        jax.debug.callback(lambda v: seen.append(np.asarray(v)), v, ordered=True)
        return curved(v)

    options = {"subset_size": 10, "num_samples": 8, "chunk": 1}
    result = faithfulness_correlation(watched, X, 0, OTHER, KEY, **options)
    jax.effects_barrier()
    seen = np.stack(seen)
    assert seen.shape == (8, *IMAGE)
    gone = seen == 0
    assert (gone.any(-1) == gone.all(-1)).all() and (gone.any(-1).sum((1, 2)) == 10).all() and np.array_equal(seen, np.where(gone, 0, X))
    drops = [float(curved(X)[0] - curved(jnp.asarray(v))[0]) for v in seen]
    sums = [float((np.asarray(OTHER) * g).sum()) for g in gone]
    assert result == pytest.approx(stats.pearsonr(sums, drops)[0], abs=1e-5)


def test_faithfulness_estimate_is_a_loop_over_the_positions():
    drops, weights = [], []
    for i, j in np.ndindex(IMAGE[:2]):
        drops.append(float(curved(X)[0] - curved(X.at[i, j].set(0.4))[0]))
        weights.append(float(OTHER[i, j].sum()))
    for correlation, reference in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        result = value(faithfulness_estimate, OTHER, f=curved, fill=0.4, correlation=correlation)
        assert result == pytest.approx(reference(weights, drops)[0], abs=1e-4)
    assert value(faithfulness_estimate, OTHER, f=curved, score="probability") != value(faithfulness_estimate, OTHER, f=curved)


def test_ranked_sensitivity_removes_the_highest_attributions_first():
    x, a = jnp.arange(1.0, 6.0), jnp.array([0.1, 3.0, -2.0, 0.5, 0.4])
    f = lambda v: jnp.stack([(v**2).sum() + v[0] * v[1], v[2]])
    curve = jitted_n(f, x, 0, a, sizes=(1, 2, 4, 5), subsets="ranked")
    order, removed = [1, 3, 4, 0, 2], [0, 1, 2, 4, 5]
    left = [float(f(x.at[jnp.array(order[:n], int)].set(0.0))[0]) for n in removed]
    sums = [float(a[jnp.array(order[:n], int)].sum()) for n in removed]
    for n in range(1, 5):
        assert curve.y[n - 1] == pytest.approx(np.corrcoef(sums[: n + 1], -np.array(left[: n + 1]))[0, 1], abs=1e-5)


def test_ties_are_in_order_of_position_or_by_the_key():
    x = jnp.arange(1.0, 9.0)
    f = lambda v: jnp.stack([v @ x, v[0]])
    tied = jnp.array([1.0, 1, 1, 1, 1, 1, 1, 0])
    run = lambda key: np.asarray(jitted_n(f, x, 0, tied, key, sizes=5, subsets="ranked").y)
    left = [float(f(x.at[:n].set(0.0))[0]) for n in range(4)]
    assert run(None)[2] == pytest.approx(np.corrcoef(range(4), -np.array(left))[0, 1], abs=1e-5)
    assert not np.array_equal(run(None), run(KEY)) and not np.array_equal(run(KEY), run(jax.random.key(5)))


@pytest.mark.parametrize("metric", METRICS)
def test_labels_without_positions_do_not_change_the_result(metric):
    labels = np.arange(42).reshape(7, 6) // 5
    options = {"score": "logit", **({"sizes": (2, 4), "num_samples": 15} if metric is sensitivity_n else {})}

    def run(segments, num_segments):
        traced = jax.jit(lambda s: metric(curved, X, 0, OTHER, KEY, segments=s, num_segments=num_segments, **options))
        return traced(jnp.asarray(segments))

    few, more = run(labels, 9), run(2 * labels + 1, 40)
    assert all(np.allclose(a, b, atol=1e-5) and np.abs(a).max() > 1e-3 for a, b in zip(jax.tree.leaves(few), jax.tree.leaves(more)))


@pytest.mark.parametrize("metric", METRICS)
def test_degenerate_maps_and_models(metric):
    for level in (0.0, 0.1, -3.0):
        for options in ({}, {"grid": 4}):
            assert value(metric, jnp.full(IMAGE, level), f=curved, **options) == 0
    assert value(metric, OTHER, f=lambda v: jnp.stack([0.1 + 0 * v.sum(), 0.7])) == 0
    assert np.isnan(value(metric, MAP.at[0, 0, 0].set(jnp.nan))) and np.isnan(value(metric, MAP.at[0, 0, 0].set(jnp.inf)))
    assert np.isnan(value(metric, MAP, target=jnp.int32(2)))
    assert np.isnan(value(metric, jnp.ones_like(MAP), target=jnp.int32(2)))
    one = jnp.full((1, 1, 2), 0.5)
    assert value(metric, one, f=lambda v: v.sum((0, 1)), x=one) == 0
    assert value(metric, X[..., :1], f=lambda v: v.sum()[None], x=X[..., :1]) == pytest.approx(1, abs=1e-5)
    assert value(metric, X[..., 0, 0], f=lambda v: v.sum(), x=X[..., 0, 0], target=None) == pytest.approx(1, abs=1e-5)


def test_mu_fidelity_has_nine_cells_by_default_and_bernoulli_sizes_vary():
    x = jnp.ones((18, 20, 1))
    cells = np.arange(18)[:, None] * 9 // 18 * 9 + np.arange(20) * 9 // 20
    masks = []

    def watched(v):
        jax.debug.callback(lambda v: masks.append(np.asarray(v[..., 0]) == 0), v, ordered=True)
        return v.sum()[None]

    for draw in ("exact", "bernoulli"):
        masks.clear()
        mu_fidelity(watched, x, 0, x, KEY, subsets=draw, num_samples=30, chunk=1)
        jax.effects_barrier()
        gone = [np.unique(cells[m]) for m in masks]
        assert all(np.isin(cells, g).sum() == m.sum() for g, m in zip(gone, masks))
        sizes = np.array([g.size for g in gone])
        assert (sizes == 16).all() if draw == "exact" else sizes.std() > 1 and abs(sizes.mean() - 16.2) < 5


def test_fills_that_draw_noise_differ_by_subset():
    assert value(faithfulness_correlation, MAP, fill=fills.Uniform()) < 0.999
    with pytest.raises(ValueError, match="key=None"):
        faithfulness_estimate(linear, X, 0, MAP, fill=fills.Uniform())


@pytest.mark.parametrize("metric", RANDOM)
def test_bad_input(metric):
    name = "sizes" if metric is sensitivity_n else "subset_size"
    bad = [0, 43, 1.5, 0.0, True, "half"]
    for wrong in bad:
        options = {name: (wrong,) if metric is sensitivity_n else wrong}
        with pytest.raises(ValueError, match=f"{name}="):
            metric(linear, X, 0, MAP, KEY, **options, **({"grid": (7, 6)} if metric is mu_fidelity else {}))
    with pytest.raises(ValueError, match="key=None"):
        metric(linear, X, 0, MAP)
    with pytest.raises(ValueError, match="correlation='kendall'"):
        metric(linear, X, 0, MAP, KEY, correlation="kendall")
    with pytest.raises(ValueError, match="num_samples=0"):
        metric(linear, X, 0, MAP, KEY, num_samples=0)
    with pytest.raises(ValueError, match="attribution must have shape"):
        metric(linear, X, 0, MAP[..., 0], KEY)
    with pytest.raises(ValueError, match="segments or grid"):
        metric(linear, X, 0, MAP, KEY, grid=2, segments=jnp.zeros((7, 6), int))


def test_bad_sizes_of_sensitivity_n():
    for sizes in ((), (3, 2), (2, 2), (1, 0.5), 0, True):
        with pytest.raises(ValueError, match="sizes="):
            sensitivity_n(linear, X, 0, MAP, KEY, sizes=sizes)
