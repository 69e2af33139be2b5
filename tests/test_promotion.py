"""Stricter rules of promotion that a person sets for their own code do not reach into the library's."""

from __future__ import annotations

import importlib
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import attribution, bounds, counterfactual, metrics
from jxai.callables import plainly

pytestmark = pytest.mark.usefixtures("quick_compilation")

FAMILIES = ("attribution", "bounds", "concepts", "counterfactual", "metrics", "metrics.counterfactual", "sufficiency", "uncertainty", "uncertainty.formulas")
TRANSFORMATIONS = ("alpha_crown", "crown", "crown_ibp", "forward", "interval")
"""These return a function, which is plain itself."""
W = np.asarray([[1.0, -2, 0.5], [0.5, 1, -1]], np.float32)


def f(x):
    return jax.lax.dot(jnp.asarray(W), jnp.tanh(x))


def is_plain(fn):
    return fn.__code__ is plainly(f).__code__


@pytest.mark.parametrize("family", FAMILIES)
def test_every_public_routine_is_plain(family):
    module = importlib.import_module(f"jxai.{family}")
    routines = {name: getattr(module, name) for name in module.__all__ if inspect.isfunction(getattr(module, name))}
    assert routines and [name for name, fn in routines.items() if not is_plain(fn) and name not in TRANSFORMATIONS] == []
    for name in TRANSFORMATIONS if family == "bounds" else ():
        assert is_plain(getattr(module, name)(f))


STRICT = {
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "raise": lambda: jax.numpy_rank_promotion("raise"),
}


X, KEY = np.float32([0.3, 0.2, 0.1]), jax.random.key(0)
CALLS = {
    "sampling": lambda: attribution.shapley_sampling(f, X, 1, KEY, num_samples=2),
    "top": lambda: metrics.top_k_intersection(f, X, 1, jnp.asarray(X), KEY, mask=np.asarray([True, False, False]), k=1),
    "crown": lambda: bounds.crown(f)(bounds.ball(X, 0.1)).lower,
    "jsma": lambda: counterfactual.jsma(f, X, 0, steps=4).x,
}


@pytest.mark.parametrize("rules", STRICT)
@pytest.mark.parametrize("name", ["top", *(pytest.param(name, marks=pytest.mark.slow) for name in CALLS if name != "top")])
def test_results_are_those_without(name, rules):
    with STRICT[rules]():
        with pytest.raises((TypeError, ValueError)):
            jnp.ones(2) * jnp.ones((2, 2), bool)  # the rules are on
        strict = CALLS[name]()
    np.testing.assert_array_equal(strict, CALLS[name]())
