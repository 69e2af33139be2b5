"""Normalisations are found by value: with their root held, they are linear; and what only looks like one is none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jxai.tracing import interpret
from jxai.tracing.normalisations import normalisations

RNG = np.random.default_rng(0)
X, W = np.float32(RNG.normal(size=(6, 4))), np.float32(RNG.normal(size=(4, 4)))


def two_pass(x, end=lambda c, v: c / jnp.sqrt(v + 1e-5)):
    c = x - x.mean(-1, keepdims=True)
    return end(c, (c**2).mean(-1, keepdims=True))


l2 = lambda x: x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)
rngs = nnx.Rngs(0)
SPELLED = {  # whether the factor is 1 / σ, whether it takes a mean off, what the argument is
    "flax's LayerNorm": (nnx.LayerNorm(4, rngs=rngs), True, True, lambda x: x),
    "flax's LayerNorm in two passes": (nnx.LayerNorm(4, use_fast_variance=False, rngs=rngs), True, True, lambda x: x),
    "flax's RMSNorm": (nnx.RMSNorm(4, rngs=rngs), True, False, lambda x: x),
    "flax's GroupNorm": (nnx.GroupNorm(4, num_groups=2, rngs=rngs), True, True, lambda x: x),
    "two passes and a root": (two_pass, False, True, lambda x: x),
    "a power": (lambda x: two_pass(x, lambda c, v: c * (v + 1e-5) ** -0.5), True, True, lambda x: x),
    "a deviation and ε": (lambda x: (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-6), False, True, lambda x: x),
    "L2": (l2, False, False, lambda x: x),
    "after a rectifier": (lambda x: two_pass(jax.nn.relu(x @ W)), False, True, lambda x: jax.nn.relu(x @ W)),
    "a cosine with what is fixed": (lambda x: (lambda v: (v @ W[0]) / (jnp.linalg.norm(v) * 2))(x[0]), False, False, lambda x: x[0]),
}
NONE = {
    "a deviation as a feature": lambda x: x.std(-1, keepdims=True) * x,
    "over a root of its own": lambda x: x / jnp.sqrt(jnp.abs(x) + 1e-6),
    "over the root of a norm": lambda x: x / jnp.sqrt(jnp.linalg.norm(x)),
    "by the norm of something else": lambda x: jax.nn.relu(x) / jnp.sqrt((x**2).sum()),
    "a batch norm that is fixed": nnx.BatchNorm(4, use_running_average=True, rngs=rngs),
}


def program_of(f):
    traced = interpret.trace(f, X)
    program = interpret.flatten(traced, interpret.everywhere)
    return program, interpret.run(program, interpret.start(program, traced, X))


@pytest.mark.parametrize("name", SPELLED)
def test_a_normalisation_is_found_and_linear_given_its_factor(name):
    f, inverse, centred, argument = SPELLED[name]
    program, values = program_of(f)
    (found,) = normalisations(program)
    assert (found.inverse, found.centred) == (inverse, centred)
    np.testing.assert_allclose(values[found.argument], argument(X), atol=1e-6)

    def held(v):
        """The value of another argument, with the factor kept."""
        given = {**values, found.argument: v}
        interpret.run(program, given, found.steps, lambda step, out, _: [values[found.factor]] if found.factor in step.outputs else out)
        return np.asarray(given[found.value])

    v = np.asarray(values[found.argument])
    zero = held(0 * v)
    np.testing.assert_allclose(held(v), values[found.value], atol=1e-5)
    np.testing.assert_allclose(held(-3 * v) - zero, -3 * (held(v) - zero), atol=1e-4)


@pytest.mark.parametrize("name", NONE)
def test_what_looks_like_a_normalisation_is_none(name):
    assert normalisations(program_of(NONE[name])[0]) == []


def test_what_follows_a_normalisation_is_no_part_of_it():
    """A gate, for one: with it given, the product is linear, too."""
    program, values = program_of(lambda x: two_pass(x) * jax.nn.sigmoid(x @ W))
    (found,) = normalisations(program)
    np.testing.assert_allclose(values[found.value], two_pass(X), atol=1e-5)


def test_each_norm_of_a_cosine_is_one():
    """Of two embeddings that both follow from x, the other one being given."""

    def cosine(x):
        a, b = x[0] @ W, jax.nn.relu(x[1] @ W)
        return (a @ b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b))

    program, values = program_of(cosine)
    found = normalisations(program)
    assert len(found) == 2 and not any(one.inverse for one in found)
    np.testing.assert_allclose([values[one.factor] for one in found], [np.linalg.norm(X[0] @ W), np.linalg.norm(np.maximum(X[1] @ W, 0))], rtol=1e-5)
