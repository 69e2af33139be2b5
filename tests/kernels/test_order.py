"""Order statistics against a sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.kernels.order import kth_largest, order_keys


@pytest.mark.parametrize("scale", [1e-38, 1.0, 1e38])
def test_the_kth_largest_is_the_sorts(scale):
    v = np.array(jax.random.uniform(jax.random.key(0), (7, 11)), np.float32) * np.float32(scale)
    v[0, :3] = v[1, 0]  # ties
    v[2, 0], v[2, 1] = 0.0, np.inf
    ordered = np.sort(v.ravel())[::-1]
    for k in (1, 2, 5, 40, 76, 77):
        assert kth_largest(v, k) == ordered[k - 1] == jax.jit(kth_largest)(v, k)


def test_halves_are_exact_too():
    v = jax.random.uniform(jax.random.key(1), (50,)).astype(jnp.bfloat16)
    assert kth_largest(v, 7) == np.sort(v.astype(jnp.float32))[-7]


def test_signed_entries_and_their_keys():
    v = np.array(jax.random.normal(jax.random.key(2), (60,)), np.float32)
    v[:6] = -np.inf, np.inf, -0.0, 0.0, v[10], np.finfo(np.float32).max
    ordered = np.sort(v)[::-1]
    assert [float(kth_largest(v, k)) for k in (1, 2, 3, 20, 50, 60)] == [ordered[k - 1] for k in (1, 2, 3, 20, 50, 60)]
    keys = np.asarray(order_keys(v))
    assert np.array_equal(keys[:, None] < keys, v[:, None] < v) and np.array_equal(keys[:, None] == keys, v[:, None] == v)
