"""Removal curves against closed forms of a linear model, a stable sort, and plain loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai import each, fills
from jxai.metrics.curves import aopc, deletion, insertion, irof, selectivity
from jxai.metrics.removal import when

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
W = (np.abs(RNG.normal(size=(4, 5, 2))) + 0.1).astype(np.float32)
X = RNG.uniform(0.2, 1, (4, 5, 2)).astype(np.float32)
EXACT = W * X


def _model(w, at, x):
    value = (w.astype(x.dtype) * x).sum()
    return jnp.stack([value + at, -value - at])


linear = Partial(_model, W, np.float32(0))
"""Two logits: a positive linear form and its negative."""
flat = Partial(_model, 0 * W, np.float32(0))
"""Two equal logits whatever x is."""


@functools.cache
def compiled(metric, **options):
    return jax.jit(lambda f, x, target, a, key, arrays: metric(f, x, target, a, key, **options, **arrays))


def whole(metric):
    """The metric compiled once for its static options."""

    def call(a, key=None, x=X, target=0, f=linear, **options):
        arrays = {name: options.pop(name) for name in ("segments", "fill") if name in options}
        if "segments" in arrays:
            options.setdefault("num_segments", int(arrays["segments"].max()) + 1)
        return jax.tree.map(np.asarray, compiled(metric, **options)(f, x, target, a, key, arrays))

    return call


delete, insert, area_over, select, remove_features = map(whole, (deletion, insertion, aopc, selectivity, irof))


def removed_one_by_one(values, order=1):
    """`s` after 0, 1, … positions of an additive model are gone, those of largest value first (order=-1: smallest)."""
    drops = np.sort(values.ravel())[:: -1 if order == 1 else 1]
    return values.sum() - np.concatenate([[0], np.cumsum(drops)])


POSITION = np.asarray(EXACT.sum(-1))


@pytest.mark.parametrize(
    "n, values, order",
    [
        (1, None, "most"),
        (50, 5, "most"),
        (300, 3, "least"),
        pytest.param(50, 5, "least", marks=pytest.mark.slow),
        pytest.param(300, 3, "most", marks=pytest.mark.slow),
        pytest.param(50, None, "most", marks=pytest.mark.slow),
        pytest.param(50, None, "least", marks=pytest.mark.slow),
    ],
)
def test_when_is_a_stable_sort(n, values, order):
    v = RNG.normal(size=n) if values is None else RNG.integers(-1, values, n) * 0.5
    v = np.where(v == 0, RNG.choice([0.0, -0.0], n), v).astype(np.float32)
    place = np.empty(n, int)
    place[np.argsort(-v if order == "most" else v, kind="stable")] = np.arange(n)
    exists = RNG.uniform(size=n) < 0.7
    among = np.empty(n, int)
    among[np.lexsort((np.where(exists, place, np.arange(n)), ~exists))] = np.arange(n)
    # 0, repeated, all, and more than are compared one by one.
    for counts in ([0], [n], sorted([0, 1, n // 3, n // 3, n // 2, n]), list(range(n + 1))):
        both = jax.jit(lambda v, counts, exists: (when(v, counts, order=order), when(v, counts, order=order, exists=exists)))
        all_of, some = both(v, np.array(counts), exists)
        assert np.array_equal(all_of, np.searchsorted(counts, place, side="right"))
        assert np.array_equal(some, np.searchsorted(counts, among, side="right"))


def test_ties_follow_position_or_are_shuffled_evenly_by_the_key():
    # The second score's entry 4 still goes first, whatever the key.
    flat, scores = np.zeros((2, 9), np.float32)
    scores[4] = 1
    by_position, shuffled, high = jax.jit(
        lambda flat, scores, keys: (
            when(flat, np.array([3])),
            jax.vmap(lambda key: when(flat, np.array([3]), key=key))(keys),
            jax.vmap(lambda key: when(scores, np.array([1, 3]), key=key))(keys),
        )
    )(flat, scores, jax.random.split(KEY, 3000))
    first, high = np.asarray(shuffled) == 0, np.asarray(high)
    assert np.array_equal(np.asarray(by_position) == 0, np.arange(9) < 3)
    assert (first.sum(1) == 3).all() and np.abs(first.mean(0) - 1 / 3).max() < 0.05
    assert (high[:, 4] == 0).all() and ((high <= 1).sum(1) == 3).all()


def test_deletion_of_a_linear_model_falls_by_the_largest_terms_first():
    result = delete(EXACT, score="logit", steps=None)
    y = removed_one_by_one(POSITION)
    assert np.allclose(result.x, np.arange(21) / 20) and np.allclose(result.y, y, atol=1e-5)
    assert np.allclose(result.auc, (y.sum() - y[0] / 2 - y[-1] / 2) / 20, atol=1e-5)
    assert np.allclose(delete(EXACT, score="logit", steps=None, order="least").y, removed_one_by_one(POSITION, -1), atol=1e-5)


def test_insertion_mirrors_deletion_of_an_additive_model():
    inserted, deleted = insert(EXACT, score="logit", fill=0.0, steps=7), delete(EXACT, score="logit", steps=7)
    assert np.allclose(inserted.y + deleted.y, POSITION.sum(), atol=1e-5)
    blurred = insert(EXACT, score="logit", steps=4)
    soft = np.asarray(jax.jit(lambda x: fills.gaussian_blur(x, 5.0))(X))
    assert np.allclose(blurred.y[0], (W * soft).sum(), atol=1e-4) and np.allclose(blurred.y[-1], POSITION.sum(), atol=1e-5)


@pytest.mark.parametrize("steps", [3, pytest.param(500, marks=pytest.mark.slow)])
def test_steps_are_even_and_the_area_does_not_depend_on_their_number(steps):
    result = delete(EXACT, f=flat, steps=steps, score="probability")
    assert len(result.y) == min(steps, 20) + 1 and np.allclose(result.x, np.floor(np.linspace(0, 20, min(steps, 20) + 1) + 0.5) / 20)
    # The published code's sum is divided by the number of steps: 1/2 stays 1/2.
    assert np.allclose(result.auc, 0.5)
    half = delete(EXACT, score="logit", steps=5, max_fraction=0.5)
    assert np.allclose(half.x, np.arange(6) * 0.1) and np.allclose(half.y, removed_one_by_one(POSITION)[:11:2], atol=1e-5)
    assert half.y[-1] < half.auc < half.y[0]


def test_the_exact_attribution_is_best_and_its_reverse_worst():
    noise = [RNG.normal(size=X.shape).astype(np.float32) for _ in range(4)]
    for metric, best in ((delete, min), (insert, max), (area_over, max), (remove_features, max)):
        options = {"fill": 0.0} | ({"grid": (4, 5)} if metric in (area_over, remove_features) else {"steps": 6})
        values = [float(getattr(r, "auc", r)) for r in (metric(a, **options) for a in (EXACT, *noise, -EXACT))]
        assert best(values) == values[0] and (max if best is min else min)(values) == values[-1]


def test_a_map_of_positions_removes_all_channels_and_so_does_a_full_one():
    one = delete(EXACT.sum(-1, keepdims=True), steps=5, score="probability")
    assert np.allclose(one.y, delete(EXACT, steps=5, score="probability").y) and np.allclose(one.y[-1], 0.5)
    # A row's map broadcasts: rows go one after the other.
    row = delete(EXACT.sum((1, 2), keepdims=True), score="logit", steps=4)
    assert np.allclose(row.y, removed_one_by_one(POSITION.sum(1)), atol=1e-5)


def test_segments_go_by_their_mean_and_positions_of_none_stay():
    labels = np.array([[0, 0, 0, 0, 1], [2, 2, 2, 9, 9], [2, 2, 2, 9, 9], [2, 2, 2, 9, 9]])
    a = np.where(labels == 0, 1.0, np.where(labels == 1, 3.0, np.where(labels == 2, 2.0, 50.0))).astype(np.float32)[..., None]
    y = delete(a, score="logit", segments=labels, num_segments=3, steps=None).y
    sums = [POSITION[labels == k].sum() for k in range(3)]
    assert np.allclose(y, POSITION.sum() - np.cumsum([0, sums[1], sums[2], sums[0]]), atol=1e-5)
    y = insert(a, score="logit", segments=labels, num_segments=3, steps=None, fill=0.0).y
    assert np.allclose(y, POSITION[labels == 9].sum() + np.cumsum([0, sums[1], sums[2], sums[0]]), atol=1e-5)


@pytest.mark.parametrize(
    "metric",
    [remove_features, delete, pytest.param(select, marks=pytest.mark.slow), pytest.param(area_over, marks=pytest.mark.slow)],
    ids=["irof", "deletion", "selectivity", "aopc"],
)
def test_labels_without_positions_are_no_features(metric):
    labels = np.repeat(np.arange(4), 5).reshape(4, 5)
    options = {"fill": 0.0}
    own, padded = metric(EXACT, segments=labels, **options), metric(EXACT, segments=2 * labels, num_segments=11, **options)
    assert np.allclose(getattr(own, "auc", own), getattr(padded, "auc", padded), atol=1e-5)
    assert metric is not delete or np.allclose(padded.x[-1], 1)


def test_aopc_is_the_mean_drop():
    y = removed_one_by_one(POSITION)
    for order, expected in (("most", y), ("least", removed_one_by_one(POSITION, -1))):
        assert np.allclose(area_over(EXACT, grid=(4, 5), fill=0.0, order=order), np.mean(y[0] - expected), atol=1e-5)
    draw = jax.jit(jax.vmap(lambda x, key: aopc(linear, x, 0, EXACT, key, grid=(4, 5), fill=0.0, order="random"), (None, 0)))
    # At random every patch is gone half of the time.
    assert np.allclose(np.asarray(draw(X, jax.random.split(KEY, 800))).mean(), y[0] / 2, rtol=0.02)
    noisy = area_over(EXACT, KEY, grid=(4, 5))
    assert not np.isclose(noisy, area_over(EXACT, grid=(4, 5), fill=0.0, order="most")) and noisy != area_over(EXACT, jax.random.key(1), grid=(4, 5))


def test_selectivity_and_irof_are_curves_over_single_patches():
    y = removed_one_by_one(POSITION)
    result = select(EXACT, grid=(4, 5))
    assert np.allclose(result.y, y, atol=1e-5)
    number = {"target": None, "grid": (4, 5), "fill": 0.0}  # a scalar f: no score is asked
    assert np.allclose(remove_features(EXACT, f=Partial(lambda f, x: f(x)[0], linear), **number), 1 - np.trapezoid(y / y[0], dx=1 / 20), atol=1e-5)
    assert np.allclose(remove_features(EXACT, f=Partial(lambda x: 1 + 0 * x.sum()), **number), 0)
    assert np.isnan(remove_features(EXACT, f=Partial(lambda x: 0 * x.sum()), **number))


def test_undefined_attributions_give_nan_and_constant_ones_any_order():
    for bad in (np.nan, np.inf):
        spoilt = EXACT.copy()
        spoilt[1, 2, 0] = bad
        result = delete(spoilt, steps=4)
        assert np.isnan(result.y).all() and np.isnan(result.auc) and np.isnan(area_over(spoilt, KEY, grid=(4, 5)))
    constant = delete(np.ones_like(X), score="logit", steps=None)
    assert np.allclose(constant.y, POSITION.sum() - np.concatenate([[0], np.cumsum(POSITION.ravel())]), atol=1e-5)
    assert np.isfinite(delete(np.zeros_like(X), KEY, steps=4).auc)
    assert np.isnan(delete(EXACT, target=7, steps=4).y).all()


def test_one_feature_one_class_half_precision():
    pixel = delete(np.ones((1, 1, 3), np.float32), x=np.full((1, 1, 3), 0.5, np.float32), f=Partial(lambda x: x.sum()[None]), score="logit")
    assert np.allclose(pixel.x, [0, 1]) and np.allclose(pixel.y, [1.5, 0]) and np.allclose(pixel.auc, 0.75)
    half = delete(EXACT.astype(np.float16), x=X.astype(np.float16), score="logit", steps=4)
    assert half.y.dtype == jnp.float32 and np.allclose(half.y, delete(EXACT, score="logit", steps=4).y, rtol=5e-3, atol=2e-2)


def test_each_does_not_let_one_image_depend_on_the_next():
    xs, attributions = np.stack([X, 1 - X, X * 0.5]), np.stack([EXACT, -EXACT, np.zeros_like(X)])
    labels = np.stack([np.repeat(np.arange(4), 5).reshape(4, 5), np.zeros((4, 5), int), np.arange(20).reshape(4, 5)])
    single = [delete(a, x=x, segments=s, num_segments=20, steps=4).auc for x, a, s in zip(xs, attributions, labels)]
    areas = each(deletion, linear, xs, 0, attributions, batch_size=2, per_example={"segments": labels}, steps=4).auc
    assert np.allclose(areas, single, atol=1e-5)


def test_bad_input_says_so():
    for options, word in [
        ({"order": "best"}, "order='best'"),
        ({"steps": 0}, "steps=0"),
        ({"max_fraction": 1.5}, "max_fraction=1.5"),
        ({"score": "accuracy"}, "score='accuracy'"),
        ({"grid": 9}, "grid=9"),
        ({"order": "random"}, "order='random' draws"),
        ({"segments": np.zeros((2, 2), int)}, "segments must be"),
    ]:
        with pytest.raises(ValueError, match=word):
            jax.eval_shape(functools.partial(deletion, linear, X, 0, EXACT, **options))
    for bad in (EXACT[..., 0], EXACT[:2], np.zeros((4, 5, 2), int)):
        with pytest.raises(ValueError, match="attribution must"):
            jax.eval_shape(functools.partial(deletion, linear, X, 0, bad))
    with pytest.raises(ValueError, match="key=None"):
        jax.eval_shape(functools.partial(aopc, linear, X, 0, EXACT))
