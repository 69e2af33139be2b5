"""SpRAy: closed forms of spectra, components, neighbours by index, and clusters that are there."""

import jax
import numpy as np
import pytest

from jxai.dataset import graph, spray
from jxai.dataset.features import smaller

KEY = jax.random.key(0)


def blobs(*sizes, dimension=8, apart=50.0, seed=0):
    """Clouds far from each other, and of which each example is."""
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(size=(n, dimension)) + apart * np.eye(len(sizes), dimension)[i] for i, n in enumerate(sizes)])
    return x, np.repeat(np.arange(len(sizes)), sizes)


def test_a_ring_has_the_spectrum_of_a_cycle_and_neighbours_of_all_that_of_a_complete_graph():
    turn = 2 * np.pi * np.arange(12) / 12
    ring = np.stack([np.cos(turn), np.sin(turn)], 1)
    whole = spray(ring, num_neighbours=2, key=KEY, layout="none")
    np.testing.assert_allclose(whole.eigenvalues, np.sort(1 - np.cos(turn)), atol=1e-6)
    np.testing.assert_allclose(spray(ring, num_neighbours=11, key=KEY, layout="none").eigenvalues, [0] + [12 / 11] * 11, atol=1e-6)


@pytest.mark.parametrize("most", [0, graph.DENSE])
def test_as_many_eigenvalues_are_zero_as_the_graph_has_components(most, monkeypatch):
    monkeypatch.setattr(graph, "DENSE", most)  # 0: Lanczos
    x, true = blobs(30, 20, 20, 12)
    x[50:70] = x[30:50] + 500  # the same cloud twice: every eigenvalue of it, too
    found = spray(x, key=KEY, most=3, layout="none", num_neighbours=4)
    assert found.num_components == found.num_clusters == 4
    np.testing.assert_allclose(found.eigenvalues[:4], 0, atol=1e-6)
    assert found.eigenvalues[4] > 0.01 and np.all(np.diff(found.eigenvalues) >= 0)
    assert len(set(zip(true.tolist(), found.labels.tolist()))) == 4
    assert np.bincount(found.labels).tolist() == [30, 20, 20, 12]  # the largest first
    np.testing.assert_allclose(np.linalg.norm(found.embedding, axis=1), 1, atol=1e-5)
    assert spray(x, key=KEY, clusters=2, layout="none", num_neighbours=4).num_clusters == 2


def test_lanczos_agrees_with_the_whole_matrix(monkeypatch):
    a = graph.affinity(np.random.default_rng(1).normal(size=(80, 3)), 5)
    values, vectors = graph.decomposed(a, 6, np.random.default_rng(0))
    np.testing.assert_allclose(graph.decomposed(a, 6, np.random.default_rng(0), vectors=False)[0], values, atol=1e-10)
    monkeypatch.setattr(graph, "DENSE", 0)
    others, found = graph.decomposed(a, 6, np.random.default_rng(0))
    np.testing.assert_allclose(others, values, atol=1e-8)
    np.testing.assert_allclose(np.abs(found.T @ vectors), np.eye(6), atol=1e-5)


def test_no_example_is_its_own_neighbour_though_others_equal_it():
    x = np.repeat(np.random.default_rng(0).normal(size=(4, 3)), 5, axis=0)
    a = graph.affinity(x, 4).toarray()
    np.testing.assert_array_equal(a, np.kron(np.eye(4), np.ones((5, 5)) - np.eye(5)))
    assert spray(x, num_neighbours=4, key=KEY, layout="none").num_clusters == 4


def test_a_small_group_is_found_and_a_key_says_all():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(150, 6, 6, 1)) * 0.2
    x[:12, :2, :2] += 1
    found = spray(x, key=KEY, layout="none")
    assert found.layout is None and found.labels[:12].tolist() == [1] * 12 and found.labels[12:].max() == 0
    assert found.candidates[np.argmax(found.silhouettes)] == 2 and found.num_neighbours == 5
    again = spray(list(x), key=KEY, layout="none")
    jax.tree.map(np.testing.assert_array_equal, found, again)
    assert spray(x, key=KEY, clusters=3, layout="none").num_clusters == 3
    assert spray(x, key=KEY, clusters=1, layout="none").labels.max() == 0


@pytest.mark.parametrize("scale, offset", [(1e300, 0.0), (1e-200, 0.0), (1.0, 1e9)])
def test_neighbours_do_not_depend_on_units(scale, offset):
    x, _ = blobs(12, 9, 7, apart=5.0)
    assert (graph.affinity(scale * x + offset, 3) != graph.affinity(x, 3)).nnz == 0


def test_direction_alone_with_a_norm():
    rng = np.random.default_rng(0)
    directions = np.repeat(np.eye(2, 5), 20, axis=0) + 0.02 * rng.normal(size=(40, 5))
    x = directions * np.exp(2 * rng.normal(size=(40, 1)))
    for norm in ("l1", "l2"):
        assert spray(x, key=KEY, norm=norm, layout="none").labels.tolist() in ([0] * 20 + [1] * 20, [1] * 20 + [0] * 20)
    x[0] = 0  # stays, and is no division by 0
    spray(x, key=KEY, norm="l2", layout="none")


def test_maps_are_made_smaller_by_means_over_equal_shares():
    maps = np.arange(2 * 3 * 3, dtype=float).reshape(2, 3, 3, 1)
    found = smaller(maps, 2)
    # Shares of 1.5 entries: 1 and a half of the middle one.
    w = np.asarray([[2, 1, 0], [0, 1, 2]]) / 3
    np.testing.assert_allclose(found[..., 0], np.einsum("ai,bj,nij->nab", w, w, maps[..., 0]), rtol=1e-12)
    np.testing.assert_allclose(found.mean((1, 2)), maps.mean((1, 2)), rtol=1e-12)
    unequal = [np.ones((4, 6)), *np.random.default_rng(0).normal(size=(5, 8, 8))]
    np.testing.assert_array_equal(spray(unequal, size=2, key=KEY, num_neighbours=2, layout="none").labels.shape, (6,))


X = np.random.default_rng(0).normal(size=(6, 4))


@pytest.mark.parametrize(
    ("given", "options", "said"),
    [
        (X, {"key": None}, "key=None"),
        (X, {"num_neighbours": 6}, r"num_neighbours=6 must be an integer in \[1, 6\)"),
        (X, {"num_neighbours": 0}, "num_neighbours=0"),
        (X[:2], {}, "2 examples, too few for 2 neighbours"),
        (X, {"clusters": 6}, "clusters=6"),
        (X, {"most": 1}, "most=1 must be 2 or more"),
        (X, {"layout": "pca"}, "layout='pca'"),
        (X, {"gap": "widest"}, "gap='widest'"),
        (X, {"norm": "l3"}, "norm='l3'"),
        (X, {"size": 2}, "size=2"),
        (X.reshape(6, 2, 2), {"size": 3}, "size=3 must be at most"),
        ([np.zeros((2, 2)), np.zeros((2, 3)), np.zeros((2, 2))], {}, r"features\[0\] is \(2, 2\) and features\[1\] \(2, 3\)"),
        (np.where(np.arange(24).reshape(6, 4) == 9, np.nan, X), {}, r"features\[2\] is not"),
        (X + 1j, {}, "complex128"),
        (X[0], {}, r"must be \[n, …\]"),
        (X[:0], {}, r"must be \[n, …\]"),
        (X[:, :0], {}, "must have entries"),
    ],
)
def test_bad_input_is_named(given, options, said):
    with pytest.raises(ValueError, match=said):
        spray(given, **{"key": KEY, **options})


def test_under_a_trace_it_says_so():
    with pytest.raises(ValueError, match="traced"):
        jax.jit(lambda x: spray(x, key=KEY).eigenvalues)(X)


def test_few_and_equal_examples_and_their_layout():
    found = spray(np.zeros((12, 3)), num_neighbours=11, key=KEY)
    assert found.num_components == 1 and np.isfinite(found.layout).all()
    np.testing.assert_array_equal(spray(np.zeros((12, 3)), num_neighbours=11, key=KEY).layout, found.layout)
    assert spray(X[:3], num_neighbours=1, key=KEY).layout.shape == (3, 2)


def test_umap_lays_out_or_says_what_to_install():
    try:
        import umap  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r"jxai\[umap\]"):
            spray(X, key=KEY, layout="umap")
    else:
        assert spray(blobs(20, 20)[0], key=KEY, layout="umap").layout.shape == (40, 2)
