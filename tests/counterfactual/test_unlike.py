"""The nearest unlike neighbour, and the first point on the way to it that is of its class."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from jxai.counterfactual import run
from jxai.counterfactual.unlike import native_guide, nearest_unlike

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
EXAMPLES = RNG.uniform(size=(70, 4, 3, 1)).astype(np.float32)
LABELS = RNG.integers(0, 3, 70)
REGION = np.arange(12).reshape(4, 3) % 3 > 0


def linear(seed=0):
    rng = np.random.default_rng(seed)
    return Partial(_linear, rng.normal(size=(3, 12)).astype(np.float32))


def _linear(w, x):
    return w @ (x.ravel() - 0.5)


def predicted_by(f, x):
    return ((x.reshape(len(x), 12) - 0.5) @ f.args[0].T).argmax(1)


@functools.cache
def neighbours(distance):
    return jax.jit(jax.vmap(lambda v, labels, target: nearest_unlike(v, EXAMPLES, labels, target, distance), (0, None, 0)))


@pytest.mark.parametrize("distance, p", [("l1", 1), ("l2", 2)])
def test_the_neighbour_is_that_of_a_table_of_distances(distance, p):
    x = RNG.uniform(size=(5, 4, 3, 1)).astype(np.float32)
    far = np.linalg.norm((x[:, None] - EXAMPLES).reshape(5, 70, 12), p, 2)
    for target in range(3):
        truth = EXAMPLES[np.where(LABELS == target, far, np.inf).argmin(1)]
        found = neighbours(distance)(x, LABELS, np.full(5, target))
        np.testing.assert_array_equal(found, truth)


def test_without_an_example_of_the_class_there_is_none():
    with pytest.raises(ValueError, match="no example is of the class target=7"):
        nearest_unlike(jnp.asarray(EXAMPLES[0]), EXAMPLES, LABELS, 7)
    assert np.isnan(neighbours("l2")(EXAMPLES[:5], LABELS, np.full(5, 7))).all()
    found = run(native_guide.search(examples=EXAMPLES, labels=np.zeros(70, int)), linear(), EXAMPLES[:3], np.full(3, 2))
    same = predicted_by(linear(), EXAMPLES[:3]) == 2
    np.testing.assert_array_equal(found.valid, same)
    np.testing.assert_array_equal(found.x, EXAMPLES[:3])


@pytest.mark.parametrize("region", [None, REGION], ids=["everywhere", "region"])
def test_the_boundary_of_a_linear_model_is_found_on_the_way(region):
    f = linear()
    predicted = predicted_by(f, EXAMPLES)
    x, target = EXAMPLES[:6], (predicted[:6] + 1) % 3
    search = native_guide.search(examples=EXAMPLES, labels=predicted, halvings=16, region=region)
    found = run(search, f, x, target, batch_size=1)
    w, checked = np.asarray(f.args[0], float), 0
    guides = np.asarray(jax.jit(jax.vmap(lambda v, t: nearest_unlike(v, EXAMPLES, predicted, t)))(x, target), float)
    for i in range(6):
        way = ((guides[i] - x[i]) * (1 if region is None else region[..., None])).ravel()
        # Where the margins to both other classes, linear in t, are no longer negative.
        start, slope = w @ (x[i].ravel() - 0.5), w @ way
        others = [k for k in range(3) if k != target[i]]
        at = [(start[k] - start[target[i]]) / (slope[target[i]] - slope[k]) for k in others if start[k] > start[target[i]]]
        ends = start + slope
        if not found.valid[i]:
            assert region is not None and ends.argmax() != target[i]
        elif ends.argmax() == target[i]:
            checked += 1
            np.testing.assert_allclose(found.latent[i], max(at), atol=2e-5)
            np.testing.assert_allclose(found.x[i].ravel(), x[i].ravel() + found.latent[i] * way, atol=1e-5)
        if region is not None:
            np.testing.assert_array_equal(found.x[i][~region], x[i][~region])
    assert checked >= 2 and (found.steps <= 32).all()


def test_the_first_of_several_crossings_is_the_one():
    # Along the line the class is 1 in [0.3, 0.5] and in [0.8, 1].
    f = Partial(lambda x: jnp.stack([jnp.zeros(()), jnp.where((abs(x[0] - 0.4) <= 0.1) | (x[0] >= 0.8), 1.0, -1.0)]))
    guide = dict(examples=np.ones((1, 1), np.float32), labels=np.ones(1, int), halvings=20)
    found = jax.jit(lambda x: native_guide(f, x, 1, **guide))(np.zeros(1, np.float32))
    np.testing.assert_allclose(found.x, 0.3, atol=1e-5)


def test_batches_and_transformations_agree():
    f = linear()
    x, target = EXAMPLES[:4].astype(np.float16), np.asarray([0, 1, 2, 0])
    options = dict(examples=EXAMPLES, labels=LABELS, threshold=0.4)
    found = run(native_guide.search(**options), f, x, target)
    alone = jax.jit(jax.vmap(lambda x, t: native_guide(f, x, t, **options)))(x, target)
    assert found.x.dtype == np.float16
    np.testing.assert_array_equal(alone.x, found.x)
    np.testing.assert_array_equal(alone.steps, found.steps)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(examples=EXAMPLES[0]), r"examples must be \[n, \*\(4, 3, 1\)\], got shape \(4, 3, 1\)"),
        (dict(examples=EXAMPLES[:0], labels=LABELS[:0]), "examples must be"),
        (dict(labels=LABELS[:5]), r"labels must be integers \[70\] in .*, got int64 of shape \(5,\)"),
        (dict(labels=LABELS.astype(float)), r"labels must be integers \[70\] in .*, got float64"),
        (dict(distance="l3"), "distance='l3' must be one of"),
        (dict(threshold=1.0), "threshold=1.0 must lie in"),
        (dict(num_points=0), "num_points=0 must be a positive integer"),
        (dict(halvings=0), "halvings=0 must be a positive integer"),
        (dict(region=np.zeros((4, 3), bool)), "region freezes every entry"),
        (dict(target=None), "target=None must be a class"),
    ],
)
def test_bad_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        native_guide(**{**dict(f=linear(), x=jnp.asarray(EXAMPLES[0]), target=1, examples=EXAMPLES, labels=LABELS), **options})
