"""Frank–Wolfe: the linear maximum is exact, the ball and the range hold, and a linear model's optimum is reached."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
from jax.tree_util import Partial

from jxai.counterfactual import run
from jxai.counterfactual.frank_wolfe import checkpoints, linear_maximum, sparse_vce

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE = (4, 3, 1)
REGION = np.arange(12).reshape(4, 3) % 3 > 0
maximum = jax.jit(linear_maximum, static_argnums=3)


def linear(w, b=0.0):
    return Partial(lambda w, b, x: jnp.stack([jnp.zeros(()), w @ x.ravel() + b]), np.float32(w), np.float32(b))


def network(seed=0):
    rng = np.random.default_rng(seed)
    return Partial(_tanh, rng.normal(size=(12, 8)).astype(np.float32), rng.normal(size=(8, 3)).astype(np.float32))


def _tanh(w, v, x):
    return jnp.tanh(x.ravel() @ w) @ v


def least_likely(f, x):
    w, v = f.args
    return (np.tanh(x.reshape(len(x), 12).astype(np.float32) @ w) @ v).argmin(1)


def examples(n, seed=1):
    return np.random.default_rng(seed).uniform(0.1, 0.9, (n, *SHAPE)).astype(np.float32)


def exact(w, room, radius, p):
    """By the conditions of Karush, Kuhn and Tucker in float64, their multiplier found by bisection."""
    w, room = np.asarray(w, float), np.where(np.asarray(w) != 0, np.asarray(room, float), 0)
    a = abs(w)
    if p == 1:
        gone = np.cumsum(room[np.argsort(-a)])
        d = np.empty_like(a)
        d[np.argsort(-a)] = np.clip(radius - np.concatenate([[0], gone[:-1]]), 0, room[np.argsort(-a)])
        return np.sign(w) * d
    log_b = np.log(np.maximum(a, 1e-300)) / (p - 1)
    filled = lambda log_t: np.minimum(room, np.exp(np.minimum(log_t + log_b, 50)))
    if (room**p).sum() <= radius**p:
        return np.sign(w) * room
    low, high = -1e6, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if (filled(middle) ** p).sum() < radius**p else (low, middle)
    return np.sign(w) * filled(high)


@pytest.mark.parametrize(
    "n, p",
    [
        pytest.param(n, p, marks=() if (n, p) in [(50, 1), (5, 1.005), (50, 1.05), (50, 1.5), (5, 2), (5, 10.0)] else pytest.mark.slow)
        for n in (5, 50, 2000)
        for p in (1, 1.005, 1.05, 1.5, 2, 3, 10.0)
    ],
)
def test_linear_maximum_is_exact(n, p):
    for seed, radius in enumerate((0.2, 1.0, 5.0, 1e3)):
        rng = np.random.default_rng(seed)
        w, room = rng.normal(size=n).astype(np.float32), rng.uniform(size=n).astype(np.float32)
        room[rng.uniform(size=n) < 0.2], w[rng.uniform(size=n) < 0.2] = 0, 0
        d, truth = np.asarray(maximum(w, room, radius, p), float), exact(w, room, radius, p)
        slack = 1e-4 if 1 < p < 1.05 else 1e-6  # |w|^200 in float32
        np.testing.assert_allclose(d, truth, atol=slack * radius)
        assert abs(d @ w - truth @ w) <= 1e-6 * abs(truth @ w)
        assert (abs(d) <= room * (1 + 1e-6)).all() and (abs(d) ** p).sum() <= radius**p * (1 + 1e-6 * p)


@pytest.mark.parametrize("p", [1.5, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_linear_maximum_is_what_scipy_finds(p):
    rng = np.random.default_rng(0)
    w, room = rng.normal(size=6), rng.uniform(0.2, 1, 6)
    inside = dict(type="ineq", fun=lambda d: 1 - (abs(d) ** p).sum(), jac=lambda d: -p * np.sign(d) * abs(d) ** (p - 1))
    options = dict(bounds=list(zip(-room, room)), constraints=inside, method="SLSQP", options=dict(ftol=1e-13))
    found = scipy.optimize.minimize(lambda d: -w @ d, 0.1 * np.sign(w), jac=lambda d: -w, **options)
    d = np.asarray(maximum(w.astype(np.float32), room.astype(np.float32), 1.0, p), float)
    np.testing.assert_allclose(d @ w, -found.fun, rtol=1e-5)


def test_limits_of_p():
    rng = np.random.default_rng(0)
    w, room = rng.normal(size=9).astype(np.float32), rng.uniform(size=9).astype(np.float32)
    unbounded = np.full(9, np.inf, np.float32)

    @jax.jit
    def all_of(w, room, unbounded):
        near = [linear_maximum(w, room, 1.3, p) for p in (1.02, 1.001, 1)]
        return near, [linear_maximum(w, room, 0.3, p) for p in (200.0, math.inf)], linear_maximum(w, unbounded, 2.0, 1.5), linear_maximum(0 * w, room, 1.0, 1.5)

    near, (large, infinite), free, nothing = jax.tree.map(np.asarray, all_of(w, room, unbounded))
    assert abs(near[1] - near[2]).max() < abs(near[0] - near[2]).max() < 0.1
    np.testing.assert_allclose(infinite, np.sign(w) * np.minimum(room, 0.3), rtol=1e-6)
    np.testing.assert_allclose(large, infinite, atol=0.01)
    # Without a box: the dual norm, ‖w‖_q.
    np.testing.assert_allclose(w @ free, 2 * (abs(w) ** 3).sum() ** (1 / 3), rtol=1e-5)
    np.testing.assert_array_equal(nothing, 0)


@pytest.mark.parametrize(
    "region, p",
    [
        pytest.param(region, p, marks=() if (name, p) in [("everywhere", 1), ("region", 1.5), ("region", math.inf)] else pytest.mark.slow, id=f"{name}-{p}")
        for name, region in (("everywhere", None), ("region", REGION))
        for p in (1, 1.5, 2, math.inf)
    ],
)
def test_a_linear_models_optimum_is_reached(region, p):
    rng = np.random.default_rng(0)
    w, x, radius = rng.normal(size=12), examples(1), 0.6
    found = run(sparse_vce.search(radius=radius, p=p, region=region, steps=40), linear(w, -3.0), x, np.ones(1, int))
    x = x.ravel().astype(float)
    room = np.where(w > 0, 1 - x, x) * (1 if region is None else region.ravel())
    truth = np.sign(w) * np.minimum(room, radius) if p == math.inf else exact(w, room, radius, p)
    np.testing.assert_allclose(found.x.ravel() - x, truth, atol=1e-5)
    assert found.steps == 40


@pytest.mark.parametrize(
    "dtype, random_start",
    [
        (np.float32, True),
        pytest.param(np.float16, False, marks=pytest.mark.slow),
        pytest.param(np.float32, False, marks=pytest.mark.slow),
        pytest.param(np.float16, True, marks=pytest.mark.slow),
    ],
)
def test_points_keep_to_ball_range_and_region(dtype, random_start):
    f, x = network(), examples(4).astype(dtype)
    target = least_likely(f, x)
    search = sparse_vce.search(radius=0.7, region=REGION, random_start=random_start, momentum=0.3, steps=30)
    found = run(search, f, x, target, jax.random.key(0), restarts=2)
    d = (found.x.astype(float) - x[:, None].astype(float)).reshape(8, -1)
    assert ((abs(d) ** 1.5).sum(1) ** (1 / 1.5) <= 0.7 + (1e-5 if dtype == np.float32 else 1e-2)).all()
    assert found.x.min() >= 0 and found.x.max() <= 1 and found.x.dtype == dtype
    np.testing.assert_array_equal(found.x[..., ~REGION, :], np.repeat(x[:, None], 2, 1)[..., ~REGION, :])
    alone = jax.jit(lambda x, t, k: sparse_vce(f, x, t, k, radius=0.7, region=REGION, random_start=random_start, momentum=0.3, steps=30))
    for i in range(4):
        one = alone(x[i], target[i], jax.random.fold_in(jax.random.key(0), 2 * i))
        np.testing.assert_allclose(one.x, found.x[i, 0], atol=1e-4 if dtype == np.float32 else 1e-2)


def test_confidence_is_that_of_projected_ascent_or_better():
    f, x = network(3), examples(6)
    target = least_likely(f, x)
    found = run(sparse_vce.search(radius=0.5, p=2.0, steps=150), f, x, target)

    @jax.jit
    @jax.vmap
    def ascent(x, t):
        log_p = lambda d: jax.nn.log_softmax(f(x + d))[t]

        def step(d, _):
            d = d + 0.02 * jax.grad(log_p)(d)
            for _ in range(10):
                d = jnp.clip(x + d * jnp.minimum(1, 0.5 / jnp.sqrt((d**2).sum() + 1e-12)), 0, 1) - x
            return d, None

        return log_p(jax.lax.scan(step, jnp.zeros_like(x), None, length=2000)[0])

    ours = np.take_along_axis(scipy.special.log_softmax(found.logits, 1), target[:, None], 1)[:, 0]
    assert (ours >= np.asarray(ascent(x, target)) - 0.01).all()


def test_budgets_differ_by_example_and_buy_confidence():
    f, x = network(), np.repeat(examples(1), 3, 0)
    target = least_likely(f, x)
    found = run(sparse_vce.search(radius=1.0), f, x, target, per_example={"radius": np.asarray([0.1, 0.4, 1.0])})
    p = scipy.special.softmax(found.logits, 1)[np.arange(3), target]
    assert p[0] < p[1] < p[2]
    np.testing.assert_allclose(found.x[1], run(sparse_vce.search(radius=0.4), f, x[:1], target[:1]).x[0], atol=1e-3)


def test_checkpoints_are_the_published_ones():
    # 0.22 · 75 = 16, then intervals that fall by 2 down to 4.
    np.testing.assert_array_equal(np.flatnonzero(checkpoints(75)), [16, 30, 42, 52, 60, 66, 70, 74])


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(radius=0.0), "radius=0.0 must lie in"),
        (dict(radius=math.inf), "radius=inf must lie in"),
        (dict(p=0.5), "p=0.5 must be a number of at least 1"),
        (dict(p="2"), "p='2' must be a number of at least 1"),
        (dict(p=math.nan), "p=nan must be a number of at least 1"),
        (dict(threshold=1.0), "threshold=1.0 must lie in"),
        (dict(momentum=1.0), "momentum=1.0 must lie in"),
        (dict(step_size=1.5), "step_size=1.5 must lie in"),
        (dict(steps=0), "steps=0 must be a positive integer"),
        (dict(region=np.zeros((4, 3), bool)), "region freezes every entry"),
        (dict(random_start=True), "random_start draws random numbers: key=None"),
        (dict(target=None), "target=None must be a class"),
    ],
)
def test_bad_options_are_errors(options, message):
    f, x = network(), examples(1)[0]
    with pytest.raises(ValueError, match=message):
        sparse_vce(**{**dict(f=f, x=x, target=0, radius=1.0), **options})
