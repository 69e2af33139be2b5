"""Last-layer Laplace: against the exact posterior of a linear model, the dense curvature, and draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from jax.tree_util import Partial

from jxai.uncertainty import LaplaceModel, fit_laplace, laplace_variance, load, mutual_information, save

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
H = RNG.normal(size=(40, 3)).astype(np.float32)
PHI = np.concatenate([H, np.ones((40, 1))], 1).astype(np.float64)
W, B = RNG.normal(size=(3, 4)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
LOGITS = H @ W + B
X = np.float32([0.5, -2, 1])
Q = np.append(X, 1).astype(np.float64)


def linear(w, b, x):
    return x @ w + b


MODEL = Partial(linear, W, B)


@jax.jit
def covariance(fitted, x):
    return fitted.covariance(x), fitted.variance(x)


def dense(blocks, prior):
    """`φᵀ (Σ_i φ_i φ_iᵀ ⊗ Λ_i + τ I)⁻¹ φ` with the weights of a class side by side."""
    k = blocks.shape[-1]
    total = prior * np.eye(4 * k) + sum(np.kron(np.outer(phi, phi), block) for phi, block in zip(PHI, blocks))
    jacobian = np.kron(Q, np.eye(k))
    return jacobian @ np.linalg.inv(total) @ jacobian.T


def test_a_linear_regression_has_its_exact_posterior():
    """Bishop's `(τ I + Φᵀ Φ / s²)⁻¹` for each output, outputs apart."""
    fitted = fit_laplace(H, LOGITS[:, :1], prior_precision=0.3, likelihood="gaussian", noise=0.7)
    exact = Q @ np.linalg.inv(0.3 * np.eye(4) + PHI.T @ PHI / 0.49) @ Q
    np.testing.assert_allclose(covariance(fitted, X)[0], [[exact]], rtol=1e-4)
    several = fit_laplace(H, LOGITS, prior_precision=0.3, likelihood="gaussian", noise=0.7)
    np.testing.assert_allclose(covariance(several, X)[0], exact * np.eye(4), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(dense(np.tile(np.eye(4) / 0.49, (40, 1, 1)), 0.3), exact * np.eye(4), rtol=1e-8, atol=1e-12)


def test_the_kronecker_form_is_the_inverse_of_the_dense_one():
    p = scipy.special.softmax(LOGITS.astype(np.float64), 1)
    curvatures = np.einsum("nk,kl->nkl", p, np.eye(4)) - np.einsum("nk,nl->nkl", p, p)
    fitted = fit_laplace(H, LOGITS, prior_precision=0.5)
    found, variances = covariance(fitted, X)
    np.testing.assert_allclose(found, dense(np.tile(curvatures.mean(0), (40, 1, 1)), 0.5), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(variances, np.diag(found), rtol=1e-5)
    # Where all examples have one answer the factors lose nothing.
    alike = np.tile(LOGITS[:1], (40, 1))
    np.testing.assert_allclose(
        covariance(fit_laplace(H, alike, prior_precision=0.5), X)[0], dense(np.tile(curvatures[0], (40, 1, 1)), 0.5), rtol=1e-3, atol=1e-5
    )


def test_curvature_is_a_sum_over_examples():
    """Means (kfac-jax) would leave the variance as it is."""
    once, often = (fit_laplace(np.tile(H, (n, 1)), np.tile(LOGITS, (n, 1)), prior_precision=1e-4 * n) for n in (1, 100))
    np.testing.assert_allclose(covariance(often, X)[0], np.asarray(covariance(once, X)[0]) / 100, rtol=1e-3)


def test_nothing_of_the_size_of_features_times_classes_is_made():
    """laplace-torch #138: φ ⊗ I of 2048 features and 1000 classes are 2·10⁹ numbers."""
    d, k = 64, 50
    fitted = jax.eval_shape(lambda: fit_like(d, k))
    program = jax.make_jaxpr(lambda fitted, x: fitted.covariance(x))(fitted, jax.ShapeDtypeStruct((d,), jnp.float32))
    sizes = [v.aval.size for equation in program.jaxpr.eqns for v in equation.outvars]
    assert max(sizes) <= (d + 1) * max(d + 1, k)


def fit_like(d, k):
    from jxai.uncertainty import Laplace

    return Laplace(jnp.zeros((d + 1, d + 1)), jnp.zeros(d + 1), jnp.zeros((k, k)), jnp.zeros(k), jnp.float32(1))


def test_draws_have_the_posteriors_mean_and_covariance():
    fitted = fit_laplace(H, LOGITS, prior_precision=0.5)
    model = LaplaceModel(MODEL, fitted, num_samples=20_000)
    samples, predicted, score = jax.jit(lambda m, x, key: (m.samples(x, key), m(x), laplace_variance(m.f, x, fitted=m.fitted)))(model, X, jax.random.key(0))
    exact, variances = covariance(fitted, X)
    samples = np.asarray(samples, np.float64)
    assert np.abs(samples.mean(0) - MODEL(X)).max() < 4 * np.sqrt(np.max(variances) / 20_000)
    np.testing.assert_allclose(np.cov(samples.T), exact, atol=0.05 * np.max(variances))
    np.testing.assert_allclose(score, sum(exact[k, k] + exact[j, j] - 2 * exact[k, j] for k in range(4) for j in range(k)) / 12, rtol=1e-5)
    # The probit approximation against the mean probability of the draws; the trained weights alone are surer than both.
    by_draws, by_probit, alone = scipy.special.softmax(samples, 1).mean(0), scipy.special.softmax(predicted), scipy.special.softmax(MODEL(X))
    assert np.abs(by_draws - by_probit).max() < 0.05 and by_probit.max() < alone.max()
    # GLM draws keep the answer: laplace-torch #137's collapse of accuracy is of networks drawn whole.
    assert by_draws.argmax() == alone.argmax()
    published = LaplaceModel(MODEL, fitted, convention="laplace-torch")
    np.testing.assert_allclose(published(X), MODEL(X) / np.sqrt(1 + np.pi / 8 * np.asarray(variances)), rtol=1e-5)


def test_of_two_classes_the_prediction_is_the_probit_of_their_difference():
    """MacKay 1992: `σ(d / √(1 + π var(d) / 8))`, whatever both logits share in."""
    head = Partial(linear, W[:, :2], B[:2])
    fitted = fit_laplace(H, LOGITS[:, :2], prior_precision=0.2)
    covered = np.float64(covariance(fitted, X)[0])
    d = float(head(X)[1] - head(X)[0]) / np.sqrt(1 + np.pi / 8 * (covered[0, 0] + covered[1, 1] - 2 * covered[0, 1]))
    np.testing.assert_allclose(jax.nn.softmax(LaplaceModel(head, fitted)(X))[1], scipy.special.expit(d), rtol=1e-4)


def test_what_all_logits_share_in_makes_nothing_unsure():
    """The prior alone has the variance of their mean, `‖φ‖² / τK`, which no softmax shows: wide features, of which the data know all differences, stay sure."""
    wide = np.float32(30 * H)
    logits = wide @ W / 30 + B
    fitted = fit_laplace(np.tile(wide, (50, 1)), np.tile(logits, (50, 1)))
    model = LaplaceModel(Partial(linear, W / 30, B), fitted, num_samples=2000)
    published = LaplaceModel(model.f, fitted, convention="laplace-torch")
    said, by_torch, drawn = jax.jit(jax.vmap(lambda x: (model(x), published(x), model.samples(x, jax.random.key(0)))))(wide[:8])
    said, by_torch, drawn, alone = (np.asarray(scipy.special.softmax(v, -1)) for v in (said, by_torch, drawn, logits[:8]))
    assert np.abs(said - drawn.mean(1)).max() < 0.01 and np.abs(said - alone).max() < 0.02 and np.abs(by_torch - alone).max() > 0.3
    shared = laplace_variance(model.f, wide[0], fitted=fitted)
    assert shared < 0.1 < fitted.variance(wide[0]).mean() / 100


def test_without_variance_the_logits_are_the_models_own():
    np.testing.assert_allclose(LaplaceModel(MODEL, fit_laplace(H, LOGITS, prior_precision=1e12))(X), MODEL(X), rtol=1e-5, atol=1e-6)


def test_the_prior_is_standard_unless_another_is_given():
    """As laplace-torch's."""
    np.testing.assert_array_equal(covariance(fit_laplace(H, LOGITS), X)[0], covariance(fit_laplace(H, LOGITS, prior_precision=1.0), X)[0])


def test_of_independent_logits_the_score_is_their_variance():
    fitted = fit_laplace(H, LOGITS, likelihood="gaussian", noise=0.7)
    np.testing.assert_allclose(laplace_variance(MODEL, X, fitted=fitted), np.mean(covariance(fitted, X)[1]), rtol=1e-4)


def test_away_from_the_data_the_variance_grows_as_the_square():
    fitted = fit_laplace(H, LOGITS)
    near, far, further = (float(laplace_variance(MODEL, s * X, fitted=fitted)) for s in (1, 100, 200))
    assert near < far / 1000 and further / far == pytest.approx(4, rel=0.05)


def test_a_fit_is_kept_in_a_file(tmp_path):
    fitted = fit_laplace(H, LOGITS, prior_precision=0.5)
    save(tmp_path / "laplace.npz", fitted)
    assert float(laplace_variance(MODEL, X, fitted=load(tmp_path / "laplace.npz"))) == float(laplace_variance(MODEL, X, fitted=fitted))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: fit_laplace(H, scipy.special.softmax(LOGITS, 1)), "logits must be logits, but they are probabilities"),
        (lambda: fit_laplace(H, LOGITS[:7]), "must be of the same examples, got lengths 40, 7"),
        (lambda: fit_laplace(H, np.where(LOGITS > 2, np.nan, LOGITS)), "logits must be finite"),
        (lambda: fit_laplace(H, LOGITS[:, :1]), "logits must be of two classes or more"),
        (lambda: fit_laplace(H, LOGITS, prior_precision=0.0), "prior_precision=0.0 must lie in"),
        (lambda: fit_laplace(H, LOGITS, likelihood="normal"), "likelihood='normal' must be one of 'categorical', 'gaussian'"),
        (lambda: jax.jit(fit_laplace)(H, LOGITS), "must be concrete"),
        (lambda: laplace_variance(MODEL, X), r"fitted must be a Laplace, made by fit_laplace\(features, logits\), got None"),
        (lambda: LaplaceModel(MODEL, fit_laplace(H, LOGITS), convention="torch")(X), "convention='torch' must be one of None, 'laplace-torch'"),
        (lambda: mutual_information(LaplaceModel(MODEL, fit_laplace(H, LOGITS)), X), "key=None must be a jax.random.key"),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
