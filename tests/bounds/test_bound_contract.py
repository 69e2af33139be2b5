"""What bounds promise beside soundness: transformations compose, margins and linear forms mean what they say, bad input is named."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import each
from jxai.bounds import METHODS, Ball, Box, ball, bound, linear_bounds, margins
from jxai.bounds.linear import crown_ranges

pytestmark = pytest.mark.usefixtures("quick_compilation")

OPTIONS = {"alpha_crown": {"steps": 3}}
LINES = ("interval", "forward", "crown_ibp", "crown")


def network(weights, x):
    first, second, last = weights
    return last @ jnp.tanh(second @ jax.nn.relu(first @ x.ravel() + 0.1) - 0.1)


def relu_network(weights, x):
    first, second, last = weights
    return last @ jax.nn.relu(second @ jax.nn.relu(first @ x.ravel() + 0.1) - 0.1)


def net(seed=0, size=4, hidden=7, classes=3, function=network, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    shapes = (hidden, size), (hidden, hidden), (classes, hidden)
    return jax.tree_util.Partial(function, [jnp.asarray(1.5 * rng.normal(size=s) / np.sqrt(s[1]), dtype) for s in shapes])


def example(seed=0, size=4):
    return np.float32(np.random.default_rng(seed + 100).normal(size=size))


def by(method, f, region):
    return METHODS[method](f, **OPTIONS.get(method, {}))(region)


compiled = jax.jit(by, static_argnums=0)  # one program for all networks and regions of a kind
values = jax.jit(lambda f, points: jax.vmap(f)(points))


def slow(every, *quick):
    return [pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=() if one in quick else pytest.mark.slow) for one in every]


def equal(a, b, rtol=2e-5):
    for u, v in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(u, v, rtol=rtol, atol=1e-5)


def sampled(region, n=2000, seed=0):
    """Points of a region; for a ball, directions of all kinds at all distances, and its corners."""
    rng = np.random.default_rng(seed)
    low, high = np.asarray(region.lower), np.asarray(region.upper)
    if isinstance(region, Box):
        return np.float32(np.clip(low + rng.choice([0, 1, 0.5, 0.2], size=(n, *low.shape)) * (high - low), low, high))
    d = rng.normal(size=(n, *low.shape)) ** rng.choice([1, 3], size=(n, 1))
    d = d / np.linalg.norm(d.reshape(n, -1), ord=region.p, axis=1).reshape(-1, *(1,) * low.ndim)
    x = np.asarray(region.center) + d * np.asarray(region.radius) * rng.choice([1, 0.5], size=(n, *(1,) * low.ndim)) * (1 - 1e-6)
    return np.float32(x[((x >= low - 1e-6) & (x <= high + 1e-6)).reshape(n, -1).all(1)])


def stack(trees):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


@pytest.mark.parametrize("method", slow(METHODS, "interval", "forward"))
def test_transformations_compose(method):
    """vmap over regions and over models is a loop; new weights do not retrace."""
    models, regions = [net(s) for s in range(2)], [ball(example(s), 0.2) for s in range(2)]
    one_by_one, traces = [[compiled(method, models[0], regions[0])]], compiled._cache_size()
    one_by_one = [[compiled(method, f, region) for region in regions] for f in models]
    assert compiled._cache_size() == traces
    # Models and regions in pairs, and one model with all regions.
    pairs = jax.jit(jax.vmap(functools.partial(by, method)))(stack(models), stack(regions))
    equal(pairs, stack([one_by_one[0][0], one_by_one[1][1]]), 1e-4)
    if method == "interval":
        equal(jax.jit(jax.vmap(functools.partial(by, method), (None, 0)))(models[1], stack(regions)), stack(one_by_one[1]), 1e-4)


@pytest.mark.parametrize("method", slow(("interval", "forward", "crown_ibp", "crown"), "interval"))
def test_jit_is_eager(method):
    f, region = net(), ball(example(), 0.2)
    equal(by(method, f, region), compiled(method, f, region))


@pytest.mark.parametrize("method", slow(("crown_ibp", "crown", "alpha_crown"), "crown"))
def test_chunks_change_nothing(method):
    f, region = net(1), ball(example(1), 0.2)
    one = jax.jit(METHODS[method](f, chunk=1, **OPTIONS.get(method, {})))(region)
    equal(one, compiled(method, f, region), 1e-4)


@pytest.mark.parametrize("little", [0, 2**22])
def test_chunks_change_nothing_that_is_known_on_the_way(little, monkeypatch):
    """Not even of neurons that need no pass, of which a block may hold some by chance."""
    monkeypatch.setattr("jxai.bounds.linear._LITTLE", little)
    f, region = net(1, hidden=12, function=relu_network), ball(example(1), 0.2)
    known = [jax.jit(lambda region, chunk=chunk: crown_ranges(f, region, "nearest", chunk).known)(region) for chunk in (5, None)]
    equal(*known)


@pytest.mark.parametrize("method", slow(("interval", "crown_ibp", "crown"), "interval", "crown_ibp"))
def test_gradients_are_finite_differences(method):
    with jax.enable_x64(True):
        f = net(2, dtype=jnp.float64)
        x = np.random.default_rng(5).normal(size=4)
        ends = jnp.asarray(np.stack([x - 0.11, x + 0.17]), jnp.float64)
        mix = np.random.default_rng(6).normal(size=(2, 3))
        loss = jax.jit(lambda ends: (mix * jnp.stack(by(method, f, Box(*ends)))).sum())
        found, step = np.asarray(jax.jit(jax.grad(loss))(ends)), 1e-6
        assert found.dtype == np.float64 and np.abs(found).max() > 0.01
        for index in np.ndindex(2, 4):
            moved = np.zeros((2, 4))
            moved[index] = step
            np.testing.assert_allclose(found[index], (loss(ends + moved) - loss(ends - moved)) / (2 * step), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", slow(METHODS, "interval", "crown"))
def test_margins_hold_and_beat_differences_of_bounds(method):
    f, region, label = net(3), ball(example(3), 0.2), 1
    found = jax.jit(lambda r, label: margins(f, r, label, method=method, **OPTIONS.get(method, {})))
    # alpha-CROWN spends its steps on the margins here and on the ends there: only CROWN's ends are a measure of both.
    got, ends = np.asarray(found(region, label)), compiled("crown" if method == "alpha_crown" else method, f, region)
    y = np.asarray(values(f, sampled(region)))
    assert got[label] == 0
    assert (got <= (y[:, [label]] - y).min(0) + 1e-5).all()
    others = np.arange(3) != label
    assert (got >= (np.asarray(ends.lower)[label] - np.asarray(ends.upper)) - 1e-4)[others].all()
    # What cannot be told before the data is there is NaN.
    assert np.isnan(found(region, 3)).all() and np.isnan(found(region, -1)).all()
    assert np.isnan(found(Box(region.upper, region.lower), label)).all()
    assert np.isnan(found(Box(np.full(4, np.nan, np.float32), region.upper), label)).all()


def test_margins_of_each_example():
    f, x = net(4), np.stack([example(s) for s in range(3)])
    regions, labels = Box(x - np.float32(0.1), x + np.float32(0.1)), np.array([0, 2, 1])
    got = np.asarray(each(margins, f, regions, labels, method="interval"))
    alone = jax.jit(lambda region, label: margins(f, region, label, method="interval"))
    for n in range(3):
        equal(got[n], alone(Box(regions.lower[n], regions.upper[n]), labels[n]), 1e-4)


def test_margins_by_cases():
    """Cases cover the region: never below the margins of the whole, never above the least that a dense grid finds."""
    f, region = net(5, size=2, function=relu_network), ball(example(5, 2), 0.6)
    run = lambda splits: np.asarray(jax.jit(lambda r: margins(f, r, 0, method="alpha_crown", steps=5, splits=splits))(region))
    whole, cases = run(0), run(3)
    axes = [np.linspace(low, high, 300) for low, high in zip(np.asarray(region.lower), np.asarray(region.upper))]
    y = np.asarray(values(f, np.float32(np.stack(np.meshgrid(*axes), -1).reshape(-1, 2))))
    truth = (y[:, :1] - y).min(0)
    assert (cases <= truth + 1e-5).all() and (cases >= whole - 1e-5).all()
    assert cases[0] == 0


QUICK_LINES = {("interval", np.inf), ("forward", 1), ("crown_ibp", 2), ("crown", np.inf)}


@pytest.mark.parametrize(("method", "p"), slow([(method, p) for method in LINES for p in (1, 2, np.inf)], *QUICK_LINES))
def test_linear_functions_bound_the_model(method, p):
    f, region = net(6), ball(example(6), 0.3, p)
    lines = jax.jit(linear_bounds(f, method=method))(region)
    assert lines.lower_A.shape == (3, 4) and lines.upper_b.shape == (3,)
    points = sampled(region)
    x, y = np.float64(points), np.asarray(values(f, points))
    lower_A, lower_b, upper_A, upper_b = (np.asarray(v, np.float64) for v in lines)
    assert (x @ lower_A.T + lower_b <= y + 1e-4).all() and (y <= x @ upper_A.T + upper_b + 1e-4).all()


@pytest.mark.parametrize("p", [1, 2])
def test_balls_are_exact_on_linear_functions(p):
    """`min ⟨a, x⟩ = ⟨a, c⟩ − ‖a · radius‖_q`, q = ∞ or 2."""
    rng = np.random.default_rng(7)
    w, x, radius = rng.normal(size=(3, 6)), rng.normal(size=6), np.array([0.3, 0.1, 0.0, 0.7, 0.2, 0.0])
    f = jax.tree_util.Partial(jnp.matmul, np.float32(w))
    spread = np.linalg.norm(w * radius, ord=np.inf if p == 1 else 2, axis=1)
    region = ball(np.float32(x), np.float32(radius), p)
    for method in ("forward", "crown_ibp", "crown", "alpha_crown"):
        found = compiled(method, f, region)
        np.testing.assert_allclose(found.lower, w @ x - spread, atol=1e-5)
        np.testing.assert_allclose(found.upper, w @ x + spread, atol=1e-5)


@pytest.mark.parametrize("p", slow((1, 2, np.inf), 2, np.inf))
def test_balls_hold_fixed_features_and_the_valid_range(p):
    f, x, radius = net(8), np.float32([0.1, 0.95, 0.5, 0.3]), np.float32([0.3, 0.3, 0.0, 0.2])
    region = ball(x, radius, p, clip=(0.0, 1.0))
    lower, upper = np.asarray(region.lower), np.asarray(region.upper)
    assert lower[0] == 0 and upper[1] == 1
    assert lower[2] == upper[2] == 0.5
    points = sampled(region, 4000)
    assert len(points) > 100
    y = np.asarray(values(f, points))
    widths = {}
    for method in ("interval", "crown") if p == 2 else ("crown",):
        low, high = (np.asarray(v) for v in compiled(method, f, region))
        assert (y >= low - 1e-5).all() and (y <= high + 1e-5).all()
        widths[method] = (high - low).sum()
    assert widths["crown"] < np.sum(np.subtract(*compiled("crown", f, ball(x, radius, p))[::-1]))


def test_smaller_balls_have_smaller_bounds():
    f, x = net(9), example(9)
    widths = [np.subtract(*np.asarray(compiled("forward", f, ball(x, 0.2, p)))[::-1]).sum() for p in (1, 2, np.inf)]
    assert widths[0] < widths[1] < widths[2]


@pytest.mark.parametrize("method", METHODS)
def test_outputs_of_any_shape_and_constants(method):
    region = ball(np.full((1, 1, 1), 0.5, np.float32), 0.25)

    @jax.jit
    def run(region):
        functions = (
            lambda x: 2 * x[0, 0, 0] + 1,
            lambda x: jnp.arange(6.0).reshape(2, 3, 1) * x,
            lambda x: jnp.arange(3.0) + 0 * jax.lax.stop_gradient(jnp.zeros(3)),
        )
        return [by(method, f, region) for f in functions], margins(lambda x: jnp.arange(3.0), region, 2, method=method)

    (number, array, constant), got = run(region)
    assert number.lower.shape == () and float(number.lower) == 1.5 and float(number.upper) == 2.5
    np.testing.assert_allclose(np.ravel(array.upper), 0.75 * np.arange(6), rtol=1e-6)
    np.testing.assert_allclose(np.ravel(array.lower), 0.25 * np.arange(6), rtol=1e-6)
    assert constant.lower.tolist() == constant.upper.tolist() == [0, 1, 2]
    assert got.tolist() == [2, 1, 0]


def test_a_half_precision_model_is_bounded_in_single_precision():
    f, exact, x = net(10, dtype=jnp.float16), net(10), example(10)
    half = lambda v: f(v.astype(jnp.float16))
    found, wanted = jax.jit(METHODS["crown_ibp"](half))(ball(x, 0.2)), compiled("crown_ibp", exact, ball(x, 0.2))
    assert found.lower.dtype == jnp.float32
    np.testing.assert_allclose(found.lower, wanted.lower, atol=0.05)
    np.testing.assert_allclose(found.upper, wanted.upper, atol=0.05)


def test_a_bound_by_its_name():
    f, region = net(11), ball(example(11), 0.1)
    equal(jax.jit(functools.partial(bound, method="interval"))(f, region), compiled("interval", f, region))


X = jnp.ones(4)
GOOD = Box(X, X + 1)
F = net(0)
BAD = {
    "lower must not exceed": lambda: METHODS["interval"](F)(Box(X + 1, X)),
    "radius=-1.0 must be": lambda: ball(X, -1.0),
    "radius must be at least 0": lambda: METHODS["crown"](F)(Ball(X, -X, X, X, 2)),
    "must be finite": lambda: METHODS["crown"](F)(Box(X * jnp.nan, X)),
    "x must be finite": lambda: ball(X * jnp.nan, 0.1),
    "p=3 must be 1, 2": lambda: ball(X, 0.1, 3),
    "must lie in clip": lambda: ball(X + 1, 0.1, clip=(0, 1)),
    "does not broadcast": lambda: ball(X, jnp.ones(3)),
    "must be a Box": lambda: METHODS["interval"](F)((X, X)),
    "cumprod": lambda: METHODS["crown"](jnp.cumprod)(GOOD),
    "3": lambda: margins(F, GOOD, 3, method="interval"),
    "-1": lambda: margins(F, GOOD, -1, method="interval"),
    "method='best'": lambda: margins(F, GOOD, 0, method="best"),
    "method='worst'": lambda: linear_bounds(F, method="worst"),
    "rounding='up'": lambda: METHODS["interval"](F, rounding="up"),
    "rounding='down'": lambda: margins(F, GOOD, 0, rounding="down"),
    "chunk=0": lambda: METHODS["crown"](F, chunk=0),
    "steps=0": lambda: METHODS["alpha_crown"](F, steps=0),
    "splits=-1": lambda: margins(F, GOOD, 0, method="alpha_crown", splits=-1),
    "splits=2": lambda: margins(F, GOOD, 0, splits=2),
    "vector of logits": lambda: margins(lambda x: x.reshape(2, 2), GOOD, 0, method="interval"),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input_is_named(message):
    with pytest.raises(ValueError, match=message):
        BAD[message]()
