"""What generators say of counterfactuals, against closed forms: autoencoders that are projections, and likelihoods that are Gaussian."""

import functools
import math

import counterfactual_toys as toys
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jxai.metrics import counterfactual as metrics

pytestmark = pytest.mark.usefixtures("quick_compilation")

X, COUNTERFACTUAL, TARGET = map(np.asarray, toys.pairs(6))
CODERS = [toys.projection(seed) for seed in range(toys.CLASSES)]
STACK, GENERAL = toys.stacked(CODERS), toys.projection(9, codes=4)
KEY = jax.random.key(4)


class Plain:
    """No generator of any kind."""


@functools.cache
def compiled(name):
    return jax.jit(lambda f, x, v, t, data: getattr(metrics, name)(f, x, v, t, **data))


def judged(name, f, x, v, t=None, **data):
    """The metric compiled once: models, generators and prices are data."""
    return float(compiled(name)(f, x, v, None if t is None else np.int32(t), data))


def rebuilt(coder, v):
    basis, mean, v = (np.asarray(a, np.float64) for a in (coder.basis, coder.mean, v))
    return basis @ (basis.T @ (v - mean)) + mean


def test_im1_and_im2_are_their_formulas():
    f = toys.model()
    for x, v, t, origin in zip(X, COUNTERFACTUAL, TARGET, toys.logits(f, X).argmax(1)):
        own, other, general = (rebuilt(c, v) for c in (CODERS[t], CODERS[origin], GENERAL))
        im1 = ((v - own) ** 2).sum() / ((v - other) ** 2).sum()
        im2 = ((own - general) ** 2).sum() / np.abs(v).sum()
        assert judged("im1", f, x, v, t, autoencoders=STACK) == pytest.approx(float(im1), rel=1e-4)
        assert judged("im2", f, x, v, t, autoencoders=STACK, autoencoder=GENERAL) == pytest.approx(float(im2), rel=1e-4)


def test_im1_is_zero_on_the_targets_manifold_one_without_a_change_of_class_and_blind_to_noise_that_both_remove():
    f, x = toys.model(), X[0]
    origin = int(toys.logits(f, X)[0].argmax())
    target = (origin + 1) % toys.CLASSES
    bases = [np.asarray(CODERS[c].basis) for c in (target, origin)]
    on_it = bases[0] @ np.float32([0.3, -0.4]) + np.asarray(CODERS[target].mean)
    assert judged("im1", f, x, on_it, target, autoencoders=STACK) < 1e-10
    assert judged("im1", f, x, COUNTERFACTUAL[0], origin, autoencoders=STACK) == pytest.approx(1)
    # The flaw that the docstring names: of noise alone, both are equally far off.
    noise = on_it + 1e4 * np.random.default_rng(4).normal(size=x.shape).astype(np.float32)
    both = np.linalg.qr(np.concatenate(bases, 1))[0]
    noise = noise - both @ (both.T @ noise)
    assert judged("im1", f, x, noise, target, autoencoders=STACK) == pytest.approx(1, abs=1e-2)
    assert judged("im2", f, x, x, target, autoencoders=toys.stacked([GENERAL] * 3), autoencoder=GENERAL) == 0


def test_epsilon_is_added_to_the_denominators():
    f, x, v, t = toys.model(), X[0], COUNTERFACTUAL[0], 1
    before, after = (1 / judged("im2", f, x, v, t, autoencoders=STACK, autoencoder=GENERAL, epsilon=np.float32(e)) for e in (1e-8, 1.0))
    apart = ((rebuilt(CODERS[1], v) - rebuilt(GENERAL, v)) ** 2).sum()
    assert after - before == pytest.approx(1 / apart, rel=1e-3)


@pytest.mark.parametrize("levels", [1, 256])
def test_bits_per_dim_of_a_gaussian(levels):
    density = toys.Normal(np.full(toys.SIZE, 0.3, np.float32))
    expected = math.log2(levels) - stats.norm(0.3).logpdf(COUNTERFACTUAL).sum(1) / (toys.SIZE * math.log(2))
    found = jax.jit(jax.vmap(lambda v: metrics.bits_per_dim(None, v, v, None, generator=density, levels=levels)))(COUNTERFACTUAL)
    assert np.allclose(found, expected, rtol=1e-5)


def test_bits_of_the_impossible_are_infinite():
    class Never:
        def log_prob(self, x):
            return jnp.asarray(-jnp.inf)

    assert metrics.bits_per_dim(None, X[0], X[0], None, generator=Never()) == np.inf


def test_anogan_of_what_the_generator_makes_is_zero_and_of_the_rest_its_distance():
    """A generator with one number: decode(z) = z e₁, so that the score is the sum of the other entries, and of features only they see."""
    generator = toys.Projection(np.eye(toys.SIZE, 1, dtype=np.float32), np.zeros(toys.SIZE, np.float32))
    go = lambda **options: jax.jit(lambda v, more: metrics.anogan_score(None, v, v, None, KEY, generator=generator, steps=300, **options, **more))
    plain, tails, v = go(), go(features=lambda u: 2 * u[1:]), COUNTERFACTUAL[0]
    assert plain(np.float32(1.7) * np.eye(toys.SIZE, dtype=np.float32)[0], {}) < 0.02
    rest = np.abs(v[1:]).sum()
    assert plain(v, {}) == pytest.approx(rest, abs=0.03)
    for weight in (0.1, 1.0):
        assert tails(v, {"weight": np.float32(weight)}) == pytest.approx(rest + weight * 2 * rest, abs=0.03)
    assert go(latent=1)(v, {}) == plain(v, {}) == go(latent=(1,))(v, {})


def test_the_search_is_adam_with_a_tenth_of_the_rate_in_the_last_fifth():
    """By NumPy, of `|3 − z|` with the same start, from which it comes near and not there."""
    steps, rate = 15, 0.2
    z = float(np.asarray(jax.jit(lambda key: jax.random.normal(jax.random.fold_in(key, 0), (1,)))(KEY))[0])
    first = second = 0.0
    losses = [abs(3 - z)]
    for n in range(1, steps + 1):
        gradient = np.sign(z - 3)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        z -= (rate if n <= 12 else rate / 10) * (first / (1 - 0.9**n)) / (np.sqrt(second / (1 - 0.999**n)) + 1e-8)
        losses.append(abs(3 - z))
    generator = toys.Projection(np.eye(1, dtype=np.float32), np.zeros(1, np.float32))
    options = dict(generator=generator, steps=steps, learning_rate=rate, restarts=1)
    found = float(jax.jit(lambda v: metrics.anogan_score(None, v, v, None, KEY, **options))(np.full(1, 3, np.float32)))
    assert found == pytest.approx(min(losses), abs=2e-4) and 0.3 < found < 0.5


def test_more_restarts_and_steps_never_score_worse():
    """A restart has its own key, and the least loss on the way counts; the learning rate falls in the last fifth alone."""
    generator = toys.Projection(toys.projection(1).basis, np.zeros(toys.SIZE, np.float32))
    bent = jax.tree_util.Partial(lambda g, z: jnp.sin(3 * g.decode(z)), generator)

    class Bent:
        latent, decode = 2, staticmethod(bent)

    given = [(1, 60), (3, 60), (8, 60), (1, 4), (1, 400)]
    score = lambda v, restarts, steps: metrics.anogan_score(None, v, v, None, KEY, generator=Bent(), restarts=restarts, steps=steps)
    one, three, eight, short, long = map(float, jax.jit(lambda v: [score(v, *sizes) for sizes in given])(COUNTERFACTUAL[0]))
    assert one >= three >= eight and one > eight
    assert short >= long


def test_a_gan_of_the_library_has_a_latent():
    """DeDUCE's setting in small: a network's decoder, its critic's features, and the score of its own sample near the search's floor."""
    gan_module = pytest.importorskip("jxai.models.gan")
    from flax import nnx

    gan = gan_module.GAN((4, 4, 1), latent=3, hidden=(8,), rngs=nnx.Rngs(0))

    @jax.jit
    def both(gan):
        sample = gan.sample(jax.random.key(1))
        found = metrics.anogan_score(None, sample, sample, None, KEY, generator=gan, features=lambda v: gan.critic(v), steps=400)
        return found, jnp.abs(gan.decode(jax.random.normal(jax.random.fold_in(KEY, 0), (3,))) - sample).sum()

    found, start = both(gan)
    assert found < 0.05 * start


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("im1", {"autoencoders": toys.stacked(CODERS[:2])}, "autoencoders must be 3, one for each class of f, got 2"),
        ("im1", {"autoencoders": STACK, "epsilon": 0.0}, "epsilon=0.0 must lie in"),
        ("im1", {"autoencoders": [np.zeros((3, 2))]}, "autoencoder=list must have a method encode"),
        ("im2", {"autoencoders": STACK, "autoencoder": Plain()}, "autoencoder=Plain must have a method encode"),
        ("bits_per_dim", {"generator": Plain()}, "generator=Plain must have a method log_prob"),
        ("bits_per_dim", {"generator": toys.Normal(np.zeros(6, np.float32)), "levels": 0}, "levels=0"),
        ("anogan_score", {"generator": Plain()}, "generator=Plain must have a method decode"),
        ("anogan_score", {"generator": GENERAL, "restarts": 0}, "restarts=0"),
        ("anogan_score", {"generator": GENERAL, "steps": 0}, "steps=0"),
        ("anogan_score", {"generator": GENERAL, "weight": -1.0}, "weight=-1.0 must lie in"),
        ("anogan_score", {"generator": GENERAL, "learning_rate": 0.0}, "learning_rate=0.0 must lie in"),
    ],
)
def test_bad_options_are_named(name, options, message):
    key = (KEY,) if name == "anogan_score" else ()
    with pytest.raises(ValueError, match=message):
        getattr(metrics, name)(toys.model(), X[0], COUNTERFACTUAL[0], 1, *key, **options)


def test_generators_of_other_examples_are_refused():
    class Decoder:
        def decode(self, z):
            return jnp.zeros(3)

    with pytest.raises(ValueError, match="generator=Decoder has neither latent nor encode"):
        metrics.anogan_score(None, X[0], X[0], None, KEY, generator=Decoder())
    with pytest.raises(ValueError, match=r"generator=Decoder makes examples of shape \(3,\), but x has \(6,\)"):
        metrics.anogan_score(None, X[0], X[0], None, KEY, generator=Decoder(), latent=2)
