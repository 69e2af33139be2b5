"""Minimal explanations: the greedy search of linear models by hand, proofs that samples cannot break, and lies that fail."""

import dataclasses
import math

import cases
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import data
from jxai.bounds import ball, margins
from jxai.bounds.projection import random_point
from jxai.certificates import digests, load, save, verify
from jxai.models import available
from jxai.sufficiency import MinimalExplanation, minimal_explanation

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(3)
W = RNG.normal(size=(3, 8)).astype(np.float32)
X = RNG.uniform(0.2, 0.8, 8).astype(np.float32)
F = jax.tree_util.Partial(lambda w, x: w @ x, W)
LABEL = int((W @ X).argmax())
RADIUS = 0.35
SEED = 8


def exact(free, radius=RADIUS, p=math.inf, clip=None):
    """The least margin of the linear model while these features move, in float64: over a box, or by the dual norm."""
    w, x, free = np.float64(W), np.float64(X), np.asarray(free, bool)
    d = w[LABEL] - np.delete(w, LABEL, 0)
    if p == math.inf:
        low, high = (x - radius, x + radius) if clip is None else (np.maximum(x - radius, clip[0]), np.minimum(x + radius, clip[1]))
        return (d * np.where(free, np.where(d > 0, low, high), x)).sum(1).min()
    return (d @ x - radius * np.linalg.norm(d * free, {1: math.inf, 2: 2}[p], axis=1)).min()


def by_hand(order, **options):
    free, seen = np.zeros(8, bool), [exact(np.zeros(8), **options)]
    for i in order:
        tried = free | (np.arange(8) == i)
        seen.append(exact(tried, **options))
        free = tried if seen[-1] > 0 else free
    return ~free, seen


@pytest.mark.parametrize("method", ["interval", "crown", *(pytest.param(m, marks=pytest.mark.slow) for m in ("forward", "crown_ibp", "alpha_crown"))])
def test_a_linear_model_is_searched_as_by_hand(method):
    for order in (np.arange(8), np.arange(8)[::-1], RNG.permutation(8)):
        found = minimal_explanation(F, X, radius=RADIUS, order=order, method=method)
        held, seen = by_hand(order)
        assert np.array_equal(found.held, held) and np.array_equal(found.order, order) and 0 < held.sum() < 8
        assert np.allclose(found.margins, seen, atol=1e-4) and found.label == LABEL
        seen = np.asarray(found.margins)[1:]
        assert found.holds and found.margin == pytest.approx(exact(~held), abs=1e-4) and float(found.margin) == seen[seen > 0][-1]
        # Minimal: to free any one of the held features breaks the proof, and here the class.
        for i in np.flatnonzero(held):
            assert exact(~held | (np.arange(8) == i)) <= 0
            assert not verify(F, X, dataclasses.replace(found, held=held & (np.arange(8) != i))).holds
        assert verify(F, X, found).holds


def test_the_order_of_sensitivity():
    """By the drop of the margin when a feature alone moves; on a linear model of two classes this frees the most that can be freed."""
    found = minimal_explanation(F, X, radius=RADIUS, method="interval")
    alone = [exact(np.arange(8) == i) for i in range(8)]
    assert np.array_equal(found.order, np.argsort(-np.asarray(alone), kind="stable"))
    two = jax.tree_util.Partial(F.func, W[np.asarray([LABEL, (LABEL + 1) % 3])])
    size = lambda **options: np.sum(minimal_explanation(two, X, radius=RADIUS, method="interval", **options).held)
    best = size()
    assert 0 < best < 8
    assert all(size(key=jax.random.key(n), order="random") >= best for n in range(6))


def test_the_ends():
    """Nothing is held at a radius of 0, and all of x where it is not of the class or all may be anything."""
    assert minimal_explanation(F, X, radius=0.0).size == 0
    wrong = minimal_explanation(F, X, (LABEL + 1) % 3, radius=0.01)
    assert np.asarray(wrong.held).all() and not wrong.holds and wrong.margin < 0 and not verify(F, X, wrong).holds
    assert np.asarray(minimal_explanation(F, X, radius=50.0).held).all()
    segments = np.asarray([0, 0, 1, 1, 9, 2, 2, 9])
    grouped = minimal_explanation(F, X, radius=0.02, segments=segments, num_segments=3)
    assert np.array_equal(grouped.mask, [0, 0, 0, 0, 1, 0, 0, 1])  # what belongs to no feature is held


@pytest.mark.parametrize("options", [{"p": 2, "radius": 0.8}, {"clip": (0.15, 0.85)}, pytest.param({"p": 1, "radius": 1.5}, marks=pytest.mark.slow)])
def test_norms_and_a_valid_range_narrow_what_moves(options):
    order = np.arange(8)
    found = minimal_explanation(F, X, **{"radius": RADIUS, **options}, order=order)
    held, seen = by_hand(order, **options)
    assert np.array_equal(found.held, held) and 0 < held.sum() < 8 and np.allclose(found.margins, seen, atol=1e-4)
    assert exact(~np.zeros(8, bool), **options) > exact(~np.zeros(8, bool), options.get("radius", RADIUS)) + 0.1  # so that it matters
    assert verify(F, X, found).holds


def network(seed=0):
    """Of six inputs, with ReLUs."""
    rng = np.random.default_rng(seed)
    return jax.tree_util.Partial(rectified, [rng.normal(size=(6, 7)).astype(np.float32), rng.normal(size=(7, 4)).astype(np.float32)])


def rectified(weights, x):
    return jax.nn.relu(x @ weights[0]) @ weights[1]


def predicted(f, x):
    return int((np.maximum(x @ f.args[0][0], 0) @ f.args[0][1]).argmax())


def test_under_transformations():
    f, xs = network(), RNG.uniform(size=(3, 6)).astype(np.float32)
    labels = np.asarray([*(predicted(f, x) for x in xs[:2]), 9])

    def explain(f, x, label):
        return minimal_explanation(f, x, label, radius=0.15, method="interval")

    batch = jax.jit(jax.vmap(explain, (None, 0, 0)))(f, xs, labels)
    assert batch.digests is None
    batch = jax.tree.map(np.asarray, batch)
    for n in range(2):
        alone = explain(f, xs[n], labels[n])
        assert np.array_equal(batch.held[n], alone.held) and np.allclose(batch.margins[n], alone.margins, rtol=1e-4, atol=1e-5)
        one = dataclasses.replace(jax.tree.map(lambda v, n=n: v[n], batch), digests=digests(f, xs[n]))
        assert verify(f, xs[n], one).holds == bool(alone.holds)
    assert 0 < batch.held[:2].sum() < 12
    assert batch.held[2].all() and np.isnan(batch.margins[2]).all() and not batch.holds[2]  # no class is the ninth
    closure = jax.jit(lambda w: minimal_explanation(lambda v: w @ v, X, LABEL, radius=RADIUS, method="interval").held)(W)
    assert np.array_equal(closure, minimal_explanation(F, X, radius=RADIUS, method="interval").held)


@pytest.mark.parametrize("kind", ["vector", pytest.param("image", marks=pytest.mark.slow)])
def test_nothing_that_moves_changes_the_class(kind):
    shape, spread = cases.SHAPES[kind], []

    @jax.jit
    def sampled(f, region, key):
        return jax.vmap(lambda k: f(random_point(region, k)))(jax.random.split(key, 2000))

    for seed in range(3):
        f, x = network(seed) if kind == "vector" else cases.network(shape, seed), np.random.default_rng(seed).uniform(size=shape).astype(np.float32)
        found = minimal_explanation(f, x, radius=0.08, segments=cases.segments(shape), order="random", key=jax.random.key(seed), method="crown_ibp")
        logits, label = np.asarray(sampled(f, found.region(x), jax.random.key(seed))), int(found.label)
        assert found.holds and (logits[:, label] - np.delete(logits, label, 1).max(1) >= float(found.margin) - 1e-5).all()
        spread.append(float(logits.std(0).max()))
    assert max(spread) > 0.01  # something does move


@pytest.fixture(scope="module", params=["network", pytest.param("digit", marks=pytest.mark.slow)])
def explained(request):
    """A model, an x, another one, what settles the class of x while the rest of it moves, and how many features there are.

    A network of a few units; or the robust one of a digit, whose rest moves by 0.1.
    """
    if request.param == "network":
        f, (x, other) = network(SEED), np.random.default_rng(SEED).uniform(0.2, 0.8, (2, 6)).astype(np.float32)
        return f, x, other, minimal_explanation(f, x, radius=0.1, clip=(0, 1), method="crown_ibp"), 6
    try:
        f, source = available()["robust_mnist"].build().model, data.source("mnist")
    except (ImportError, OSError, ValueError) as error:
        pytest.skip(str(error))
    x, other = (np.float32(source[n].pixels) / 255 for n in (0, 1))
    return f, x, other, minimal_explanation(f, x, radius=0.1, clip=(0, 1), grid=7, method="crown_ibp"), 49


def test_the_rest_is_freed_as_far_as_the_margin_allows(explained, tmp_path):
    f, x, other, found, num = explained
    label = int(np.argmax(jax.jit(f)(x)))
    assert found.label == label and found.holds and num / 10 < np.sum(found.held) < num / 2 + 1
    assert verify(f, x, found).holds
    save(tmp_path / "minimal.npz", found)
    assert verify(f, x, load(tmp_path / "minimal.npz", MinimalExplanation)).holds
    # IBP-like bounds are monotone enough here: every step was taken exactly where the margin allowed it.
    free = np.zeros(num, bool)
    for i, margin in zip(np.asarray(found.order), np.asarray(found.margins)[1:]):
        free[i] = margin > 0
    assert np.array_equal(free, ~np.asarray(found.held))
    loose = jax.jit(lambda f, x: margins(f, ball(x, 0.1, math.inf, (0, 1)), label, method="crown_ibp"))(f, x)
    assert np.delete(loose, label).min() < 0  # not all may move, by these bounds


def test_no_lie_passes(explained):
    f, x, other, found, num = explained
    moved = jax.tree.map(lambda v: v * np.float32(1.01) if jnp.issubdtype(v.dtype, jnp.floating) else v, f)
    assert not verify(f, other, found).holds and not verify(moved, x, found).holds
    held, radius = np.asarray(found.held), np.asarray(found.radius)
    least = np.asarray(found.order)[np.flatnonzero(np.asarray(found.margins)[1:] <= 0)[-1]]
    changes = [{"held": np.zeros(num, bool)}, {"radius": radius * 2}, {"label": (int(found.label) + 1) % 4}, {"segments": np.asarray(found.segments)[::-1]}]
    changes += [{"held": held & (np.arange(num) != least)}, {"method": "interval"}, {"digests": None}]
    for change in changes:
        assert not verify(f, x, dataclasses.replace(found, **change)).holds, change
    # A weaker claim, and true: more is held, or the rest moves less. What is stored of the search is no part of it.
    for change in ({"held": np.ones(num, bool)}, {"radius": radius * np.float32(0.9)}, {"margin": np.float32(-1), "margins": np.zeros(num + 1, np.float32)}):
        assert verify(f, x, dataclasses.replace(found, **change)).holds, change
    with pytest.raises(ValueError, match="the certificate's radius"):
        verify(f, x[:5], found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"radius": -1.0}, "radius=-1.0 must be"),
        ({"p": 3}, "p=3 must be"),
        ({"clip": (0.5, 0.6)}, "must lie in clip"),
        ({"order": "greedy"}, "order='greedy' must be one of 'sensitivity', 'random'"),
        ({"order": "random"}, "key=None"),
        ({"order": np.arange(5)}, "order must be 'sensitivity', 'random', or the 8 features"),
        ({"order": np.zeros(8, int)}, "order must name each of the 8 features once"),
        ({"method": "ibp"}, "method='ibp' must be one of"),
        ({"rounding": "up"}, "rounding='up' must be one of"),
        ({"grid": 9}, "grid=9 is larger"),
        ({"target": 3}, "target=3 must be a class"),
        ({"segments": np.zeros(8)}, "segments must be integers"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        minimal_explanation(F, X, **{"radius": 0.1, **options})


def test_models_that_cannot_change_are_refused():
    with pytest.raises(ValueError, match="two classes"):
        minimal_explanation(lambda v: v[:1], X, 0, radius=0.1)
    with pytest.raises(ValueError, match="vector of logits"):
        minimal_explanation(lambda v: v.sum(), X, 0, radius=0.1)
