"""Counterfactuals guided by prototypes: the elastic-net optimum in closed form, the pull of prototype and autoencoder, and bad inputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latent_toys import Linear, Weighted, linear_generator, linear_model, orthonormal, same

from jxai.counterfactual import run
from jxai.counterfactual.prototype import class_prototypes, prototype

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(2)
G = linear_generator(6, 3)
X = jnp.asarray(RNG.uniform(0.3, 0.7, 6), jnp.float32)
F = linear_model()
TARGET = int(np.argsort(F(X))[0])
PROTOTYPES = jnp.asarray(RNG.normal(size=(3, 3)) * 0.1, jnp.float32)


@pytest.mark.parametrize("sparsity", [0.0, 0.05, 0.4])
def test_without_a_generator_it_is_the_nearest_point_of_the_elastic_net(sparsity):
    # f = (0, w·x + b): min β‖δ‖₁ + ‖δ‖² with w·δ >= gap has δ = soft(λ w, β) / 2 with the λ that closes the gap.
    w = np.asarray([1.0, -0.8, 0.3, 0.05, 0.0, -0.1])
    f = Weighted(jnp.asarray(np.stack([0 * w, w]), jnp.float32), jnp.asarray([0.0, -0.5 - float(w @ np.asarray(X))], jnp.float32))

    def closed(price):
        return np.sign(w) * np.maximum(np.abs(price * w) - sparsity, 0) / 2

    low, high = 0.0, 100.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if w @ closed(middle) < 0.5 else (low, middle)
    expected = closed(high)
    options = dict(generator=G, prototypes=PROTOTYPES[:2], attraction=0.0, sparsity=sparsity, growth=1.02, steps=1500, patience=400, clip=None)
    found = prototype(f, X, 1, learning_rate=0.02, **options)
    assert bool(found.valid) and np.allclose(found.x - X, expected, atol=0.03)
    cost = sparsity * np.abs(expected).sum() + (expected**2).sum()
    change = np.asarray(found.x - X)
    assert sparsity * np.abs(change).sum() + (change**2).sum() < 1.05 * cost + 1e-4
    # What is worth less than half the price of a change does not move at all.
    idle = np.abs(high * w) < sparsity / 2
    assert (change[idle] == 0).all() and (idle.sum() >= 3 or sparsity < 0.1)


def test_the_prototype_attracts_the_code():
    options = dict(generator=G, prototypes=PROTOTYPES, sparsity=0.01, steps=300, clip=None)
    apart = lambda theta: float(((prototype(F, X, TARGET, attraction=theta, **options).latent - PROTOTYPES[TARGET]) ** 2).sum())
    near, far = apart(20.0), apart(0.0)
    assert near < 0.5 * far
    found = prototype(F, X, TARGET, attraction=20.0, **options)
    assert np.allclose(found.latent, G.encode(found.x), atol=1e-5) and np.allclose(found.logits, F(found.x), atol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 5.0])
def test_the_autoencoder_bends_the_way_towards_its_plane(gamma):
    # On the plane already, min δᵀδ + γ δᵀ(I − BBᵀ)δ with w·δ >= gap has δ = M⁻¹w gap / (wᵀM⁻¹w), M the matrix of the form.
    x, gap, w = np.asarray(G.decode(G.encode(X))), 0.5, np.asarray([1.0, -0.8, 0.3, 0.5, 0.2, -0.1])
    f = Weighted(jnp.asarray(np.stack([0 * w, w]), jnp.float32), jnp.asarray([0.0, -gap - float(w @ x)], jnp.float32))
    basis = np.asarray(G.basis)
    way = np.linalg.solve(np.eye(6) + gamma * (np.eye(6) - basis @ basis.T), w)
    options = dict(generator=G, prototypes=PROTOTYPES[:2], attraction=0.0, sparsity=0.0, growth=1.02, steps=1500, patience=400, clip=None)
    found = prototype(f, jnp.asarray(x), 1, reconstruction=gamma, learning_rate=0.02, **options)
    assert bool(found.valid) and np.allclose(found.x - x, way * gap / (w @ way), atol=0.03)


def test_class_prototypes_are_means_of_codes():
    examples = jnp.asarray(RNG.normal(size=(20, 6)), jnp.float32)
    labels = np.arange(20) % 3
    codes = (np.asarray(examples) - 0.5) @ np.asarray(G.basis)
    assert np.allclose(class_prototypes(G, examples, labels, 3), [codes[labels == c].mean(0) for c in range(3)], atol=1e-5)
    near = np.asarray(class_prototypes(G, examples, labels, 3, k=2, x=X))
    far = ((codes - np.asarray(G.encode(X))) ** 2).sum(1)
    for c in range(3):
        own = np.flatnonzero(labels == c)
        assert np.allclose(near[c], codes[own[np.argsort(far[own])[:2]]].mean(0), atol=1e-5)


def test_batched_equals_one_at_a_time_and_constraints_hold():
    x = jnp.asarray(RNG.uniform(0.3, 0.7, (4, 6)), jnp.float32)
    targets = np.asarray(jax.vmap(F)(x).argmin(1))
    options = dict(generator=G, prototypes=PROTOTYPES, sparsity=0.02, attraction=0.5, steps=80, region=np.arange(6) < 5)
    found = run(prototype.search(**options), F, x, targets, batch_size=2, block=11)
    same(found, jax.vmap(lambda v, t: prototype(F, v, t, **options))(x, jnp.asarray(targets)))
    same(jax.tree.map(lambda leaf: leaf[2], found), prototype(F, x[2], int(targets[2]), **options))
    assert np.array_equal(found.x[:, 5], x[:, 5]) and found.x.min() >= 0 and found.x.max() <= 1
    stuck = prototype(F, X, TARGET, **{**options, "steps": 1, "learning_rate": 1e-6})
    assert not bool(stuck.valid) and int(stuck.steps) == 1
    # Prototypes of each example's own.
    own = jnp.stack([PROTOTYPES, -PROTOTYPES, PROTOTYPES, PROTOTYPES])
    rest = {name: value for name, value in options.items() if name != "prototypes"}
    mixed = run(prototype.search(prototypes=PROTOTYPES, **rest), F, x, targets, per_example={"prototypes": own}, batch_size=4)
    same(jax.tree.map(lambda leaf: leaf[1], mixed), prototype(F, x[1], int(targets[1]), prototypes=-PROTOTYPES, **rest))


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
        ({"generator": Linear(orthonormal(5, 3), jnp.zeros(5))}, "does not take x"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        prototype(F, X, TARGET, **{"generator": G, "prototypes": PROTOTYPES, **options})


def test_bad_labels_are_named():
    examples = jnp.zeros((2, 6))
    for labels, options, message in [
        ([0, 3], {}, "labels must be 2 integers"),
        ([0, 1], {}, "labels has no example of 2"),
        ([0, 1], {"k": 1}, "need x"),
    ]:
        with pytest.raises(ValueError, match=message):
            class_prototypes(G, examples, np.asarray(labels), 3, **options)
