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
F = jax.tree_util.Partial(lambda w, x: w @ x, jnp.asarray(W))
LABEL = int((W @ X).argmax())
RADIUS = 0.35


def exact(free, radius=RADIUS):
    """The least margin of the linear model while these features move, in float64."""
    w, x = np.float64(W), np.float64(X)
    d = w[LABEL] - np.delete(w, LABEL, 0)
    return (d @ x - radius * np.abs(d) @ np.asarray(free, np.float64)).min()


def by_hand(order, radius=RADIUS):
    free, seen = np.zeros(8, bool), [exact(np.zeros(8), radius)]
    for i in order:
        tried = free | (np.arange(8) == i)
        seen.append(exact(tried, radius))
        free = tried if seen[-1] > 0 else free
    return ~free, seen


@pytest.mark.parametrize("method", ["interval", "forward", "crown_ibp", "crown", "alpha_crown"])
def test_a_linear_model_is_searched_as_by_hand(method):
    for order in (np.arange(8), np.arange(8)[::-1], RNG.permutation(8)):
        found = minimal_explanation(F, X, radius=RADIUS, order=order, method=method)
        held, seen = by_hand(order)
        assert np.array_equal(found.held, held) and np.array_equal(found.order, order) and 0 < held.sum() < 8
        assert np.allclose(found.margins, seen, atol=1e-4) and found.label == LABEL
        assert found.holds and found.margin == pytest.approx(exact(~held), abs=1e-4) and found.margin == found.margins[1:][found.margins[1:] > 0][-1]
        # Minimal: to free any one of the held features breaks the proof, and here the class.
        for i in np.flatnonzero(held):
            assert exact(~held | (np.arange(8) == i)) <= 0
            assert not verify(F, X, dataclasses.replace(found, held=found.held.at[i].set(False))).holds
        assert verify(F, X, found).holds


def test_the_order_of_sensitivity():
    """By the drop of the margin when a feature alone moves; on a linear model of two classes this frees the most that can be freed."""
    found = minimal_explanation(F, X, radius=RADIUS)
    alone = [exact(np.arange(8) == i) for i in range(8)]
    assert np.array_equal(found.order, np.argsort(-np.asarray(alone), kind="stable"))
    two = jax.tree_util.Partial(lambda w, x: w @ x, F.args[0][np.asarray([LABEL, (LABEL + 1) % 3])])
    best = minimal_explanation(two, X, radius=RADIUS).size
    assert 0 < best < 8
    assert all(minimal_explanation(two, X, key=jax.random.key(n), radius=RADIUS, order="random").size >= best for n in range(6))


def test_the_ends():
    """Nothing is held at a radius of 0, and all of x where it is not of the class; norms and a valid range narrow what moves."""
    assert minimal_explanation(F, X, radius=0.0).size == 0
    wrong = minimal_explanation(F, X, (LABEL + 1) % 3, radius=0.01)
    assert wrong.held.all() and not wrong.holds and wrong.margin < 0 and not verify(F, X, wrong).holds
    assert minimal_explanation(F, X, radius=50.0).held.sum() == 8
    whole = minimal_explanation(F, X, radius=RADIUS)
    for narrower in ({"p": 2}, {"p": 1}, {"clip": (0.1, 0.9)}):
        found = minimal_explanation(F, X, radius=RADIUS, order=whole.order, **narrower)
        assert found.size <= whole.size and verify(F, X, found).holds
    segments = np.asarray([0, 0, 1, 1, 9, 2, 2, 9])
    grouped = minimal_explanation(F, X, radius=0.02, segments=jnp.asarray(segments), num_segments=3)
    assert np.array_equal(grouped.mask, [0, 0, 0, 0, 1, 0, 0, 1])  # what belongs to no feature is held


def test_under_transformations():
    f, xs = cases.network((6,)), jnp.stack([cases.example((6,), n) for n in range(3)])
    labels = jax.vmap(f)(xs).argmax(1)

    def explain(f, x, label):
        return minimal_explanation(f, x, label, radius=0.1, method="crown_ibp")

    batch = jax.jit(jax.vmap(explain, (None, 0, 0)))(f, xs, labels)
    assert batch.digests is None
    for n in range(3):
        alone = explain(f, xs[n], labels[n])
        assert np.array_equal(batch.held[n], alone.held) and np.allclose(batch.margins[n], alone.margins, rtol=1e-4, atol=1e-5)
        one = dataclasses.replace(jax.tree.map(lambda v, n=n: v[n], batch), digests=digests(f, xs[n]))
        assert verify(f, xs[n], one).holds == bool(alone.holds)
    nothing = jax.jit(explain)(f, xs[0], jnp.int32(9))
    assert nothing.held.all() and jnp.isnan(nothing.margins).all() and not nothing.holds
    closure = jax.jit(lambda w: minimal_explanation(lambda v: w @ v, X, LABEL, radius=RADIUS).held)(W)
    assert np.array_equal(closure, minimal_explanation(F, X, radius=RADIUS).held)


@pytest.mark.parametrize("kind", ["vector", "image"])
def test_nothing_that_moves_changes_the_class(kind):
    shape, spread = cases.SHAPES[kind], []
    for seed in range(3):
        f, x = cases.network(shape, seed), cases.example(shape, seed)
        found = minimal_explanation(f, x, radius=0.08, segments=cases.segments(shape), order="random", key=jax.random.key(seed), method="crown_ibp")
        keys = jax.random.split(jax.random.key(seed), 2000)
        logits = jax.vmap(lambda k: f(random_point(found.region(x), k)))(keys)
        own = logits[:, found.label]
        assert found.holds and (own - jnp.where(jnp.arange(cases.CLASSES) == found.label, -jnp.inf, logits).max(1) >= found.margin - 1e-5).all()
        spread.append(float(logits.std(0).max()))
    assert max(spread) > 0.01  # something does move


@pytest.fixture(scope="module")
def digit():
    """The robust network, a test digit, and what settles its class while the rest of it moves by 0.1."""
    try:
        f, source = available()["robust_mnist"].build().model, data.source("mnist")
    except (ImportError, OSError, ValueError) as error:
        pytest.skip(str(error))
    x, other = (jnp.asarray(np.float32(source[n].pixels) / 255) for n in (0, 1))
    return f, x, other, minimal_explanation(f, x, radius=0.1, clip=(0, 1), grid=7, method="crown_ibp")


def test_a_digit(digit, tmp_path):
    f, x, other, found = digit
    label = int(f(x).argmax())
    assert found.label == label and found.holds and 5 < found.size < 25
    assert verify(f, x, found).holds
    save(tmp_path / "minimal.npz", found)
    assert verify(f, x, load(tmp_path / "minimal.npz", MinimalExplanation)).holds
    # IBP-like bounds are monotone enough here: every step was taken exactly where the margin allowed it.
    free = np.zeros(49, bool)
    for i, margin in zip(np.asarray(found.order), np.asarray(found.margins[1:])):
        free[i] = margin > 0
    assert np.array_equal(free, ~np.asarray(found.held))
    loose = margins(f, ball(x, 0.1, math.inf, (0, 1)), label, method="crown_ibp")
    assert np.delete(loose, label).min() < 0  # not all may move, by these bounds


def test_no_lie_about_a_digit_passes(digit):
    f, x, other, found = digit
    moved = jax.tree.map(lambda v: v * 1.01 if jnp.issubdtype(v.dtype, jnp.floating) else v, f)
    assert not verify(f, other, found).holds and not verify(moved, x, found).holds
    changes = [{"held": jnp.zeros(49, bool)}, {"radius": found.radius * 2}, {"label": (found.label + 1) % 10}, {"segments": found.segments[::-1]}]
    least = int(found.order[np.flatnonzero(np.asarray(found.margins[1:]) <= 0)[-1]])
    changes += [{"held": found.held.at[least].set(False)}, {"method": "interval"}, {"digests": None}]
    for change in changes:
        assert not verify(f, x, dataclasses.replace(found, **change)).holds, change
    # A weaker claim, and true: more is held, or the rest moves less. What is stored of the search is no part of it.
    for change in ({"held": jnp.ones(49, bool)}, {"radius": found.radius * 0.9}, {"margin": jnp.float32(-1), "margins": found.margins * 0}):
        assert verify(f, x, dataclasses.replace(found, **change)).holds, change
    with pytest.raises(ValueError, match="the certificate's radius"):
        verify(f, x[:14], found)


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
