"""Arrays that uncertainty is computed from: each kind of wrong one is refused by name."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import uncertainty
from jxai.uncertainty import checks, formulas

NAN = float("nan")
WRONG = [
    (lambda: checks.check_logits(np.float32([[1.0, 2], [NAN, 1]]), rank=2), r"logits must be finite, but logits\[1\] has NaN"),
    (lambda: checks.check_logits(np.float32([np.inf, 1])), "but it has NaN, "),
    (lambda: checks.check_logits(np.float32([-np.inf, -np.inf])), "in all classes"),
    (lambda: checks.check_logits(np.float32([0.25, 0.75])), "logits must be logits, but they are probabilities"),
    (lambda: formulas.entropy(np.float32([0.25, 0.75])), "logits must be logits, but they are probabilities"),
    (lambda: checks.check_logits(np.float32([3.0])), "two classes or more"),
    (lambda: checks.check_logits(np.int32([3, 2])), "floating-point"),
    (lambda: checks.check_logits(np.zeros((0, 3)), rank=2), "floating-point"),
    (lambda: checks.check_probabilities(np.float32([[0.5, 0.6]])), r"probabilities\[0\] goes from 0.5 to 0.6 with sum 1.1$"),
    (lambda: checks.check_probabilities(np.float32([[0.5, 0.5], [-3, 4]])), r"probabilities\[1\].*look like logits"),
    (lambda: checks.check_probabilities(np.float32([[NAN, 0.5]])), "has NaN"),
    (lambda: checks.check_features(np.float32([[1, NAN]]), rank=2), r"features\[0\] has NaN"),
    (lambda: checks.check_features(np.float32([1, 2]), size=3), "D = 3"),
    (lambda: checks.check_examples(np.zeros((3, 2)), np.zeros((4, 2))), "features and logits must be of the same examples, got lengths 3, 4"),
    (lambda: checks.check_examples(np.zeros((3, 2)), np.zeros((3, 2)), np.int32([0, 0, 2])), "labels must be classes"),
    (lambda: checks.check_examples(np.zeros((3, 2)), np.zeros((3, 2)), np.int32([0, 0, 0]), every_class=1), "of class 1 there are fewer"),
    (lambda: checks.check_examples(np.zeros((3, 2)), None, np.int32([0, 1])), "features and labels must be of the same examples, got lengths 3, 2"),
    (lambda: checks.check_examples(np.zeros((3, 2)), None, np.int32([0, 1, -1])), "labels must be classes in .*, but go from -1 to 1"),
    (lambda: checks.check_examples(np.zeros((3, 2)), None, np.zeros(3)), "labels must be integers"),
    (lambda: checks.same_length(u=np.zeros(0)), "got none"),
    (lambda: checks.check_level(alpha=1.0), r"alpha=1.0 must lie in \(0, 1\)"),
    (lambda: checks.check_level(alpha=NAN), "alpha=nan"),
    (lambda: checks.check_level(alpha=True), "alpha=True"),
    (lambda: checks.check_level(alpha=np.zeros(1) + 0.5), r"alpha=array\(\[0.5\]\)"),
    (lambda: checks.check_positive(width=0), "width=0 must be a positive number"),
    (lambda: checks.check_positive(width=np.inf), "width=inf"),
    (lambda: checks.check_positive(width="1"), "width='1'"),
    (lambda: checks.check_not_negative(penalty=-1e-9), "penalty=-1e-09 must be a number >= 0"),
    (lambda: checks.check_not_negative(penalty=1, bias=NAN), "bias=nan"),
    (lambda: checks.check_finite(risk=-np.inf), "risk=-inf must be a finite number"),
    (lambda: jax.jit(lambda v: checks.check_finite(risk=v))(1.0), "risk=.* must be a finite number"),
    (lambda: jax.jit(lambda v: checks.check_positive(width=v))(np.ones(2)), "width=.* must be a positive number"),
    (lambda: checks.check_probabilities(np.ones((3, 1), np.float32)), r"two classes or more, got shape \(3, 1\)"),
    (lambda: checks.need_fitted(None, dict, "fit_x(…)"), "fitted must be a dict, made by fit_x\\(…\\), got None"),
    (lambda: jax.jit(lambda v: checks.check_host("aurc", loss=v))(np.zeros(2)), "loss must be concrete"),
]


@pytest.mark.parametrize("n", range(len(WRONG)))
def test_what_is_wrong_is_said(n):
    call, message = WRONG[n]
    with pytest.raises(ValueError, match=message):
        call()


def test_what_may_look_wrong_and_is_not():
    assert checks.check_logits(np.float32([1, 0])) == 2  # one-hot numbers are logits like any others
    assert checks.check_logits(np.float32([[0.3, 0.7], [2, 3]]), rank=2) == 2  # one row alone proves nothing
    assert checks.check_logits(np.float32([-np.inf, 1, 2])) == 3  # an impossible class
    assert checks.check_logits(np.float32([-0.2, 0.6, 0.6])) == 3 and checks.check_logits(np.float32([0.3, 0.6])) == 2  # below 0, or of another sum
    assert checks.check_probabilities(jnp.asarray([[0.3, 0.3, 0.4]], jnp.bfloat16)) == 3  # of sum 1.002
    assert checks.check_probabilities(np.float16([[0.3333, 0.3333, 0.3333]])) == 3
    assert checks.check_probabilities([[0.25, 0.75]]) == 2 and checks.check_logits([1.0, 2.0]) == 2  # lists
    assert checks.check_examples(np.zeros((3, 2), np.float32), np.zeros((3, 4), np.float32), np.int32([0, 3, 1])) == (3, 2, 4)
    assert checks.check_examples(np.zeros((3, 2), np.float32), None, np.int32([0, 3, 1])) == (3, 2, 0)
    assert float(formulas.entropy(np.float32([-np.inf, 0, 0]))) == pytest.approx(np.log(2))
    checks.check_not_negative(penalty=0, bias=np.float16(2))
    checks.check_positive(width=np.asarray(1e-30))
    checks.check_level(alpha=jnp.bfloat16(0.5))
    assert jax.jit(lambda v: (checks.check_positive(width=v), v)[1])(-1.0) == -1  # data
    assert jax.jit(jax.vmap(formulas.entropy))(np.zeros((2, 3), np.float32)).shape == (2,)


RNG = np.random.default_rng(0)
H, LABELS = RNG.normal(size=(30, 4)).astype(np.float32), np.arange(30) % 3
HEAD = uncertainty.Head(RNG.normal(size=(4, 3)).astype(np.float32), np.zeros(3, np.float32))
Z = np.asarray(HEAD(H))
FITS = ("fdbd", "gaussian_density", "kl_matching", "knn", "laplace", "lsa", "mahalanobis", "nn_guide", "relation", "relative_mahalanobis", "she", "sngp", "vim")


@pytest.mark.parametrize("name", FITS)
def test_lists_are_fitted_as_arrays_are(name):
    fit = getattr(uncertainty, f"fit_{name}")
    lists, arrays = fit(H.tolist(), Z.tolist(), LABELS.tolist(), HEAD), fit(H, Z, LABELS, HEAD)
    for ours, truth in zip(jax.tree.leaves(lists), jax.tree.leaves(arrays), strict=True):
        assert ours.dtype == truth.dtype
        np.testing.assert_allclose(np.abs(ours), np.abs(truth), rtol=1e-4, atol=1e-5)  # of eigenvectors either sign will do


@pytest.mark.parametrize("name", ["dsa", "kl_matching", "lsa", "mdsa"])
def test_labels_that_are_not_read_must_still_be_those_of_the_examples(name):
    fit = getattr(uncertainty, f"fit_{name}")
    with pytest.raises(ValueError, match="same examples, got lengths"):
        fit(H, Z, LABELS[:5])
    with pytest.raises(ValueError, match="labels must be classes in"):
        fit(H, Z, LABELS + 3)
