"""What all searches share: batches find what one search finds, failures are data, bad input is named."""

from __future__ import annotations

import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.tree_util import Partial
from search_toys import CLASSES, REGION, SEARCHES, SHAPE, above_one, built, climbing, examples, lengths, logits_of, model, rotation, traces

from jxai.counterfactual import Candidate, Search, diffeomorphic, run
from jxai.counterfactual.search import solve

pytestmark = pytest.mark.usefixtures("quick_compilation")


EVERYWHERE = np.ones(SHAPE[:2], bool)


@functools.cache
def compiled(name):
    """The method as one program of model, example, target and region."""
    return jax.jit(lambda f, x, t, region: SEARCHES[name](f, x, t, region=region))


def alone(name, f, x, target, region=EVERYWHERE):
    return jax.tree.map(np.asarray, compiled(name)(f, x, np.int32(target), region))


@pytest.mark.parametrize("name", ["wachter", pytest.param("diffeomorphic", marks=pytest.mark.slow)])
def test_vmap_equals_a_loop_and_jit_equals_eager(name):
    f, x, targets = model(), examples(4), np.asarray([0, 1, 2, 0])
    batched = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda x, t: SEARCHES[name](f, x, t)))(x, targets))
    for i in range(4):
        one = alone(name, f, x[i], targets[i])
        np.testing.assert_allclose(batched.x[i], one.x, atol=1e-5)
        assert batched.steps[i] == one.steps and batched.valid[i] == one.valid
    eager = SEARCHES[name](f, jnp.asarray(x[0]), 0)
    np.testing.assert_allclose(eager.x, batched.x[0], atol=1e-5)


def test_new_weights_targets_and_arrays_compile_nothing_anew():
    x, targets = examples(3), np.asarray([0, 1, 2])
    for name, arrays in {
        "wachter": lambda seed: {"region": np.roll(REGION, seed), "scale": np.full(SHAPE, 1.0 + seed, np.float32)},
        "diffeomorphic": lambda seed: {"region": np.roll(REGION, seed), "generator": rotation(seed)},
    }.items():
        run(built(name, **arrays(0)), model(), x, targets, block=200)
        before = len(traces)
        run(built(name, **arrays(1)), model(1), x + 0.01, targets[::-1], block=200)
        # The shapes of x and of f(x) are looked at anew; nothing of the search is.
        assert len(traces) - before <= 2


@pytest.mark.parametrize(
    "name, dtype",
    [
        ("wachter", np.float16),
        ("diffeomorphic", np.float32),
        pytest.param("wachter", np.float32, marks=pytest.mark.slow),
        pytest.param("diffeomorphic", np.float16, marks=pytest.mark.slow),
    ],
)
def test_outside_of_the_region_nothing_changes_by_a_bit(name, dtype):
    f, x = model(), examples(3).astype(dtype)
    target = logits_of(f, x).argmin(1)
    found = run(built(name, region=REGION), f, x, target, batch_size=1)
    assert found.x.dtype == dtype and (found.steps > 0).all()
    np.testing.assert_array_equal(found.x[:, ~REGION], x[:, ~REGION])
    assert (found.x != x).any(axis=(1, 2, 3)).all()
    assert (logits_of(f, found.x).argmax(1) == target)[found.valid].all()


@pytest.mark.parametrize("name", SEARCHES)
def test_an_example_of_the_target_class_is_its_own_counterfactual(name):
    f, x = model(), examples(1)[0]
    said = logits_of(f, x[None])[0]
    target = int(said.argmax())
    for found in (alone(name, f, x, target), jax.tree.map(lambda leaf: leaf[0], run(built(name), f, x[None], np.asarray([target])))):
        np.testing.assert_array_equal(found.x, x)
        np.testing.assert_allclose(found.logits, said, rtol=1e-4)
        assert found.valid and found.steps == 0


@pytest.mark.parametrize("name", SEARCHES)
def test_a_target_out_of_reach_gives_the_best_point_met(name):
    w, x = np.linspace(-1, 1, 16, dtype=np.float32), examples(1)[0]
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x.ravel() - 20.0]), w)
    found = alone(name, f, x, 1)
    assert not found.valid and found.steps == built(name).steps
    assert found.logits[1] > w @ x.ravel() - 20 + 0.5
    np.testing.assert_allclose(found.logits, [0, w @ found.x.ravel() - 20], atol=1e-4)


@pytest.mark.parametrize("name", SEARCHES)
def test_what_cannot_be_searched_is_data_under_a_trace(name):
    f, x = model(), examples(1)[0]
    for target in (-1, CLASSES):
        found = alone(name, f, x, target)
        np.testing.assert_array_equal(found.x, x)
        assert not found.valid and found.steps == 0
    spoilt = x.copy()
    spoilt[0, 0, 0] = np.nan
    for target in range(CLASSES):
        found = alone(name, f, spoilt, target)
        assert not found.valid and found.steps == 0
    found = alone(name, f, x, logits_of(f, x[None])[0].argmin(), ~EVERYWHERE)
    np.testing.assert_array_equal(found.x, x)
    assert not found.valid


@pytest.mark.parametrize("name", SEARCHES)
def test_bad_input_is_an_error_that_names_it(name):
    f, x, method, build = model(), examples(1)[0], SEARCHES[name], functools.partial(built, name)
    with pytest.raises(ValueError, match=r"target=3 must be a class in \[0, 3\)"):
        method(f, x, 3)
    with pytest.raises(ValueError, match="target=1.0 must be one integer class"):
        method(f, x, 1.0)
    with pytest.raises(ValueError, match="two classes or more for the class to change, got 1"):
        method(lambda v: v.ravel()[:1], x, 0)
    with pytest.raises(ValueError, match="must be a vector of logits"):
        method(lambda v: v.sum(), x, 0)
    with pytest.raises(ValueError, match="must be a floating-point array"):
        method(f, (10 * x).astype(int), 0)
    with pytest.raises(ValueError, match="region freezes every entry: nothing may change"):
        build(region=np.zeros((4, 4), bool))
    with pytest.raises(ValueError, match="steps=0 must be a positive integer"):
        build(steps=0)
    with pytest.raises(ValueError, match="learning_rate=0.0 must lie in"):
        build(learning_rate=0.0)
    with pytest.raises(ValueError, match="threshold=1.5 must lie in"):
        build(threshold=1.5)
    search = build()
    for bad, message in (
        (dict(x=np.zeros((0, *SHAPE), np.float32), target=np.zeros(0, int)), "x must be examples .* got shape"),
        (dict(x=np.full((2, *SHAPE), np.nan, np.float32), target=np.zeros(2, int)), "x must be finite, but example 0 has NaN"),
        (dict(target=np.asarray([0, 3])), r"target=3 must be a class in \[0, 3\)"),
        (dict(target=np.asarray([0])), r"target must be classes \[2\] or \[2, m\], got int64 of shape \(1,\)"),
        (dict(target=np.asarray([0.0, 1.0])), "target must be classes"),
        (dict(f=lambda v: v.ravel()[:1]), "two classes or more"),
        (dict(block=0), "block=0 must be a positive integer"),
        (dict(batch_size=0), "batch_size=0 must be a positive integer"),
        (dict(restarts=0), "restarts=0 must be a positive integer"),
        (dict(index=np.arange(3)), r"index must have shape \(2,\), got \(3,\)"),
        (dict(x=examples(2).astype(int)), "must be a floating-point array"),
    ):
        with pytest.raises(ValueError, match=message):
            run(search, **{**dict(f=f, x=examples(2), target=np.asarray([0, 1])), **bad})


def test_a_generator_that_does_not_fit_is_an_error():
    x = np.full((5, 5, 1), 0.5, np.float32)
    f = lambda v: v.ravel()[:3]
    with pytest.raises(ValueError, match=r"generator=Rotation does not take x of shape \(5, 5, 1\)"):
        diffeomorphic(f, x, 1, generator=rotation())
    with pytest.raises(ValueError, match="must have a method encode"):
        diffeomorphic(f, x, 1, generator=np.ones(3))
    short = types.SimpleNamespace(encode=jnp.ravel, decode=lambda z: z)
    with pytest.raises(ValueError, match=r"generator=SimpleNamespace makes examples of shape \(25,\), but x has \(5, 5, 1\)"):
        diffeomorphic(f, x, 1, generator=short)


def test_a_search_that_runs_out_of_steps_looks_once_more():
    found = run(climbing(steps=7), above_one, lengths([6, 7, 8]), np.ones(3, int))
    np.testing.assert_array_equal(found.valid, [True, True, False])
    np.testing.assert_array_equal(found.steps, [6, 7, 7])
    np.testing.assert_allclose(found.x[2], 1.5 - 8 + 7)


def test_the_better_of_two_points_is_the_valid_one_then_the_nearer_and_never_nan():
    points = jnp.asarray(np.float32([0.0, 5.0, 3.0, 4.0, np.nan, 1.0]))
    costs = jnp.asarray(np.float32([9.0, 2.0, 5.0, np.nan, 0.0, 1.0]))
    valid = jnp.asarray(np.asarray([False, False, True, True, True, False]))

    def step(f, v, memory):
        point = points[v][None]
        return v + 1, memory, Candidate(point, None, f(point), valid[v], costs[v], v == 5)

    search = Search(lambda f, x, t, k: (jnp.int32(0), ()), step, 10)
    found = jax.jit(lambda x: solve(search, above_one, x, 1, None))(np.float32([-1]))
    assert found.x == 3.0 and found.valid and found.steps == 5


@pytest.mark.parametrize(
    "name, optimizer, rate",
    [
        ("wachter", optax.sgd, 0.05),
        ("diffeomorphic", optax.rmsprop, 0.02),
        pytest.param("wachter", optax.rmsprop, 0.02, marks=pytest.mark.slow),
        pytest.param("diffeomorphic", optax.sgd, 0.05, marks=pytest.mark.slow),
    ],
)
def test_any_optimiser_serves(name, optimizer, rate):
    f, x = model(), examples(2)
    target = logits_of(f, x).argmin(1)
    found = run(built(name, optimizer=optimizer, learning_rate=rate, steps=400, clip=None), f, x, target, batch_size=1)
    assert found.valid.all()
    np.testing.assert_array_equal(logits_of(f, found.x).argmax(1), target)
