"""Softmaxes and attention are found by value: each spelling against `jax.nn.softmax` of the logits that are named, and what only looks like one is none."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.tracing import interpret
from jxai.tracing.attention import attentions
from jxai.tracing.softmaxes import softmaxes

X = np.float32(np.random.default_rng(0).normal(size=(5, 4)))
LEFT = np.tril(np.ones((5, 4), bool))


def exponentials(x, along=-1, less=0.0):
    e = jnp.exp(x - less)
    return e / e.sum(along, keepdims=True)


def reciprocal(x):
    e = jnp.exp(x - x.max(-1, keepdims=True))
    return e * (1 / e.sum(-1, keepdims=True))


def safe(x):
    """PyTorch's: 0 where a row is masked whole."""
    return jnp.where((x == -jnp.inf).all(-1, keepdims=True), 0, jax.nn.softmax(x))


SPELLED = {
    "softmax": (jax.nn.softmax, lambda x: x, (1,)),
    "along the first axis": (lambda x: jax.nn.softmax(3 * x, axis=0), lambda x: 3 * x, (0,)),
    "along both axes": (lambda x: jax.nn.softmax(x, axis=(0, 1)), lambda x: x, (0, 1)),
    "where=": (lambda x: jax.nn.softmax(x, where=LEFT), lambda x: x, (1,)),
    "-inf in a mask": (lambda x: jax.nn.softmax(jnp.where(LEFT, 2 * x, -jnp.inf)), lambda x: 2 * x, (1,)),
    "a mask that is added": (lambda x: jax.nn.softmax(2 * x + np.where(LEFT, 0, -1e9)), lambda x: 2 * x, (1,)),
    "a bias that is added": (lambda x: jax.nn.softmax(x + np.arange(4.0)), lambda x: x + np.arange(4.0), (1,)),
    "exponentials over their sum": (exponentials, lambda x: x, (1,)),
    "computed twice": (lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True), lambda x: x, (1,)),
    "times a reciprocal": (reciprocal, lambda x: x, (1,)),
    "exp of log-softmax": (lambda x: jnp.exp(jax.nn.log_softmax(x)), lambda x: x, (1,)),
    "PyTorch's, safe": (lambda x: safe(2 * x), lambda x: 2 * x, (1,)),
    "half precision": (lambda x: jax.nn.softmax(x.astype(jnp.bfloat16)), lambda x: x, (1,)),
}
NONE = {
    "one more in the sum": lambda x: jnp.exp(x) / (1 + jnp.exp(x).sum(-1, keepdims=True)),
    "the sum of another row": lambda x: jnp.exp(x) / jnp.roll(jnp.exp(x).sum(-1, keepdims=True), 1, 0),
    "the next entry": lambda x: jnp.roll(jnp.exp(x), 1, -1) / jnp.exp(x).sum(-1, keepdims=True),
    "shares": lambda x: jnp.abs(x) / jnp.abs(x).sum(-1, keepdims=True),
    "a sigmoid": jax.nn.sigmoid,
}


def program_of(f, x=X):
    return interpret.flatten(interpret.trace(f, x), interpret.everywhere)


@pytest.mark.parametrize("name", SPELLED)
def test_a_softmax_is_found_with_its_logits(name):
    f, logits, axes = SPELLED[name]
    program = program_of(f)
    (found,) = softmaxes(program)
    values = interpret.run(program, {program.inputs[-1]: X})
    p, v = (np.asarray(values[r], np.float32) for r in (found.value, found.argument))
    near = 1e-2 if name == "half precision" else 1e-6
    np.testing.assert_allclose(v, logits(X), atol=near)
    kept = np.where(p > 0, v, -np.inf)
    np.testing.assert_allclose(p, jax.nn.softmax(kept, axis=axes), atol=near)
    assert found.axes == axes
    assert (name in ("where=", "-inf in a mask", "a mask that is added")) == bool((p == 0).any())


@pytest.mark.parametrize("name", NONE)
def test_what_looks_like_a_softmax_is_none(name):
    assert softmaxes(program_of(NONE[name])) == []


def test_a_mask_that_is_a_weight_is_known_by_being_one():
    """Whatever it holds: what is found hangs on no weights."""
    masked = lambda mask, x: jax.nn.softmax(jnp.where(mask, 2 * x, -jnp.inf))
    program = program_of(jax.tree_util.Partial(masked, jnp.zeros((5, 4), bool)))
    (found,) = softmaxes(program)
    assert program.makers[found.argument].primitive == "mul"


def heads(x, where=None):
    """Two heads of two, by einsum, the probabilities with queries last."""
    q = x.reshape(5, 2, 2)
    a = exponentials(jnp.einsum("ihd,jhd->hji", q, 2 * q) * 0.3, along=1)
    return jnp.einsum("hji,jhd->ihd", a, q).reshape(5, 4)


ATTENTION = {
    "by hand": (lambda x: jax.nn.softmax(x @ (2 * x).T / 2) @ x, (0,), (1,), (), 1),
    "by einsum": (heads, (2,), (1,), (0,), 1),
    "jax.nn, causal": (lambda x: jax.nn.dot_product_attention(x[:, None], 2 * x[:, None], x[:, None], is_causal=True), (3,), (4,), (), 1),
    "flax": (nn.MultiHeadDotProductAttention(2).bind(nn.MultiHeadDotProductAttention(2).init(jax.random.key(0), X)), (1,), (2,), (0,), 1),
    "pooling by one query": (lambda x: jax.nn.softmax(x @ np.ones(4, np.float32)) @ x, (), (0,), (), 1),
    "a mixture by fixed values": (lambda x: jax.nn.softmax(x) @ np.ones((4, 3), np.float32), (), (), (), 0),
    "not along its own axis": (lambda x: jax.nn.softmax(x @ x.T, axis=0) @ x, (), (), (), 0),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_is_a_softmax_that_weighs_values(name):
    f, queries, keys, own, count = ATTENTION[name]
    program = program_of(f)
    found = attentions(program)
    assert len(found) == count
    if count:
        (one,) = found
        assert (one.queries, one.keys, one.heads) == (queries, keys, own)
        values = interpret.run(program, {program.inputs[-1]: X})
        assert one.key is not None
        if name in ("by hand", "jax.nn, causal"):
            np.testing.assert_allclose(np.sort(values[one.key].ravel()), np.sort((2 * X).ravel()))
