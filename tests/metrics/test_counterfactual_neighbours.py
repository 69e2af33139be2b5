"""Neighbours, prototypes and densities, against scikit-learn, SciPy and closed forms."""

import functools

import counterfactual_toys as toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.neighbors import NearestNeighbors

from jxai.metrics import counterfactual as metrics
from jxai.metrics.counterfactual.neighbours import nearest

pytestmark = pytest.mark.usefixtures("quick_compilation")

EXAMPLES, LABELS = toys.data()
X, COUNTERFACTUAL, TARGET = map(np.asarray, toys.pairs(12))
DATA = {"examples": EXAMPLES, "labels": LABELS}
METRICS = {"l1": "cityblock", "l2": "euclidean"}


@functools.cache
def compiled(name, options):
    metric = getattr(metrics, name)
    return jax.jit(jax.vmap(lambda f, x, v, t, data: metric(f, x, v, t, **dict(options), **data), (None, 0, 0, 0, None)))


def batched(name, *, f=None, pairs=(X, COUNTERFACTUAL, TARGET), **options):
    """The metric of many pairs: one program for each set of options; models and data are arguments."""
    data = {key: options.pop(key) for key in ("examples", "labels", "prototypes", "density") if key in options}
    return np.asarray(compiled(name, tuple(sorted(options.items())))(f, *pairs, data))


def one(name, x, v, t, **options):
    return batched(name, pairs=(np.float32(x)[None], np.float32(v)[None], np.int32([t])), **options)[0]


def find(v, examples, k, allowed=None, **options):
    return map(np.asarray, jax.jit(lambda v, examples, allowed: nearest(v, examples, k, allowed=allowed, **options))(v, examples, allowed))


def square(v):
    return v[:4] ** 2


@pytest.mark.parametrize(
    "distance, chunk",
    [pytest.param(name, n, marks=() if (name, n) in [("l1", 7), ("l2", 1000)] else pytest.mark.slow) for name in METRICS for n in (7, 200, 1000)],
)
def test_nearest_is_scikit_learns(distance, chunk):
    far, at = NearestNeighbors(n_neighbors=9, metric=METRICS[distance], algorithm="brute").fit(EXAMPLES).kneighbors(COUNTERFACTUAL)
    found = jax.jit(jax.vmap(lambda v: nearest(v, EXAMPLES, 9, distance=distance, chunk=chunk)))(COUNTERFACTUAL)
    assert np.allclose(found[0], far, rtol=1e-5) and np.array_equal(found[1], at)


def test_nearest_takes_the_first_of_equals_and_only_what_is_allowed():
    examples, zero = np.float32([[2], [1], [1], [-1], [5]]), np.zeros(1, np.float32)
    far, at = find(zero, examples, 3, chunk=2)
    assert at.tolist() == [1, 2, 3] and far.tolist() == [1, 1, 1]
    far, at = find(zero, examples, 3, allowed=np.array([True, False, False, False, True]), chunk=2)
    assert at.tolist() == [0, 4, -1] and far.tolist() == [2, 5, np.inf]
    # An example that is not a number is near nothing.
    _, at = find(zero, np.where(np.arange(5)[:, None] == 1, np.nan, examples), 3, chunk=2)
    assert at.tolist() == [2, 3, 0]
    # All examples, images among them.
    far, at = find(np.zeros((2, 1, 1), np.float32), np.float32([3, 0])[:, None, None, None] * np.ones((2, 1, 1), np.float32), 2)
    assert at.tolist() == [1, 0] and np.allclose(far, [0, 3 * 2**0.5])


def test_a_near_point_far_from_the_origin_is_found_exactly():
    """Differences, not the expansion `‖a‖² − 2ab + ‖b‖²`, which would lose both."""
    examples = 1e4 + np.array([[0.0, 0.5], [0.25, 0.25]], np.float32)
    far, at = find(examples[1] + np.float32(0.125), examples, 1)
    assert at[0] == 1 and far[0] == pytest.approx(0.125 * 2**0.5)


@pytest.mark.parametrize("distance", ["l1", pytest.param("l2", marks=pytest.mark.slow)])
def test_nearest_target_distance_and_trust_score(distance):
    far = cdist(COUNTERFACTUAL, EXAMPLES, METRICS[distance])
    own = LABELS[None] == TARGET[:, None]
    to_own, to_other = (np.where(of, far, np.inf).min(1) for of in (own, ~own))
    assert np.allclose(batched("nearest_target_distance", distance=distance, chunk=64, **DATA), to_own, rtol=1e-5)
    assert np.allclose(batched("trust_score", distance=distance, chunk=64, **DATA), to_other / to_own, rtol=1e-4)


def test_distances_in_a_space_of_features():
    examples = EXAMPLES[:, :4] ** 2
    far = cdist(COUNTERFACTUAL[:, :4] ** 2, examples)
    expected = np.where(LABELS[None] == TARGET[:, None], far, np.inf).min(1)
    assert np.allclose(batched("nearest_target_distance", examples=examples, labels=LABELS, features=square), expected, rtol=1e-4)
    nearest_labels = LABELS[np.argsort(far, 1)[:, :3]]
    share = batched("knn_target_share", examples=examples, labels=LABELS, k=3, features=square)
    assert np.allclose(share, (nearest_labels == TARGET[:, None]).mean(1))


def test_neighbours_of_a_class_without_examples_are_nan():
    v, ones, twos = COUNTERFACTUAL[0], np.ones_like(LABELS), np.full_like(LABELS, 2)
    for name, labels, target, empty in [
        ("nearest_target_distance", twos, 1, True),
        ("nearest_target_distance", ones, 1, False),
        ("trust_score", twos, 1, True),
        ("trust_score", ones, 1, True),
    ]:
        assert np.isnan(one(name, X[0], v, target, examples=EXAMPLES, labels=labels)) == empty
    assert one("knn_target_share", X[0], v, 1, examples=EXAMPLES, labels=twos) == 0


def test_an_example_of_the_target_is_at_no_distance_and_trusted_without_bound():
    v = EXAMPLES[int(np.argmax(LABELS == 2))]
    assert one("nearest_target_distance", v, v, 2, **DATA) == 0 and one("trust_score", v, v, 2, **DATA) == np.inf
    assert one("trust_score", v, v, 1, **DATA) == 0


@pytest.mark.parametrize("k", [5, pytest.param(1, marks=pytest.mark.slow), pytest.param(200, marks=pytest.mark.slow)])
def test_knn_share_counts_labels_and_ynn_predictions(k):
    """CARLA's |t − argmax f| of two classes counts differences; here three classes, at the neighbours that scikit-learn finds."""
    f, target = toys.model(), TARGET
    at = NearestNeighbors(n_neighbors=k).fit(EXAMPLES).kneighbors(COUNTERFACTUAL, return_distance=False)
    assert np.allclose(batched("knn_target_share", k=k, **DATA), (LABELS[at] == target[:, None]).mean(1), atol=1e-6)
    predicted = toys.logits(f, EXAMPLES).argmax(1)
    assert np.allclose(batched("ynn", f=f, k=k, examples=EXAMPLES), 1 - (predicted[at] != target[:, None]).mean(1), atol=1e-6)


def test_ynn_of_two_classes_is_carlas_formula():
    f, target = toys.model(classes=2), TARGET % 2
    at = NearestNeighbors(n_neighbors=5).fit(EXAMPLES).kneighbors(COUNTERFACTUAL, return_distance=False)
    predicted = toys.logits(f, EXAMPLES).argmax(1)
    carla = 1 - sum(abs(int(t) - int(predicted[i])) for t, row in zip(target, at) for i in row) / (len(target) * 5)
    found = batched("ynn", f=f, pairs=(X, COUNTERFACTUAL, target), examples=EXAMPLES)
    assert np.mean(found) == pytest.approx(carla)


def test_prototype_gap_is_the_rest_of_the_way():
    """At a third of the way from x to the prototype, two thirds are left."""
    prototypes = np.stack([EXAMPLES[LABELS == c].mean(0) for c in range(3)])
    x = X[0]
    gap = lambda v, x=x: one("prototype_gap", x, v, 1, prototypes=prototypes)
    assert gap(x) == 1 and gap(prototypes[1]) == 0 and gap(x + (prototypes[1] - x) / 3) == pytest.approx(2 / 3, rel=1e-5)
    assert np.isnan(gap(x, prototypes[1]))
    mapped = one("prototype_gap", x, COUNTERFACTUAL[0], 1, prototypes=prototypes[:, :4], features=square)
    rows = [np.linalg.norm(v[:4] ** 2 - prototypes[1, :4]) for v in (COUNTERFACTUAL[0], x)]
    assert mapped == pytest.approx(rows[0] / rows[1], rel=1e-5)


def test_class_density_is_scipys():
    means, sigma = np.random.default_rng(3).normal(size=(3, toys.SIZE)), 0.8
    density = toys.Gaussians(means.astype(np.float32), np.float32(sigma))
    expected = [stats.multivariate_normal(means[int(t)], sigma**2 * np.eye(toys.SIZE)).logpdf(np.asarray(v)) for v, t in zip(COUNTERFACTUAL, TARGET)]
    assert np.allclose(batched("class_density", density=density), expected, rtol=1e-4)
    mapped = one("class_density", X[0], COUNTERFACTUAL[0], TARGET[0], density=density, features=jnp.negative)
    assert mapped == pytest.approx(stats.multivariate_normal(means[TARGET[0]], sigma**2 * np.eye(toys.SIZE)).logpdf(-COUNTERFACTUAL[0]), rel=1e-5)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("nearest_target_distance", {**DATA, "distance": "linf"}, "distance='linf' must be one of 'l1', 'l2'"),
        ("nearest_target_distance", {**DATA, "chunk": 0}, "chunk=0"),
        ("nearest_target_distance", {"examples": EXAMPLES[:0], "labels": LABELS[:0]}, r"examples must be \[n, \*\(6,\)\]"),
        ("nearest_target_distance", {"examples": EXAMPLES[:, :4], "labels": LABELS}, r"examples must be \[n, \*\(6,\)\]"),
        ("knn_target_share", {"examples": EXAMPLES, "labels": LABELS[:-1]}, r"labels must be integers \[200\]"),
        ("trust_score", {"examples": EXAMPLES, "labels": LABELS.astype(np.float32)}, r"labels must be integers \[200\]"),
        ("knn_target_share", {**DATA, "k": 201}, "k=201 must be at most the number of examples, 200"),
        ("ynn", {"examples": EXAMPLES, "k": 0}, "k=0"),
        ("prototype_gap", {"prototypes": np.zeros((3, 4))}, r"prototypes must be \[K, \*\(6,\)\]"),
        ("class_density", {"density": toys.Normal(np.zeros(toys.SIZE, np.float32))}, "density.log_prob must give a log-density for each class"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(toys.model(), X[0], COUNTERFACTUAL[0], 1, **options)
