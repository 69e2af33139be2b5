"""Loops and conditionals within a model: a scan is explained as the same loop in Python is, a `while_loop` and a `cond` are one step each."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jxai import taps
from jxai.attribution import grad_cam, guided_backprop
from jxai.bounds import ball, crown, interval

RNG = np.random.default_rng(1)
X = RNG.uniform(size=(4, 5, 2)).astype(np.float32)
W = np.float32(np.eye(2) + 0.3 * RNG.normal(size=(3, 2, 2)))
M = W[0] - 0.5 * W[1]


def loop(step, carry, xs, length=None, reverse=False):
    """`lax.scan` in Python."""
    length = length or len(jax.tree.leaves(xs)[0])
    ys = {}
    for i in reversed(range(length)) if reverse else range(length):
        carry, ys[i] = step(carry, jax.tree.map(lambda v, i=i: v[i], xs))
    return carry, jax.tree.map(lambda *v: jnp.stack(v), *(ys[i] for i in range(length)))


def everything(scan, x):
    """A constant of the model and one that depends on x, two carries, two stacked inputs, two stacked outputs."""

    def step(carry, slices):
        v, total = carry
        v = jax.nn.relu(v @ slices[0] + 0.5 * (x @ M) - slices[1])
        return (v, total + v.sum()), (v.mean((0, 1)), v)

    (v, total), (means, all_) = scan(step, (x, jnp.zeros(())), (W, jnp.linspace(0, 0.3, 3)))
    return v.mean((0, 1)) + means[0] + 0.1 * all_.mean((0, 1, 2)) + 0.01 * total


def backwards(scan, x):
    v, seen = scan(lambda v, w: (jax.nn.relu(v @ w), v[0, 0]), x, W, reverse=True)
    return v.mean((0, 1)) + seen[0] - seen[2]


def nested(scan, x):
    inner = lambda v, w: scan(lambda v, k: (jax.nn.relu(k * v @ w + 0.4), None), v, jnp.array([-0.7, 1.0]))
    return scan(lambda v, w: (inner(v, w)[0] + v, None), x, W)[0].mean((0, 1))


def carries_nothing(scan, x):
    return scan(lambda _, w: ((), jax.nn.relu(x @ w)), (), W)[1].sum(0).mean((0, 1))


def slices_nothing(scan, x):
    return scan(lambda v, _: (jax.nn.relu(v @ M + 0.2), None), x, None, length=3)[0].mean((0, 1))


def mapped(scan, x):
    row = lambda r: scan(lambda v, w: (jax.nn.relu(v @ w), None), r, W)[0]
    return jax.vmap(row)(x).mean((0, 1))


def inside_calls(scan, x):
    return jax.jit(jax.checkpoint(lambda x: slices_nothing(scan, x) + backwards(scan, x)))(x)


def descending(scan, x):
    """A step down an energy: the scan's own gradient, computed again in the backward pass."""
    energy = jax.checkpoint(lambda v: scan(lambda v, w: (jnp.tanh(v @ w) * jnp.cos(x.mean()), None), v, W)[0].sum())
    return jax.nn.relu(x - jax.grad(energy)(x)).mean((0, 1))


MODELS = (everything, backwards, nested, carries_nothing, slices_nothing, mapped, inside_calls)


def spelled(model, scan):
    return lambda x: model(scan, x)


@pytest.mark.parametrize("model", [*MODELS, descending])
def test_a_scan_is_explained_as_the_loop_that_it_is(model):
    f, g = spelled(model, lax.scan), spelled(model, loop)
    relus = [[layer.index for layer in taps.layers(h, X) if layer.primitive == "relu"] for h in (f, g)]
    assert len(relus[0]) == len(relus[1])
    first, last = [n[0] for n in relus], [n[-1] for n in relus]

    @jax.jit
    def explained(x):
        """Of the scan and of the loop: every rectified value, and what methods say."""
        both = []
        for h, layers, i, j in zip((f, g), relus, first, last):
            several = jax.vmap(lambda x, h=h: guided_backprop(h, x, 0))(jnp.stack([x, -x]))
            through = jax.grad(lambda x, h=h, i=i: taps.replace(h, x, i, jnp.tanh)[1])(x)
            both.append(([taps.read(h, x, n) for n in layers], [guided_backprop(h, x, 1), several, grad_cam(h, x, 0, layer=j), through]))
        return both

    (values, maps), (others, expected) = explained(X)
    for value, other in zip(values, others, strict=True):
        assert np.allclose(value, other, atol=1e-5)
    for a, b in zip(maps, expected, strict=True):
        assert np.allclose(a, b, atol=1e-5) and np.abs(b).max() > 0


QUICK = ((everything, interval), (carries_nothing, crown))


@pytest.mark.parametrize(
    ("model", "bound"), [pytest.param(*case, marks=[pytest.mark.slow] * (case not in QUICK)) for case in itertools.product(MODELS, (interval, crown))]
)
def test_a_scan_has_the_bounds_of_the_loop_that_it_is(model, bound):
    f, g = (spelled(model, scan) for scan in (lax.scan, loop))
    bounds, value = jax.jit(lambda x: ([bound(h)(ball(x, 0.05)) for h in (f, g)], f(x)))(X)
    (low, high), (lower, upper) = jax.tree.map(np.asarray, bounds)
    assert np.allclose(low, lower, atol=1e-4) and np.allclose(high, upper, atol=1e-4)
    assert (low <= value).all() and (value <= high).all() and (high - low).max() > 0.01


def chosen(x):
    turn = lambda v: lax.scan(lambda v, w: (jnp.tanh(v @ w), None), v, W, reverse=True)[0]
    return jax.nn.relu(lax.cond(x.sum() < 1000, turn, lambda v: v, x) @ M).mean((0, 1))


def repeated(x):
    turn = lambda s: (s[0] + 1, lax.scan(lambda v, w: (jax.nn.relu(v @ w + 0.1), None), s[1], W)[0])
    return lax.while_loop(lambda s: s[0] < 2, turn, (0, jnp.tanh(x @ M)))[1].mean((0, 1))


def test_a_scan_inside_a_cond_is_part_of_one_step():
    plain = lambda x: jax.nn.relu(loop(lambda v, w: (jnp.tanh(v @ w), None), x, W, reverse=True)[0] @ M).mean((0, 1))
    (cond,) = (layer.index for layer in taps.layers(chosen, X) if layer.primitive == "cond")
    methods = (grad_cam, guided_backprop)
    read, value, maps = jax.jit(lambda x: (taps.read(chosen, x, cond), plain(x), [[method(h, x, 1) for h in (chosen, plain)] for method in methods]))(X)
    assert np.allclose(np.maximum(np.asarray(read) @ M, 0).mean((0, 1)), value, atol=1e-5)
    for a, b in maps:
        assert np.allclose(a, b, atol=1e-5)


def test_a_scan_inside_a_while_loop_is_part_of_one_step():
    index = next(n.index for n in taps.layers(repeated, X) if n.primitive == "tanh")
    v, value = map(np.asarray, jax.jit(lambda x: (lambda cut: (cut.value, cut.head(cut.value)))(taps.split(repeated, x, index)))(X))
    for w in [*W, *W]:
        v = np.maximum(v @ w + np.float32(0.1), 0)
    assert np.allclose(value, v.mean((0, 1)), atol=1e-5)
    with pytest.raises(ValueError, match="rectifier inside a while"):
        guided_backprop(repeated, X, 1)


@pytest.mark.parametrize("f", [chosen, repeated])
def test_bounds_have_no_rule_for_either(f):
    with pytest.raises(ValueError, match="no rule for the primitive"):
        interval(f)(ball(X, 0.1))
