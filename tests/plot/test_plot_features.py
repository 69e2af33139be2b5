"""Pictures of features, more or less opaque, and channels laid out in a plane."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from jxai import concepts, plot

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(5, 6, 7, 3)).astype(np.float32)
PLACE = np.concatenate([RNG.normal(size=(20, 2)), [[np.nan, np.nan]]])


def test_pictures_are_drawn_in_rows_and_fade_where_nothing_was_asked_for():
    transparency = np.zeros((5, 6, 7, 3))
    transparency[:, :3] = 2.0
    figure = plot.visualizations(list(IMAGES), [f"channel {n}" for n in range(5)], transparency=transparency, columns=3)
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == [f"channel {n}" for n in range(5)] and len(figure.axes) == 6
    drawn = np.asarray(panels[4].images[0].get_array())
    np.testing.assert_allclose(drawn[:3], IMAGES[4, :3], atol=1e-6)
    np.testing.assert_array_equal(drawn[3:], np.ones((3, 7, 3)))
    found = concepts.Visualization(IMAGES[0], np.ones((6, 7, 3)), np.float32(1), np.ones(3))
    one = plot.visualizations(found)
    np.testing.assert_allclose(np.asarray(one.axes[0].images[0].get_array()), IMAGES[0], atol=1e-6)
    several = jax.tree.map(lambda *v: np.stack(v), found, found)
    assert len(plot.visualizations(several).axes) == 2


def test_channels_are_points_in_the_colours_of_their_groups(tmp_path):
    groups = np.asarray([3] * 12 + [1] * 6 + [0] * 3)
    figure = plot.atlas(PLACE, groups=groups, names=["a", "b", "c", "d"], shown=[0, 5], pictures=IMAGES[:2], labels=["0", "5"])
    plot.save(figure, tmp_path / "atlas.png")
    points = {c.get_label(): np.asarray(c.get_offsets()) for c in figure.axes[0].collections}
    np.testing.assert_array_equal(points["d"], PLACE[:12])
    np.testing.assert_array_equal(points["a"], PLACE[18:20])  # that without a place is left out
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["d", "b", "a"]
    plain = plot.atlas(PLACE)
    assert len(np.asarray(plain.axes[0].collections[0].get_offsets())) == 20 and not plain.legends


WRONG = {
    "one at least": lambda: plot.visualizations([]),
    "names must be of 5 images, got 1": lambda: plot.visualizations(IMAGES, ["a"]),
    r"transparency has shape \(5, 3, 7, 1\)": lambda: plot.visualizations(IMAGES, transparency=np.ones((5, 3, 7, 1))),
    "percentile=0.0 must": lambda: plot.visualizations(IMAGES, percentile=0.0),
    r"place must be \[C, 2\]": lambda: plot.atlas(PLACE[:, :1]),
    r"groups must be \[21\]": lambda: plot.atlas(PLACE, groups=[1]),
    r"shown=\[20, 21\] have no place": lambda: plot.atlas(PLACE, shown=[1, 20, 21]),
    "labels must be of the 1 channels": lambda: plot.atlas(PLACE, shown=[1], labels=[]),
}


@pytest.mark.parametrize("said", WRONG)
def test_what_does_not_fit_is_said(said):
    with pytest.raises(ValueError, match=said):
        WRONG[said]()
