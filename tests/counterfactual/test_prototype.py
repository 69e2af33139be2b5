"""Counterfactuals guided by prototypes: the elastic-net optimum in closed form, the pull of prototype and autoencoder, and bad inputs."""

import functools

import jax
import numpy as np
import pytest
from latent_toys import Linear, Weighted, each_alone, linear_generator, linear_model, orthonormal, same

from jxai.counterfactual import run
from jxai.counterfactual.prototype import class_prototypes, prototype

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(2)
G = linear_generator(6, 3)
X = RNG.uniform(0.3, 0.7, 6).astype(np.float32)
F = linear_model()
W, BIAS, BASIS = np.asarray(F.weights), np.asarray(F.bias), np.asarray(G.basis)
TARGET = int(np.argsort(W @ X + BIAS)[0])
PROTOTYPES = (RNG.normal(size=(3, 3)) * 0.1).astype(np.float32)


def found_by(f, x, target, **options):
    """The method, compiled whole; prices are data."""
    prices = {name: np.float32(options.pop(name)) for name in ("attraction", "sparsity", "reconstruction") if name in options}
    return jax.tree.map(np.asarray, compiled(target, tuple(sorted(options.items())))(f, x, PROTOTYPES[: len(f.bias)], prices))


@functools.cache
def compiled(target, options):
    return jax.jit(lambda f, x, prototypes, prices: prototype(f, x, target, generator=G, prototypes=prototypes, clip=None, **dict(options), **prices))


@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.4])
def test_without_a_generator_it_is_the_nearest_point_of_the_elastic_net(sparsity):
    # f = (0, w·x + b): min β‖δ‖₁ + ‖δ‖² with w·δ >= gap has δ = soft(λ w, β) / 2 with the λ that closes the gap.
    w = np.asarray([1.0, -0.8, 0.3, 0.05, 0.0, -0.1])
    f = Weighted(np.float32([0 * w, w]), np.float32([0.0, -0.5 - w @ X]))

    def closed(price):
        return np.sign(w) * np.maximum(np.abs(price * w) - sparsity, 0) / 2

    low, high = 0.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if w @ closed(middle) < 0.5 else (low, middle)
    expected = closed(high)
    found = found_by(f, X, 1, attraction=0, sparsity=sparsity, reconstruction=0, growth=1.02, steps=1500, patience=400, learning_rate=0.02)
    assert found.valid and np.allclose(found.x - X, expected, atol=0.03)
    cost = sparsity * np.abs(expected).sum() + (expected**2).sum()
    change = found.x - X
    assert sparsity * np.abs(change).sum() + (change**2).sum() < 1.05 * cost + 1e-4
    # What is worth less than half the price of a change does not move at all.
    idle = np.abs(high * w) < sparsity / 2
    assert (change[idle] == 0).all() and (idle.sum() >= 3 or sparsity < 0.1)


def test_the_prototype_attracts_the_code():
    near, far = (found_by(F, X, TARGET, attraction=theta, sparsity=0.01, steps=300) for theta in (20.0, 0.0))
    off = [((found.latent - PROTOTYPES[TARGET]) ** 2).sum() for found in (near, far)]
    assert off[0] < 0.5 * off[1]
    assert np.allclose(near.latent, (near.x - 0.5) @ BASIS, atol=1e-5) and np.allclose(near.logits, W @ near.x + BIAS, atol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 5.0])
def test_the_autoencoder_bends_the_way_towards_its_plane(gamma):
    # On the plane already, min δᵀδ + γ δᵀ(I − BBᵀ)δ with w·δ >= gap has δ = M⁻¹w gap / (wᵀM⁻¹w), M the matrix of the form.
    x, gap, w = BASIS @ (BASIS.T @ (X - np.float32(0.5))) + np.float32(0.5), 0.5, np.asarray([1.0, -0.8, 0.3, 0.5, 0.2, -0.1])
    f = Weighted(np.float32([0 * w, w]), np.float32([0.0, -gap - w @ x]))
    way = np.linalg.solve(np.eye(6) + gamma * (np.eye(6) - BASIS @ BASIS.T), w)
    found = found_by(f, x, 1, attraction=0, sparsity=0, reconstruction=gamma, growth=1.02, steps=1500, patience=400, learning_rate=0.02)
    assert found.valid and np.allclose(found.x - x, way * gap / (w @ way), atol=0.03)


def test_class_prototypes_are_means_of_codes():
    examples = RNG.normal(size=(20, 6)).astype(np.float32)
    labels = np.arange(20) % 3
    codes = (examples - 0.5) @ BASIS
    assert np.allclose(class_prototypes(G, examples, labels, 3), [codes[labels == c].mean(0) for c in range(3)], atol=1e-5)
    near = np.asarray(class_prototypes(G, examples, labels, 3, k=2, x=X))
    far = ((codes - (X - 0.5) @ BASIS) ** 2).sum(1)
    for c in range(3):
        own = np.flatnonzero(labels == c)
        assert np.allclose(near[c], codes[own[np.argsort(far[own])[:2]]].mean(0), atol=1e-5)


def test_batched_equals_one_at_a_time_and_constraints_hold():
    x = RNG.uniform(0.3, 0.7, (4, 6)).astype(np.float32)
    targets = (x @ W.T + BIAS).argmin(1)
    options = dict(generator=G, sparsity=0.02, attraction=0.5, steps=80, region=np.arange(6) < 5)
    # Prototypes of each example's own.
    own = np.stack([PROTOTYPES, -PROTOTYPES, PROTOTYPES, PROTOTYPES])
    found = run(prototype.search(prototypes=PROTOTYPES, **options), F, x, targets, per_example={"prototypes": own}, batch_size=2, block=11)
    each_alone(found, lambda v, p, t: prototype(F, v, t, prototypes=p, **options), x, own, targets)
    assert np.array_equal(found.x[:, 5], x[:, 5]) and found.x.min() >= 0 and found.x.max() <= 1
    shared = run(prototype.search(prototypes=PROTOTYPES, **options), F, x[:1], targets[:1])
    same(jax.tree.map(lambda leaf: leaf[0], shared), jax.tree.map(lambda leaf: leaf[0], found))
    stuck = found_by(F, X, TARGET, attraction=0.5, sparsity=0.02, steps=1, learning_rate=1e-6)
    assert not stuck.valid and stuck.steps == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prototypes": PROTOTYPES[:2]}, r"prototypes must have shape \[3, 3\]"),
        ({"loss": "l2"}, "loss='l2'"),
        ({"margin": -1.0}, "margin=-1.0"),
        ({"weight": 0.0}, "weight=0.0"),
        ({"growth": 0.5}, "growth=0.5"),
        ({"sparsity": -1.0}, "sparsity=-1.0"),
        ({"patience": 0}, "patience=0"),
        ({"generator": Linear(np.asarray(orthonormal(5, 3)), np.zeros(5, np.float32))}, "does not take x"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        prototype(F, X, TARGET, **{"generator": G, "prototypes": PROTOTYPES, **options})


def test_bad_labels_are_named():
    examples = np.zeros((2, 6), np.float32)
    for labels, options, message in [
        ([0, 3], {}, "labels must be (integers|classes)"),
        ([0, 1], {}, "labels has no example of 2"),
        ([0, 1], {"k": 1}, "need x"),
    ]:
        with pytest.raises(ValueError, match=message):
            class_prototypes(G, examples, np.asarray(labels), 3, **options)
