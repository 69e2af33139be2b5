"""Reliability diagrams show the bins that were found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from jxai import plot
from jxai.uncertainty import calibration

pytest.importorskip("matplotlib")
RNG = np.random.default_rng(0)
P, LABELS = softmax(3 * RNG.normal(size=(400, 3)), axis=1).astype(np.float32), RNG.integers(0, 3, 400)


def drawn(figure):
    """Of each line in the upper axes but the diagonal, its x and y."""
    return [np.asarray(container.lines[0].get_data()) for container in figure.axes[0].containers]


def test_a_diagram_shows_every_bin_with_examples():
    found = calibration.reliability(P, LABELS)
    some = np.asarray(found.count) > 0
    figure = plot.reliability(found, title="three")
    np.testing.assert_allclose(drawn(figure)[0], [found.confidence[some], found.accuracy[some]], rtol=1e-6)
    shares = figure.axes[1].lines[0].get_ydata()
    np.testing.assert_allclose(shares, found.count[some] / 400, rtol=1e-6)
    assert figure.axes[0].get_title() == "three" and len(figure._repr_png_()) > 1000


def test_several_models_and_every_class_have_a_line_each():
    one, classes = calibration.reliability(P, LABELS), calibration.reliability(P, LABELS, kind="classwise")
    assert len(drawn(plot.reliability({"a": one, "b": one}))) == 2
    figure = plot.reliability({"net": classes})
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["net 0", "net 1", "net 2"]


@pytest.mark.parametrize("found", [{}, 3.0, {"a": P}])
def test_what_is_no_diagram_is_refused(found):
    with pytest.raises(ValueError, match="found must"):
        plot.reliability(found)
