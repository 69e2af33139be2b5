"""Shapley sampling against whole games, and the games on which few orders are exact."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.attribution.shapley import shapley_sampling


def game(z):
    """A game of six players, of JAX or NumPy: interactions of orders two and three, a symmetric pair (0, 1) and a dummy (5)."""
    sin = np.sin if isinstance(z, np.ndarray) else jnp.sin
    return 1 + z[0] + z[1] + 3 * z[0] * z[1] - 2 * z[2] * z[3] * z[4] + sin(z[2] + 2 * z[3]) + 0 * z[5]


ONES = np.ones(6, np.float32)


def by_all_orders(value, d):
    """The definition as a mean over all d! orders."""
    coalitions = list(itertools.product((0, 1), repeat=d))
    v = {z: value(np.array(z, np.float64)) for z in coalitions}
    out = np.zeros(d)
    for order in itertools.permutations(range(d)):
        z = [0] * d
        for i in order:
            before = v[tuple(z)]
            z[i] = 1
            out[i] += v[tuple(z)] - before
    return out / math.factorial(d)


@pytest.mark.parametrize("antithetic", [False, True])
def test_unbiased(antithetic):
    runs = 64
    run = jax.jit(lambda k: shapley_sampling(game, ONES, None, k, num_samples=20, antithetic=antithetic))
    got = np.stack([run(k) for k in jax.random.split(jax.random.key(0), runs)])
    truth = by_all_orders(game, 6)
    assert np.all(np.abs(got.mean(0) - truth) <= 4.5 * got.std(0, ddof=1) / np.sqrt(runs) + 1e-5)
    assert got.std(0, ddof=1).max() < 0.6
    np.testing.assert_allclose(got[:, 5], 0, atol=1e-5)  # the dummy, in every order


@pytest.mark.parametrize(
    ("n", "antithetic"),
    [(1, False), pytest.param(2, False, marks=pytest.mark.slow), pytest.param(7, False, marks=pytest.mark.slow), (1, True), (2, True), (7, True)],
)
def test_complete_for_every_order(n, antithetic):
    got = jax.jit(lambda k: shapley_sampling(game, ONES, None, k, num_samples=n, antithetic=antithetic, chunk=4))(jax.random.key(1))
    np.testing.assert_allclose(np.sum(got), game(ONES) - game(0 * ONES), atol=1e-5)


def test_one_order_is_a_walk_of_joins():
    """One order gives the rises along one chain of coalitions: some order of the six reproduces them."""
    got = np.asarray(jax.jit(lambda k: shapley_sampling(game, ONES, None, k, num_samples=1))(jax.random.key(2)))
    coalitions = list(itertools.product((0.0, 1.0), repeat=6))
    value = {z: game(np.array(z)) for z in coalitions}
    for order in itertools.permutations(range(6)):
        z, rises = np.zeros(6), np.zeros(6)
        for i in order:
            before = value[tuple(z)]
            z[i] = 1
            rises[i] = value[tuple(z)] - before
        if np.abs(rises - got).max() < 1e-4:
            return
    raise AssertionError(f"{got} is the walk of no order")


def test_an_order_and_its_reverse_are_exact_on_pairwise_games():
    w = np.triu(np.random.default_rng(0).normal(size=(7, 7)))

    def pairwise(z):
        return 2 + z @ np.float32(w) @ z

    truth = np.diag(w) + (w.sum(0) + w.sum(1) - 2 * np.diag(w)) / 2
    exact, plain = (
        jax.jit(lambda k: shapley_sampling(pairwise, np.ones(7, np.float32), None, k, num_samples=2, antithetic=a))(jax.random.key(3)) for a in (True, False)
    )
    np.testing.assert_allclose(exact, truth, atol=1e-5)
    assert np.abs(plain - truth).max() > 0.1


def test_one_order_is_exact_on_an_additive_score_of_segments():
    rng = np.random.default_rng(1)
    x, labels = np.float32(rng.uniform(size=(3, 4, 4, 2))), rng.integers(0, 4, (3, 4, 4))
    got = jax.jit(lambda x: shapley_sampling(lambda v: jnp.sum(v**2), x, None, jax.random.key(5), segments=labels, num_samples=1, fill=0.5))(x)
    part = (x**2 - 0.25).sum(-1)
    truth = np.array([part[labels == i].sum() for i in range(4)])
    np.testing.assert_allclose(np.asarray(got)[..., 0], truth[labels], atol=1e-4)


def test_passes_and_targets_share_them():
    seen = []

    def f(z):
        jax.debug.callback(lambda u: seen.append(np.asarray(u)), z)
        return jnp.stack([game(z), z.sum(), z[0]])

    got = np.asarray(jax.jit(jax.vmap(lambda t: shapley_sampling(f, ONES, t, jax.random.key(6), num_samples=3, chunk=1)))(np.arange(3)))
    jax.effects_barrier()
    assert len(seen) == 3 * 5 + 2
    assert sorted(np.stack(seen).sum(1)) == sorted([0, 6] + 3 * [1, 2, 3, 4, 5])
    np.testing.assert_allclose(got[1:], [[1] * 6, [1, 0, 0, 0, 0, 0]], atol=1e-5)


def test_a_single_feature_takes_everything():
    run = jax.jit(lambda x: shapley_sampling(lambda v: jnp.sum(v**2), x, None, jax.random.key(7), grid=1, num_samples=3))
    np.testing.assert_allclose(run(np.full((4, 4, 1), 2, np.float32)), np.full((4, 4, 1), 64.0))


@pytest.mark.parametrize(
    "options, words",
    [({"key": None}, "key=None"), ({"num_samples": 0}, "num_samples=0"), ({"grid": 9}, "grid=9"), ({"num_samples": True}, "num_samples=True")],
)
def test_bad_options(options, words):
    with pytest.raises(ValueError, match=words):
        shapley_sampling(lambda x: x.sum((0, 1)), np.ones((8, 8, 3), np.float32), 0, **({"key": jax.random.key(0)} | options))
