"""The number that is explained."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai import attribution, metrics, sufficiency
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


def test_entries_that_a_model_knows_as_missing_do_not_poison_a_traced_target():
    x = np.float32([1, np.nan, 3])
    known = lambda v: jnp.stack([jnp.where(jnp.isnan(v), 0, v).sum(), jnp.isnan(v).sum() * 1.0])
    values = np.asarray(jax.jit(jax.vmap(lambda target: objective(known, x, target)(x)))(np.arange(3)))
    np.testing.assert_array_equal(values, [4, 1, np.nan])


@pytest.mark.parametrize(
    ("f", "x", "target", "score", "word"),
    [
        (F, X, 4, "logit", "target=4 must be a class in"),
        (F, X, -1, "logit", "target=-1"),
        (F, X, 1.0, "logit", "target=1.0"),
        (F, X, True, "logit", "target=True"),
        (F, X, np.arange(2), "logit", "must be one integer class"),
        (F, X, 1, "odds", "score='odds' must be one of 'logit', 'probability', 'sigmoid'"),
        (F, X.astype(int), 1, "logit", "x must be a floating-point array"),
        (F, jnp.float32(1), 1, "logit", "x must be one example"),
        (F, jnp.zeros((0, 3)), 1, "logit", "x must be one example"),
        (F, X, None, "logit", "target=None explains a scalar"),
        (lambda v: v.sum(), X, 1, "logit", "must be a vector of logits"),
        (lambda v: (v, v), X, 1, "logit", "must be a vector of logits"),
        (lambda v: v[:1], X, 0, "probability", "one-class model is the constant 1; use score='sigmoid'"),
    ],
)
def test_bad_arguments(f, x, target, score, word):
    with pytest.raises(ValueError, match=word) as error:
        objective(f, x, target, score)
    assert "\n" not in str(error.value)


def test_a_one_class_model_has_a_logit_and_a_sigmoid():
    assert objective(lambda v: v[:1], X, 0)(X + 1) == 1
    assert np.allclose(objective(lambda v: v[1:2], X, 0, "sigmoid")(X), 1 / (1 + np.exp(-1)))


def test_the_sigmoid_of_one_logit_is_the_probability_of_two():
    one = Partial(lambda w, v: (v @ w)[None], jnp.float32([0.5, -1, 2]))
    two = Partial(lambda w, v: jnp.stack([0 * v[0], v @ w]), one.args[0])
    a, b = (jax.value_and_grad(objective(f, X, t, s))(X) for f, t, s in ((one, 0, "sigmoid"), (two, 1, "probability")))
    np.testing.assert_allclose(a[0], b[0], rtol=1e-6)
    np.testing.assert_allclose(a[1], b[1], rtol=1e-5)


def test_every_method_and_metric_explains_the_logit_by_default_or_a_share():
    """A ratio of logits means nothing: such a metric asks for a score in [0, 1]."""
    for family, ratios in (
        (attribution, {"sidu"}),
        (metrics, {"average_drop", "average_gain", "completeness_score", "irof", "performance_information_curve", "road", "soundness_score"}),
        (sufficiency, set()),
    ):
        routines = [getattr(family, name) for name in family.__all__]
        defaults = {fn.__name__: p["score"].default for fn in routines if callable(fn) and "score" in (p := inspect.signature(fn).parameters)}
        others = {name: score for name, score in defaults.items() if score not in ("logit", inspect.Parameter.empty)}
        assert set(others) == ratios and all(score == ("accuracy" if name == "road" else "probability") for name, score in others.items())
        for name in ratios - {"road"}:
            with pytest.raises(ValueError, match="score='logit' must be one of 'probability', 'sigmoid'"):
                _called(getattr(family, name))


def _called(fn):
    image, model = jnp.ones((4, 4, 1)), lambda v: jnp.stack([v.sum(), v.mean()])
    given = [image] if "attribution" in inspect.signature(fn).parameters else []
    fn(model, image, 0, *given, jax.random.key(0), score="logit")
