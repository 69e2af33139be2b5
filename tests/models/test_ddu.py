"""Spectral normalisation: norms of the linear maps against their singular values; the DDU network, its features, and what they tell apart."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx
from jax.tree_util import Partial

from jxai import taps
from jxai.models import MLP, digits_cnn
from jxai.models.ddu import DDUResNet
from jxai.models.spectral import SizedConv, SpectralNorm, largest_singular_value

pytestmark = pytest.mark.usefixtures("quick_compilation")


@jax.jit
def columns(layer):
    shape = layer.shape if isinstance(layer, SizedConv) else (layer.in_features,)
    basis = np.eye(int(np.prod(shape)), dtype=np.float32).reshape(-1, *shape)
    return jax.vmap(lambda v: (layer(v) - layer(jnp.zeros_like(v))).ravel())(basis)


def matrix(layer):
    """A layer's linear part, one column for each entry of its input, in float64."""
    return np.asarray(columns(layer), np.float64).T


def norm_of(layer):
    return np.linalg.svd(matrix(layer), compute_uv=False)[0]


NETWORK = drawn(lambda rngs: DDUResNet((6, 5), 2, 3, (4, 8), rngs=rngs))
X = np.random.default_rng(0).uniform(size=(6, 5, 2)).astype(np.float32)


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_power_iteration_finds_the_largest_singular_value(stride):
    layers = drawn(lambda rngs: SizedConv((6, 5), 2, 4, stride=stride, rngs=rngs), 1), drawn(lambda rngs: nnx.Linear(12, 7, rngs=rngs), 1)
    found = jax.jit(lambda layers: [[largest_singular_value(layer, n) for n in (2, 300)] for layer in layers])(layers)
    for layer, (few, many) in zip(layers, found, strict=True):
        truth = norm_of(layer)
        assert float(few) <= truth * (1 + 1e-5)
        np.testing.assert_allclose(many, truth, rtol=1e-4)


def test_norms_are_held_to_the_coefficient_and_smaller_ones_stay():
    layers = lambda model: [layer for _, layer in nnx.iter_graph(model) if isinstance(layer, SizedConv)]
    norms = [norm_of(layer) for layer in layers(NETWORK)]
    assert len(norms) == 5
    coefficient = float(np.mean(np.sort(norms)[2:4]))  # three stay, two are held
    held = jax.jit(SpectralNorm(coefficient, iterations=300).__call__)(NETWORK)
    for norm, before, after in zip(norms, layers(NETWORK), layers(held), strict=True):
        np.testing.assert_allclose(norm_of(after), min(norm, coefficient), rtol=1e-3)
        np.testing.assert_allclose(np.asarray(after.kernel[...]) * max(1, norm / coefficient), before.kernel[...], rtol=1e-3)
    np.testing.assert_array_equal(held.classifier.kernel[...], NETWORK.classifier.kernel[...])


def test_linear_layers_are_held_where_asked():
    model = drawn(lambda rngs: MLP(12, (20, 20), 3, rngs=rngs))
    x = np.random.default_rng(0).normal(size=(2, 50, 12)).astype(np.float32)

    @jax.jit
    def hold(model, x):
        held = SpectralNorm(0.7, iterations=300, linear=True)(model)
        return held, jax.vmap(jax.vmap(held))(x)

    held, y = hold(model, x)
    for layer in held.layers:
        assert np.linalg.svd(layer.kernel[...], compute_uv=False)[0] <= 0.7 * (1 + 1e-4)
    # With norms at most 0.7 and ReLUs the whole is Lipschitz with 0.7³.
    near = np.linalg.norm(np.subtract(*np.asarray(y)), axis=1) / np.linalg.norm(x[0] - x[1], axis=1)
    assert near.max() <= 0.7**3
    free = SpectralNorm(0.7)(model)
    np.testing.assert_array_equal(free.layers[0].kernel[...], model.layers[0].kernel[...])


def test_the_normalised_model_is_a_pure_function_of_the_weights():
    norm = SpectralNorm(0.5, iterations=30)

    @jax.jit
    def slopes(model):
        before = jax.tree.leaves(model)
        slope = jax.grad(lambda m: norm(m)(X)[0])(model)
        assert all(old is same for old, same in zip(before, jax.tree.leaves(model), strict=True))
        return slope

    # W / ‖W‖ does not change with the length of W: along W itself the slope is 0.
    slope, kernel = np.ravel(slopes(NETWORK).stem.kernel[...]), np.ravel(NETWORK.stem.kernel[...])
    assert abs(slope @ kernel) < 1e-2 * np.linalg.norm(slope) * np.linalg.norm(kernel) and np.linalg.norm(slope) > 0


def test_features_are_what_the_classifier_reads():
    @jax.jit
    def measure(model, x):
        h = model.features(x)
        return h, model.classifier(h), model(x), taps.read(model, x, "features"), Partial(DDUResNet.features, model)(x)

    h, logits, own, tapped, partial = measure(NETWORK, X)
    assert h.shape == (8,)
    np.testing.assert_allclose(logits, own, rtol=1e-5)
    np.testing.assert_allclose(tapped, h, rtol=1e-5)
    np.testing.assert_allclose(partial, h, rtol=1e-5)


def test_residual_branches_of_zero_leave_averages_of_positions():
    quiet = nnx.clone(NETWORK)
    for block in quiet.blocks:
        block.second.kernel.set_value(np.zeros_like(block.second.kernel[...]))
        block.second.bias.set_value(np.zeros_like(block.second.bias[...]))
    y, features = map(np.asarray, jax.jit(lambda model, x: (model.stem(2 * x - 1), model.features(x)))(quiet, X))
    y = np.where(y > 0, y, 0.01 * y)
    y = np.pad(np.where(y > 0, y, 0.01 * y), ((0, 0), (0, 1), (0, 0)))  # by the first block, then padded to even sides
    y = y.reshape(3, 2, 3, 2, 4).mean((1, 3))
    y = np.where(y > 0, y, 0.01 * y).mean((0, 1))
    np.testing.assert_allclose(features, np.pad(y, (0, 4)), rtol=1e-4, atol=1e-6)


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
    from jxai.uncertainty import fit_gaussian_density

    model, x, y = trained
    logits = np.asarray(jax.jit(jax.vmap(model))(x[1200:]))
    assert (logits.argmax(1) == y[1200:]).mean() > 0.85
    assert np.linalg.svd(matrix(model.blocks[0].first), compute_uv=False)[0] <= 3.0 * 1.01
    features = jax.jit(jax.vmap(model.features))
    density = fit_gaussian_density(features(x[:1200]), None, y[:1200], num_classes=10)
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
        (lambda: drawn(lambda rngs: DDUResNet(rngs=rngs))(np.zeros((27, 28, 1), np.float32)), r"x must be of size \(28, 28\), got shape \(27, 28, 1\)"),
        (lambda: drawn(lambda rngs: DDUResNet(rngs=rngs))(np.zeros((28, 28, 3), np.float32)), r"x must be one image \[H, W, 1\]"),
    ],
)
def test_bad_options_are_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
