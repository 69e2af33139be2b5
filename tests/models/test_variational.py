"""Losses of variational autoencoders against closed forms, densities of scipy, and the marginal likelihood of a linear model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from flax import nnx
from scipy.special import logsumexp

from jxai.models.vae import VAE, ConditionalVAE
from jxai.models.variational import elbo, gaussian_kl, kl_decomposition, tc_vae_loss, vae_loss

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)


def normal(mean, log_variance):
    return scipy.stats.norm(mean, np.exp(np.asarray(log_variance, np.float64) / 2))


def test_kl_is_that_of_gaussians():
    """The general closed form for full covariances, and Monte Carlo with scipy's densities."""
    mean, log_variance = RNG.normal(size=4), RNG.normal(size=4)
    got = float(gaussian_kl(jnp.asarray(mean), jnp.asarray(log_variance)))
    covariance = np.diag(np.exp(log_variance))
    np.testing.assert_allclose(got, 0.5 * (np.trace(covariance) + mean @ mean - 4 - np.linalg.slogdet(covariance)[1]), rtol=1e-5)
    q = normal(mean, log_variance)
    z = q.rvs((20000, 4), random_state=1)
    ratio = (q.logpdf(z) - scipy.stats.norm.logpdf(z)).sum(1)
    assert abs(ratio.mean() - got) < 4 * ratio.std() / np.sqrt(len(z))
    assert gaussian_kl(jnp.zeros(3), jnp.zeros(3)) == 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Linear:
    """`p(x | z) = N(W z, σ² I)` with orthogonal columns of W, whose posterior is diagonal: `N(Wᵀx / (σ² + w²), σ² / (σ² + w²))`."""

    w: jax.Array
    sigma: float
    shift: float = 0.0

    shape = (5,)

    def decode(self, z):
        return self.w @ z

    def encode_distribution(self, x):
        size = (self.w**2).sum(0) + self.sigma**2
        return self.w.T @ x / size + self.shift, jnp.log(self.sigma**2 / size)


def test_the_bound_is_tight_at_the_exact_posterior_and_loose_elsewhere():
    sigma = 0.6
    w = jnp.asarray(np.linalg.qr(RNG.normal(size=(5, 2)))[0] * [1.5, 0.7], jnp.float32)
    x = jnp.asarray(RNG.normal(size=5), jnp.float32)
    evidence = scipy.stats.multivariate_normal(np.zeros(5), np.asarray(w @ w.T) + sigma**2 * np.eye(5)).logpdf(np.asarray(x))
    keys = jax.random.split(jax.random.key(0), 4000)
    bound = lambda model, beta=1.0: np.asarray(jax.vmap(lambda k: elbo(model, x, k, beta, "gaussian", sigma=sigma)[0])(keys))
    exact = bound(Linear(w, sigma))
    assert abs(exact.mean() + evidence) < 4 * exact.std() / np.sqrt(len(keys))
    # The gap is KL(q ‖ posterior): of a mean that is off by δ, δ² / (2 · variance) for each latent.
    gap = 0.5 * 0.5**2 * float(np.exp(-Linear(w, sigma).encode_distribution(x)[1]).sum())
    shifted = bound(Linear(w, sigma, 0.5))
    assert abs(shifted.mean() + evidence - gap) < 4 * shifted.std() / np.sqrt(len(keys))
    kl = float(gaussian_kl(*Linear(w, sigma).encode_distribution(x)))
    np.testing.assert_allclose(bound(Linear(w, sigma), 3.0) - exact, 2 * kl, rtol=1e-3)


def test_reconstruction_terms_are_scipys_densities():
    model = VAE((6,), latent=3, hidden=(5,), rngs=nnx.Rngs(0))
    x, key = jnp.array([0.0, 1, 1, 0, 1, 0]), jax.random.key(1)
    mean, log_variance = model.encode_distribution(x)
    pixels = np.asarray(model.decode(mean + jnp.exp(log_variance / 2) * jax.random.normal(key, (3,))), np.float64)
    for options, density in (({}, scipy.stats.bernoulli(pixels).logpmf), ({"likelihood": "gaussian", "sigma": 0.3}, scipy.stats.norm(pixels, 0.3).logpdf)):
        loss, terms = elbo(model, x, key, 2.0, **options)
        np.testing.assert_allclose(terms["reconstruction"], -density(np.asarray(x)).sum(), rtol=1e-4)
        np.testing.assert_allclose(loss, terms["reconstruction"] + 2 * gaussian_kl(mean, log_variance), rtol=1e-6)


def test_bernoulli_reconstruction_is_finite_where_pixels_saturate():
    model = jax.tree.map(lambda v: 100 * v, VAE((6,), latent=3, hidden=(5,), rngs=nnx.Rngs(0)))
    model.encoder.layers[1].kernel[...] /= 1e4
    x = jnp.array([0.0, 1, 1, 0, 1, 0])
    loss, slopes = jax.value_and_grad(lambda m: elbo(m, x, jax.random.key(0))[1]["reconstruction"])(model)
    assert loss > 100 and all(jnp.isfinite(v).all() for v in jax.tree.leaves((loss, slopes)))


def test_losses_of_a_batch():
    """`vae_loss` is the mean of `elbo`, of a conditional model at each y; and `tc_vae_loss` of equal weights has its expectation."""
    xs, ys, key = jax.random.uniform(jax.random.key(0), (4, 6)), jnp.array([0, 2, 1, 0]), jax.random.key(1)
    plain = VAE((6,), latent=3, hidden=(5,), rngs=nnx.Rngs(0))
    both = ConditionalVAE((6,), 3, latent=3, hidden=(5,), rngs=nnx.Rngs(0))
    keys = jax.random.split(key, 4)
    for model, views in ((plain, [plain] * 4), (both, [both.given(int(y)) for y in ys])):
        loss, metrics = jax.jit(functools.partial(vae_loss, beta=2.0))(model, xs, ys, key)
        one = jax.jit(lambda view, x, k: elbo(view, x, k, 2.0))
        each = [one(view, x, k) for view, x, k in zip(views, xs, keys)]
        np.testing.assert_allclose(loss, np.mean([value for value, _ in each]), rtol=1e-5)
        np.testing.assert_allclose(metrics["kl"], np.mean([terms["kl"] for _, terms in each]), rtol=1e-5)
        hot = vae_loss(model, xs, jax.nn.one_hot(ys, 3), key, beta=2.0)[0]
        np.testing.assert_allclose(hot, loss, rtol=1e-6)
    np.testing.assert_allclose(vae_loss(plain, xs, None, key)[0], vae_loss(plain, xs, ys, key)[0])
    gap = lambda k: tc_vae_loss(both, xs, ys, k, num_examples=9, alpha=1.0, beta=1.0, gamma=1.0)[0] - vae_loss(both, xs, ys, k)[0]
    gaps = np.asarray(jax.jit(jax.vmap(gap))(jax.random.split(key, 3000)))
    assert abs(gaps.mean()) < 4 * gaps.std() / np.sqrt(len(gaps))
    one, terms = tc_vae_loss(plain, xs, None, key, num_examples=9, alpha=2.0, beta=5.0, gamma=0.5)
    weighed = terms["reconstruction"] + 2 * terms["mutual_information"] + 5 * terms["total_correlation"] + 0.5 * terms["dimension_wise"]
    np.testing.assert_allclose(one, weighed, rtol=1e-6)


def posteriors(size=5, latent=3):
    mean, log_variance = RNG.normal(size=(size, latent)), RNG.normal(size=(size, latent)) - 1
    z = mean + np.exp(log_variance / 2) * RNG.normal(size=(size, latent))
    return tuple(jnp.asarray(v, jnp.float32) for v in (z, mean, log_variance))


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_decomposition_is_that_of_the_mixture(estimator):
    """Against scipy's densities; where the batch is the data set, the stratified mixture is q(z) itself."""
    z, mean, log_variance = (np.asarray(v, np.float64) for v in posteriors())
    for size in (5, 40):
        weights = np.full((5, 5), 1 / (size * 5) if estimator == "weighted" else (size - 1) / (4 * size))
        if estimator == "stratified":
            np.fill_diagonal(weights, 1 / size)
            assert size != 5 or np.allclose(weights, 1 / 5)
        log_q = normal(mean[None], log_variance[None]).logpdf(z[:, None])
        joint = logsumexp(np.log(weights) + log_q.sum(-1), axis=1)
        product = logsumexp(np.log(weights)[..., None] + log_q, axis=1).sum(-1)
        own, prior = np.einsum("iij->i", log_q), scipy.stats.norm.logpdf(z).sum(-1)
        got = kl_decomposition(*(jnp.asarray(v, jnp.float32) for v in (z, mean, log_variance)), size, estimator=estimator)
        np.testing.assert_allclose(got, [(own - joint).mean(), (joint - product).mean(), (product - prior).mean()], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(sum(got), (own - prior).mean(), rtol=1e-4)


def test_decomposition_adds_up_to_the_kl_in_expectation():
    _, mean, log_variance = posteriors()
    kl = float(jax.vmap(gaussian_kl)(mean, log_variance).mean())

    def total(key):
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        return sum(kl_decomposition(z, mean, log_variance, 1000))

    totals = np.asarray(jax.vmap(total)(jax.random.split(jax.random.key(0), 4000)))
    assert abs(totals.mean() - kl) < 4 * totals.std() / np.sqrt(len(totals))


def test_known_aggregates():
    """Independent latents have no total correlation; posteriors far apart tell which example it was, log N; two equal latents tell log 2 of each other."""
    exact = jax.jit(functools.partial(kl_decomposition, estimator="stratified"), static_argnums=3)
    small = jnp.full((4, 2), -6.0)
    grid = jnp.array([[-2.0, -1], [-2, 3], [1, -1], [1, 3]])
    z = grid + jnp.exp(-3.0) * jax.random.normal(jax.random.key(0), grid.shape)
    terms = exact(z, grid, small, 4)
    np.testing.assert_allclose(terms[:2], [np.log(4), 0], atol=1e-5)
    line = jnp.array([[-1.0, -1], [1, 1]])
    z = line + jnp.exp(-3.0) * jax.random.normal(jax.random.key(0), line.shape)
    terms = exact(z, line, small[:2], 2)
    np.testing.assert_allclose(terms[:2], [np.log(2), np.log(2)], atol=1e-5)
    same = jnp.zeros((3, 2))
    np.testing.assert_allclose(exact(z[:1].repeat(3, 0), same, same, 50)[:2], [0, 0], atol=1e-5)


def test_bad_inputs():
    model, x, key = VAE((6,), latent=3, rngs=nnx.Rngs(0)), jnp.zeros(6), jax.random.key(0)
    both = ConditionalVAE((6,), 3, rngs=nnx.Rngs(0))
    z = jnp.zeros((4, 2))
    for call, word in (
        (lambda: elbo(model, x[:5], key), r"shape \(6,\)"),
        (lambda: elbo(model, x, None), "key=None"),
        (lambda: elbo(model, x, key, -1.0), "beta=-1.0"),
        (lambda: elbo(model, x, key, 1.0, "poisson"), "likelihood='poisson' must be one of 'bernoulli', 'gaussian'"),
        (lambda: elbo(model, x, key, sigma=0.0), "sigma=0.0"),
        (lambda: vae_loss(both, x[None], None, key), "ConditionalVAE needs the classes"),
        (lambda: tc_vae_loss(model, x[None], None, key, num_examples=5, gamma=-1.0), "gamma=-1.0"),
        (lambda: kl_decomposition(z, z, z, 3), "num_examples=3 must be at least the batch's 4"),
        (lambda: kl_decomposition(z, z, z, 0), "num_examples=0"),
        (lambda: kl_decomposition(z, z, z, 4, estimator="mss"), "estimator='mss'"),
        (lambda: kl_decomposition(z, z[:3], z, 4), r"\(3, 2\)"),
        (lambda: kl_decomposition(z[0], z[0], z[0], 4), r"\[B, latent\]"),
    ):
        with pytest.raises(ValueError, match=word):
            call()
