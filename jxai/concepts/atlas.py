"""An atlas of channels: which belong together, and to which classes, from how relevant each is for each class."""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from jxai.callables import plainly
from jxai.dataset.graph import one_thread
from jxai.dataset.spectral import generator, laid_out
from jxai.scores import one_of, positive
from jxai.typing import Array

__all__ = ["Atlas", "ClassRanking", "atlas", "class_ranking"]

LAYOUTS = ("tsne", "umap")


class Atlas(NamedTuple):
    """Where the C channels of a layer lie."""

    place: np.ndarray
    """`[C, 2]`: near to each other where channels serve the same classes; axes and distances between groups mean nothing; NaN for a channel that serves none."""
    similarity: np.ndarray
    """`[C, C]`: the cosine of the angle between two channels' relevances over classes, in [−1, 1]; 0 for a channel that serves none."""


class ClassRanking(NamedTuple):
    """The classes that each of C channels serves most."""

    classes: np.ndarray
    """`[C, count]`: the most first; −1 where there are no more classes."""
    value: np.ndarray
    """`[C, count]`: their means; NaN there."""


@plainly
@one_thread
def atlas(means: Array, key: Array | None = None, *, layout: str = "tsne") -> Atlas:
    """Places channels in a plane by the classes that they serve: those with similar relevances over classes, by their cosine, lie together.

    Args:
      means: `[C, K]`: the mean relevance of each channel over the examples of each class (`class_means` of a run); NaN in classes without examples, which say nothing.
      key: of the layout. layout: `"tsne"` (scikit-learn), or `"umap"` (extra `umap`), which Achtibat et al. use.

    Raises:
      ValueError: no key, fewer than 3 channels or no class, NaN in a class that has other numbers, an unknown layout, arrays under a trace.
      ImportError: scikit-learn or umap-learn is not installed.

    Reference: Achtibat et al. 2023, "From attribution maps to human-understandable explanations through Concept Relevance Propagation", Nature Machine Intelligence.
    """
    one_of("layout", layout, LAYOUTS)
    values = _known(means)[0]
    length = np.linalg.norm(values, axis=1, keepdims=True)
    there = length[:, 0] > 0
    if there.sum() < 3:
        raise ValueError(f"means must hold 3 channels at least that serve a class, got {there.sum()} of {len(values)}")
    directions = values / np.where(length > 0, length, 1)
    place = np.full((len(values), 2), np.nan, np.float32)
    # Of vectors of length 1 the squared distance is 2 − 2 cos: nearest neighbours are the same.
    place[there] = laid_out(directions[there], layout, generator(key, "atlas"))
    return Atlas(place, np.clip(directions @ directions.T, -1, 1).astype(np.float32))


@plainly
def class_ranking(means: Array, count: int = 5) -> ClassRanking:
    """The classes of largest mean of each channel.

    Args:
      means: `[C, K]`, as for `atlas`; `class_means(run, top=10)`, means over the 10 largest values of each class, is what Achtibat et al. rank by.
      count: how many.

    Raises:
      ValueError: no such array, NaN in a class that has other numbers, arrays under a trace.
    """
    positive(count=count)
    values, there = _known(means)
    order = np.argsort(-values, 1, kind="stable")[:, :count]
    classes, value = np.full((len(values), count), -1, np.int32), np.full((len(values), count), np.nan, np.float32)
    classes[:, : order.shape[1]] = np.flatnonzero(there)[order]
    value[:, : order.shape[1]] = np.take_along_axis(values, order, 1)
    return ClassRanking(classes, value)


def _known(means: Array) -> tuple[np.ndarray, np.ndarray]:
    """The columns of classes that have examples, in float64, and which those are."""
    if isinstance(means, jax.core.Tracer):
        raise ValueError("means are traced, but an atlas is made on the host: call it outside of jit, vmap and grad")
    values = np.asarray(means)
    if values.ndim != 2 or 0 in values.shape or values.dtype.kind not in "fiu":
        raise ValueError(f"means must be real [C, K], a mean for each channel and class, got {values.dtype} of shape {values.shape}")
    there = ~np.isnan(values).all(0)
    if not there.any():
        raise ValueError("means must have a class with examples, but all are NaN")
    wrong = np.argwhere(~np.isfinite(values) & there)
    if len(wrong):
        raise ValueError(
            f"means must be finite but for classes without examples, got {values[tuple(wrong[0])]} for channel {wrong[0][0]} and class {wrong[0][1]}"
        )
    return values[:, there].astype(np.float64), there
