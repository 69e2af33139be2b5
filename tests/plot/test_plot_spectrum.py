"""The figure of clusters: what is drawn is what was given."""

import jax
import numpy as np
import pytest

from jxai import plot
from jxai.dataset import spray


@pytest.fixture(scope="module")
def found():
    x = np.random.default_rng(0).normal(size=(24, 5, 5, 1))
    x[:8] += 9
    return spray(x, key=jax.random.key(0))


def test_eigenvalues_layout_and_a_row_for_each_cluster(found):
    image, signed = np.full((5, 5, 3), 0.5), np.linspace(-1, 1, 25).reshape(5, 5, 1)
    figure = plot.spectrum(found, np.stack([signed, -signed]), [[(image, signed)] * 3, [(image, signed)]], notes=["", "half wrong"], title="A $title$")
    left, right, *rest = figure.axes
    np.testing.assert_array_equal(left.lines[0].get_ydata(), found.eigenvalues)
    assert left.lines[1].get_xdata()[0] == 2.5 and left.get_title() == "eigenvalues; 2 clusters of 24 examples"
    np.testing.assert_array_equal(right.lines[1].get_xdata(), found.layout[found.labels == 1][:, 0])
    assert len(rest) == 8 and [a.get_ylabel() for a in rest[::4]] == ["0: 16 (67%)\n", "1: 8 (33%)\nhalf wrong"]
    means = [rest[0].images[0].get_array(), rest[4].images[0].get_array()]
    np.testing.assert_allclose(means[0], means[1][::-1, ::-1], atol=1e-6)  # on one scale
    assert not rest[7].images and len(rest[3].images) == 1
    assert figure.get_suptitle() == "A $title$"


def test_without_pictures_or_a_layout_and_with_too_few_of_them(found):
    assert len(plot.spectrum(found).axes) == 2
    bare = spray(np.random.default_rng(0).normal(size=(12, 3)), key=jax.random.key(0), layout="none")
    assert plot.spectrum(bare).axes[1].texts[0].get_text() == "no layout was asked for"
    with pytest.raises(ValueError, match="means must have one entry for each of 2 clusters, got 1"):
        plot.spectrum(found, np.zeros((1, 5, 5, 1)))
    with pytest.raises(ValueError, match="notes must have one entry"):
        plot.spectrum(found, notes=["a"])
