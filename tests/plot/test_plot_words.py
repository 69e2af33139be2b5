"""Words on grounds of their colours: each in its line, each method on its own scale."""

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from jxai import plot
from jxai.plot.blending import NOT_FINITE, colors

WORDS = ("no", "one", "would", "miss", "so", "wonderful", "a", "film", "$5", "!")


def grounds(figure):
    return [patch for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]


def test_words_have_the_colours_of_their_values():
    values = np.linspace(-1, 1, 10)
    figure = plot.words(WORDS, {"lrp": values, "rise": np.arange(10.0)}, title="a title")
    found = grounds(figure)
    assert len(found) == 20
    np.testing.assert_allclose([p.get_facecolor()[:3] for p in found[:10]], colors(values, True), atol=1e-6)
    np.testing.assert_allclose([p.get_facecolor()[:3] for p in found[10:]], colors(np.linspace(0, 1, 10), False), atol=1e-6)
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts[:2] == ["a title", "LRP"] and tuple(texts[2:12]) == WORDS and texts[12] == "RISE"
    assert len(figure.axes) == 3  # a bar for each of the colour maps


def test_long_texts_flow_in_lines_and_nothing_covers_anything():
    figure = plot.words(WORDS * 6, {"gradient": np.arange(60.0)}, width=5.0)
    boxes = [(*p.get_xy(), p.get_width(), p.get_height()) for p in grounds(figure)]
    assert len({round(y, 6) for _, y, _, _ in boxes}) > 3 and max(x + w for x, _, w, _ in boxes) <= 5.0
    for n, (x, y, w, h) in enumerate(boxes):
        assert not [b for b in boxes[n + 1 :] if x < b[0] + b[2] and b[0] < x + w and y < b[1] + b[3] and b[1] < y + h]
    assert plot.words(["a"], {"mine": [np.nan]}).axes[0].patches[0].get_facecolor()[:3] == NOT_FINITE


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"values must be 10 numbers for each method, one a word, got shapes \{'lrp': \(3,\)\}"):
        plot.words(WORDS, {"lrp": np.zeros(3)})
    with pytest.raises(ValueError, match="at least one word and one method, got 10 and 0"):
        plot.words(WORDS, {})
