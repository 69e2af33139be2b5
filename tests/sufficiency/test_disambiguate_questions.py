"""What is asked of two labels: segments from scikit-image or from masks, and questions that are refused."""

import jax
import numpy as np
import pytest
from drawn import drawn
from jax.tree_util import Partial

from jxai import segments
from jxai.models import CNN
from jxai.sufficiency import disambiguate, disambiguate_exactly, disambiguate_pairs

pytestmark = pytest.mark.usefixtures("quick_compilation")

RNG = np.random.default_rng(0)
X = np.ones(6, np.float32)
WEIGHTS = np.float32([[3, 0, 3], [2, 0, 2], [1, 0, 1], [0, 3, 0], [0, 2, 0], [0, 1, 0]])
LINEAR = Partial(lambda w, x: x @ w, WEIGHTS)
MODEL = drawn(lambda rngs: CNN(3, (6,), 4, rngs=rngs))
OPTIONS = {"segments": np.arange(6), "score": "logit"}
IMAGE = RNG.uniform(size=(6, 6, 3)).astype(np.float32)


def maps(labels):
    return np.stack([WEIGHTS[:, label] for label in labels])


@pytest.mark.parametrize("given", [{}, pytest.param({"segments": segments.Segmentation("slic", (4,))}, marks=pytest.mark.slow)])
def test_segments_by_scikit_image(given):
    x = np.kron(RNG.uniform(size=(2, 2, 3)), np.ones((8, 8, 1))).astype(np.float32)
    found = disambiguate(MODEL, x, (0, 1), attribution=RNG.normal(size=(2, 16, 16, 1)).astype(np.float32), score="probability", **given).disjoint
    labels = given.get("segments", segments.Segmentation("slic", (20,)))(x)
    assert np.array_equal(found.segments, labels) and found.removed.shape[1] == labels.max() + 1


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(labels=(1, 1)), "two different classes"),
        (dict(labels=(0, 3)), r"labels=\[0, 3\] must be classes from 0 to 2"),
        (dict(labels=(-1, 2)), r"labels=\[-1, 2\] must be classes from 0 to 2"),
        (dict(labels=(0, 1, 2)), "two integer classes"),
        (dict(labels=(0.5, 1)), "two integer classes"),
        (dict(segments=np.arange(5)), "segments must be integers of shape"),
        (dict(segments=np.arange(6) - 1), "must not be negative"),
        (dict(num_segments=4), "cover all positions"),
        (dict(delta=0.0), "delta=0.0"),
        (dict(delta=1.0), "delta=1.0"),
        (dict(max_area=0.0), "max_area=0.0"),
        (dict(score="odds"), "score='odds'"),
        (dict(chunk=0), "chunk"),
        (dict(fill=np.zeros(4)), "fill has shape"),
        (dict(x=np.arange(6)), "floating-point"),
        (dict(f=lambda x: x[:1]), "two classes"),
    ],
)
def test_bad_input(change, message):
    given = {"f": LINEAR, "x": X, "labels": (0, 1), **OPTIONS, **change}
    f, x, labels = (given.pop(name) for name in ("f", "x", "labels"))
    for search in (lambda *a, **o: disambiguate(*a, attribution=maps((0, 1)), **o), disambiguate_exactly):
        with pytest.raises(ValueError, match=message):
            search(f, x, labels, **given)


def test_more_bad_input():
    with pytest.raises(ValueError, match="two maps"):
        disambiguate(LINEAR, X, (0, 1), attribution=maps((0, 1, 2)), **OPTIONS)
    with pytest.raises(ValueError, match="attribution must have shape"):
        disambiguate(LINEAR, X, (0, 1), attribution=np.zeros((2, 5)), **OPTIONS)
    with pytest.raises(ValueError, match="15 labels"):
        disambiguate_exactly(Partial(lambda x: x[:3]), np.ones(15, np.float32), (0, 1), segments=np.arange(15))
    with pytest.raises(ValueError, match="concrete x"):
        jax.jit(lambda x: disambiguate(MODEL, x, (0, 1)))(IMAGE)


@pytest.mark.parametrize(
    ("change", "message"), [({"fill": np.zeros(5)}, "fill"), ({"chunk": 0}, "chunk=0"), ({"delta": 1.5}, "delta=1.5"), ({"score": "p"}, "score='p'")]
)
def test_pairs_are_refused_before_anything_is_attributed(change, message):
    def never(f, x, target, key=None):
        raise AssertionError("attributed")

    with pytest.raises(ValueError, match=message):
        disambiguate_pairs(LINEAR, X, [(0, 1)], attribution=never, **{**OPTIONS, **change})


def test_masks_that_overlap_become_a_partition():
    masks = np.zeros((2, 3, 4), bool)
    masks[0, :2, :2] = masks[1, 1:, 1:3] = True
    labels = segments.from_masks(masks)
    # In the first only, in neither, in both, in the second only: numbered as they come.
    assert labels.tolist() == [[0, 0, 1, 1], [0, 2, 3, 1], [1, 3, 3, 1]] and labels.dtype == np.int32
    assert segments.from_masks(np.ones((1, 5), bool)).tolist() == [0] * 5
    for bad in (masks.astype(int), masks[0, 0], np.zeros((0, 3, 4), bool)):
        with pytest.raises(ValueError, match="masks must be booleans"):
            segments.from_masks(bad)
