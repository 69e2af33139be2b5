"""`run`, which packs lanes, finds what the pure method finds, at the cost of the steps that were needed."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.tree_util import Partial
from search_toys import REGION, SEARCHES, SHAPE, above_one, built, climbing, examples, lengths, logits_of, model

from jxai.counterfactual import run, wachter
from jxai.counterfactual.search import solve
from jxai.counterfactual.search.constraints import Frozen, OneHot

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize(
    "name, block, batch_size",
    [
        pytest.param(name, *sizes, marks=() if (name, sizes) in [("wachter", (7, 4)), ("diffeomorphic", (25, None))] else pytest.mark.slow)
        for name in SEARCHES
        for sizes in [(25, None), (1, 3), (7, 4)]
    ],
)
def test_run_finds_what_the_pure_method_finds_one_at_a_time(name, block, batch_size):
    f, x, targets = model(), examples(5), np.asarray([[0, 1], [1, 2], [2, 0], [0, 2], [1, 0]])
    found = run(built(name), f, x, targets, block=block, batch_size=batch_size)
    one = jax.jit(lambda x, t: SEARCHES[name](f, x, t))
    assert found.x.shape == (5, 2, *SHAPE) and found.valid.any() and len(set(found.steps.ravel())) > 3
    for i in range(5):
        for j in range(2):
            alone = one(x[i], targets[i, j])
            np.testing.assert_allclose(found.x[i, j], alone.x, atol=1e-5)
            np.testing.assert_allclose(found.logits[i, j], alone.logits, atol=1e-4)
            assert found.steps[i, j] == alone.steps and found.valid[i, j] == alone.valid


@pytest.mark.parametrize("block, batch_size", [(3, 5), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in [(25, None), (1, 1), (4, 64)])])
def test_restarts_and_targets_get_keys_by_their_place(block, batch_size):
    x, key, search = lengths([3, 30, 8, 50]), jax.random.key(3), climbing()
    found = run(search, above_one, x, np.ones((4, 2), int), key, restarts=3, block=block, batch_size=batch_size)
    drops = np.asarray(jax.jit(jax.vmap(lambda i: jax.random.randint(jax.random.fold_in(key, i), (), 0, 20)))(np.arange(24))).reshape(4, 2, 3)
    np.testing.assert_array_equal(found.steps, np.asarray([3, 30, 8, 50])[:, None, None] + np.where(x[:, None] > 1, 0, drops))
    assert found.valid.all() and found.latent is None
    alone = jax.jit(lambda x: solve(search, above_one, x, 1, jax.random.fold_in(key, 13)))(x[2])
    np.testing.assert_array_equal(found.x[2, 0, 1], alone.x)
    again = run(search, above_one, x[2:], np.ones(2, int), key, index=np.asarray([13, 21]))
    np.testing.assert_array_equal(again.steps, [found.steps[2, 0, 1], found.steps[3, 1, 0]])


def test_options_differ_by_example():
    found = run(climbing(), above_one, lengths([5, 5, 5]), np.ones(3, int), per_example={"offset": np.asarray([0.0, 2.0, 7.0])})
    np.testing.assert_array_equal(found.steps, [5, 7, 12])
    with pytest.raises(ValueError, match=r"per_example\['offset'\] must have 3 rows, got shape \(2,\)"):
        run(climbing(), above_one, lengths([5, 5, 5]), np.ones(3, int), per_example={"offset": np.zeros(2)})
    with pytest.raises(ValueError, match="may not differ by example.*speed"):
        run(climbing(), above_one, lengths([5, 5, 5]), np.ones(3, int), per_example={"speed": np.zeros(3)})
    with pytest.raises(ValueError, match="'width' is no option that may differ by example"):
        run(built("diffeomorphic"), model(), examples(2), np.zeros(2, int), per_example={"width": np.zeros(2)})


def test_regions_differ_by_example():
    x, f = examples(2), model()
    regions = np.stack([REGION, ~REGION])
    target = logits_of(f, x).argmin(1)
    found = run(built("wachter"), f, x, target, per_example={"region": regions})
    one = jax.jit(lambda x, t, region: SEARCHES["wachter"](f, x, t, region=region))
    for i in range(2):
        assert found.steps[i] > 0
        np.testing.assert_array_equal(found.x[i][~regions[i]], x[i][~regions[i]])
        np.testing.assert_allclose(found.x[i], one(x[i], target[i], regions[i]).x, atol=1e-5)


@pytest.mark.parametrize("slow, fast", [pytest.param(1000, 10, marks=pytest.mark.slow), (400, 3)])
def test_cost_follows_the_steps_needed(slow, fast):
    steps = np.full(64, fast)
    steps[17] = slow
    seen = []
    found = run(climbing(), above_one, lengths(steps), np.ones(64, int), block=25, batch_size=64, on_progress=seen.append)
    np.testing.assert_array_equal(found.steps, steps)
    last = seen[-1]
    assert (last.done, last.total, last.valid) == (64, 64, 64)
    assert steps.sum() <= last.passes <= 64 * 25 + slow + 1
    assert all(a.passes < b.passes and a.done <= b.done for a, b in zip(seen, seen[1:]))


def test_lanes_that_end_make_room_for_those_that_wait():
    steps = np.random.default_rng(0).integers(1, 100, 500)
    steps[::50] = 300
    seen = []
    found = run(climbing(), above_one, lengths(steps), np.ones(500, int), block=10, batch_size=32, on_progress=seen.append)
    np.testing.assert_array_equal(found.steps, steps)
    # A lane that has ended waits for at most a block, and for a quarter of the lanes to end.
    assert seen[-1].passes < 1.6 * (steps + 1).sum()


def test_run_refuses_tracers_and_examples_that_constraints_do_not_fit():
    with pytest.raises(ValueError, match="run works on the host and cannot be traced"):
        jax.jit(lambda x: run(climbing(), above_one, x, np.ones(2, int)))(lengths([1, 2]))
    x = np.asarray([[1.0, 0.0, 0.3], [0.5, 0.5, 0.3]], np.float32)
    f = Partial(lambda w, x: w @ x, np.eye(3, dtype=np.float32))
    with pytest.raises(ValueError, match=r"x is not one-hot in the group \(0, 1\): \[0.5 0.5\]"):
        run(wachter.search(constraints=[OneHot(((0, 1),))]), f, x, np.asarray([1, 1]))
    with pytest.raises(ValueError, match=r"constraints\[0\]=Frozen does not fit x of shape \(3,\)"):
        run(wachter.search(constraints=[Frozen(np.ones((4, 4), bool))]), f, x, np.asarray([1, 1]))
