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


def shaken(model, size=0.1):
    """The model with every weight moved, so that no layer is the identity."""
    rng = np.random.default_rng(1)

    def move(leaf):
        return leaf + size * rng.normal(size=leaf.shape).astype(np.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(move, model)


FLOWS = {
    "vector": lambda: RealNVP((5,), couplings=4, hidden=16, rngs=nnx.Rngs(0)),
    "vector in [0, 1]": lambda: RealNVP((4,), couplings=3, hidden=8, scale="sigmoid", unit=True, rngs=nnx.Rngs(1)),
    "image": lambda: RealNVP((4, 2, 1), couplings=1, hidden=8, depth=1, rngs=nnx.Rngs(2)),
    "colour image": lambda: RealNVP((2, 2, 3), couplings=2, hidden=6, depth=1, scale="sigmoid", scales=1, rngs=nnx.Rngs(3)),
    "glow": lambda: Glow((4, 4, 1), steps=1, hidden=6, rngs=nnx.Rngs(4)),
    "glow tanh": lambda: Glow((4, 4, 2), scales=1, steps=1, hidden=8, depth=1, scale="tanh", alpha=0.01, rngs=nnx.Rngs(5)),
}


@functools.cache
def made(name):
    return shaken(FLOWS[name]())


def examples(flow, n=4):
    x = RNG.uniform(size=(n, *flow.shape)).astype(np.float32)
    x[0] = np.round(x[0])  # the ends of [0, 1] too
    return x if isinstance(flow.levels[0][0], Logit) else 4 * x - 2


@pytest.mark.parametrize("name", FLOWS)
def test_decoder_is_the_inverse_of_the_encoder(name):
    flow = made(name)
    x = examples(flow, 8)
    z = jax.jit(jax.vmap(flow.encode))(x)
    assert z.shape == (8, x[0].size) and z.dtype == np.float32
    back = jax.jit(jax.vmap(flow.decode))(z)
    np.testing.assert_allclose(back, x, atol=1e-5)
    z = 0.3 * RNG.normal(size=(8, x[0].size)).astype(np.float32)
    there = jax.jit(jax.vmap(lambda z: flow.encode(flow.decode(z))))(z)
    np.testing.assert_allclose(there, z, atol=1e-3)  # where pixels are near the ends of (0, 1), their logits are coarse
    one_at_a_time = jax.jit(lambda x: jax.lax.map(flow.encode, x))(x)
    np.testing.assert_allclose(one_at_a_time, jax.jit(jax.vmap(flow.encode))(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FLOWS)
def test_log_determinant_is_that_of_the_jacobian(name):
    flow = made(name)
    differentiate = jax.jit(jax.jacrev(lambda v: flow.encode(v.reshape(flow.shape))))
    for x in examples(flow, 2):
        jacobian = differentiate(x.reshape(-1))
        z, log_det = jax.jit(flow.encode_with_log_det)(x)
        expected = np.linalg.slogdet(np.asarray(jacobian, np.float64))[1]
        np.testing.assert_allclose(log_det, expected, rtol=1e-4, atol=1e-3)
        assert abs(expected) > 0.1
        np.testing.assert_allclose(jax.jit(flow.log_det)(x), log_det, rtol=1e-5)
        np.testing.assert_allclose(jax.jit(flow.log_prob)(x), scipy.stats.norm.logpdf(np.asarray(z, np.float64)).sum() + expected, rtol=1e-4)


@pytest.mark.parametrize("unit", [False, True])
def test_density_integrates_to_one(unit):
    flow = shaken(RealNVP((2,), couplings=4, hidden=16, unit=unit, rngs=nnx.Rngs(0)))
    edges = np.linspace(-14, 14, 701)
    if unit:  # as dense near the ends of [0, 1] as the logits are
        edges = (scipy.special.expit(edges) - 0.05) / 0.9
    at, width = np.float32((edges[1:] + edges[:-1]) / 2), np.diff(edges)
    grid = np.stack(np.meshgrid(at, at), -1).reshape(-1, 2)
    density = np.exp(np.asarray(jax.jit(jax.vmap(flow.log_prob))(grid), np.float64))
    np.testing.assert_allclose(density @ np.outer(width, width).ravel(), 1, atol=2e-3)


def test_untrained_flow_is_a_normal_distribution_of_logits():
    """Couplings begin as the identity: z = logit(.05 + .9 x)."""
    flow = RealNVP((2, 2, 1), scales=1, hidden=4, rngs=nnx.Rngs(0))
    x = RNG.uniform(size=(2, 2, 1)).astype(np.float32)
    p = 0.05 + 0.9 * np.float64(x)
    z = np.log(p / (1 - p))
    np.testing.assert_allclose(flow.encode(x), z.ravel(), rtol=1e-5, atol=1e-6)
    expected = (scipy.stats.norm.logpdf(z) + np.log(0.9 / (p * (1 - p)))).sum()
    np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-5)


def test_bits_are_those_of_dequantised_pixels():
    pixels = RNG.integers(0, 256, (4, 4, 2))
    x, key = np.float32(pixels / 255), jax.random.key(0)
    noisy = np.asarray(dequantised(x, key))
    np.testing.assert_array_equal(np.floor(noisy * 256), pixels)
    np.testing.assert_array_equal(np.floor(np.asarray(dequantised(np.float32(pixels % 17 / 16), key, levels=17)) * 17), pixels % 17)
    flow = made("glow tanh")
    count = jax.jit(flow.bits_per_dim)
    expected = 8 - float(jax.jit(flow.log_prob)(noisy)) / 32 / np.log(2)
    np.testing.assert_allclose(count(x, key), expected, rtol=1e-6)
    bits, numbers = jax.jit(functools.partial(likelihood_loss, levels=256))(flow, x[None], None, key)
    np.testing.assert_allclose(bits, count(x, jax.random.split(key, 1)[0]), rtol=1e-5)
    assert numbers["bits_per_dim"] == bits


def test_uniform_pixels_take_as_many_bits_as_they_have():
    """A density of 1 on [0, 1] is 8 bits; no flow can do better on average, and one of logits with σ = 1.6 nearly does as well."""
    flow = RealNVP((2, 2, 1), scales=1, couplings=1, hidden=4, rngs=nnx.Rngs(0))
    x = RNG.integers(0, 256, (4096, 2, 2, 1)).astype(np.float32) / 255
    flow = initialised(flow, dequantised(x, jax.random.key(0)))
    bits = float(likelihood_loss(flow, x, None, jax.random.key(1), levels=256)[0])
    assert 8 < bits < 8.2


@pytest.mark.parametrize("make", [FLOWS["image"], FLOWS["glow"], FLOWS["vector"]])
def test_initialisation_gives_channels_mean_zero_and_variance_one(make):
    flow = shaken(make())
    batch = jnp.asarray(examples(flow, 64))
    before = jax.tree.leaves(flow)
    new = jax.jit(initialised)(flow, batch)
    assert all(old is same for old, same in zip(before, jax.tree.leaves(flow), strict=True))
    seen = 0
    for n, level in enumerate(new.levels):
        for layer in level:
            batch = jax.vmap(layer.forward)(batch)[0]
            if isinstance(layer, ActNorm):
                values = np.asarray(batch).reshape(-1, batch.shape[-1])
                np.testing.assert_allclose(values.mean(0), 0, atol=1e-4)
                np.testing.assert_allclose(values.std(0), 1, atol=1e-3)
                seen += 1
        batch = batch[..., : batch.shape[-1] // 2] if n + 1 < len(new.levels) else batch
    assert seen >= 2


def test_layers():
    """Squeeze moves 2×2 blocks; two masks in turn leave nothing out; the convolution is a rotation at first, and its determinant numpy's later."""
    x = np.arange(16.0, dtype=np.float32).reshape(4, 4, 1)
    assert Squeeze().forward(x)[0][0, 1].tolist() == [2, 3, 6, 7]
    for shape in ((4, 4, 1), (7,)):
        for number in (0, 2, 4):
            one, other = (MaskedCoupling(None, 1, n).mask(shape) for n in (number, number + 1))
            np.testing.assert_array_equal(one + other, np.ones_like(one))
    assert MaskedCoupling(None, 1, 2).mask((7,)).tolist() != MaskedCoupling(None, 1, 4).mask((7,)).tolist()
    layer = InvertibleConv(6, rngs=nnx.Rngs(0))
    W = np.asarray(layer.forward(jnp.eye(6))[0])
    np.testing.assert_allclose(W @ W.T, np.eye(6), atol=1e-5)
    layer = shaken(layer, 0.3)
    W = np.float64(layer.forward(jnp.eye(6))[0])
    np.testing.assert_allclose(layer.forward(jnp.ones((3, 5, 6)))[1], 15 * np.linalg.slogdet(W)[1], rtol=1e-4)
    np.testing.assert_allclose(layer.inverse(jnp.eye(6)), np.linalg.inv(W), rtol=1e-3, atol=1e-4)
    swapped = shaken(ChannelCoupling(ConvNet(2, 4, 4, 0, rngs=nnx.Rngs(0)), 2, swap=True))
    x = RNG.normal(size=(2, 2, 4)).astype(np.float32)
    z = np.asarray(swapped.forward(x)[0])
    assert (z[..., 2:] == x[..., 2:]).all() and (z[..., :2] != x[..., :2]).all()


def test_samples_follow_the_temperature():
    flow = RealNVP((3,), couplings=2, hidden=4, rngs=nnx.Rngs(0))
    draws = np.asarray(jax.vmap(lambda k: flow.sample(k, 0.5))(jax.random.split(jax.random.key(0), 4000)))
    np.testing.assert_allclose(draws.std(0), 0.5, atol=0.03)
    cold = jax.jit(made("vector").sample)
    np.testing.assert_array_equal(cold(jax.random.key(0), 0.0), cold(jax.random.key(1), 0.0))
    np.testing.assert_allclose(cold(jax.random.key(0), 0.0), made("vector").decode(jnp.zeros(5)), rtol=1e-5, atol=1e-6)


def test_outside_of_the_support_the_density_is_zero():
    flow = shaken(RealNVP((4,), couplings=2, hidden=4, depth=1, unit=True, rngs=nnx.Rngs(0)))
    log_prob = jax.jit(jax.value_and_grad(lambda a: flow.log_prob(jnp.full(4, 0.5).at[0].set(a))))
    for a in (0.0, 1.0, 1.05, -0.05):
        assert np.isfinite(log_prob(a)).all()
    for a in (1.06, -0.06, -1.0, 2.0, np.nan):
        value, slope = log_prob(a)
        assert value == -np.inf and slope == 0
    assert np.isnan(flow.encode(jnp.asarray([-1.0, 0.5, 0.5, 0.5]))).any()


def test_counterfactual_in_the_coordinates_of_a_flow():
    """The classifier looks at the mean; the point found is what its latent decodes to, and the latent of x itself is exact."""
    flow = made("glow")
    f = jax.tree_util.Partial(lambda w, x: w * (x.mean() - 0.5) * jnp.asarray([-1.0, 1.0]), jnp.float32(40))
    x = jnp.clip(jnp.asarray(examples(flow)[1]) - 0.3, 0, 1)
    target = int(1 - f(x).argmax())
    search = jax.jit(lambda rate: counterfactual.diffeomorphic(f, x, target, generator=flow, threshold=0.9, learning_rate=rate, steps=100))
    found = search(0.02)
    assert found.valid and jax.nn.softmax(f(found.x))[target] >= 0.9 and 1 < found.steps < 100
    np.testing.assert_allclose(found.x, jnp.clip(jax.jit(flow.decode)(found.latent), 0, 1), atol=1e-6)
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
    "x must have shape (5,)": lambda: made("vector").encode(jnp.zeros((3, 5))),
    "x must be a floating-point array": lambda: made("vector").encode(jnp.zeros(5, jnp.int32)),
    "z must have shape (5,)": lambda: made("vector").decode(jnp.zeros(4)),
    "temperature=-1": lambda: made("vector").sample(jax.random.key(0), -1),
    "batch must have shape [B, 5]": lambda: initialised(made("vector"), jnp.zeros(5)),
    "with B >= 2": lambda: initialised(made("vector"), jnp.zeros((1, 5))),
    "levels=0 must be": lambda: dequantised(jnp.zeros(3), jax.random.key(0), levels=0),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_input(message):
    with pytest.raises(ValueError) as error:
        BAD[message]()
    assert message in str(error.value)
