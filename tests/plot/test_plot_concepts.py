"""Figures of concepts: what was seen keeps its colours, and what does not fit is said."""

import numpy as np
import pytest

from jxai import plot

RANDOM = np.random.default_rng(0)
X = RANDOM.uniform(size=(12, 10, 3))
MAPS = RANDOM.normal(size=(2, 12, 10, 3))


def crop(size):
    return RANDOM.uniform(size=(*size, 3)), RANDOM.normal(size=(*size, 3))


def test_a_row_for_each_channel_and_a_panel_for_each_reference():
    figure = plot.concepts(X, MAPS, [[crop((4, 4)), crop((6, 5))], [crop((3, 3))]], ["channel 7", "channel 1"], [["a", "b $x"], ["c"]], title="why")
    panels = [axes for axes in figure.axes if axes.axison]
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 1, 1, 0] and len(panels) == 5
    assert [axes.get_xlabel() for axes in panels] == ["", "a", "b $x", "", "c"] and [axes.get_ylabel() for axes in panels[::3]] == ["channel 7", "channel 1"]
    figure.canvas.draw()


def test_what_was_seen_keeps_its_colours():
    picture, seen = np.zeros((20, 20, 3)), np.zeros((20, 20, 1))
    picture[..., 0] = 1.0
    seen[5:9, 5:9] = -2.0
    shown = plot.spotlight(picture, seen)
    colour = shown[..., 0] - shown[..., 1]
    assert colour[6, 6] > 0.95 and colour[18, 18] < 0.3 and (shown >= 0).all() and (shown <= 1).all()
    assert np.isfinite(plot.spotlight(picture, np.full((20, 20, 1), np.nan))).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"maps": MAPS[:, :5]}, r"x must be \[H, W, C\] and maps \[T, 12, 10, C\]"),
        ({"maps": MAPS[:0]}, r"maps \[T, 12, 10, C\]"),
        ({"crops": [[]]}, "must be of 2 channels, got 1, 2 and"),
        ({"names": ["a"]}, "must be of 2 channels, got 2, 1 and"),
        ({"captions": [["a"], []]}, "must be of 2 channels"),
    ],
)
def test_what_does_not_fit_is_said(change, message):
    with pytest.raises(ValueError, match=message):
        plot.concepts(**{"x": X, "maps": MAPS, "crops": [[], []], **change})
