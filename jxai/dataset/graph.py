"""The graph of nearest neighbours, and the least eigenvalues of its normalised Laplacian."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:  # scipy is loaded where it is used: what only asks for names need not wait for it
    from scipy.sparse import csr_matrix

T = TypeVar("T")
DENSE = 3000
"""Examples up to which the whole matrix is taken apart."""


def one_thread(fn: Callable[..., T]) -> Callable[..., T]:
    """Runs fn with one thread of BLAS and OpenMP: sums come in one order, however many cores there are, and no thread waits for another on busy cores.

    It raises ImportError where scikit-learn is not installed.
    """

    @functools.wraps(fn)
    def alone(*args: Any, **options: Any) -> T:
        try:
            import sklearn  # noqa: F401
            from threadpoolctl import threadpool_limits
        except ImportError:
            raise ImportError(f"{fn.__name__} needs scikit-learn: pip install 'jxai[demo]'") from None
        with threadpool_limits(1):
            return fn(*args, **options)

    return alone


def default_neighbours(n: int) -> int:
    """The paper's "k ~ log n": `round(log n)`, 2 at least."""
    return max(2, round(float(np.log(n))))


def affinity(x: np.ndarray, num_neighbours: int | None = None) -> csr_matrix:
    """`(G + Gᵀ)/2`, `[n, n]`: `G_ij = 1` where j is one of the k nearest of i by Euclidean distance, i itself left out by its index.

    Args:
      x: `[n, D]`. num_neighbours: k, below n; None is `default_neighbours(n)`.

    Raises:
      ValueError: not more examples than neighbours.
    """
    n = len(x)
    k = default_neighbours(n) if num_neighbours is None else num_neighbours
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 1 <= k < n:
        if num_neighbours is None:
            few = "one example" if n == 1 else f"{n} examples"
            raise ValueError(f"features has {few}, too few for {k} neighbours each: give more" + (f", or num_neighbours below {n}" if n > 1 else ""))
        raise ValueError(f"{num_neighbours=} must be an integer in [1, {n}): each of {n} examples has {n - 1} others")
    from scipy.sparse import csr_matrix
    from sklearn.neighbors import NearestNeighbors

    x = x - x.mean(0)  # distances are found from squares: far from 0, or beyond 1e±150, these would drown or overflow
    x = x / (np.abs(x).max() or 1)
    graph = NearestNeighbors(n_neighbors=int(k), algorithm="brute").fit(x).kneighbors_graph(mode="connectivity")  # of no X: by index, duplicates or not
    return csr_matrix(graph + graph.T) / 2


def components(a: csr_matrix) -> np.ndarray:
    """`[n]`: the component of each node."""
    from scipy.sparse import csgraph

    return csgraph.connected_components(a, directed=False)[1]


def decomposed(a: csr_matrix, count: int, rng: np.random.Generator, *, vectors: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The least eigenvalues of `L_sym = I − D^{−1/2} A D^{−1/2}`, ascending, `[count]` in [0, 2], and their vectors `[n, count]` (`[n, 0]` where not asked for).

    As many are 0 as the graph has components. Above `DENSE` nodes their vectors, `D^{1/2} 1_C`, are taken as known, so that Lanczos'
    method, which may miss copies of an eigenvalue, need not find them.
    """
    from scipy import linalg
    from scipy.sparse import csgraph
    from scipy.sparse.linalg import LinearOperator, eigsh

    n = a.shape[0]
    laplacian, root = csgraph.laplacian(a, normed=True, return_diag=True)
    if n <= DENSE:
        options = dict(subset_by_index=[0, count - 1], driver="evr", check_finite=False, overwrite_a=True)
        if not vectors:
            return np.clip(linalg.eigvalsh(laplacian.toarray(), **options), 0, 2), np.empty((n, 0))
        values, found = linalg.eigh(laplacian.toarray(), **options)
        return np.clip(values, 0, 2), found
    part = components(a)
    known = np.zeros((n, part.max() + 1))
    known[np.arange(n), part] = root
    known /= np.linalg.norm(known, axis=0)
    zeros, more = known[:, :count], count - known.shape[1]
    if more <= 0:
        return np.zeros(count), zeros
    # 2 − L_sym has no eigenvalue below 0; without what is known, its largest are the least ones of L_sym that are left.
    rest = LinearOperator((n, n), matvec=lambda v: 2 * v - laplacian @ v - 2 * (known @ (known.T @ v)), dtype=np.float64)
    values, found = eigsh(rest, more, which="LA", v0=rng.normal(size=n), ncv=min(n - 1, max(4 * more, 40)))
    order = np.argsort(-values)
    return np.clip(np.concatenate([np.zeros(known.shape[1]), 2 - values[order]]), 0, 2), np.concatenate([known, found[:, order]], 1)
