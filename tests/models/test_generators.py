"""Generators: their layers against plain definitions, trained ones on real data, and the contract of a generator."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx

from jxai import models
from jxai.adapters import weight_files
from jxai.counterfactual import diffeomorphic
from jxai.models import weights
from jxai.models.burgess import BurgessVAE, btcvae
from jxai.models.coders import ConvTranspose, Decoder, Encoder, condition
from jxai.models.gan import GAN, AdversarialAutoencoder, ConditionalGAN, mnist_gan
from jxai.models.inversion import Inverted
from jxai.models.vae import VAE, ConditionalVAE, ConvVAE, mnist_vae
from jxai.models.variational import vae_loss

pytestmark = pytest.mark.usefixtures("quick_compilation")


def load(loader, *args):
    """Trained weights, or a skip that says what is missing."""
    try:
        return loader(*args)
    except FileNotFoundError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def mnist(dataset):
    return lambda n: np.stack(dataset("mnist", n)[0]).astype(np.float32) / 255


def reconstruction_error(model, xs, side):
    def errors(xs):
        xs = jax.image.resize(xs, (len(xs), side, side, 1), "bilinear")
        return (jax.vmap(lambda x: model.decode(model.encode(x)))(xs) - xs) ** 2

    return float(np.asarray(jax.jit(errors)(xs)).mean())


def test_trained_autoencoders_reconstruct_digits(mnist):
    xs = mnist(200)
    mean_image = float(((xs - xs.mean(0)) ** 2).mean())
    assert reconstruction_error(load(mnist_vae), xs, 28) <= 0.0095 < mean_image / 5
    assert reconstruction_error(load(btcvae), xs, 32) <= 0.0125


def test_trained_gan_makes_digits(mnist):
    gan, lenet = load(mnist_gan), load(models.lenet5)

    @jax.jit
    def measure(real, key):
        xs = jax.vmap(gan.sample)(jax.random.split(key, 100))
        p = jax.nn.softmax(jax.vmap(lenet)(jax.image.resize(xs, (100, 32, 32, 1), "bilinear")))
        return p, jax.vmap(gan.score)(real), jax.vmap(gan.score)(xs)

    p, real, own = map(np.asarray, measure(mnist(100), jax.random.key(0)))
    assert p.max(1).mean() > 0.9 and len(set(p.argmax(1).tolist())) == 10
    # The critic still tells some of them.
    assert real.mean() > own.mean()


def test_trained_gan_is_the_stored_network():
    """The map of tanh to [0, 1] and of pixels to [−1, 1] is in the weights."""
    gan = load(mnist_gan)
    g, d = (weight_files.read(weights.find(f"mnist_gan_{name}.npz")) for name in ("generator", "discriminator"))

    def network(a, v, activation):
        for n in (0, 2, 4):
            v = a[f"{n}.weight"].astype(np.float64) @ v + a[f"{n}.bias"]
            v = v if n == 4 else activation(v)
        return v

    z = np.random.default_rng(0).normal(size=64)
    image = np.tanh(network(g, z, lambda v: np.maximum(v, 0)))
    x, judged = jax.jit(lambda z: (lambda x: (x, gan.score(x)))(gan.decode(z)))(np.float32(z))
    np.testing.assert_allclose(np.ravel(x), (image + 1) / 2, atol=1e-5)
    score = network(d, image, lambda v: np.where(v > 0, v, 0.2 * v))
    np.testing.assert_allclose(judged, score[0], rtol=1e-4, atol=1e-4)


def test_trained_faces_differ_along_each_latent():
    """Each of the ten latents of the face model moves pixels, most of them much."""
    model = load(btcvae, "celeba")
    at = np.concatenate([2 * np.eye(10), -2 * np.eye(10)]).astype(np.float32)
    xs = np.asarray(jax.jit(jax.vmap(model.decode))(at))
    moved = np.abs(xs[:10] - xs[10:]).mean((1, 2, 3))
    assert xs.shape == (20, 64, 64, 3) and moved.min() > 1e-3 and np.median(moved) > 0.02


@pytest.mark.parametrize(
    "loader", [mnist_vae, pytest.param(lambda: Inverted(mnist_gan(), steps=100, seeds=4, penalty=0.1), marks=pytest.mark.slow)], ids=["vae", "gan"]
)
def test_trained_generators_serve_counterfactuals(mnist, loader):
    generator, f = load(loader), load(models.robust_cnn)
    search = functools.partial(diffeomorphic, steps=150, threshold=0.9)

    @jax.jit
    def searched(generator, f, x):
        found = jax.vmap(lambda t: search(f, x, t, generator=generator))(jnp.arange(10))
        return found, jax.nn.softmax(jax.vmap(f)(found.x)), jax.vmap(generator.decode)(found.latent)

    found, p, decoded = jax.tree.map(np.asarray, searched(generator, f, mnist(1)[0]))
    assert found.valid.mean() >= 0.6
    for n in np.flatnonzero(found.valid & (found.steps > 0)):
        assert p[n].argmax() == n and p[n, n] >= 0.9 - 1e-4
        np.testing.assert_allclose(decoded[n], found.x[n], atol=1e-5)


def test_transposed_convolution_equals_its_definition():
    """As PyTorch's ConvTranspose2d(3, 2, 4, stride=2, padding=1): every pixel scatters the kernel."""
    rng = np.random.default_rng(0)
    kernel, bias, x = rng.normal(size=(3, 2, 4, 4)), rng.normal(size=2), rng.normal(size=(5, 4, 3))
    full = np.zeros((12, 10, 2))
    for i in range(5):
        for j in range(4):
            full[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("c,coab->abo", x[i, j], kernel)
    layer = drawn(lambda rngs: ConvTranspose(3, 2, rngs=rngs))
    layer.load(kernel, bias)
    np.testing.assert_allclose(jax.jit(layer)(np.float32(x)), full[1:-1, 1:-1] + bias, atol=1e-5)
    with pytest.raises(ValueError, match=r"shape \(4, 4, 2, 2\) do not fit a parameter of shape \(4, 4, 2, 3\)"):
        layer.load(kernel[:2], bias)


GENERATORS = {
    "vae": lambda rngs: VAE((6,), latent=3, hidden=(5,), rngs=rngs),
    "conv_vae": lambda rngs: ConvVAE((8, 4, 2), latent=3, hidden=(5,), features=(3, 4), rngs=rngs),
    "given_vae": lambda rngs: ConditionalVAE((4, 4, 1), 3, latent=3, hidden=(5,), features=(2,), rngs=rngs).given(1),
    "burgess": lambda rngs: BurgessVAE(rngs=rngs),
    "adversarial": lambda rngs: AdversarialAutoencoder((6,), latent=3, hidden=(5,), critic=(4,), rngs=rngs),
    "gan": lambda rngs: Inverted(GAN((4, 4, 2), latent=3, hidden=(16,), features=(8, 6), rngs=rngs), steps=3, seeds=2),
    "given_gan": lambda rngs: Inverted(ConditionalGAN((6,), 3, latent=3, hidden=(5,), rngs=rngs).given(1), steps=3, seeds=2),
    "started": lambda rngs: Inverted(GAN((6,), latent=3, hidden=(5,), rngs=rngs), Encoder((6,), 3, (4,), rngs=rngs), steps=3),
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in ("gan", "burgess"))) for name in GENERATORS])
def test_a_generator_is_a_pytree_with_encode_and_decode(name):
    """New weights do not retrace, every leaf is a weight, a batch is vmap, and a gradient passes through both."""
    a, b = (drawn(GENERATORS[name], seed) for seed in range(2))

    @jax.jit
    @chex.assert_max_traces(n=1)
    def both(model, xs):
        z = model.encode(xs[0])
        slopes = jax.grad(lambda z: (model.decode(z) ** 2).sum())(z)
        return z, model.decode(z), slopes, jax.vmap(model.encode)(xs)[0], jax.vmap(model.decode)(jnp.stack([z, z]))[0]

    xs = np.random.default_rng(0).uniform(size=(2, *a.shape)).astype(np.float32)
    z, x, slopes, z_of_batch, x_of_batch = map(np.asarray, both(a, xs))
    assert not np.allclose(x, both(b, xs)[1])
    assert z.shape == (a.latent,) and x.shape == a.shape and 0 <= x.min() and x.max() <= 1
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(a))
    np.testing.assert_allclose(z_of_batch, z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(x_of_batch, x, rtol=1e-4, atol=1e-5)
    assert np.isfinite(slopes).all() and np.abs(slopes).max() > 0


def test_decoders_of_samples_and_views():
    """A sample is decoded of the prior; `given(y)` is the model at y, and a one-hot vector is its class."""
    key, hot = jax.random.key(3), np.float32([0, 1, 0])
    plain = [drawn(lambda rngs, make=make: make((6,), latent=3, hidden=(5,), rngs=rngs)) for make in (VAE, GAN, AdversarialAutoencoder)]
    vae, gan = (drawn(lambda rngs, make=make: make((6,), 3, latent=3, hidden=(5,), rngs=rngs)) for make in (ConditionalVAE, ConditionalGAN))
    for model in plain:
        with pytest.raises(ValueError, match="key=None"):
            model.sample(None)

    @jax.jit
    def measure(key, x, hot, one):
        """Pairs that are equal, pairs that are not, and what is asked of a class that is none."""
        z = jax.random.normal(key, (3,))
        equal = [(model.sample(key), model.decode(z)) for model in plain]
        for model in (vae, gan):
            equal += [(model.given(1).decode(z), model.decode(z, hot)), (model.given(1).sample(key), model.decode(z, one))]
        equal += [(vae.given(hot).encode(x), vae.encode_distribution(x, 1)[0]), (jax.nn.sigmoid(vae.given(hot).logits(z)), vae.decode(z, 1))]
        equal += [(gan.given(hot).score(x), gan.score(x, 1))]
        other = [(model.decode(z, 1), model.decode(z, 2)) for model in (vae, gan)]
        return equal, [*other, (vae.encode(x, 1), vae.encode(x, 2)), (gan.score(x, 1), gan.score(x, 2))], vae.decode(z, one + 2)

    equal, other, none = jax.tree.map(np.asarray, measure(key, np.linspace(0, 1, 6, dtype=np.float32), hot, np.int32(1)))
    for a, b in equal:
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in other) and np.isnan(none).all()


def test_a_trained_conditional_vae_draws_the_digit_that_it_is_asked_for():
    """Of scikit-learn's digits: what it decodes at y is nearest to the mean of class y, and z carries over to another y."""
    digits = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn").load_digits()
    xs, ys = np.float32(digits.images[..., None] / 16), np.int32(digits.target)
    structure, start = nnx.split(drawn(lambda rngs: ConditionalVAE((8, 8, 1), 10, latent=4, hidden=(64,), rngs=rngs)))
    optimizer = optax.adam(3e-3)

    def step(xs, ys, carry, key):
        params, state = carry
        rows = jax.random.randint(key, (128,), 0, len(xs))
        (loss, _), slopes = jax.value_and_grad(lambda p: vae_loss(nnx.merge(structure, p), xs[rows], ys[rows], key), has_aux=True)(params)
        updates, state = optimizer.update(slopes, state)
        return (optax.apply_updates(params, updates), state), loss

    @jax.jit
    def trained(params, key, xs, ys):
        (params, _), losses = jax.lax.scan(functools.partial(step, xs, ys), (params, optimizer.init(params)), jax.random.split(key, 400))
        model, every = nnx.merge(structure, params), jnp.arange(10)
        samples = jax.vmap(lambda k: jax.vmap(lambda y: model.sample(k, y))(every))(jax.random.split(key, 20))
        return losses, samples, jax.vmap(lambda x, y: model.decode(model.encode(x, y), (y + 1) % 10))(xs[:100], ys[:100])

    losses, samples, moved = map(np.asarray, trained(start, jax.random.key(0), xs, ys))
    assert losses[-20:].mean() < 0.75 * losses[:20].mean()
    centres = np.stack([xs[ys == y].mean(0) for y in range(10)])
    nearest = lambda x: ((centres - x[..., None, :, :, :]) ** 2).sum((-3, -2, -1)).argmin(-1)
    assert (nearest(samples) == np.arange(10)).mean() > 0.9
    assert (nearest(moved) == (ys[:100] + 1) % 10).mean() > 0.8


def test_bad_inputs():
    rngs = nnx.Rngs(0)
    vae = drawn(lambda rngs: VAE((6,), latent=3, rngs=rngs))
    for call, word in (
        (lambda: vae.encode(np.zeros(5, np.float32)), r"x must be floating point of shape \(6,\)"),
        (lambda: vae.encode(np.zeros(6, np.int32)), "int32"),
        (lambda: vae.encode(np.zeros((2, 6), np.float32)), "jax.vmap"),
        (lambda: vae.decode(np.zeros(4, np.float32)), r"z must be floating point of shape \(3,\)"),
        (lambda: VAE((6,), latent=0, rngs=rngs), "latent=0"),
        (lambda: GAN((6,), latent=-1, rngs=rngs), "latent=-1"),
        (lambda: ConditionalVAE((6,), 0, rngs=rngs), "num_classes=0"),
        (lambda: VAE((6,), hidden=(4, 0), rngs=rngs), r"hidden\[1\]=0"),
        (lambda: VAE((6, 0), rngs=rngs), r"shape\[1\]=0"),
        (lambda: ConvVAE((30, 28, 1), rngs=rngs), r"shape=\(30, 28, 1\) must be an image .* divisible by 4"),
        (lambda: ConvVAE((16,), rngs=rngs), "must be an image"),
        (lambda: Decoder((4, 4, 1), 2, features=(0,), rngs=rngs), r"features\[0\]=0"),
        (lambda: BurgessVAE(28, rngs=rngs), "side=28 must be one of 32, 64"),
        (lambda: btcvae("svhn"), "data='svhn'"),
        (lambda: condition(10, 10), r"y=10 must be a class in \[0, 10\)"),
        (lambda: condition(-1, 10), "y=-1"),
        (lambda: condition(np.zeros(9, np.float32), 10), r"probabilities \[10\], got float32 of shape \(9,\)"),
        (lambda: condition("7", 10), "got str"),
        (lambda: condition(True, 10), "got bool"),
    ):
        with pytest.raises(ValueError, match=word):
            call()


def test_missing_and_misplaced_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("JXAI_DATA", str(tmp_path))
    for loader, name in ((mnist_vae, "mnist_vae"), (mnist_gan, "mnist_gan_generator"), (btcvae, "btcvae_mnist")):
        with pytest.raises(FileNotFoundError, match=rf"{name}\.npz.*JXAI_DATA"):
            loader()
    file = tmp_path / "mnist_gan_generator.npz"
    np.savez(file, a=np.zeros(1))
    with pytest.raises(ValueError, match="must be the folder"):
        mnist_gan(file)
