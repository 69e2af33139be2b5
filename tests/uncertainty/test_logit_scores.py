"""Scores of the logits: the formulas in float64, and where float32 would round what they hear."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from uncertainty.numpy_scores import logsumexp, rest, softmax

from jxai.uncertainty import formulas

pytestmark = pytest.mark.usefixtures("quick_compilation")

LOGITS = np.random.default_rng(0).normal(size=(40, 12)).astype(np.float32) * np.geomspace(0.1, 30, 40, dtype=np.float32)[:, None]


def generalised(z, gamma, top):
    p = softmax(z)
    terms = np.take_along_axis(p**gamma * rest(p) ** gamma, np.argsort(-p), -1)
    return terms[..., :top].sum(-1)


EXPECTED = {
    "max_softmax": lambda z: -softmax(z).max(-1),
    "max_logit": lambda z: -np.max(z, -1),
    "energy": lambda z: -logsumexp(z),
    "entropy": lambda z: -(softmax(z) * np.log(softmax(z))).sum(-1),
    "probability_margin": lambda z: np.sort(softmax(z))[:, -2] - np.sort(softmax(z))[:, -1],
    "gini": lambda z: (softmax(z) * rest(softmax(z))).sum(-1),
    "gen": lambda z: generalised(z, 0.1, 100),
    "odin": lambda z: -softmax(np.asarray(z, np.float64) / 1000).max(-1),
}
OPENOOD = ("max_softmax", "max_logit", "energy", "gen", "odin")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_formula_is_the_published_one(name):
    formula = getattr(formulas, name)
    expected = EXPECTED[name](LOGITS)
    np.testing.assert_allclose(jax.jit(jax.vmap(formula))(LOGITS), expected, rtol=3e-6, atol=1e-7)
    if name in OPENOOD:
        np.testing.assert_allclose(jax.jit(jax.vmap(lambda z: formula(z, convention="openood")))(LOGITS), expected, rtol=3e-6, atol=1e-7)


def test_options_are_those_of_the_papers():
    z = LOGITS[20]
    np.testing.assert_allclose(formulas.energy(z, temperature=2.5), -2.5 * logsumexp(z / 2.5), rtol=1e-6)
    np.testing.assert_allclose(formulas.odin(z, temperature=1.0), formulas.max_softmax(z), rtol=1e-6)
    np.testing.assert_allclose(formulas.gen(z, gamma=0.5, num_top=4), generalised(z, 0.5, 4), rtol=1e-5)
    np.testing.assert_allclose(formulas.gen(z, gamma=1.0), formulas.gini(z), rtol=1e-6)


def test_what_is_almost_sure_is_not_rounded_to_sure():
    """1 − p is 0 in float32 for the first class of each: GEN's power of .1 makes .15 of it, and Gini keeps their order."""
    surer = np.asarray([[gap, 0, 0] for gap in (19.0, 21.0, 24.0, 60.0)], np.float32)
    assert (softmax(surer)[:, 0].astype(np.float32) == 1).all()
    np.testing.assert_allclose(jax.vmap(formulas.gen)(surer), generalised(surer, 0.1, 100), rtol=1e-5)
    gini = np.asarray(jax.vmap(formulas.gini)(surer))
    np.testing.assert_allclose(gini, EXPECTED["gini"](surer), rtol=1e-5)
    assert (np.diff(gini) < 0).all() and gini[-1] > 0


@pytest.mark.parametrize("name", EXPECTED)
def test_an_impossible_class_and_a_tie_keep_values_and_derivatives_finite(name):
    formula = getattr(formulas, name)
    for z in ([2.0, -np.inf, 1.0], [1.0, 1.0, 1.0]):
        value, slope = jax.value_and_grad(formula)(jnp.asarray(z))
        assert np.isfinite(value) and np.isfinite(slope).all()
    np.testing.assert_allclose(formula(jnp.asarray([2.0, -np.inf, 1.0])), formula(jnp.asarray([2.0, 1.0])), rtol=1e-6)


def test_entropy_and_gini_of_a_sure_and_a_uniform_answer_are_their_ends():
    sure, uniform = jnp.asarray([200.0, 0, 0, 0]), jnp.zeros(4)
    assert formulas.entropy(sure) == 0 and formulas.gini(sure) < 1e-30 and formulas.probability_margin(sure) == -1
    np.testing.assert_allclose([formulas.entropy(uniform), formulas.gini(uniform), formulas.probability_margin(uniform)], [np.log(4), 0.75, 0], rtol=1e-6)


@pytest.mark.parametrize("name", EXPECTED)
def test_bad_logits_and_options_are_named(name):
    formula = getattr(formulas, name)
    for wrong, message in (
        (np.float32([0.2, 0.3, 0.5]), "logits must be logits, but they are probabilities"),
        (np.float32([0.2, np.nan]), "logits must be finite"),
        (np.zeros((3, 2), np.float32), r"logits must be floating-point \[K\]"),
        (np.zeros(1, np.float32), "two classes or more"),
    ):
        with pytest.raises(ValueError, match=message):
            formula(wrong)
    if name in OPENOOD:
        with pytest.raises(ValueError, match="convention='other' must be one of 'paper', 'openood'"):
            formula(LOGITS[0], convention="other")


def test_bad_numbers_are_named():
    for call, message in (
        (lambda: formulas.energy(LOGITS[0], temperature=0.0), "temperature=0.0 must be a positive number"),
        (lambda: formulas.gen(LOGITS[0], gamma=-1), "gamma=-1 must be a positive number"),
        (lambda: formulas.gen(LOGITS[0], num_top=0), "num_top=0 must be a positive integer"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
