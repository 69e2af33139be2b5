"""Losses of adversarial models, and the inversion of generators, against closed forms."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx

from jxai.models.adversarial import adversarial_autoencoder, critic_loss, generator_loss, gradient_penalty, latent_critic_loss, wgan_gp
from jxai.models.coders import Encoder
from jxai.models.gan import GAN, AdversarialAutoencoder, ConditionalGAN
from jxai.models.inversion import Inverted, encoder_loss
from jxai.train import Part, train

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
XS = RNG.uniform(size=(5, 6)).astype(np.float32)
KEY = jax.random.key(0)


def size_of(slopes):
    return max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(slopes))


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def zeros(model):
    return jax.tree.map(np.zeros_like, model)


def test_gradient_penalty_of_linear_critics():
    w = normal(6)
    penalty = lambda v: gradient_penalty(lambda x: v @ x, XS[0], XS[1], KEY)
    values, slope = jax.jit(lambda ws: (jax.vmap(penalty)(ws), jax.grad(penalty)(ws[2])))(np.stack([w / np.linalg.norm(w), w, 0 * w]))
    np.testing.assert_allclose(values, [0, (np.linalg.norm(w) - 1) ** 2, 1], rtol=1e-5, atol=1e-10)
    assert np.asarray(values)[2] == 1 and (np.asarray(slope) == 0).all()


def test_gradient_penalty_is_taken_between_the_two():
    """Of `½ ‖x‖²`, whose gradient is x: with one end at 0, `(ε ‖real‖ − 1)²`, ε uniform."""
    one = lambda k: gradient_penalty(lambda x: (x**2).sum() / 2, np.float32([1, 0]), np.zeros(2, np.float32), k)
    values = jax.jit(lambda key: jax.vmap(one)(jax.random.split(key, 3000)))(KEY)
    np.testing.assert_allclose(np.asarray(values).mean(), 1 / 3, atol=0.02)


def test_losses_of_linear_critics():
    """With `D(x) = w·x` all is known: the distance, the penalty, and what moves which part."""
    linear = drawn(lambda rngs: GAN((6,), latent=3, hidden=(), rngs=rngs))
    w = normal(6)
    linear.critic.layers[0].kernel.set_value(w[:, None])
    linear.critic.layers[0].bias.set_value(np.zeros(1, np.float32))
    critic, generator = wgan_gp(penalty=4.0, critic_updates=3)
    assert (critic.trains, generator.trains, critic.steps, generator.steps) == (("critic",), ("generator",), 3, 1)

    @jax.jit
    def measure(model, xs):
        ours = jax.value_and_grad(lambda m: critic_loss(m, xs, None, KEY, penalty=4.0), has_aux=True)(model)
        others = jax.value_and_grad(lambda m: generator_loss(m, xs, None, KEY), has_aux=True)(model)
        return ours, others, critic.loss(model, xs, None, KEY)[0], jax.vmap(model.sample)(jax.random.split(KEY, 5))

    ((loss, metrics), slopes), ((fooled, score), other), parts, fakes = measure(linear, XS)
    steepness = (np.linalg.norm(w) - 1) ** 2
    np.testing.assert_allclose(metrics["gradient_penalty"], steepness, rtol=1e-5)
    np.testing.assert_allclose(loss, 4 * steepness - np.asarray(metrics["distance"]), rtol=1e-5)
    assert size_of(slopes.generator) == 0 < size_of(slopes.critic)
    np.testing.assert_allclose([fooled, -np.asarray(score["score"])], -(np.asarray(fakes) @ w).mean(), rtol=1e-5)
    assert size_of(other.generator) > 0
    np.testing.assert_allclose(parts, loss, rtol=1e-6)


def test_a_trained_critic_measures_the_distance_of_two_points():
    """Data at a, samples at b, d apart: the best slope is `1 + d / (2λ)`, so that the critic's `distance` is `d + d² / (2λ)`."""
    made = drawn(lambda rngs: GAN((2,), latent=1, hidden=(16,), rngs=rngs))
    gan, critic = zeros(made), made.critic
    xs = np.full((16, 2), 0.9, np.float32)
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

    train = jax.jit(lambda c, key: jax.lax.scan(step, (c, optimizer.init(c)), jax.random.split(key, 400))[1])
    np.testing.assert_allclose(np.asarray(train(critic, KEY))[-20:].mean(), d + d**2 / 20, rtol=0.02)


def test_conditional_losses_see_the_class():
    gan = drawn(lambda rngs: ConditionalGAN((6,), 3, latent=3, hidden=(5,), rngs=rngs))
    ys = np.array([0, 2, 1, 0, 2])

    @jax.jit
    def measure(ys):
        one = jax.vmap(lambda k, y: gan.score(gan.sample(k, y), y))(jax.random.split(KEY, 5), ys)
        return generator_loss(gan, XS, ys, KEY)[0], one, critic_loss(gan, XS, ys, KEY)[0]

    loss, each, critic = measure(ys)
    np.testing.assert_allclose(loss, -np.asarray(each).mean(), rtol=1e-5)
    assert float(critic) != float(measure((ys + 1) % 3)[2])
    for loss in (critic_loss, generator_loss):
        with pytest.raises(ValueError, match="ConditionalGAN needs the classes"):
            loss(gan, XS, None, KEY)


def test_second_derivatives_pass_through_convolutions():
    """The penalty's gradient in the critic's weights, against a difference quotient along it."""
    gan = drawn(lambda rngs: GAN((4, 4, 1), latent=3, hidden=(4,), features=(3,), rngs=rngs))
    xs = RNG.uniform(size=(3, 4, 4, 1)).astype(np.float32)
    differentiate = jax.jit(jax.value_and_grad(lambda m: critic_loss(m, xs, None, KEY)[0]))
    slopes = jax.tree.map(np.asarray, differentiate(gan)[1])
    total = sum((leaf**2).sum() for leaf in jax.tree.leaves(slopes))
    value = lambda h: float(differentiate(jax.tree.map(lambda v, g: np.float32(v + h * g / total), gan, slopes))[0])
    np.testing.assert_allclose((value(0.01) - value(-0.01)) / 0.02, 1, rtol=0.02)


def test_adversarial_autoencoder_losses():
    """Of a critic that says 0 to all: `2 log 2` and `log 2`; each loss moves only its own parts."""
    model = drawn(lambda rngs: AdversarialAutoencoder((6,), latent=3, hidden=(5,), critic=(4,), rngs=rngs))
    blind = jax.tree.map(np.copy, model)
    blind.critic = zeros(blind.critic)
    parts = adversarial_autoencoder(weight=3.0)
    assert [part.trains for part in parts] == [("critic",), ("encoder", "decoder")]

    @jax.jit
    def measure(model):
        both = [jax.value_and_grad(lambda m, part=part: part.loss(m, XS, None, KEY), has_aux=True)(model) for part in parts]
        return *both, jax.vmap(lambda x: model.decode(model.encode(x)))(XS)

    ((separation, _), _), ((loss, metrics), _), pixels = measure(blind)
    np.testing.assert_allclose(separation, 2 * np.log(2), rtol=1e-6)
    pixels = np.asarray(pixels, np.float64)
    cross_entropy = -(XS * np.log(pixels) + (1 - XS) * np.log1p(-pixels)).sum(1).mean()
    np.testing.assert_allclose(loss, cross_entropy + 3 * np.log(2), rtol=1e-5)
    np.testing.assert_allclose(metrics["deception"], np.log(2), rtol=1e-6)
    (_, first), (_, second), _ = measure(model)
    assert size_of((first.encoder, first.decoder)) == 0 < size_of(first.critic)
    assert min(size_of(second.encoder), size_of(second.decoder)) > 0
    # E(x) = 0 always and D(z) = 1 − |z| of one latent: it tells E(x) wrongly, and z rightly where |z| < 1.
    one = zeros(drawn(lambda rngs: AdversarialAutoencoder((6,), latent=1, hidden=(), critic=(2,), rngs=rngs)))
    one.critic.layers[0].kernel.set_value(np.float32([[1, -1]]))
    # leaky(z) + leaky(−z) = 0.8 |z|.
    one.critic.layers[1].kernel.set_value(np.full((2, 1), -1 / 0.8, np.float32))
    one.critic.layers[1].bias.set_value(np.ones(1, np.float32))
    (loss, metrics), z = jax.jit(lambda: (latent_critic_loss(one, np.zeros((500, 6), np.float32), None, KEY), jax.random.normal(KEY, (500, 1))))()
    z = np.asarray(z)[:, 0]
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


AFFINE = Affine(normal(6, 3), normal(6))


def test_inversion_of_an_affine_generator():
    """It finds z again; with a penalty the ridge solution; the same every time, as part of a batch as well."""
    z = normal(3)
    x = AFFINE.decode(z)
    inverted = Inverted(AFFINE, steps=400)
    encode = jax.jit(lambda m, x: m.encode(x))
    found = encode(inverted, x)
    np.testing.assert_allclose(found, z, atol=1e-3)
    np.testing.assert_array_equal(encode(Inverted(AFFINE, steps=400), x), found)
    np.testing.assert_allclose(np.asarray(jax.jit(jax.vmap(inverted.encode))(np.stack([x + 1, x])))[1], found, atol=1e-4)
    x = x + normal(6)
    a = np.float64(AFFINE.a)
    ridge = np.linalg.solve(a.T @ a + 2 * np.eye(3), a.T @ (x - AFFINE.b))
    np.testing.assert_allclose(encode(Inverted(AFFINE, steps=400, penalty=2.0), x), ridge, atol=1e-3)
    assert inverted.shape == (6,) and inverted.latent == 3


def test_inversion_keeps_the_best_seed():
    """Of `decode(z) = cos 3z + z² / 9`-like valleys, one descent stays where it began; of many the deepest valley is kept."""
    valleys = jax.tree_util.Partial(lambda z: jnp.stack([jnp.sin(2 * z[0]) - 1, (z[0] - 0.785398) / 4]))
    generator = dataclasses.make_dataclass("Valleys", [("decode", object), ("latent", int)])
    jax.tree_util.register_dataclass(generator, ["decode"], ["latent"])
    at = lambda seeds, x: Inverted(generator(valleys, 1), steps=300, seeds=seeds).encode(x)[0]
    one, many, first = map(float, jax.jit(lambda x: (at(1, x), at(32, x), jax.random.normal(jax.random.key(0), (1, 1))[0, 0]))(np.zeros(2, np.float32)))
    cost = lambda z: (np.sin(2 * z) - 1) ** 2 + ((z - 0.785398) / 4) ** 2
    assert cost(one) <= cost(first)
    np.testing.assert_allclose(many, np.pi / 4, atol=0.02)


def test_inversion_from_an_encoder():
    """Without steps it is the encoder; with some it is no worse, however bad the rate."""
    w, x = normal(3, 6), XS[0]
    start = jax.tree_util.Partial(lambda w, x: w @ x, w)
    options = ({"steps": 0}, {"steps": 20}, {"steps": 20, "learning_rate": 1e3})
    still, moved, thrown = map(np.asarray, jax.jit(lambda x: [Inverted(AFFINE, start, **given).encode(x) for given in options])(x))
    np.testing.assert_allclose(still, w @ x, rtol=1e-6, atol=1e-7)
    error = lambda z: float(((AFFINE.decode(z) - x) ** 2).sum())
    assert error(moved) < error(still) and error(thrown) <= error(still)


def test_encoder_loss():
    """Its parts for linear maps; 0 for the inverse; the generator stands still."""
    square = Affine(AFFINE.a[:3], np.zeros(3, np.float32))
    inverse = np.linalg.inv(square.a)
    model = lambda share: Inverted(square, jax.tree_util.Partial(lambda w, x: w @ x, inverse * np.float32(share)))
    measure = jax.jit(jax.value_and_grad(lambda m: encoder_loss(m, XS[:, :3], None, KEY, weight=3.0), has_aux=True))
    np.testing.assert_allclose(measure(model(1))[0][0], 0, atol=1e-6)
    (loss, metrics), slopes = measure(model(0.5))
    latent_error, error = (float(metrics[name]) for name in ("latent_error", "error"))
    z = np.asarray(jax.random.normal(KEY, (5, 3)))
    np.testing.assert_allclose(latent_error, (z**2).sum(1).mean() / 4, rtol=1e-4)
    np.testing.assert_allclose(error, (XS[:, :3] ** 2).sum(1).mean() / 4, rtol=1e-4)
    np.testing.assert_allclose(loss, latent_error + 3 * error, rtol=1e-6)
    assert size_of(slopes.generator) == 0 < size_of(slopes.start)


def test_bad_inputs():
    model = Inverted(AFFINE)
    for call, word in (
        (lambda: Inverted(AFFINE, steps=-1), "steps=-1 must be an integer >= 0"),
        (lambda: Inverted(AFFINE, seeds=0), "seeds=0"),
        (lambda: Inverted(AFFINE, learning_rate=0.0), "learning_rate=0.0"),
        (lambda: Inverted(AFFINE, penalty=-1.0), "penalty=-1.0"),
        (lambda: model.encode(np.zeros(5, np.float32)), r"x must be floating point of shape \(6,\)"),
        (lambda: Inverted(np.zeros(3)).encode(np.zeros(5, np.float32)), "must have decode.* and the integer latent"),
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
