"""What certificates, counterfactuals and curves show when they are drawn as a routine returned them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import plot
from jxai.attribution.verified import eva_certificate
from jxai.bounds import ball, certify
from jxai.bounds.certify import RobustnessCertificate
from jxai.counterfactual import Counterfactual
from jxai.sufficiency import DisjointPair, OverlappingPair, SufficientSubset
from jxai.sufficiency.minimal import MinimalExplanation
from jxai.typing import Curve

X = np.linspace(0, 1, 27, dtype=np.float32).reshape(3, 3, 3)
SEGMENTS = jnp.arange(9).reshape(3, 3)
NAMES = ["cat", "dog", "$cup$", "owl"]


def texts(figure):
    return [t.get_text() for t in figure.findobj(lambda artist: hasattr(artist, "get_text")) if t.get_text()]


def pictures(figure):
    return [np.asarray(image.get_array()) for axis in figure.axes for image in axis.images]


def subset(held, threshold=0.5):
    curve = jnp.asarray([0.9, 0.7, 0.6])
    return SufficientSubset(
        jnp.int32(2), jnp.asarray(held), SEGMENTS, jnp.zeros((3, 3, 3)), jnp.float32(threshold), curve[-1], jnp.zeros(9, int), curve, "probability", None
    )


def pair(kind, removed, shares):
    one = kind is OverlappingPair
    fill = jnp.zeros((3, 3, 3) if one else (2, 3, 3, 3))
    return kind(jnp.asarray([0, 1]), jnp.asarray(removed), SEGMENTS, fill, jnp.float32(0.8), jnp.asarray(shares), jnp.asarray([0.6, 0.4]), "probability", None)


def test_margins_of_a_robustness_certificate():
    claim = RobustnessCertificate(jnp.int32(1), jnp.asarray([0.5, 0.0, -0.25, 2.0]), ball(jnp.asarray(X), 0.1), "crown", "outward", (), None)
    figure = plot.certificate(X, claim, NAMES, title="mine")
    widths = [bar.get_width() for bar in figure.axes[0].patches]
    assert widths == [-0.25, 0.5, 2.0]  # the label's own is none, the least one first
    assert {"$cup$", "cat", "owl", "mine", "least margin of dog that was proved"} <= set(texts(figure)) and "does not hold" in " ".join(texts(figure))
    with pytest.raises(ValueError, match=r"about an x of shape \(3, 3, 3\), got \(2, 3, 3\)"):
        plot.certificate(X[:2], claim)
    batch = jax.tree.map(lambda v: jnp.stack([v, v]), claim)
    with pytest.raises(ValueError, match="one certificate, got a batch of shape"):
        plot.certificate(X, batch)
    with pytest.raises(ValueError, match="must be a certificate of jxai, got Curve"):
        plot.certificate(X, Curve(1, 2, 3))
    real = certify(lambda v: v.reshape(-1)[:3], jnp.asarray(X), 0.01, method="interval")
    with pytest.raises(ValueError, match="claim is about another x"):
        plot.certificate(1 - X, real)
    with pytest.raises(ValueError, match="names must name class 2, got 2 names"):
        plot.certificate(X, real, {0: "cat", 1: "dog"})
    assert len(plot.certificate(X.astype(np.float64), real).axes) == 1
    assert [bar.get_width() for bar in plot.certificate(X, real).axes[0].patches] == pytest.approx(sorted(np.delete(real.margins, int(real.label))))


def test_what_is_held_and_the_way_there():
    held = np.arange(9) % 2 == 0
    figure = plot.certificate(X, subset(held), NAMES)
    whole, shown = pictures(figure)
    np.testing.assert_allclose(whole, X)
    np.testing.assert_allclose(shown, X * held.reshape(3, 3, 1))
    assert "5 of 9 features held" in texts(figure) and "$cup$" in texts(figure)
    np.testing.assert_allclose(figure.axes[-1].lines[0].get_ydata(), [0.9, 0.7, 0.6], atol=1e-6)
    free = MinimalExplanation(
        jnp.int32(0),
        jnp.asarray(held),
        SEGMENTS,
        jnp.full((3, 3, 3), 0.1),
        jnp.arange(9),
        jnp.arange(10.0),
        jnp.float32(1),
        jnp.inf,
        None,
        "crown",
        "outward",
        None,
    )
    np.testing.assert_allclose(pictures(plot.certificate(X, free))[1], np.where(held.reshape(3, 3, 1), X, 0.5), atol=1e-6)


def test_pairs_and_overlaps():
    first = np.arange(9) < 2
    two = pair(DisjointPair, [first, ~first], [[0.1, 0.9], [0.8, 0.2]])
    figure = plot.certificate(X, two, NAMES)
    np.testing.assert_allclose(pictures(figure)[1], X * ~first.reshape(3, 3, 1))
    assert {"without cat's 2 segments", "without dog's 7 segments"} <= set(texts(figure))
    widths = [bar.get_width() for bar in figure.axes[4].patches]
    np.testing.assert_allclose(widths, [0.6 * 0.1, 0.4 * 0.9], atol=1e-6)
    both = plot.certificate(X, pair(OverlappingPair, first, [0.1, 0.2]), {0: "cat", 1: "dog"})
    np.testing.assert_allclose(pictures(both)[1], X * ~first.reshape(3, 3, 1))
    claim = eva_certificate(lambda v: jnp.stack([v.sum(), v[0].sum()]), jnp.asarray(X), 1, radius=0.1, grid=3, bound="interval")
    assert "class 1" in texts(plot.certificate(X, claim)) and dataclasses.is_dataclass(claim)


def test_a_counterfactual_is_drawn_as_it_was_returned():
    found = Counterfactual(jnp.stack([X, 1 - X]), None, jnp.zeros((2, 3)), jnp.asarray([True, False]), jnp.zeros(2, int))
    figure = plot.counterfactuals(X, found)
    alone = plot.counterfactuals(X, X)
    assert [p.shape for p in pictures(figure)] == [(3, 3, 3)] * 5 and len(pictures(alone)) == 3
    np.testing.assert_allclose(pictures(figure)[1], X, atol=1e-6)
    frames = [axis.spines["top"].get_edgecolor()[:3] == (1, 0, 0) for axis in figure.axes[:3]]
    assert frames == [False, False, True]
    assert len(plot.counterfactuals(np.arange(4.0), np.arange(8.0).reshape(2, 4)).axes) == 3


def test_curves_are_taken_from_metrics_as_they_are():
    x = jnp.broadcast_to(jnp.linspace(0, 1, 5), (3, 5))
    batch = Curve(x, jnp.arange(15.0).reshape(3, 5), jnp.zeros(3))
    figure = plot.curves({"many": batch, "one": Curve(x[0], x[0] ** 2, 0.3)})
    many, one = figure.axes[0].lines
    np.testing.assert_allclose(many.get_ydata(), np.arange(5) + 5)
    np.testing.assert_allclose(one.get_ydata(), np.linspace(0, 1, 5) ** 2)
    with pytest.raises(ValueError, match=r"lines\['a'\] holds curves that were measured at different x"):
        plot.curves({"a": Curve(x * jnp.arange(1, 4.0)[:, None], batch.y, 0)})
    for line in ((np.ones(5), np.ones((2, 4))), (np.ones(5), np.ones((0, 5))), (np.ones(5),), np.ones((3, 5))):
        with pytest.raises(ValueError, match=r"lines\['a'\] must"):
            plot.curves({"a": line})


def test_one_map_needs_no_axis_of_targets():
    figure = plot.explanations(X, {"a": X[..., :1], "b": X[None]})
    assert len(pictures(figure)) == 3 + 1  # and the legend's bar
    assert [plot.explanations(X, {"a": X}, target).axes[0].get_title() for target in ("tabby cat", [3])] == ["tabby cat", "3"]
    vector, series = np.arange(3.0), np.ones((4, 3))
    for x, maps, given, says in (
        (X, {}, {}, "must hold at least one map"),
        (vector, {"a": np.ones(2)}, {}, r"maps\['a'\] must be of x's shape \(3,\), or 1 along an axis, got \(2,\)"),
        (vector, {"a": np.ones(5)}, {}, "must be of x's shape"),
        (series, {"a": np.ones((5, 3))}, {}, "must be of x's shape"),
        (series, {"a": series}, {"names": ["one"]}, "names must name each of 3 channels, got 1"),
        (vector, {"a": vector}, {"names": ["one"]}, "names must name each of 3 features, got 1"),
        (X, {"a": X}, {"signed": {"b": True}}, "signed tells of 'b', but maps has 'a'"),
        (X, {"a": X}, {"columns": 0}, "columns=0 must be a positive integer"),
        (X[:0], {"a": X[:0]}, {}, "x must be"),
    ):
        with pytest.raises(ValueError, match=says):
            plot.explanations(x, maps, **given)
    with pytest.raises(ValueError, match="attribution must be of x's shape"):
        plot.overlay(vector, np.ones(2))
