"""Losses of adversarial models, and the inversion of generators, against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jxai.models.adversarial import adversarial_autoencoder, critic_loss, generator_loss, gradient_penalty, latent_critic_loss, wgan_gp
from jxai.models.coders import Encoder
from jxai.models.gan import GAN, AdversarialAutoencoder, ConditionalGAN
from jxai.models.inversion import Inverted, encoder_loss
from jxai.train import Part, train

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
XS = jax.random.uniform(jax.random.key(7), (5, 6))
KEY = jax.random.key(0)


def size_of(slopes):
    return max(float(jnp.abs(leaf).max()) for leaf in jax.tree.leaves(slopes))


def test_gradient_penalty_of_linear_critics():
    w = jnp.asarray(RNG.normal(size=6), jnp.float32)
    penalty = lambda v: gradient_penalty(lambda x: v @ x, XS[0], XS[1], KEY)
    np.testing.assert_allclose(penalty(w / jnp.linalg.norm(w)), 0, atol=1e-10)
    np.testing.assert_allclose(penalty(w), (np.linalg.norm(w) - 1) ** 2, rtol=1e-5)
    assert penalty(0 * w) == 1 and (jax.grad(penalty)(0 * w) == 0).all()


def test_gradient_penalty_is_taken_between_the_two():
    """Of `½ ‖x‖²`, whose gradient is x: with one end at 0, `(ε ‖real‖ − 1)²`, ε uniform."""
    values = jax.vmap(lambda k: gradient_penalty(lambda x: (x**2).sum() / 2, jnp.array([1.0, 0]), jnp.zeros(2), k))(jax.random.split(KEY, 3000))
    np.testing.assert_allclose(values.mean(), 1 / 3, atol=0.02)


def test_losses_of_linear_critics():
    """With `D(x) = w·x` all is known: the distance, the penalty, and what moves which part."""
    gan = GAN((6,), latent=3, hidden=(5,), rngs=nnx.Rngs(0))
    w = jnp.asarray(RNG.normal(size=6), jnp.float32)
    linear = GAN((6,), latent=3, hidden=(), rngs=nnx.Rngs(0))
    linear.critic.layers[0].kernel[...] = w[:, None]
    (loss, metrics), slopes = jax.value_and_grad(lambda m: critic_loss(m, XS, None, KEY, penalty=4.0), has_aux=True)(linear)
    steepness = (np.linalg.norm(w) - 1) ** 2
    np.testing.assert_allclose(metrics["gradient_penalty"], steepness, rtol=1e-5)
    np.testing.assert_allclose(loss, 4 * steepness - metrics["distance"], rtol=1e-5)
    assert size_of(slopes.generator) == 0 < size_of(slopes.critic)
    fakes = jax.vmap(linear.sample)(jax.random.split(KEY, 5))
    loss, metrics = generator_loss(linear, XS, None, KEY)
    np.testing.assert_allclose([loss, -metrics["score"]], -(fakes @ w).mean(), rtol=1e-5)
    assert size_of(jax.grad(lambda m: generator_loss(m, XS, None, KEY)[0])(gan).generator) > 0
    critic, generator = wgan_gp(penalty=4.0, critic_updates=3)
    assert (critic.trains, generator.trains, critic.steps, generator.steps) == (("critic",), ("generator",), 3, 1)
    np.testing.assert_allclose(critic.loss(linear, XS, None, KEY)[0], critic_loss(linear, XS, None, KEY, penalty=4.0)[0])


def test_a_trained_critic_measures_the_distance_of_two_points():
    """Data at a, samples at b, d apart: the best slope is `1 + d / (2λ)`, so that the critic's `distance` is `d + d² / (2λ)`."""
    gan = jax.tree.map(lambda v: 0 * v, GAN((2,), latent=1, hidden=(16,), rngs=nnx.Rngs(0)))
    gan.critic = GAN((2,), latent=1, hidden=(16,), rngs=nnx.Rngs(0)).critic
    xs = jnp.full((16, 2), 0.9)
    d = float(np.linalg.norm(np.full(2, 0.4)))
    optimizer = optax.adam(optax.cosine_decay_schedule(0.02, 400))

    def step(carry, key):
        critic, state = carry

        def loss(critic):
            model = nnx.merge(nnx.graphdef(gan), nnx.state(gan))
            model.critic = critic
            return critic_loss(model, xs, None, key)

        (_, metrics), slopes = jax.value_and_grad(loss, has_aux=True)(critic)
        updates, state = optimizer.update(slopes, state)
        return (optax.apply_updates(critic, updates), state), metrics["distance"]

    train = jax.jit(lambda c: jax.lax.scan(step, (c, optimizer.init(c)), jax.random.split(KEY, 400)))
    (_, _), distance = train(gan.critic)
    np.testing.assert_allclose(distance[-20:].mean(), d + d**2 / 20, rtol=0.02)


def test_conditional_losses_see_the_class():
    gan = ConditionalGAN((6,), 3, latent=3, hidden=(5,), rngs=nnx.Rngs(0))
    ys = jnp.array([0, 2, 1, 0, 2])
    keys = jax.random.split(KEY, 5)
    loss, _ = generator_loss(gan, XS, ys, KEY)
    np.testing.assert_allclose(loss, -np.mean([gan.score(gan.sample(k, int(y)), int(y)) for k, y in zip(keys, ys)]), rtol=1e-5)
    assert critic_loss(gan, XS, ys, KEY)[0] != critic_loss(gan, XS, (ys + 1) % 3, KEY)[0]
    for loss in (critic_loss, generator_loss):
        with pytest.raises(ValueError, match="ConditionalGAN needs the classes"):
            loss(gan, XS, None, KEY)


def test_second_derivatives_pass_through_convolutions():
    """The penalty's gradient in the critic's weights, against a difference quotient along it."""
    gan = GAN((4, 4, 1), latent=3, hidden=(4,), features=(3,), rngs=nnx.Rngs(0))
    xs = jax.random.uniform(KEY, (3, 4, 4, 1))
    value = jax.jit(lambda m: critic_loss(m, xs, None, KEY)[0])
    slopes = jax.jit(jax.grad(value))(gan)
    total = sum((leaf**2).sum() for leaf in jax.tree.leaves(slopes))
    moved = lambda h: jax.tree.map(lambda v, g: v + h * g / total, gan, slopes)
    np.testing.assert_allclose((value(moved(0.01)) - value(moved(-0.01))) / 0.02, 1, rtol=0.02)


def test_adversarial_autoencoder_losses():
    """Of a critic that says 0 to all: `2 log 2` and `log 2`; each loss moves only its own parts."""
    model = AdversarialAutoencoder((6,), latent=3, hidden=(5,), critic=(4,), rngs=nnx.Rngs(0))
    blind = AdversarialAutoencoder((6,), latent=3, hidden=(5,), critic=(4,), rngs=nnx.Rngs(0))
    blind.critic = jax.tree.map(lambda v: 0 * v, blind.critic)
    parts = adversarial_autoencoder(weight=3.0)
    assert [part.trains for part in parts] == [("critic",), ("encoder", "decoder")]
    np.testing.assert_allclose(parts[0].loss(blind, XS, None, KEY)[0], 2 * np.log(2), rtol=1e-6)
    loss, metrics = parts[1].loss(blind, XS, None, KEY)
    pixels = np.asarray(jax.vmap(lambda x: blind.decode(blind.encode(x)))(XS), np.float64)
    cross_entropy = -(XS * np.log(pixels) + (1 - XS) * np.log1p(-pixels)).sum(1).mean()
    np.testing.assert_allclose(loss, cross_entropy + 3 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(metrics["deception"], np.log(2), rtol=1e-6)
    first, second = (jax.grad(lambda m, part=part: part.loss(m, XS, None, KEY)[0])(model) for part in parts)
    assert size_of((first.encoder, first.decoder)) == 0 < size_of(first.critic)
    assert min(size_of(second.encoder), size_of(second.decoder)) > 0
    # E(x) = 0 always and D(z) = 1 − |z| of one latent: it tells E(x) wrongly, and z rightly where |z| < 1.
    one = AdversarialAutoencoder((6,), latent=1, hidden=(), critic=(2,), rngs=nnx.Rngs(0))
    one.encoder = jax.tree.map(lambda v: 0 * v, one.encoder)
    one.critic.layers[0].kernel[...] = jnp.array([[1.0, -1]])
    # leaky(z) + leaky(−z) = 0.8 |z|.
    one.critic.layers[1].kernel[...] = jnp.full((2, 1), -1 / 0.8)
    one.critic.layers[1].bias[...] = jnp.ones(1)
    z = np.asarray(jax.random.normal(KEY, (500, 1)))[:, 0]
    loss, metrics = latent_critic_loss(one, jnp.zeros((500, 6)), None, KEY)
    np.testing.assert_allclose(metrics["accuracy"], (np.abs(z) < 1).mean() / 2, atol=1e-6)
    np.testing.assert_allclose(loss, np.log1p(np.exp(np.abs(z) - 1)).mean() + np.log1p(np.e), rtol=1e-5)


@pytest.mark.slow
def test_trained_on_digits():
    """A conditional GAN draws the class that it is asked for, an adversarial autoencoder's codes become standard normal, an encoder learns to invert."""
    digits = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn").load_digits()
    xs, ys = (digits.images[..., None] / 16).astype(np.float32), digits.target.astype(np.int32)
    centres = np.stack([xs[ys == y].mean(0) for y in range(10)])
    parts = wgan_gp(optimizer=optax.adam(5e-4, b1=0.0, b2=0.9))
    gan = ConditionalGAN((8, 8, 1), 10, latent=16, hidden=(128, 128), rngs=nnx.Rngs(0))
    gan = train(gan, parts, (xs, ys), key=KEY, steps=1500, batch_size=64, block=50).model
    asked = np.arange(200) % 10
    drawn = np.asarray(jax.vmap(gan.sample)(jax.random.split(KEY, 200), asked))
    assert (((drawn[:, None] - centres) ** 2).sum((2, 3, 4)).argmin(1) == asked).mean() > 0.85
    model = AdversarialAutoencoder((8, 8, 1), latent=8, hidden=(128,), rngs=nnx.Rngs(0))
    model = train(model, adversarial_autoencoder(), xs, key=KEY, steps=3000, block=50).model
    z = jax.vmap(model.encode)(xs)
    assert jnp.abs(z.mean(0)).max() < 0.3 and 0.8 < z.std(0).min() and z.std(0).max() < 1.2
    error = lambda m: float(((jax.vmap(lambda x: m.decode(m.encode(x)))(xs[:200]) - xs[:200]) ** 2).mean())
    assert error(model) < 0.015 < ((xs - xs.mean(0)) ** 2).mean() / 4
    inverted = Inverted(gan.given(3), Encoder((8, 8, 1), 16, (128,), rngs=nnx.Rngs(0)), steps=0)
    learnt = train(inverted, [Part(encoder_loss, optax.adam(1e-3), ("start",))], xs[ys == 3], key=KEY, steps=1000, batch_size=64, block=50).model
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), learnt.generator, inverted.generator))
    mse = lambda m: float(((jax.vmap(lambda x: m.decode(m.encode(x)))(xs[ys == 3]) - xs[ys == 3]) ** 2).mean())
    assert mse(learnt) < mse(inverted) / 2


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Affine:
    """`decode(z) = A z + b`."""

    a: jax.Array
    b: jax.Array

    latent = property(lambda self: self.a.shape[1])

    def decode(self, z):
        return self.a @ z + self.b


AFFINE = Affine(jnp.asarray(RNG.normal(size=(6, 3)), jnp.float32), jnp.asarray(RNG.normal(size=6), jnp.float32))


def test_inversion_of_an_affine_generator():
    """It finds z again; with a penalty the ridge solution; the same every time, as part of a batch as well."""
    z = jnp.asarray(RNG.normal(size=3), jnp.float32)
    x = AFFINE.decode(z)
    inverted = Inverted(AFFINE, steps=400)
    encode = jax.jit(lambda m, x: m.encode(x))
    found = encode(inverted, x)
    np.testing.assert_allclose(found, z, atol=1e-3)
    np.testing.assert_array_equal(encode(Inverted(AFFINE, steps=400), x), found)
    np.testing.assert_allclose(jax.vmap(inverted.encode)(jnp.stack([x + 1, x]))[1], found, atol=1e-4)
    x = x + jnp.asarray(RNG.normal(size=6), jnp.float32)
    a = np.asarray(AFFINE.a, np.float64)
    ridge = np.linalg.solve(a.T @ a + 2 * np.eye(3), a.T @ np.asarray(x - AFFINE.b))
    np.testing.assert_allclose(encode(Inverted(AFFINE, steps=400, penalty=2.0), x), ridge, atol=1e-3)
    assert inverted.shape == (6,) and inverted.latent == 3


def test_inversion_keeps_the_best_seed():
    """Of `decode(z) = cos 3z + z² / 9`-like valleys, one descent stays where it began; of many the deepest valley is kept."""
    valleys = jax.tree_util.Partial(lambda z: jnp.stack([jnp.sin(2 * z[0]) - 1, (z[0] - 0.785398) / 4]))
    generator = dataclasses.make_dataclass("Valleys", [("decode", object), ("latent", int)])
    jax.tree_util.register_dataclass(generator, ["decode"], ["latent"])
    at = lambda seeds: float(jax.jit(lambda x: Inverted(generator(valleys, 1), steps=300, seeds=seeds).encode(x))(jnp.zeros(2))[0])
    one, many = at(1), at(32)
    first = float(jax.random.normal(jax.random.key(0), (1, 1))[0, 0])
    cost = lambda z: (np.sin(2 * z) - 1) ** 2 + ((z - 0.785398) / 4) ** 2
    assert cost(one) <= cost(first)
    np.testing.assert_allclose(many, np.pi / 4, atol=0.02)


def test_inversion_from_an_encoder():
    """Without steps it is the encoder; with some it is no worse, however bad the rate."""
    start = jax.tree_util.Partial(lambda w, x: w @ x, jnp.asarray(RNG.normal(size=(3, 6)), jnp.float32))
    x = XS[0]
    np.testing.assert_array_equal(Inverted(AFFINE, start, steps=0).encode(x), start(x))
    error = lambda z: float(((AFFINE.decode(z) - x) ** 2).sum())
    assert error(Inverted(AFFINE, start, steps=20).encode(x)) < error(start(x))
    assert error(Inverted(AFFINE, start, steps=20, learning_rate=1e3).encode(x)) <= error(start(x))


def test_encoder_loss():
    """Its parts for linear maps; 0 for the inverse; the generator stands still."""
    square = Affine(AFFINE.a[:3], jnp.zeros(3))
    exact = jax.tree_util.Partial(lambda w, x: w @ x, jnp.linalg.inv(square.a))
    np.testing.assert_allclose(encoder_loss(Inverted(square, exact), XS[:, :3], None, KEY)[0], 0, atol=1e-6)
    half = jax.tree_util.Partial(lambda w, x: w @ x, jnp.linalg.inv(square.a) / 2)
    (loss, metrics), slopes = jax.value_and_grad(lambda m: encoder_loss(m, XS[:, :3], None, KEY, weight=3.0), has_aux=True)(Inverted(square, half))
    z = jax.random.normal(KEY, (5, 3))
    np.testing.assert_allclose(metrics["latent_error"], (z**2).sum(1).mean() / 4, rtol=1e-4)
    np.testing.assert_allclose(metrics["error"], (XS[:, :3] ** 2).sum(1).mean() / 4, rtol=1e-4)
    np.testing.assert_allclose(loss, metrics["latent_error"] + 3 * metrics["error"], rtol=1e-6)
    assert size_of(slopes.generator) == 0 < size_of(slopes.start)


def test_bad_inputs():
    model = Inverted(AFFINE)
    for call, word in (
        (lambda: Inverted(AFFINE, steps=-1), "steps=-1 must be an integer >= 0"),
        (lambda: Inverted(AFFINE, seeds=0), "seeds=0"),
        (lambda: Inverted(AFFINE, learning_rate=0.0), "learning_rate=0.0"),
        (lambda: Inverted(AFFINE, penalty=-1.0), "penalty=-1.0"),
        (lambda: model.encode(jnp.zeros(5)), r"x must be floating point of shape \(6,\)"),
        (lambda: Inverted(jnp.zeros(3)).encode(jnp.zeros(5)), "must have decode.* and the integer latent"),
        (lambda: encoder_loss(model, XS, None, KEY), "model.start=None"),
        (lambda: encoder_loss(Inverted(AFFINE, AFFINE), XS, None, KEY, weight=-1.0), "weight=-1.0"),
        (lambda: wgan_gp(penalty=-1.0), "penalty=-1.0"),
        (lambda: wgan_gp(critic_updates=0), "critic_updates=0"),
        (lambda: adversarial_autoencoder(weight=-1.0), "weight=-1.0"),
        (lambda: adversarial_autoencoder(sigma=0.0), "sigma=0.0"),
        (lambda: adversarial_autoencoder(likelihood="poisson"), "likelihood='poisson'"),
    ):
        with pytest.raises(ValueError, match=word):
            call()
