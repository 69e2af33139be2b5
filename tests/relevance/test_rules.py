"""Every rule against its formula, written out with loops over inputs and outputs, in NumPy's float64."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.relevance import products, rules

RNG = np.random.default_rng(0)
W, B, X, R = RNG.normal(size=(5, 4)), RNG.normal(size=4), RNG.normal(size=5), RNG.normal(size=4)
LOW, HIGH = -3.0, 3.5
EPS = 1e-6


def dense(w, x):
    return x @ w


def st(z, eps=EPS):
    return z + eps * (1 if z >= 0 else -1)


def up(a):
    return max(a, 0.0)


def down(a):
    return min(a, 0.0)


def by_hand(share, rest):
    """`R_i = Σ_j share(i, j) R_j / st(Σ_i share(i, j) + rest(j))`."""
    found = np.zeros(5)
    for j in range(4):
        total = st(sum(share(i, j) for i in range(5)) + rest(j))
        for i in range(5):
            found[i] += share(i, j) * R[j] / total
    return found


def positive(i, j):
    return up(X[i] * W[i, j])


def negative(i, j):
    return down(X[i] * W[i, j])


def gamma_by_hand(g=0.25):
    found = np.zeros(5)
    z = X @ W + B
    for j in range(4):
        part = up if z[j] > 0 else down
        share = [X[i] * W[i, j] + g * part(X[i] * W[i, j]) for i in range(5)]
        total = st(sum(share) + B[j] + g * part(B[j]))
        found += np.array(share) * R[j] / total
    return found


BY_HAND = {
    "epsilon": (partial(rules.epsilon, epsilon=0.1), lambda: sum(X * W[:, j] * R[j] / st(X @ W[:, j] + B[j], 0.1) for j in range(4))),
    "norm": (rules.norm, lambda: by_hand(lambda i, j: X[i] * W[i, j], lambda j: 0)),
    "z_plus": (rules.z_plus, lambda: by_hand(positive, lambda j: up(B[j]))),
    "alpha_beta": (rules.alpha_beta, lambda: 2 * by_hand(positive, lambda j: up(B[j])) - by_hand(negative, lambda j: down(B[j]))),
    "gamma": (rules.gamma, gamma_by_hand),
    "z_box": (
        partial(rules.z_box, low=LOW, high=HIGH),
        lambda: by_hand(lambda i, j: X[i] * W[i, j] - LOW * up(W[i, j]) - HIGH * down(W[i, j]), lambda j: 0),
    ),
    "w_square": (rules.w_square, lambda: by_hand(lambda i, j: W[i, j] ** 2, lambda j: B[j] ** 2)),
    "flat": (rules.flat, lambda: by_hand(lambda i, j: 1.0, lambda j: 0)),
}


@pytest.fixture(scope="module")
def given():
    """What every rule makes of the dense step, with what it absorbed, and without the bias."""
    w, b, x, r = (jnp.asarray(v, jnp.float32) for v in (W, B, X, R))
    one = lambda rule: (rules.shares(rule)(dense, w, b, x, r), rules.shares(rule)(dense, w, None, x, r))
    return jax.tree.map(np.asarray, jax.jit(lambda: {name: one(rule) for name, (rule, _) in BY_HAND.items()})())


@pytest.mark.parametrize("name", BY_HAND)
def test_a_rule_is_its_formula_and_what_is_absorbed_makes_up_the_rest(given, name):
    with_bias, without = given[name]
    np.testing.assert_allclose(with_bias.inputs, BY_HAND[name][1](), rtol=2e-4, atol=2e-5)
    for found in (with_bias, without):
        assert abs(found.inputs.sum() + found.absorbed - R.sum()) < 2e-4, found
    if name not in ("epsilon", "gamma"):  # these have a denominator of their own size
        assert abs(without.absorbed) < 1e-4


def test_rules_of_inputs_known_not_to_be_negative_do_half_the_work_for_the_same():
    w, b, r = (jnp.asarray(v, jnp.float32) for v in (W, B, R))
    x = jnp.abs(jnp.asarray(X, jnp.float32))
    for rule in (rules.z_plus, rules.alpha_beta):
        known = jax.make_jaxpr(partial(rule, dense, nonnegative=True))(w, b, x, r)
        plain = jax.make_jaxpr(partial(rule, dense))(w, b, x, r)
        np.testing.assert_allclose(jax.core.eval_jaxpr(known.jaxpr, known.consts, w, b, x, r)[0], rule(dense, w, b, x, r), rtol=1e-5, atol=1e-6)
        assert 2 * str(known).count("dot_general") == str(plain).count("dot_general")


def test_a_side_without_contributions_is_absorbed_whole_and_nothing_is_divided_by_zero():
    w, x, r = -jnp.ones((2, 3)), jnp.ones(2), jnp.ones(3)
    for rule in (rules.z_plus, rules.epsilon, rules.gamma, rules.flat, rules.w_square):
        for bias in (None, jnp.zeros(3), -jnp.ones(3)):
            inputs, absorbed = rules.shares(rule)(dense, w, bias, x, r)
            assert np.isfinite(inputs).all() and abs(float(inputs.sum() + absorbed) - 3) < 1e-3, rule
    inputs, absorbed = rules.shares(rules.z_plus)(dense, w, None, x, r)
    assert not inputs.any() and float(absorbed) == pytest.approx(3)
    assert np.isfinite(rules.epsilon(dense, 0 * w, None, x, r)).all()


def test_alpha_and_beta_differ_by_one():
    rules.alpha_beta(dense, jnp.ones((2, 2)), None, jnp.ones(2), jnp.ones(2), alpha=2.3, beta=1.3)  # as numbers go: 2.3 − 1.3 is not 1 in binary
    with pytest.raises(ValueError, match=r"alpha=2.0 and beta=2.0"):
        rules.alpha_beta(dense, jnp.ones((2, 2)), None, jnp.ones(2), jnp.ones(2), alpha=2.0, beta=2.0)


def test_identity_asks_for_equal_shapes():
    with pytest.raises(ValueError, match=r"maps \(2,\) to \(3,\)"):
        rules.identity(dense, jnp.ones((2, 3)), None, jnp.ones(2), jnp.ones(3))


def test_a_rule_of_ones_own_absorbs_the_difference():
    half = lambda apply, w, bias, x, relevance: relevance @ w.T / w.sum(0).max()
    inputs, absorbed = rules.shares(half)(dense, jnp.ones((2, 3)), None, jnp.ones(2), jnp.ones(3))
    assert float(inputs.sum() + absorbed) == pytest.approx(3)


def test_products_by_hand():
    rng = np.random.default_rng(1)
    a, b, r = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 4), (4, 2), (3, 2)))
    z = a @ b
    for i in range(3):
        for k in range(4):
            want = sum(a[i, k] * b[k, j] * r[i, j] / z[i, j] for j in range(2))
            halves = products.half(jnp.matmul, a, b, r)
            assert float(halves[0][i, k]) == pytest.approx(float(want) / 2, rel=1e-3)
            assert float(products.signal(jnp.matmul, a, b, r, gate=1)[0][i, k]) == pytest.approx(float(want), rel=1e-3)
    for rule, whole in ((products.half, 1), (products.signal, 1), (products.slope, 2)):
        for gate in (None, 0, 1):
            found, absorbed = rules.shares(rule)(jnp.matmul, a, b, r, gate=gate)
            assert float(sum(part.sum() for part in found) + whole * absorbed) == pytest.approx(whole * float(r.sum()), rel=1e-3)
    assert not products.signal(jnp.matmul, a, b, r, gate=0)[0].any()
    one, other = products.half(products.entrywise, a, a, a)
    np.testing.assert_allclose(one, a / 2)
    np.testing.assert_allclose(other, a / 2)


def test_softmax_by_hand():
    v, r = jnp.asarray([1.0, -2.0, 0.5, -jnp.inf]), jnp.asarray([0.3, -1.0, 2.0, 0.7])
    p = np.exp([1.0, -2.0, 0.5, -np.inf]) / np.exp([1.0, -2.0, 0.5]).sum()
    want = np.array([1.0, -2.0, 0.5, 0.0]) * (np.asarray(r) - p * 2.0)
    np.testing.assert_allclose(products.taylor(jax.nn.softmax, v, r), want, rtol=1e-5)
    held, absorbed = rules.shares(products.constant)(jax.nn.softmax, v, r)
    assert not held.any() and float(absorbed) == pytest.approx(2.0)
