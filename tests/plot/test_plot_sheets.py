"""Contact sheets: every image in its place, with its caption and frame."""

import numpy as np
import pytest

from jxai import plot

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (15, 4, 5, 3), np.uint8)


def test_every_image_is_in_its_place():
    tiles = [(image, f"{n}\nwhat it is of", n == 13) for n, image in enumerate(IMAGES)]
    figure = plot.sheet({"first": tiles, "second": [(np.float32(IMAGES[0]) / 255, "again", False)]}, "title")
    shown = [axes for axes in figure.axes if axes.images]
    assert [axes.get_subplotspec().rowspan.start * 12 + axes.get_subplotspec().colspan.start for axes in shown] == [*range(15), 24]
    for axes, image in zip(shown, (*IMAGES, IMAGES[0])):
        np.testing.assert_allclose(axes.images[0].get_array(), image / 255, atol=1e-6)
    assert [axes.get_xlabel() for axes in shown][14:] == ["14\nwhat it is of", "again"]
    framed = [axes.spines["left"].get_visible() for axes in shown]
    assert framed.index(True) == 13 and sum(framed) == 1
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["first", "second"] and figure.get_suptitle() == "title"
    assert sum(axes.axison for axes in figure.axes) == 16


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "rows must hold at least one image"),
        ({"a": []}, "at least one image"),
        ({"a": [(np.zeros((4, 4)), "six", False)]}, r"that of 'six' has shape \(4, 4\)"),
    ],
)
def test_what_is_wrong_is_said(rows, message):
    with pytest.raises(ValueError, match=message):
        plot.sheet(rows)
