"""Bounds hold: at sampled points and where gradient descent climbs to, for every type of layer; methods nest; closed forms are met."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from bound_layers import LAYERS
from bound_points import climbed, points
from jax import lax

from jxai.bounds import METHODS, Box, ball
from jxai.bounds.interval import ranges
from jxai.bounds.rules.operations import Linear, LinearMap

hypothesis = pytest.importorskip("hypothesis")
st = hypothesis.strategies

pytestmark = pytest.mark.usefixtures("quick_compilation")

OPTIONS = {"alpha_crown": {"steps": 3}}
CHEAP = ("interval", "forward", "crown_ibp", "crown")
NESTED = (("interval", "forward"), ("interval", "crown_ibp"), ("crown_ibp", "crown"), ("crown", "alpha_crown"))
THREE = ("interval", "forward", "crown_ibp")
QUICK = ("relu", "silu", "conv VALID, stride 2", "product")
ENDS = ((0.0, 1.0), (-1.5, 0.25), (-0.1, 0.05))


def bounds_by(f, methods):
    """`region -> {method: Interval}`, compiled once."""
    return jax.jit(lambda region: {m: METHODS[m](f, **OPTIONS.get(m, {}))(region) for m in methods})


def inside(values, found, what=""):
    """All values `[n, …]` lie in the interval, up to the rounding of float32 at the size of what is computed."""
    y = np.asarray(values, np.float64).reshape(len(values), -1)
    lower, upper = (np.asarray(end, np.float64).ravel() for end in found)
    assert not np.isnan(lower).any() and not np.isnan(upper).any(), f"{what}: NaN"
    assert not np.isnan(y).any(), f"{what}: f is NaN on the region"
    room = 2e-5 * (1 + np.abs(y).max(0))
    assert (y >= lower - room).all(), f"{what}: below by {(lower - y).max()}"
    assert (y <= upper + room).all(), f"{what}: above by {(y - upper).max()}"


def nested(found):
    for outer, inner in NESTED:
        if outer in found and inner in found:
            (l, u), (a, b) = (map(np.asarray, found[m]) for m in (outer, inner))
            room = 1e-5 * (1 + np.where(np.isfinite(a), np.abs(a), 0) + np.where(np.isfinite(b), np.abs(b), 0))
            assert (a >= l - room).all() and (b <= u + room).all(), f"{inner} is wider than {outer}"


def check(name, methods, count):
    f, box = LAYERS[name].case(seed=1)
    run = bounds_by(f, methods)
    found = run(box)
    nested(found)
    inner, outer = jax.jit(lambda: (jax.lax.map(f, points(box, count, jax.random.key(7)), batch_size=1000), climbed(f, box, 6, jax.random.key(8), steps=12)))()
    for method, ends in found.items():
        inside(inner, ends, method)
        inside(outer.reshape(-1, outer.shape[-1]), ends, f"{method}, climbed")
    x = np.asarray(box.center)
    y = np.asarray(jax.jit(f)(x), np.float64)
    for method, ends in run(Box(x, x)).items():
        for end in ends:
            np.testing.assert_allclose(np.asarray(end), y, rtol=2e-4, atol=2e-4 * (1 + np.abs(y).max()), err_msg=f"{method} at radius 0")


@pytest.mark.parametrize("name", QUICK)
def test_bounds_of_a_layer_hold(name):
    check(name, CHEAP if name in ("relu", "conv VALID, stride 2") else THREE, 5_000)


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYERS)
def test_bounds_of_a_layer_hold_at_many_points(name):
    check(name, tuple(METHODS), 100_000)


FALLING_BACK = {"steps", "where", "where, of another", "where, of truths"}


def flat(name):
    """Whether some entry of a layer's values moves within the region although the lines below and above it are both level."""
    f, box = LAYERS[name].case(seed=1)

    @jax.jit
    def anywhere(box):
        found, some = ranges(f, box, "nearest"), jnp.zeros((), bool)
        for node in found.graph.nodes:
            value, operation = found.known[node.output], node.operation
            if value.lower.dtype == bool or isinstance(operation, Linear):
                continue
            relaxation = operation.relax(value, [found.known[r] for r in node.inputs])
            maps = [*relaxation.lower_maps, *relaxation.upper_maps]
            if any(isinstance(m, LinearMap) for m in maps):
                continue
            level = sum((jnp.zeros(node.shape) if m is None else jnp.abs(m) for m in maps), jnp.zeros(node.shape)) == 0
            some |= (level & (value.upper - value.lower > 1e-6)).any()
        return some

    return bool(anywhere(box))


@pytest.mark.parametrize("name", [n if n in QUICK or n in FALLING_BACK else pytest.param(n, marks=pytest.mark.slow) for n in LAYERS])
def test_only_steps_and_open_choices_fall_back_to_their_range(name):
    assert flat(name) == (name in FALLING_BACK)


def mlp(widths, key, dtype=jnp.float32, activation=jax.nn.relu):
    keys = jax.random.split(key, len(widths))
    layers = [(jax.random.normal(k, (n, m), dtype) / n**0.5, 0.2 * jax.random.normal(k, (m,), dtype)) for k, n, m in zip(keys, widths[:-1], widths[1:])]

    def f(x):
        for n, (w, b) in enumerate(layers):
            x = x.astype(dtype) @ w + b
            x = activation(x) if n < len(layers) - 1 else x
        return x

    return f


@pytest.mark.slow
def test_bounds_of_a_random_network_hold_at_many_points():
    f, region = mlp((8, 30, 30, 5), jax.random.key(0)), ball(jax.random.normal(jax.random.key(1), (8,)), 0.2)
    found = bounds_by(f, tuple(METHODS))(region)
    nested(found)
    y = jax.vmap(f)(points(region, 200_000, jax.random.key(2)))
    far = climbed(f, region, 64, jax.random.key(3), steps=60).reshape(-1, 5)
    for method, ends in found.items():
        inside(y, ends, method)
        inside(far, ends, method)


@pytest.mark.slow
@hypothesis.settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(
    widths=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    radius=st.sampled_from([0.0, 1e-4, 0.1, 3.0]),
    dtype=st.sampled_from([jnp.float32, jnp.float16, jnp.bfloat16]),
    activation=st.sampled_from([jax.nn.relu, jnp.tanh, jax.nn.silu]),
    seed=st.integers(0, 2**20),
)
def test_bounds_of_random_networks_hold(widths, radius, dtype, activation, seed):
    """The function in real numbers (here: float32 with the weights of the model's type) lies inside."""
    key = jax.random.key(seed)
    low = mlp(widths, key, dtype, activation)
    f = mlp(widths, key, dtype, activation) if dtype == jnp.float32 else wider(widths, key, dtype, activation)
    region = ball(jax.random.normal(jax.random.fold_in(key, 9), (widths[0],)), radius)
    found = bounds_by(low, CHEAP)(region)
    nested(found)
    y = jax.jit(jax.vmap(f))(points(region, 500, key))
    for method, ends in found.items():
        assert ends.lower.dtype == jnp.float32
        lower, upper = (np.asarray(end, np.float64) for end in ends)
        # The region's own points are rounded to the model's type as it reads them.
        room = (1e-5 + 16 * len(widths) * (0.0 if dtype == jnp.float32 else float(jnp.finfo(dtype).eps))) * (3 + np.abs(np.asarray(y)).max())
        assert (np.asarray(y) >= lower - room).all() and (np.asarray(y) <= upper + room).all(), method


def wider(widths, key, dtype, activation):
    """The network with the same weights, computed in float32."""
    keys = jax.random.split(key, len(widths))
    layers = [(jax.random.normal(k, (n, m), dtype) / n**0.5, 0.2 * jax.random.normal(k, (m,), dtype)) for k, n, m in zip(keys, widths[:-1], widths[1:])]

    def f(x):
        for n, (w, b) in enumerate(layers):
            x = x.astype(jnp.float32) @ w.astype(jnp.float32) + b.astype(jnp.float32)
            x = activation(x) if n < len(layers) - 1 else x
        return x

    return f


@pytest.mark.parametrize("method", METHODS)
def test_affine_functions_are_exact(method):
    rng = np.random.default_rng(3)
    w, b = rng.normal(size=(4, 6)), rng.normal(size=4)
    low = rng.normal(size=6)
    high = low + rng.uniform(0, 1, 6)
    f = lambda x: (jnp.asarray(w, jnp.float32) @ x * 2.0 - x.sum()).reshape(2, 2) + jnp.asarray(b, jnp.float32).reshape(2, 2)
    whole = 2 * w - 1
    middle, spread = whole @ (low + high) / 2 + b, np.abs(whole) @ (high - low) / 2
    box = Box(np.float32(low), np.float32(high))
    if method == "interval":  # w x and Σ x are taken for independent: exact for one affine step only
        f = lambda x: jnp.asarray(whole, jnp.float32) @ x + jnp.asarray(b, jnp.float32)
    found = bounds_by(f, (method,))(box)[method]
    np.testing.assert_allclose(np.ravel(found.lower), middle - spread, atol=1e-5)
    np.testing.assert_allclose(np.ravel(found.upper), middle + spread, atol=1e-5)


MONOTONE = {
    "relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "exp": jnp.exp, "softplus": jax.nn.softplus, "elu": jax.nn.elu,
    "leaky_relu": jax.nn.leaky_relu, "cube": lambda x: x**3, "erf": lax.erf, "atan": jnp.arctan, "log": lambda x: jnp.log(x + 2), "floor": jnp.floor,
    "sqrt": lambda x: jnp.sqrt(x + 2), "falling": lambda x: 1 / (x + 2), "clip": lambda x: jnp.clip(x, -1, 0.1), "soft_sign": jax.nn.soft_sign,
}  # fmt: skip


LIKE_OTHERS = {"sigmoid", "elu", "leaky_relu", "erf", "atan", "sqrt", "soft_sign", "cube"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if name in LIKE_OTHERS else name for name in MONOTONE])
def test_monotone_functions_are_exact(name):
    f, box = MONOTONE[name], Box(*(np.float32(v) for v in zip(*ENDS)))
    *found, a, b = jax.jit(lambda box: (METHODS["interval"](f)(box), METHODS["crown"](f)(box), f(box.lower), f(box.upper)))(box)
    for ends in found:
        np.testing.assert_allclose(ends.lower, np.minimum(a, b), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ends.upper, np.maximum(a, b), rtol=1e-5, atol=1e-6)


MEETS_CLIP = lambda x: jnp.where(x > 0, 0.0, jnp.where(x < 1, 1.0, x))
AWAY = lax.RoundingMethod.AWAY_FROM_ZERO

FEW = ("interval", "crown_ibp")

# A function, the ends of its region, and the methods: each was once bounded too tightly.
ONCE_WRONG = {
    "sigmoid of infinite ends": (lambda x: jax.nn.sigmoid(1 / x), [-1], [1], FEW),
    "tanh of infinite ends": (lambda x: jnp.tanh(1 / x), [-1], [1], FEW),
    "elu of infinite ends": (lambda x: jnp.tanh(jax.nn.elu(1 / x)), [-1], [1], FEW),
    "hard_silu before its kink": (lambda x: jax.nn.hard_silu(x) - 1.4 * x, [2.5], [3.01], FEW),
    "hard_silu after its kink": (lambda x: jax.nn.hard_silu(x) + 0.5 * x, [-3.01], [-2.5], FEW),
    "log1p of little": (lambda x: 1e6 * jnp.log1p(x), [1e-7], [2e-7], FEW),
    "first power": (lambda x: x**1.0, [-2], [-1], FEW),
    "third power": (lambda x: x**3.0, [-2], [1], FEW),
    "negative power": (lambda x: x**-2.0, [-2], [-1], FEW),
    "round away from zero": (lambda x: lax.round(x, AWAY), [0.4, -1.5], [0.5, -1.4], FEW),
    "round to even": (lambda x: lax.round(x, lax.RoundingMethod.TO_NEAREST_EVEN), [0.4, 1.5], [0.5, 1.6], FEW),
    "a step that looks like clip": (MEETS_CLIP, [-1], [1], FEW),
    "gather out of range": (lambda x: x.at[np.array([0, 9])].get(mode="fill", fill_value=5.0), [-1] * 4, [1] * 4, FEW),
    "gather, cut to the range": (lambda x: x.at[np.array([0, 9])].get(mode="clip"), [-1] * 4, [1] * 4, FEW),
    "truth to number": (lambda x: (x > 0).astype(x.dtype) * x, [-1], [1], FEW),
    "exclusive or": (lambda x: jnp.where((x > 0) ^ (x > 0.5), x, -1.0), [-1], [1], FEW),
    "stack": (lambda x: jnp.stack([x, 2 * x]), [-1], [1], FEW),
    "tile": (lambda x: jnp.tile(x, 2), [-1, 0], [1, 2], FEW),
}


@pytest.mark.parametrize("case", ONCE_WRONG)
def test_what_was_once_wrong_holds(case):
    f, low, high, methods = ONCE_WRONG[case]
    low, high = np.float32(low), np.float32(high)
    # Many points close together; that 1/x meets no 0 is the grid's business.
    x = np.clip(low + np.linspace(0, 1, 2000, dtype=np.float32)[:, None] * (high - low), low, high)
    found, y = jax.jit(lambda box, x: (bounds_by(f, methods)(box), jax.vmap(f)(x)))(Box(low, high), x)
    for method, ends in found.items():
        inside(y, ends, method)


def test_entries_out_of_range_are_nan_and_nothing_is_known_of_them():
    """`x[i]` with a constant i beyond the end is NaN, of which no bound holds: it must not be taken for a number."""
    f = lambda x: x[np.array([0, 9])]
    low, high = (np.asarray(end) for end in bounds_by(f, ("crown",))(Box(-np.ones(4, np.float32), np.ones(4, np.float32)))["crown"])
    value = np.asarray(jax.jit(f)(np.ones(4, np.float32)))
    assert low[0] == -1 and high[0] == 1
    if math.isnan(value[1]):
        assert not (np.isfinite(low[1]) and np.isfinite(high[1]))
    else:
        assert low[1] <= value[1] <= high[1]


def test_powers_with_several_exponents_are_refused():
    """Whether a power of a negative number is a number depends on each of them."""
    with pytest.raises(ValueError, match="'pow': its exponent must be one number"):
        METHODS["interval"](lambda x: x ** np.float32([2, 3]))(Box(jnp.full(2, -2.0), jnp.full(2, -1.0)))
