"""UQGAN's formula (3), and the losses and networks that make it true, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx
from scipy.special import expit
from scipy.stats import entropy, norm

from jxai import train, uncertainty
from jxai.models import MLP
from jxai.uncertainty import uqgan

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def published(p, prior):
    """In NumPy, float64."""
    p, k = np.asarray(p, np.float64), len(p)
    share = p / ((2 - k) * p + k - 1)
    posterior = (share + 1e-16) * prior / ((share + 1e-16) * prior).sum()
    return posterior, (prior * share**2).sum() / (prior * share).sum(), entropy(posterior) / np.log(k)


@pytest.mark.parametrize("k", [2, 3, 7])
def test_of_any_answers(k):
    p, prior = RNG.uniform(0.01, 0.99, (6, k)).astype(np.float32), RNG.uniform(1, 5, k)
    for given in (None, prior):
        found = jax.jit(jax.vmap(lambda v: uqgan.one_vs_all(v, prior=given)))(p)
        for n, v in enumerate(p):
            for ours, theirs in zip(found, published(v, np.ones(k) if given is None else given)):
                np.testing.assert_allclose(ours[n], theirs, rtol=2e-5)


def test_of_two_classes_the_answers_are_the_shares():
    """`p̂ = p`, so that p(in | x) of (a, b) is `(a² + b²) / (a + b)`."""
    found = uqgan.one_vs_all(np.float32([0.9, 0.3]))
    np.testing.assert_allclose(found.posterior, [0.75, 0.25], rtol=1e-6)
    np.testing.assert_allclose(found.inside, (0.81 + 0.09) / 1.2, rtol=1e-6)


def test_sure_answers_and_none():
    one = uqgan.one_vs_all(np.float32([1, 0, 0]))
    np.testing.assert_allclose([*one.posterior, one.inside], [1, 0, 0, 1], atol=1e-15)
    assert one.aleatoric < 1e-6
    every = uqgan.one_vs_all(np.ones(3, np.float32), prior=np.array([1, 1, 2]))
    np.testing.assert_allclose([*every.posterior, every.inside], [0.25, 0.25, 0.5, 1], rtol=1e-6)
    none = uqgan.one_vs_all(np.zeros(3, np.float32), prior=np.array([1, 1, 2]))
    np.testing.assert_allclose([*none.posterior, none.inside], [0.25, 0.25, 0.5, 0], rtol=1e-6)
    slopes = jax.jacrev(uqgan.one_vs_all)(jnp.float32([0, 1, 0]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_the_best_answers_give_the_posterior_of_bayes():
    """A question with as much weight on its class as on the even mixture of the others has the answer `f_k / (f_k + mean_{j ≠ k} f_j)`."""
    prior = np.array([0.5, 0.3, 0.2])
    f = norm.pdf(0.4, [-1, 0.2, 2])
    p = f / (f + (f.sum() - f) / 2)
    np.testing.assert_allclose(uqgan.one_vs_all(p.astype(np.float32), prior=prior).posterior, f * prior / (f @ prior), rtol=1e-5)


def test_the_score_is_one_minus_inside_and_tells_the_sure_apart():
    logits, prior = RNG.normal(0, 3, (5, 4)).astype(np.float32), np.float32([1, 2, 3, 4])
    score = jax.vmap(lambda z: uncertainty.formulas.outside(z, prior=prior))(logits)
    inside = [published(expit(z.astype(np.float64)), prior)[1] for z in logits]
    np.testing.assert_allclose(score, 1 - np.array(inside), rtol=1e-5)
    sure = [float(uncertainty.formulas.outside(np.float32([z, -90, -90]))) for z in (20, 25, 30)]
    assert sure[0] > sure[1] > sure[2] > 0  # in float32 all of their sigmoids are 1
    np.testing.assert_allclose(uncertainty.formulas.outside(np.float32([-200, -250, -300])), 1)


@pytest.mark.parametrize(
    ("p", "prior", "message"),
    [
        ([0.4], None, r"p must be .*\[K\].* of one class p\[0\] itself"),
        ([[0.4, 0.2]], None, r"p must be .* jax\.vmap"),
        ([3.0, -1.0], None, r"p must be probabilities in \[0, 1\], but goes from -1 to 3: of logits"),
        ([np.nan, 0.2], None, "p must be probabilities"),
        ([0.4, 0.2], [1.0], r"prior must be \[2\]"),
        ([0.4, 0.2], [-1.0, 2.0], "prior=.* must be shares"),
        ([0.4, 0.2], [0.0, 0.0], "prior=.* must be shares"),
    ],
)
def test_what_is_no_answer(p, prior, message):
    with pytest.raises(ValueError, match=message):
        uqgan.one_vs_all(np.float32(p), prior=None if prior is None else np.float32(prior))


def test_spread_is_that_of_the_angles():
    """From 0 fakes at 0°, 90°, 180°: angles over π of ½, 1, ½; another class's are not seen together with them."""
    fakes = np.float32([[1, 0], [0, 2], [-3, 0], [5, 5]])
    y, codes = np.array([0, 0, 0, 1]), np.zeros((4, 2), np.float32)
    spread = jax.jit(uqgan.spread, static_argnames="anchors")
    np.testing.assert_allclose(spread(codes, fakes, y), 2 * np.log(2) / 3, rtol=1e-3)
    near = spread(codes, np.float32([[1, 0], [1, 0.01], [1, -0.01], [0, 1]]), y)
    assert near > 5
    assert spread(codes, fakes, np.arange(4)) == 0
    np.testing.assert_allclose(spread(codes, fakes, y, anchors=1), 2 * np.log(2) / 3, rtol=1e-3)
    assert np.isfinite(jax.grad(lambda v: spread(codes, v, y))(jnp.zeros((4, 2)))).all()


def built(prior=None):
    def make(rngs):
        autoencoder = uqgan.ConditionalAutoencoder((6,), 3, latent=2, hidden=(4,), rngs=rngs)
        return uqgan.UQGAN(MLP(6, (5,), 3, rngs=rngs), autoencoder, noise=3, hidden=(4,), rngs=rngs)

    model = drawn(make)
    model.prior.set_value(jnp.ones(3) / 3 if prior is None else prior)
    return model


X, Y = RNG.uniform(size=(12, 6)).astype(np.float32), np.arange(12) % 3


def test_the_losses_of_the_classifier():
    prior = np.float32([0.5, 0.25, 0.25])
    model = built(prior)
    loss = jax.jit(lambda m, real: uqgan.classifier_loss(m, X, Y, KEY, real=real)[0])
    logits = np.asarray(jax.vmap(model)(X), np.float64)
    softplus = lambda v: np.logaddexp(0, v)
    own = softplus(-logits[np.arange(12), Y]).mean()
    others = np.mean([softplus(logits[n, j]) * prior[j] / prior[Y[n]] for n in range(12) for j in range(3) if j != Y[n]])
    np.testing.assert_allclose(loss(model, 1.0), own + others, rtol=1e-5)
    keys = jax.random.split(KEY, 12)
    fakes = np.asarray(jax.vmap(lambda y, k: model(model.sample(k, y))[y])(Y, keys))
    np.testing.assert_allclose(loss(model, 0.25), own + 0.25 * others + 0.75 * softplus(fakes).mean(), rtol=1e-5)


def test_the_losses_of_generator_critic_and_autoencoder():
    """By their formulas: the generator's is lowest for codes that the critic takes for real and the classifier does not believe."""
    model, keys = built(), jax.random.split(KEY, 12)
    z = np.asarray(jax.vmap(model.gan.sample)(keys, Y))
    score = np.asarray(jax.vmap(model.gan.score)(z, Y), np.float64).mean()
    believed = np.asarray(jax.vmap(lambda v, y: model(model.autoencoder.decode(v, y))[y])(z, Y), np.float64)
    codes = jax.vmap(model.autoencoder.encode)(X, Y)
    beside = float(uqgan.spread(codes, z, Y))
    loss = jax.jit(lambda m: uqgan.generator_loss(m, X, Y, KEY, doubt=0.7, spreading=0.3)[0])(model)
    np.testing.assert_allclose(loss, 0.7 * np.logaddexp(0, believed).mean() - score + 0.3 * beside, rtol=1e-4)
    assert z.min() < 0  # a code is any number, not a pixel
    critic = jax.jit(lambda m, penalty: uqgan.critic_loss(m, X, Y, KEY, penalty=penalty)[0])
    without, ten, twenty = (float(critic(model, penalty)) for penalty in (0.0, 10.0, 20.0))
    assert twenty - without == pytest.approx(2 * (ten - without), rel=1e-3) and ten > without
    said = np.asarray(jax.vmap(lambda v, y: model.autoencoder.decode(model.autoencoder.encode(v, y), y))(X, Y), np.float64)
    each = -(X * np.log(said) + (1 - X) * np.log1p(-said)).sum(1)
    np.testing.assert_allclose(uqgan.reconstruction_loss(model.autoencoder, X, Y, KEY)[0], each.mean(), rtol=1e-4)


def test_the_loss_without_a_shield():
    model = built()
    logits = np.asarray(jax.vmap(model)(X), np.float64)
    own = np.eye(3)[Y]
    expected = np.logaddexp(0, -logits)[own == 1].mean() + np.logaddexp(0, logits)[own == 0].mean()
    np.testing.assert_allclose(uqgan.one_vs_all_loss(model, X, Y, KEY)[0], expected, rtol=1e-5)


def test_beliefs_are_formula_3_of_the_answers():
    prior = np.float32([0.5, 0.25, 0.25])
    model = built(prior)
    for ours, theirs in zip(model.beliefs(X[0]), published(expit(np.asarray(model(X[0]), np.float64)), prior)):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_the_parts_have_the_papers_weights_unless_others_are_given():
    given = [part.loss.keywords for part in uqgan.parts(penalty=1.0, doubt=4.0, spreading=3.0, real=0.5, anchors=7)]
    assert given == [{"penalty": 1.0}, {"doubt": 4.0, "spreading": 3.0, "anchors": 7}, {"real": 0.5}]
    own = [part.loss.keywords for part in uqgan.parts()]
    assert own == [{"penalty": 10.0}, {"doubt": 2.0, "spreading": 32.0, "anchors": None}, {"real": 0.6}]
    assert [part.steps for part in uqgan.parts()] == [5, 1, 5]


def test_training_leaves_the_autoencoder_and_moves_the_rest():
    model = built()
    quick = optax.adam(1e-2)
    ways = uqgan.parts(critic_updates=1, classifier_updates=2, optimizer=quick, classifier_optimizer=quick)
    done = train.train(model, ways, (X, Y), key=KEY, steps=3, batch_size=3)
    moved = {
        name: any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(getattr(model, name)), jax.tree.leaves(getattr(done.model, name))))
        for name in ("autoencoder", "gan", "classifier")
    }
    assert moved == {"autoencoder": False, "gan": True, "classifier": True}
    assert done.model.beliefs(X[0]).posterior.shape == (3,)
    with pytest.raises(ValueError, match="labels must be"):
        train.train(model, ways, (X, Y + 1), key=KEY, steps=3, batch_size=3)
    with pytest.raises(ValueError, match=r"num_classes=1 must be at least 2"):
        uqgan.UQGAN(model.classifier, nnx.eval_shape(lambda: uqgan.ConditionalAutoencoder((6,), 1, rngs=nnx.Rngs(0))), rngs=nnx.Rngs(0))
