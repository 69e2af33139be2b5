"""What a search found is brought nearer by exchanging one change for another: closed forms, and the exact optimum of logistic models."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from experiments.counterfactual.constrained_optimum import KINDS, optimum, problem
from jxai.counterfactual import Frozen, OneHot, Ordinal, run, wachter

pytestmark = pytest.mark.usefixtures("quick_compilation")


def _linear(w, b, x):
    return jnp.stack([jnp.zeros_like(b), w @ x + b])


def linear(w, b):
    return Partial(_linear, jnp.asarray(w, jnp.float32), jnp.asarray(b, jnp.float32))


@functools.cache
def compiled(name, **options):
    return jax.jit(jax.vmap(lambda w, b, x: wachter(linear(w, b), x, 1, clip=None, constraints=CONSTRAINTS[name], steps=100, learning_rate=0.05, **options)))


CONSTRAINTS = {
    "ordinal": (Ordinal(0, (0, 1, 2, 3)),),
    "groups": (OneHot(((0, 1, 2), (3, 4))),),
}


def found(name, w, b, x, **options):
    one = compiled(name, **options)(*(np.asarray(v, np.float32)[None] for v in (w, b, x)))
    assert one.valid[0] and np.dot(w, one.x[0]) + b >= -1e-5
    return np.asarray(one.x[0])


def test_a_level_that_nothing_needs_goes_back():
    # 1.9 / 2 of the second feature does it; the first level overshoots by nothing, but costs 1 and leaves .4 to the others.
    np.testing.assert_allclose(found("ordinal", [1.5, 2, 1.2], -1.9, [0, 0, 0]), [0, 0.95, 0], atol=1e-3)
    # Where levels are cheap, two of them are best, though one and something would do.
    np.testing.assert_allclose(found("ordinal", [5, 2, 1.2], -9.9, [0, 0, 0]), [2, 0, 0], atol=1e-3)


@pytest.mark.slow
def test_of_two_categories_the_one_that_suffices_changes():
    x = [1, 0, 0, 1, 0, 0.3]
    # Either group's change suffices alone; that with the last feature would be .9 further than needed.
    np.testing.assert_allclose(found("groups", [0, 2, 3, 0, 1, 0.5], -1.5 - 0.15, x)[5], 0.3, atol=1e-6)
    # A number that does it for less than two entries of a group.
    np.testing.assert_allclose(found("groups", [0, 2, 3, 0, 1, 2], -1.6, x), [1, 0, 0, 1, 0, 0.8], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("distance", ["l2", "squared"])
def test_in_l2_numbers_go_along_the_slope(distance):
    w, b, x = np.asarray([1.0, 2, 2]), -4.5, np.zeros(3)
    # 4.5 / ‖w‖² · w without the ordinal is (.5, 1, 1); the level 0 leaves the other two, level 1 costs more.
    truth = {0: np.asarray([0, 4.5 / 8 * 2, 4.5 / 8 * 2]), 1: np.asarray([1, 3.5 / 8 * 2, 3.5 / 8 * 2])}
    best = min(truth.values(), key=np.linalg.norm)
    np.testing.assert_allclose(found("ordinal", w, b, x, distance=distance), best, atol=2e-3)


@pytest.mark.slow
def test_what_is_frozen_stays_and_run_finds_the_same():
    f, x = linear([1.5, 2, 1.2], -1.9), np.zeros((3, 3), np.float32)
    regions = np.asarray([[1, 1, 1], [1, 0, 1], [0, 0, 1]], bool)
    search = wachter.search(clip=None, constraints=CONSTRAINTS["ordinal"], steps=100, learning_rate=0.05)
    got = run(search, f, x, np.ones(3, int), per_example={"region": regions}, batch_size=2)
    assert got.valid.all()
    # Without the cheapest: a level and .4 of 1.2; without that, too: the last alone.
    np.testing.assert_allclose(got.x, [[0, 0.95, 0], [1, 0, 0.4 / 1.2], [0, 0, 1.9 / 1.2]], atol=1e-3)
    alone = wachter(f, x[1], 1, clip=None, constraints=(*CONSTRAINTS["ordinal"], Frozen(regions[1])), steps=100, learning_rate=0.05)
    np.testing.assert_allclose(alone.x, got.x[1], atol=1e-4)


def test_moves_that_go_too_far_are_cut():
    # The slope of tanh is less where it saturates: a step by the slope at 0 falls short, one back from the far side goes too far.
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), jnp.tanh(x[0] * w) + 0.3 * jnp.expm1(x[1]) - 0.6]), np.float32(1.5))
    got = wachter(f, np.zeros(2, np.float32), 1, clip=None, steps=20, learning_rate=0.2)
    assert got.valid
    np.testing.assert_allclose(np.abs(got.x).sum(), np.arctanh(0.6) / 1.5, rtol=5e-3)


def test_without_exchanges_and_for_pictures_nothing_is_exchanged():
    assert wachter.search(exchanges=0).then is None
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), (w * x).sum() - 3]), np.float32([[1, 2], [0.5, 0.2]]))
    x = np.full((2, 2), 0.4, np.float32)
    with_it, without = (wachter(f, x, 1, steps=40, learning_rate=0.05, exchanges=n) for n in (50, 0))
    np.testing.assert_array_equal(with_it.x, without.x)
    assert with_it.steps == without.steps


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_random_logistic_models_are_solved_nearly(name):
    kind, rng = KINDS[name], np.random.default_rng(3)
    w, b, x = (np.stack(part) for part in zip(*(problem(kind, rng) for _ in range(20))))
    method = lambda w, b, x: wachter(linear(w, b), x, 1, clip=kind.clip, constraints=kind.constraints, steps=300, scale=1.0)
    got = jax.tree.map(np.asarray, jax.jit(jax.vmap(method))(w, b, x))
    assert got.valid.all()
    ratio = np.abs(got.x - x).sum(1) / [optimum(kind, *one) for one in zip(w, b, x)]
    assert (ratio >= 1 - 1e-4).all() and np.median(ratio) <= 1.01 and np.quantile(ratio, 0.95) <= 1.1
