"""DUQ: kernels, moving centroids and the loss by their formulas; two moons, of which it knows where they are not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from drawn import drawn
from flax import nnx

from jxai.models import MLP
from jxai.training.train import train
from jxai.uncertainty import duq, max_kernel
from jxai.uncertainty.networks import DUQ, duq_loss, duq_training

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(6, 2)).astype(np.float32), np.array([0, 2, 1, 0, 2, 2])


def network(rngs, sigma=0.5):
    return DUQ(MLP(2, (5,), 4, activation=jnp.tanh, rngs=rngs), 4, 3, embedding=3, sigma=sigma, count=2.0, rngs=rngs)


def made(sigma=0.5):
    model = drawn(lambda rngs: network(rngs, sigma))
    model.counts.set_value(jnp.float32([2, 3, 4]))
    return model


def test_kernels_are_of_mean_squares():
    f, w, e = RNG.normal(size=4).astype(np.float32), RNG.normal(size=(3, 5, 4)).astype(np.float32), RNG.normal(size=(3, 5)).astype(np.float32)
    truth = np.exp(-((w @ f - e) ** 2).mean(1) / (2 * 0.8**2))
    np.testing.assert_allclose(duq.kernel(f, w, e, sigma=0.8), truth, rtol=1e-5)
    # The sum over the embedding would be another kernel, and so would one that depends on its size.
    np.testing.assert_allclose(duq.kernel(f, np.tile(w, (1, 4, 1)), np.tile(e, (1, 4)), sigma=0.8), truth, rtol=1e-5)
    assert (duq.kernel(f, w, w @ f, sigma=0.1) > 1 - 1e-6).all()


def test_centroids_are_quotients_of_moving_averages():
    N, m = np.float32([12, 12]), np.float32([[1, 2, 3], [4, 5, 6]])
    N, m = duq.update(N, m, np.float32([3, 0]), np.float32([[1, 1, 1], [0, 0, 0]]), gamma=0.9)
    np.testing.assert_allclose(N, [0.9 * 12 + 0.3, 0.9 * 12], rtol=1e-6)
    np.testing.assert_allclose(m, [[1, 1.9, 2.8], [3.6, 4.5, 5.4]], rtol=1e-6)
    # A class without examples in the batch keeps its centroid.
    np.testing.assert_allclose(m[1] / N[1], np.float32([4, 5, 6]) / 12, rtol=1e-6)


def test_the_loss_is_cross_entropies_and_a_penalty_of_slopes_from_both_sides():
    model = made()
    value, numbers = jax.jit(lambda m: duq_loss(m, X, Y, None, penalty=0.3))(model)
    kernels = lambda x: duq.kernel(model.backbone(x), model.weights[...], model.centroids, sigma=0.5)
    k, slopes = jax.jit(lambda x: (jax.vmap(kernels)(x), jax.vmap(jax.grad(lambda v: kernels(v).sum()))(x)))(X)
    k, near = np.asarray(k, np.float64), np.eye(3)[Y]
    size = np.linalg.norm(slopes, axis=1)
    assert (size < 1).any()
    fit = -(near * np.log(k) + (1 - near) * np.log1p(-k)).mean()
    assert float(value) == pytest.approx(fit + 0.3 * ((size - 1) ** 2).mean(), rel=1e-4)
    assert float(numbers["slope"]) == pytest.approx(size.mean(), rel=1e-4)
    assert float(duq_loss(model, X, Y, None, penalty=0.0)[0]) == pytest.approx(fit, rel=1e-4)
    # So far away that every kernel underflows the loss still pulls.
    far = jax.jit(jax.grad(lambda m: duq_loss(m, 50 + X, Y, None)[0]))(made(sigma=0.01))
    assert np.isfinite(far.weights[...]).all() and np.abs(far.weights[...]).max() > 0


def test_a_step_moves_centroids_by_the_batch_as_the_step_left_it():
    model = made()
    done = train(model, duq_training(optax.sgd(0.1), penalty=0.3, gamma=0.9), (X, Y), key=jax.random.key(0), steps=1, batch_size=6)
    gradient = jax.jit(jax.grad(lambda m: duq_loss(m, X, Y, None, penalty=0.3)[0]))(model)
    np.testing.assert_allclose(done.model.weights[...], model.weights[...] - 0.1 * gradient.weights[...], rtol=1e-4, atol=1e-5)
    embedded, own = np.asarray(jax.jit(jax.vmap(done.model.embed))(X)), np.eye(3)[Y]
    N, m = duq.update(model.counts[...], model.sums[...], own.sum(0).astype(np.float32), np.einsum("nk,nkd->kd", own, embedded).astype(np.float32), gamma=0.9)
    np.testing.assert_allclose(done.model.counts[...], N, rtol=1e-5)
    np.testing.assert_allclose(done.model.sums[...], m, rtol=1e-4, atol=1e-5)
    assert duq_training(optimizer := optax.sgd(0.1)) is duq_training(optimizer)  # so that another training compiles nothing


def test_the_score_is_the_greatest_kernel_negated():
    model = made()
    score = float(max_kernel(model, X[0]))
    assert score == pytest.approx(-float(duq.kernel(model.backbone(X[0]), model.weights[...], model.centroids, sigma=0.5).max()), rel=1e-5)
    with pytest.raises(ValueError, match="logits must be log K_c of DUQ's kernels"):
        max_kernel(lambda x: jnp.array([1.0, 2.0]) + x[0], jnp.zeros(1))


def test_first_weights_and_centroids_are_the_published_ones():
    """Kaiming's of a tensor `[d, K, D]`: variance `2 / (K D)`; centroids `N(0, spread²)`, whatever N begins with."""
    model = DUQ(MLP(2, (5,), 20, rngs=nnx.Rngs(0)), 20, 3, embedding=100, count=12.0, spread=0.05, rngs=nnx.Rngs(0))
    assert np.var(model.weights[...]) == pytest.approx(2 / 60, rel=0.1) and np.std(model.centroids) == pytest.approx(0.05, rel=0.15)
    np.testing.assert_array_equal(model.counts[...], 12)


def test_the_loss_is_finite_at_a_centroid():
    model = made()
    at = np.asarray(model.embed(X[0]))
    model.sums.set_value(jnp.asarray(at) * model.counts[...][:, None])
    value, slope = jax.jit(jax.value_and_grad(lambda m: duq_loss(m, X[:1], Y[:1], None, penalty=0.0)[0]))(model)
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


@pytest.mark.slow
def test_two_moons_are_known_and_their_surroundings_are_not():
    """The authors' notebook: 1500 points with noise .1, hidden layers of 20, embedding 10, σ = .3, γ = .99, λ = 1, SGD at .01, 30 epochs."""
    moons = pytest.importorskip("sklearn.datasets").make_moons(1500, noise=0.1, random_state=0)
    x, y = moons[0].astype(np.float32), moons[1].astype(np.int32)
    rngs = nnx.Rngs(0)
    model = DUQ(Features(rngs), 20, 2, embedding=10, sigma=0.3, count=32.0, spread=0.05, rngs=rngs)
    optimizer = optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(0.01, momentum=0.9))
    done = train(model, duq_training(optimizer, penalty=1.0, gamma=0.99), (x, y), key=jax.random.key(0), epochs=30, batch_size=64).model
    far = np.stack(np.meshgrid(np.linspace(-4, 5, 19), np.linspace(-4, 4.5, 18)), -1).reshape(-1, 2).astype(np.float32)
    far = far[np.linalg.norm(far[:, None] - x[None], axis=-1).min(1) > 1.5]
    logits, away = jax.jit(jax.vmap(done))(x), jax.jit(jax.vmap(lambda v: max_kernel(done, v)))(far)
    assert (np.argmax(logits, 1) == y).mean() > 0.97
    assert np.median(-np.exp(np.max(logits, 1))) < -0.8 and np.median(away) > -0.2 and (away > -0.6).mean() > 0.9


class Features(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(a, 20, rngs=rngs) for a in (2, 20, 20)])

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return x


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: duq.kernel(X[0], np.zeros((3, 4, 5), np.float32), np.zeros((3, 4), np.float32), sigma=0.1), r"weights must be \[K, d, 2\]"),
        (lambda: duq.kernel(X[0], np.zeros((3, 4, 2), np.float32), np.zeros((3, 4), np.float32), sigma=0.0), "sigma=0.0 must lie in"),
        (lambda: duq.update(np.ones(2), np.ones((2, 3)), np.ones(2), np.ones((2, 3)), gamma=1.5), "gamma=1.5 must lie in"),
        (lambda: duq.update(np.ones(2), np.ones((3, 2)), np.ones(2), np.ones((2, 3)), gamma=0.5), r"N and counts must be \[K\]"),
        (lambda: network(nnx.Rngs(0), sigma=-1.0), "sigma=-1.0 must lie in"),
        (lambda: duq_training(optax.sgd(0.1), gamma=1.0), "gamma=1.0 must lie in"),
    ],
)
def test_what_is_wrong_is_said(call, message):
    with pytest.raises(ValueError, match=message):
        call()
