"""Order statistics against a sort."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai.kernels.order import kth_largest, order_keys

KTH = jax.jit(kth_largest)


@pytest.mark.parametrize("scale", [1e-37, 1.0, 1e38])
def test_the_kth_largest_is_the_sorts(scale):
    v = np.random.default_rng(0).uniform(0.2, 1, (7, 11)).astype(np.float32) * np.float32(scale)  # normal numbers: XLA takes smaller ones for 0
    v[0, :3] = v[1, 0]  # ties
    v[2, 0], v[2, 1] = 0.0, np.inf
    ordered = np.sort(v.ravel())[::-1]
    for k in (1, 2, 5, 40, 76, 77):
        assert float(KTH(v, k)) == ordered[k - 1]
    assert float(kth_largest(v, 5)) == ordered[4]  # not traced


def test_halves_are_exact_too():
    v = np.random.default_rng(1).uniform(size=50).astype(jnp.bfloat16)
    assert float(KTH(v, 7)) == np.sort(np.float32(v))[-7]


def test_signed_entries_and_their_keys():
    v = np.random.default_rng(2).normal(size=60).astype(np.float32)
    v[:6] = -np.inf, np.inf, -0.0, 0.0, v[10], np.finfo(np.float32).max
    ordered = np.sort(v)[::-1]
    assert [float(KTH(v, k)) for k in (1, 2, 3, 20, 50, 60)] == [ordered[k - 1] for k in (1, 2, 3, 20, 50, 60)]
    keys = np.asarray(jax.jit(order_keys)(v))
    assert np.array_equal(keys[:, None] < keys, v[:, None] < v) and np.array_equal(keys[:, None] == keys, v[:, None] == v)
