"""Maps are float32 or wider, whatever x is: half precision would merge their ranks. With x64, float32 models give the numbers that they give without."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jxai import attribution

KEY = jax.random.key(0)
X = np.float32(np.random.default_rng(0).uniform(size=(12, 12, 1)))
W = np.float32(np.random.default_rng(1).normal(size=(144, 3)) * 0.1)


def net(x):
    return jnp.tanh(x.reshape(-1) @ W.astype(x.dtype)) * jnp.asarray([1.0, 2, 3], x.dtype)


@pytest.mark.parametrize(
    ("method", "options"),
    [("vargrad", {"num_samples": 4}), ("rise", {"num_masks": 40, "grid": 4}), pytest.param("squaregrad", {"num_samples": 4}, marks=pytest.mark.slow)],
)
def test_maps_of_half_precision_keep_their_ranks(method, options):
    run = jax.jit(lambda x: getattr(attribution, method)(net, x, 1, KEY, score="logit", **options))
    full, half = (np.asarray(run(X.astype(dtype))) for dtype in (np.float32, np.float16))
    assert half.dtype == np.float32
    assert len(np.unique(half)) > 0.5 * len(np.unique(full))
    np.testing.assert_allclose(half, full, rtol=0.05, atol=0.01 * np.abs(full).max())


def test_x64_changes_no_path():
    x, f = X[:2, :2], lambda x: net(jnp.tile(x, (6, 6, 1)))
    guided = lambda: np.asarray(jax.jit(lambda x: attribution.guided_integrated_gradients(f, x, 1, steps=5, fraction=0.5))(x))
    plain = guided()
    with jax.enable_x64(True):
        found = guided()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, plain, rtol=1e-4, atol=1e-6)


def test_a_score_of_zero_has_no_shares():
    kernel = jnp.ones((3, 3, 1, 2))
    conv = lambda x: lax.conv_general_dilated(x[None], kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
    dead = lambda x: jax.nn.relu(conv(x) - 100).mean((0, 1)) @ jnp.ones((2, 2))
    assert not np.asarray(jax.jit(lambda x: attribution.ablation_cam(dead, x, 1))(X)).any()
