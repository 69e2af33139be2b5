"""With `jax_enable_x64`, weights and x may be of different widths: every mixture finds the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai.sufficiency import batched_gradient_sis, disambiguate, minimal_explanation, random_subset, ranked_subset, sis, sis_collection

pytestmark = pytest.mark.usefixtures("quick_compilation")

W = np.random.default_rng(0).normal(size=(3, 4))
X = np.linspace(0.1, 1, 4)
MIXTURES = [(np.float64, np.float64), (np.float64, np.float32), (np.float32, np.float64)]
OTHERS = {
    "sis_collection": lambda f, x, k, key: [c.held for c in sis_collection(f, x, k, threshold=0.5, max_subsets=2)],
    "batched_gradient_sis": lambda f, x, k, key: batched_gradient_sis(f, x, k, threshold=0.5).held,
    "ranked_subset": lambda f, x, k, key: ranked_subset(f, x, k, x, threshold=0.5).held,
    "random_subset": lambda f, x, k, key: random_subset(f, x, k, key, threshold=0.5).held,
    "disambiguate": lambda f, x, k, key: disambiguate(f, x, (k, (k + 1) % 3), segments=np.arange(4), score="probability").disjoint.removed,
}


def model(dtype):
    return Partial(lambda w, x: w @ x, jnp.asarray(W, dtype))


@pytest.mark.parametrize("weights, of_x", MIXTURES)
def test_sis_and_minimal_explanations_are_those_of_float32(weights, of_x):
    label = int((W @ X).argmax())
    with jax.enable_x64(True):
        f, x = model(weights), jnp.asarray(X, of_x)
        wide, proved = sis(f, x, label, threshold=0.5), minimal_explanation(f, x, label, radius=0.05)
    f, x = model(np.float32), np.float32(X)
    narrow = sis(f, x, label, threshold=0.5)
    np.testing.assert_array_equal(wide.held, narrow.held)
    np.testing.assert_allclose(wide.curve, narrow.curve, rtol=1e-5)
    np.testing.assert_allclose(proved.margins, minimal_explanation(f, x, label, radius=0.05).margins, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("weights, of_x", MIXTURES)
def test_every_other_question_is_answered_the_same(name, weights, of_x):
    label, key = int((W @ X).argmax()), jax.random.key(0)
    with jax.enable_x64(True):
        wide = OTHERS[name](model(weights), jnp.asarray(X, of_x), label, key)
    narrow = OTHERS[name](model(np.float32), jnp.asarray(X, jnp.float32), label, key)
    for a, b in zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True):
        np.testing.assert_array_equal(a, b)
