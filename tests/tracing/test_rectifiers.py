"""Rectifiers are found by value: each spelling against the rule written down, and what only looks like one is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.tree_util import Partial

from jxai.attribution import deconvnet, gradient, guided_backprop
from jxai.tracing import interpret
from jxai.tracing.rectifiers import rectifiers

RNG = np.random.default_rng(0)
A, B, C = (np.float32(RNG.normal(size=shape)) for shape in ((5, 8), (8, 8), (8, 3)))
X, SLOPE = np.float32(RNG.normal(size=5)), np.full(8, 0.3, np.float32)


def ruled(phi):
    """The rule itself: φ′(v) · max(g, 0)."""
    g = jax.custom_vjp(phi)
    g.defvjp(lambda v: (phi(v), v), lambda v, c: (jax.vjp(phi, v)[1](jnp.maximum(c, 0))[0],))
    return g


relu = jax.nn.relu
PHI = {
    "v (v > 0)": lambda v: v * (v > 0),
    "(v + |v|) / 2": lambda v: 0.5 * (v + jnp.abs(v)),
    "a slope for each channel": lambda v: jnp.where(v >= 0, v, SLOPE * v),
    "Keras's PReLU": lambda v: relu(v) - SLOPE * relu(-v),
    "Torch's PReLU": lambda v: jnp.maximum(v, 0) + SLOPE * jnp.minimum(v, 0),
    "a slope of .3": lambda v: jnp.where(v >= 0, v, 0.3 * v),
    "the greater of v and .1 v": lambda v: jnp.maximum(v, 0.1 * v),
    "ELU by where": lambda v: jnp.where(v > 0, v, jnp.exp(jnp.minimum(v, 0)) - 1),
    "softplus by log and exp": lambda v: jnp.log(1 + jnp.exp(v)),
    "quick GELU": lambda v: v * jax.nn.sigmoid(1.702 * v),
    "GELU by tanh": lambda v: 0.5 * v * (1 + jnp.tanh(0.79788456 * (v + 0.044715 * v**3))),
    "mish": lambda v: v * jnp.tanh(jnp.log1p(jnp.exp(v))),
    "relu6": jax.nn.relu6,
    "one clamp": lambda v: lax.clamp(0.0, v, 6.0),
    "relu6 by two clamps": lambda v: jnp.minimum(jnp.maximum(v, 0), 6),
}
BETWEEN = {
    "log(1 + v)": lambda v: jnp.log(1 + v),
    "sqrt(v + eps)": lambda v: jnp.sqrt(v + 1e-3),
    "GeM": lambda v: jnp.maximum(v, 1e-6) ** jnp.float32(3.0),
    "an affine step": lambda v: 2 * v - 0.5,
}


def net(first, act, after, x):
    return after(act(first(x @ A) @ B)) @ C


def compared(phi, after=lambda v: v):
    got = jax.jit(lambda x: guided_backprop(lambda v: net(relu, phi, after, v), x, 1))(X)
    want = jax.jit(jax.grad(lambda x: net(ruled(relu), ruled(phi), after, x)[1]))(X)
    return np.asarray(got), np.asarray(want)


@pytest.mark.parametrize("name", PHI)
def test_every_spelling_is_found(name):
    got, want = compared(PHI[name])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


@pytest.mark.parametrize("name", BETWEEN)
def test_a_rectifier_before_what_needs_positive_numbers_is_one(name):
    got, want = compared(lambda v: jnp.maximum(v, 0), BETWEEN[name])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def test_the_rule_is_no_plain_gradient():
    """With nothing rectified, or everything, both would be one."""
    f = lambda v: relu(relu(v @ A) @ B) @ C
    guided, plain = (np.asarray(jax.jit(lambda x, m=m: m(f, x, 1))(X)) for m in (guided_backprop, gradient))
    by_hand = np.float64(C[:, 1])
    for w, v in ((B, np.maximum(X @ A, 0) @ B), (A, X @ A)):
        by_hand = w @ ((v > 0) * np.maximum(by_hand, 0))
    np.testing.assert_allclose(guided, by_hand, rtol=1e-4, atol=1e-6)
    assert np.abs(guided - plain).max() > 0.1 * np.abs(plain).max()


def test_traced_slopes_and_inner_scales():
    f = Partial(lambda p, v: (lambda h: jnp.where(h > 0, h, p[1] * h))(v @ p[0]) @ C, (A, SLOPE))
    got = jax.jit(lambda f, x: guided_backprop(f, x, 0))(f, X)
    np.testing.assert_allclose(got, A @ (np.where(X @ A > 0, 1, SLOPE) * np.maximum(C[:, 0], 0)), rtol=1e-4, atol=1e-5)
    # What scales the argument is differentiated as it stands: a deconvolution does not lose it.
    reversed_ = jax.jit(lambda x: deconvnet(lambda v: jnp.maximum(2 * (v @ A) + 0.5, 0) @ C, x, 0))(X)
    np.testing.assert_allclose(reversed_, 2 * A @ np.maximum(C[:, 0], 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("choose", [lambda s, *f: lax.cond(s > 0, *f), lambda s, *f: lax.switch(jnp.int32(s > 0), f)])
def test_the_branches_of_a_conditional_are_ruled(choose):
    def f(act, first, v):
        h = first(v @ A)
        return choose(v.sum(), lambda: act(h @ B), lambda: relu_twice(act, h)) @ C

    def relu_twice(act, h):
        return act(h @ B.T) - h

    got, want = jax.jit(
        lambda x: (guided_backprop(lambda v: f(lambda u: jnp.maximum(u, 0), relu, v), x, 2), jax.grad(lambda x: f(ruled(relu), ruled(relu), x)[2])(x))
    )(X)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    only = lambda v: choose(v.sum(), lambda: relu(v @ A), lambda: jnp.tanh(v @ A)) @ C
    assert np.isfinite(jax.jit(lambda x: guided_backprop(only, x, 0))(X)).all()


NONE = {
    "a clip of x": lambda v: jnp.clip(v, 0, 1) @ A,
    "a clip of x, normalised": lambda v: jnp.clip((v - SLOPE[:5]) / 0.5, 0.0, 1.0) @ A,
    "a threshold": lambda v: (v @ A > 0.5).astype(jnp.float32) @ C,
    "a threshold near a probe": lambda v: (v @ A > 0.9).astype(jnp.float32) @ C,
    "a cast to integers": lambda v: (v @ A).astype(jnp.int32).astype(jnp.float32) @ C,
    "a clamp far from 0": lambda v: jnp.maximum(v @ A, -3.0) @ C,
    "a hard gate": lambda v: (v @ A) * (jnp.clip(v[:1] @ A[:1] + 3, 0, 6) / 6) @ C,
    "a variance kept from rounding": lambda v: (lambda h: h * lax.rsqrt(jnp.maximum((h**2).mean() - h.mean() ** 2, 0) + 1e-5))(v @ A) @ C,
    "a norm kept from 0": lambda v: (lambda h: h / jnp.sqrt(jnp.maximum((h**2).sum(), 1e-12)))(v @ A) @ C,
    "a power of what is kept from 0": lambda v: (jnp.maximum(v @ A, 1e-6) ** 2.5) @ C,
    "a residual": lambda v: (lambda h: h + jnp.tanh(h))(v @ A) @ C,
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_none(name):
    with pytest.raises(ValueError, match="no ReLU or other rectifier"):
        guided_backprop(NONE[name], X, 1)


def test_one_rectifier_for_each_that_there_is():
    f = lambda v: (lambda h: relu(h) - SLOPE * relu(-h))(jnp.maximum(v @ A, 0) @ B) @ C
    program = interpret.flatten(interpret.trace(f, X), interpret.everywhere)
    assert len(rectifiers(program)) == 2
