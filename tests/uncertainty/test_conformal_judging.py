"""Coverage and its gaps by hand, the worst slab by brute force, and the constants of RAPS as its authors choose them."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jxai.uncertainty import conformal
from jxai.uncertainty.conformal import judging

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
SETS = np.asarray([[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 1, 1]], bool)
LABELS = np.asarray([0, 0, 1, 1, 1])
P = RNG.dirichlet(np.full(6, 0.5), 300).astype(np.float32)
Y = (RNG.uniform(size=(300, 1)) > P.cumsum(1)).sum(1).clip(0, 5)
U = RNG.uniform(size=300)


def test_coverage_and_gaps_by_hand():
    assert conformal.coverage(SETS, LABELS) == 0.8 and conformal.size(SETS) == pytest.approx(8 / 5)
    np.testing.assert_allclose(conformal.class_coverage(SETS, LABELS), [1, 2 / 3, np.nan])  # a class without examples
    assert conformal.class_gap(SETS, LABELS, 0.1) == pytest.approx((0.1 + 0.9 - 2 / 3) / 2)
    assert conformal.size_gap(SETS, LABELS, 0.1) == pytest.approx(0.4)  # sizes 1 and 0: one of two; sizes 2, 2, 3: all
    assert conformal.size_gap(SETS, LABELS, 0.1, strata=((0, 0), (1, 3))) == pytest.approx(0.9)
    many = np.arange(2000) < np.asarray([[100], [101], [2000]])
    assert conformal.size_gap(many, np.asarray([0, 1999, 1999]), 0.1) == pytest.approx(0.4)  # of 101 classes and more one of two


def test_the_run_of_the_least_mean_is_that_of_all_runs():
    for n, fewest in ((1, 1), (5, 5), (12, 3), (40, 7), (40, 1)):
        for values in (RNG.normal(size=n), RNG.integers(0, 2, n).astype(float)):
            truth = min(values[i:j].mean() for i in range(n) for j in range(i + fewest, n + 1))
            found, first, last = judging._least_mean(values, fewest)
            assert found == pytest.approx(truth) == pytest.approx(values[first : last + 1].mean())
            assert last + 1 - first >= fewest


def test_the_worst_slab_is_found_where_sets_fail():
    """Coverage .95, but none of it where the first of three features is large: a fifth of the examples there."""
    x = RNG.normal(size=(4000, 3))
    bad = x[:, 0] > np.quantile(x[:, 0], 0.85)
    labels = np.zeros(4000, int)
    sets = np.stack([RNG.uniform(size=4000) < np.where(bad, 0.5, 0.97), np.ones(4000, bool)], 1)
    key = jax.random.key(0)
    worst = conformal.worst_slab(x, sets, labels, key=key, num_directions=300)
    assert 0.45 < worst < 0.65 < conformal.coverage(sets, labels)
    even = np.stack([RNG.uniform(size=4000) < 0.9, np.ones(4000, bool)], 1)
    assert conformal.worst_slab(x, even, labels, key=key, num_directions=50) == pytest.approx(0.9, abs=0.08)  # measured on others than it was sought on
    assert conformal.worst_slab(x, even, labels, key=key, num_directions=50) == conformal.worst_slab(x, even, labels, key=key, num_directions=50)


def test_constants_are_those_that_the_authors_code_chooses():
    ranks = 1 + (P > P[np.arange(300), Y][:, None]).sum(1)
    for alpha in (0.1, 1 - 0.9, 0.25):
        found = conformal.tune(P, Y, alpha, u=U)
        assert found.free_ranks == np.quantile(ranks - 1, 1 - alpha, method="higher") + 1
        sizes = {}
        for penalty in (0.001, 0.01, 0.1, 0.2, 0.5):
            options = {"method": "raps", "u": U, "penalty": penalty, "free_ranks": found.free_ranks}
            sizes[penalty] = np.asarray(conformal.sets(P, conformal.threshold(conformal.scores(P, Y, **options), alpha), **options)).sum(1).mean()
        assert found.penalty == min(sizes, key=sizes.get)
    even = conformal.tune(P, Y, 0.1, u=U, criterion="adaptiveness")
    assert even.penalty in (0, 1e-5, 1e-4, 8e-4, 9e-4, 1e-3, 1.5e-3, 2e-3)
    assert conformal.tune(P, Y, 0.1, u=U, method="saps", penalties=(0.25,)) == conformal.Constants(0.25, 0)


WRONG = [
    (lambda: conformal.coverage(SETS.astype(int), LABELS), r"sets must be \[n, K\] booleans"),
    (lambda: conformal.coverage(SETS[:4], LABELS), r"labels must be integers \[4\]"),
    (lambda: conformal.coverage(SETS[:0], LABELS[:0]), r"sets must be \[n, K\] booleans"),
    (lambda: conformal.class_gap(SETS, LABELS, 1.5), "alpha=1.5"),
    (lambda: conformal.size_gap(SETS, LABELS, 0.1, strata=((1, 2),)), "sets of size 0 are in 0 of"),
    (lambda: conformal.worst_slab(np.zeros((5, 2)), SETS, LABELS), "key=None"),
    (lambda: conformal.worst_slab(np.zeros((4, 2)), SETS, LABELS, key=jax.random.key(0)), "got lengths 5, 4"),
    (lambda: conformal.worst_slab(np.zeros((5, 2)), SETS, LABELS, key=jax.random.key(0), held_out=0.99), "held_out=0.99 must leave examples"),
    (lambda: conformal.tune(P, Y, 0.1, method="aps"), "'raps', 'saps'"),
    (lambda: conformal.tune(P, Y, 0.1, method="saps", criterion="adaptiveness"), "penalties=None must be a grid"),
    (lambda: jax.jit(conformal.size)(SETS), "call size outside of jit"),
]


@pytest.mark.parametrize("n", range(len(WRONG)))
def test_what_is_wrong_is_said(n):
    call, message = WRONG[n]
    with pytest.raises(ValueError, match=message):
        call()
