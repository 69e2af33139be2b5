"""Figures of evaluations: what is drawn is what was given."""

import numpy as np
import pytest

from jxai import plot
from jxai.plot.evaluation import joined


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_curves_are_means_with_bands():
    y = np.asarray([[0.0, 1.0, 2.0], [2.0, 3.0, 4.0]])
    axes = plot.curves({"a": (np.arange(3), y), "b": (np.arange(3), y[:1])}, "title").axes[0]
    assert np.array_equal(axes.lines[0].get_ydata(), [1, 2, 3]) and axes.get_title() == "title"
    low = axes.collections[0].get_paths()[0].vertices[:, 1].min()
    assert low == pytest.approx(1 - 1.96 * np.sqrt(2) / np.sqrt(2))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    with pytest.raises(ValueError, match="at least one curve"):
        plot.curves({})


def test_heatmap_writes_the_values_and_marks_the_best():
    values = np.asarray([[0.1, 0.3, np.nan], [5.0, 4.0, 6.0], [1.0, 2.0, 3.0]])
    figure = plot.heatmap(values, ["up", "down", "neither"], ["a", "b", "c"], [1, -1, 0])
    assert texts(figure) == ["0.1", "0.3", "5", "4", "6", "1", "2", "3"]
    bold = [text.get_text() for text in figure.axes[0].texts if text.get_weight() == "bold"]
    assert bold == ["0.3", "4"]
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["up ↑", "down ↓", "neither"]
    with pytest.raises(ValueError, match=r"values must have shape \(1, 3\)"):
        plot.heatmap(values, ["up"], ["a", "b", "c"])


def test_critical_difference_shows_ranks_and_joins_what_is_not_told_apart():
    ranks = {"late": 3.5, "first": 1.2, "second": 1.9, "third": 2.6}
    figure = plot.critical_difference(ranks, 0.8, "title")
    assert {"first 1.20 ", "second 1.90 ", " 2.60 third", " 3.50 late", "critical difference 0.80"} <= set(texts(figure))
    bars = [line.get_xdata() for line in figure.axes[0].lines if line.get_color() == "C3"]
    assert [tuple(np.round(bar, 2)) for bar in bars] == [(1.17, 1.93), (1.87, 2.63)]
    with pytest.raises(ValueError, match="at least two methods"):
        plot.critical_difference({"a": 1.0}, 1.0)


@pytest.mark.parametrize(
    ("values", "difference", "groups"),
    [([1, 2, 3], 0.5, []), ([1, 2, 3], 5, [(0, 2)]), ([1, 1.4, 1.8, 3], 0.5, [(0, 1), (1, 2)]), ([1, 2, 3], 1.0, []), ([2, 2, 2], 0.1, [(0, 2)])],
)
def test_groups_are_the_longest_runs_within_the_difference(values, difference, groups):
    assert joined(np.asarray(values, float), difference) == groups
