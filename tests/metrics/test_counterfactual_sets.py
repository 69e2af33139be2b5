"""Sets of counterfactuals: their diversity, by hand and by NumPy, and their worth as data, by SciPy and scikit-learn."""

import functools

import counterfactual_toys as toys
import jax
import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import pdist, squareform
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from jxai.metrics import counterfactual as metrics

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = np.random.default_rng(0).uniform(size=(2, 3, 1)).astype(np.float32)
SET = np.random.default_rng(1).normal(size=(5, 2, 3, 1)).astype(np.float32)
NAMES = {"l1": "cityblock", "l2": "euclidean"}
TRAIN, LABELS = toys.data(150, seed=1)
TEST, TEST_LABELS = toys.data(200, seed=2)


@functools.cache
def compiled(name, options):
    return jax.jit(lambda x, v, more: getattr(metrics, name)(None, x, v, None, **dict(options), **more))


def judged(name, x, v, jitter=None, **options):
    """Compiled once for each shape."""
    more = {} if jitter is None else {"jitter": np.float32(jitter)}
    return np.asarray(compiled(name, tuple(sorted(options.items())))(x, v, more))


@pytest.mark.parametrize("distance", NAMES)
def test_diversity_is_scipys(distance):
    far = pdist(SET.reshape(5, -1), NAMES[distance])
    assert judged("apd", X, SET, distance=distance) == pytest.approx(far.mean(), rel=1e-5)
    kernel = 1 / (1 + squareform(far))
    assert judged("dpp", X, SET, distance=distance) == pytest.approx(np.linalg.det(kernel), rel=1e-4)
    jittered = np.linalg.det(kernel + 1e-2 * np.eye(5))
    assert judged("dpp", X, SET, distance=distance, jitter=1e-2) == pytest.approx(jittered, rel=1e-4)


def test_diversity_of_equal_ones_of_a_single_one_and_of_far_ones():
    same = SET[[0, 0, 1, 2, 3]]
    assert judged("dpp", X, same, distance="l2") == pytest.approx(0, abs=1e-6) and judged("dpp", X, same, distance="l2") >= 0
    assert judged("apd", X, SET[[0] * 5], distance="l2") == 0 and judged("apd", X, SET[:1]) == 0
    assert judged("dpp", X, SET[:1]) == 1
    assert judged("dpp", X, 1e6 * SET, distance="l2") == pytest.approx(1, abs=1e-4)


def test_squared_cosines_of_known_directions():
    """Two along one line (any sign, any length), one at 45°, one orthogonal, one not changed."""
    x, zero = np.float32([1, 2, 0]), np.zeros(3, np.float32)
    cosines = lambda x, change: judged("squared_cosines", x, x + change)
    change = np.float32([[1, 0, 0], [-1e-20, 0, 0], [1e20, 1e20, 0], [0, 0, 3], [0, 0, 0]])
    assert cosines(zero, change) == pytest.approx(2 * (1 + 0.5 + 0.5), rel=1e-5)
    assert cosines(x, np.eye(5, 3, dtype=np.float32)) == 0
    assert cosines(x, np.ones((5, 3), np.float32)) == pytest.approx(5 * 4)


def test_label_coverage_counts_the_other_classes_that_are_met():
    classes = np.eye(4, dtype=np.float32)
    cover = jax.jit(lambda at, x, v: metrics.label_coverage(jax.tree_util.Partial(lambda at, v: v + at, at), x, v, None))
    zero = np.zeros(4, np.float32)
    assert cover(zero, classes[0], classes[[0, 0, 0, 0]]) == 0
    assert cover(zero, classes[0], classes[[0, 2, 2, 3]]) == pytest.approx(2 / 3)
    assert cover(zero, classes[1], classes[[0, 2, 3, 1]]) == 1
    assert np.isnan(cover(np.where(np.arange(4) == 1, np.nan, zero), classes[0], classes))
    with pytest.raises(ValueError, match="two classes or more"):
        metrics.label_coverage(lambda v: v[:1], classes[0], classes, None)


def test_bad_options_of_sets_are_named():
    for name in ("apd", "dpp"):
        with pytest.raises(ValueError, match="distance='linf' must be one of"):
            getattr(metrics, name)(None, X, SET, None, distance="linf")
    with pytest.raises(ValueError, match="jitter=-1.0 must lie in"):
        metrics.dpp(None, X, SET, None, jitter=-1.0)
    with pytest.raises(ValueError, match=r"counterfactual must be floating-point examples \[k, \*\(2, 3, 1\)\] with k >= 1"):
        metrics.apd(None, X, SET[:0], None)


def scipy_fid(a, b):
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s + t - 2 * np.real(sqrtm(s @ t)))


def test_fid_is_scipys_square_root_of_the_product():
    rng = np.random.default_rng(2)
    a = rng.normal(size=(300, 8)) @ rng.normal(size=(8, 8)) + 1
    b = rng.normal(size=(250, 8)) @ rng.normal(size=(8, 8))
    assert metrics.fid(a, b) == pytest.approx(scipy_fid(a, b), rel=1e-6)
    assert metrics.fid(a, b) == pytest.approx(metrics.fid(b, a), rel=1e-8)


def test_fid_of_equal_sets_is_zero_and_of_shifted_ones_the_square_of_the_shift():
    a = np.random.default_rng(3).normal(size=(50, 2, 3, 1)).astype(np.float32)
    assert metrics.fid(a, a) == pytest.approx(0, abs=1e-6)
    assert metrics.fid(a, a[::-1]) == pytest.approx(0, abs=1e-6)
    assert metrics.fid(a, a + np.float32(2)) == pytest.approx(6 * 4, rel=1e-5)
    # Fewer examples than features: the covariance has no full rank.
    assert metrics.fid(a[:3], a[:3]) == pytest.approx(0, abs=1e-6)


def test_fid_of_two_gaussians_is_the_closed_form():
    """Samples of N(0, 1) and N(m, s²) in two independent features: `m² + (1 − s)²` each."""
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(20_000, 2)), np.array([0.5, -1]) + np.array([2.0, 0.5]) * rng.normal(size=(20_000, 2))
    assert metrics.fid(a, b) == pytest.approx(0.25 + 1 + 1 + 0.25, rel=0.05)


def test_fid_takes_features_at_any_batch_size():
    a, b = (np.random.default_rng(seed).normal(size=(33, 6)).astype(np.float32) + seed / 10 for seed in (5, 6))
    f = toys.model()
    expected = scipy_fid(*(toys.logits(f, v).astype(np.float64) for v in (a, b)))
    for batch_size in (10, 33):
        assert metrics.fid(a, b, features=f, batch_size=batch_size) == pytest.approx(expected, rel=1e-4)
    one = metrics.fid(a, b, features=lambda v: v.sum())
    assert one == pytest.approx((a.sum(1).mean() - b.sum(1).mean()) ** 2 + (a.sum(1).std(ddof=1) - b.sum(1).std(ddof=1)) ** 2, rel=1e-4)


def test_fid_of_bad_sets():
    a = np.zeros((4, 6), np.float32)
    assert np.isnan(metrics.fid(a, np.full_like(a, np.nan)))
    for bad, message in ((a[:1], "with n >= 2 of one shape"), (a[:, :5], "with n >= 2 of one shape"), (a[:0], "counterfactuals must be")):
        with pytest.raises(ValueError, match=message):
            metrics.fid(a, bad)
    with pytest.raises(ValueError, match="examples must be"):
        metrics.fid(a[:0], a)
    with pytest.raises(ValueError, match="batch_size=0"):
        metrics.fid(a, a, batch_size=0)
    with pytest.raises(ValueError, match="examples is traced"):
        jax.jit(lambda v: metrics.fid(v, a))(a)


@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_substitutability_is_scikit_learns_ratio(k):
    made = (TRAIN[:90] + 0.5 * np.random.default_rng(7).normal(size=(90, 6))).astype(np.float32)
    targets = np.where(np.arange(90) % 5 == 0, (LABELS[:90] + 1) % 3, LABELS[:90])
    accuracy = [KNeighborsClassifier(k).fit(*data).score(TEST, TEST_LABELS) for data in ((made, targets), (TRAIN, LABELS))]
    assert metrics.substitutability(made, targets, TRAIN, LABELS, TEST, TEST_LABELS, k=k, batch_size=64) == pytest.approx(accuracy[0] / accuracy[1])
    assert accuracy[0] < accuracy[1]


def test_substitutability_of_the_data_themselves_is_one_and_of_wrong_labels_below():
    assert metrics.substitutability(TRAIN, LABELS, TRAIN, LABELS, TEST, TEST_LABELS) == 1
    assert metrics.substitutability(TRAIN, (LABELS + 1) % 3, TRAIN, LABELS, TEST, TEST_LABELS) < 0.2
    assert np.isnan(metrics.substitutability(np.full_like(TRAIN, np.nan), LABELS, TRAIN, LABELS, TEST, TEST_LABELS))
    # Data without a right answer for the test.
    assert np.isnan(metrics.substitutability(TRAIN, LABELS, TRAIN, LABELS, TEST, np.full_like(TEST_LABELS, 7)))


def test_substitutability_by_a_trainer():
    def trainer(x, y):
        fitted = LogisticRegression().fit(x, y)
        return toys.Weighted(fitted.coef_.astype(np.float32), fitted.intercept_.astype(np.float32))

    made, targets = TRAIN[:30], LABELS[:30]
    accuracy = [LogisticRegression().fit(*data).score(TEST, TEST_LABELS) for data in ((made, targets), (TRAIN, LABELS))]
    found = metrics.substitutability(made, targets, TRAIN, LABELS, TEST, TEST_LABELS, trainer=trainer)
    assert found == pytest.approx(accuracy[0] / accuracy[1], abs=0.01)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"counterfactuals": TRAIN[:0], "targets": LABELS[:0]}, "counterfactuals must be"),
        ({"examples": TRAIN[:0], "labels": LABELS[:0]}, "examples must be"),
        ({"test_examples": TEST[:0], "test_labels": TEST_LABELS[:0]}, "test_examples must be"),
        ({"targets": LABELS[:-1]}, "targets must be integers"),
        ({"labels": LABELS.astype(np.float32)}, "labels must be integers"),
        ({"test_labels": TEST_LABELS - 1}, "test_labels must be classes"),
        ({"test_examples": TEST[:, :5]}, "must be of one shape"),
        ({"counterfactuals": TRAIN[:, :5]}, "must be of one shape"),
        ({"counterfactuals": TRAIN[:4], "targets": LABELS[:4], "k": 5}, "k=5 must be at most the number of counterfactuals"),
        ({"k": 0}, "k=0"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_arguments_of_substitutability_are_named(changes, message):
    given = dict(counterfactuals=TRAIN, targets=LABELS, examples=TRAIN, labels=LABELS, test_examples=TEST, test_labels=TEST_LABELS)
    with pytest.raises(ValueError, match=message):
        metrics.substitutability(**{**given, **changes})
