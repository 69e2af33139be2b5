"""DiVE: explanations that stay in their masks, reach the target and keep apart; Fisher masks that find the blocks of a model."""

import jax
import numpy as np
import pytest
import scipy.special
from latent_toys import Linear, Weighted, each_alone, linear_generator, linear_model

from jxai.counterfactual import run
from jxai.counterfactual.dive import alike, dive, fisher_information, fisher_masks

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(4)
G = linear_generator(6)
F = linear_model(3, 6, scale=2.0)
W, BIAS, BASIS = np.asarray(F.weights), np.asarray(F.bias), np.asarray(G.basis)
X = RNG.uniform(0.3, 0.7, 6).astype(np.float32)


def said(x):
    """F in NumPy."""
    return np.asarray(x) @ W.T + BIAS


TARGET = int(np.argsort(said(X))[1])
KEY = jax.random.key(7)
HALVES = np.asarray([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]], bool)
OPTIONS = dict(generator=G, clip=None, steps=150, learning_rate=0.05)


def compiled(x, target, key, **options):
    """The method, compiled whole."""
    return jax.tree.map(np.asarray, jax.jit(lambda x, t, k: dive(F, x, t, k, **options))(x, target, key))


def test_the_fisher_information_is_that_of_a_softmax():
    examples = RNG.normal(size=(5, 6)).astype(np.float32)
    slopes = W.astype(np.float64) @ BASIS
    expected = np.zeros((6, 6))
    for x in examples:
        p = scipy.special.softmax(said(x).astype(np.float64))
        expected += slopes.T @ (np.diag(p) - np.outer(p, p)) @ slopes / 5
    assert np.allclose(fisher_information(F, G, examples), expected, atol=1e-4)


def blocks():
    """Two independent pairs of logits, one of the codes 0, 2 and 4, one of the others, at examples where all are level."""
    rng = np.random.default_rng(5)
    u, v = np.zeros(6), np.zeros(6)
    u[::2], v[1::2] = rng.uniform(1, 2, 3), rng.uniform(1, 2, 3)
    return Weighted(np.float32([u, -u, v, -v]), np.zeros(4, np.float32)), Linear(np.eye(6, dtype=np.float32), np.zeros(6, np.float32))


LEVEL = np.zeros((3, 6), np.float32)


def test_spectral_masks_are_the_blocks_of_the_model():
    f, g = blocks()
    masks = fisher_masks(f, g, LEVEL, 2, KEY)
    assert sorted(map(tuple, masks.tolist())) == sorted([tuple(i % 2 == 0 for i in range(6)), tuple(i % 2 == 1 for i in range(6))])
    assert np.array_equal(fisher_masks(f, g, LEVEL, 2, KEY, inverse=True), ~masks)


def test_other_masks_are_partitions():
    f, g = blocks()
    information = np.diag(fisher_information(f, g, LEVEL))
    chunks = fisher_masks(f, g, LEVEL, 3, kind="chunks")
    assert (chunks.sum(0) == 1).all() and (chunks.sum(1) == 2).all()
    assert set(np.flatnonzero(chunks[0])) == set(np.argsort(-information)[:2])
    drawn = fisher_masks(f, g, LEVEL, 3, KEY, kind="random")
    assert (drawn.sum(0) == 1).all() and not np.array_equal(drawn, fisher_masks(f, g, LEVEL, 3, jax.random.key(8), kind="random"))


def test_explanations_reach_the_target_within_their_masks():
    found = compiled(X, TARGET, KEY, masks=HALVES, reconstruction=0.1, **OPTIONS)
    assert found.x.shape == (2, 6) and found.valid.shape == (2,) and found.valid.all()
    assert np.array_equal(found.latent[~HALVES], np.broadcast_to(jax.jit(G.encode)(X), (2, 6))[~HALVES])
    assert np.allclose(found.logits, said(found.x), atol=1e-4) and (scipy.special.softmax(found.logits, 1)[:, TARGET] >= 0.5).all()
    assert np.allclose(found.x, found.latent @ BASIS.T + 0.5, atol=1e-5) and found.steps < 150


def test_likeness_has_its_closed_form():
    steps = RNG.normal(size=(4, 2, 3)).astype(np.float32)
    flat = steps.reshape(4, 6)
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    likeness = jax.jit(jax.value_and_grad(alike))
    assert np.allclose(likeness(steps)[0], ((unit @ unit.T) ** 2).sum() - 4, atol=1e-5)
    none, slope = likeness(np.zeros((4, 2, 3), np.float32))
    assert none == 0 and np.isfinite(slope).all()


def test_diversity_turns_explanations_away_from_one_another_and_a_price_makes_them_small():
    free = dict(num_counterfactuals=3, share=1.0, **{**OPTIONS, "steps": 60})

    @jax.jit
    def moved(prices):
        return dive(F, X, TARGET, KEY, **free, **prices).latent - G.encode(X)

    def steps(**prices):
        """The ways of three explanations; prices are data."""
        all_of = {"threshold": 0.9, "sparsity": 0.0, "reconstruction": 0.0, "diversity": 0.0, **prices}
        return np.asarray(moved({name: np.float32(value) for name, value in all_of.items()}))

    apart = {d: float(jax.jit(alike)(steps(diversity=d))) for d in (0.0, 100.0)}
    assert apart[100.0] < 0.5 * apart[0.0] and apart[0.0] > 3
    # Where the target is out of reach all steps are made, and the prices tell.
    none, sparse, near = (np.abs(steps(threshold=1.0, **price)).sum() for price in ({}, {"sparsity": 200.0}, {"reconstruction": 200.0}))
    assert sparse < 0.5 * none and near < 0.5 * none


def test_batched_equals_one_at_a_time_and_unreached_says_so():
    options = {**OPTIONS, "masks": HALVES, "steps": 30}
    x = RNG.uniform(0.3, 0.7, (4, 6)).astype(np.float32)
    targets = said(x).argmin(1)
    found = run(dive.search(**options), F, x, targets, KEY, batch_size=2, block=8)
    each_alone(found, lambda v, t, i: dive(F, v, t, jax.random.fold_in(KEY, i), **options), x, targets, np.arange(4))
    short = compiled(x[0], np.int32(targets[0]), KEY, masks=HALVES, **{**OPTIONS, "steps": 1})
    assert not short.valid.any() and short.steps == 1 and np.isfinite(short.x).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": np.zeros((2, 6), bool)}, r"masks\[0\] is empty"),
        ({"masks": np.ones((2, 5), bool)}, "masks must have shape"),
        ({"threshold": 2.0}, "threshold=2.0"),
        ({"share": 2.0}, "share=2.0"),
        ({"sparsity": -1.0}, "sparsity=-1.0"),
        ({"diversity": -1.0}, "diversity=-1.0"),
        ({"reconstruction": -1.0}, "reconstruction=-1.0"),
        ({"sigma": 0.0}, "sigma=0.0"),
        ({"num_counterfactuals": 0}, "num_counterfactuals=0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        dive(F, X, TARGET, KEY, generator=G, **options)


def test_bad_masks_and_a_missing_key_are_named():
    with pytest.raises(ValueError, match="key=None"):
        dive(F, X, TARGET, generator=G)
    for options, message in [
        ({"kind": "other"}, "kind='other'"),
        ({"num_masks": 7}, "num_masks=7 must not exceed the 6"),
        ({"num_masks": 0}, "num_masks=0"),
        ({}, "key=None"),
        ({"kind": "random"}, "key=None"),
    ]:
        with pytest.raises(ValueError, match=message):
            fisher_masks(F, G, X[None], **{"num_masks": 2, **options})
