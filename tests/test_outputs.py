"""What concrete values say: an x with holes that the model does not know, and probabilities where logits are meant."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import jxai
from jxai import metrics, outputs
from jxai.attribution import feature_ablation, gradient, guided_backprop, occlusion
from jxai.metrics import deletion
from jxai.sufficiency import random_subset

W = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
SHARES = jnp.asarray(np.random.default_rng(1).dirichlet(np.ones(3), 8), jnp.float32)
X = np.linspace(0.1, 1.0, 6, dtype=np.float32)
KEY = jax.random.key(0)


def model(end):
    return Partial(lambda w, v: end(v @ w), W)


ENDS = {
    "softmax": jax.nn.softmax,
    "softmax of two": lambda z: jax.nn.softmax(z[:2]),
    "p and 1 - p": lambda z: jnp.stack([jax.nn.sigmoid(z[0]), 1 - jax.nn.sigmoid(z[0])]),
    "a mean of softmaxes": lambda z: (jax.nn.softmax(z) + jax.nn.softmax(2 * z)) / 2,
    "softmaxes mixed by weights": lambda z: jnp.float32([0.3, 0.7]) @ jnp.stack([jax.nn.softmax(z), jax.nn.softmax(-z)]),
    "rectified and normalised": lambda z: jax.nn.softplus(z) / jax.nn.softplus(z).sum(),
    "leaves times their shares": lambda z: jax.nn.one_hot((z > 0) @ jnp.int32([4, 2, 1]), 8) @ SHARES,
    "regions times their shares": lambda z: jnp.stack([(z[0] > 0) & (z[1] > 0), (z[0] > 0) & (z[1] <= 0), z[0] <= 0]).astype(jnp.float32) @ SHARES[:3],
    "paths times their shares": lambda z: jnp.stack([(s := jax.nn.sigmoid(z))[0] * s[1], s[0] * (1 - s[1]), 1 - s[0]]) @ SHARES[:3],
    "divided by a product": lambda z: (u := jnp.abs(z) @ jnp.abs(W[:3])) * (1 / u.sum()),
    "votes": lambda z: jax.nn.one_hot(z.argmax(), 3, dtype=jnp.int32),
    "softmax in half precision": lambda z: jax.nn.softmax(z.astype(jnp.bfloat16)),
    "softmax in a jitted call": jax.jit(lambda z: jax.nn.softmax(z)),
}
NOT = {
    "logits": lambda z: z,
    "logits moved and scaled": lambda z: (z[::-1] - 1.0)[None, :][0] / 2.5,
    "log softmax": jax.nn.log_softmax,
    "relu": jax.nn.relu,
    "one logit": lambda z: z[:1],
    "five sigmoids": lambda z: jax.nn.sigmoid(jnp.concatenate([z, z[:2]])),
    "sigmoid units times weights": lambda z: (z * jax.nn.sigmoid(z)) @ W[:3],
    "a temperature": lambda z: z * (1 / W[0, 0]),
    "stumps": lambda z: (z > 0).astype(jnp.float32) @ W[:3],
    "normalised features times weights": lambda z: (z / jnp.linalg.norm(z)) @ W[:3],
}


@pytest.mark.parametrize("name", ENDS)
def test_probabilities_are_no_logits(name):
    f = model(ENDS[name])
    with pytest.raises(ValueError, match=r"f\(x\) must be logits, but it is probabilities .* jxai.LogProbabilities\(f\), or explain the number") as error:
        gradient(f, X, 1)
    assert "\n" not in str(error.value)


def test_wherever_they_are_given():
    f, xs, targets = model(jax.nn.softmax), np.stack([X, X / 2]), np.array([0, 1])
    calls = [
        lambda: jxai.each(gradient, f, xs, targets),
        lambda: jxai.each(deletion, f, xs, targets, xs, steps=2),
        lambda: guided_backprop(f, X, 0),
        lambda: occlusion(f, X, 0, window=2, score="probability"),
        lambda: metrics.average_drop(f, X, 0, X),
        lambda: random_subset(f, X, 0, KEY, threshold=0.3),
        lambda: gradient(lambda v: f(v), X, 1),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="it is probabilities"):
            call()


@pytest.mark.parametrize("name", NOT)
def test_what_is_none(name):
    assert gradient(model(NOT[name]), X, 0).shape == X.shape


def test_values_that_happen_to_sum_to_one_are_no_probabilities():
    x = np.float32([0.25, 0.75])
    for f in (lambda v: v, lambda v: jnp.stack([v[0], 1 - v[0]]), lambda v: jnp.stack([v.sum(), 0 * v[0]])):
        assert np.isfinite(gradient(f, x, 0)).all()


def test_nothing_is_run_where_the_last_step_is_a_product_nor_under_a_trace():
    run = []

    def f(w, v):
        jax.debug.callback(lambda: run.append(1))
        return jax.nn.relu(v @ w) @ w[:3, :2]

    end = outputs.ending(Partial(f, W), X)
    assert end.free and not end.sigmoid
    outputs.check_logits(Partial(f, W), X, end, "logit", outputs.run)
    assert not run
    doubled = jax.nn.relu(X)
    assert not outputs.ending(lambda v: functools.reduce(lambda u, _: u + u, range(60), jax.nn.relu(v)), doubled).free
    f = model(jax.nn.softmax)
    grads = jax.jit(jax.vmap(lambda v: gradient(f, v, 1)))(np.stack([X, X]))
    assert grads.shape == (2, 6)


def test_log_probabilities_have_the_same_softmax():
    f = jxai.LogProbabilities(model(jax.nn.softmax))
    np.testing.assert_allclose(jax.nn.softmax(f(X)), jax.nn.softmax(X @ W), rtol=1e-6)
    np.testing.assert_allclose(gradient(f, X, 1, score="probability"), gradient(model(lambda z: z), X, 1, score="probability"), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(jax.nn.softmax(jxai.LogProbabilities(model(ENDS["votes"]))(X)), ENDS["votes"](X @ W))
    empty = jxai.LogProbabilities(Partial(lambda v: jnp.stack([v[0], 0 * v[0]])))
    assert np.isfinite(empty(X)).all() and np.isfinite(jax.jacobian(empty)(X)).all()


def test_a_sigmoid_is_not_put_through_another():
    with pytest.raises(ValueError, match="f ends in a sigmoid, and score='sigmoid' would put it through another"):
        gradient(model(jax.nn.sigmoid), X, 1, score="sigmoid")
    votes = lambda z: jax.nn.sigmoid(z[:, None] - jnp.arange(4.0)).sum(1)  # as many as there are voters: no share
    assert np.isfinite(gradient(model(votes), X, 1, score="sigmoid")).all()


def test_an_x_with_holes_is_for_models_that_know_them():
    x = np.where(np.arange(6) == 2, np.float32(np.nan), X)
    for call in (lambda: gradient(model(lambda z: z), x, 0), lambda: gradient(lambda v: v.sum(), x, None)):
        with pytest.raises(ValueError, match="x must be finite, but it has NaN or infinite entries, and f"):
            call()
    knows = lambda v: jnp.nansum(v)
    np.testing.assert_allclose(feature_ablation(knows, x, None)[3:], X[3:], rtol=1e-6)
    partly = lambda v: jnp.stack([v.sum(), jnp.nansum(v)])
    assert np.isfinite(gradient(partly, x, 1)).all()
    with pytest.raises(ValueError, match="f.x. is nan"):
        gradient(partly, x, 0)


def test_each_runs_only_the_rows_with_holes():
    xs = np.stack([X, np.where(np.arange(6) == 2, np.float32(np.inf), X)])
    knows = Partial(lambda v: jnp.stack([jnp.where(jnp.isfinite(v), v, 0).sum(), 0 * v[0]]))
    assert np.isfinite(jxai.each(gradient, knows, xs, np.array([0, 0]))).all()
    with pytest.raises(ValueError, match="x must be finite, but example 1 has NaN or infinite entries"):
        jxai.each(gradient, model(lambda z: z), xs, np.array([0, 0]))
