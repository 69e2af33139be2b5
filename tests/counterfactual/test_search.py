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
from search_toys import CLASSES, REGION, SEARCHES, SHAPE, above_one, built, climbing, examples, lengths, model, rotation, traces

from jxai.counterfactual import Candidate, Search, diffeomorphic, run
from jxai.counterfactual.search import solve

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("name", SEARCHES)
def test_vmap_equals_a_loop_and_jit_equals_eager(name):
    f, x, targets = model(), jnp.asarray(examples(4)), jnp.asarray([0, 1, 2, 0])
    batched = jax.jit(jax.vmap(lambda x, t: SEARCHES[name](f, x, t)))(x, targets)
    jitted = jax.jit(lambda x, t: SEARCHES[name](f, x, t))
    for i in range(4):
        alone = jitted(x[i], targets[i])
        np.testing.assert_allclose(batched.x[i], alone.x, atol=1e-5)
        assert batched.steps[i] == alone.steps and batched.valid[i] == alone.valid
    eager = SEARCHES[name](f, x[0], 0)
    np.testing.assert_allclose(eager.x, jitted(x[0], targets[0]).x, atol=1e-5)


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


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", SEARCHES)
def test_outside_of_the_region_nothing_changes_by_a_bit(name, dtype):
    f, x = model(), examples(3).astype(dtype)
    target = np.asarray(jax.vmap(f)(jnp.asarray(x))).argmin(1)
    found = run(built(name, region=REGION), f, x, target)
    assert found.x.dtype == dtype and (found.steps > 0).all()
    np.testing.assert_array_equal(found.x[:, ~REGION], x[:, ~REGION])
    assert (found.x != x).any(axis=(1, 2, 3)).all()
    assert (np.asarray(jax.vmap(f)(jnp.asarray(found.x))).argmax(1) == target)[found.valid].all()


@pytest.mark.parametrize("name", SEARCHES)
def test_an_example_of_the_target_class_is_its_own_counterfactual(name):
    f, x = model(), jnp.asarray(examples(1)[0])
    target = int(f(x).argmax())
    for found in (SEARCHES[name](f, x, target), jax.tree.map(lambda leaf: leaf[0], run(built(name), f, x[None], np.asarray([target])))):
        np.testing.assert_array_equal(found.x, x)
        np.testing.assert_allclose(found.logits, f(x), rtol=1e-5)
        assert found.valid and found.steps == 0


@pytest.mark.parametrize("name", SEARCHES)
def test_a_target_out_of_reach_gives_the_best_point_met(name):
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x.ravel() - 20.0]), jnp.linspace(-1, 1, 16))
    x = jnp.asarray(examples(1)[0])
    found = SEARCHES[name](f, x, 1)
    assert not found.valid and found.steps == built(name).steps
    assert found.logits[1] > f(x)[1] + 0.5
    np.testing.assert_allclose(found.logits, f(found.x), atol=1e-4)


@pytest.mark.parametrize("name", SEARCHES)
def test_what_cannot_be_searched_is_data_under_a_trace(name):
    f, x = model(), jnp.asarray(examples(1)[0])
    jitted = jax.jit(lambda x, t: SEARCHES[name](f, x, t))
    for target in (-1, CLASSES):
        found = jitted(x, target)
        np.testing.assert_array_equal(found.x, x)
        assert not found.valid and found.steps == 0
    for target in range(CLASSES):
        found = jitted(x.at[0, 0, 0].set(jnp.nan), target)
        assert not found.valid and found.steps == 0
    found = jax.jit(lambda x, region: SEARCHES[name](f, x, jnp.argmin(f(x)), region=region))(x, np.zeros((4, 4), bool))
    np.testing.assert_array_equal(found.x, x)
    assert not found.valid


@pytest.mark.parametrize("name", SEARCHES)
def test_bad_input_is_an_error_that_names_it(name):
    f, x, method, build = model(), jnp.asarray(examples(1)[0]), SEARCHES[name], functools.partial(built, name)
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
    x = jnp.zeros((5, 5, 1)) + 0.5
    f = lambda v: v.ravel()[:3]
    with pytest.raises(ValueError, match=r"generator=Rotation does not take x of shape \(5, 5, 1\)"):
        diffeomorphic(f, x, 1, generator=rotation())
    with pytest.raises(ValueError, match="must have a method encode"):
        diffeomorphic(f, x, 1, generator=jnp.ones(3))
    short = types.SimpleNamespace(encode=jnp.ravel, decode=lambda z: z)
    with pytest.raises(ValueError, match=r"generator=SimpleNamespace makes examples of shape \(25,\), but x has \(5, 5, 1\)"):
        diffeomorphic(f, x, 1, generator=short)


def test_a_search_that_runs_out_of_steps_looks_once_more():
    found = run(climbing(steps=7), above_one, lengths([6, 7, 8]), np.ones(3, int))
    np.testing.assert_array_equal(found.valid, [True, True, False])
    np.testing.assert_array_equal(found.steps, [6, 7, 7])
    np.testing.assert_allclose(found.x[2], 1.5 - 8 + 7)


def test_the_better_of_two_points_is_the_valid_one_then_the_nearer_and_never_nan():
    points = jnp.asarray([0.0, 5.0, 3.0, 4.0, jnp.nan, 1.0])
    costs = jnp.asarray([9.0, 2.0, 5.0, jnp.nan, 0.0, 1.0])
    valid = jnp.asarray([False, False, True, True, True, False])

    def step(f, v, memory):
        point = points[v][None]
        return v + 1, memory, Candidate(point, None, f(point), valid[v], costs[v], v == 5)

    found = solve(Search(lambda f, x, t, k: (jnp.int32(0), ()), step, 10), above_one, jnp.asarray([-1.0]), 1, None)
    assert found.x == 3.0 and found.valid and found.steps == 5


@pytest.mark.parametrize("optimizer, rate", [(optax.sgd, 0.05), (optax.rmsprop, 0.02)])
def test_any_optimiser_serves(optimizer, rate):
    f, x = model(), examples(2)
    target = np.asarray(jax.vmap(f)(jnp.asarray(x))).argmin(1)
    for name in SEARCHES:
        found = run(built(name, optimizer=optimizer, learning_rate=rate, steps=400, clip=None), f, x, target)
        assert found.valid.all()
        np.testing.assert_array_equal(np.asarray(jax.vmap(f)(found.x)).argmax(1), target)
