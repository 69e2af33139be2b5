"""The domain: it holds x, or says so; what nothing can keep to is an error; valid is what keeps to all of it."""

from __future__ import annotations

import functools
import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai.counterfactual import Candidate, Identity, Search, diffeomorphic, growing_spheres, jsma, native_guide, run, sparse_vce, wachter
from jxai.counterfactual.search import Domain, solve
from jxai.counterfactual.search.constraints import Frozen, Monotone, Near, OneHot, Ordinal, Range, keeps

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
TABLE = np.float32([50, 45_000, 40])  # age, income, hours
F = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x - 6.5]), np.float32([0.05, 0.0001, 0.03]))
METHODS = {
    "wachter": wachter,
    "jsma": jsma,
    "growing_spheres": growing_spheres,
    "sparse_vce": functools.partial(sparse_vce, radius=1.0),
    "diffeomorphic": functools.partial(diffeomorphic, generator=Identity()),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_range_that_does_not_hold_x_is_an_error(name):
    with pytest.raises(ValueError, match=r"x must lie in clip=\(0.0, 1.0\), .* from 40 to 45000: give clip=\(low, high\).* or clip=None"):
        METHODS[name](F, TABLE, 0, KEY)


def test_runs_and_traces_know_the_range_too():
    inside, x = np.float32([0.5, 0.5, 0.5]), np.float32([0.5, 1.5, 0.5])
    with pytest.raises(ValueError, match=r"x must lie in clip=\(0.0, 1.0\)"):
        run(wachter.search(), F, np.stack([inside, x]), np.zeros(2, int))
    found = jax.jit(lambda x, t: wachter(F, x, t, steps=3))(x, np.int32(1))
    assert not found.valid and found.steps == 0
    np.testing.assert_array_equal(found.x, x)
    # Neither is an example that the model takes for the target, but that lies out of range.
    assert not jax.jit(lambda x, t: wachter(F, x, t, steps=3))(x, np.int32(0)).valid


def test_a_wide_range_is_no_licence_beyond_its_near_end():
    # 1e-5 of an entry's own size, not of the range's.
    with pytest.raises(ValueError, match=r"x must lie in clip=\(0.0, 1000000.0\), .* from -5 to 45000"):
        wachter(F, np.float32([-5, 45_000, 40]), 0, clip=(0.0, 1e6), scale=1.0)


@pytest.mark.parametrize("p", [1.0, 2.0, math.inf])
def test_a_ball_lets_a_search_begin_at_its_centre(p):
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x - 1]), np.float32([1, 0.5, 0.2]))
    found = wachter(f, np.zeros(3, np.float32), 1, constraints=[Near(2.0, p)], clip=None, steps=150, learning_rate=0.1, exchanges=0)
    assert found.valid
    np.testing.assert_allclose(found.x, [1, 0, 0], atol=5e-3)


def test_each_feature_may_have_its_own_range():
    w, low, high = np.float32([0.05, 0.0001, 0.03]), np.float32([17, 0, 1]), np.float32([90, 46_000, 99])
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x - 8.5]), w)
    found = wachter(f, TABLE, 1, clip=(low, high), scale=np.float32([10, 10_000, 10]), steps=600, learning_rate=0.02)
    # Income is cheapest, but ends at 46 000, .2 short; age does the rest.
    assert found.valid and (found.x >= low).all() and (found.x <= high).all()
    np.testing.assert_allclose(found.x, [54, 46_000, 40], rtol=0.01)


def climbing(domain):
    """x grows by 1 a step, and is of class 1 from 2 on."""
    return Search(Partial(_start), Partial(_climb), 6, domain)


def _start(f, x, target, key, region=None):
    return x, ()


def _climb(f, v, memory):
    valid = f(v)[1] > 0
    return v + 1, memory, Candidate(v, None, f(v), valid, -f(v)[1], valid)


@pytest.mark.parametrize(
    "domain, x, valid",
    [
        (Domain(), 0.0, True),
        (Domain((0.0, 2.5)), 0.0, True),
        (Domain((0.0, 1.5)), 0.0, False),
        (Domain((np.float32([0.0, 0.0]), np.float32([9.0, 1.5]))), 0.0, False),
        (Domain(None, (Ordinal(0, (0.0, 4.0)),)), 0.0, True),
        (Domain(None, (Near(2.0, 2.0),)), 0.0, False),
        (Domain(None, (Monotone(np.asarray([0, -1])),)), 0.0, False),
        (Domain(None, (), np.asarray([True, False])), 0.0, False),
        (Domain(None, (Range(0.0, 2.5),)), 3.0, False),
    ],
)
def test_valid_is_what_reaches_the_class_within_the_domain(domain, x, valid):
    f = lambda v: jnp.stack([jnp.zeros(()), v.sum() - 3.5])
    found = jax.jit(lambda x: solve(climbing(domain), f, x, 1, None))(np.float32([x, x]))
    assert found.valid == valid
    if valid:
        assert f(found.x)[1] > 0 and all(keeps(c, found.x, jnp.zeros(2)) for c in domain.constraints)


def test_an_example_of_the_target_class_that_breaks_a_constraint_is_no_counterfactual_of_itself():
    f = lambda v: jnp.stack([jnp.zeros(()), v.sum() + 9])
    found = wachter(f, np.float32([5.0, 0.2]), 1, clip=None, constraints=[Range(0.0, 1.0)], steps=5)
    assert found.valid and found.steps > 0 and found.x[0] <= 1


X = np.float32([0.3, 0.3, 1, 0, 0, 0.5])


@pytest.mark.parametrize(
    "constraints, options, message",
    [
        ([Range(0.5, 0.2)], {}, r"constraints\[0\]=Range: low=0.5 must not exceed high=0.2"),
        ([Range(np.zeros(6), np.float32([1, 1, -1, 1, 1, 1]))], {}, r"constraints\[0\]=Range: low=0 must not exceed high=-1 at \(2,\)"),
        ([Range(0.0, math.nan)], {}, r"low=0 must not exceed high=nan"),
        (
            [Range(0.0, 0.4), Range(0.45, 1.0)],
            {},
            r"nothing keeps to both constraints\[1\]=Range and constraints\[0\]=Range: entry 0 of x, 0.3, must be at least 0.45",
        ),
        ([Range(2.0, 3.0)], {}, r"nothing keeps to both constraints\[0\]=Range and clip: entry 0"),
        ([Frozen(np.arange(6) != 5), Range(0.0, 0.4)], {}, r"entry 2 of x|entry 5 of x, 0.5, must be at least 0.5 and at most 0.4"),
        ([Range(np.zeros(6), np.float32([1, 1, 1, 1, 1, 0.4]))], dict(region=np.arange(6) != 5), r"nothing keeps to both .* entry 5 of x, 0.5"),
        (
            [Monotone(np.asarray([1, 0, 0, 0, 0, 0])), Range(0.0, np.float32([0.2, 1, 1, 1, 1, 1]))],
            {},
            "entry 0 of x, 0.3, must be at least 0.3 and at most 0.2",
        ),
        ([Near(0.1, math.inf), Range(np.float32([0.5, 0, 0, 0, 0, 0]), 1.0)], {}, "nothing keeps to both .*Range and .*Near: entry 0"),
        ([Near(0.25, 2.0), Range(np.float32([0.5, 0.5, 0, 0, 0, 0]), 1.0)], {}, r"nothing keeps to constraints\[0\]=Near and the other constraints"),
        ([Ordinal(1, (0.3, 0.9)), Range(0.4, 0.8)], {}, "entry 2 of x|none of levels"),
        ([OneHot(((2, 3, 4),)), Range(np.float32([0, 0, 0, 0.5, 0.5, 0]), 1.0)], {}, r"no category of the group \(2, 3, 4\)"),
        ([OneHot(((2, 3), (3, 4)))], {}, r"x is not one-hot in the group \(3, 4\)"),
        ([OneHot(((2, 0, 1),))], {}, r"x is not one-hot in the group \(2, 0, 1\)"),
        ([OneHot(((2, 3, 4),)), Ordinal(4, (0.0, 1.0))], {}, r"constraints\[1\]: feature 4 is a category of constraints\[0\] already"),
        ([Ordinal(0, (0.3, math.nan))], {}, "levels=.* ascending"),
    ],
)
def test_what_nothing_can_keep_to_is_an_error(constraints, options, message):
    with pytest.raises(ValueError, match=message):
        wachter(lambda v: v[:3], X, 1, constraints=constraints, **options)


def test_run_names_the_example_that_nothing_fits():
    region = np.asarray([[True, True], [True, False]])
    with pytest.raises(ValueError, match=r"example 1: nothing keeps to both .* entry 1 of x, 0.9"):
        x = np.float32([[0.1, 0.9], [0.1, 0.9]])
        run(wachter.search(constraints=[Range(0.0, 0.5)]), lambda v: v, x, np.zeros(2, int), per_example={"region": region})


def test_tolerances_are_relative_to_each_entry():
    x, big = jnp.zeros(2), jnp.asarray([3e4, 1.0])
    assert keeps(Range(0.0, np.float32([3e4, 1])), big * (1 + 5e-6), x) and not keeps(Range(0.0, np.float32([3e4, 1])), big * (1 + 2e-5), x)
    assert keeps(Near(1.0, 2.0), big + jnp.asarray([0.6, 0.8]), big) and not keeps(Near(1.0, 2.0), big + jnp.asarray([0.0, 1.1]), big)
    assert keeps(Range(0.0, 0.3), jnp.asarray([0.3], jnp.bfloat16), jnp.zeros(1, jnp.bfloat16))
    tiny = jnp.asarray([1e-8, 2e-8])
    assert not keeps(Range(0.0, 1e-8), tiny, tiny)


def test_what_needs_no_search_is_said():
    f, x = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x - 0.5]), np.float32([1, 1])), np.float32([[0.5, 0.4], [0.1, 0.1]])
    with pytest.warns(UserWarning, match="target=1 is the class that f gives x already: x itself is returned, after 0 steps"):
        jsma(f, x[0], 1)
    with pytest.warns(UserWarning, match="1 of 2 searches are for the class that x, or what the generator makes of it, has already"):
        run(jsma.search(), f, x, np.asarray([1, 1]))
    with pytest.warns(UserWarning, match="what the generator makes of x is of target=1 already"):
        diffeomorphic(f, x[1], 1, generator=Brighter(), threshold=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jsma(f, x[1], 1)


class Brighter(Identity):
    """Makes everything .5 brighter."""

    def decode(self, z):
        return z + 0.5


def test_native_guides_end_where_the_region_holds():
    f = lambda v: jnp.stack([jnp.zeros(()), v.sum() - 3.5])
    found = native_guide(f, np.float32([0, 0]), 1, examples=np.float32([[4, 4]]), labels=np.asarray([1]), region=np.asarray([True, False]))
    assert found.valid and found.x[1] == 0
