"""Neighbours, prototypes and densities, against scikit-learn, SciPy and closed forms."""

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
X, COUNTERFACTUAL, TARGET = toys.pairs(12)
DATA = {"examples": EXAMPLES, "labels": LABELS}
METRICS = {"l1": "cityblock", "l2": "euclidean"}


def batched(name, *, f=None, **options):
    return np.asarray(jax.vmap(lambda x, v, t: getattr(metrics, name)(f, x, v, t, **options))(X, COUNTERFACTUAL, TARGET))


def square(v):
    return v[:4] ** 2


@pytest.mark.parametrize("distance", METRICS)
@pytest.mark.parametrize("chunk", [7, 200, 1000])
def test_nearest_is_scikit_learns(distance, chunk):
    far, at = NearestNeighbors(n_neighbors=9, metric=METRICS[distance], algorithm="brute").fit(EXAMPLES).kneighbors(COUNTERFACTUAL)
    found = jax.vmap(lambda v: nearest(v, EXAMPLES, 9, distance=distance, chunk=chunk))(COUNTERFACTUAL)
    assert np.allclose(found[0], far, rtol=1e-5) and np.array_equal(found[1], at)


def test_nearest_takes_the_first_of_equals_and_only_what_is_allowed():
    examples = jnp.array([[2.0], [1.0], [1.0], [-1.0], [5.0]])
    far, at = nearest(jnp.zeros(1), examples, 3, chunk=2)
    assert at.tolist() == [1, 2, 3] and far.tolist() == [1, 1, 1]
    far, at = nearest(jnp.zeros(1), examples, 3, allowed=jnp.array([True, False, False, False, True]), chunk=2)
    assert at.tolist() == [0, 4, -1] and far.tolist() == [2, 5, np.inf]
    # An example that is not a number is near nothing.
    assert nearest(jnp.zeros(1), examples.at[1].set(jnp.nan), 2)[1].tolist() == [2, 3]
    # All examples, images among them.
    far, at = nearest(jnp.zeros((2, 1, 1)), jnp.array([3.0, 0.0])[:, None, None, None] * jnp.ones((2, 1, 1)), 2)
    assert at.tolist() == [1, 0] and np.allclose(far, [0, 3 * 2**0.5])


def test_a_near_point_far_from_the_origin_is_found_exactly():
    """Differences, not the expansion `‖a‖² − 2ab + ‖b‖²`, which would lose both."""
    examples = 1e4 + np.array([[0.0, 0.5], [0.25, 0.25]], np.float32)
    far, at = nearest(jnp.asarray(examples[1] + np.float32(0.125)), examples, 1)
    assert at[0] == 1 and far[0] == pytest.approx(0.125 * 2**0.5)


@pytest.mark.parametrize("distance", METRICS)
def test_nearest_target_distance_and_trust_score(distance):
    far = cdist(COUNTERFACTUAL, EXAMPLES, METRICS[distance])
    own = LABELS[None] == np.asarray(TARGET)[:, None]
    to_own, to_other = (np.where(of, far, np.inf).min(1) for of in (own, ~own))
    assert np.allclose(batched("nearest_target_distance", distance=distance, chunk=64, **DATA), to_own, rtol=1e-5)
    assert np.allclose(batched("trust_score", distance=distance, chunk=64, **DATA), to_other / to_own, rtol=1e-4)


def test_distances_in_a_space_of_features():
    examples = EXAMPLES[:, :4] ** 2
    far = cdist(np.asarray(COUNTERFACTUAL)[:, :4] ** 2, examples)
    expected = np.where(LABELS[None] == np.asarray(TARGET)[:, None], far, np.inf).min(1)
    assert np.allclose(batched("nearest_target_distance", examples=examples, labels=LABELS, features=square), expected, rtol=1e-4)
    nearest_labels = LABELS[np.argsort(far, 1)[:, :3]]
    share = batched("knn_target_share", examples=examples, labels=LABELS, k=3, features=square)
    assert np.allclose(share, (nearest_labels == np.asarray(TARGET)[:, None]).mean(1))


def test_neighbours_of_a_class_without_examples_are_nan():
    v, other = COUNTERFACTUAL[0], {"examples": EXAMPLES[LABELS != 1], "labels": LABELS[LABELS != 1]}
    assert np.isnan(metrics.nearest_target_distance(None, X[0], v, 1, **other)) and np.isnan(metrics.trust_score(None, X[0], v, 1, **other))
    only = {"examples": EXAMPLES[LABELS == 1], "labels": LABELS[LABELS == 1]}
    assert np.isfinite(metrics.nearest_target_distance(None, X[0], v, 1, **only)) and np.isnan(metrics.trust_score(None, X[0], v, 1, **only))
    assert metrics.knn_target_share(None, X[0], v, 1, **other) == 0


def test_an_example_of_the_target_is_at_no_distance_and_trusted_without_bound():
    row = int(np.argmax(LABELS == 2))
    v = jnp.asarray(EXAMPLES[row])
    assert metrics.nearest_target_distance(None, v, v, 2, **DATA) == 0 and metrics.trust_score(None, v, v, 2, **DATA) == np.inf
    assert metrics.trust_score(None, v, v, 1, **DATA) == 0


@pytest.mark.parametrize("k", [1, 5, 200])
def test_knn_share_counts_labels_and_ynn_predictions(k):
    """CARLA's |t − argmax f| of two classes counts differences; here three classes, at the neighbours that scikit-learn finds."""
    f, target = toys.model(), np.asarray(TARGET)
    at = NearestNeighbors(n_neighbors=k).fit(EXAMPLES).kneighbors(COUNTERFACTUAL, return_distance=False)
    assert np.allclose(batched("knn_target_share", k=k, **DATA), (LABELS[at] == target[:, None]).mean(1), atol=1e-6)
    predicted = np.asarray(jax.vmap(f)(EXAMPLES).argmax(1))
    assert np.allclose(batched("ynn", f=f, k=k, examples=EXAMPLES), 1 - (predicted[at] != target[:, None]).mean(1), atol=1e-6)


def test_ynn_of_two_classes_is_carlas_formula():
    f, target = toys.model(classes=2), np.asarray(TARGET) % 2
    at = NearestNeighbors(n_neighbors=5).fit(EXAMPLES).kneighbors(COUNTERFACTUAL, return_distance=False)
    predicted = np.asarray(jax.vmap(f)(EXAMPLES).argmax(1))
    carla = 1 - sum(abs(int(t) - int(predicted[i])) for t, row in zip(target, at) for i in row) / (len(target) * 5)
    found = [metrics.ynn(f, x, v, int(t), examples=EXAMPLES) for x, v, t in zip(X, COUNTERFACTUAL, target)]
    assert np.mean(found) == pytest.approx(carla)


def test_prototype_gap_is_the_rest_of_the_way():
    """At a third of the way from x to the prototype, two thirds are left."""
    prototypes = jnp.asarray(np.stack([EXAMPLES[LABELS == c].mean(0) for c in range(3)]))
    x = X[0]
    gap = lambda v, t=1, **options: metrics.prototype_gap(None, x, v, t, prototypes=prototypes, **options)
    assert gap(x) == 1 and gap(prototypes[1]) == 0 and gap(x + (prototypes[1] - x) / 3) == pytest.approx(2 / 3, rel=1e-5)
    assert np.isnan(metrics.prototype_gap(None, prototypes[1], x, 1, prototypes=prototypes))
    mapped = metrics.prototype_gap(None, x, COUNTERFACTUAL[0], 1, prototypes=prototypes[:, :4], features=square)
    rows = [np.linalg.norm(np.asarray(v)[:4] ** 2 - np.asarray(prototypes[1, :4])) for v in (COUNTERFACTUAL[0], x)]
    assert mapped == pytest.approx(rows[0] / rows[1], rel=1e-5)


def test_class_density_is_scipys():
    means, sigma = np.random.default_rng(3).normal(size=(3, toys.SIZE)), 0.8
    density = toys.Gaussians(jnp.asarray(means, jnp.float32), jnp.float32(sigma))
    expected = [stats.multivariate_normal(means[int(t)], sigma**2 * np.eye(toys.SIZE)).logpdf(np.asarray(v)) for v, t in zip(COUNTERFACTUAL, TARGET)]
    assert np.allclose(batched("class_density", density=density), expected, rtol=1e-4)
    mapped = metrics.class_density(None, X[0], COUNTERFACTUAL[0], TARGET[0], density=density, features=jnp.negative)
    assert mapped == pytest.approx(float(density.log_prob(-COUNTERFACTUAL[0])[TARGET[0]]), rel=1e-5)


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
        ("prototype_gap", {"prototypes": jnp.zeros((3, 4))}, r"prototypes must be \[K, \*\(6,\)\]"),
        ("class_density", {"density": toys.Normal(jnp.zeros(toys.SIZE))}, "density.log_prob must give a log-density for each class"),
    ],
)
def test_bad_options_are_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(toys.model(), X[0], COUNTERFACTUAL[0], 1, **options)
