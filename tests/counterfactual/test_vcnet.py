"""VCNet on mixed data of which the classes are known: validity, one-hot groups, immutables, and its loss."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
from flax import nnx
from jax.tree_util import Partial
from latent_toys import each_alone

from jxai.counterfactual import run
from jxai.counterfactual.vcnet import vcnet
from jxai.models.vcnet import VCNet, loss
from jxai.train import train

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(9)
GROUPS, IMMUTABLE = ((3, 4, 5),), (2,)


def mixed(n):
    """Three classes; two numbers and a category that tell them, one number that does not, and that may not change."""
    y = RNG.integers(0, 3, n)
    numbers = np.stack([0.2 + 0.3 * y, 0.8 - 0.3 * y], 1) + 0.05 * RNG.normal(size=(n, 2))
    category = np.where(RNG.uniform(size=n) < 0.9, y, RNG.integers(0, 3, n))
    x = np.concatenate([numbers, RNG.uniform(size=(n, 1)), np.eye(3)[category]], 1)
    return np.clip(x, 0, 1).astype(np.float32), y


@pytest.fixture(scope="module")
def trained():
    x, y = mixed(600)
    model = VCNet(6, 3, groups=GROUPS, immutable=IMMUTABLE, shared=32, hidden=32, latent=3, rngs=nnx.Rngs(0))
    return train(model, loss, (x, y), key=jax.random.key(1), steps=800, optimizer=optax.adam(3e-3), batch_size=64).model


@jax.jit
def said(model, x):
    return jax.vmap(model)(x)


def others(model, x):
    own = np.asarray(said(model, x)).argmax(1)
    return own, np.stack([np.delete(np.arange(3), c) for c in own])


def test_counterfactuals_are_valid_plausible_and_keep_what_may_not_change(trained):
    x, y = mixed(60)
    own, targets = others(trained, x)
    assert (own == np.asarray(y)).mean() > 0.95
    found = run(vcnet.search(), trained, x, targets)
    assert found.valid.mean() > 0.95 and (found.steps == 0).all()
    assert np.array_equal(found.valid, np.asarray(found.logits).argmax(-1) == targets)
    group = found.x[..., 3:6]
    assert set(np.unique(group)) == {0.0, 1.0} and (group.sum(-1) == 1).all()
    assert np.array_equal(found.x[..., 2], np.broadcast_to(x[:, None, 2], (60, 2)))
    # They look like the data of the target class: its numbers and its category.
    assert np.abs(found.x[..., 0] - (0.2 + 0.3 * targets)).mean() < 0.08 and (group.argmax(-1) == targets).mean() > 0.9


@pytest.mark.slow
def test_on_a_table_of_measurements():
    datasets = pytest.importorskip("sklearn.datasets")
    table, y = datasets.load_breast_cancer(return_X_y=True)
    x = jnp.asarray((table - table.min(0)) / (table.max(0) - table.min(0)), jnp.float32)
    network = VCNet(30, 2, immutable=(0, 1), latent=4, rngs=nnx.Rngs(0))
    data = x[100:], jnp.asarray(y)[100:]
    model = train(network, loss, data, key=jax.random.key(1), steps=400, optimizer=optax.adam(3e-3), batch_size=64).model
    right = np.asarray(jax.vmap(model)(x[:100]).argmax(1) == y[:100]).mean()
    found = run(vcnet.search(), model, x[:100], 1 - np.asarray(jax.vmap(model)(x[:100]).argmax(1)))
    assert right > 0.9 and found.valid.mean() > 0.9 and np.array_equal(found.x[:, :2], x[:100, :2])


def test_batched_equals_one_at_a_time(trained):
    x, _ = mixed(3)
    _, targets = others(trained, x)
    found = run(vcnet.search(probability=0.9), trained, x, targets, batch_size=2)
    each_alone(found, lambda v, t: vcnet(trained, v, t, probability=0.9), x, targets)


def test_the_decoder_gets_the_probability_of_the_target(trained):
    x, _ = mixed(1)
    own, targets = others(trained, x)
    x, target = x[0], targets[0, 0]
    p = scipy.special.softmax(np.asarray(said(trained, x[None]), np.float64)[0])
    p[target] = 0
    expected = 0.3 * p / p.sum()
    expected[target] = 0.7
    # Another model may be explained by the network; a region keeps the rest of x.
    blind = Partial(lambda w, v: w, np.zeros(3, np.float32))
    region = np.asarray([1, 0, 1, 1, 1, 1], bool)

    @jax.jit
    def all_of(network, x, target, p):
        return (
            network.decode(network.encode(x), p, x),
            vcnet(network, x, target, probability=0.7),
            vcnet(blind, x, 1, network=network, region=region),
        )

    made, found, held = jax.tree.map(np.asarray, all_of(trained, x, target, expected.astype(np.float32)))
    assert np.allclose(found.x[:3], made[:3], atol=1e-4) and found.x[3:].argmax() == made[3:].argmax()
    assert not held.valid and held.x[1] == x[1] and held.x[0] != x[0]


def test_the_loss_is_the_sum_of_its_parts():
    model = VCNet(6, 3, groups=GROUPS, immutable=IMMUTABLE, rngs=nnx.Rngs(0))
    x, y = mixed(5)

    @jax.jit
    def seen(model):
        made = jax.vmap(lambda v: model.decode(model.encode(v), jax.nn.softmax(model(v)), v))(x)
        return loss(model, x, y, jax.random.key(0), reconstruction=2.0, divergence=0.5, prediction=3.0), jax.vmap(model)(x), jax.vmap(model.posterior)(x), made

    (total, parts), logits, posterior, _ = jax.tree.map(np.asarray, seen(model))
    assert np.allclose(total, 2 * parts["reconstruction"] + 0.5 * parts["divergence"] + 3 * parts["prediction"], rtol=1e-5)
    log_p = scipy.special.log_softmax(logits.astype(np.float64), 1)
    assert np.allclose(parts["prediction"], -log_p[np.arange(5), y].mean(), rtol=1e-4)
    assert np.allclose(parts["accuracy"], (logits.argmax(1) == y).mean())
    _, mean, log_variance = (np.asarray(v, np.float64) for v in posterior)
    # KL(N(m, s²) ‖ N(0, 1)) of each entry.
    expected = (-0.5 * log_variance + (np.exp(log_variance) + mean**2) / 2 - 0.5).sum(1).mean()
    assert np.allclose(parts["divergence"], expected, rtol=1e-4)
    # With no noise the reconstruction is the cross entropy of the mean code's decoding.
    quiet = nnx.clone(model)
    last, of_noise = quiet.encoder[1], np.arange(16) >= 8
    last.kernel[...] = jnp.asarray(np.where(of_noise, 0, np.asarray(last.kernel[...])))
    last.bias[...] = jnp.asarray(np.where(of_noise, -60, np.asarray(last.bias[...])).astype(np.float32))
    (_, parts), _, _, made = jax.tree.map(np.asarray, seen(quiet))
    made = made.astype(np.float64)
    cross = -(x * np.log(made) + (1 - x) * np.log1p(-made))
    assert np.allclose(parts["reconstruction"], np.delete(cross, 2, 1).sum(1).mean(), rtol=1e-3)


def test_bad_input_is_named(trained):
    x, _ = mixed(1)
    target = int(np.asarray(said(trained, x)).argmin())
    for options, message in [
        ({"groups": [(0, 6)]}, "groups"),
        ({"groups": [(0, 1), (1, 2)]}, "groups"),
        ({"immutable": (9,)}, "immutable"),
        ({"groups": [(0, 1)], "immutable": (1,)}, "as a whole"),
    ]:
        with pytest.raises(ValueError, match=message):
            VCNet(6, 3, rngs=nnx.Rngs(0), **options)
    with pytest.raises(ValueError, match=r"x must have shape \(6,\)"):
        trained(np.zeros(5, np.float32))
    for f, v, options, message in [
        (trained, x[0], {"probability": 1.5}, "probability=1.5"),
        (trained, np.where(np.arange(6) < 3, x[0], np.float32(0.5)), {}, "not one-hot"),
        (Partial(lambda w, v: w, np.zeros(3, np.float32)), x[0], {}, "must have a method encode"),
        (trained, x[0], {"network": Short()}, "network makes examples of shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            vcnet(f, v, target, **options)


class Short:
    """A network whose examples are too short."""

    def encode(self, x):
        return x

    def decode(self, z, p, x):
        return z[:2]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (lambda y: y + 1, r"labels must be classes in \[0, 2\), but go from 1 to 2; they look one-based: subtract 1"),
        (lambda y: np.where(np.arange(len(y)) % 4 == 0, -1, y), "but go from -1 to 1; leave out examples without a label"),
        (lambda y: y.astype(np.float32), r"labels must be integers \[8\] in \[0, 2\), one class for each example, got float32"),
        (lambda y: y.astype(bool), "got bool"),
        (lambda y: None, r"labels must be integers \[8\]"),
    ],
)
def test_labels_that_are_no_classes_are_named_before_a_training(labels, message):
    x, y = np.full((8, 3), 0.5, np.float32), np.arange(8) % 2
    with pytest.raises(ValueError, match=message):
        train(VCNet(3, rngs=nnx.Rngs(0)), Partial(loss, divergence=0.1), (x, labels(y)), key=jax.random.key(0), steps=1, batch_size=4)


def test_a_label_that_is_no_class_spoils_the_loss():
    value = jax.jit(lambda y: loss(VCNet(3, rngs=nnx.Rngs(0)), jnp.full((2, 3), 0.5), y, jax.random.key(0))[0])
    assert np.isfinite(value(jnp.array([0, 1]))) and np.isnan(value(jnp.array([0, 2]))) and np.isnan(value(jnp.array([-1, 0])))
