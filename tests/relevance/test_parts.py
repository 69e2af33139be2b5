"""What a step is, is read off the graph: folded batch norms, first steps, activations and gates in any spelling, loops; and what has no rule is named."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import layered_nets
import numpy as np
import pytest
from jax import lax

from jxai import relevance

RNG = np.random.default_rng(5)
N = functools.partial(layered_nets.normal, RNG)
W1, W2, B1, B2 = N(3, 3, 3, 4, scale=0.3), N(4, 5), N(4, scale=0.2), N(5, scale=0.2)
P = layered_nets.norm_params(RNG, 4)
X = layered_nets.image()
V = np.asarray(N(4))
RULES = (relevance.rules.epsilon, relevance.rules.z_plus, relevance.rules.gamma, relevance.rules.w_square, relevance.rules.flat, relevance.rules.alpha_beta)


def maps(f, x, composites, **options):
    return jax.jit(lambda x: [relevance.propagate(f, x, 1, composite=c, **options)[:2] for c in composites])(x)


def same(found, wanted, tolerance=1e-4):
    for (a, lost_a), (b, lost_b) in zip(found, wanted):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(jnp.abs(b).max()))
        assert float(lost_a) == pytest.approx(float(lost_b), rel=1e-3, abs=1e-4)


def test_a_batch_norm_after_a_convolution_is_the_convolution_of_folded_weights():
    scale = P["scale"] / jnp.sqrt(P["var"] + 1e-3)
    apart = lambda x: jax.nn.relu(layered_nets.batch_norm(layered_nets.conv(x, W1) + B1, P)).mean((0, 1)) @ W2 + B2
    joined = lambda x: jax.nn.relu(layered_nets.conv(x, W1 * scale) + ((B1 - P["mean"]) * scale + P["shift"])).mean((0, 1)) @ W2 + B2
    tables = [relevance.Composite(convolution=rule) for rule in RULES]
    same(maps(apart, X, tables), maps(joined, X, tables))
    turned = lambda x: jax.nn.relu(0.3 - (layered_nets.conv(x, W1) + B1)).mean((0, 1)) @ W2 + B2
    other = lambda x: jax.nn.relu(layered_nets.conv(x, -W1) + (0.3 - B1)).mean((0, 1)) @ W2 + B2
    same(maps(turned, X, tables), maps(other, X, tables))


def test_what_comes_before_a_linear_map_is_folded_into_it():
    apart = lambda x: layered_nets.batch_norm(jnp.tanh(x), P) @ W2 + B2
    scale = P["scale"] / jnp.sqrt(P["var"] + 1e-3)
    joined = lambda x: jnp.tanh(x) @ (W2 * scale[:, None]) + ((P["shift"] - P["mean"] * scale) @ W2 + B2)
    tables = [relevance.Composite(dense=rule) for rule in RULES]
    same(maps(apart, V, tables), maps(joined, V, tables))


def test_the_box_of_a_first_step_is_in_units_of_x():
    mean, std = np.float32([0.4, 0.5, 0.3]), np.float32([0.2, -0.3, 0.25])
    apart = lambda x: layered_nets.conv((x - mean) / std, W1, padding="VALID").mean((0, 1)) @ W2
    joined = lambda x: (layered_nets.conv(x, W1 / std[:, None], padding="VALID") - (mean / std) @ W1.sum((0, 1))).mean((0, 1)) @ W2
    tables = [relevance.Composite(first=rule) for rule in (*RULES, relevance.rules.z_box)]
    same(maps(apart, X, tables, low=np.float32([0, -0.1, 0])), maps(joined, X, tables, low=np.float32([0, -0.1, 0])))


def test_three_ways_with_a_batch_norm():
    f = lambda x: layered_nets.batch_norm(x @ W2.T, P) @ W2
    x = np.asarray(N(5))
    fold, passed, apart = (maps(f, x, ["epsilon"], batch_norm=way)[0][0] for way in ("fold", "pass", "epsilon"))
    z = x @ W2.T
    y = layered_nets.batch_norm(z, P)
    score = (y @ W2)[1]
    r = y * W2[:, 1] * score / (y @ W2)[1]
    np.testing.assert_allclose(fold, x * ((W2.T * (P["scale"] / jnp.sqrt(P["var"] + 1e-3))) @ (r / y)), rtol=1e-3)
    np.testing.assert_allclose(passed, x * (W2.T @ (r / z)), rtol=1e-3)
    through = z * (y - P["shift"]) * r / ((z - P["mean"]) * y)  # as iNNvestigate writes it
    np.testing.assert_allclose(apart, x * (W2.T @ (through / z)), rtol=2e-3)


SPELLED = {
    "gelu": (jax.nn.gelu, lambda v: 0.5 * v * (1 + jnp.tanh(0.7978845608 * (v + 0.044715 * v**3)))),
    "silu": (jax.nn.silu, lambda v: v / (1 + jnp.exp(-v))),
    "hard_swish": (jax.nn.hard_swish, lambda v: v * jnp.clip(v + 3, 0, 6) / 6),
    "elu": (jax.nn.elu, lambda v: jnp.where(v > 0, v, jnp.exp(v) - 1)),
    "hard_sigmoid": (jax.nn.hard_sigmoid, lambda v: jnp.clip(v + 3, 0, 6) / 6),
    "softplus": (jax.nn.softplus, lambda v: jnp.log(1 + jnp.exp(v))),
}


@pytest.mark.parametrize("name", SPELLED)
def test_an_activation_passes_relevance_on_however_it_is_spelled(name):
    tables = ["epsilon"] if name.startswith("hard") else ["epsilon", "excitation_backprop"]  # a sixth is a step of its own, which slopes would count
    both = [maps(lambda x, phi=phi: phi(x @ W2 + B2) @ W2.T, V, tables) for phi in SPELLED[name]]
    same(*both)
    kinds = [part.kind for part in relevance.assignments(lambda x: SPELLED[name][1](x @ W2 + B2) @ W2.T, V, "epsilon")]
    assert kinds[0] == kinds[-1] == "dense" and set(kinds[1:-1]) <= {"activation", "scale"}, kinds


def test_gates_take_nothing_and_other_factors_half():
    factor = lambda phi: lambda x: (jnp.tanh(x) * phi(x @ (W2 @ W2.T))) @ W2
    for phi, gate in (
        (jax.nn.sigmoid, True),
        (lambda v: 1 - jax.nn.sigmoid(v), True),
        (lambda v: jnp.clip(v + 3, 0, 6) / 6, True),
        (jax.nn.relu, False),
        (jnp.tanh, False),
    ):
        rows = [part for part in relevance.assignments(factor(phi), V, "epsilon") if part.kind == "product"]
        (found, _), whole = maps(factor(phi), V, ["epsilon"])[0], factor(phi)(V)[1]
        direct = np.asarray(jnp.tanh(V) * phi(V @ (W2 @ W2.T)) * W2[:, 1])
        assert len(rows) == 1 and float(found.sum()) == pytest.approx(float(whole), rel=1e-2, abs=1e-3)
        assert np.allclose(found, direct, atol=1e-3) == gate


def test_a_lstm_gets_the_published_rules():
    """Against loops in NumPy, after Arras et al. 2017: all to the signal at gates, ε at sums, with the states' shares handed back in time."""
    rng, width, eps = np.random.default_rng(2), 3, 1e-6
    p = {"x": rng.normal(size=(4, 12)), "h": rng.normal(size=(3, 12)), "b": 0.3 * rng.normal(size=12)}
    head, x = rng.normal(size=(3, 2)), rng.normal(size=(5, 4))
    p32 = {k: jnp.asarray(v, jnp.float32) for k, v in p.items()}

    def f(x):
        def step(state, token):
            h, c = state
            i, forget, g, o = jnp.split(token @ p32["x"] + h @ p32["h"] + p32["b"], 4)
            c = jax.nn.sigmoid(forget) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        return lax.scan(step, (jnp.zeros(3), jnp.zeros(3)), x)[0][0] @ jnp.asarray(head, jnp.float32)

    found = relevance.propagate(f, jnp.asarray(x, jnp.float32), 1, composite="epsilon", epsilon=eps)
    st = lambda z: z + eps * np.where(z < 0, -1, 1)
    sigmoid = lambda v: 1 / (1 + np.exp(-v))
    h, c, kept = np.zeros(3), np.zeros(3), []
    for token in x:
        i, forget, g, o = np.split(token @ p["x"] + h @ p["h"] + p["b"], 4)
        new = sigmoid(forget) * c + sigmoid(i) * np.tanh(g)
        kept.append((token, h, c, sigmoid(forget) * c, sigmoid(i) * np.tanh(g), new, g))
        h, c = sigmoid(o) * np.tanh(new), new
    score = (h @ head)[1]
    r_h, r_c, want = h * head[:, 1] * score / st(score), np.zeros(3), np.zeros_like(x)
    for t in reversed(range(5)):
        token, before, c_before, from_c, from_g, new, z = kept[t]
        r_c = r_c + r_h
        r_g, r_c = from_g * r_c / st(new), from_c * r_c / st(new)
        s = r_g / st(z)
        columns = slice(2 * width, 3 * width)
        want[t], r_h = token * (p["x"][:, columns] @ s), before * (p["h"][:, columns] @ s)
    np.testing.assert_allclose(found.map, want, rtol=2e-3, atol=1e-4)


def test_a_value_less_its_own_mean_is_one_map_even_where_that_is_nothing():
    x = np.float32([1, -2, 3, -2])
    found = relevance.propagate(lambda v: (v - v.mean()) @ W2, x, 1, composite="epsilon")
    np.testing.assert_allclose(found.map, x * (W2[:, 1] - W2[:, 1].mean()), rtol=1e-3, atol=1e-5)


def test_the_branch_that_is_taken_hands_relevance_on():
    f = lambda x: lax.cond(x.sum() > 0, lambda v: jnp.tanh(v) @ W2, lambda v: 3.0 * v @ W2 + B2, x)
    for x in (V, -V):
        for g in (f, lambda v, x=x: jnp.tanh(v) @ W2 if x.sum() > 0 else 3.0 * v @ W2 + B2):
            found = jax.jit(lambda x, g=g: relevance.propagate(g, x, 2, composite="epsilon"))(x)
            assert float(found.map.sum() + found.absorbed) == pytest.approx(float(f(x)[2]), rel=1e-3)
        plain = relevance.propagate(g, x, 2, composite="epsilon")
        np.testing.assert_allclose(found.map, plain.map, rtol=1e-4)


@pytest.mark.parametrize(
    ("f", "said"),
    {
        "power": (lambda x: (jnp.abs(x[:2]) ** x[2:]) @ W2[:2], "'pow'"),
        "while": (lambda x: lax.while_loop(lambda v: v.sum() < 100, lambda v: v * 2, jnp.abs(x) + 1) @ W2, "'while'"),
        "fft": (lambda x: jnp.abs(jnp.fft.fft(x)) @ W2, "complex numbers"),
        "product": (lambda x: jnp.prod(x) * W2[0], "'reduce_prod'"),
        "rounded": (lambda x: jnp.round(x).astype(int).astype(jnp.float32) @ W2, "whole or complex"),
    }.values(),
)
def test_what_has_no_rule_is_an_error_that_names_it_and_its_place(f, said):
    with pytest.raises(ValueError, match=rf"(?=.*{said}).*step \d+ of the trace"):
        relevance.propagate(f, np.abs(V), 1)
    with pytest.raises(ValueError, match=r"step \d+ of the trace"):
        relevance.assignments(f, np.abs(V))


def test_a_function_that_is_called_as_a_primitive_is_not_taken_for_it():
    @jax.jit
    def rev(v):
        return jnp.tanh(v)

    both = [maps(lambda x, phi=phi: phi(x @ W2 + B2) @ W2.T, V, ["epsilon"]) for phi in (rev, jnp.tanh)]
    same(*both)
    assert [part.kind for part in relevance.assignments(lambda x: rev(x @ W2 + B2) @ W2.T, V)] == ["dense", "activation", "dense"]


def test_a_mean_that_is_taken_off_pulls_the_other_way():
    w, x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.random.default_rng(1).normal(size=5).astype(np.float32)
    up, down = np.maximum(x, 0), np.minimum(x, 0)
    arriving = w[:, 1] * (x - x.mean())
    pulls = arriving / (up - down.mean())  # z⁺: what is positive, and the mean of what is negative
    for f, by_hand in {
        lambda x: (x - x.mean()) @ w: up * pulls - down / 5 * pulls.sum(),
        lambda x: (x.mean() - x) @ w: (lambda s: -down * s + up / 5 * s.sum())(-arriving / (up.mean() - down)),
    }.items():
        found = relevance.propagate(f, x, 1, composite=relevance.Composite(sum=relevance.rules.z_plus))
        np.testing.assert_allclose(found.map, by_hand, rtol=1e-4, atol=1e-5)


def test_a_quotient_is_a_product_with_the_inverse():
    """As a rule of one's own for products sees it; by the library's own rules each gets half."""
    f = lambda x: (jnp.tanh(x[:2]) / jnp.exp(x[2:])) @ W2[:2]
    seen = lambda multiply, a, b, relevance, *, gate: (multiply(a, b), jnp.zeros_like(b))
    ratio = np.tanh(V[:2]) / np.exp(V[2:])
    found = relevance.propagate(f, V, 1, composite=relevance.Composite(product=seen)).map
    np.testing.assert_allclose(found, [*ratio, 0, 0], rtol=1e-5)
    halves = relevance.propagate(f, V, 1, composite="epsilon").map
    np.testing.assert_allclose(halves, np.tile(ratio * np.asarray(W2[:2, 1]) / 2, 2), rtol=1e-3)


def test_what_may_be_negative_is_never_taken_for_what_cannot():
    kinds = {
        "never": (jax.nn.relu, jnp.abs, jax.nn.sigmoid, jnp.square, lambda v: jnp.clip(v, 0, 1), jnp.exp, lambda v: jnp.maximum(v, 0.5)),
        "may be": (
            jax.nn.gelu,
            jax.nn.leaky_relu,
            lambda v: jnp.maximum(v, -1),
            lambda v: jnp.clip(v, -1, 1),
            lambda v: v**3,
            lambda v: -jnp.exp(v),
        ),
    }
    dense, r = lambda w, v: v @ w, lambda out: out * (np.arange(5) == 1)
    composite = relevance.Composite(dense=relevance.rules.z_plus)
    for phi in (*kinds["never"], *kinds["may be"]):
        found = relevance.propagate(lambda v, phi=phi: phi(v) @ W2, V, 1, composite=composite).map
        np.testing.assert_allclose(found, relevance.rules.z_plus(dense, W2, None, phi(V), r(phi(V) @ W2)), rtol=1e-4, atol=1e-6)
    programs = [str(jax.make_jaxpr(lambda v, phi=phi: relevance.propagate(lambda u: phi(u) @ W2, v, 1, composite=composite).map)(V)) for phi in kinds["never"]]
    assert all(text.count("dot_general") == 3 for text in programs), [text.count("dot_general") for text in programs]  # forward, its positive part, and back


def test_a_batch_norm_that_is_passed_hands_on_what_it_gets_wherever_it_stands():
    """Before a dense step, whose own input is what the norm gives."""
    f = lambda x: layered_nets.batch_norm(jnp.tanh(x), P) @ W2
    found = maps(f, V, ["epsilon"], batch_norm="pass")[0][0]
    np.testing.assert_allclose(found, layered_nets.batch_norm(jnp.tanh(V), P) * W2[:, 1], rtol=1e-3)
