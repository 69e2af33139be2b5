"""The attacks of `supervisors`, against what is known of linear classifiers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.uncertainty.adversaries import RADII, adversarial, deep_fool, descent

pytestmark = pytest.mark.usefixtures("quick_compilation")

W = np.float32([[1, -2, 0.5], [-1, 1, 0.5]])
F = jax.tree_util.Partial(jnp.matmul, W)
X = np.float32([0.6, 0.3, 0.5])
"""Its margin is `2 · .6 − 3 · .3 = .3`, and falls by 5 for each unit of the maximum norm: the boundary is .06 away."""


def test_descents_are_as_far_as_the_norm_allows():
    for steps, share, key in ((1, 1.0, None), (10, 0.2, None), (20, 0.1, jax.random.key(0))):
        made = descent(F, X, 0, 0.1, key, steps, share)
        np.testing.assert_allclose(made[:2], [0.5, 0.4], atol=1e-6)  # of the third, which says nothing, rounding may move it
        assert abs(made[2] - X[2]) <= 0.1 + 1e-6
    assert F(descent(F, X, 0, 0.05, None, 1, 1.0)).argmax() == 0 != F(descent(F, X, 0, 0.07, None, 1, 1.0)).argmax()


def test_deep_fool_goes_just_beyond_the_boundary():
    made = np.asarray(deep_fool(F, X, 0))
    assert F(made).argmax() == 1 and 0.06 < np.abs(made - X).max() < 0.065


def test_the_smallest_radius_that_succeeds_is_taken_and_failures_are_left_out():
    x = np.stack([X] * 8 + [np.float32([1, 0, 0])] * 4)[[0, 1, 8, 2, 3, 9, 4, 5, 10, 6, 7, 11]]
    made = adversarial(F, x, np.zeros(12, int), jax.random.key(0))
    assert (np.asarray(made @ W.T).argmax(1) == 1).all() and len(made) == 12
    near = np.abs(made[:2] - X).max(1)
    np.testing.assert_allclose(near, min(r for r in RADII if r > 0.06), atol=1e-6)
    constant = jax.tree_util.Partial(lambda b, x: b + 0 * x[:2], np.float32([1, 0]))
    assert len(adversarial(constant, x, np.zeros(12, int), jax.random.key(0))) == 0
