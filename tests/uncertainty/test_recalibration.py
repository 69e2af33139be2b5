"""Recalibration: against scikit-learn and the conditions of each optimum; as a function of logits and as a model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.special
import scipy.stats

from jxai import attribution, each
from jxai.uncertainty import calibration as c

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
N, K = 300, 3
Z = (RNG.normal(size=(N, K)) * 2).astype(np.float32)
LABELS = np.array([RNG.choice(K, p=p) for p in scipy.special.softmax(np.float64(Z) * [0.4, 0.7, 0.5] + [0, 0.5, 0], axis=1)])
FITS = (c.fit_temperature, c.fit_vector, c.fit_matrix, c.fit_dirichlet, c.fit_isotonic, c.fit_histogram)


def likelihood(logits):
    return -scipy.special.log_softmax(np.float64(logits), axis=1)[np.arange(N), LABELS].mean()


def penalised(fitted, off_diagonal, bias):
    """The objective of matrix scaling or Dirichlet calibration, from its formula."""

    def value(theta):
        w, b = theta[: K * K].reshape(K, K), theta[K * K :]
        x = scipy.special.log_softmax(np.float64(Z), axis=1) if isinstance(fitted, c.Dirichlet) else np.float64(Z)
        return likelihood(x @ w + b) + off_diagonal * (w**2)[~np.eye(K, dtype=bool)].sum() / (K * (K - 1)) + bias * (b**2).mean()

    return value, np.concatenate([np.ravel(fitted.weights), fitted.bias]).astype(np.float64)


def assert_least(value, theta):
    steps = 1e-3 * np.eye(len(theta))
    assert all(value(theta) <= value(theta + sign * step) + 1e-9 for step in steps for sign in (1, -1))


def test_the_temperature_is_the_likeliest():
    fitted = c.fit_temperature(Z, LABELS)
    value = lambda t: likelihood(Z / t[0])
    assert_least(value, np.float64([fitted.temperature]))
    np.testing.assert_allclose(fitted.temperature, scipy.optimize.minimize_scalar(lambda t: value([t]), bounds=(0.1, 20), options={"xatol": 1e-8}).x, rtol=1e-4)
    np.testing.assert_allclose(c.fit_temperature(1000 * Z - 5e4, LABELS).temperature, 1000 * fitted.temperature, rtol=2e-3)  # float32 of 5e4 knows thousandths
    np.testing.assert_array_equal(fitted(Z).argmax(1), Z.argmax(1))


def test_temperature_and_matrix_scaling_are_scikit_learns():
    linear = pytest.importorskip("sklearn.linear_model")
    theirs = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000).fit(np.float64(Z), LABELS).predict_proba(np.float64(Z))
    np.testing.assert_allclose(jax.nn.softmax(c.fit_matrix(Z, LABELS)(Z)), theirs, atol=1e-4)
    np.testing.assert_allclose(jax.nn.softmax(c.fit_temperature(Z, LABELS)(Z)), theirs_by("temperature", scores=True), atol=1e-3)


def theirs_by(method, *, scores):
    calibration, base, frozen = (pytest.importorskip(f"sklearn.{name}") for name in ("calibration", "base", "frozen"))

    class Given(base.ClassifierMixin, base.BaseEstimator):
        """A model that was fitted elsewhere: of logits it returns these, or their softmax."""

        classes_ = np.arange(K)

        def fit(self, x, y):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def predict(self, x):
            return x.argmax(1)

        def predict_proba(self, x):
            return scipy.special.softmax(x, axis=1)

    def decision_function(self, x):
        return x

    if scores:
        Given.decision_function = decision_function
    return calibration.CalibratedClassifierCV(frozen.FrozenEstimator(Given()), method=method, cv=None).fit(Z, LABELS).predict_proba(Z)


def test_isotonic_recalibration_is_scikit_learns():
    np.testing.assert_allclose(jax.nn.softmax(c.fit_isotonic(Z, LABELS)(Z)), theirs_by("isotonic", scores=False), atol=2e-4)
    isotonic = pytest.importorskip("sklearn.isotonic")
    ties = np.round(Z)
    fitted, p = c.fit_isotonic(ties, LABELS), np.asarray(jax.nn.softmax(ties))
    new = np.linspace(0, 1, 50)
    for k in range(K):
        theirs = isotonic.IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(np.float64(p[:, k]), LABELS == k).predict(new)
        np.testing.assert_allclose(np.interp(new, fitted.places[k], fitted.values[k]), theirs, atol=1e-4)


def test_vector_matrix_and_dirichlet_are_least():
    fitted = c.fit_vector(Z, LABELS)
    assert_least(lambda t: likelihood(Z * t[:K] + t[K:]), np.concatenate([fitted.scale, fitted.bias]).astype(np.float64))
    np.testing.assert_allclose(fitted(Z[0]), Z[0] * fitted.scale + fitted.bias, rtol=1e-5)
    for fit in (c.fit_matrix, c.fit_dirichlet):
        assert_least(*penalised(fit(Z, LABELS, off_diagonal=0.3, bias=0.1), 0.3, 0.1))
    # Penalties leave vector scaling; Dirichlet calibration is of log-probabilities.
    np.testing.assert_allclose(c.fit_matrix(Z, LABELS, off_diagonal=1e6)(Z[0]) - fitted(Z[0]), np.zeros(K), atol=2e-2)
    shifted = c.fit_dirichlet(Z, LABELS)
    np.testing.assert_allclose(shifted(Z + 7), shifted(Z), atol=1e-4)


def test_histogram_bins_hold_the_shares_of_their_classes():
    p = np.asarray(jax.nn.softmax(Z))
    for binning in ("width", "mass"):
        q = np.asarray(jax.nn.softmax(c.fit_histogram(Z, LABELS, bins=5, binning=binning)(Z)))
        shares = np.zeros((N, K))
        for k in range(K):
            order = np.argsort(p[:, k])
            group = np.digitize(p[:, k], np.arange(1, 5) / 5, right=True) if binning == "width" else np.empty(N, int)
            if binning == "mass":
                group[order] = np.repeat(range(5), [len(part) for part in np.array_split(order, 5)])
            shares[:, k] = [(LABELS[group == g] == k).mean() for g in group]
        np.testing.assert_allclose(q, shares / shares.sum(1, keepdims=True), atol=1e-5)
    few = np.float32([[0, 0], [0, 0], [0, 0], [0, 2], [0, 2], [2, 0]])
    fitted = c.fit_histogram(few, np.array([0, 1, 0, 1, 1, 0]), bins=6)
    np.testing.assert_allclose(jax.nn.softmax(fitted(few)), [[2 / 3, 1 / 3]] * 3 + [[0, 1]] * 2 + [[1, 0]], atol=1e-6)
    wide = c.fit_histogram(few, np.array([0, 1, 0, 1, 1, 0]), bins=10, binning="width")
    np.testing.assert_allclose(wide.values[0, 7], 0.75)  # a bin without examples keeps its middle


def test_what_steps_return_are_logarithms_of_probabilities():
    fitted = c.Isotonic(np.float32([[0.0, 1.0]] * 3), np.float32([[0.0, 0.5], [0.0, 0.5], [0.0, 0.0]]))
    np.testing.assert_allclose(np.exp(fitted(np.float32([0.0, 2.0, -1.0]))).sum(), 1, rtol=1e-5)
    nothing = c.Isotonic(np.float32([[0.0, 1.0]] * 3), np.zeros((3, 2), np.float32))
    np.testing.assert_allclose(np.exp(nothing(Z[0])), 1 / 3, rtol=1e-6)


def test_recalibration_calibrates():
    fresh = (RNG.normal(size=(4000, K)) * 2).astype(np.float32)
    labels = np.array([RNG.choice(K, p=p) for p in scipy.special.softmax(np.float64(fresh) * [0.4, 0.7, 0.5] + [0, 0.5, 0], axis=1)])
    before = c.expected_calibration_error(jax.nn.softmax(fresh), labels)
    for fit in FITS:
        assert c.expected_calibration_error(jax.nn.softmax(fit(Z, LABELS)(fresh)), labels) < 0.5 * before, fit


WEIGHTS = RNG.normal(size=(4, K)).astype(np.float32)
MODEL = jax.tree_util.Partial(lambda w, x: jnp.tanh(x) @ w, WEIGHTS)
XS = RNG.normal(size=(5, 4)).astype(np.float32)


@pytest.mark.parametrize("fit", FITS, ids=lambda fit: fit.__name__)
def test_a_fitted_object_makes_a_model(fit):
    fitted = fit(Z, LABELS)
    f = fitted.model(MODEL)
    truth = np.stack([fitted(MODEL(x)) for x in XS])
    run = jax.jit(lambda f, x: f(x))
    np.testing.assert_allclose([run(f, x) for x in XS], truth, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted(jax.vmap(MODEL)(XS)), truth, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(fitted(MODEL)(XS[0]), truth[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(each(attribution.gradient, f, XS, 1)[2], jax.grad(lambda x: f(x)[1])(XS[2]), atol=1e-5)


def test_new_numbers_trace_nothing_anew_and_attributions_are_of_the_new_logits():
    traces = []
    counted = jax.jit(lambda f, x: traces.append(0) or f(x))
    for t in (1.5, 3.0):
        counted(c.TemperatureScaling(jnp.float32(t)).model(MODEL), XS[0])
    assert len(traces) == 1
    f = c.fit_vector(Z, LABELS).model(MODEL)
    a = attribution.integrated_gradients(f, XS[0], 2, baseline=0.0, steps=64)
    np.testing.assert_allclose(a.sum(), f(XS[0])[2] - f(0 * XS[0])[2], atol=1e-3)
    halved = c.TemperatureScaling(jnp.float32(2.0)).model(MODEL)
    for method in (attribution.gradient, attribution.lrp):
        np.testing.assert_allclose(method(halved, XS[0], 1), method(MODEL, XS[0], 1) / 2, rtol=1e-4, atol=1e-6)


def test_stricter_rules_of_promotion_are_nobodys_concern():
    fitted = c.VectorScaling(jnp.ones(K), jnp.zeros(K))
    with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
        np.testing.assert_array_equal(fitted(Z), Z)
        assert fitted(Z.astype(np.float16)).dtype == np.float32


ONE = np.zeros(N, int)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: c.fit_temperature(scipy.special.softmax(Z, axis=1), LABELS), "logits must be logits, but they are probabilities"),
        (lambda: c.fit_temperature(Z, LABELS[1:]), "of the same examples"),
        (lambda: c.fit_temperature(np.where(Z == Z.max(), np.nan, Z), LABELS), "has NaN"),
        (lambda: c.fit_temperature(Z[:, :1], ONE), "two classes or more"),
        (lambda: c.fit_temperature(Z, LABELS + 1), "labels must be classes"),
        (lambda: c.fit_temperature(Z, Z.argmax(1)), "every label has the largest logit"),
        (lambda: c.fit_temperature(Z, Z.argmin(1)), "no larger logits than the mean"),
        (lambda: c.fit_temperature(np.where(Z == Z.min(), -np.inf, Z), LABELS), "logits must be finite to be fitted to"),
        (lambda: c.fit_vector(Z, LABELS % 2), "class 2 has none"),
        (lambda: c.fit_isotonic(Z, LABELS % 2), "class 2 has none"),
        (lambda: c.fit_matrix(Z[:6], np.arange(6) % 3), "tells the classes of all 6 examples"),
        (lambda: c.fit_matrix(Z, LABELS, bias=-1), "bias=-1 must be"),
        (lambda: c.fit_dirichlet(Z, LABELS, off_diagonal=np.nan), "off_diagonal=nan must be"),
        (lambda: c.fit_histogram(Z, LABELS, binning="distinct"), "binning='distinct' must be one of"),
        (lambda: c.fit_histogram(Z, LABELS, bins=2.5), "bins=2.5 must be"),
        (lambda: jax.jit(c.fit_temperature)(Z, LABELS), "call fit_temperature outside of jit"),
        (lambda: c.VectorScaling(jnp.ones(4), jnp.zeros(4))(Z), "logits must be of 4 classes"),
        (lambda: c.TemperatureScaling(jnp.float32(2))(scipy.special.softmax(Z, axis=1)), "they are probabilities"),
        (lambda: c.TemperatureScaling(jnp.float32(2))(Z[None]), r"logits must be floating-point \[n, K\]"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
