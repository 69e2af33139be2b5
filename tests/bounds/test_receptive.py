"""Shared backward passes equal plain ones; CROWN equals its formulas in NumPy; exact ranges lie inside."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax

import jxai.bounds.linear as linear
from jxai.bounds import METHODS, Box, ball, crown
from jxai.bounds.graph import graph
from jxai.bounds.receptive import Colouring, colouring
from jxai.bounds.rules.operations import Unary
from jxai.models import RobustCNN

pytestmark = pytest.mark.usefixtures("quick_compilation")

NAMES = ("NHWC", "HWIO", "NHWC")


def kernel(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(np.prod(shape[:-1])), jnp.float32)


def conv(x, w, strides=(1, 1), padding="SAME", dilation=(1, 1), groups=1):
    return lax.conv_general_dilated(x[None], w, strides, padding, rhs_dilation=dilation, dimension_numbers=NAMES, feature_group_count=groups)[0]


def pooled(x):
    return lax.reduce_window(x, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), "VALID")


def residual(x):
    y = jax.nn.relu(conv(x, kernel(0, 3, 3, 2, 2)))
    return jnp.tanh(y + conv(jax.nn.relu(conv(y, kernel(1, 3, 3, 2, 2))), kernel(2, 3, 3, 2, 2)))


def all_at_once(x):
    """A skip connection, with a stride, over a dilated convolution in groups."""
    y = jax.nn.relu(conv(x, kernel(0, 3, 3, 2, 2)))
    z = jax.nn.relu(conv(y, kernel(1, 2, 2, 1, 2), dilation=(2, 1), groups=2))
    return conv(y, kernel(2, 1, 1, 2, 2), (2, 2)) + conv(z, kernel(3, 3, 2, 2, 2), (2, 2), padding=((1, 1), (0, 1)))


HEADS = {
    "all at once": all_at_once,
    "stride": lambda x: jax.nn.relu(conv(jax.nn.relu(conv(x, kernel(0, 3, 3, 2, 3), (2, 2))), kernel(1, 2, 2, 3, 2))),
    "padding": lambda x: jax.nn.relu(conv(jnp.tanh(conv(x, kernel(0, 3, 2, 2, 3), padding=((2, 0), (0, 3)))), kernel(1, 3, 3, 3, 2))),
    "dilation": lambda x: jax.nn.relu(conv(jax.nn.relu(conv(x, kernel(0, 2, 2, 2, 3), dilation=(2, 1))), kernel(1, 2, 2, 3, 2), dilation=(1, 2))),
    "residual": residual,
    "max-pool": lambda x: jax.nn.relu(conv(pooled(conv(x, kernel(0, 3, 3, 2, 3))), kernel(1, 2, 2, 3, 2))),
    "depthwise": lambda x: jax.nn.relu(conv(jax.nn.relu(conv(x, kernel(0, 3, 3, 1, 4), groups=2)), kernel(1, 3, 3, 1, 4), groups=4)),
}


NO_WINDOWS, NO_COLOURS = {"max-pool"}, set()


@pytest.mark.parametrize("name", [name if name in ("all at once", "max-pool") else pytest.param(name, marks=pytest.mark.slow) for name in HEADS])
def test_shared_passes_equal_plain_ones(name, monkeypatch):
    f = lambda x: conv(HEADS[name](x), kernel(9, 1, 1, jax.eval_shape(HEADS[name], x).shape[-1], 2))
    x = np.float32(np.random.default_rng(3).normal(size=(8, 8, 2)))
    region = ball(x, 0.1)
    monkeypatch.setattr(linear, "open_entries", lambda found, reference: None)  # so that each gives ends to all neurons
    planned, plan, start = [], linear.windows.plan, linear.starts
    monkeypatch.setattr(linear.windows, "plan", lambda *args: planned.append(plan(*args)) or planned[-1])
    windows = jax.jit(crown(f))(region)
    assert any(p is not None for p in planned) == (name not in NO_WINDOWS)
    monkeypatch.setattr(linear.windows, "plan", lambda *args: None)
    coloured = []
    monkeypatch.setattr(linear, "starts", lambda *args: coloured.append(start(*args)) or coloured[-1])
    colours = jax.jit(crown(f))(region)
    assert any(c.coloured for c in coloured) == (name not in NO_COLOURS)
    monkeypatch.setattr(linear, "starts", lambda found, r: Colouring(found.known[r].lower.shape, found.known[r].lower.shape, (), {}))
    plain = jax.jit(crown(f))(region)
    points = np.float32(x + 0.1 * np.random.default_rng(4).choice([-1, 1, 0.3], size=(100, *x.shape)))
    y = np.asarray(jax.jit(jax.vmap(f))(points))
    assert (y >= np.asarray(plain.lower) - 1e-4).all() and (y <= np.asarray(plain.upper) + 1e-4).all()
    for found in (windows, colours):
        np.testing.assert_allclose(found.lower, plain.lower, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found.upper, plain.upper, rtol=1e-4, atol=1e-5)


def test_colours_of_the_robust_network():
    """A neuron of the second convolution sees 10 pixels of stride 4 along each axis: 3 × 3 colours for each of 32 channels."""

    def starts():
        found = graph(RobustCNN(rngs=nnx.Rngs(0)), ball(np.full((28, 28, 1), 0.5, np.float32), 0.1))
        second = [n.inputs[0] for n in found.nodes if isinstance(n.operation, Unary)][1]
        shape = next(n.shape for n in found.nodes if n.output == second)
        return jnp.zeros(colouring(found, second, shape).starts)

    assert jax.eval_shape(starts).shape == (32 * 3 * 3,)


def mlp(widths, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(m, n)) / np.sqrt(n), 0.2 * rng.normal(size=m)) for n, m in zip(widths[:-1], widths[1:])]


def model(layers, x):
    for n, (w, b) in enumerate(layers):
        x = jnp.asarray(w, jnp.float32) @ (jax.nn.relu(x) if n else x) + jnp.asarray(b, jnp.float32)
    return x


def oracle(layers, low, high):
    """CROWN in NumPy: pre-activation bounds of each layer by a backward pass over all before it, cut to IBP's."""
    ends, box = [], (low, high)
    for n, (w, b) in enumerate(layers):
        if n:
            box = np.maximum(ends[-1][0], 0), np.maximum(ends[-1][1], 0)
        middle, radius = (box[0] + box[1]) / 2, (box[1] - box[0]) / 2
        interval = w @ middle + b - np.abs(w) @ radius, w @ middle + b + np.abs(w) @ radius
        sides = []
        for sign in (1.0, -1.0):
            a, constant = sign * w, sign * b
            for (l, u), (v, c) in zip(ends[::-1], layers[:n][::-1]):
                crossing = (l < 0) & (u > 0)
                slope = np.where(crossing, u / np.where(crossing, u - l, 1), l >= 0)
                below = np.where(crossing, u > -l, l >= 0)
                constant = constant + np.minimum(a, 0) @ np.where(crossing, -slope * l, 0)
                a = np.maximum(a, 0) * below + np.minimum(a, 0) * slope
                constant, a = constant + a @ c, a @ v
            sides.append(sign * (constant + a @ (low + high) / 2 - np.abs(a) @ (high - low) / 2))
        ends.append((np.maximum(sides[0], interval[0]), np.minimum(sides[1], interval[1])))
    return ends[-1]


@jax.jit
def both(layers, box):
    f = lambda x: model(layers, x)
    return crown(f)(box), METHODS["crown_ibp"](f)(box)


@pytest.mark.parametrize("seed", range(3))
def test_crown_is_its_formulas(seed):
    """The library also cuts to CROWN-IBP, which may only be tighter: never looser than the formulas, and equal where that does not bite."""
    layers, x = mlp((6, 12, 12, 4), seed), np.random.default_rng(seed).normal(size=6)
    low, high = x - 0.1, x + 0.1
    found, ibp = both(layers, Box(np.float32(low), np.float32(high)))
    lower, upper = oracle(layers, low, high)
    np.testing.assert_allclose(found.lower, np.maximum(lower, ibp.lower), atol=1e-5)
    np.testing.assert_allclose(found.upper, np.minimum(upper, ibp.upper), atol=1e-5)


def exact_range(layers, low, high):
    """The least and greatest outputs: a linear programme for each pattern of signs of the hidden units."""
    linprog = pytest.importorskip("scipy.optimize").linprog
    (w, b), (v, c) = layers
    ends = np.full((len(c), 2), (np.inf, -np.inf))
    for signs in itertools.product((0.0, 1.0), repeat=len(b)):
        s = np.array(signs)
        # Units that are on have w x + b >= 0, the others <= 0.
        turned = np.where(s > 0, -1.0, 1.0)
        for k in range(len(c)):
            row, constant = (v[k] * s) @ w, (v[k] * s) @ b + c[k]
            for side, sign in enumerate((1.0, -1.0)):
                solved = linprog(sign * row, turned[:, None] * w, -turned * b, bounds=list(zip(low, high)))
                if solved.status == 0:
                    value = row @ solved.x + constant
                    ends[k, side] = min(ends[k, side], value) if side == 0 else max(ends[k, side], value)
    return ends.T


def test_exact_ranges_lie_inside():
    layers = mlp((3, 5, 2), 4)
    low, high = np.array([-0.6, 0.1, -0.2]), np.array([0.5, 0.9, 0.8])
    least, most = exact_range(layers, low, high)
    f, options = lambda x: model(layers, x), {"alpha_crown": {"steps": 3}}
    found = jax.jit(lambda box: {method: bound(f, **options.get(method, {}))(box) for method, bound in METHODS.items()})(Box(np.float32(low), np.float32(high)))
    for method, (lower, upper) in found.items():
        assert (np.asarray(lower) <= least + 1e-5).all() and (np.asarray(upper) >= most - 1e-5).all(), method


@pytest.mark.parametrize("p", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_depthwise_convolution_on_a_ball_has_the_same_bounds_with_64_bits(p):
    """Windows keep a depthwise convolution's channels together; and no literal of the model, nor a mask of ours, is of 64 bits."""
    w, v = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in ((3, 3, 1, 2), (2, 3)))
    names = ("NHWC", "HWIO", "NHWC")

    def f(x):
        y = lax.conv_general_dilated(x[None], jnp.asarray(w), (1, 1), "SAME", dimension_numbers=names, feature_group_count=2)[0]
        return jnp.clip(jax.nn.celu(y, 0.7), -0.5, 1.0).mean((0, 1)) @ v

    x = np.random.default_rng(1).uniform(size=(5, 5, 2)).astype(np.float32)
    found = []
    for wide in (False, True):
        with jax.enable_x64(wide):
            ends = jax.jit(lambda region: METHODS["crown"](f)(region))(ball(jnp.asarray(x), 0.1, p=p))
            assert ends.lower.dtype == jnp.float32
            found.append(np.asarray(ends))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-5)
    y = np.asarray(f(jnp.asarray(x)))
    assert (found[0][0] < y).all() and (y < found[0][1]).all()


def test_a_model_may_go_on_in_a_wider_type():
    """float32 in, float64 weights, float32 again: coefficients of 64 bits meet values of 32, and bounds are those of all in 64."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        w, v = jnp.asarray(rng.normal(size=(4, 3))), jnp.asarray(rng.normal(size=(2, 4)))
        f = lambda x: (v @ jnp.where(w @ x > 0, w @ x, 0.1 * (w @ x))).astype(jnp.float32) + x[:2].astype(jnp.float32)
        x = jnp.asarray(rng.normal(size=3))
        found = [METHODS["crown_ibp"](f)(ball(x.astype(kind), 0.3)) for kind in (jnp.float32, jnp.float64)]
    np.testing.assert_allclose(*map(np.asarray, found), rtol=1e-4, atol=1e-4)
