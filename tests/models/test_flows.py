"""Flows are bijections whose log-determinants are those of their Jacobians, and whose densities integrate to 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats
from flax import nnx
from sklearn.datasets import make_moons

from jxai import counterfactual
from jxai.models.flow_layers import ActNorm, ChannelCoupling, ConvNet, InvertibleConv, Logit, MaskedCoupling, Squeeze
from jxai.models.flows import Glow, RealNVP, dequantised, initialised, likelihood_loss
from jxai.train import train

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)


def shaken(model, size):
    """The model with every weight moved, so that no layer is the identity."""
    noise = lambda leaf: size * np.random.default_rng(leaf.size).normal(size=leaf.shape).astype(np.float32)
    return jax.tree.map(lambda leaf: leaf + noise(leaf) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, model)


def weighted(make, size=0.1):
    """A flow with weights by NumPy, which compiles nothing: those that begin at 0 are of this size, rotations are permutations and a little more."""
    rng = np.random.default_rng(1)

    def weight(path, leaf):
        path = jax.tree_util.keystr(path)
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return rng.permutation(leaf.size).astype(leaf.dtype) if "order" in path else rng.choice([-1, 1], leaf.shape).astype(leaf.dtype)
        scale = np.sqrt(2 / np.prod(leaf.shape[:-1])) if "kernel" in path and "last" not in path else size
        return np.float32(("bound" in path) + scale * rng.normal(size=leaf.shape))

    return jax.tree_util.tree_map_with_path(weight, nnx.eval_shape(make))


FLOWS = {
    "vector": lambda: RealNVP((5,), couplings=3, hidden=16, rngs=nnx.Rngs(0)),
    "vector in [0, 1]": lambda: RealNVP((4,), couplings=3, hidden=8, scale="sigmoid", unit=True, rngs=nnx.Rngs(1)),
    "image": lambda: RealNVP((4, 2, 1), couplings=1, hidden=8, depth=1, rngs=nnx.Rngs(2)),
    "glow": lambda: Glow((4, 4, 1), steps=1, hidden=6, rngs=nnx.Rngs(4)),
    "colour image": lambda: RealNVP((2, 2, 3), couplings=2, hidden=6, depth=1, scale="sigmoid", scales=1, rngs=nnx.Rngs(3)),
    "glow tanh": lambda: Glow((4, 4, 2), scales=1, steps=1, hidden=8, depth=1, scale="tanh", alpha=0.01, rngs=nnx.Rngs(5)),
}
EACH = pytest.mark.parametrize("name", [*list(FLOWS)[:4], *(pytest.param(name, marks=pytest.mark.slow) for name in list(FLOWS)[4:])])


@functools.cache
def made(name):
    return weighted(FLOWS[name])


@functools.cache
def decoder(name):
    return jax.jit(jax.vmap(made(name).decode))


@functools.cache
def measured(name):
    """Of one x: z, log|det|, log p, and the Jacobian."""
    flow = made(name)

    def measure(x):
        def encode(v):
            z, log_det = flow.encode_with_log_det(v.reshape(flow.shape))
            return z, (z, log_det, flow.log_prob(x))

        jacobian, numbers = jax.jacfwd(encode, has_aux=True)(x.reshape(-1))
        return *numbers, jacobian

    return jax.jit(measure)


def examples(flow, n=4):
    x = RNG.uniform(size=(n, *flow.shape)).astype(np.float32)
    x[0] = np.round(x[0])  # the ends of [0, 1] too
    return x if isinstance(flow.levels[0][0], Logit) else 4 * x - 2


@EACH
def test_decoder_is_the_inverse_of_the_encoder(name):
    flow = made(name)
    x = examples(flow, 8)
    encode, decode = jax.jit(jax.vmap(flow.encode)), decoder(name)
    z = encode(x)
    assert z.shape == (8, x[0].size) and z.dtype == np.float32
    np.testing.assert_allclose(decode(z), x, atol=1e-5)
    for v, w in zip(x[:2], np.asarray(z)):
        np.testing.assert_allclose(measured(name)(v)[0], w, rtol=1e-4, atol=1e-5)
    z = 0.3 * RNG.normal(size=(8, x[0].size)).astype(np.float32)
    np.testing.assert_allclose(encode(decode(z)), z, atol=1e-3)  # where pixels are near the ends of (0, 1), their logits are coarse


@EACH
def test_log_determinant_is_that_of_the_jacobian(name):
    for x in examples(made(name), 2):
        z, log_det, log_prob, jacobian = measured(name)(x)
        expected = np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
        np.testing.assert_allclose(log_det, expected, rtol=1e-4, atol=1e-3)
        assert abs(expected) > 0.1
        np.testing.assert_allclose(log_prob, scipy.stats.norm.logpdf(np.asarray(z, np.float64)).sum() + expected, rtol=1e-4)


@pytest.mark.parametrize("unit", [pytest.param(False, marks=pytest.mark.slow), True])
def test_density_integrates_to_one(unit):
    flow = weighted(lambda: RealNVP((2,), couplings=4, hidden=16, unit=unit, rngs=nnx.Rngs(0)))
    edges = np.linspace(-14, 14, 401)
    if unit:  # as dense near the ends of [0, 1] as the logits are
        edges = (scipy.special.expit(edges) - 0.05) / 0.9
    at, width = np.float32((edges[1:] + edges[:-1]) / 2), np.diff(edges)
    grid = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    density = np.exp(np.asarray(jax.jit(jax.vmap(flow.log_prob))(grid), np.float64))
    np.testing.assert_allclose(density @ np.outer(width, width).ravel(), 1, atol=2e-3)


def test_untrained_flow_is_a_normal_distribution_of_logits():
    """Couplings begin as the identity: z = logit(.05 + .9 x)."""
    x = RNG.uniform(size=(2, 2, 1)).astype(np.float32)
    p = 0.05 + 0.9 * np.float64(x)
    z = np.log(p / (1 - p))

    @jax.jit
    def measure(x):
        flow = RealNVP((2, 2, 1), scales=1, hidden=4, depth=1, rngs=nnx.Rngs(0))
        return flow.encode(x), flow.log_det(x), flow.log_prob(x)

    found, log_det, log_prob = measure(x)
    np.testing.assert_allclose(found, z.ravel(), rtol=1e-5, atol=1e-6)
    expected = np.log(0.9 / (p * (1 - p))).sum()
    np.testing.assert_allclose(log_det, expected, rtol=1e-5)
    np.testing.assert_allclose(log_prob, scipy.stats.norm.logpdf(z).sum() + expected, rtol=1e-5)


def test_bits_are_those_of_dequantised_pixels():
    flow = made("vector in [0, 1]")
    pixels = RNG.integers(0, 256, (4, 4, 2))

    @jax.jit
    def measure(x, coarse, key):
        noisy, own = dequantised(x, key), jax.random.split(key, 1)[0]
        bits, numbers = likelihood_loss(flow, x[0, :, 0][None], None, key, levels=256)
        alone = flow.bits_per_dim(x[0, :, 0], own)
        return noisy, dequantised(coarse, key, levels=17), flow.log_prob(dequantised(x[0, :, 0], own)), alone, bits, numbers["bits_per_dim"]

    noisy, coarse, log_prob, alone, *bits = map(np.asarray, measure(np.float32(pixels / 255), np.float32(pixels % 17 / 16), jax.random.key(0)))
    np.testing.assert_array_equal(np.floor(noisy * 256), pixels)
    np.testing.assert_array_equal(np.floor(coarse * 17), pixels % 17)
    np.testing.assert_allclose(alone, 8 - log_prob / 4 / np.log(2), rtol=1e-6)
    np.testing.assert_allclose(bits[0], alone, rtol=1e-5)
    assert bits[0] == bits[1]


def test_uniform_pixels_take_as_many_bits_as_they_have():
    """A density of 1 on [0, 1] is 8 bits; no flow can do better on average, and one of logits with σ = 1.6 nearly does as well."""
    flow = weighted(lambda: RealNVP((2, 2, 1), scales=1, couplings=1, hidden=4, depth=1, rngs=nnx.Rngs(0)), 0.0)
    x = RNG.integers(0, 256, (4096, 2, 2, 1)).astype(np.float32) / 255

    @jax.jit
    def count(x, key, other):
        return likelihood_loss(initialised(flow, dequantised(x, key)), x, None, other, levels=256)[0]

    assert 8 < float(count(x, jax.random.key(0), jax.random.key(1))) < 8.2


@pytest.mark.parametrize("name", ["glow", pytest.param("image", marks=pytest.mark.slow), pytest.param("vector", marks=pytest.mark.slow)])
def test_initialisation_gives_channels_mean_zero_and_variance_one(name):
    @jax.jit
    def normalised(flow, batch):
        """What each activation normalisation of the flow that is fitted says."""
        before = jax.tree.leaves(flow)
        new = initialised(flow, batch)
        assert all(old is same for old, same in zip(before, jax.tree.leaves(flow), strict=True))
        seen = []
        for n, level in enumerate(new.levels):
            for layer in level:
                batch = jax.vmap(layer.forward)(batch)[0]
                seen += [batch] if isinstance(layer, ActNorm) else []
            batch = batch[..., : batch.shape[-1] // 2] if n + 1 < len(new.levels) else batch
        return seen

    seen = normalised(made(name), examples(made(name), 64))
    for values in seen:
        values = np.asarray(values).reshape(-1, values.shape[-1])
        np.testing.assert_allclose(values.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(values.std(0), 1, atol=1e-3)
    assert len(seen) >= 2


def test_layers():
    """Squeeze moves 2×2 blocks; two masks in turn leave nothing out; the convolution is a rotation at first, and its determinant numpy's later."""
    for shape in ((4, 4, 1), (7,)):
        for number in (0, 2, 4):
            one, other = (MaskedCoupling(None, 1, n, "sigmoid").mask(shape) for n in (number, number + 1))
            np.testing.assert_array_equal(one + other, np.ones_like(one))
    assert MaskedCoupling(None, 1, 2, "sigmoid").mask((7,)).tolist() != MaskedCoupling(None, 1, 4, "sigmoid").mask((7,)).tolist()

    @jax.jit
    def applied(square, x):
        layer, swapped = InvertibleConv(6, rngs=nnx.Rngs(0)), shaken(ChannelCoupling(ConvNet(2, 4, 4, 0, rngs=nnx.Rngs(0)), 2, swap=True), 0.1)
        moved, eye = shaken(layer, 0.3), jnp.eye(6)
        rotation, (matrix, _), (_, log_det) = layer.forward(eye)[0], moved.forward(eye), moved.forward(jnp.ones((3, 5, 6)))
        return Squeeze().forward(square)[0], rotation, matrix, log_det, moved.inverse(eye), swapped.forward(x)[0]

    x = RNG.normal(size=(2, 2, 4)).astype(np.float32)
    squeezed, rotation, matrix, log_det, inverse, z = map(np.float64, applied(np.arange(16.0, dtype=np.float32).reshape(4, 4, 1), x))
    assert squeezed[0, 1].tolist() == [2, 3, 6, 7]
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(log_det, 15 * np.linalg.slogdet(matrix)[1], rtol=1e-4)
    np.testing.assert_allclose(inverse, np.linalg.inv(matrix), rtol=1e-3, atol=1e-4)
    assert (z[..., 2:] == x[..., 2:]).all() and (z[..., :2] != x[..., :2]).all()


def test_samples_follow_the_temperature():
    flow, key = weighted(lambda: RealNVP((3,), couplings=2, hidden=4, rngs=nnx.Rngs(0)), 0.0), jax.random.key(0)
    draws = np.asarray(jax.jit(lambda key: jax.vmap(lambda k: flow.sample(k, 0.5))(jax.random.split(key, 4000)))(key))
    np.testing.assert_allclose(draws.std(0), 0.5, atol=0.03)
    sample = jax.jit(lambda key: made("vector").sample(key, 0.0))
    cold = np.asarray(sample(key))
    np.testing.assert_array_equal(cold, sample(jax.random.key(1)))
    np.testing.assert_allclose(cold, np.asarray(decoder("vector")(np.zeros((8, 5), np.float32)))[0], rtol=1e-5, atol=1e-6)


def test_outside_of_the_support_the_density_is_zero():
    flow = weighted(lambda: RealNVP((4,), couplings=2, hidden=4, depth=1, unit=True, rngs=nnx.Rngs(0)))
    at = lambda a: jnp.full(4, 0.5).at[0].set(a)
    values, slopes, z = map(
        np.asarray,
        jax.jit(jax.vmap(lambda a: (*jax.value_and_grad(lambda a: flow.log_prob(at(a)))(a), flow.encode(at(a)))))(
            np.float32([0.0, 1.0, 1.05, -0.05, 1.06, -0.06, -1.0, 2.0, np.nan])
        ),
    )
    assert np.isfinite(values[:4]).all() and np.isfinite(slopes[:4]).all()
    assert (values[4:] == -np.inf).all() and (slopes[4:] == 0).all()
    assert np.isnan(z[6]).any()


def test_counterfactual_in_the_coordinates_of_a_flow():
    """The classifier looks at the mean; the point found is what its latent decodes to, and the latent of x itself is exact."""
    flow = made("glow")
    f = jax.tree_util.Partial(lambda w, x: w * (x.mean() - 0.5) * np.float32([-1.0, 1.0]), np.float32(40))
    x = np.clip(examples(flow)[1] - 0.3, 0, 1)
    target = int(x.mean() < 0.5)
    search = jax.jit(lambda rate: counterfactual.diffeomorphic(f, x, target, generator=flow, threshold=0.9, learning_rate=rate, steps=100))
    found = search(0.02)
    margin = 80 * (np.asarray(found.x, np.float64).mean() - 0.5) * (2 * target - 1)
    assert found.valid and scipy.special.expit(margin) >= 0.9 - 1e-6 and 1 < int(found.steps) < 100
    latents = np.broadcast_to(np.asarray(found.latent), (8, 16))
    np.testing.assert_allclose(found.x, np.clip(np.asarray(decoder("glow")(latents))[0], 0, 1), atol=1e-6)
    still = search(0.0)
    assert not still.valid
    np.testing.assert_allclose(still.x, x, atol=1e-5)


@pytest.mark.slow
def test_two_moons():
    """After a few hundred steps the likelihood of fresh moons is well above that of the normal distribution which fits them best."""
    moons = lambda seed: np.float32(make_moons(2000, noise=0.05, random_state=seed)[0])
    x, fresh = moons(0), moons(1)
    normal = -scipy.stats.multivariate_normal(x.mean(0), np.cov(x.T)).logpdf(fresh).mean()
    flow = initialised(RealNVP((2,), couplings=4, hidden=32, rngs=nnx.Rngs(0)), x)
    done = train(flow, likelihood_loss, x, key=jax.random.key(0), steps=300, batch_size=200, optimizer=optax.adam(5e-3))
    nats = float(likelihood_loss(done.model, fresh, None, jax.random.key(1))[0])
    assert nats < normal - 0.5
    np.testing.assert_allclose(jax.vmap(lambda v: done.model.decode(done.model.encode(v)))(fresh[:100]), fresh[:100], atol=1e-4)


BAD = {
    "(7, 8, 1) must have sides that are multiples of 2": lambda: Glow((7, 8, 1), scales=1, rngs=nnx.Rngs(0)),
    "multiples of 4": lambda: RealNVP((6, 8, 1), scales=3, rngs=nnx.Rngs(0)),
    "shape=(4,) must be (H, W, C)": lambda: Glow((4,), rngs=nnx.Rngs(0)),
    "shape=(1,) must be (H, W, C) or (D,)": lambda: RealNVP((1,), rngs=nnx.Rngs(0)),
    "alpha=0.5 must lie in (0, 0.5)": lambda: Glow((4, 4, 1), alpha=0.5, rngs=nnx.Rngs(0)),
    "scale='exp' must be one of": lambda: RealNVP((2,), scale="exp", rngs=nnx.Rngs(0)),
    "steps=0 must be": lambda: Glow((4, 4, 1), steps=0, rngs=nnx.Rngs(0)),
    "couplings=0 must be": lambda: RealNVP((2,), couplings=0, rngs=nnx.Rngs(0)),
    "scales=0 must be": lambda: RealNVP((4, 4, 1), scales=0, rngs=nnx.Rngs(0)),
    "hidden=0 must be": lambda: RealNVP((2,), hidden=0, rngs=nnx.Rngs(0)),
    "x must have shape (5,)": lambda: made("vector").encode(np.zeros((3, 5), np.float32)),
    "x must be a floating-point array": lambda: made("vector").encode(np.zeros(5, np.int32)),
    "z must have shape (5,)": lambda: made("vector").decode(np.zeros(4, np.float32)),
    "temperature=-1": lambda: made("vector").sample(jax.random.key(0), -1),
    "batch must have shape [B, 5]": lambda: initialised(made("vector"), np.zeros(5, np.float32)),
    "with B >= 2": lambda: initialised(made("vector"), np.zeros((1, 5), np.float32)),
    "levels=0 must be": lambda: dequantised(np.zeros(3, np.float32), jax.random.key(0), levels=0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert message in str(error.value)
