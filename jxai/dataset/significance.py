"""Whether clusters say anything: an eigengap against data that have none, and a cluster against chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jxai.dataset.features import rows
from jxai.dataset.graph import affinity, components, decomposed, one_thread
from jxai.dataset.spectral import GAPS, at_least_two, eigengaps
from jxai.scores import generator, one_of, positive
from jxai.typing import Array

__all__ = ["EigengapTest", "Enrichment", "eigengap_test", "enrichment"]

NULLS = ("gaussian", "columns")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class EigengapTest:
    """Made by `eigengap_test`.

    Attributes:
      p_value: in (0, 1]: `(1 + how many of the null's gaps are as large) / (1 + how many there are)`.
      gap: the largest eigengap of the data. clusters: int32, after how many eigenvalues it is. null: `[P]`, the largest eigengaps of data without clusters.
    """

    p_value: Array
    gap: Array
    clusters: Array
    null: Array


@one_thread
def eigengap_test(
    features: Array | Sequence[Array],
    *,
    key: Array | None = None,
    null: str = "gaussian",
    num_permutations: int = 99,
    num_neighbours: int | None = None,
    size: int | None = None,
    norm: str = "none",
    most: int = 10,
    gap: str = "relative",
) -> EigengapTest:
    """Asks whether the largest eigengap, `max_c (λ_{c+1} − λ_c) / λ_{c+1}` over 2 ≤ c ≤ most, is larger than that of data without clusters.

    Each time the graph is made anew, of as many examples: `"gaussian"` draws them from the normal distribution with the mean and the covariance of the data, so that
    only what is more than one cloud with the same axes counts (the null of SigClust); `"columns"` permutes every feature among the examples by itself, which keeps
    each feature's values and no dependence between features. Maps of pictures depend on each other in any data set, so that `"columns"`
    is nearly always refused and says that maps are maps. Of few examples with few neighbours one cloud falls apart by itself: then more neighbours say more. The largest gap is taken of the null, too: the choice of c is paid for.

    Args:
      features, num_neighbours, size, norm, most, gap: as for `spray`. key: for the null. null: `"gaussian"` or `"columns"`. num_permutations: P, how often; p is `1/(P + 1)` at the least.

    Raises:
      ValueError: as `spray`; an unknown null; fewer than 4 examples.

    Cost: P + 1 graphs and their spectra: 99 of 500 examples take 5 s.
    Reference: Liu, Hayes, Nobel & Marron 2008, "Statistical Significance of Clustering for High-Dimension, Low–Sample Size Data", JASA;
    Phipson & Smyth 2010, "Permutation P-values Should Never Be Zero".
    """
    one_of("null", null, NULLS)
    one_of("gap", gap, GAPS)
    positive(num_permutations=num_permutations)
    at_least_two(most)
    x, rng = rows(features, size=size, norm=norm), generator(key, "eigengap_test")
    if len(x) < 4:
        raise ValueError(f"features must have 4 examples or more to have a gap after two eigenvalues, got {len(x)}")
    largest = lambda v: _largest(v, num_neighbours, most, gap, rng)
    (clusters, found), draw = largest(x), _without_clusters(x, null)
    gaps = np.asarray([largest(draw(rng))[1] for _ in range(num_permutations)])
    p_value = (1 + (gaps >= found).sum()) / (1 + num_permutations)
    return EigengapTest(np.float32(p_value), np.float32(found), np.int32(clusters), gaps.astype(np.float32))


def _largest(x: np.ndarray, num_neighbours: int | None, most: int, gap: str, rng: np.random.Generator) -> tuple[int, float]:
    """After how many eigenvalues the largest eigengap is, and the gap."""
    graph = affinity(x, num_neighbours)
    most = min(len(x) - 2, max(most, int(components(graph).max()) + 1))
    gaps = eigengaps(decomposed(graph, most + 1, rng, vectors=False)[0], most, gap)
    return int(np.argmax(gaps)) + 2, float(gaps.max())


def _without_clusters(x: np.ndarray, null: str) -> Callable[[np.random.Generator], np.ndarray]:
    """Draws data as `null` says, of as many examples as x."""
    if null == "columns":
        return lambda rng: rng.permuted(x, axis=0)
    from scipy import linalg

    # Distances do not depend on where the principal axes lie: the deviations along them are enough.
    deviations = linalg.svdvals(x - x.mean(0), check_finite=False) / np.sqrt(len(x) - 1)
    return lambda rng: rng.normal(size=(len(x), len(deviations))) * deviations


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Enrichment:
    """Which cluster holds the marked examples; made by `enrichment`.

    Attributes:
      cluster: int32, the one where they are the least likely by chance. purity: the share of it that is marked. recall: the share of the marked that is in it.
      p_value: of so many marked ones in it by chance, times the number of clusters. purities, p_values: `[c]`, of every cluster, the latter as they are.
    """

    cluster: Array
    purity: Array
    recall: Array
    p_value: Array
    purities: Array
    p_values: Array


def enrichment(labels: Array, marked: Array) -> Enrichment:
    """Asks whether a cluster holds more of the marked examples (mistakes, a scanner, a tag) than chance.

    The hypergeometric tail (Fisher's exact test) of each cluster, the least times the number of clusters (Bonferroni): exact, since marks
    permuted among the examples have that distribution.

    Args:
      labels: `[n]`, the cluster of each example (`Spectrum.labels`). marked: `[n]` boolean.

    Raises:
      ValueError: no examples, marks of another number or kind; none, or all, of the examples are marked.
    """
    from scipy import stats

    labels, marked = np.asarray(labels), np.asarray(marked)
    if labels.ndim != 1 or not len(labels) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be [n] integers, got {labels.dtype} of shape {labels.shape}")
    if marked.shape != labels.shape or marked.dtype != bool:
        raise ValueError(f"marked must be [{len(labels)}] booleans, got {marked.dtype} of shape {marked.shape}")
    if marked.all() or not marked.any():
        raise ValueError(f"marked must hold for some of the examples and not for all, got {marked.sum()} of {len(marked)}")
    names, at, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    held = np.bincount(at, weights=marked).astype(int)
    p_values = stats.hypergeom.sf(held - 1, len(marked), int(marked.sum()), sizes)
    best = int(np.lexsort((-held / sizes, p_values))[0])
    least = min(1.0, float(p_values[best]) * len(names))
    return Enrichment(
        np.int32(names[best]),
        np.float32(held[best] / sizes[best]),
        np.float32(held[best] / marked.sum()),
        np.float64(least),
        np.float32(held / sizes),
        p_values,
    )
