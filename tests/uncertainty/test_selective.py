"""Selective prediction: against definitions written out, closed forms, ties in every order, and what other libraries compute."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.uncertainty import selective

RNG = np.random.default_rng(0)
U, LOSS = RNG.integers(0, 9, 60).astype(float), RNG.integers(0, 2, 60)
DISTINCT = RNG.permutation(60).astype(float)
NUMBERS = RNG.exponential(size=60)
NAN = float("nan")


def points(u, loss):
    """Coverage and selective risk of each threshold, by their definition."""
    found = [(np.mean(u <= t), loss[u <= t].mean()) for t in sorted(set(u))]
    return np.asarray([(0, found[0][1]), *found]).T


@pytest.mark.parametrize("u, loss", [(U, LOSS), (DISTINCT, LOSS), (U, NUMBERS), (np.zeros(60), NUMBERS), (U[:1], LOSS[:1])])
def test_curves_have_a_point_for_each_threshold(u, loss):
    x, y, area = selective.risk_coverage(u, loss)
    c, r = points(u, loss)
    np.testing.assert_allclose([x, y], [c, r], rtol=1e-12)
    assert area == pytest.approx(np.sum(np.diff(c) * (r[1:] + r[:-1]) / 2)) == selective.aurc(u, loss)
    kept = np.r_[0, (c * r)[1:]]
    assert selective.augrc(u, loss) == pytest.approx(np.sum(np.diff(c) * (kept[1:] + kept[:-1]) / 2))


MEASURES = {name: getattr(selective, name) for name in ("aurc", "excess_aurc", "augrc", "achievable_aurc")}
RIGHT = {name: getattr(selective, name) for name in ("aurra", "raulc")}


@pytest.mark.parametrize("name", [*MEASURES, *RIGHT])
def test_no_order_of_examples_matters(name):
    """Those that sort ties as they come (torch-uncertainty, natural-adv-examples) give each order another value."""
    measure, y = {**MEASURES, **RIGHT}[name], LOSS if name in MEASURES else 1 - LOSS
    values = [measure(U[at], y[at]) for at in (RNG.permutation(60) for _ in range(5))]
    np.testing.assert_allclose(values, measure(U, y), rtol=1e-12)
    assert measure(jnp.asarray(U, jnp.bfloat16), jnp.asarray(y)) == pytest.approx(values[0])


def test_closed_forms():
    n, wrong = 2000, 500
    loss, e = (np.arange(n) >= n - wrong).astype(float), wrong / n
    best = np.arange(n)
    formula = e + (1 - e) * math.log(1 - e)
    assert selective.aurc(best, loss) == pytest.approx(formula, abs=1e-4)
    assert selective.excess_aurc(best, loss) == 0
    assert selective.excess_aurc(best, loss, optimum="formula") == pytest.approx(0, abs=1e-4)
    assert selective.augrc(best, loss) == pytest.approx(e**2 / 2)
    same = np.full(n, 0.7)
    assert selective.aurc(same, loss) == pytest.approx(e)  # one plateau: the mean loss, however the examples stand
    assert selective.augrc(same, loss) == pytest.approx(e / 2)
    assert selective.achievable_aurc(same, loss) == pytest.approx(e)
    assert selective.aurra(same, 1 - loss) == pytest.approx(1 - e)
    assert selective.raulc(same, 1 - loss) == pytest.approx(0, abs=1e-12)
    assert selective.raulc(best, 1 - loss) == pytest.approx(1)
    assert selective.raulc(-best, 1 - loss) < 0
    # Two values that tell right from wrong: the hull is that of the best order, though the trapezoid is not.
    assert selective.achievable_aurc(loss, loss) == pytest.approx(formula)
    assert selective.aurc(loss, loss) == pytest.approx(e**2 / 2)  # from (1 − e, 0) to (1, e)
    assert selective.excess_aurc(loss, loss) < 0  # as documented: a plateau is a straight line


def test_what_is_achievable_is_the_least_of_all_draws_between_thresholds():
    """By brute force: on a fine grid of coverages, the least generalised risk on a line between any two points."""
    for u, loss in ((U, LOSS), (U, NUMBERS), (DISTINCT, LOSS)):
        c, r = points(u, loss)
        g = c * r
        at = np.linspace(0, 1, 20001)[1:] - 0.5 / 20000
        least = np.full(len(at), np.inf)
        for i, j in itertools.combinations(range(len(c)), 2):
            inside = (c[i] <= at) & (at <= c[j])
            least[inside] = np.minimum(least[inside], g[i] + (g[j] - g[i]) * (at[inside] - c[i]) / (c[j] - c[i]))
        assert selective.achievable_aurc(u, loss) == pytest.approx(np.mean(least / at), rel=1e-4)
        assert selective.achievable_aurc(u, loss) <= loss.mean() + 1e-12


def test_accuracies_are_means_over_the_orders_of_what_is_tied():
    u, correct = np.asarray([1, 1, 0, 1, 2.0]), np.asarray([1, 0, 1, 0, 1])
    orders = [[2, *tied, 4] for tied in itertools.permutations([0, 1, 3])]
    running = np.mean([correct[order].cumsum() / np.arange(1, 6) for order in orders], 0)
    assert selective.aurra(u, correct) == pytest.approx(running.mean())
    lift = lambda y: y.mean() / correct.mean() - 1
    best = np.sort(correct)[::-1].cumsum() / np.arange(1, 6)
    assert selective.raulc(u, correct.astype(bool)) == pytest.approx(lift(running) / lift(best))
    distinct = 1 - LOSS[np.argsort(DISTINCT)]  # without ties: natural-adv-examples' formula
    assert selective.aurra(DISTINCT, 1 - LOSS) == pytest.approx((distinct.cumsum() / np.arange(1, 61)).mean())


def test_torch_uncertaintys_convention():
    probabilities, labels = np.asarray([[0.7, 0.3], [0.6, 0.4], [0.8, 0.2]]), np.asarray([0, 1, 0])  # the example of its documentation
    value = selective.aurc(-probabilities.max(1), probabilities.argmax(1) != labels, convention="torch-uncertainty")
    assert value == pytest.approx(1 / 3 * (0 + 1 / 3) / 2 / (2 / 3)) == pytest.approx(0.0833, abs=1e-4)
    assert math.isnan(selective.aurc(U[:1], LOSS[:1], convention="torch-uncertainty"))


def test_fd_shifts_formula_of_the_optimum():
    e = LOSS.mean()
    assert selective.excess_aurc(U, LOSS, optimum="formula") == pytest.approx(selective.aurc(U, LOSS) - e - (1 - e) * math.log(1 - e))
    assert selective.excess_aurc(U, np.ones(60), optimum="formula") == 0
    with pytest.raises(ValueError, match="optimum='formula' is of losses 0 and 1"):
        selective.excess_aurc(U, NUMBERS, optimum="formula")


def test_working_points_are_reachable():
    u, loss = np.asarray([0, 1, 1, 2, 3.0]), np.asarray([0, 1, 0, 0, 1])  # coverage .2 .6 .8 1, risk 0 1/3 1/4 2/5
    found = [selective.risk_at_coverage(u, loss, c) for c in (0, 0.2, 0.1 + 0.1, 0.21, 0.4, 3 / 5, 0.61, 1)]
    np.testing.assert_allclose(found, [0, 0, 0, 1 / 3, 1 / 3, 1 / 3, 1 / 4, 2 / 5])
    found = [selective.coverage_at_risk(u, loss, r) for r in (-1, 0, 0.24, 0.25, 1 / 3, 0.39, 0.4)]
    np.testing.assert_allclose(found, [0, 0.2, 0.2, 0.8, 0.8, 0.8, 1])
    tenths = np.arange(10.0)
    assert selective.risk_at_coverage(tenths, tenths, 0.1 + 0.2) == 1  # 0.30000000000000004 is three of ten
    assert selective.coverage_at_risk(tenths, np.full(10, 0.1), 0.1) == 1  # a sum of tenths is a little more than one
    assert selective.coverage_at_risk(np.zeros(4), np.ones(4), 0.5) == 0


def test_infinite_uncertainty_and_one_kind_of_answers():
    assert selective.aurc([-np.inf, 0, np.inf], [0, 0, 1]) == pytest.approx(1 / 18)
    assert math.isnan(selective.raulc(U, np.ones(60))) and math.isnan(selective.raulc(U, np.zeros(60)))
    assert selective.aurra(U, np.ones(60, bool)) == 1 and selective.aurc(U, np.zeros(60)) == 0


WRONG = [
    (lambda: selective.aurc([], []), r"uncertainty must be numbers \[n\]"),
    (lambda: selective.aurc([1.0, NAN], [0, 1]), r"uncertainty\[1\] is nan"),
    (lambda: selective.aurc([1.0, 2], [0, np.inf]), r"loss must be finite, but loss\[1\] is inf"),
    (lambda: selective.aurc([1.0, 2], [0, 1, 1]), "uncertainty and loss must be of the same examples, got lengths 2, 3"),
    (lambda: selective.aurc([[1.0, 2]], [0]), r"shape \(1, 2\)"),
    (lambda: selective.aurc(["a"], [0]), "uncertainty must be numbers"),
    (lambda: selective.aurra([1.0], [2.0]), "correct must be booleans"),
    (lambda: selective.raulc([1.0, 2], [0]), "got lengths 2, 1"),
    (lambda: selective.aurc([1.0], [0], convention="probly"), "'fd-shifts', 'torch-uncertainty'"),
    (lambda: selective.excess_aurc([1.0], [0], optimum="best"), "'sorted', 'formula'"),
    (lambda: selective.risk_at_coverage([1.0], [0], 1.1), "coverage=1.1 must lie in"),
    (lambda: selective.risk_at_coverage([1.0], [0], NAN), "coverage=nan"),
    (lambda: selective.risk_at_coverage([1.0], [0], "a"), "coverage='a' must be a finite number"),
    (lambda: selective.coverage_at_risk([1.0], [0], NAN), "risk=nan"),
    (lambda: selective.coverage_at_risk([1.0], [0], "a"), "risk='a' must be a finite number"),
    (lambda: jax.jit(selective.aurc)(jnp.zeros(2), jnp.zeros(2)), "uncertainty must be concrete.*call aurc outside of jit"),
]


@pytest.mark.parametrize("n", range(len(WRONG)))
def test_what_is_wrong_is_said(n):
    call, message = WRONG[n]
    with pytest.raises(ValueError, match=message):
        call()
