"""Occlusion and feature ablation against naive loops, closed forms and the window counts of the published codes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import fills
from jxai.attribution.occlusion import feature_ablation, occlusion


def scalar(x):
    """A score that is neither linear nor additive."""
    weights = np.sin(np.arange(x.size, dtype=np.float32)).reshape(x.shape)
    return jnp.tanh(jnp.sum(weights * x)) + jnp.sum(x**2) / x.size


def naive(x, window, stride, borders, reduction, fill):
    """The definition as Python loops over windows, in float64."""
    shape = x.shape[:-1] if x.ndim > 1 else x.shape
    x = np.asarray(x, np.float64)
    weights = np.sin(np.arange(x.size)).reshape(x.shape)

    def score(v):
        return np.tanh((weights * v).sum()) + (v**2).sum() / v.size

    starts = []
    for size, w, step in zip(shape, window, stride):
        last = size - w if borders == "valid" else size - w + step - 1
        starts.append(range(0, last + 1, step))
    total, count = np.zeros(shape), np.zeros(shape)
    for corner in itertools.product(*starts):
        part = tuple(slice(c, c + w) for c, w in zip(corner, window))
        changed = x.copy()
        changed[part] = fill
        total[part] += score(x) - score(changed)
        count[part] += 1
    out = total / np.maximum(count, 1) if reduction == "mean" else total
    return out if x.ndim == 1 else out[..., None]


FORMS = [((7,), (3,), (2,)), ((7, 6, 3), (3, 2), (2, 1)), ((3, 5, 4, 2), (2, 3, 2), (1, 3, 2)), ((6, 6, 1), (6, 6), (1, 1))]
KINDS = [(*form, borders, reduction) for form in FORMS for reduction in ("mean", "sum") for borders in ("clip", "valid")]
QUICK = [kind for kind in KINDS if kind[0] == (7, 6, 3) or kind[3:] == ("clip", "mean")]


def whole(method):
    """The method compiled whole: eagerly, every operation of every test would be compiled by itself."""

    def call(f, x, target, key=None, **options):
        return np.asarray(jax.jit(lambda x: method(f, x, target, key, **options))(x))

    return call


@pytest.mark.parametrize(("shape", "window", "stride", "borders", "reduction"), [k if k in QUICK else pytest.param(*k, marks=pytest.mark.slow) for k in KINDS])
def test_occlusion_is_the_loop_over_windows(shape, window, stride, borders, reduction):
    x = np.float32(np.random.default_rng(0).uniform(size=shape))
    options = {"window": window, "stride": stride, "borders": borders, "reduction": reduction, "fill": 0.3, "chunk": 5}
    got = jax.jit(lambda x: occlusion(scalar, x, None, **options))(x)
    np.testing.assert_allclose(got, naive(x, window, stride, borders, reduction, 0.3), atol=2e-6)


def test_occlusion_of_a_linear_score_by_hand():
    x, w = np.float32([1, 2, 3, 4, 5]), np.float32([1, 0, -1, 2, 1])
    drops = np.array([1.0, -3.0 + 8.0, 5.0])  # windows [0, 1], [2, 3] and the cut one, [4]
    clip = whole(occlusion)(lambda v: v @ w, x, None, window=2, stride=2)
    np.testing.assert_allclose(clip, drops[[0, 0, 1, 1, 2]])
    valid = whole(occlusion)(lambda v: v @ w, x, None, window=2, stride=2, borders="valid")
    np.testing.assert_allclose(valid, [1.0, 1.0, 5.0, 5.0, 0.0])
    single = whole(occlusion)(lambda v: v @ w, x, None)  # by default the entries of a short vector one by one
    np.testing.assert_allclose(single, w * x)


def test_occlusion_passes_and_targets_share_them():
    seen = []

    def f(x):
        jax.debug.callback(lambda _: seen.append(1), x)
        return jnp.stack([x.sum(), (x**2).sum(), x[0, 0, 0]])

    x = np.float32(np.random.default_rng(1).uniform(size=(6, 5, 2)))
    jax.jit(jax.vmap(lambda t: occlusion(f, x, t, window=2, stride=2, chunk=1)))(np.arange(3)).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == 1 + 3 * 3


def test_a_fill_that_draws_noise_uses_the_key():
    run = jax.jit(lambda key: occlusion(jnp.sum, np.zeros((4, 4, 1), np.float32), None, key, window=2, stride=2, fill=fills.Uniform()))
    a, b = (np.asarray(run(jax.random.key(k))) for k in (0, 1))
    assert not np.allclose(a, b)
    assert np.all(a < 0) and len(np.unique(a)) == 4  # four windows, each with noise of its own


def test_feature_ablation_of_an_additive_score_is_the_part_of_each_feature():
    rng = np.random.default_rng(2)
    x, labels, fill = np.float32(rng.normal(size=(6, 7, 3))), rng.integers(0, 5, (6, 7)), np.float32([0.1, -0.2, 0.3])
    got = whole(feature_ablation)(lambda v: jnp.sum(v**3), x, None, segments=labels, fill=fill, chunk=2)
    pixel = (np.asarray(x, np.float64) ** 3 - np.asarray(fill) ** 3).sum(-1)
    part = np.array([pixel[labels == i].sum() for i in range(5)])
    np.testing.assert_allclose(got[..., 0], part[labels], atol=2e-5)


def test_feature_ablation_keeps_positions_of_no_feature():
    x, labels = np.arange(1, 7, dtype=np.float32), np.array([0, 1, 1, 2, 2, 0])
    got = whole(feature_ablation)(jnp.sum, x, None, segments=labels, num_segments=2)
    np.testing.assert_allclose(got, [7, 5, 5, 0, 0, 7])


def test_feature_ablation_of_a_grid_and_of_a_vector():
    x = np.float32(np.random.default_rng(4).uniform(size=(4, 6, 2)))
    got = whole(feature_ablation)(jnp.sum, x, None, grid=(2, 3))
    np.testing.assert_allclose(got[::2, ::2, 0], np.asarray(x).reshape(2, 2, 3, 2, 2).sum((1, 3, 4)), rtol=1e-5)
    w = np.float32([2, -1, 0])
    np.testing.assert_allclose(whole(feature_ablation)(lambda v: v @ w, np.ones(3, np.float32), None), w)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"window": 9}, "window=.*larger"),
        ({"window": 0}, "window=0"),
        ({"window": (2, 2, 2)}, "window="),
        ({"window": 2, "stride": 3}, "stride=.*exceed"),
        ({"borders": "cut"}, "borders='cut'"),
        ({"reduction": "max"}, "reduction='max'"),
        ({"score": "odds"}, "score='odds'"),
        ({"chunk": 0}, "chunk=0"),
    ],
)
def test_bad_options_of_occlusion(options, words):
    with pytest.raises(ValueError, match=words):
        occlusion(lambda x: x.sum((0, 1)), np.ones((8, 8, 3), np.float32), 0, **options)


def test_bad_options_of_feature_ablation():
    x = np.ones((8, 8, 3), np.float32)
    with pytest.raises(ValueError, match="not both"):
        feature_ablation(jnp.sum, x, None, grid=2, segments=np.zeros((8, 8), int))
    with pytest.raises(ValueError, match="segments must be integers"):
        feature_ablation(jnp.sum, x, None, segments=np.zeros((8, 7), int))
    with pytest.raises(ValueError, match="grid=9"):
        feature_ablation(jnp.sum, x, None, grid=9)
