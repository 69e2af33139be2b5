"""PIECE: which features are exceptional and what they become, in closed form; Min-Edit and its constrained form."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from latent_toys import linear_generator, same

from jxai import taps
from jxai.counterfactual import diffeomorphic, run
from jxai.counterfactual.piece import ClassFeatures, class_features, constrained_min_edit, min_edit, piece

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(8)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Net:
    """`W₂ a(W₁ x)`, a the ReLU or one that is not flat below 0."""

    first: jax.Array
    second: jax.Array
    flat: bool = dataclasses.field(default=False, metadata={"static": True})

    def __call__(self, x):
        v = self.first @ x
        return self.second @ (jax.nn.relu(v) if self.flat else jax.nn.softplus(4 * v) / 4)


# Features are the code itself, so that what the search should reach is known.
G = linear_generator(6, centre=0.0)
F = Net(G.basis.T, jnp.asarray(np.repeat(np.eye(3), 2, axis=1), jnp.float32))
FLAT = dataclasses.replace(F, flat=True)
# Class c has codes of which entries 2c and 2c + 1 are about 1, the others mostly below 0.
LABELS = np.repeat(np.arange(3), 40)
CODES = np.where(np.repeat(np.eye(3), 2, axis=1)[LABELS] > 0, 1 + 0.2 * RNG.normal(size=(120, 6)), -0.5 + 0.1 * RNG.normal(size=(120, 6)))
EXAMPLES = jnp.asarray(CODES @ np.asarray(G.basis).T, jnp.float32)
LAYER = 0
FEATURES = class_features(F, EXAMPLES, LABELS, 3, LAYER, hurdle=False)
X = EXAMPLES[0]
OPTIONS = dict(generator=G, clip=None, learning_rate=0.02)


def test_the_classes_features_are_their_moments():
    assert np.allclose(taps.read(F, X, LAYER), CODES[0], atol=1e-5)
    relu = next(layer.index for layer in taps.layers(FLAT, X) if layer.primitive == "relu")
    hurdle, values = class_features(FLAT, EXAMPLES, LABELS, 3, relu), np.maximum(CODES, 0)
    for label in range(3):
        own = values[LABELS == label]
        on = own > 0
        assert np.allclose(hurdle.active[label], on.mean(0), atol=1e-6)
        for j in range(6):
            assert np.allclose(hurdle.mean[label, j], own[on[:, j], j].mean() if on[:, j].any() else 0, atol=1e-5)
            assert np.allclose(hurdle.std[label, j], own[on[:, j], j].std() if on[:, j].any() else 1e-6, atol=1e-5)
    assert np.allclose(FEATURES.active, 1) and np.allclose(FEATURES.mean, [CODES[LABELS == c].mean(0) for c in range(3)], atol=1e-5)


def test_tails_are_those_of_the_hurdle_model():
    model = ClassFeatures(jnp.asarray([[0.8, 0.8, 0.02, 0.8, 1.0]]), jnp.full((1, 5), 2.0), jnp.full((1, 5), 0.5))
    normal = scipy.stats.norm(2.0, 0.5)
    # At 0, which a fifth is; in the middle; active where hardly any is; far above; far below, though none is 0.
    values = jnp.asarray([0.0, 2.1, 2.0, 4.0, 0.5])
    expected = [0.2, 0.8 * normal.sf(2.1), 0.02 * 0.5, 0.8 * normal.sf(4.0), normal.cdf(0.5)]
    assert np.allclose(model.tails(values, 0), expected, atol=1e-5)
    assert np.allclose(model.expected(0), [1.6, 1.6, 0.04, 1.6, 2.0])


def test_exceptional_features_become_those_of_the_target():
    found = piece(F, X, 1, features=FEATURES, steps=400, **OPTIONS)
    own = CODES[0]
    odd = np.asarray(FEATURES.tails(jnp.asarray(own, jnp.float32), 1)) < 0.05
    assert list(np.flatnonzero(odd)) == [0, 1, 2, 3]
    goal = np.where(odd, FEATURES.expected(1), own)
    assert bool(found.valid) and int(found.steps) == 400
    assert np.allclose(found.latent, goal, atol=0.02) and np.allclose(found.logits, F(found.x), atol=1e-4)
    # Nothing is exceptional where the level is 0: x stays.
    assert np.allclose(piece(F, X, 1, features=FEATURES, alpha=0.0, steps=50, **OPTIONS).x, X, atol=1e-4)


def test_min_edit_ends_at_the_first_point_of_the_class():
    options = {**OPTIONS, "optimizer": optax.sgd}
    found = min_edit(F, X, 2, steps=2000, **options)
    # The same descent as the diffeomorphic one, shorter by its threshold.
    same_way = diffeomorphic(F, X, 2, threshold=1.0, steps=int(found.steps), **options)
    assert bool(found.valid) and np.allclose(found.x, same_way.x, atol=1e-5)
    before = diffeomorphic(F, X, 2, threshold=1.0, steps=int(found.steps) - 1, **options)
    assert F(before.x).argmax() != 2


def test_the_constrained_edit_changes_features_less():
    free = min_edit(F, X, 2, **{**OPTIONS, "learning_rate": 0.3})
    held = constrained_min_edit(F, X, 2, layer=LAYER, growth=0.1, **OPTIONS)
    off = [float(jnp.linalg.norm(taps.read(F, found.x, LAYER) - taps.read(F, X, LAYER))) for found in (free, held)]
    assert bool(free.valid) and bool(held.valid) and off[1] < off[0]


@pytest.mark.parametrize(("method", "own"), [(piece, {"features": FEATURES}), (min_edit, {}), (constrained_min_edit, {"layer": LAYER})])
def test_batched_equals_one_at_a_time(method, own):
    options = {**OPTIONS, **own, "steps": 25, "optimizer": optax.sgd}
    x, targets = EXAMPLES[jnp.asarray([0, 50, 100])], np.asarray([[1, 2], [0, 2], [0, 1]])
    found = run(method.search(**options), F, x, targets, batch_size=4, block=9)
    same(found, jax.vmap(lambda v, ts: jax.vmap(lambda t: method(F, v, t, **options))(ts))(x, jnp.asarray(targets)))
    same(jax.tree.map(lambda leaf: leaf[1, 1], found), method(F, x[1], 2, **options))
    short = method(F, X, 1, **{**options, "steps": 1, "learning_rate": 1e-6})
    assert not bool(short.valid) and int(short.steps) == 1


def test_bad_input_is_named():
    for method, options, message in [
        (piece, {"features": FEATURES, "alpha": 2.0}, "alpha=2.0"),
        (piece, {"features": dataclasses.replace(FEATURES, mean=jnp.zeros((3, 4)))}, "features are of 4 values"),
        (constrained_min_edit, {"layer": 99}, "99"),
        (constrained_min_edit, {"layer": LAYER, "growth": 0.0}, "growth=0.0"),
        (min_edit, {"generator": F}, "must have a method encode"),
        (min_edit, {"steps": 0}, "steps=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            method(F, X, 1, **{"generator": G, **options})
    with pytest.raises(ValueError, match="labels has no example of 2"):
        class_features(F, EXAMPLES[:80], LABELS[:80], 3, LAYER)
    with pytest.raises(ValueError, match="labels must be 120 integers"):
        class_features(F, EXAMPLES, LABELS[:80], 3, LAYER)
