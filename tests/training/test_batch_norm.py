"""Batch normalisation of models that take one example: a batch's own statistics in training, the data's afterwards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx

from jxai.models import DDUResNet, SpectralNorm
from jxai.train import train
from jxai.training.batch_norm import in_batches, settled

pytestmark = pytest.mark.usefixtures("quick_compilation")


class Net(nnx.Module):
    """Two normalisations with a product and a ReLU between."""

    def __init__(self, rngs):
        self.first, self.second = (nnx.BatchNorm(n, use_running_average=True, rngs=rngs) for n in (3, 2))
        self.mix = nnx.Linear(3, 2, rngs=rngs)

    def __call__(self, x):
        return self.second(nnx.relu(self.mix(self.first(x))))


@pytest.fixture(scope="module")
def net():
    net = drawn(Net)
    net.first.scale.set_value(np.float32([1, -2, 0.5]))
    for layer in (net.first, net.second):
        layer.mean.set_value(np.zeros_like(layer.mean[...]))
        layer.var.set_value(np.ones_like(layer.var[...]))
    return jax.tree.map(jnp.asarray, net)  # what a layer writes to is no NumPy array


def examples(n=24, seed=0):
    return np.random.default_rng(seed).normal(1, 2, (n, 4, 5, 3)).astype(np.float32)


def normalised(v, mean, variance, layer):
    return (v - mean) / np.sqrt(variance + 1e-5) * np.asarray(layer.scale[...]) + np.asarray(layer.bias[...])


def own(v):
    """Mean and variance of each channel, of examples and positions."""
    return v.mean((0, 1, 2)), v.var((0, 1, 2))


def test_a_batch_is_normalised_by_itself(net):
    x = np.asarray(examples(), np.float64)
    first = normalised(x, *own(x), net.first)
    hidden = np.maximum(first @ np.asarray(net.mix.kernel[...]) + np.asarray(net.mix.bias[...]), 0)
    expected = normalised(hidden, *own(hidden), net.second)
    # Once with the weights as an argument, and once with the net itself, which nothing may write to.
    made = jax.jit(lambda given, x: (in_batches(given)(x), in_batches(net)(x)))(net, examples())
    for one in made:
        np.testing.assert_allclose(one, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(net.first.mean[...], np.zeros(3))
    np.testing.assert_array_equal(net.second.var[...], np.ones(2))


def test_the_slope_runs_through_the_statistics(net):
    x = examples(6)
    slope = np.asarray(jax.jit(jax.grad(lambda x: (in_batches(net)(x) ** 3).sum()))(x))
    # A shift of the whole batch, and a stretch, change nothing: the slope along either is 0, though it is not itself.
    size = np.abs(slope).sum()
    assert size > 1
    assert np.abs(slope.sum((0, 1, 2))).max() < 1e-4 * size and abs(float((slope * (x - x.mean((0, 1, 2)))).sum())) < 1e-3 * size


def test_settled_statistics_are_means_over_batches(net):
    x = examples(20)
    done, once, told, trained = jax.jit(
        lambda x: (settled(net, x, batch_size=6), settled(net, x, batch_size=20), jax.vmap(settled(net, x, batch_size=20))(x), in_batches(net)(x))
    )(x)
    batches = np.asarray(x[:18], np.float64).reshape(3, 6, 4, 5, 3)
    np.testing.assert_allclose(done.first.mean[...], np.mean([own(b)[0] for b in batches], 0), rtol=1e-5)
    np.testing.assert_allclose(done.first.var[...], np.mean([own(b)[1] for b in batches], 0), rtol=1e-4)
    np.testing.assert_array_equal(net.first.mean[...], np.zeros(3))
    # With one batch that is the data, the settled model says of it what it said in the training.
    np.testing.assert_allclose(told, trained, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(once.first.scale[...], net.first.scale[...])
    assert once.first.use_running_average and once.first.momentum == net.first.momentum


def test_a_model_without_positions():
    layer = jax.tree.map(jnp.asarray, drawn(lambda rngs: nnx.BatchNorm(3, momentum=0.5, use_running_average=True, rngs=rngs)))
    x = examples(8).reshape(-1, 3)
    made, done = jax.jit(lambda x: (in_batches(layer)(x), settled(layer, x, len(x))))(x)
    np.testing.assert_allclose(made, normalised(x, x.mean(0), x.var(0), layer), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(done.mean[...], x.mean(0), rtol=1e-5)


def test_without_normalisation_it_is_the_mapped_model():
    model = drawn(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
    x = examples(4)
    made, done = jax.jit(lambda x: (in_batches(model)(x), settled(model, x, 4)))(x)
    np.testing.assert_allclose(made, x @ model.kernel[...] + model.bias[...], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(done.kernel[...], model.kernel[...])


@pytest.mark.parametrize(("size", "message"), [(0, "batch_size=0 must be a positive integer"), (5, "batch_size=5 is more than the 4 examples of x")])
def test_bad_batches(net, size, message):
    with pytest.raises(ValueError, match=message):
        settled(net, examples(4), size)


@pytest.mark.slow
def test_the_published_network_learns_digits_and_keeps_what_it_learnt():
    datasets = pytest.importorskip("sklearn.datasets")
    digits = datasets.load_digits()
    x, y = np.float32(digits.images[..., None] / 16), digits.target.astype(np.int32)
    norm = SpectralNorm(4.0, iterations=1)

    def loss(model, x, y, key):
        logits = in_batches(norm(model))(x)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {"accuracy": (logits.argmax(1) == y).mean()}

    model = DDUResNet((8, 8), widths=(8, 16), batch_norm=True, rngs=nnx.Rngs(0))
    assert sum(isinstance(layer, nnx.BatchNorm) for _, layer in nnx.iter_graph(model)) == 5
    model = train(model, loss, (x[:1200], y[:1200]), key=jax.random.key(0), steps=80, batch_size=64, optimizer=optax.sgd(0.1, 0.9)).model
    right = lambda f: float((jax.jit(jax.vmap(f))(jnp.asarray(x[1200:])).argmax(1) == y[1200:]).mean())
    assert right(settled(norm(model), jnp.asarray(x[:1200]), 200)) > 0.9 > right(norm(model)) + 0.1
