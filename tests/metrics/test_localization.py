"""Localization against sklearn, brute force and closed forms, and its defined results at the edges."""

import functools
import inspect
import itertools

import jax
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from jxai.metrics import detection, localization
from jxai.metrics.detection import localization_auc, relevance_rank, top_k_intersection
from jxai.metrics.localization import energy_pointing, focus, pointing_game, relevance_mass

pytestmark = pytest.mark.usefixtures("quick_compilation")

METRICS = [getattr(module, name) for module in (localization, detection) for name in module.__all__]
X = np.zeros((6, 5, 3), np.float32)
MASK = np.zeros((6, 5), bool)
MASK[1:4, 2:5] = True
RNG = np.random.default_rng(0)
MAP = RNG.normal(size=(6, 5, 3)).astype(np.float32)


@functools.cache
def compiled(metric, options):
    return jax.jit(lambda x, a, key, mask: metric(None, x, None, a, key, mask=mask, **{name: value for name, value, _ in options}))


def small(metric, a, mask=MASK, x=X, key=None, **options):
    if metric is top_k_intersection:
        options = {"k": 4, **options}
    static = tuple((name, value, type(value)) for name, value in sorted(options.items()))  # k=1 is not k=1.0
    return np.asarray(compiled(metric, static)(x, np.asarray(a, np.float32), key, mask))


def at(*place, value=1.0, background=0.0):
    a = np.full((6, 5, 1), background, np.float32)
    a[place] = value
    return a


@pytest.mark.parametrize("metric", METRICS)
def test_a_perfect_map_gets_one_and_its_reverse_the_worst(metric):
    perfect = MASK[..., None] * 2.0 - 1.0
    k = {"k": int(MASK.sum())} if metric is top_k_intersection else {}
    assert small(metric, perfect, **k) == 1
    assert small(metric, -perfect, **k) == 0


@pytest.mark.parametrize("metric", METRICS)
def test_channels_count_by_their_sum(metric):
    expected = small(metric, MAP.sum(-1, keepdims=True))
    assert np.allclose(small(metric, MAP), expected)
    spread = np.stack([MAP.sum(-1) + 5, np.full((6, 5), -3.0), np.full((6, 5), -2.0)], -1)
    assert np.allclose(small(metric, spread.astype(np.float32)), expected, atol=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_empty_and_full_masks_and_maps_that_are_constant_negative_or_not_finite(metric):
    empty, full = np.zeros((6, 5), bool), np.ones((6, 5), bool)
    level = 0.5 if metric is localization_auc else None
    assert small(metric, MAP, empty) == (level or 0) and small(metric, MAP, full) == (level or 1)
    chance = {pointing_game: MASK[0, 0], localization_auc: 0.5}.get(metric, MASK.mean())
    assert np.isclose(small(metric, np.full((6, 5, 1), 0.3)), chance)
    # Without any positive value: no positive mass, but there is still a ranking.
    negative = at(2, 3, value=-0.1, background=-1.0)
    above, chance = 1 / MASK.sum(), MASK.mean()
    expected = {pointing_game: 1, localization_auc: 0.5 + above / 2, top_k_intersection: (1 + 3 * 8 / 29) / 4, relevance_rank: chance}
    assert np.isclose(small(metric, negative), expected.get(metric, 0))
    for bad in (np.nan, np.inf, -np.inf):
        assert np.isnan(small(metric, at(0, 0, value=bad)))


def test_pointing_game_is_the_distance_to_the_mask():
    """Every position of the map against every tolerance, by brute force."""
    inside = np.argwhere(MASK)
    play = jax.jit(lambda a, tolerance: pointing_game(None, X, None, a, mask=MASK, tolerance=tolerance))
    for p in itertools.product(range(6), range(5)):
        distance = np.sqrt(((inside - p) ** 2).sum(-1).min())
        for tolerance in (0.0, 1.0, 1.42, 1.9, 2.0, 3.0):
            assert play(at(*p), tolerance) == (distance <= tolerance), (p, tolerance)
    assert small(pointing_game, at(5, 0), np.zeros((6, 5), bool), tolerance=np.inf) == 0
    assert small(pointing_game, at(5, 0), tolerance=np.inf) == 1


def test_equal_maxima_are_drawn_by_the_key():
    a = at(0, 0)
    a[2, 3] = a[2, 4] = 1
    play = jax.jit(jax.vmap(lambda a, key: pointing_game(None, X, None, a, key, mask=MASK), (None, 0)))
    keys = jax.random.split(jax.random.key(0), 3000)
    assert abs(np.asarray(play(a, keys)).mean() - 2 / 3) < 4 * np.sqrt(2 / 9 / 3000)
    assert small(pointing_game, a) == 0  # the first in the order of position
    assert np.asarray(play(at(2, 3), keys)).all()


def test_shares_of_positive_attribution():
    sums = np.maximum(MAP.sum(-1), 0)
    for metric in (energy_pointing, relevance_mass, focus):
        assert np.isclose(small(metric, MAP), sums[MASK].sum() / sums.sum(), atol=1e-6)
    for pooling, pooled in (("max-norm", np.abs(MAP).max(-1)), ("l2-norm,sq", (MAP**2).sum(-1))):
        assert np.isclose(small(relevance_mass, MAP, pooling=pooling), pooled[MASK].sum() / pooled.sum(), atol=1e-6)
        top = np.argsort(-pooled.ravel())[: MASK.sum()]
        assert np.isclose(small(relevance_rank, MAP, pooling=pooling), MASK.ravel()[top].mean())


def test_shares_neither_overflow_nor_vanish():
    for scale in (1e37, 1e-37):
        for metric in (energy_pointing, relevance_mass):
            assert np.isclose(small(metric, np.full((6, 5, 1), scale, np.float32)), MASK.mean())
        assert np.isclose(small(relevance_mass, np.full((6, 5, 1), -scale, np.float32), pooling="l2-norm,sq"), MASK.mean())


def test_focus_of_a_mosaic():
    tiles = np.kron([[1, 0], [0, 1]], np.ones((3, 3))).astype(bool)
    a = np.kron([[3, 1], [-8, 4]], np.ones((3, 3)))[..., None]
    assert np.isclose(small(focus, a, tiles, np.zeros((6, 6, 3), np.float32)), 7 / 8)


@pytest.mark.parametrize("metric", [relevance_rank, top_k_intersection])
def test_ranks_are_the_mean_over_all_orders_of_ties(metric):
    """Exhaustively: every way to break the ties among few levels."""
    a = np.array([2, 1, 1, 1, 0, 0, 1, 3], np.float32)
    mask = np.array([1, 0, 1, 1, 0, 1, 0, 0], bool)
    k = mask.sum()
    shares = []
    for order in itertools.permutations(range(8)):
        ranked = sorted(order, key=lambda p: -a[p])
        shares.append(mask[ranked[:k]].mean())
    options = {"k": int(k)} if metric is top_k_intersection else {}
    assert np.isclose(small(metric, a, mask, np.zeros(8, np.float32), **options), np.mean(shares))


def test_top_k_is_a_sort():
    flat = MAP.sum(-1).ravel()
    for k in (1, 6, 30):
        assert np.isclose(small(top_k_intersection, MAP, k=k), MASK.ravel()[np.argsort(-flat)[:k]].mean())
    assert small(top_k_intersection, MAP, k=0.2) == small(top_k_intersection, MAP, k=6)
    assert small(top_k_intersection, MAP, k=0.001) == small(top_k_intersection, MAP, k=1)
    assert small(top_k_intersection, MAP, k=1.0) == np.float32(MASK.mean())


@pytest.mark.parametrize("levels", [2, 7, None])
def test_auc_is_sklearns(levels):
    a, mask = RNG.normal(size=(40, 30, 1)).astype(np.float32), RNG.uniform(size=(40, 30)) < 0.2
    a = a + mask[..., None]
    if levels:
        a = np.round(a * levels / 4) / levels
    a[a == 0] *= RNG.choice([-1, 1], (a == 0).sum())  # −0 ties with 0
    value = small(localization_auc, a, mask, np.zeros((40, 30, 1), np.float32))
    assert np.isclose(value, roc_auc_score(mask.ravel(), a.ravel()), atol=1e-6)
    assert np.isclose(small(localization_auc, -a, mask, np.zeros((40, 30, 1), np.float32)), 1 - value, atol=1e-6)
    assert np.isclose(small(localization_auc, np.exp(3 * a), mask, np.zeros((40, 30, 1), np.float32)), value, atol=1e-6)


def test_auc_of_a_large_image_keeps_its_precision():
    """Counts of pairs beyond 2³¹."""
    a, mask = RNG.normal(size=(512, 512, 1)).astype(np.float32), RNG.uniform(size=(512, 512)) < 0.5
    value = small(localization_auc, a, mask, np.zeros((512, 512, 1), np.float32))
    assert np.isclose(value, roc_auc_score(mask.ravel(), a.ravel()), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 3), pytest.param((1,), marks=pytest.mark.slow)])
@pytest.mark.parametrize("metric", METRICS)
def test_one_position(metric, shape):
    x, a = np.zeros(shape, np.float32), np.ones(shape, np.float32)
    options = {"k": 1} if metric is top_k_intersection else {}
    for mask in (np.ones(shape[:2], bool), np.zeros(shape[:2], bool)):
        value = small(metric, a, mask, x, **options)
        assert value == (0.5 if metric is localization_auc else mask.all())


@pytest.mark.parametrize("metric", METRICS)
def test_bad_input(metric):
    bad = [
        ({"mask": np.zeros((5, 6), bool)}, r"mask must be a boolean array of shape \(6, 5\)"),
        ({"mask": np.zeros((6, 5, 1), bool)}, r"mask must be .* got bool of shape \(6, 5, 1\)"),
        ({"mask": np.zeros((6, 5))}, "mask must be .* got float64"),
        ({"mask": None}, "mask must be .* got NoneType"),
        ({"a": MAP[0]}, "attribution must have shape"),
        ({"a": MAP[..., :2]}, "attribution must have shape"),
        ({"a": MAP.astype(int)}, "attribution must be floating point"),
        ({"x": np.zeros((6, 5, 3), np.uint8)}, "x must be a floating-point array"),
    ]
    own = {
        "tolerance": [({"tolerance": -1}, "tolerance=-1"), ({"tolerance": np.nan}, "tolerance=nan")],
        "k": [({"k": 0}, "k=0"), ({"k": 31}, "k=31 is more than the 30 positions"), ({"k": 1.5}, "k=1.5"), ({"k": True}, "k=True")],
        "pooling": [({"pooling": "mean"}, "pooling='mean' must be one of 'sum,pos'")],
    }
    for option in inspect.signature(metric).parameters:
        bad += own.get(option, [])
    for changes, words in bad:
        with pytest.raises(ValueError, match=words) as error:
            given = {"x": X, "a": MAP, "mask": MASK, **({"k": 4} if metric is top_k_intersection else {}), **changes}
            metric(None, given.pop("x"), None, given.pop("a"), **given)
        assert "\n" not in str(error.value)


def test_the_default_k_does_not_fit_a_small_image():
    with pytest.raises(ValueError, match="k=1000 is more than the 30 positions of x"):
        top_k_intersection(None, X, None, MAP, mask=MASK)
