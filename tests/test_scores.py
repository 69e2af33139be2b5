"""The number that is explained."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.scores import objective

X = jnp.arange(3.0)
F = lambda v: jnp.stack([v.sum(), v[0] * 2, -v[2], 1.0 + 0 * v[1]])


def test_logit_probability_and_scalar():
    assert objective(F, X, 2)(X) == -2
    assert np.allclose(objective(F, X, 2, "probability")(X), jax.nn.softmax(F(X))[2])
    assert objective(lambda v: v.sum(), X, None)(X) == 3
    assert objective(F, X.astype(jnp.bfloat16), 1)(X.astype(jnp.bfloat16)).dtype == jnp.float32


@pytest.mark.parametrize("target", [4, 100, -1, -4])
def test_a_traced_target_out_of_range_is_nan_and_so_is_its_gradient(target):
    value, slope = jax.jit(lambda t: jax.value_and_grad(lambda v: objective(F, X, t)(v))(X))(target)
    assert jnp.isnan(value) and jnp.isnan(slope).all()


@pytest.mark.parametrize(
    ("f", "x", "target", "score", "word"),
    [
        (F, X, 4, "logit", "target=4 must be a class in"),
        (F, X, -1, "logit", "target=-1"),
        (F, X, 1.0, "logit", "target=1.0"),
        (F, X, True, "logit", "target=True"),
        (F, X, np.arange(2), "logit", "must be one integer class"),
        (F, X, 1, "odds", "score='odds' must be one of 'logit', 'probability'"),
        (F, X.astype(int), 1, "logit", "x must be a floating-point array"),
        (F, jnp.float32(1), 1, "logit", "x must be one example"),
        (F, jnp.zeros((0, 3)), 1, "logit", "x must be one example"),
        (F, X, None, "logit", "target=None explains a scalar"),
        (lambda v: v.sum(), X, 1, "logit", "must be a vector of logits"),
        (lambda v: (v, v), X, 1, "logit", "must be a vector of logits"),
        (lambda v: v[:1], X, 0, "probability", "one-class model"),
    ],
)
def test_bad_arguments(f, x, target, score, word):
    with pytest.raises(ValueError, match=word) as error:
        objective(f, x, target, score)
    assert "\n" not in str(error.value)


def test_a_one_class_model_has_a_logit():
    assert objective(lambda v: v[:1], X, 0)(X + 1) == 1
