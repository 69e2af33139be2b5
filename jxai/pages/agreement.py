"""How far methods disagree on one example."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

DISAGREEMENT = (
    "Disagreement of an example: 1 − the mean over all pairs of methods of Spearman's correlation of their maps (channels summed): 0 where all order the positions alike, "
    "1 where their orders have nothing to do with each other."
)


def disagreement(maps: Sequence[np.ndarray]) -> float | None:
    """1 − the mean pairwise Spearman correlation of maps of one example, channels summed; 0 correlation with a constant map. None of fewer than two, or where one is not finite."""
    from scipy import stats

    if len(maps) < 2 or not all(np.isfinite(a).all() for a in maps):
        return None
    planes = [np.asarray(a, np.float64).sum(-1) if np.ndim(a) > 1 else np.asarray(a, np.float64) for a in maps]
    shape = np.broadcast_shapes(*(a.shape for a in planes))
    ranks = stats.rankdata(np.stack([np.broadcast_to(a, shape).ravel() for a in planes]), axis=1)
    ranks -= ranks.mean(1, keepdims=True)
    products = np.einsum("ip,jp->ij", ranks, ranks)  # not by BLAS, whose threads cost more than they bring
    length = np.sqrt(products.diagonal())
    pairs = [float(products[i, j] / (length[i] * length[j])) if length[i] and length[j] else 0.0 for i, j in itertools.combinations(range(len(maps)), 2)]
    return 1 - float(np.mean(pairs))
