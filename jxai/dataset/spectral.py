"""Spectral relevance analysis (SpRAy): clusters of explanations, by which a data set shows that a model decides for different reasons."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import jax
import numpy as np

from jxai.dataset.features import rows
from jxai.dataset.graph import affinity, components, decomposed, default_neighbours, one_thread
from jxai.scores import generator, one_of, positive
from jxai.typing import Array

__all__ = ["Spectrum", "spray"]

LAYOUTS = ("tsne", "umap", "none")
GAPS = ("relative", "absolute")
_NUMBER = 32
"""Eigenvalues that are kept, as corelay keeps them."""
_CANDIDATES = 3
_ZERO = 1e-9
"""An eigenvalue below is 0."""
_JUDGED = 3000
"""Examples of which silhouettes are taken."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Spectrum:
    """Clusters of n examples; made by `spray`.

    Attributes:
      eigenvalues: `[m]`, the least of L_sym, ascending, in [0, 2]; as many are 0 as the graph has components.
      embedding: `[n, d]`, the first eigenvectors as rows of length 1, in which the clusters were found; signs, and rotations among equal eigenvalues, mean nothing.
      labels: `[n]` int32, the cluster of each example; 0 is the largest one.
      layout: `[n, 2]`, places in a picture; None where none was asked for.
      candidates: `[c]` int32, the numbers of clusters that were compared. silhouettes: `[c]`, the mean silhouette in [−1, 1] of each in its own embedding; NaN for one cluster.
      num_neighbours: k of the graph.
    """

    eigenvalues: Array
    embedding: Array
    labels: Array
    layout: Array | None
    candidates: Array
    silhouettes: Array
    num_neighbours: int = dataclasses.field(metadata={"static": True})

    @property
    def gaps(self) -> np.ndarray:
        """`[m − 1]`: `λ_{c+1} − λ_c`; a large one after c eigenvalues speaks for c clusters."""
        return np.diff(self.eigenvalues)

    @property
    def num_clusters(self) -> int:
        """How many clusters there are."""
        return int(np.max(self.labels)) + 1

    @property
    def num_components(self) -> int:
        """How many parts the graph falls into: the eigenvalues that are 0."""
        return int((np.asarray(self.eigenvalues) < 1e-6).sum())


@one_thread
def spray(
    features: Array | Sequence[Array],
    *,
    num_neighbours: int | None = None,
    clusters: int | None = None,
    key: Array | None = None,
    size: int | None = None,
    norm: str = "none",
    most: int = 10,
    gap: str = "relative",
    layout: str = "tsne",
) -> Spectrum:
    """Clusters of explanations: spectral clustering of their graph of nearest neighbours.

    `A = (G + Gᵀ)/2`, `G_ij = 1` where j is one of the k nearest of i by Euclidean distance, i itself left out by its index (a duplicate of i may be one);
    `L_sym = I − D^{−1/2} A D^{−1/2}`; k-means of the first eigenvectors' rows, each divided by its length. The number of clusters c: of the three in
    `[2, most]` with the largest eigengaps `(λ_{c+1} − λ_c) / λ_{c+1}`, the one with the best mean silhouette. Clusters are found in whatever is given; whether
    there are any, `eigengap_test` asks.

    Args:
      features: `[n, …]`: maps of the examples of one class, or the relevance of each channel of a layer, a row for each example.
      num_neighbours: k, in `[1, n)`; None is `round(log n)`, 2 at least (the paper's "k ~ log n").
      clusters: how many, in `[1, n)`; None chooses.
      key: for k-means and the layout.
      size: makes maps `[H, W, …]` `size × size` first, by means over equal shares, as the paper does; then they may differ in height and width.
      norm: divides each row by the sum of its magnitudes (`"l1"`) or its length (`"l2"`), so that strong maps are not apart because they are strong; `"none"`.
      most: the largest number of clusters among which is chosen, 2 at least; or the number of the graph's components, where that is larger.
      gap: `"relative"`, as above, or `"absolute"`, `λ_{c+1} − λ_c`, which the paper looks at: the larger the eigenvalues, the larger it is by chance, and of few examples
        two clouds apart may not show.
      layout: `"tsne"` or `"umap"` (extra `umap`), of the rows of the first `most` eigenvectors (a third of n, where that is less); or `"none"`.

    Raises:
      ValueError: no key, unequal shapes, NaN, not more examples than neighbours, options out of range, arrays under a trace.
      ImportError: scikit-learn or umap-learn is not installed.

    Cost: `n² D` for the neighbours, `n³` for n ≤ 3000, above that sparse: with t-SNE 1000 maps of 32 × 32 take 5 s.
    Reference: Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and assessing what machines really learn", Nature Communications;
    Ng, Jordan & Weiss 2001, "On Spectral Clustering: Analysis and an Algorithm", NeurIPS; von Luxburg 2007, "A Tutorial on Spectral Clustering".
    """
    one_of("layout", layout, LAYOUTS)
    one_of("gap", gap, GAPS)
    at_least_two(most)
    x, rng = rows(features, size=size, norm=norm), generator(key, "spray")
    n = len(x)
    if clusters is not None and (isinstance(clusters, bool) or not isinstance(clusters, (int, np.integer)) or not 1 <= clusters < n):
        raise ValueError(f"{clusters=} must be an integer in [1, {n}), of {n} examples")
    graph = affinity(x, num_neighbours)
    parts = int(components(graph).max()) + 1
    most = min(n - 1, max(most, parts, clusters or 0))
    values, vectors = decomposed(graph, min(n, max(_NUMBER, most + 1)), rng)
    candidates = likely(values, most, gap) if clusters is None else [int(clusters)]
    found = [_clustered(vectors[:, : max(c, parts)], c, rng) for c in candidates]
    silhouettes = np.asarray([silhouette for *_, silhouette in found], np.float32)
    embedding, labels, _ = found[int(np.argmax(np.nan_to_num(silhouettes, nan=-1)))]
    return Spectrum(
        eigenvalues=values.astype(np.float32),
        embedding=embedding.astype(np.float32),
        labels=labels,
        layout=None if layout == "none" else laid_out(_of_length_one(vectors[:, : max(2, parts, min(most, n // 3))]), layout, rng),
        candidates=np.asarray(candidates, np.int32),
        silhouettes=silhouettes,
        num_neighbours=default_neighbours(n) if num_neighbours is None else int(num_neighbours),
    )


def at_least_two(most: int) -> None:
    """ValueError unless the largest number of clusters is 2 or more."""
    positive(most=most)
    if most < 2:
        raise ValueError(f"{most=} must be 2 or more: one cluster is no choice")


def eigengaps(values: np.ndarray, most: int, gap: str) -> np.ndarray:
    """`[most − 1]`: the eigengaps after 2, 3 … `most` of the ascending eigenvalues, of the kind that `gap` names; empty where there is no room for two clusters."""
    gaps = np.diff(values)[1:most]
    return gaps if gap == "absolute" else gaps / np.maximum(values[2 : most + 1], _ZERO)


def likely(values: np.ndarray, most: int, gap: str) -> list[int]:
    """The numbers of clusters in `[2, most]` with the largest eigengaps, the largest first; `[1]` where there is no room for two."""
    return [int(c) + 2 for c in np.argsort(-eigengaps(values, most, gap), kind="stable")[:_CANDIDATES]] or [1]


def _clustered(vectors: np.ndarray, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """The embedding, the labels and the mean silhouette of so many clusters."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.metrics import silhouette_score

    embedding = _of_length_one(vectors)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: then there are fewer
        found = KMeans(count, n_init=10, random_state=int(rng.integers(2**31))).fit_predict(embedding)
    names, sizes = np.unique(found, return_counts=True)
    labels = np.empty(names.max() + 1, np.int32)
    labels[names[np.argsort(-sizes, kind="stable")]] = np.arange(len(names))
    labels = labels[found]
    if not 2 <= len(names) < len(labels):
        return embedding, labels, np.nan
    some = rng.permutation(len(labels))[:_JUDGED]
    several = 2 <= len(np.unique(labels[some])) < len(some)
    return embedding, labels, float(silhouette_score(embedding[some], labels[some])) if several else np.nan


def _of_length_one(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 1e-12, length, 1)


def laid_out(x: np.ndarray, layout: str, rng: np.random.Generator) -> np.ndarray:
    """Rows as places in a picture, `[n, 2]`."""
    seed = int(rng.integers(2**31))
    if layout == "tsne":
        from sklearn.manifold import TSNE

        return np.asarray(TSNE(perplexity=min(30.0, (len(x) - 1) / 3), random_state=seed).fit_transform(x.astype(np.float32)), np.float32)
    try:
        import umap
    except ImportError:
        raise ImportError(f"{layout=} needs umap-learn: pip install 'jxai[umap]'") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a seed makes it run on one core
        return np.asarray(umap.UMAP(n_neighbors=min(15, len(x) - 1), random_state=seed).fit_transform(x.astype(np.float32)), np.float32)
