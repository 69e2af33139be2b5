"""Losses of variational autoencoders against closed forms, densities of scipy, and the marginal likelihood of a linear model."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from drawn import drawn
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
    got, none = map(float, jax.jit(jax.vmap(gaussian_kl))(np.float32([mean, np.zeros(4)]), np.float32([log_variance, np.zeros(4)])))
    covariance = np.diag(np.exp(log_variance))
    np.testing.assert_allclose(got, 0.5 * (np.trace(covariance) + mean @ mean - 4 - np.linalg.slogdet(covariance)[1]), rtol=1e-5)
    q = normal(mean, log_variance)
    z = q.rvs((20000, 4), random_state=1)
    ratio = (q.logpdf(z) - scipy.stats.norm.logpdf(z)).sum(1)
    assert abs(ratio.mean() - got) < 4 * ratio.std() / np.sqrt(len(z))
    assert none == 0


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
    w = np.float32(np.linalg.qr(RNG.normal(size=(5, 2)))[0] * [1.5, 0.7])
    x = RNG.normal(size=5).astype(np.float32)
    evidence = scipy.stats.multivariate_normal(np.zeros(5), w @ w.T + sigma**2 * np.eye(5)).logpdf(x)

    @jax.jit
    def bounds(key):
        bound = lambda k, shift, beta=1.0: elbo(Linear(w, sigma, shift), x, k, beta, "gaussian", sigma=sigma)[0]
        posterior = Linear(w, sigma).encode_distribution(x)
        return jax.vmap(lambda k: (bound(k, 0.0), bound(k, 0.5), bound(k, 0.0, 3.0)))(jax.random.split(key, 4000)), posterior[1], gaussian_kl(*posterior)

    (exact, shifted, heavy), log_variance, kl = jax.tree.map(np.asarray, bounds(jax.random.key(0)))
    assert abs(exact.mean() + evidence) < 4 * exact.std() / np.sqrt(4000)
    # The gap is KL(q ‖ posterior): of a mean that is off by δ, δ² / (2 · variance) for each latent.
    gap = 0.5 * 0.5**2 * float(np.exp(-log_variance).sum())
    assert abs(shifted.mean() + evidence - gap) < 4 * shifted.std() / np.sqrt(4000)
    np.testing.assert_allclose(heavy - exact, 2 * kl, rtol=1e-3)


PLAIN = drawn(lambda rngs: VAE((6,), latent=3, hidden=(5,), rngs=rngs))
BOTH = drawn(lambda rngs: ConditionalVAE((6,), 3, latent=3, hidden=(5,), rngs=rngs))
BITS = np.float32([0, 1, 1, 0, 1, 0])


def test_reconstruction_terms_are_scipys_densities():
    gaussian = {"likelihood": "gaussian", "sigma": 0.3}

    @jax.jit
    def measure(key):
        mean, log_variance = PLAIN.encode_distribution(BITS)
        pixels = PLAIN.decode(mean + jnp.exp(log_variance / 2) * jax.random.normal(key, (3,)))
        return pixels, gaussian_kl(mean, log_variance), [elbo(PLAIN, BITS, key, 2.0, **options) for options in ({}, gaussian)]

    pixels, kl, losses = jax.tree.map(np.float64, measure(jax.random.key(1)))
    for (loss, terms), density in zip(losses, (scipy.stats.bernoulli(pixels).logpmf, scipy.stats.norm(pixels, 0.3).logpdf)):
        np.testing.assert_allclose(terms["reconstruction"], -density(BITS).sum(), rtol=1e-4)
        np.testing.assert_allclose(loss, terms["reconstruction"] + 2 * kl, rtol=1e-6)


def test_bernoulli_reconstruction_is_finite_where_pixels_saturate():
    model = jax.tree.map(lambda v: 100 * v, PLAIN)
    model.encoder.layers[1].kernel.set_value(model.encoder.layers[1].kernel[...] / np.float32(1e4))
    loss, slopes = jax.jit(jax.value_and_grad(lambda m, key: elbo(m, BITS, key)[1]["reconstruction"]))(model, jax.random.key(0))
    assert loss > 100 and all(np.isfinite(v).all() for v in jax.tree.leaves((loss, slopes)))


def test_losses_of_a_batch():
    """`vae_loss` is the mean of `elbo`, of a conditional model at each y; and `tc_vae_loss` of equal weights has its expectation."""
    xs, ys = RNG.uniform(size=(4, 6)).astype(np.float32), np.array([0, 2, 1, 0])

    @jax.jit
    def measure(ys, key):
        keys = jax.random.split(key, 4)
        each = [jax.vmap(lambda x, k: elbo(PLAIN, x, k, 2.0))(xs, keys), jax.vmap(lambda x, y, k: elbo(BOTH.given(y), x, k, 2.0))(xs, ys, keys)]
        losses = [(vae_loss(model, xs, ys, key, beta=2.0), vae_loss(model, xs, jax.nn.one_hot(ys, 3), key, beta=2.0)[0]) for model in (PLAIN, BOTH)]
        gap = lambda k: tc_vae_loss(BOTH, xs, ys, k, num_examples=9, alpha=1.0, beta=1.0, gamma=1.0)[0] - vae_loss(BOTH, xs, ys, k)[0]
        weighed = tc_vae_loss(PLAIN, xs, None, key, num_examples=9, alpha=2.0, beta=5.0, gamma=0.5)
        return each, losses, vae_loss(PLAIN, xs, None, key, beta=2.0)[0], jax.vmap(gap)(jax.random.split(key, 3000)), weighed

    each, losses, without, gaps, (one, terms) = jax.tree.map(np.asarray, measure(ys, jax.random.key(1)))
    for (values, numbers), ((loss, metrics), hot) in zip(each, losses):
        np.testing.assert_allclose(loss, values.mean(), rtol=1e-5)
        np.testing.assert_allclose(metrics["kl"], numbers["kl"].mean(), rtol=1e-5)
        np.testing.assert_allclose(hot, loss, rtol=1e-6)
    np.testing.assert_allclose(without, losses[0][0][0], rtol=1e-6)
    assert abs(gaps.mean()) < 4 * gaps.std() / np.sqrt(len(gaps))
    weighed = terms["reconstruction"] + 2 * terms["mutual_information"] + 5 * terms["total_correlation"] + 0.5 * terms["dimension_wise"]
    np.testing.assert_allclose(one, weighed, rtol=1e-6)


def posteriors(size=5, latent=3):
    mean, log_variance = RNG.normal(size=(size, latent)), RNG.normal(size=(size, latent)) - 1
    z = mean + np.exp(log_variance / 2) * RNG.normal(size=(size, latent))
    return tuple(np.float32(v) for v in (z, mean, log_variance))


@pytest.mark.parametrize("estimator", ["weighted", "stratified"])
def test_decomposition_is_that_of_the_mixture(estimator):
    """Against scipy's densities; where the batch is the data set, the stratified mixture is q(z) itself."""
    given = posteriors()
    z, mean, log_variance = map(np.float64, given)
    found = jax.jit(lambda *given: [kl_decomposition(*given, size, estimator=estimator) for size in (5, 40)])(*given)
    for size, got in zip((5, 40), found):
        weights = np.full((5, 5), 1 / (size * 5) if estimator == "weighted" else (size - 1) / (4 * size))
        if estimator == "stratified":
            np.fill_diagonal(weights, 1 / size)
            assert size != 5 or np.allclose(weights, 1 / 5)
        log_q = normal(mean[None], log_variance[None]).logpdf(z[:, None])
        joint = logsumexp(np.log(weights) + log_q.sum(-1), axis=1)
        product = logsumexp(np.log(weights)[..., None] + log_q, axis=1).sum(-1)
        own, prior = np.einsum("iij->i", log_q), scipy.stats.norm.logpdf(z).sum(-1)
        np.testing.assert_allclose(got, [(own - joint).mean(), (joint - product).mean(), (product - prior).mean()], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.sum(got), (own - prior).mean(), rtol=1e-4)


def test_decomposition_adds_up_to_the_kl_in_expectation():
    _, mean, log_variance = posteriors()

    def total(key):
        z = mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)
        return sum(kl_decomposition(z, mean, log_variance, 1000))

    totals, kl = map(
        np.asarray, jax.jit(lambda key: (jax.vmap(total)(jax.random.split(key, 4000)), jax.vmap(gaussian_kl)(mean, log_variance)))(jax.random.key(0))
    )
    assert abs(totals.mean() - kl.mean()) < 4 * totals.std() / np.sqrt(len(totals))


def test_known_aggregates():
    """Independent latents have no total correlation; posteriors far apart tell which example it was, log N; two equal latents tell log 2 of each other."""
    exact = jax.jit(functools.partial(kl_decomposition, estimator="stratified"), static_argnums=3)
    small = np.full((4, 2), -6.0, np.float32)
    near = lambda means: np.float32(means + np.exp(-3.0) * RNG.normal(size=means.shape))
    grid, line = np.float32([[-2, -1], [-2, 3], [1, -1], [1, 3]]), np.float32([[-1, -1], [1, 1]])
    np.testing.assert_allclose(exact(near(grid), grid, small, 4)[:2], [np.log(4), 0], atol=1e-5)
    np.testing.assert_allclose(exact(near(line), line, small[:2], 2)[:2], [np.log(2), np.log(2)], atol=1e-5)
    same = np.zeros((3, 2), np.float32)
    np.testing.assert_allclose(exact(near(line)[:1].repeat(3, 0), same, same, 50)[:2], [0, 0], atol=1e-5)


def test_bad_inputs():
    model, both, x, key, z = PLAIN, BOTH, np.zeros(6, np.float32), jax.random.key(0), np.zeros((4, 2), np.float32)
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
