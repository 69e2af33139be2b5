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
    weights = jnp.sin(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)
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


@pytest.mark.parametrize("borders", ["clip", "valid"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(
    "shape, window, stride",
    [((7,), (3,), (2,)), ((7, 6, 3), (3, 2), (2, 1)), ((3, 5, 4, 2), (2, 3, 2), (1, 3, 2)), ((6, 6, 1), (6, 6), (1, 1))],
)
def test_occlusion_is_the_loop_over_windows(shape, window, stride, borders, reduction):
    x = jax.random.uniform(jax.random.key(0), shape)
    options = {"window": window, "stride": stride, "borders": borders, "reduction": reduction, "fill": 0.3, "chunk": 5}
    got = jax.jit(lambda x: occlusion(scalar, x, None, **options))(x)
    np.testing.assert_allclose(got, naive(x, window, stride, borders, reduction, 0.3), atol=2e-6)


def test_occlusion_of_a_linear_score_by_hand():
    x, w = jnp.array([1.0, 2.0, 3.0, 4.0, 5.0]), jnp.array([1.0, 0.0, -1.0, 2.0, 1.0])
    drops = np.array([1.0, -3.0 + 8.0, 5.0])  # windows [0, 1], [2, 3] and the cut one, [4]
    clip = occlusion(lambda v: v @ w, x, None, window=2, stride=2)
    np.testing.assert_allclose(clip, drops[[0, 0, 1, 1, 2]])
    valid = occlusion(lambda v: v @ w, x, None, window=2, stride=2, borders="valid")
    np.testing.assert_allclose(valid, [1.0, 1.0, 5.0, 5.0, 0.0])
    single = occlusion(lambda v: v @ w, x, None)  # by default the entries of a short vector one by one
    np.testing.assert_allclose(single, w * x)


def test_occlusion_passes_and_targets_share_them():
    seen = []

    def f(x):
        jax.debug.callback(lambda _: seen.append(1), x)
        return jnp.stack([x.sum(), (x**2).sum(), x[0, 0, 0]])

    x = jax.random.uniform(jax.random.key(1), (6, 5, 2))
    jax.vmap(lambda t: occlusion(f, x, t, window=2, stride=2, chunk=1))(jnp.arange(3)).block_until_ready()
    jax.effects_barrier()
    assert len(seen) == 1 + 3 * 3


def test_a_fill_that_draws_noise_uses_the_key():
    x = jnp.zeros((4, 4, 1))
    a, b = (occlusion(jnp.sum, x, None, jax.random.key(k), window=2, stride=2, fill=fills.Uniform()) for k in (0, 1))
    assert not np.allclose(a, b)
    assert np.all(a < 0) and len(np.unique(a)) == 4  # four windows, each with noise of its own


def test_feature_ablation_of_an_additive_score_is_the_part_of_each_feature():
    x = jax.random.normal(jax.random.key(2), (6, 7, 3))
    labels = jax.random.randint(jax.random.key(3), (6, 7), 0, 5)
    fill = jnp.array([0.1, -0.2, 0.3])
    got = feature_ablation(lambda v: jnp.sum(v**3), x, None, segments=labels, fill=fill, chunk=2)
    pixel = (np.asarray(x, np.float64) ** 3 - np.asarray(fill) ** 3).sum(-1)
    part = np.array([pixel[np.asarray(labels) == i].sum() for i in range(5)])
    np.testing.assert_allclose(got[..., 0], part[np.asarray(labels)], atol=2e-5)


def test_feature_ablation_keeps_positions_of_no_feature():
    x, labels = jnp.arange(1.0, 7.0), jnp.array([0, 1, 1, 2, 2, 0])
    got = feature_ablation(jnp.sum, x, None, segments=labels, num_segments=2)
    np.testing.assert_allclose(got, [7, 5, 5, 0, 0, 7])


def test_feature_ablation_of_a_grid_and_of_a_vector():
    x = jax.random.uniform(jax.random.key(4), (4, 6, 2))
    got = feature_ablation(jnp.sum, x, None, grid=(2, 3))
    np.testing.assert_allclose(got[::2, ::2, 0], np.asarray(x).reshape(2, 2, 3, 2, 2).sum((1, 3, 4)), rtol=1e-5)
    w = jnp.array([2.0, -1.0, 0.0])
    np.testing.assert_allclose(feature_ablation(lambda v: v @ w, jnp.ones(3), None), w)


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
        occlusion(lambda x: x.sum((0, 1)), jnp.ones((8, 8, 3)), 0, **options)


def test_bad_options_of_feature_ablation():
    x = jnp.ones((8, 8, 3))
    with pytest.raises(ValueError, match="not both"):
        feature_ablation(jnp.sum, x, None, grid=2, segments=jnp.zeros((8, 8), int))
    with pytest.raises(ValueError, match="segments must be integers"):
        feature_ablation(jnp.sum, x, None, segments=jnp.zeros((8, 7), int))
    with pytest.raises(ValueError, match="grid=9"):
        feature_ablation(jnp.sum, x, None, grid=9)
