"""Random subsets: of the exact size, and distributed as independent uniform ones are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jxai.metrics.draws import shuffle
from jxai.metrics.draws import subsets as draws

KEY = jax.random.key(0)


def many(n, size, count):
    """So many subsets of one key."""

    @jax.jit
    def all_of(key, index):
        drawn = draws(key, index, n)
        return jax.vmap(lambda i: drawn(i, size))(jnp.arange(count))

    return np.asarray(all_of(KEY, np.arange(n)))


@pytest.mark.parametrize("n", [1, 6, 97, pytest.param(2, marks=pytest.mark.slow), pytest.param(300, marks=pytest.mark.slow)])
def test_a_shuffle_is_a_permutation(n):
    v = np.asarray(jax.jit(lambda key, v: shuffle(key, v, n, 5))(KEY, np.arange(n)))
    assert sorted(v) == list(range(n)) and (n < 90 or (v != np.arange(n)).mean() > 0.9)


@pytest.mark.parametrize(
    ("n", "size"),
    [(6, 2), (97, 40), *(pytest.param(*sizes, marks=pytest.mark.slow) for sizes in [(300, 299), (5, 5), (1, 1)])],
)
def test_subsets_have_the_exact_size_and_every_thing_is_as_likely(n, size):
    masks = many(n, size, 2000)
    assert (masks.sum(1) == size).all()
    spread = np.sqrt(size / n * (1 - size / n) / 2000)
    assert np.abs(masks.mean(0) - size / n).max() <= 5 * spread
    if 1 < size < n:
        pairs = (masks.T.astype(float) @ masks / 2000)[~np.eye(n, dtype=bool)]
        both = size * (size - 1) / (n * (n - 1))
        assert np.abs(pairs - both).max() < 6 * np.sqrt(both * (1 - both) / 2000) + 1e-9
        # Two subsets overlap as two independent ones do.
        overlap = (masks[:-1] & masks[1:]).sum(1)
        hypergeometric = stats.hypergeom(n, size, size)
        assert abs(overlap.mean() - hypergeometric.mean()) < 6 * hypergeometric.std() / np.sqrt(2000)
        assert abs(overlap.std() / hypergeometric.std() - 1) < 0.15


def test_all_subsets_of_few_things_are_as_likely():
    """Of one key, and (the first subset alone) over keys."""
    over_keys = jax.jit(jax.vmap(lambda k: draws(k, jnp.arange(5), 5)(0, 2)))(jax.random.split(KEY, 4000))
    for masks in (many(5, 2, 4000), over_keys):
        counts = np.unique(np.asarray(masks) @ (1 << np.arange(5)), return_counts=True)[1]
        assert counts.size == 10 and np.abs(counts - 400).max() < 6 * np.sqrt(400 * 0.9)


def test_labels_without_positions_are_never_drawn():
    index = np.array([0, -1, 1, 2, -1, 3])
    drawn = jax.jit(jax.vmap(lambda i: draws(KEY, index, jnp.int32(4))(i, 3)))(np.arange(50))
    assert (np.asarray(drawn)[:, [0, 2, 3, 5]].sum(1) == 3).all()


def test_no_thing_is_drawn_more_often_than_chance_has_it():
    """Were entries to stay in their place too often, the same few would fill the small subsets of a key."""
    first = jax.jit(jax.vmap(lambda i: jnp.argmax(draws(KEY, jnp.arange(5000), 5000)(i, 1))))(np.arange(4000))
    assert np.bincount(first).max() <= 8
