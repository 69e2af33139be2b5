"""Constraints: projections are idempotent and the nearest points, against scipy; categories come out exactly."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from jax.tree_util import Partial

from jxai.counterfactual import wachter
from jxai.counterfactual.search.constraints import Frozen, Monotone, Near, OneHot, Ordinal, Range, relaxed, settled
from jxai.counterfactual.search.domain import check_constraints

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = RNG.uniform(0.2, 0.8, 6).astype(np.float32)
RADII = np.asarray([0.3, 0.1, 0.5, 0.2, 0.4, 0.3])
ALL = [
    Range(0.1, 0.7),
    Range(np.full(6, 0.2, np.float32), np.linspace(0.5, 1, 6, dtype=np.float32)),
    Frozen(np.arange(6) % 2 > 0),
    Near(0.3, 1.0),
    Near(0.3, 2.0),
    Near(0.3, math.inf),
    Near(RADII, 2.0),
    Monotone(np.asarray([1, -1, 0, 1, 0, -1])),
    OneHot(((0, 2, 3),)),
    Ordinal(1, (0.0, 0.25, 0.5, 1.0)),
]


@functools.cache
def into(p, number):
    return jax.jit(lambda v, radius: Near(radius, p).relaxed(v, X))


def near(v, radius, p):
    """v in the ball: one program for each norm and kind of radius."""
    return np.asarray(into(p, np.ndim(radius) == 0)(v.astype(np.float32), np.asarray(radius, np.float32)), np.float64)


def nearest(v, x, constraints, bounds=None):
    """The nearest point to v under `g(u) >= 0`, by scipy."""
    start = np.full_like(v, 1 / 3) if bounds else x
    far = lambda u: ((u - v) ** 2).sum()
    found = scipy.optimize.minimize(far, start, jac=lambda u: 2 * (u - v), constraints=constraints, bounds=bounds, method="SLSQP", options=dict(ftol=1e-12))
    assert found.success or "linesearch" in found.message
    return found.x


@pytest.mark.parametrize("c", ALL, ids=lambda c: type(c).__name__)
def test_projections_are_idempotent_batched_and_jitted(c):
    v = np.random.default_rng(0).normal(0.5, 1, (3, 6)).astype(np.float32)
    relaxed, exact = (jax.jit(jax.vmap(project, in_axes=(0, None))) for project in (c.relaxed, c.exact))
    for project, alone in ((relaxed, c.relaxed), (exact, c.exact)):
        once = np.asarray(project(v, X))
        np.testing.assert_allclose(project(once, X), once, atol=2e-7)
        np.testing.assert_allclose(jax.jit(alone)(v[0], X), once[0], atol=2e-7)
    # The exact set is part of the relaxed one.
    np.testing.assert_allclose(relaxed(exact(v, X), X), exact(v, X), atol=2e-7)


@pytest.mark.parametrize("radius", [0.3, RADII], ids=["number", "by feature"])
@pytest.mark.parametrize("seed", range(4))
def test_near_in_l2_is_the_nearest_point_of_the_ball_and_in_linf_of_the_box(seed, radius):
    v, x = np.random.default_rng(seed).normal(0.5, 1, 6), X.astype(np.float64)
    box = np.clip(v, x - radius, x + radius)
    np.testing.assert_allclose(near(v, radius, math.inf), box, atol=1e-6)
    point = near(v, radius, 2.0)
    assert (((point - x) / radius) ** 2).sum() <= 1 + 1e-6
    if np.ndim(radius) == 0:
        truth = nearest(v, x, dict(type="ineq", fun=lambda u: radius**2 - ((u - x) ** 2).sum(), jac=lambda u: -2 * (u - x)))
        np.testing.assert_allclose(point, truth, atol=1e-3)
        np.testing.assert_allclose(point, x + radius * (v - x) / np.linalg.norm(v - x), atol=1e-5)


@pytest.mark.parametrize("radius", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_near_in_l1_is_the_nearest_point_of_the_ball(seed, radius):
    v, x = np.random.default_rng(seed).normal(0.5, 1, 6), X.astype(np.float64)
    # v − x = a − b, a and b >= 0 with a sum within the radius: the nearest such point.
    d = v - x
    split = lambda s: s[:6] - s[6:]
    found = scipy.optimize.minimize(
        lambda s: ((split(s) - d) ** 2).sum(),
        np.zeros(12),
        jac=lambda s: np.concatenate([2 * (split(s) - d), -2 * (split(s) - d)]),
        bounds=[(0, None)] * 12,
        constraints=dict(type="ineq", fun=lambda s: radius - s.sum(), jac=lambda s: -np.ones(12)),
        method="SLSQP",
        options=dict(ftol=1e-14, maxiter=500),
    )
    np.testing.assert_allclose(near(v, radius, 1.0), x + split(found.x), atol=2e-4)


@jax.jit
def into_simplex(v):
    return OneHot(((0, 2, 3),)).relaxed(v, X)


@pytest.mark.parametrize("seed", range(4))
def test_one_hot_is_relaxed_to_the_nearest_point_of_the_simplex(seed):
    v = np.random.default_rng(seed).normal(0.5, 1, 6)
    group = [0, 2, 3]
    point = np.asarray(into_simplex(v.astype(np.float32)))
    truth = nearest(v[group], v[group], dict(type="eq", fun=lambda u: u.sum() - 1, jac=lambda u: np.ones(3)), [(0, 1)] * 3)
    np.testing.assert_allclose(point[group], truth, atol=1e-4)
    np.testing.assert_array_equal(point[[1, 4, 5]], v[[1, 4, 5]].astype(np.float32))


def test_categories_come_out_exactly():
    v = np.float32([0.4, 0.3, 0.2, 0.9, 0.38, 2.0])
    hot = np.asarray(jax.jit(OneHot(((0, 2), (3, 4))).exact)(v, X))
    np.testing.assert_array_equal(hot, np.asarray([1, 0.3, 0, 1, 0, 2], np.float32))
    levels = (0.0, 0.25, 0.5, 1.0)
    ordinal = Ordinal(4, levels)
    both = jax.jit(lambda v: (ordinal.exact(v, X)[4], ordinal.relaxed(v, X)[4]))
    for value, level, kept in ((0.3, 0.25, 0.3), (0.38, 0.5, 0.38), (9.0, 1.0, 1.0), (-3.0, 0.0, 0.0)):
        v[4] = value
        assert tuple(map(float, both(v))) == (level, np.float32(kept))


def test_frozen_takes_positions_or_entries():
    x, v = RNG.uniform(size=(3, 3, 2)).astype(np.float32), np.zeros((3, 3, 2), np.float32)
    positions, entries = np.eye(3, dtype=bool), RNG.uniform(size=(3, 3, 2)) > 0.5
    np.testing.assert_array_equal(Frozen(positions).exact(v, x), np.where(positions[..., None], 0, x))
    np.testing.assert_array_equal(Frozen(entries).exact(v, x), np.where(entries, 0, x))


def test_monotone_moves_one_way():
    x, v, move = np.zeros(3, np.float32), np.full(3, -1, np.float32), jax.jit(Monotone(np.asarray([1, 0, -1])).relaxed)
    np.testing.assert_array_equal(move(v, x), [0, -1, -1])
    np.testing.assert_array_equal(move(-v, x), [1, 1, 0])


def test_settled_rounds_in_value_and_lets_gradients_pass():
    constraints = (OneHot(((0, 1),)), Ordinal(2, (0.0, 1.0)), Range(0.0, 1.0))
    v, weights = np.float32([0.7, 0.3, 0.8, 0.5, 0.2, 0.1]), np.arange(1, 7, dtype=np.float32)

    def weighted(v):
        rounded = settled(v, X, constraints)
        return (rounded * weights).sum(), rounded

    slope, rounded = jax.jit(jax.grad(weighted, has_aux=True))(v)
    np.testing.assert_array_equal(rounded, np.float32([1, 0, 1, 0.5, 0.2, 0.1]))
    np.testing.assert_array_equal(slope, weights)
    np.testing.assert_array_equal(relaxed(v + 1, X, (Range(),)), np.ones(6))


def test_a_search_keeps_categories_and_reaches_the_target():
    w, x = np.float32([-3.0, 1.0, 2.0, 4.0, 0.5, -0.5]), np.float32([1.0, 0.0, 0.0, 0.25, 0.4, 0.5])
    f = Partial(lambda w, x: jnp.stack([jnp.zeros(()), w @ x]), w)
    constraints = [OneHot(((0, 1, 2),)), Ordinal(3, (0.0, 0.25, 0.5)), Monotone(np.asarray([0, 0, 0, 0, -1, 1]))]
    found = jax.jit(lambda x: wachter(f, x, 1, constraints=constraints, steps=300, learning_rate=0.05))(x)
    v = np.asarray(found.x)
    assert found.valid and sorted(v[:3].tolist()) == [0, 0, 1] and v[3] in (0.0, 0.25, 0.5)
    assert v[4] <= x[4] and v[5] >= x[5]
    assert w @ v > 0 > w @ x


@pytest.mark.parametrize(
    "c, message",
    [
        ("hot", r"constraints\[0\] must be a constraint .* got str"),
        (Frozen(np.zeros(6, bool)), "region freezes every entry"),
        (Frozen(np.ones(5, bool)), r"constraints\[0\]=Frozen does not fit x of shape \(6,\)"),
        (Range(np.zeros((2, 6)), 1.0), r"constraints\[0\]=Range makes \(2, 6\) of x of shape \(6,\)"),
        (Near(-1.0), "radius=-1.0 must be a finite number of at least 0"),
        (Near(1.0, 3.0), "p=3.0 must be 1, 2 or math.inf"),
        (OneHot(((0, 6),)), r"constraints\[0\]: the group \(0, 6\) must hold features in \[0, 6\)"),
        (OneHot(((),)), r"constraints\[0\]: the group \(\) must hold features"),
        (OneHot(((0, 1),)), r"x is not one-hot in the group \(0, 1\)"),
        (OneHot(((0, 0),)), r"constraints\[0\]: the group \(0, 0\) must hold features in \[0, 6\), each once"),
        (Ordinal(9, (0.0, 1.0)), r"constraints\[0\]: feature=9 must be in \[0, 6\)"),
        (Ordinal(-1, (0.0, 1.0)), r"constraints\[0\]: feature=-1 must be in \[0, 6\)"),
        (Ordinal(1, (1.0, 0.0)), r"levels=\(1.0, 0.0\) ascending"),
        (Ordinal(1, ()), r"levels=\(\) ascending"),
        (Ordinal(1, (0.0, 1.0)), r"x\[1\]=0.3\d* is none of the levels \(0.0, 1.0\)"),
    ],
)
def test_what_does_not_fit_is_an_error(c, message):
    x = np.full(6, 0.3, np.float32)
    with pytest.raises(ValueError, match=message):
        check_constraints([c], x)
    with pytest.raises(ValueError, match=message):
        wachter(lambda v: v[:3], x, 1, constraints=[c])


def test_constraints_are_pytrees_that_do_not_retrace():
    traces = []

    @jax.jit
    def project(c, v):
        traces.append(1)
        return c.relaxed(v, X)

    for make in (lambda s: Frozen(np.arange(6) > s), lambda s: Near(np.float32(s + 1), 2.0), functools.partial(Range, 0.0), lambda s: OneHot(((0, 1),))):
        before = len(traces)
        project(make(0), X), project(make(1), X)
        assert len(traces) == before + 1
