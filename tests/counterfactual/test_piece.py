"""PIECE: which features are exceptional and what they become, in closed form; Min-Edit and its constrained form."""

import dataclasses

import jax
import numpy as np
import optax
import pytest
import scipy.stats
from latent_toys import each_alone, linear_generator

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
BASIS = np.asarray(G.basis)
F = Net(BASIS.T, np.repeat(np.eye(3, dtype=np.float32), 2, axis=1))
FLAT = dataclasses.replace(F, flat=True)
# Class c has codes of which entries 2c and 2c + 1 are about 1, the others mostly below 0.
LABELS = np.repeat(np.arange(3), 40)
CODES = np.where(np.repeat(np.eye(3), 2, axis=1)[LABELS] > 0, 1 + 0.2 * RNG.normal(size=(120, 6)), -0.5 + 0.1 * RNG.normal(size=(120, 6)))
EXAMPLES = (CODES @ BASIS.T).astype(np.float32)
LAYER = 0
FEATURES = class_features(F, EXAMPLES, LABELS, 3, LAYER, hurdle=False)
X = EXAMPLES[0]
OPTIONS = dict(generator=G, clip=None, learning_rate=0.02)


def test_the_classes_features_are_their_moments():
    assert np.allclose(jax.jit(lambda x: taps.read(F, x, LAYER))(X), CODES[0], atol=1e-5)
    relu = next(layer.index for layer in taps.layers(FLAT, X) if layer.primitive == "relu")
    hurdle, values = jax.tree.map(np.asarray, class_features(FLAT, EXAMPLES, LABELS, 3, relu)), np.maximum(CODES, 0)
    for label in range(3):
        own = values[LABELS == label]
        on = own > 0
        assert np.allclose(hurdle.active[label], on.mean(0), atol=1e-6)
        for j in range(6):
            assert np.allclose(hurdle.mean[label, j], own[on[:, j], j].mean() if on[:, j].any() else 0, atol=1e-5)
            assert np.allclose(hurdle.std[label, j], own[on[:, j], j].std() if on[:, j].any() else 1e-6, atol=1e-5)
    assert np.allclose(FEATURES.active, 1) and np.allclose(FEATURES.mean, [CODES[LABELS == c].mean(0) for c in range(3)], atol=1e-5)


def test_tails_are_those_of_the_hurdle_model():
    model = ClassFeatures(np.float32([[0.8, 0.8, 0.02, 0.8, 1.0]]), np.full((1, 5), 2, np.float32), np.full((1, 5), 0.5, np.float32))
    normal = scipy.stats.norm(2.0, 0.5)
    # At 0, which a fifth is; in the middle; active where hardly any is; far above; far below, though none is 0.
    values = np.float32([0.0, 2.1, 2.0, 4.0, 0.5])
    expected = [0.2, 0.8 * normal.sf(2.1), 0.02 * 0.5, 0.8 * normal.sf(4.0), normal.cdf(0.5)]
    tails, means = jax.jit(lambda model, values: (model.tails(values, 0), model.expected(0)))(model, values)
    assert np.allclose(tails, expected, atol=1e-5)
    assert np.allclose(means, [1.6, 1.6, 0.04, 1.6, 2.0])


def test_exceptional_features_become_those_of_the_target():
    go = jax.jit(lambda x, alpha: piece(F, x, 1, features=FEATURES, alpha=alpha, steps=400, **OPTIONS))
    found = go(X, np.float32(0.05))
    own = CODES[0]
    tails, means, said = jax.jit(lambda own, x: (FEATURES.tails(own, 1), FEATURES.expected(1), F(x)))(own.astype(np.float32), found.x)
    odd = np.asarray(tails) < 0.05
    assert list(np.flatnonzero(odd)) == [0, 1, 2, 3]
    goal = np.where(odd, means, own)
    assert bool(found.valid) and int(found.steps) == 400
    assert np.allclose(found.latent, goal, atol=0.02) and np.allclose(found.logits, said, atol=1e-4)
    # Nothing is exceptional where the level is 0: x stays.
    assert np.allclose(go(X, np.float32(0)).x, X, atol=1e-4)


def test_min_edit_ends_at_the_first_point_of_the_class():
    options = {**OPTIONS, "optimizer": optax.sgd}
    found = jax.jit(lambda x: min_edit(F, x, 2, steps=2000, **options))(X)
    # The same descent as the diffeomorphic one, shorter by its threshold.
    same_way, before = (jax.jit(lambda x, n=n: diffeomorphic(F, x, 2, threshold=1.0, steps=n, **options))(X) for n in (int(found.steps), int(found.steps) - 1))
    assert bool(found.valid) and np.allclose(found.x, same_way.x, atol=1e-5)
    assert np.asarray(before.logits).argmax() != 2


def test_the_constrained_edit_changes_features_less():
    @jax.jit
    def both(x):
        free = min_edit(F, x, 2, **{**OPTIONS, "learning_rate": 0.3})
        held = constrained_min_edit(F, x, 2, layer=LAYER, growth=0.1, **OPTIONS)
        return free, held, [taps.read(F, found.x, LAYER) - taps.read(F, x, LAYER) for found in (free, held)]

    free, held, moved = both(X)
    off = [np.linalg.norm(change) for change in moved]
    assert bool(free.valid) and bool(held.valid) and off[1] < off[0]


@pytest.mark.parametrize(
    ("method", "own"),
    [(piece, {"features": FEATURES}), pytest.param(min_edit, {}, marks=pytest.mark.slow), (constrained_min_edit, {"layer": LAYER})],
)
def test_batched_equals_one_at_a_time(method, own):
    options = {**OPTIONS, **own, "steps": 25, "optimizer": optax.sgd}
    x, targets = EXAMPLES[[0, 100]], np.asarray([[1, 2], [0, 1]])
    found = run(method.search(**options), F, x, targets, batch_size=2, block=9)
    each_alone(found, lambda v, t: method(F, v, t, **options), x, targets)
    short = jax.jit(lambda x: method(F, x, 1, **{**options, "steps": 1, "learning_rate": 1e-6}))(X)
    assert not bool(short.valid) and int(short.steps) == 1


def test_bad_input_is_named():
    for method, options, message in [
        (piece, {"features": FEATURES, "alpha": 2.0}, "alpha=2.0"),
        (piece, {"features": dataclasses.replace(FEATURES, mean=np.zeros((3, 4)))}, "features are of 4 values"),
        (constrained_min_edit, {"layer": 99}, "99"),
        (constrained_min_edit, {"layer": LAYER, "growth": 0.0}, "growth=0.0"),
        (min_edit, {"generator": F}, "must have a method encode"),
        (min_edit, {"steps": 0}, "steps=0"),
    ]:
        with pytest.raises(ValueError, match=message):
            method(F, X, 1, **{"generator": G, "clip": None, **options})
    with pytest.raises(ValueError, match="labels has no example of 2"):
        class_features(F, EXAMPLES[:80], LABELS[:80], 3, LAYER)
    with pytest.raises(ValueError, match="labels must be integers"):
        class_features(F, EXAMPLES, LABELS[:80], 3, LAYER)
