"""Loops over perturbations: sums whatever the chunk, flat memory, no waste."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jxai import loops


@pytest.mark.parametrize("chunk", [3, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 7, 16, 1000))])
def test_sums_means_and_stacks(chunk):
    fn = lambda i: {"a": jnp.sin(i * 1.0), "b": jnp.ones((2, 2)) * i}
    values = np.arange(16)

    @jax.jit
    def measure():
        moments = loops.moments(lambda i: 1e4 + jnp.sin(i * 1.0), 16, chunk)
        return loops.sums(fn, 16, chunk)["a"], loops.means(fn, 16, chunk)["b"], loops.stack(fn, 16, chunk)["a"], moments

    total, middle, stacked, (mean, variance) = measure()
    assert np.allclose(total, np.sin(values).sum(), rtol=1e-5)
    assert np.allclose(middle, 7.5)
    assert np.allclose(stacked, np.sin(values), rtol=1e-5)
    assert np.allclose(mean, 1e4 + np.sin(values).mean(), rtol=1e-6) and np.allclose(variance, np.sin(values).var(), rtol=1e-2)


def test_padding_does_not_count_even_where_it_is_not_finite():
    assert np.allclose(loops.sums(lambda i: jnp.where(i < 5, 1.0, jnp.nan), 5, 3), 5)


def test_blocks_are_balanced():
    counted = []
    jax.jit(lambda: loops.stack(lambda i: (jax.debug.callback(lambda v: counted.append(int(v)), i), i)[1], 50, 16))()
    jax.effects_barrier()
    assert sorted(set(counted)) == list(range(50)) and len(counted) == 52  # 4 blocks of 13, not 64


def test_memory_is_flat_in_the_number_of_passes_also_under_differentiation():
    def temporary(n):
        def loss(x):
            return loops.sums(lambda i: jnp.tanh(x * i) ** 2, n, 4).sum()

        return jax.jit(jax.grad(loss)).lower(np.ones(20_000, np.float32)).compile().memory_analysis().temp_size_in_bytes

    assert temporary(256) < 1.1 * temporary(32) + 10_000


@pytest.mark.parametrize(("n", "chunk"), [(0, 4), (4, 0), (4, -1), (4, 1.5), (True, 2)])
def test_bad_sizes_say_so(n, chunk):
    with pytest.raises(ValueError, match="must be a positive integer"):
        loops.sums(lambda i: i, n, chunk)
