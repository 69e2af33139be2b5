"""What arrives and what was absorbed make up the score, whatever the network is made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import layered_nets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from jxai import relevance
from jxai.attribution import lrp

CONSERVES = [name for name in relevance.COMPOSITES if name not in ("attn_lrp", "excitation_backprop")]
X = layered_nets.image()


def gaps(f, x, composites, target=1, **options):
    """By composite the score less all of the relevance, and the map."""
    score = f(x)[target]
    found = {name: relevance.propagate(f, x, target, composite=name, **options) for name in composites}
    return {name: (score - one.map.sum() - one.absorbed, one.map, score) for name, one in found.items()}


def test_nothing_is_lost_in_a_network_of_every_kind_of_layer():
    kinds = ("batch_normed", "grouped", "residual", "concatenated", "max", "excited", "dilated", "layer_normed", "mean")
    f = layered_nets.net(kinds)
    for options in ({}, {"bias": "ignore", "batch_norm": "epsilon"}):
        for name, (gap, found, score) in jax.jit(lambda f, x, options=options: gaps(f, x, CONSERVES, **options))(f, X).items():
            assert abs(gap) < 1e-4 * max(1, abs(score)), (name, options, gap)
            assert np.isfinite(found).all() and found.any()


def test_attention_and_loops_conserve_where_probabilities_are_constants():
    f = layered_nets.net(("attended", "layer_normed", "scanned"))
    for name, (gap, found, score) in jax.jit(lambda f, x: gaps(f, x, ("cp_lrp", "attn_lrp")))(f, X).items():
        assert (abs(gap) < 1e-4 * max(1, abs(score))) == (name == "cp_lrp"), (name, gap)
        assert found.any()


def test_without_biases_epsilon_maps_add_up_to_the_score():
    f = layered_nets.net(("residual", "max"))
    params = {**f.args[0], "stem_bias": np.zeros(4, np.float32), "head_bias": np.zeros(4, np.float32)}
    bare = lambda x: jax.nn.relu(layered_nets.conv(x, params["stem"])).mean((0, 1)) @ params["head"]
    found = relevance.propagate(bare, X, 0, composite="epsilon")
    assert float(found.map.sum()) == pytest.approx(float(bare(X)[0]), rel=1e-4) and abs(float(found.absorbed)) < 1e-4
    np.testing.assert_allclose(found.map, X * jax.grad(lambda v: bare(v)[0])(X), rtol=2e-2, atol=1e-4)  # of ReLU networks, ε → 0 is gradient × input
    np.testing.assert_array_equal(lrp(bare, X, 0, composite="epsilon"), found.map)


def test_what_a_rule_gives_to_padding_is_absorbed():
    kernel, head = (layered_nets.normal(np.random.default_rng(1), *shape) for shape in ((3, 3, 3, 2), (2, 4)))
    f = lambda x: layered_nets.conv(jnp.pad((x - 0.4) / 0.25, ((1, 1), (1, 1), (0, 0))), kernel, padding="VALID").mean((0, 1)) @ head
    gap, found, score = gaps(f, X, ["epsilon_plus_flat"])["epsilon_plus_flat"]
    assert abs(gap) < 1e-4 * max(1, abs(score)) and abs(found.sum() - score) > 0.1 * abs(score)


def test_a_sum_with_a_normalised_branch_of_itself_is_no_activation():
    w = layered_nets.normal(np.random.default_rng(0), 2, 5, 4)
    f = lambda v: (lambda h: jax.nn.relu((h - w[0, 0]) / jnp.sqrt(w[1, 0] ** 2 + 1) * w[0, 1] + w[0, 2]) + h)(v @ w[1, 1:]) @ w[0, 1:]
    v = X[:4, 0, 0]
    found = relevance.propagate(f, v, 1, composite="epsilon")
    np.testing.assert_allclose(found.map, v * jax.grad(lambda v: f(v)[1])(v), rtol=1e-3, atol=1e-5)


def test_equal_values_have_one_winner_however_often_they_are_computed():
    """Both operands are equal, but a compiler that computes them again for each share rounds them otherwise."""
    w, x = layered_nets.normal(np.random.default_rng(0), 512, 4), np.random.default_rng(1).uniform(0.1, 1, 512).astype(np.float32)
    twin = lambda x: jnp.exp(x + x[::-1]) * 0.3 + jnp.sin(x + x[::-1]) * 0.7
    f = lambda x: jnp.maximum(twin(x), twin(x)[::-1]) @ w
    plain = relevance.Composite(sum=relevance.rules.norm, average_pooling=relevance.rules.norm)
    optimised = {"xla_backend_optimization_level": 3}  # tests are compiled without
    found = jax.jit(lambda x: relevance.propagate(f, x, 2, composite=plain), compiler_options=optimised)(x)
    assert float(found.map.sum() + found.absorbed) == pytest.approx(float(f(x)[2]), rel=1e-3)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(kinds=st.lists(st.sampled_from(layered_nets.KINDS), min_size=1, max_size=4), seed=st.integers(0, 99), target=st.integers(0, 3))
def test_nothing_is_lost_in_networks_that_are_drawn(kinds, seed, target):
    while kinds.count("max") + kinds.count("mean") > 2:
        kinds.remove("max" if "max" in kinds else "mean")
    f = layered_nets.net(kinds, seed)
    names = CONSERVES if "attended" not in kinds else ["cp_lrp"]
    batch_norm, bias = ("fold", "pass", "epsilon")[seed % 3], ("absorb", "ignore")[seed % 2]
    for name, (gap, found, score) in jax.jit(lambda f, x: gaps(f, x, names, target, batch_norm=batch_norm, bias=bias))(f, X).items():
        scale = max(1, abs(score), np.abs(found).sum())  # shares of both signs may be many times the whole
        assert abs(gap) < 1e-4 * scale and np.isfinite(found).all(), (name, kinds, gap, scale)


HELD = {
    "beside": lambda x, w: jnp.concatenate([x, lax.stop_gradient(jnp.tanh(x))]) @ w,
    "chosen": lambda x, w: jnp.where(np.array([True, False, True]), x, lax.stop_gradient(2 * x)) @ w[:3],
    "counted": lambda x, w: jnp.concatenate([x, jax.nn.one_hot(x.argmax(), 3)]) @ w,
    "written over": lambda x, w: lax.dynamic_update_slice(lax.stop_gradient(jnp.concatenate([x, x])), x, (1,)) @ w,
    "added to a constant": lambda x, w: jnp.full(6, 2.0).at[np.array([0, 1, 1])].add(x) @ w,
    "added to what is held": lambda x, w: lax.stop_gradient(jnp.concatenate([x, -x])).at[np.array([0, 1, 1])].add(x) @ w,
    "greater": lambda x, w: jnp.maximum(x, lax.stop_gradient(x[::-1])) @ w[:3],
    "in a branch": lambda x, w: lax.cond(x.sum() > 0, jnp.add, jnp.multiply, x, lax.stop_gradient(2 * x)) @ w[:3],
}


def test_what_is_held_constant_takes_its_share_and_keeps_it():
    """By ε what is left is x's own entries times their weights, as far as they reach the score."""
    x, w = np.float32([1, -2, 3]), np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    run = jax.jit(lambda x, w: {name: relevance.propagate(lambda v, f=f: f(v, w), x, 1, composite="epsilon")[:2] for name, f in HELD.items()})
    own = w[:, 1]
    reach = {
        **dict.fromkeys(("beside", "counted", "in a branch"), own[:3]),
        "chosen": own[:3] * [1, 0, 1],
        "written over": own[1:4],
        **dict.fromkeys(("added to a constant", "added to what is held"), own[[0, 1, 1]]),
        "greater": own[:3] * [0, 1, 1],  # of two equal ones the first
    }
    for name, (found, absorbed) in run(x, w).items():
        assert float(found.sum() + absorbed) == pytest.approx(float(HELD[name](x, w)[1]), abs=1e-4), name
        np.testing.assert_allclose(found, x * reach[name], atol=1e-4, err_msg=name)


def test_a_score_that_is_held_constant_is_an_error():
    with pytest.raises(ValueError, match="what is held constant"):
        relevance.propagate(lambda x: lax.stop_gradient(x @ np.ones((3, 2), np.float32)), np.float32([1, 2, 3]), 1)


def test_what_a_rule_gives_to_entries_times_nothing_is_absorbed():
    """Flat shares of a sum, and of a dense step that the factors are folded into, where two of four factors are 0."""
    x, factors = np.float32([1, -2, 3, 4]), np.float32([0.5, 0, 2, 0])
    table = relevance.Composite(first=relevance.rules.flat, average_pooling=relevance.rules.flat)
    for f in (lambda v: jnp.stack([(v * factors).sum(), v[0]]), lambda v: (v * factors + 1) @ np.ones((4, 2), np.float32)):
        found, score = relevance.propagate(f, x, 0, composite=table, bias="ignore"), float(f(x)[0])
        np.testing.assert_allclose(found.map, score / 4 * (factors != 0), rtol=1e-4)
        assert float(found.absorbed) == pytest.approx(score / 2, rel=1e-4)


def test_a_constant_may_spread_what_is_folded_into_a_linear_map():
    spread = lambda v: ((v[:, None] + np.arange(3, dtype=np.float32)) * 2).reshape(-1) @ (np.arange(24, dtype=np.float32).reshape(12, 2) - 9)
    x = np.float32([1, -2, 3, 4])
    found = relevance.propagate(spread, x, 1, composite="epsilon")
    np.testing.assert_allclose(found.map, x * jax.grad(lambda v: spread(v)[1])(x), rtol=1e-4)
    assert float(found.map.sum() + found.absorbed) == pytest.approx(float(spread(x)[1]), rel=1e-4)
