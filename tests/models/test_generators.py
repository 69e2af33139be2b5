"""Generators: their layers against plain definitions, trained ones on real data, and the contract of a generator."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jxai import models
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


def reconstruction_error(model, xs):
    return float(((jax.jit(jax.vmap(lambda x: model.decode(model.encode(x))))(xs) - xs) ** 2).mean())


def test_trained_autoencoders_reconstruct_digits(mnist):
    xs = mnist(500)
    mean_image = float(((xs - xs.mean(0)) ** 2).mean())
    assert reconstruction_error(load(mnist_vae), xs) <= 0.0095 < mean_image / 5
    assert reconstruction_error(load(btcvae), jax.image.resize(xs, (500, 32, 32, 1), "bilinear")) <= 0.0125


def test_trained_gan_makes_digits(mnist):
    gan, lenet = load(mnist_gan), load(models.lenet5)
    xs = jax.jit(jax.vmap(gan.sample))(jax.random.split(jax.random.key(0), 100))
    p = jax.nn.softmax(jax.vmap(lenet)(jax.image.resize(xs, (100, 32, 32, 1), "bilinear")))
    assert p.max(1).mean() > 0.9 and len(set(p.argmax(1).tolist())) == 10
    # The critic still tells some of them.
    assert jax.vmap(gan.score)(mnist(100)).mean() > jax.vmap(gan.score)(xs).mean()


def test_trained_gan_is_the_stored_network():
    """The map of tanh to [0, 1] and of pixels to [−1, 1] is in the weights."""
    gan = load(mnist_gan)
    g, d = (weights.load_npz(weights.find(f"mnist_gan_{name}.npz")) for name in ("generator", "discriminator"))

    def network(a, v, activation):
        for n in (0, 2, 4):
            v = a[f"{n}.weight"].astype(np.float64) @ v + a[f"{n}.bias"]
            v = v if n == 4 else activation(v)
        return v

    z = np.random.default_rng(0).normal(size=64)
    image = np.tanh(network(g, z, lambda v: np.maximum(v, 0)))
    x = gan.decode(jnp.asarray(z, jnp.float32))
    np.testing.assert_allclose(x.reshape(-1), (image + 1) / 2, atol=1e-5)
    score = network(d, image, lambda v: np.where(v > 0, v, 0.2 * v))
    np.testing.assert_allclose(gan.score(x), score[0], rtol=1e-4, atol=1e-4)


def test_trained_faces_differ_along_each_latent():
    """Each of the ten latents of the face model moves pixels, most of them much."""
    model = load(btcvae, "celeba")
    at = jnp.concatenate([2 * jnp.eye(10), -2 * jnp.eye(10)])
    xs = jax.jit(jax.vmap(model.decode))(at)
    moved = jnp.abs(xs[:10] - xs[10:]).mean((1, 2, 3))
    assert xs.shape == (20, 64, 64, 3) and moved.min() > 1e-3 and jnp.median(moved) > 0.02


@pytest.mark.parametrize("loader", [mnist_vae, lambda: Inverted(mnist_gan(), steps=100, seeds=4, penalty=0.1)], ids=["vae", "gan"])
def test_trained_generators_serve_counterfactuals(mnist, loader):
    generator, f = load(loader), load(models.robust_cnn)
    x = jnp.asarray(mnist(1)[0])
    search = functools.partial(diffeomorphic, steps=150, threshold=0.9)
    found = jax.jit(lambda g, f, x: jax.vmap(lambda t: search(f, x, t, generator=g))(jnp.arange(10)))(generator, f, x)
    assert found.valid.mean() >= 0.6
    moved = np.flatnonzero(found.valid & (found.steps > 0))
    for n in moved:
        assert f(found.x[n]).argmax() == n and jax.nn.softmax(f(found.x[n]))[n] >= 0.9 - 1e-4
        np.testing.assert_allclose(generator.decode(found.latent[n]), found.x[n], atol=1e-5)


def test_transposed_convolution_equals_its_definition():
    """As PyTorch's ConvTranspose2d(3, 2, 4, stride=2, padding=1): every pixel scatters the kernel."""
    rng = np.random.default_rng(0)
    kernel, bias, x = rng.normal(size=(3, 2, 4, 4)), rng.normal(size=2), rng.normal(size=(5, 4, 3))
    full = np.zeros((12, 10, 2))
    for i in range(5):
        for j in range(4):
            full[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("c,coab->abo", x[i, j], kernel)
    layer = ConvTranspose(3, 2, rngs=nnx.Rngs(0))
    layer.load(kernel, bias)
    np.testing.assert_allclose(layer(jnp.asarray(x, jnp.float32)), full[1:-1, 1:-1] + bias, atol=1e-5)
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


@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_is_a_pytree_with_encode_and_decode(name):
    """New weights do not retrace, every leaf is a weight, a batch is vmap, and a gradient passes through both."""
    rng = np.random.default_rng(0)
    weight = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100), leaf.dtype)
    # Without compiling an initialiser for each shape.
    shapes = nnx.eval_shape(lambda: GENERATORS[name](nnx.Rngs(0)))
    a, b = jax.tree.map(weight, shapes), jax.tree.map(weight, shapes)
    traces = []

    @jax.jit
    def both(model, xs):
        traces.append(xs)
        z = model.encode(xs[0])
        slopes = jax.grad(lambda z: (model.decode(z) ** 2).sum())(z)
        return z, model.decode(z), slopes, jax.vmap(model.encode)(xs)[0], jax.vmap(model.decode)(jnp.stack([z, z]))[0]

    xs = jax.random.uniform(jax.random.key(0), (2, *a.shape))
    z, x, slopes, z_of_batch, x_of_batch = both(a, xs)
    assert not np.allclose(x, both(b, xs)[1]) and len(traces) == 1
    assert z.shape == (a.latent,) and x.shape == a.shape and 0 <= x.min() and x.max() <= 1
    assert all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(a))
    np.testing.assert_allclose(z_of_batch, z, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(x_of_batch, x, rtol=1e-4, atol=1e-5)
    assert jnp.isfinite(slopes).all() and jnp.abs(slopes).max() > 0


def test_decoders_of_samples_and_views():
    """A sample is decoded of the prior; `given(y)` is the model at y, and a one-hot vector is its class."""
    key, z = jax.random.key(3), jax.random.normal(jax.random.key(3), (3,))
    for make in (VAE, GAN, AdversarialAutoencoder):
        model = make((6,), latent=3, hidden=(5,), rngs=nnx.Rngs(0))
        np.testing.assert_array_equal(model.sample(key), model.decode(z))
        with pytest.raises(ValueError, match="key=None"):
            model.sample(None)
    x, hot = jnp.linspace(0, 1, 6), jnp.array([0.0, 1, 0])
    vae, gan = (make((6,), 3, latent=3, hidden=(5,), rngs=nnx.Rngs(0)) for make in (ConditionalVAE, ConditionalGAN))
    for model in (vae, gan):
        np.testing.assert_array_equal(model.given(1).decode(z), model.decode(z, hot))
        np.testing.assert_array_equal(model.given(1).sample(key), model.decode(z, jnp.int32(1)))
        assert jnp.abs(model.decode(z, 1) - model.decode(z, 2)).max() > 1e-3
    np.testing.assert_array_equal(vae.given(hot).encode(x), vae.encode_distribution(x, 1)[0])
    np.testing.assert_array_equal(jax.nn.sigmoid(vae.given(hot).logits(z)), vae.decode(z, 1))
    np.testing.assert_array_equal(gan.given(hot).score(x), gan.score(x, 1))
    assert jnp.abs(vae.encode(x, 1) - vae.encode(x, 2)).max() > 1e-3 and gan.score(x, 1) != gan.score(x, 2)
    assert jnp.isnan(jax.jit(vae.decode)(z, 3)).all()


def test_a_trained_conditional_vae_draws_the_digit_that_it_is_asked_for():
    """Of scikit-learn's digits: what it decodes at y is nearest to the mean of class y, and z carries over to another y."""
    digits = pytest.importorskip("sklearn.datasets", reason="the digits come with scikit-learn").load_digits()
    xs, ys = jnp.asarray(digits.images[..., None] / 16, jnp.float32), jnp.asarray(digits.target)
    structure, start = nnx.split(ConditionalVAE((8, 8, 1), 10, latent=4, hidden=(64,), rngs=nnx.Rngs(0)))
    optimizer = optax.adam(3e-3)

    def step(carry, key):
        params, state = carry
        rows = jax.random.randint(key, (128,), 0, len(xs))
        (loss, _), slopes = jax.value_and_grad(lambda p: vae_loss(nnx.merge(structure, p), xs[rows], ys[rows], key), has_aux=True)(params)
        updates, state = optimizer.update(slopes, state)
        return (optax.apply_updates(params, updates), state), loss

    (params, _), losses = jax.jit(lambda p: jax.lax.scan(step, (p, optimizer.init(p)), jax.random.split(jax.random.key(0), 400)))(start)
    model = nnx.merge(structure, params)
    assert losses[-20:].mean() < 0.75 * losses[:20].mean()
    centres = jnp.stack([xs[ys == y].mean(0) for y in range(10)])
    nearest = lambda x: ((centres - x) ** 2).sum((1, 2, 3)).argmin()
    drawn = jax.vmap(lambda k: jax.vmap(lambda y: nearest(model.sample(k, y)))(jnp.arange(10)))(jax.random.split(jax.random.key(1), 20))
    assert (drawn == jnp.arange(10)).mean() > 0.9
    moved = jax.vmap(lambda x, y: nearest(model.decode(model.encode(x, y), (y + 1) % 10)))(xs[:100], ys[:100])
    assert (moved == (ys[:100] + 1) % 10).mean() > 0.8


def test_bad_inputs():
    rngs = nnx.Rngs(0)
    vae = VAE((6,), latent=3, rngs=rngs)
    for call, word in (
        (lambda: vae.encode(jnp.zeros(5)), r"x must be floating point of shape \(6,\)"),
        (lambda: vae.encode(jnp.zeros(6, int)), "int32"),
        (lambda: vae.encode(jnp.zeros((2, 6))), "jax.vmap"),
        (lambda: vae.decode(jnp.zeros(4)), r"z must be floating point of shape \(3,\)"),
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
        (lambda: condition(jnp.zeros(9), 10), r"probabilities \[10\], got float32 of shape \(9,\)"),
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
