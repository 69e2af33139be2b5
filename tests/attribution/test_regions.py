"""XRAI against a plain greedy search in NumPy, and its conservation laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.attribution import regions
from jxai.attribution.gradient import gradient
from jxai.attribution.path import integrated_gradients

RNG = np.random.default_rng(0)
H, WIDTH = 12, 10
X = np.float32(RNG.uniform(size=(H, WIDTH, 3)))
WEIGHTS = np.float32(RNG.normal(size=(H, WIDTH, 3)))


def whole(method):
    """The method compiled whole: eagerly, every operation of every test would be compiled by itself."""

    def call(f, x, target, key=None, **options):
        return np.asarray(jax.jit(lambda x: method(f, x, target, key, **options))(x))

    return call


xrai = whole(regions.xrai)


def linear(x):
    value = (WEIGHTS * x).sum()
    return jnp.stack([value, -value])


def blocks(height, width):
    return (np.arange(H)[:, None] // height) * -(-WIDTH // width) + np.arange(WIDTH)[None] // width


MAPS = np.stack([blocks(3, 2), blocks(4, 5), blocks(5, 3), RNG.integers(0, 9, (H, WIDTH))])


def greedy(pixels, maps, num, min_area=1, fast=False):
    """The published loop: a list of masks, a growing union, one region at a time."""
    masks = [labels == label for labels in maps for label in range(num)]
    first = [pixels[mask].mean() if mask.any() else -np.inf for mask in masks]
    covered = np.zeros(pixels.shape, bool)
    out = np.full(pixels.shape, np.nan)
    while masks:
        left = [(gain, mask) for gain, mask in zip(first, masks) if (mask & ~covered).sum() >= min_area]
        if not left:
            break
        first, masks = [list(part) for part in zip(*left)]
        gains = first if fast else [pixels[mask & ~covered].mean() for mask in masks]
        best = int(np.argmax(gains))
        added = masks.pop(best) & ~covered
        first.pop(best)
        out[added] = pixels[added].mean()
        covered |= added
    if not covered.all():
        out[~covered] = pixels[~covered].mean()
    return out


def base(channels):
    """For a linear score, IG averaged over black and white is w ⊙ (x − ½)."""
    pixels = np.asarray(WEIGHTS * (X - 0.5), np.float64)
    return pixels.max(-1) if channels == "max" else pixels.sum(-1)


@pytest.mark.parametrize("algorithm, min_area, channels", [("full", 1, "max"), ("full", 4, "sum"), ("full", 30, "max"), ("fast", 1, "sum"), ("fast", 4, "max")])
def test_agrees_with_a_greedy_search(channels, algorithm, min_area):
    values = xrai(linear, X, 0, segments=MAPS, channels=channels, algorithm=algorithm, min_area=min_area, score="logit")
    expected = greedy(base(channels), MAPS, MAPS.max() + 1, min_area, algorithm == "fast")
    assert values.shape == (H, WIDTH, 1)
    np.testing.assert_allclose(values[..., 0], expected, atol=1e-5)


def test_full_and_fast_differ_where_regions_overlap():
    full, fast = (xrai(linear, X, 0, segments=MAPS, algorithm=name, score="logit") for name in ("full", "fast"))
    assert np.abs(full - fast).max() > 0.1


@pytest.mark.parametrize("algorithm", ["full", "fast"])
def test_one_label_map_gives_every_segment_its_mean(algorithm):
    labels = blocks(3, 2)
    values = xrai(linear, X, 1, segments=labels, algorithm=algorithm, channels="sum", score="logit")
    pixels = -base("sum")
    means = np.bincount(labels.ravel(), pixels.ravel()) / np.bincount(labels.ravel())
    np.testing.assert_allclose(values[..., 0], means[labels], atol=1e-5)


def test_with_summed_channels_the_map_is_as_complete_as_its_base():
    values = xrai(linear, X, 0, segments=MAPS, channels="sum", score="logit")
    np.testing.assert_allclose(values.sum(), (WEIGHTS * (X - 0.5)).sum(), rtol=1e-4)


def test_a_label_out_of_range_is_no_region():
    """Positions with label 7 of num_segments=4 are pooled at the end, with those that no region added."""
    labels = np.where(np.arange(WIDTH)[None] < 4, 7, blocks(6, 5) % 4) * np.ones((H, 1), int)
    values = xrai(linear, X, 0, segments=labels, num_segments=4, score="logit")[..., 0]
    np.testing.assert_allclose(values[:, :4], base("max")[:, :4].mean(), rtol=1e-4)
    np.testing.assert_allclose(values, greedy(base("max"), labels[None], 4), atol=1e-5)


def test_other_base_methods_and_baselines():
    labels = blocks(3, 2)
    of_gradient = xrai(linear, X, 0, segments=labels, method=gradient, baselines=None, score="logit")[..., 0]
    np.testing.assert_allclose(of_gradient, greedy(np.asarray(WEIGHTS.max(-1)), labels[None], 20), atol=1e-5)
    extremes = xrai(linear, X, 0, segments=labels, baselines=(X.min(), X.max()), method_options={"steps": 2}, channels="sum", score="logit")
    middle = (X.min() + X.max()) / 2
    np.testing.assert_allclose(extremes.sum(), (WEIGHTS * (X - middle)).sum(), rtol=1e-4)
    own, same = (
        xrai(linear, X, 0, segments=labels, method=gradient, baselines=None, **o) for o in ({"method_options": {"score": "sigmoid"}}, {"score": "sigmoid"})
    )
    np.testing.assert_allclose(own, same, rtol=1e-5)
    assert np.abs(own).max() < 0.9 * np.abs(of_gradient).max()


def test_vectors_and_videos():
    s = lambda x: (x**2).sum()
    values = xrai(s, np.float32([1, 2, 3]), None, segments=np.array([0, 0, 1]), baselines=(0.0,))
    np.testing.assert_allclose(values, [2.5, 2.5, 9.0], rtol=1e-5)
    video = np.stack([X, 2 * X])
    labels = np.stack([blocks(6, 5), blocks(6, 5) + 4])
    values = xrai(s, video, None, segments=labels, baselines=(0.0,), channels="sum")
    np.testing.assert_allclose(values.sum(), (video**2).sum(), rtol=1e-4)
    np.testing.assert_allclose(values[1], 4 * values[0], rtol=1e-4)


def test_traced_segments_and_the_gradient_through_the_search():
    traced = jax.jit(lambda x, labels: regions.xrai(linear, x, 0, segments=labels, num_segments=20, channels="sum", score="logit"))
    np.testing.assert_allclose(traced(X, MAPS), xrai(linear, X, 0, segments=MAPS, channels="sum", score="logit"), atol=1e-5)
    np.testing.assert_allclose(jax.jit(jax.grad(lambda x: traced(x, MAPS).sum()))(X), WEIGHTS, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(segments=MAPS[:, :5]), "segments must"),
        (dict(segments=MAPS[None]), "segments must have shape"),
        (dict(segments=MAPS * 1.0), "segments must be integers"),
        (dict(algorithm="slow"), "algorithm='slow'"),
        (dict(channels="mean"), "channels='mean'"),
        (dict(min_area=0), "min_area=0"),
        (dict(baselines=()), "baselines="),
        (dict(baselines=0.0), "baselines=0.0"),
        (dict(method=gradient), "method=gradient"),
        (dict(method_options={"rule": "simpson"}), "rule='simpson'"),
        (dict(score="loss"), "score='loss'"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message) as error:
        xrai(linear, X, 0, **(dict(segments=MAPS, method=integrated_gradients) | options))
    assert "\n" not in str(error.value)
