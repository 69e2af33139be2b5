"""Pictures of removals show the scores that they are given, and refuse what does not belong together."""

import numpy as np
import pytest

from jxai import plot

X = np.random.default_rng(0).uniform(size=(4, 5, 3)).astype(np.float32)
SHOWN = np.stack([0.5 * X, 0 * X])
SCORES = np.asarray([[0.7, 0.2], [0.1, 0.6], [-0.3, 0.0]])


def test_removals_draw_each_picture_above_its_scores():
    figure = plot.removals(X, SHOWN, SCORES, ["cup", "cat"], titles=["x", "without a", "without b"], score="logit")
    pictures, bars = figure.axes[:3], figure.axes[3:]
    assert [axis.get_title() for axis in pictures] == ["x", "without a", "without b"]
    for axis, picture in zip(pictures, (X, *SHOWN)):
        assert np.allclose(np.asarray(axis.images[0].get_array(), float)[..., :3], picture, atol=1e-2)
    for axis, scores in zip(bars, SCORES):
        assert np.allclose([bar.get_width() for bar in axis.patches], scores)
        low, high = axis.get_xlim()
        assert low <= SCORES.min() and high >= SCORES.max()
    assert [label.get_text() for label in bars[0].get_yticklabels()] == ["cup", "cat"] and bars[0].get_xlabel() == "logit"


def test_confidence_runs_from_all_features_to_none():
    (axis,) = plot.confidence({"a": [0.9, 0.95, 0.1], "b": [0.9, 0.2]}, 0.5, title="cup").axes
    first, second, threshold = axis.lines
    assert np.allclose(first.get_xdata(), [100, 50, 0]) and np.allclose(first.get_ydata(), [0.9, 0.95, 0.1])
    assert np.allclose(second.get_xdata(), [100, 0]) and np.allclose(threshold.get_ydata(), 0.5) and axis.get_title() == "cup"
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["a", "b"]


def test_what_does_not_belong_together_is_an_error():
    with pytest.raises(ValueError, match=r"shown must be \[n, H, W, C\]"):
        plot.removals(X, SHOWN[:, :3], SCORES, ["cup", "cat"])
    with pytest.raises(ValueError, match=r"scores must be \(3, 2\), got \(2, 2\)"):
        plot.removals(X, SHOWN, SCORES[:2], ["cup", "cat"])
