"""Robustness-S_r against its closed form on linear models and against a search by brute force."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai import each
from jxai.metrics import adversarial
from jxai.metrics.documented import direction

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
W = RNG.normal(size=(10, 2)).astype(np.float32)
X = RNG.uniform(0.2, 0.8, 10).astype(np.float32)
TARGET = int(np.argmax(X @ W))
DIFFERENCE = W[:, TARGET] - W[:, 1 - TARGET]
MARGIN = float(X @ DIFFERENCE)
SHARES = (0.1, 0.2, 0.5, 0.9)


def affine(w, b=(0, 0)):
    return Partial(_affine, np.float32(w), np.float32(b))


def _affine(w, b, x):
    return x.ravel() @ w + b


linear = affine(W)


@functools.cache
def compiled(options):
    return jax.jit(lambda f, x, target, a, key: adversarial.robustness_sr(f, x, target, a, key, **dict(options)))


def robustness_sr(f, x, target, a, key=None, **options):
    """Compiled whole, and once for each set of options: the model is data."""
    options = {"p": 2, "features": "relevant", **options}
    return jax.tree.map(np.asarray, compiled(tuple(sorted(options.items())))(f, x, np.int32(target), a, key))


def dual(v, p):
    return np.abs(v).sum() if p == math.inf else np.linalg.norm(v)


@pytest.mark.parametrize(
    "p, features",
    [
        (2, "relevant"),
        (2, "irrelevant"),
        (math.inf, "relevant"),
        pytest.param(math.inf, "irrelevant", marks=pytest.mark.slow),
    ],
)
def test_a_linear_model_has_a_closed_form(p, features):
    """`margin / ‖w_S‖` in the dual norm, of the top features and of the others."""
    assert features in adversarial.FEATURES and len(adversarial.FEATURES) == 2
    order = np.argsort(-DIFFERENCE)
    found = robustness_sr(linear, X, TARGET, DIFFERENCE, shares=SHARES, p=p, features=features)
    counts = [round(10 * r) for r in SHARES]
    free = [order[:n] if features == "relevant" else order[n:] for n in counts]
    np.testing.assert_allclose(found.y, [MARGIN / dual(DIFFERENCE[s], p) for s in free], rtol=2e-3)
    np.testing.assert_allclose(found.x, SHARES)
    np.testing.assert_allclose(found.auc, np.trapezoid(found.y, SHARES) / 0.8, rtol=1e-5)
    if p == 2 and features == "relevant":
        one = robustness_sr(linear, X, TARGET, DIFFERENCE, shares=0.5)
        assert one.shape == () and np.isclose(one, MARGIN / dual(DIFFERENCE[order[:5]], p), rtol=2e-3)


def test_the_true_ranking_is_the_best_and_the_reversed_the_worst():
    """By the magnitudes of the weights; of the irrelevant features the other way round."""
    magnitude = np.abs(DIFFERENCE)
    others = [RNG.permutation(magnitude) for _ in range(4)]
    for features, sign in (("relevant", 1), ("irrelevant", -1)):
        best, worst, *rest = (sign * float(robustness_sr(linear, X, TARGET, a, features=features, shares=SHARES).auc) for a in (magnitude, -magnitude, *others))
        assert all(best <= value <= worst for value in rest) and best < worst
    assert direction(adversarial.robustness_sr) == -1


def test_a_range_bends_the_path_and_can_close_it():
    """Entries that reach the range leave the rest of the way to the others: as a quadratic program finds."""
    from scipy.optimize import minimize

    order = np.argsort(-np.abs(DIFFERENCE))[:5]
    low, high = 0.1, 0.9
    found = robustness_sr(linear, X, TARGET, np.abs(DIFFERENCE), shares=0.5, clip=(low, high), steps=80, rounds=16)
    w, x = DIFFERENCE[order].astype(float), X[order].astype(float)
    constraint = {"type": "ineq", "fun": lambda d: -(MARGIN + d @ w)}
    truth = minimize(lambda d: d @ d, -MARGIN * w / (w @ w), bounds=list(zip(low - x, high - x)), constraints=constraint)
    farthest = np.linalg.norm(np.maximum(X - low, high - X))
    if truth.success:
        assert np.isclose(found, np.sqrt(truth.fun), rtol=1e-2)
    else:
        assert np.isclose(found, farthest)
    closed = robustness_sr(linear, X, TARGET, np.abs(DIFFERENCE), shares=0.1, clip=(float(X.min()) - 1e-3, float(X.max()) + 1e-3))
    assert np.isclose(closed, np.linalg.norm(np.maximum(X - X.min() + 1e-3, X.max() + 1e-3 - X)), rtol=1e-5)


@Partial
def quadratic(x):
    """Class 0 inside a circle around (1, 0.5), class 1 outside."""
    return jnp.stack([1.0 - (x[0] - 1) ** 2 - (x[1] - 0.5) ** 2, 0 * x[0]])


def test_a_curved_boundary_is_met_at_its_nearest_point():
    """From (1.3, 0.5) the nearest way along the first entry is 0.7, along the second √(1 − 0.09)."""
    x = np.float32([1.3, 0.5])
    assert np.isclose(robustness_sr(quadratic, x, 0, np.float32([2, 1]), shares=0.5), 0.7, rtol=5e-3)
    # The gradient along the second entry is 0 at x: no way is found, though there is one.
    assert robustness_sr(quadratic, x, 0, np.float32([1, 2]), shares=0.5) == math.inf
    assert robustness_sr(quadratic, x, 0, np.float32([1, 2]), shares=0.5, max_radius=3.0) == 3
    x = np.float32([1.3, 0.6])
    assert np.isclose(robustness_sr(quadratic, x, 0, np.float32([1, 2]), shares=0.5), np.sqrt(0.91) - 0.1, rtol=5e-3)


def test_nothing_is_found_where_the_features_do_not_matter_and_nothing_is_needed_where_x_is_misclassified():
    first = affine([[1, -1], [0, 0], [0, 0], [0, 0]], [0, 0.1])
    x = np.float32([0.5, 0.5, 0.5, 0.5])
    blind = np.float32([0, 1, 2, 3])
    assert robustness_sr(first, x, 0, blind, shares=0.5) == math.inf
    assert np.isclose(robustness_sr(first, x, 0, blind, shares=0.5, clip=(0.0, 1.0)), 1.0)
    assert np.isclose(robustness_sr(first, x, 0, blind, shares=0.5, features="irrelevant"), 0.45, rtol=2e-3)
    assert robustness_sr(first, x, 1, blind, shares=0.5) == robustness_sr(linear, X, 1 - TARGET, DIFFERENCE, shares=0.5) == 0
    # What may not change stays, also where it lies outside the range.
    x = np.float32([0.5, 0.5, 0.5, 1.5])
    last = affine([[-0.01, 0], [0, 0], [0, 0], [1, 0]], [0, 1.2])
    assert np.isclose(robustness_sr(last, x, 0, -blind, shares=0.25, clip=(0.0, 1.0), max_radius=9.0), 9.0)


def test_a_position_changes_with_all_of_its_channels_whatever_channels_the_map_has():
    """Also by segments, whose score is their mean."""
    w = RNG.normal(size=(3, 4, 2)).astype(np.float32)
    f = affine(np.stack([w.ravel(), 0 * w.ravel()], 1), [3, 0])
    x = np.zeros((3, 4, 2), np.float32)
    a = np.abs(w)
    top = np.argsort(-a.sum(-1).ravel())[:6]
    expected = 3 / np.linalg.norm(w.reshape(12, 2)[top])
    for given in (a, a.sum(-1, keepdims=True)):
        assert np.isclose(robustness_sr(f, x, 0, given, shares=0.5), expected, rtol=2e-3)
    rows = np.argmax(a.sum((1, 2)))
    labels = np.repeat(np.arange(3), 4).reshape(3, 4)
    by_label = jax.jit(lambda x, a: adversarial.robustness_sr(f, x, 0, a, shares=0.34, segments=labels))(x, a)
    assert np.isclose(by_label, 3 / np.linalg.norm(w[rows]), rtol=2e-3)


def test_ties_go_by_position_or_at_random_with_a_key():
    flat = np.ones(10, np.float32)
    assert np.isclose(robustness_sr(linear, X, TARGET, flat, shares=0.5), MARGIN / np.linalg.norm(DIFFERENCE[:5]), rtol=2e-3)
    keyed = [float(robustness_sr(linear, X, TARGET, flat, jax.random.key(n), shares=0.5)) for n in range(4)]
    assert len(set(keyed)) > 1


def test_bad_data_is_nan():
    a = np.abs(DIFFERENCE)
    spoilt = a.copy()
    spoilt[3] = np.nan
    assert np.isnan(robustness_sr(linear, X, TARGET, spoilt, shares=SHARES).y).all()
    of_class = lambda t: robustness_sr(linear, X, t, a, shares=SHARES).auc
    assert np.isnan(of_class(2)) and np.isfinite(of_class(TARGET))


def test_shares_at_once_and_a_batch_agree_with_one_by_one():
    a = np.abs(DIFFERENCE)
    whole = robustness_sr(linear, X, TARGET, a, shares=SHARES)
    np.testing.assert_allclose(robustness_sr(linear, X, TARGET, a, shares=SHARES, chunk=1).y, whole.y, rtol=1e-5)
    xs, maps = np.stack([X, X * 0.9]), np.stack([a, a[::-1]])
    batch = each(adversarial.robustness_sr, linear, xs, np.argmax(xs @ W, -1), maps, shares=SHARES)
    np.testing.assert_allclose(batch.y[0], whole.y, rtol=1e-4)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"features": "all"}, "features='all' must be one of 'relevant', 'irrelevant'"),
        ({"p": 1}, "p=1 must be 2 or math.inf"),
        ({"shares": 1.0}, "shares=1.0 must be"),
        ({"shares": (0.5, 0.2)}, r"shares=\(0.5, 0.2\) must be"),
        ({"shares": ()}, r"shares=\(\)"),
        ({"clip": (1.0, 0.0)}, r"clip=\(1.0, 0.0\)"),
        ({"max_radius": 0.0}, "max_radius=0.0"),
        ({"rounds": 0}, "rounds=0"),
        ({"steps": 0}, "steps=0"),
        ({"grid": 1}, "one feature"),
    ],
)
def test_bad_options_are_named(options, named):
    with pytest.raises(ValueError, match=named) as error:
        adversarial.robustness_sr(linear, X, TARGET, X, **options)
    assert "\n" not in str(error.value)


def test_a_class_must_be_there_to_change():
    x = X
    with pytest.raises(ValueError, match="two classes or more for the class to change, got 1"):
        adversarial.robustness_sr(lambda v: linear(v)[:1], x, 0, x)
    with pytest.raises(ValueError, match="target=None"):
        adversarial.robustness_sr(lambda v: linear(v)[0], x, None, x)
    with pytest.raises(ValueError, match="one feature"):
        adversarial.robustness_sr(lambda v: v[0] * jnp.arange(2.0), x[:1], 0, x[:1])
    with pytest.raises(ValueError, match="attribution must have shape"):
        adversarial.robustness_sr(linear, x, 0, x[:4])
