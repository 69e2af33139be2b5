"""Where the fill has the class by itself, nothing of x is needed, and that is said."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai.sufficiency import batched_gradient_sis, minimal_explanation, random_subset, ranked_subset, sis, sis_collection

pytestmark = pytest.mark.usefixtures("quick_compilation")

# What is dark is of class 1, as of a network that knows the black border of its pictures of the ill.
F = Partial(lambda w, x: jnp.stack([w @ x, jnp.asarray(2.0)]), np.float32([1, 2, 3]))
X, KEY = np.float32([0.1, 0.1, 0.1]), jax.random.key(0)
SEARCHES = {
    "sis": lambda fill: sis(F, X, 1, threshold=0.7, fill=fill, score="probability"),
    "sis_collection": lambda fill: sis_collection(F, X, 1, threshold=0.7, fill=fill, score="probability")[0],
    "batched_gradient_sis": lambda fill: batched_gradient_sis(F, X, 1, threshold=0.7, fill=fill, score="probability"),
    "ranked_subset": lambda fill: ranked_subset(F, X, 1, X, threshold=0.7, fill=fill, score="probability"),
    "random_subset": lambda fill: random_subset(F, X, 1, KEY, threshold=0.7, fill=fill, score="probability"),
}


@pytest.mark.parametrize(
    "name", ["sis", "random_subset", *(pytest.param(name, marks=pytest.mark.slow) for name in SEARCHES if name not in ("sis", "random_subset"))]
)
def test_a_subset_of_nothing_is_vacuous_and_said_to_be(name):
    with pytest.warns(UserWarning, match=r"no feature is needed: with everything replaced by the fill the probability of class 1 is 0.881 already"):
        found = SEARCHES[name](0.0)
    assert found.vacuous and found.size == 0 and found.holds and found.check(F, X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        honest = SEARCHES[name](1.0)
    assert honest.holds and not honest.vacuous and honest.size > 0


def test_a_fill_that_is_of_the_class_below_the_threshold_is_said_too():
    with pytest.warns(UserWarning, match="x with everything replaced .* is of class 1 already"):
        found = sis(F, X, 1, threshold=0.7, fill=0.26, score="probability")
    assert found.size > 0


def test_under_a_trace_it_is_data():
    assert jax.jit(lambda x: sis(F, x, 1, threshold=0.7, score="probability").vacuous)(X)


def test_a_radius_of_nothing_is_said():
    with pytest.warns(UserWarning, match="radius=0.0 lets nothing move"):
        assert minimal_explanation(F, X, radius=0.0).size == 0
