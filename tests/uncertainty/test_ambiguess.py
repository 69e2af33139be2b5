"""AmbiGuess: what its critic learns, where its sampler looks and how often, and what the labels say."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn import drawn
from scipy.stats import chisquare
from sklearn.datasets import load_digits

from jxai import train
from jxai.uncertainty import ambiguess

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
Y = np.arange(8) % 2


@functools.cache
def built(bend=0.0):
    """A label's log odds are 0.7 z₀, of a critic written by hand; the decoder is as drawn."""
    model = drawn(lambda rngs: ambiguess.AmbiGuess((2, 3), hidden=(4,), rngs=rngs))
    first, last = np.zeros((4, 4), np.float32), np.zeros((4, 1), np.float32)
    # relu(−z₀ − 9 [class 1]) and relu(z₀ − 9 [class 0]): leaky ones, so that |z₀| < 9 matters in one class each.
    first[0, :2], first[2, 1], first[3, 0] = (-1, 1), -9, -9
    last[:2, 0] = 1, 1
    model.critic.layers[0].kernel.set_value(first)
    model.critic.layers[0].bias.set_value(np.full(4, bend, np.float32))
    model.critic.layers[1].kernel.set_value(last)
    model.critic.layers[1].bias.set_value(np.zeros(1, np.float32))
    return model


def critic_in_numpy(model, z, side, slope=0.3):
    v = np.concatenate([z, np.eye(2)[side]])
    h = v @ np.asarray(model.critic.layers[0].kernel[...]) + np.asarray(model.critic.layers[0].bias[...])
    return float((np.where(h > 0, h, slope * h) @ np.asarray(model.critic.layers[1].kernel[...]))[0])


def test_labels_are_the_softmax_of_the_critics_logits():
    model = built()
    for z in np.float32([[0.3, 1], [-0.8, 4], [0, 0]]):
        odds = np.exp([critic_in_numpy(model, z, side) for side in (0, 1)])
        np.testing.assert_allclose(model.label(z), odds / odds.sum(), rtol=1e-5)
    np.testing.assert_allclose(model.label(np.zeros(2, np.float32)), 0.5)


def test_cells_lie_between_the_classes_and_weigh_by_the_images_change():
    model = built()
    where = jax.jit(lambda m: ambiguess.density(m, cells=4, difference=0.2))(model)
    np.testing.assert_allclose(where.centres[:, 0, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(where.centres[0, :, 1], [-3.75, -1.25, 1.25, 3.75])
    np.testing.assert_allclose(where.size, [0.5, 2.5])
    total = lambda z: float((np.asarray(model.decode(z), np.float64) ** 2).sum())
    for i, j in ((1, 0), (2, 3)):
        z, step = np.asarray(where.centres[i, j]), 1e-2
        slope = [(total(z + step * e) - total(z - step * e)) / (2 * step) for e in np.eye(2, dtype=np.float32)]
        np.testing.assert_allclose(where.weights[i, j], np.linalg.norm(slope), rtol=2e-2)
    sure = np.abs(np.asarray(jax.vmap(jax.vmap(model.label))(where.centres)) @ [1, -1]) > 0.2
    assert sure.any() and not sure.all()
    np.testing.assert_array_equal(np.asarray(where.weights) == 0, sure)


def test_samples_fall_into_cells_by_their_weights_and_evenly_within():
    """The weights are not symmetric: the published code draws by their transpose."""
    model = built()
    where = ambiguess.density(model, cells=2, difference=1.0)
    where = dataclasses.replace(where, weights=jnp.float32([[1, 4], [2, 3]]))
    found = jax.jit(jax.vmap(lambda k: ambiguess.sample(model, where, k)))(jax.random.split(KEY, 2000))
    assert found.valid.all()
    cell = (np.asarray(found.z) > 0).astype(int)
    counts = np.bincount(2 * cell[:, 0] + cell[:, 1], minlength=4)
    assert chisquare(counts, np.array([1, 4, 2, 3]) * 200).pvalue > 1e-3
    assert chisquare(np.bincount((np.abs(found.z[:, 1]) // 1).astype(int), minlength=5)).pvalue > 1e-3
    np.testing.assert_allclose(found.label, jax.vmap(model.label)(found.z), rtol=1e-5)
    np.testing.assert_allclose(found.x[7], model.decode(found.z[7]), rtol=1e-5)


def test_only_ambiguous_samples_are_valid_and_a_search_that_failed_says_so():
    model = built()
    draw = jax.jit(jax.vmap(lambda k, where: ambiguess.sample(model, where, k, attempts=200), (0, None)))
    where = ambiguess.density(model, cells=2, difference=0.1)
    assert (np.asarray(where.weights) == 0).all()
    found = draw(jax.random.split(KEY, 50), dataclasses.replace(where, weights=jnp.ones((2, 2))))
    assert found.valid.all() and (np.abs(np.asarray(found.label) @ [1, -1]) < 0.1).all()
    hopeless = dataclasses.replace(where, difference=jnp.float32(0))
    failed = draw(jax.random.split(KEY, 50), hopeless)
    assert not failed.valid.any() and np.isfinite(failed.x).all()


def test_images_of_pairs_have_labels_over_all_classes():
    found = ambiguess.images({(4, 1): built(), (0, 3): built(0.1)}, 5, KEY, num_classes=6, cells=3, difference=1.0)
    assert found.x.shape == (5, 2, 3)
    label = np.asarray(found.label)
    np.testing.assert_allclose(label.sum(1), 1, rtol=1e-5)
    np.testing.assert_array_equal(
        label > 0, np.isin(np.arange(6), (1, 4))[None].repeat(5, 0) ^ (np.arange(5) > 2)[:, None] * np.isin(np.arange(6), (0, 1, 3, 4))
    )
    np.testing.assert_allclose(label[0, [4, 1]], built().label(found.z[0]), rtol=1e-5)
    again = ambiguess.images({(4, 1): built(), (0, 3): built(0.1)}, 5, jax.random.key(1), num_classes=6, cells=3, difference=1.0)
    assert not np.array_equal(again.z, found.z)


def test_losses_are_those_of_the_critic_and_need_no_noise_without_dropout():
    model = drawn(lambda rngs: ambiguess.AmbiGuess((6,), hidden=(4,), dropout=0.0, rngs=rngs))
    x = RNG.uniform(size=(8, 6)).astype(np.float32)
    z = np.asarray(jax.vmap(model.encode)(x))
    logits = [critic_in_numpy(model, v, side) + float(model.critic.layers[1].bias[0]) for v, side in zip(z, Y)]
    np.testing.assert_allclose(ambiguess.encoder_loss(model, x, Y, KEY)[0], np.logaddexp(0, -np.array(logits)).mean(), rtol=1e-4)
    np.testing.assert_allclose(ambiguess.reconstruction_loss(model, x, Y, KEY)[0], ((np.asarray(jax.vmap(model.decode)(z)) - x) ** 2).mean(), rtol=1e-5)
    true = lambda key: jax.vmap(lambda k, side: model.score(model.prior(jax.random.split(k, 4)[0], side), side))(jax.random.split(key, 8), Y)
    expected = np.logaddexp(0, -np.asarray(true(KEY))).mean() + np.logaddexp(0, logits).mean()
    np.testing.assert_allclose(ambiguess.critic_loss(model, x, Y, KEY)[0], expected, rtol=1e-4)


def test_dropout_keeps_the_mean_and_is_off_without_a_key():
    model = built()
    x = np.full((2, 3), 0.5, np.float32)
    one = jax.jit(jax.vmap(model.encode, (None, 0)))(x, jax.random.split(KEY, 4000))
    assert np.std(one[:, 0]) > 0.01
    np.testing.assert_allclose(np.mean(one, 0), model.encode(x), atol=4 * np.std(one) / np.sqrt(4000))


def test_acceptance_asks_for_both():
    model, x = built(), np.zeros((200, 2, 3), np.float32)
    sides = np.arange(200) % 2
    found = ambiguess.acceptance(model, x, sides, KEY)
    assert found.classes == 0.5 and not found.holds  # x is the same for both
    model = drawn(lambda rngs: ambiguess.AmbiGuess((2,), hidden=(), dropout=0.0, rngs=rngs))
    model.encoder.layers[0].kernel.set_value(np.float32([[6, 0], [0, 1]]))
    model.encoder.layers[0].bias.set_value(np.float32([-3, 0]))
    critic = np.zeros((4, 1), np.float32)
    model.critic.layers[0].kernel.set_value(critic)
    model.critic.layers[0].bias.set_value(np.zeros(1, np.float32))
    x = np.stack([sides, np.zeros(200)], 1).astype(np.float32)
    blind = ambiguess.acceptance(model, x, sides, KEY)
    assert not blind.holds and blind.real_or_fake == 0  # no logit is above or below 0


def test_a_pair_that_is_not_accepted_is_none():
    x = RNG.uniform(size=(12, 6)).astype(np.float32)
    model, tries = ambiguess.train_pair(x, np.arange(12) % 2, (0, 1), KEY, tries=2, steps=2, batch_size=4, hidden=(4,))
    assert model is None and len(tries) == 2 and not any(t.holds for t in tries)


@pytest.mark.slow
def test_a_trained_pair_of_digits_is_accepted_and_its_images_lie_between():
    digits = load_digits()
    x = (digits.images / 16).astype(np.float32)[..., None]
    model, tries = ambiguess.train_pair(x, digits.target, (3, 8), KEY, tries=3, steps=1000, batch_size=100)
    assert model is not None and tries[-1].holds
    found = ambiguess.images({(3, 8): model}, 20, KEY, num_classes=10, difference=0.25)
    assert found.valid.all() and (np.asarray(found.label)[:, [3, 8]] > 0.37).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ambiguess.train_pair(np.zeros((4, 2), np.float32), np.array([0, 0, 1, 1]), (0, 2), KEY), "of class 2 there are none"),
        (lambda: ambiguess.train_pair(np.zeros((4, 2), np.float32), np.array([0, 0, 1, 1]), (1, 1), KEY), "must be two different classes"),
        (lambda: ambiguess.density(built(), difference=0.0), "difference=0.0 must lie in"),
        (lambda: ambiguess.images({}, 3, KEY, num_classes=2), "models must have"),
        (lambda: ambiguess.images({(0, 5): built()}, 3, KEY, num_classes=2), r"different classes in \[0, 2\), got \(0, 5\)"),
        (lambda: ambiguess.images({(0, 1): built()}, 3, None, num_classes=2), "key=None"),
        (lambda: ambiguess.AmbiGuess((2,), dropout=1.0, rngs=None), "dropout=1.0 must lie in"),
        (lambda: train.train(built(), ambiguess.parts(), np.zeros((9, 2, 3), np.float32), key=KEY, steps=1, batch_size=3), "labels 0 and 1"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
