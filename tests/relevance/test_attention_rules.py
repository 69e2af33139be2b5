"""AttnLRP and CP-LRP on a transformer's block: the rules against gradient × input with changed derivatives, and what is conserved."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai.relevance import propagate
from jxai.testing.trial import close

RNG = np.random.default_rng(0)
T, D, H, INNER, K = 5, 6, 2, 8, 3
X = RNG.normal(size=(T, D)).astype(np.float32)
SHAPES = {"q": (D, D), "k": (D, D), "v": (D, D), "o": (D, D), "up": (D, INNER), "gate": (D, INNER), "down": (INNER, D), "head": (D, K)}
WEIGHTS = {name: (RNG.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32) for name, shape in SHAPES.items()}
BIASES = {name: 0.3 * RNG.normal(size=shape[-1]).astype(np.float32) for name, shape in SHAPES.items()}
SCALES = {name: RNG.uniform(0.5, 1.5, D).astype(np.float32) for name in ("first", "second", "last")}
SHIFTS = {name: 0.3 * RNG.normal(size=D).astype(np.float32) for name in SCALES}


def changed(fn, derivative):
    """fn with another derivative: `derivative(*arguments) -> factors of the arguments' tangents, through fn's own`."""
    out = jax.custom_jvp(fn)
    out.defjvp(lambda given, tangents: (fn(*given), derivative(given, tangents)))
    return out


multiplied = {
    "plain": lambda multiply: multiply,
    # d(ab) / 2: half to each operand.
    "changed": lambda multiply: changed(multiply, lambda given, tangents: jax.jvp(multiply, given, tangents)[1] / 2),
}
activated = {"plain": lambda act: act, "changed": lambda act: changed(act, lambda given, tangents: act(*given) / given[0] * tangents[0])}
held = {"plain": lambda v: v, "changed": jax.lax.stop_gradient}


def block(kind, weights, biases, scales, shifts, x, mask=None):
    """A pre-norm block with a gated network, the mean of its tokens, and a head; its own derivatives, or AttnLRP's."""
    product, activation, constant = multiplied[kind], activated[kind], held[kind]
    zero = lambda name: biases[name] if biases else 0.0
    dense = lambda name, v: v @ weights[name] + zero(name)

    def norm(name, v):
        centred = v - v.mean(-1, keepdims=True)
        y = centred * constant(jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)) * scales[name]
        return y + shifts[name] if shifts else y

    y = norm("first", x)
    q, k, v = (dense(name, y).reshape(T, H, -1) for name in "qkv")
    logits = product(lambda q, k: jnp.einsum("ihd,jhd->hij", q, k))(q, k) / np.sqrt(D // H).astype(np.float32)
    p = jax.nn.softmax(logits if mask is None else jnp.where(mask, logits, -jnp.inf))
    mixed = product(lambda p, v: jnp.einsum("hij,jhd->ihd", p, v))(p, v)
    x = x + dense("o", mixed.reshape(T, D))
    y = norm("second", x)
    inner = product(jnp.multiply)(activation(jax.nn.silu)(dense("gate", y)), dense("up", y))
    x = x + dense("down", inner)
    return dense("head", norm("last", x).mean(0))


def net(kind="plain", biases=BIASES, shifts=SHIFTS, mask=None):
    return Partial(Partial(lambda *given, kind, mask: block(kind, *given, mask=mask), kind=kind, mask=mask), WEIGHTS, biases, SCALES, shifts)


@pytest.mark.parametrize("mask", [np.tril(np.ones((T, T), bool)), pytest.param(None, marks=pytest.mark.slow)], ids=["causal", "all"])
def test_the_rules_of_attnlrp_are_gradient_x_input_with_changed_derivatives(mask):
    """Achtibat et al.: x ⊙ ∂f̃/∂x, f̃' = f(x)/x of activations, half of a product's, σ constant: dV / 2, dQ / 4, dK / 4."""
    f, tilde = net(mask=mask), net("changed", mask=mask)
    np.testing.assert_allclose(f(X), tilde(X), atol=1e-5)
    want = jax.jit(lambda f, x: x * jax.grad(lambda x: f(x)[1])(x))(tilde, X)
    got = jax.jit(lambda f, x: propagate(f, x, 1, composite="attn_lrp", epsilon=1e-10).map)(f, X)
    assert close(got, want, 1e-5) and float(np.abs(want).max()) > 1e-2


def test_cp_lrp_conserves_without_biases_and_attnlrp_does_not():
    f = net(biases=None, shifts=None)
    score = float(f(X)[1])
    maps = {name: jax.jit(lambda f, x, c=name: propagate(f, x, 1, composite=c, epsilon=1e-10)[:2])(f, X) for name in ("cp_lrp", "attn_lrp")}
    assert abs(float(maps["cp_lrp"][0].sum()) - score) < 1e-4 * abs(score) and abs(float(maps["cp_lrp"][1])) < 1e-4 * abs(score)
    assert abs(float(maps["attn_lrp"][0].sum()) - score) > 1e-2 * abs(score)


def test_what_biases_take_from_cp_lrp_is_absorbed():
    f = net()
    found, absorbed, _ = jax.jit(lambda f, x: propagate(f, x, 1, composite="cp_lrp"))(f, X)
    score = float(f(X)[1])
    assert abs(float(found.sum() + absorbed) - score) < 1e-4 * (abs(score) + abs(float(absorbed)))
    assert abs(float(absorbed)) > 1e-2


@pytest.mark.parametrize("weigh", [lambda p: p * np.tri(3, dtype=np.float32), lambda p: p.astype(jnp.bfloat16).astype(jnp.float32)], ids=["masked", "rounded"])
def test_probabilities_are_a_gate_however_they_are_masked_or_rounded(weigh):
    x, w = (np.random.default_rng(n).normal(size=(3, 4)).astype(np.float32) for n in range(2))
    f = lambda x, p: (p @ x).mean(0) @ w.T
    probabilities = lambda x: weigh(jax.nn.softmax(x @ x.T))
    found = propagate(lambda x: f(x, probabilities(x)), x, 1, composite="cp_lrp")
    np.testing.assert_allclose(found.map, x * jax.grad(lambda v: f(v, probabilities(x))[1])(x), rtol=1e-3, atol=1e-5)
