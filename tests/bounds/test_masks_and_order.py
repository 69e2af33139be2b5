"""Truth values, whole numbers and order that depend on x: masks moved about, counts, sorts, waves; closed forms, and points inside."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bound_points import points
from jax import lax

from jxai.bounds import METHODS, Box, Interval, ball, interval
from jxai.bounds.rules import waves
from jxai.bounds.rules.order_rules import Sort

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.linspace(-1, 1, 12).reshape(4, 3)

MASKS = {
    "spread": lambda x: jnp.where((x.sum(-1) > 0.1)[:, None], x, 0.0),
    "a row for all": lambda x: jnp.where(x.mean(0) > 0, x, 0.1 * x),
    "reshaped": lambda x: jnp.where((x.reshape(-1) > 0).reshape(4, 3), x, 0.0),
    "sliced": lambda x: jnp.where((x > 0)[:2], x[:2], x[2:]),
    "transposed": lambda x: jnp.where((x > 0).T, x.T, 0.0),
    "joined": lambda x: jnp.where(jnp.concatenate([x[:2] > 0, x[2:] > 0.5]), x, 0.0),
    "padded and gathered": lambda x: jnp.where(jnp.pad(x > 0, ((1, 0), (0, 0)), constant_values=True)[jnp.array([4, 0, 2, 2])], x, 0.0),
    "written": lambda x: jnp.where(jnp.zeros((4, 3), bool).at[1:3].set(x[:2] > 0), x, 2.0),
    "turned": lambda x: jnp.where(jnp.flip(x > 0) ^ (x > 0.2), 1.0, x),
    "of masks": lambda x: jnp.where(jnp.where(x > 0, x > 0.3, x < -0.2), x, 0.0),
    "as a number": lambda x: x * (x > 0) + (x.sum(-1) > 0)[:, None],
    "carried": lambda x: lax.scan(lambda c, r: (c | (r > 0), jnp.where(c, r, 0.0)), jnp.zeros(3, bool), x)[1],
    "counted": lambda x: (x > 0.1).sum(0) / 4.0,
    "majority": lambda x: jnp.where((x > 0).sum(1) >= 2, x.sum(1), 0.0),
    "nan_to_num": jnp.nan_to_num,
    "is nan": lambda x: jnp.concatenate([x, jnp.isnan(x).astype(x.dtype)], -1),
    "nanmean": lambda x: jnp.nanmean(x, 0),
    "median": lambda x: jnp.median(x, 0),
    "clipped whole": lambda x: jnp.clip((x * 5).astype(jnp.int32), -2, 3).max(0).astype(x.dtype) ** 2,
    "wrapped": lambda x: ((x * 300).astype(jnp.int32).astype(jnp.uint8) + jnp.uint8(200)).astype(x.dtype),
    "one hot": lambda x: jax.nn.one_hot(x.argmax(1), 3),
    "payload": lambda x: lax.sort((x, x[::-1]), dimension=0, num_keys=1)[1],
    "edge padding": lambda x: jnp.pad(x, ((1, 2), (0, 1)), mode="edge"),
    "negative padding": lambda x: jax.nn.relu(lax.pad(x, 0.0, ((-1, 1, 0), (1, -2, 0)))),
    "nothing joined": lambda x: jnp.concatenate([x.ravel(), x.ravel()[:0]]),
    "max from a start": lambda x: lax.reduce_window(x, 0.0, lax.max, (2, 2), (1, 1), "SAME"),
    "min from a start": lambda x: lax.reduce_window(x, 0.1, lax.min, (2, 2), (1, 1), ((1, 1), (0, 1))),
    "max from far below": lambda x: lax.reduce_window(x, -1e30, lax.max, (2, 2), (1, 1), ((1, 0), (0, 0))),
    "reduced from a start": lambda x: lax.reduce(x, 0.2, lax.max, (1,)),
    "running": lambda x: lax.cummax(x) - lax.cummin(x, 1),
    "waves": lambda x: jnp.sin(3 * x) * jnp.cos(2 * x),
}


def joined(functions):
    return lambda x: jnp.concatenate([f(x).ravel() for f in functions])


def test_masks_counts_and_order_lie_within_their_intervals():
    f, box = joined(MASKS.values()), Box(X - 0.05, X + 0.05)
    at = points(box, 300, jax.random.key(0))
    (low, high), y = jax.jit(lambda box: (interval(f, rounding="outward")(box), jax.vmap(f)(at)))(box)
    y = np.asarray(y)
    assert (y >= low - 1e-5).all() and (y <= high + 1e-5).all()
    assert np.isfinite(low).all() and float((high - low).max()) < 300  # a byte that wrapped around, at most


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ["nearest", "outward"])
@pytest.mark.parametrize("part", range(4))
def test_masks_counts_and_order_lie_within_all_bounds(part, rounding):
    f = joined(list(MASKS.values())[part::4])
    for radius in (0.02, 0.4):
        box = Box(X - radius, X + radius)
        y = np.asarray(jax.jit(jax.vmap(f))(points(box, 20_000, jax.random.key(0))))
        for method, (low, high) in jax.jit(lambda b: {m: METHODS[m](f, rounding=rounding)(b) for m in METHODS})(box).items():
            assert (y >= low - 1e-5).all() and (y <= high + 1e-5).all(), method


def test_order_has_the_ends_in_order():
    low, high = np.asarray(X) - 0.2, np.asarray(X) + 0.1 * np.arange(3)
    box = Box(jnp.asarray(low), jnp.asarray(high))
    for f, truth in (
        (lambda x: jnp.sort(x, 0), lambda v: np.sort(v, 0)),
        (lambda x: jnp.median(x, 1), lambda v: np.median(v, 1)),
        (lambda x: lax.top_k(x, 2)[0], lambda v: -np.sort(-v, 1)[:, :2]),
        (lambda x: jnp.percentile(x, 25, 0), lambda v: np.percentile(v, 25, 0)),
    ):
        found = interval(f)(box)
        np.testing.assert_allclose(found.lower, truth(low), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found.upper, truth(high), rtol=1e-5, atol=1e-6)


def test_a_sort_whose_order_is_certain_is_linear():
    """Entry by entry; the two whose intervals meet have their ranges."""
    ends = Interval(jnp.array([2.0, 0.0, 1.0, 1.3]), jnp.array([2.5, 0.5, 1.5, 1.6]))
    order = Sort(0)
    lines = order.relax(order.interval(ends), [ends])
    x = jnp.array([2.1, 0.4, 1.45, 1.35])
    for maps, constant, between in ((lines.lower_maps, lines.lower, [1.0, 1.3]), (lines.upper_maps, lines.upper, [1.5, 1.6])):
        np.testing.assert_allclose(maps[0].apply(x) + constant, [0.4, *between, 2.1], atol=1e-6)


def test_counts_are_how_many_must_and_may():
    x = jnp.array([-1.0, -0.05, 0.05, 1.0, 2.0])
    for rounding in ("nearest", "outward"):
        low, high = interval(lambda x: (x > 0).sum().astype(x.dtype), rounding=rounding)(ball(x, 0.1))
        assert round(float(low), 4) == 2 and round(float(high), 4) == 4
    low, high = interval(lambda x: jnp.argmax(x) + 0.0)(ball(jnp.array([0.0, 2.0, -1.0, 2.1, 0.0]), 0.1))
    assert (float(low), float(high)) == (1, 3)
    for f, places in ((jnp.argmin, (0, 0)), (lambda v: jnp.argmax(v > 0.0), (1, 4)), (lambda v: jnp.argmin(v < 0.1), (2, 4)), (jnp.argsort, (0, 4))):
        low, high = interval(lambda x, f=f: f(x) + 0.0, rounding="outward")(ball(jnp.array([-1.0, -0.05, 0.15, 1.0, 2.0]), 0.1))
        assert (round(float(low.min())), round(float(high.max()))) == places


def test_whole_numbers_that_wrap_around_have_their_type_s_range():
    f = lambda x: (x.astype(jnp.uint8) + jnp.uint8(200)).astype(x.dtype)
    assert [float(end[0]) for end in interval(f)(Box(jnp.array([50.0]), jnp.array([60.0])))] == [0, 255]
    np.testing.assert_allclose(interval(f)(Box(jnp.array([10.0]), jnp.array([20.9]))), [[210], [220]])


def test_what_wraps_around_beyond_what_single_precision_tells_apart():
    """2³¹ − 1 is 2³¹ in float32, and a sum of many large numbers is off by more than its distance from there."""
    whole = lambda x: x.astype(jnp.int32)
    for f, x in (
        (lambda x: whole(x) + jnp.int32(128), [2147483520.0]),
        (lambda x: jnp.abs(whole(x)), [-(2.0**31)]),
        (lambda x: (whole(x) + whole(x[::-1])).sum(), np.float32(53687092) * np.ones(20)),
    ):
        x, number = jnp.asarray(x, jnp.float32), lambda x, f=f: f(x).astype(x.dtype)
        assert (number(x) < -2e9).all()
        for rounding in ("nearest", "outward"):
            assert (interval(number, rounding=rounding)(Box(x, x)).lower <= number(x)).all()


def test_what_may_be_no_number_is_not_said_to_be_one():
    """log of a negative number is NaN, which is not itself; of x alone nothing is."""
    step = lambda g: lambda x: jnp.where(jnp.isnan(g(x)), 5.0, 0.0) + jnp.where(jnp.isfinite(g(x)), 0.0, 7.0)
    x = jnp.array([-0.5, 2.0])
    low, high = interval(step(jnp.log))(ball(x, 0.1))
    assert (low <= 0).all() and (high == 12).all()
    low, high = interval(step(lambda x: x))(ball(x, 0.1))
    assert (low == 0).all() and (high == 0).all()
    masked = lambda x: jax.nn.softmax(jnp.stack([x, x - jnp.inf]))  # the second row has no entry, and its softmax is 0 / 0
    low, high = interval(lambda x: jnp.isnan(p := masked(x)) + jnp.where(p == p, 0.0, 1.0))(ball(x, 0.1))
    assert (high == jnp.array([[0.0], [2.0]])).all() and (low == 0).all()


@pytest.mark.parametrize("curve", [waves.SIN, waves.COS])
def test_lines_of_waves_hold_and_their_ranges_are_exact(curve):
    rng = np.random.default_rng(0)
    l = np.concatenate([rng.uniform(-8, 8, 400), rng.uniform(-2000, 2000, 100), [0.0, -np.pi / 2]]).astype(np.float32)
    u = (l + np.concatenate([rng.exponential(1.5, 500), [np.pi, np.pi]])).astype(np.float32)
    x = np.linspace(l, u, 501).clip(l, u).astype(np.float64)
    y = (np.sin if curve is waves.SIN else np.cos)(x)
    low, high = jax.jit(curve.range)(l, u)
    np.testing.assert_allclose(low, y.min(0), atol=2e-3)
    np.testing.assert_allclose(high, y.max(0), atol=2e-3)
    assert (low <= y.min(0) + 1e-6).all() and (high >= y.max(0) - 1e-6).all()
    lines = [np.asarray(v, np.float64) for v in jax.jit(lambda l, u: curve.lines(l, u, None))(l, u)]
    room = 1e-6 * (1 + np.abs(x))
    assert (lines[0] * x + lines[1] <= y + room).all() and (y <= lines[2] * x + lines[3] + room).all()
    narrow = u - l < 0.3
    assert (((lines[2] - lines[0]) * x + lines[3] - lines[1]).max(0) < 0.05)[narrow & (np.abs(l) < 10)].all()  # and are not their ranges


@pytest.mark.parametrize(
    "f, words",
    [
        (lambda x: x[jnp.argmax(x)], "indices depend on x"),
        (lambda x: ((x > 0).astype(jnp.int32) & 3).astype(x.dtype), "bit by bit"),
        (lambda x: ((x * 9).astype(jnp.int32) // 2).astype(x.dtype), "whole numbers"),
        (lambda x: lax.cond(x[0] > 0, jnp.sin, jnp.cos, x), "'cond'.*jnp.where"),
        (lambda x: lax.while_loop(lambda v: v[0] < 3, lambda v: v + 1, x), "'while'.*fixed length"),
        (lambda x: lax.reduce_window(x, 1.0, lax.mul, (2,), (1,), "VALID"), "maxima and minima"),
    ],
)
def test_what_has_no_rule_says_what_to_do(f, words):
    with pytest.raises(ValueError, match=words):
        interval(f)(ball(jnp.array([0.5, 1.0, 2.0]), 0.1))
