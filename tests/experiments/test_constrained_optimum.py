"""The exact optimum of the experiment is that of a mixed-integer program."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from experiments.counterfactual.constrained_optimum import KINDS, RANGE, optimum, problem


def by_milp(kind, w, b, x):
    """`min Σ |x' − x|` with `w·x' + b >= 0`: variables are x', one at most of each `|x' − x|`, and a binary for each level."""
    d, w, x = kind.size, np.float64(w), np.float64(x)
    binaries = [(i, level) for i, levels in kind.ordinals for level in levels]
    n = 2 * d + len(binaries)
    rows, low, high = [], [], []

    def constrain(row, least, most):
        rows.append(row), low.append(least), high.append(most)

    unit = np.eye(n)
    constrain(np.concatenate([w, np.zeros(n - d)]), -b, np.inf)
    for i in range(d):
        constrain(unit[d + i] - unit[i], -x[i], np.inf)
        constrain(unit[d + i] + unit[i], x[i], np.inf)
    for i, _ in kind.ordinals:
        own = [2 * d + k for k, (j, _) in enumerate(binaries) if j == i]
        constrain(unit[own].sum(0), 1, 1)
        constrain(unit[i] - sum(binaries[k - 2 * d][1] * unit[k] for k in own), 0, 0)
    for group in kind.categories:
        constrain(unit[list(group)].sum(0), 1, 1)
    lower, upper = np.zeros(n), np.full(n, np.inf)
    lower[: kind.numbers], upper[: kind.numbers] = -RANGE, RANGE
    upper[kind.numbers : d] = np.asarray(kind.clip[1])[kind.numbers :]
    upper[2 * d :] = 1
    whole = np.zeros(n)
    whole[kind.numbers : d] = whole[2 * d :] = 1
    cost = np.concatenate([np.zeros(d), np.ones(d), np.zeros(len(binaries))])
    found = scipy.optimize.milp(
        cost, constraints=scipy.optimize.LinearConstraint(rows, low, high), integrality=whole, bounds=scipy.optimize.Bounds(lower, upper)
    )
    return found.fun


@pytest.mark.parametrize("name", KINDS)
def test_enumeration_and_filling_up_solve_the_mixed_integer_program(name):
    rng = np.random.default_rng(7)
    for _ in range(3):
        given = problem(KINDS[name], rng)
        np.testing.assert_allclose(optimum(KINDS[name], *given), by_milp(KINDS[name], *given), rtol=1e-5)
