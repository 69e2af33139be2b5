"""The atlas of channels: similar ones lie together, and each is ranked with the classes that it serves."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jxai import concepts

pytest.importorskip("sklearn")

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)
GROUP = np.repeat(np.arange(3), 10)
MEANS = np.eye(3)[GROUP] @ RNG.normal(size=(3, 6)) * RNG.uniform(0.5, 5, size=(30, 1)) + 0.02 * RNG.normal(size=(30, 6))
"""Three groups of channels: of one direction, of any length."""


def test_channels_of_one_direction_lie_together_whatever_their_length():
    found = concepts.atlas(MEANS, KEY)
    unit = MEANS / np.linalg.norm(MEANS, axis=1, keepdims=True)
    np.testing.assert_allclose(found.similarity, unit @ unit.T, atol=1e-6)
    distance = np.linalg.norm(found.place[:, None] - found.place, axis=-1) + 1e9 * np.eye(30)
    assert (GROUP[distance.argmin(1)] == GROUP).all() and (GROUP[np.argsort(distance, 1)[:, :5]] == GROUP[:, None]).mean() > 0.95


def test_classes_without_examples_and_channels_that_serve_none():
    means = np.concatenate([MEANS, np.zeros((1, 6))])
    means = np.concatenate([means[:, :2], np.full((31, 1), np.nan), means[:, 2:]], 1)
    found = concepts.atlas(means, KEY)
    np.testing.assert_array_equal(found.place[:30], concepts.atlas(MEANS, KEY).place)
    assert np.isnan(found.place[30]).all() and (found.similarity[30] == 0).all()
    ranked = concepts.class_ranking(means, count=8)
    order = np.argsort(-MEANS, 1)
    np.testing.assert_array_equal(ranked.classes[:30, :6], order + (order >= 2))  # the third is not there
    np.testing.assert_allclose(ranked.value[:30, :6], -np.sort(-MEANS, 1), rtol=1e-6)
    assert (ranked.classes[:, 6:] == -1).all() and np.isnan(ranked.value[:, 6:]).all()


WRONG = {
    "draws random numbers": lambda: concepts.atlas(MEANS),
    "layout='mds' must be one of": lambda: concepts.atlas(MEANS, KEY, layout="mds"),
    r"means must be real \[C, K\]": lambda: concepts.atlas(MEANS[0], KEY),
    "all are NaN": lambda: concepts.class_ranking(np.full((3, 2), np.nan)),
    "got nan for channel 1 and class 2": lambda: concepts.class_ranking(np.where((np.arange(30)[:, None] == 1) & (np.arange(6) == 2), np.nan, MEANS)),
    "3 channels at least that serve a class, got 2 of 2": lambda: concepts.atlas(MEANS[:2], KEY),
    "count=0 must be": lambda: concepts.class_ranking(MEANS, 0),
    "made on the host": lambda: jax.jit(lambda m: concepts.class_ranking(m).value)(MEANS),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_is_wrong_is_said(said):
    with pytest.raises(ValueError, match=said):
        WRONG[said]()
