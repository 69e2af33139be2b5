"""Conformal thresholds, sets and p-values: order statistics in exact arithmetic where other libraries miss them, scores from loops, and coverage with the Beta law's mean and spread."""

from __future__ import annotations

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jxai.uncertainty import conformal

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
METHODS = ("lac", "aps", "raps", "saps", "margin")
DRAWN = ("aps", "raps", "saps")
N, K = 40, 7
P = RNG.dirichlet(np.full(K, 0.4), N).astype(np.float32)
Y = RNG.integers(0, K, N)
U = np.asarray(conformal.draws(jax.random.key(0), N))
NAN = float("nan")
POOL = RNG.dirichlet(np.full(K, 0.5), 20_000).astype(np.float32)
POOL_LABELS = (RNG.uniform(size=(20_000, 1)) > POOL.cumsum(1)).sum(1).clip(0, K - 1)
SPLITS = RNG.integers(0, 20_000, (2000, 139))


def score(p, y, u, method, penalty=0.01, free_ranks=5):
    """Of one class, as the papers say it."""
    r = 1 + sum(p[j] > p[y] or (p[j] == p[y] and j < y) for j in range(len(p)))
    down = np.sort(p)[::-1]
    if method == "lac":
        return 1 - p[y]
    if method == "margin":
        return max(p[j] for j in range(len(p)) if j != y) - p[y]
    if method == "saps":
        return u * down[0] if r == 1 else down[0] + (r - 2 + u) * penalty
    return down[:r].sum() - u * p[y] + (penalty * max(r - free_ranks, 0) if method == "raps" else 0)


def drawn(method, u=U):
    return u if method in DRAWN else None


@pytest.mark.parametrize("method", METHODS)
def test_scores_are_those_of_a_loop(method):
    tied = np.asarray([[0.25, 0.25, 0.25, 0.25], [0, 0.5, 0.5, 0]], np.float32)
    for p, u, constants in ((P, U, {}), (P, U, {"penalty": 0.3, "free_ranks": 2}), (tied, U[:2], {"free_ranks": 0})):
        before = p.copy()
        truth = [[score(row.astype(float), y, v, method, **constants) for y in range(p.shape[1])] for row, v in zip(p, u)]
        found = conformal.class_scores(p, method=method, u=drawn(method, u), **constants)
        np.testing.assert_allclose(found, truth, atol=1e-6)
        labels = Y[: len(p)] % p.shape[1]
        own = conformal.scores(p, labels, method=method, u=drawn(method, u), **constants)
        np.testing.assert_array_equal(own, np.asarray(found)[np.arange(len(p)), labels])
        np.testing.assert_array_equal(p, before)  # TorchCP's margin writes into its argument


def test_one_u_is_shared_by_all_classes_and_none_counts_the_whole_class():
    top = P.argmax(1)
    inclusive = [P[i][P[i] >= P[i, Y[i]]].sum() for i in range(N)]
    np.testing.assert_allclose(conformal.scores(P, Y, method="aps"), inclusive, atol=1e-6)
    # TorchCP's SAPS without draws is 0 for the first class in calibration and p_max for new examples: here it is p_max in both.
    np.testing.assert_allclose(conformal.scores(P, top, method="saps"), P.max(1), rtol=1e-6)
    threshold = conformal.threshold(conformal.scores(P, top, method="saps"), 0.1)
    assert conformal.coverage(conformal.sets(P, threshold, method="saps"), top) >= 0.9
    u = conformal.draws(jax.random.key(0), 6, index=jnp.arange(4, 10))
    np.testing.assert_array_equal(u, U[4:10])  # by the place in the data set, in whatever blocks
    assert len(set(map(float, U))) == N and not np.array_equal(U, conformal.draws(jax.random.key(1), N))


def test_sure_examples_are_told_apart():
    """A network that is sure has p = 1 in float32 for most examples, though what it leaves to other classes differs: as 1 − p they would all tie at 0."""
    rest = np.logspace(-12, -4, 50)
    p = np.float32(np.stack([rest / 3, 1 - rest, rest * 2 / 3], 1))
    assert (p[:20, 1] == 1).all()
    np.testing.assert_allclose(conformal.class_scores(p, method="lac")[:, 1], rest, rtol=1e-5)


PEERS = {
    "MAPIE": lambda s, a: np.quantile(s, (len(s) + 1) * (1 - a) / len(s), method="higher"),
    "tutorials": lambda s, a: np.quantile(s, math.ceil((len(s) + 1) * (1 - a)) / len(s), method="higher"),
    "torch-uncertainty": lambda s, a: np.quantile(s, 1 - a),
    "crepes": lambda s, a: s[len(s) - k] if (k := int((1 - (1 - a)) * (len(s) + 1))) else np.inf,
    "RAPS": lambda s, a: np.quantile(s, 1 - a, method="higher"),
    "probly": lambda s, a: np.quantile(s, min(1, math.ceil((len(s) + 1) * (1 - a)) / len(s)), method="nearest"),
}
"""Thresholds as other libraries compute them; scores are ranks from 1."""
MISSED = [
    ("MAPIE", 9, 0.5, 6, 5),
    ("tutorials", 9, 0.5, 6, 5),
    ("torch-uncertainty", 9, 0.1, 8.2, 9),
    ("crepes", 9, 0.1, np.inf, 9),
    ("crepes", 19, 0.1, 19, 18),
    ("RAPS", 3, 0.1, 3, np.inf),
    ("probly", 3, 0.1, 3, np.inf),
]


@pytest.mark.parametrize("peer, n, alpha, theirs, right", MISSED)
def test_thresholds_where_others_miss_them(peer, n, alpha, theirs, right):
    ranks = np.arange(1.0, n + 1)
    assert PEERS[peer](ranks, alpha) == pytest.approx(theirs)  # the defect is there
    assert conformal.threshold(RNG.permutation(ranks), alpha) == right


def test_ranks_are_exact_whatever_float_says_the_level():
    missed = 0
    for n in (1, 2, 3, 4, 9, 19, 24, 49, 99, 999, 99999):
        for percent in range(1, 100):
            alpha = Fraction(percent, 100)
            k = math.ceil((n + 1) * (1 - alpha))
            said = (percent / 100, 1 - (1 - percent / 100), 1 - (100 - percent) / 100, np.float32(percent / 100), alpha)
            assert {conformal.rank(n, level) for level in said} == {k}
            missed += math.ceil((n + 1) * (1 - percent / 100)) != k
    assert missed > 50  # which a float misses
    assert math.ceil(10 * (1 - 0.7)) == 4 and conformal.rank(9, 0.7) == 3
    assert math.ceil(100 * (1 - (1 - 0.01))) == 2 and conformal.rank(99, 1 - 0.01) == 1
    assert conformal.rank(2, 1 / 3) == 2 and conformal.rank(2, 1 - 2 / 3) == 2
    assert conformal.rank(9, jnp.float32(0.9)) == 1


def test_too_few_examples_have_an_infinite_threshold_and_every_class():
    assert conformal.threshold(np.arange(8.0), 0.1) == np.inf and conformal.threshold(np.arange(9.0), 0.1) == 8
    assert conformal.threshold([3.0], 0.5) == 3 and conformal.threshold([3.0], 0.49) == np.inf
    assert conformal.sets(P, np.inf, method="lac").all()
    by_group = conformal.threshold(np.arange(12.0), 0.25, groups=np.asarray([0] * 4 + [2] * 8), num_groups=4)
    np.testing.assert_array_equal(by_group, [3, np.inf, 10, np.inf])
    assert len(conformal.threshold(np.arange(12.0), 0.25, groups=np.asarray([0] * 4 + [2] * 8))) == 3


@pytest.mark.parametrize("method", METHODS)
def test_sets_are_what_p_values_say(method):
    """In exact arithmetic p > α exactly where the score is at most the threshold; with groups, of each class by itself."""
    m, u = 30, drawn(method, U[:30])
    calibration = conformal.scores(P[:m], Y[:m], method=method, u=u)
    new, v = P[m:], drawn(method, U[m:])
    for groups, count in ((None, np.full(K, m)), (Y[:m], np.bincount(Y[:m], minlength=K))):
        p = np.asarray(conformal.p_values(new, calibration, method=method, u=v, groups=groups))
        assert (p > 0).all() and (p <= 1).all()
        found = conformal.class_scores(new, method=method, u=v)
        for y in range(K):
            own = np.asarray(calibration) if groups is None else np.asarray(calibration)[groups == y]
            np.testing.assert_allclose(p[:, y], (1 + (own[:, None] >= np.asarray(found)[:, y]).sum(0)) / (len(own) + 1), rtol=1e-6)
        for alpha in (0.1, 1 - 0.8, 0.5):
            options = {} if groups is None else {"groups": groups, "num_groups": K}
            sets = conformal.sets(new, conformal.threshold(calibration, alpha, **options), method=method, u=v)
            np.testing.assert_array_equal(sets, np.round(p * (count + 1)) > Fraction(alpha).limit_denominator(1000) * (count + 1))


def test_smoothed_p_values_are_uniform():
    n, m = 2000, 200
    s = RNG.integers(0, 5, (n, m + 1)) / 8.0  # many ties, exact in float32
    tie = RNG.uniform(size=n).astype(np.float32)
    one = lambda own, new, t: conformal.p_values(jnp.stack([1 - new, new])[None], own, method="lac", tie=t[None])[0, 0]
    p = jax.jit(jax.vmap(one))(s[:, :-1], s[:, -1], tie)
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_coverage_over_splits_has_the_beta_laws_mean_and_spread(method):
    """2000 splits: the coverage of the threshold is Beta(k, n + 1 − k), measured on m examples beta-binomial; a rank too high or too low is another law."""
    n, m, alpha = 39, 100, 0.1
    u = drawn(method, RNG.uniform(size=len(POOL)))
    s = np.asarray(conformal.scores(POOL, POOL_LABELS, method=method, u=u, penalty=0.1, free_ranks=2))
    covered = np.asarray([(s[row[n:]] <= conformal.threshold(s[row[:n]], alpha)).mean() for row in SPLITS])
    k = conformal.rank(n, alpha)
    law = scipy.stats.betabinom(m, k, n + 1 - k)
    assert k == 36 and law.mean() / m == pytest.approx(0.9)
    assert covered.mean() == pytest.approx(0.9, abs=4 * law.std() / m / math.sqrt(len(SPLITS)))
    assert covered.std() == pytest.approx(law.std() / m, rel=0.07)


def test_sets_of_each_class_and_of_each_example_have_thresholds_of_their_own():
    s = np.asarray(conformal.class_scores(P, method="lac"))
    own = np.linspace(0.2, 0.9, K)
    np.testing.assert_array_equal(conformal.sets(P, own, method="lac"), s <= np.float32(own))
    own = np.linspace(0.2, 0.9, N)[:, None]
    np.testing.assert_array_equal(conformal.sets(P, own, method="lac"), s <= np.float32(own))
    empty = conformal.sets(P, -1.0, method="lac")
    assert not empty.any()
    forced = np.asarray(conformal.sets(P, -1.0, method="lac", allow_empty=False))
    np.testing.assert_array_equal(forced, np.arange(K) == P.argmax(1)[:, None])


def test_scores_and_sets_are_traceable():
    run = jax.jit(lambda p, y, u, q: (conformal.scores(p, y, method="raps", u=u), conformal.sets(p, q, method="raps", u=u)))
    s, sets = run(P, Y, U, 0.8)
    np.testing.assert_allclose(s, conformal.scores(P, Y, method="raps", u=U), rtol=1e-6)
    np.testing.assert_array_equal(sets, conformal.sets(P, 0.8, method="raps", u=U))
    slope = jax.grad(lambda p: conformal.scores(p, Y, method="aps", u=U).sum())(jnp.asarray(P))
    truth = (P >= P[np.arange(N), Y][:, None]) - U[:, None] * (np.arange(K) == Y[:, None])
    np.testing.assert_allclose(slope, truth, atol=1e-6)
    lost = P.copy()
    lost[0] = NAN
    s, sets = run(lost, Y.copy() * 0 + 99, U, 0.8)
    assert np.isnan(s).all() and np.asarray(sets)[0].all()  # a label out of range; a set of what is not known


LOGITS = np.log(P + 1e-3) * 3
WRONG = [
    (lambda: conformal.p_values(P, np.zeros(3), method="lac", tie=U + 1), r"tie must be in \[0, 1\]"),
    (lambda: conformal.p_values(P, np.zeros(3), method="lac", tie=U[:3]), r"tie must be \[40\]"),
    (lambda: conformal.scores(LOGITS, Y), "probabilities must be probabilities.*look like logits"),
    (lambda: conformal.scores(np.where(P == P.max(), NAN, P), Y), "has NaN"),
    (lambda: conformal.scores(P, Y[:-1]), r"labels must be integers \[40\]"),
    (lambda: conformal.scores(P, Y + 1), "labels must be classes"),
    (lambda: conformal.scores(P, Y, method="thr"), "'lac', 'aps', 'raps', 'saps', 'margin'"),
    (lambda: conformal.scores(P, Y, method="aps", u=U[:-1]), r"u must be \[40\], one number for each example"),
    (lambda: conformal.scores(P, Y, method="aps", u=np.ones((N, K))), "that all of its classes share"),
    (lambda: conformal.scores(P, Y, method="aps", u=2 * U), r"u must be in \[0, 1\]"),
    (lambda: conformal.scores(P, Y, method="lac", u=2 * U), r"u must be in \[0, 1\]"),
    (lambda: conformal.scores(P, Y, method="raps", penalty=-1.0), "penalty=-1.0 must be"),
    (lambda: conformal.scores(P, Y, method="raps", free_ranks=1.5), "free_ranks=1.5 must be"),
    (lambda: conformal.scores(np.ones((3, 1), np.float32), Y[:3]), "two classes or more"),
    (lambda: conformal.scores(P, Y, method="raps", penalty="a"), "penalty='a' must be"),
    (lambda: conformal.scores(P, Y, method="raps", free_ranks=-1), "free_ranks=-1 must be"),
    (lambda: conformal.draws(None, 3), "key=None"),
    (lambda: conformal.draws(np.zeros(2), 3), r"key=array\(\[0., 0.\]\) must be a jax.random.key"),
    (lambda: conformal.draws(jax.random.key(0), 3, index=jnp.arange(2)), "index must be 3 integers"),
    (lambda: conformal.threshold([], 0.1), r"scores must be numbers \[n\]"),
    (lambda: conformal.threshold([NAN, 1], 0.1), r"scores\[0\] is nan"),
    (lambda: conformal.threshold([1.0], 0), r"alpha=0 must lie in \(0, 1\)"),
    (lambda: conformal.threshold([1.0], 1.0), "alpha=1.0 must lie in"),
    (lambda: conformal.threshold([1.0], NAN), "alpha=nan must lie in"),
    (lambda: conformal.threshold([1.0], 0.1, groups=np.asarray([0, 1])), "scores and groups must be of the same examples, got lengths 1, 2"),
    (lambda: conformal.threshold([1.0], 0.1, groups=np.asarray([1]), num_groups=1), "groups must be classes"),
    (lambda: conformal.threshold([1.0], 0.1, num_groups=3), "num_groups=3 says nothing"),
    (lambda: jax.jit(lambda s: conformal.threshold(s, 0.1))(U), "call threshold outside of jit"),
    (lambda: conformal.rank(-1, 0.1), "n=-1 must be"),
    (lambda: conformal.sets(P, np.zeros(3), method="lac"), "threshold must be a number.*num_groups=K"),
    (lambda: conformal.sets(P, NAN, method="lac"), "threshold must be numbers"),
    (lambda: conformal.p_values(P, [], method="lac"), r"scores must be numbers \[n\]"),
    (lambda: conformal.p_values(P, U, method="lac", tie=U[:3]), r"tie must be \[40\]"),
]


@pytest.mark.parametrize("n", range(len(WRONG)))
def test_what_is_wrong_is_said(n):
    call, message = WRONG[n]
    with pytest.raises(ValueError, match=message):
        call()


def test_a_level_may_be_an_array_of_one_number():
    assert conformal.threshold(U, np.asarray(0.1)) == conformal.threshold(U, 0.1)
