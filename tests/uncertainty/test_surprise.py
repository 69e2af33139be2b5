"""Surprise adequacy against SciPy, scikit-learn and NumPy, and Dissector against its formula."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import gaussian_kde
from sklearn.covariance import EmpiricalCovariance

from jxai import uncertainty
from jxai.uncertainty import formulas

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
LABELS = np.arange(60) % 3
FEATURES = (RNG.normal(size=(60, 5)) @ RNG.normal(size=(5, 5)) + LABELS[:, None]).astype(np.float32)
LOGITS = (4 * np.eye(3)[LABELS] + RNG.normal(0, 0.1, (60, 3))).astype(np.float32)
QUERIES = RNG.normal(0.5, 2, (9, 5)).astype(np.float32)
CLASSES = RNG.integers(0, 3, 9)
ANSWERS = (3 * np.eye(3)[CLASSES]).astype(np.float32)


def scored(formula, fitted, queries=QUERIES, answers=ANSWERS):
    return np.asarray(jax.jit(jax.vmap(lambda z, h: formula(z, h, fitted)))(answers, queries))


@pytest.mark.parametrize("by_class", [True, False])
def test_lsa_is_that_of_scipy(by_class):
    fitted = uncertainty.fit_lsa(FEATURES, LOGITS, LABELS, by_class=by_class)
    own = lambda c: FEATURES[LABELS == c] if by_class else FEATURES
    expected = [-gaussian_kde(own(c).T.astype(np.float64)).logpdf(h)[0] for c, h in zip(CLASSES, QUERIES)]
    np.testing.assert_allclose(scored(formulas.lsa, fitted), expected, rtol=1e-4)


def test_lsa_keeps_the_features_that_vary_most_in_the_class():
    fitted = uncertainty.fit_lsa(FEATURES, LOGITS, num_features=2)
    expected = []
    for c, h in zip(CLASSES, QUERIES):
        own = FEATURES[LABELS == c].astype(np.float64)
        kept = np.argsort(-own.var(0))[:2]
        expected.append(-gaussian_kde(own[:, kept].T).logpdf(h[kept])[0])
    np.testing.assert_allclose(scored(formulas.lsa, fitted), expected, rtol=1e-4)


def test_lsa_is_finite_where_the_density_is_0_and_where_features_are_dead():
    """dnn-tip's `−log(density)` is infinite there, and of a singular covariance it replaces the diagonal."""
    far = 1e3 + QUERIES
    assert gaussian_kde(FEATURES[LABELS == CLASSES[0]].T.astype(np.float64))(far[0])[0] == 0
    assert np.isfinite(scored(formulas.lsa, uncertainty.fit_lsa(FEATURES, LOGITS), far)).all()
    dead = np.pad(FEATURES, ((0, 0), (0, 2)))
    fitted = uncertainty.fit_lsa(dead, LOGITS)
    inside, lit = (np.pad(FEATURES[:9], ((0, 0), (0, 2)), constant_values=v) for v in (0, 1))
    assert (scored(formulas.lsa, fitted, lit, LOGITS[:9]) > scored(formulas.lsa, fitted, inside, LOGITS[:9]) + 100).all()


@pytest.mark.parametrize("away", [0, 3e3])
def test_dsa_is_the_ratio_of_distances(away):
    """Also of features that all lie far from 0, where `‖p‖² − 2 ⟨p, h⟩` in float32 says nothing of which is nearest."""
    features, queries = FEATURES + np.float32(away), QUERIES + np.float32(away)
    fitted = uncertainty.fit_dsa(features, LOGITS)
    distances = cdist(features.astype(np.float64), features)
    expected = []
    for c, h in zip(CLASSES, queries):
        own = np.flatnonzero(LABELS == c)
        a = own[np.linalg.norm(features[own] - h, axis=1).argmin()]
        expected.append(np.linalg.norm(features[a] - h) / distances[a][LABELS != c].min())
    np.testing.assert_allclose(scored(formulas.dsa, fitted, queries), expected, rtol=1e-5)
    np.testing.assert_array_equal(scored(formulas.dsa, fitted, features, LOGITS), 0)


@pytest.mark.parametrize("by_class", [True, False])
def test_mdsa_is_that_of_scikit_learn(by_class):
    fitted = uncertainty.fit_mdsa(FEATURES, LOGITS, LABELS, by_class=by_class)
    own = lambda c: FEATURES[LABELS == c] if by_class else FEATURES
    expected = [EmpiricalCovariance().fit(own(c).astype(np.float64)).mahalanobis(h[None])[0] for c, h in zip(CLASSES, QUERIES)]
    np.testing.assert_allclose(scored(formulas.mdsa, fitted), expected, rtol=1e-4)


def test_mdsa_of_a_singular_covariance_is_by_the_pseudo_inverse():
    twice = np.concatenate([FEATURES, FEATURES[:, :1]], 1)
    plain, fitted = (scored(formulas.mdsa, uncertainty.fit_mdsa(v, LOGITS), v[:9], LOGITS[:9]) for v in (FEATURES, twice))
    np.testing.assert_allclose(fitted, plain, rtol=1e-3)


def test_the_class_that_is_predicted_counts_not_the_label():
    wrong = (LABELS + 1) % 3
    for name in ("lsa", "dsa", "mdsa"):
        fit, formula = getattr(uncertainty, f"fit_{name}"), getattr(formulas, name)
        np.testing.assert_array_equal(scored(formula, fit(FEATURES, LOGITS, wrong)), scored(formula, fit(FEATURES, LOGITS, LABELS)))


@pytest.mark.parametrize("name", ["lsa", "dsa", "mdsa"])
def test_bad_fits(name):
    fit, formula = getattr(uncertainty, f"fit_{name}"), getattr(formulas, name)
    with pytest.raises(ValueError, match="class 2 is of 0 by logits"):
        fit(FEATURES, np.float32([[1, 0, -9]]).repeat(60, 0) * (1 - 2 * (LABELS[:, None] == 1)) - np.float32([0, 0, 20]))
    with pytest.raises(ValueError, match="features and logits must be of the same examples, got lengths 60, 59"):
        fit(FEATURES, LOGITS[:59])
    with pytest.raises(ValueError, match="logits must be logits, but they are probabilities"):
        fit(FEATURES, np.asarray(jax.nn.softmax(LOGITS)))
    with pytest.raises(ValueError, match=r"features must be finite, but features\[3\]"):
        fit(np.where(np.arange(60)[:, None] == 3, np.nan, FEATURES), LOGITS)
    with pytest.raises(ValueError, match=f"features and logits must be concrete.*fit_{name}"):
        jax.jit(lambda h, z: fit(h, z))(FEATURES, LOGITS)
    with pytest.raises(ValueError, match="fitted must be a .*, got None"):
        formula(ANSWERS[0], QUERIES[0])
    fitted = fit(FEATURES, LOGITS)
    with pytest.raises(ValueError, match="features must be .*D"):
        formula(ANSWERS[0], np.pad(QUERIES[0], (0, 3))[None], fitted)


@pytest.mark.parametrize("name", ["lsa", "dsa", "mdsa"])
def test_nan_is_no_answer_and_other_classes_are_an_error(name):
    formula, fitted = getattr(formulas, name), getattr(uncertainty, f"fit_{name}")(FEATURES, LOGITS)
    lost = jax.jit(jax.vmap(lambda z, h: formula(z, h, fitted)))
    answers, queries = ANSWERS.copy(), QUERIES.copy()
    answers[0, 1], queries[1, 2] = np.nan, np.nan
    np.testing.assert_array_equal(np.isnan(lost(answers, queries)), np.arange(9) < 2)
    with pytest.raises(ValueError, match="K = 3 classes"):
        formula(np.float32([1, 0, 0, 3]), QUERIES[0], fitted)
    with pytest.raises(ValueError, match="D = 5 entries"):
        formula(ANSWERS[0], np.pad(QUERIES[0], (0, 1)), fitted)


def test_dsa_needs_features_that_tell_classes_apart():
    with pytest.raises(ValueError, match=r"features\[0\] equals one that is predicted otherwise"):
        uncertainty.fit_dsa(np.ones((6, 2), np.float32), LOGITS[:6])


def test_dissector_follows_its_formula():
    layers = FEATURES[:, :2], FEATURES
    fitted = uncertainty.fit_dissector(layers, LOGITS, LABELS)
    v = []
    for h, head in zip((QUERIES[:, :2], QUERIES), fitted.heads):
        p = np.asarray(jax.nn.softmax(head(h)), np.float64)
        own = p[np.arange(9), CLASSES]
        second = np.where(np.arange(3) == CLASSES[:, None], 0, p).max(1)
        highest = p.max(1)
        v.append(np.where(p.argmax(1) == CLASSES, own / (own + second), 1 - highest / (highest + own)))
    for growth, weights in {"linear": [1, 2], "logarithmic": [1, 1 + np.log(2)], "exponential": [np.e, np.e**2]}.items():
        found = jax.vmap(lambda z, a, b: formulas.dissector(z, (a, b), fitted, growth=growth))(ANSWERS, QUERIES[:, :2], QUERIES)
        np.testing.assert_allclose(found, -np.average(v, axis=0, weights=weights), rtol=2e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_dissectors_heads_are_the_regression_of_scikit_learn(classes):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels, logits = LABELS % classes, LOGITS[:, :classes]
    fitted = uncertainty.fit_dissector((FEATURES,), logits, labels)
    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(FEATURES.astype(np.float64), labels)
    np.testing.assert_allclose(jax.nn.softmax(fitted.heads[0](QUERIES)), peer.predict_proba(QUERIES), atol=2e-3)


def test_bad_dissectors():
    fitted = uncertainty.fit_dissector((FEATURES,), LOGITS, LABELS)
    with pytest.raises(ValueError, match="of the 1 layers that were fitted, got 2"):
        formulas.dissector(ANSWERS[0], (QUERIES[0], QUERIES[0]), fitted)
    with pytest.raises(ValueError, match="features must be a tuple"):
        formulas.dissector(ANSWERS[0], QUERIES[0], fitted)
    with pytest.raises(ValueError, match="growth='square' must be one of"):
        formulas.dissector(ANSWERS[0], (QUERIES[0],), fitted, growth="square")
    with pytest.raises(ValueError, match="of class 2 there are fewer"):
        uncertainty.fit_dissector((FEATURES,), LOGITS, LABELS % 2)
