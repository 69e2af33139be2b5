"""Spectral normalisation: norms of the linear maps against their singular values; the DDU network, its features, and what they tell apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.tree_util import Partial

from jxai import taps
from jxai.models import MLP, digits_cnn
from jxai.models.ddu import DDUResNet, SizedConv, SpectralNorm, largest_singular_value

pytestmark = pytest.mark.usefixtures("quick_compilation")


def matrix(layer):
    """A layer's linear part, one column for each entry of its input, in float64."""
    shape = layer.shape if isinstance(layer, SizedConv) else (layer.in_features,)
    size = int(np.prod(shape))
    basis = jnp.eye(size).reshape(size, *shape)
    bias = layer(jnp.zeros(shape))
    return np.asarray(jax.jit(jax.vmap(lambda v: (layer(v) - bias).ravel()))(basis), np.float64).T


@pytest.fixture(scope="module")
def network():
    return DDUResNet((6, 5), 2, 3, (4, 8), rngs=nnx.Rngs(0))


@pytest.mark.parametrize("stride", [1, 2])
def test_power_iteration_finds_the_largest_singular_value(stride):
    conv = SizedConv((6, 5), 2, 4, stride=stride, rngs=nnx.Rngs(1))
    dense = nnx.Linear(12, 7, rngs=nnx.Rngs(1))
    for layer in (conv, dense):
        truth = np.linalg.svd(matrix(layer), compute_uv=False)[0]
        few, many = (float(largest_singular_value(layer, n)) for n in (2, 300))
        assert few <= truth * (1 + 1e-5)
        np.testing.assert_allclose(many, truth, rtol=1e-4)


@pytest.mark.parametrize("coefficient", [0.5, 1.0, 3.0])
def test_norms_are_held_to_the_coefficient_and_smaller_ones_stay(network, coefficient):
    held = SpectralNorm(coefficient, iterations=300)(network)
    layers = lambda model: [layer for _, layer in nnx.iter_graph(model) if isinstance(layer, SizedConv)]
    assert len(layers(network)) == 5
    for before, after in zip(layers(network), layers(held), strict=True):
        norm, now = (np.linalg.svd(matrix(layer), compute_uv=False)[0] for layer in (before, after))
        np.testing.assert_allclose(now, min(norm, coefficient), rtol=1e-3)
        np.testing.assert_allclose(after.kernel[...] * max(1, norm / coefficient), before.kernel[...], rtol=1e-3)
    np.testing.assert_array_equal(held.classifier.kernel[...], network.classifier.kernel[...])


def test_linear_layers_are_held_where_asked():
    model = MLP(12, (20, 20), 3, rngs=nnx.Rngs(0))
    held = SpectralNorm(0.7, iterations=300, linear=True)(model)
    for layer in held.layers:
        assert np.linalg.svd(layer.kernel[...], compute_uv=False)[0] <= 0.7 * (1 + 1e-4)
    # With norms at most 0.7 and ReLUs the whole is Lipschitz with 0.7³.
    x = np.random.default_rng(0).normal(size=(2, 50, 12)).astype(np.float32)
    near = np.linalg.norm(jax.vmap(held)(x[0]) - jax.vmap(held)(x[1]), axis=1) / np.linalg.norm(x[0] - x[1], axis=1)
    assert near.max() <= 0.7**3
    free = SpectralNorm(0.7)(model)
    np.testing.assert_array_equal(free.layers[0].kernel[...], model.layers[0].kernel[...])


def test_the_normalised_model_is_a_pure_function_of_the_weights(network):
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 5, 2)), jnp.float32)
    norm = SpectralNorm(0.5, iterations=50)
    before = np.asarray(network.stem.kernel[...])
    np.testing.assert_allclose(jax.jit(lambda m, x: norm(m)(x))(network, x), norm(network)(x), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(network.stem.kernel[...], before)
    graph, weights = nnx.split(network)
    total = jax.jit(lambda w: norm(nnx.merge(graph, w))(x)[0])
    slope = jax.grad(total)(weights)
    # W / ‖W‖ does not change with the length of W: along W itself the slope is 0.
    kernel = weights["stem"]["kernel"][...]
    along = float((slope["stem"]["kernel"][...] * kernel).sum())
    assert abs(along) < 1e-2 * float(jnp.linalg.norm(slope["stem"]["kernel"][...].ravel()) * jnp.linalg.norm(kernel.ravel()))
    assert float(jnp.linalg.norm(slope["stem"]["kernel"][...].ravel())) > 0


def test_features_are_what_the_classifier_reads(network):
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 5, 2)), jnp.float32)
    h = network.features(x)
    assert h.shape == (8,)
    np.testing.assert_allclose(network.classifier(h), network(x), rtol=1e-6)
    np.testing.assert_allclose(taps.read(network, x, "features"), h, rtol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda f, x: f(x))(Partial(DDUResNet.features, network), x), h, rtol=1e-5)


def test_residual_branches_of_zero_leave_averages_of_positions(network):
    quiet = nnx.clone(network)
    for block in quiet.blocks:
        block.second.kernel.set_value(jnp.zeros_like(block.second.kernel[...]))
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 5, 2)), jnp.float32)
    y = np.asarray(nnx.leaky_relu(quiet.stem(2 * x - 1)))
    y = np.pad(np.where(y > 0, y, 0.01 * y), ((0, 0), (0, 1), (0, 0)))  # by the first block, then padded to even sides
    y = y.reshape(3, 2, 3, 2, 4).mean((1, 3))
    y = np.where(y > 0, y, 0.01 * y).mean((0, 1))
    np.testing.assert_allclose(quiet.features(x), np.pad(y, (0, 4)), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def trained():
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    x, y = jnp.asarray(digits.images[..., None] / 16, jnp.float32), jnp.asarray(digits.target)
    graph, weights = nnx.split(DDUResNet((8, 8), widths=(8, 16), rngs=nnx.Rngs(0)))
    norm, optimizer = SpectralNorm(3.0, iterations=5), optax.adam(optax.cosine_decay_schedule(1e-2, 200))
    order = np.random.default_rng(0).integers(0, 1200, (200, 64))

    def loss(weights, rows):
        logits = jax.vmap(norm(nnx.merge(graph, weights)))(x[rows])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y[rows]).mean()

    def step(carry, rows):
        updates, state = optimizer.update(jax.grad(loss)(carry[0], rows), carry[1])
        return (optax.apply_updates(carry[0], updates), state), None

    weights = jax.jit(lambda w: jax.lax.scan(step, (w, optimizer.init(w)), order)[0][0])(weights)
    return SpectralNorm(3.0, iterations=200)(nnx.merge(graph, weights)), np.asarray(x), np.asarray(y)


@pytest.mark.slow
def test_training_through_the_norm_gives_features_that_tell_noise_from_digits(trained):
    from jxai.counterfactual import run
    from jxai.counterfactual.saliency import deduce
    from jxai.uncertainty import gaussian_density

    model, x, y = trained
    logits = np.asarray(jax.jit(jax.vmap(model))(x[1200:]))
    assert (logits.argmax(1) == y[1200:]).mean() > 0.85
    assert np.linalg.svd(matrix(model.blocks[0].first), compute_uv=False)[0] <= 3.0 * 1.01
    features = jax.jit(jax.vmap(model.features))
    density = gaussian_density(features(x[:1200]), y[:1200], 10)
    noise = np.random.default_rng(0).permuted(x[1200:].reshape(-1, 64), axis=1).reshape(-1, 8, 8, 1)
    certain, strange = (np.asarray(jax.vmap(density.marginal)(features(v))) for v in (x[1200:], noise))
    assert (certain[:, None] > strange[None]).mean() > 0.9
    search = deduce.search(density=density, features="features", max_changes=5)
    found = run(search, model, x[1200:1208], (logits[:8].argmax(1) + 1) % 10)
    assert found.valid.mean() > 0.8
    entries = (found.x != x[1200:1208]).sum((1, 2, 3))
    assert (entries <= found.steps).all() and entries.max() < 40


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: SpectralNorm(0.0), "coefficient=0.0 must lie in"),
        (lambda: SpectralNorm(1.0, 0), "iterations=0 must be a positive integer"),
        (lambda: largest_singular_value(digits_cnn), "layer=.* must be a SizedConv or an nnx.Linear"),
        (lambda: DDUResNet((0, 3), rngs=nnx.Rngs(0)), r"size=\(0, 3\) must be \(H, W\)"),
        (lambda: DDUResNet(widths=(8, 4), rngs=nnx.Rngs(0)), r"widths=\(8, 4\) ascending"),
        (lambda: DDUResNet(widths=(), rngs=nnx.Rngs(0)), r"widths=\(\) ascending"),
        (lambda: DDUResNet(blocks=0, rngs=nnx.Rngs(0)), "blocks=0 must be a positive integer"),
        (lambda: DDUResNet(rngs=nnx.Rngs(0))(jnp.zeros((27, 28, 1))), r"x must be of size \(28, 28\), got shape \(27, 28, 1\)"),
        (lambda: DDUResNet(rngs=nnx.Rngs(0))(jnp.zeros((28, 28, 3))), r"x must be one image \[H, W, 1\]"),
    ],
)
def test_bad_options_are_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
