"""Faithfulness by subsets: does the sum of the attributions of what is removed go along with the drop of the score?

A feature's attribution here is the SUM over its positions and their channels, because that is what an additive attribution says of its
removal. Correlations are 0 where the score does not change or the map is constant; a map that is not finite gives NaN. A label without
positions is no feature: it is neither drawn nor counted.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.kernels.order import order_keys
from jxai.metrics.additive import Terms, judged, size_of, sizes_of, terms
from jxai.metrics.common import curve
from jxai.metrics.draws import subsets as draw_subsets
from jxai.metrics.statistics import CORRELATIONS, correlate
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, remover
from jxai.removal.masks import positions
from jxai.scores import need_key, objective, one_of, positive
from jxai.typing import Array, Curve, Model, Scalar

__all__ = ["faithfulness_correlation", "faithfulness_estimate", "mu_fidelity", "sensitivity_n"]

DRAWS = ("exact", "bernoulli")
SUBSETS = ("random", "ranked")


@plainly
def mu_fidelity(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    grid: int | tuple[int, ...] | None = None,
    segments: Array | None = None,
    num_segments: int | None = None,
    pooling: str = "sum",
    subset_size: int | float = 0.2,
    subsets: str = "exact",
    num_samples: int = 200,
    correlation: str = "spearman",
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Correlation over random sets S of grid cells of the attribution in S and the drop: `ρ_S(Σ_{i∈S} a_i, s(x) − s(x without S))`.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x. key: needed.
      grid: cells along every position axis; by default 9 (or the axis's length), of a vector its entries. segments, num_segments: a
        label map instead of the grid.
      subset_size: features in S, a number or a share in (0, 1] of them. subsets: `"exact"`: exactly so many, as Bhatt et al.;
        `"bernoulli"`: each feature with that probability, as Xplique's MuFidelity does.
      num_samples: sets. correlation: `"spearman"` (Xplique) or `"pearson"` (Bhatt et al.).
      pooling: a feature's attribution is the `"sum"` over its positions, or, of a map by these very features, their `"mean"`.
      fill: what a removed position becomes. score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      float32; 0 where either side is constant.

    Raises:
      ValueError: no key, or a bad option or attribution.

    Range: [−1, 1].
    Direction: higher is better.
    Cost: num_samples forward passes.
    Reference: Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI.
    """
    s = objective(f, x, target, score)
    kept_by_fill("mu_fidelity", f, x, target, fill, key, score=score)
    if segments is None and grid is None and x.ndim > 1:
        grid = tuple(min(9, size) for size in positions(x))
    one_of("subsets", subsets, DRAWS)
    chosen = terms(x, attribution, segments, grid, num_segments, pooling)
    return _correlation(s, x, attribution, key, chosen, subset_size, subsets, num_samples, correlation, fill, chunk)


@plainly
def faithfulness_correlation(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    subset_size: int | float = 0.2,
    num_samples: int = 100,
    correlation: str = "pearson",
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    pooling: str = "sum",
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Correlation over random sets S of positions of the attribution in S and the drop: `corr_S(Σ_{i∈S} a_i, s(x) − s(x without S))`.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x. key: needed.
      subset_size: features in S, a number (Quantus: 224) or a share in (0, 1] of them. num_samples: sets S.
      correlation: `"pearson"` (the paper's) or `"spearman"`.
      segments, grid, num_segments: a label map or a regular grid of features instead of the positions.
      pooling: a feature's attribution is the `"sum"` over its positions, or, of a map by these very features, their `"mean"`.
      fill: what a removed position becomes. score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      float32; 0 where either side is constant.

    Raises:
      ValueError: no key, or a bad option or attribution.

    Range: [−1, 1].
    Direction: higher is better.
    Cost: num_samples forward passes.
    Reference: Bhatt et al. 2020, "Evaluating and Aggregating Feature-based Model Explanations", IJCAI.
    """
    s = objective(f, x, target, score)
    kept_by_fill("faithfulness_correlation", f, x, target, fill, key, score=score)
    chosen = terms(x, attribution, segments, grid, num_segments, pooling)
    return _correlation(s, x, attribution, key, chosen, subset_size, "exact", num_samples, correlation, fill, chunk)


@plainly
def faithfulness_estimate(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    correlation: str = "pearson",
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    pooling: str = "sum",
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Correlation over the features of their attribution and the drop where each is removed alone: `corr_i(a_i, s(x) − s(x without i))`.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x.
      key: for a fill that draws noise. correlation: `"pearson"` (the paper's) or `"spearman"`.
      segments, grid, num_segments: a label map or a regular grid of features instead of the positions, of which a large image has many.
      pooling: a feature's attribution is the `"sum"` over its positions, or, of a map by these very features, their `"mean"`.
      fill: what a removed position becomes. score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. chunk: passes at once (None:
        `jxai.loops.at_once`).

    Returns:
      float32; 0 where either side is constant, as with a single feature.

    Raises:
      ValueError: a bad option or attribution.

    Range: [−1, 1].
    Direction: higher is better.
    Cost: d forward passes for d features, which are all H · W positions of an image by default.
    Reference: Alvarez-Melis and Jaakkola 2018, "Towards Robust Interpretability with Self-Explaining Neural Networks", NeurIPS.
    """
    s = objective(f, x, target, score)
    kept_by_fill("faithfulness_estimate", f, x, target, fill, key, score=score)
    one_of("correlation", correlation, CORRELATIONS)
    chosen = terms(x, attribution, segments, grid, num_segments, pooling)
    removed = remover(x, fill, key)
    left = loops.stack(lambda i: s(removed(chosen.but(i), i)), chosen.totals.size, loops.at_once(x, chunk))
    return judged(correlate(correlation, chosen.totals, -left, chosen.index >= 0), attribution, x)


@plainly
def sensitivity_n(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    sizes: int | tuple[int | float, ...] = 10,
    subsets: str = "random",
    num_samples: int = 100,
    correlation: str = "pearson",
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    pooling: str = "sum",
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Curve:
    """For every size n, the correlation over sets S of n features of `Σ_{i∈S} a_i` and the whole drop `s(x) − s(x without S)`.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x.
      key: needed, but for ranked subsets (where it decides between equal attributions).
      sizes: ascending n, as numbers or shares in (0, 1] of the features; an integer: so many, geometric from 1 to 80 % of the features.
      subsets: `"random"`: `num_samples` sets of every size (the paper's); `"ranked"`: the nested sets of the n highest attributions, as
        Quantus's SensitivityN removes them; the value at n is the correlation over all sets up to n and the empty one. (Quantus correlates
        over images, and the attribution of one step alone with the drop of all steps.)
      num_samples: sets of every size. correlation: `"pearson"` (the paper's) or `"spearman"`.
      segments, grid, num_segments: a label map or a regular grid of features instead of the positions.
      pooling: a feature's attribution is the `"sum"` over its positions, or, of a map by these very features, their `"mean"`.
      fill: what a removed position becomes. score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`. chunk: passes at once.

    Returns:
      A curve over the share of features that are removed, n / N, whose `auc` is the plain mean over the sizes.

    Raises:
      ValueError: no key, or a bad option or attribution.

    Range: [−1, 1].
    Direction: higher is better.
    Cost: len(sizes) · num_samples forward passes; ranked: len(sizes) + 1.
    Reference: Ancona et al. 2018, "Towards better understanding of gradient-based attribution methods for Deep Neural Networks", ICLR.
    """
    s = objective(f, x, target, score)
    kept_by_fill("sensitivity_n", f, x, target, fill, key, score=score)
    one_of("subsets", subsets, SUBSETS)
    one_of("correlation", correlation, CORRELATIONS)
    positive(num_samples=num_samples)
    chosen = terms(x, attribution, segments, grid, num_segments, pooling)
    n = sizes_of(sizes, chosen)
    keyless = key is None and subsets == "ranked"
    first, fill_key = (None, None) if keyless else jax.random.split(need_key(key, "sensitivity_n"))
    if subsets == "random":
        drawn = draw_subsets(first, chosen.index, chosen.num)
        total, left = _measure(s, x, chosen, lambda i: drawn(i, n[i // num_samples]), n.size * num_samples, fill, fill_key, chunk)
        y = jax.vmap(lambda a, b: correlate(correlation, a, -b))(total.reshape(n.size, -1), left.reshape(n.size, -1))
    else:
        place, n0 = _places(chosen, first), jnp.append(0, n)
        total, left = _measure(s, x, chosen, lambda i: place < n0[i], n0.size, fill, fill_key, chunk)
        y = jax.vmap(lambda last: correlate(correlation, total, -left, n0 <= last))(n)
    y = judged(y, attribution, x)
    # Labels without positions leave fewer sizes than places for them; the last one is repeated.
    new = jnp.diff(n, prepend=0) > 0
    return curve(n / chosen.num, y)._replace(auc=jnp.where(new, y, 0).sum() / new.sum())


def _measure(s: Scalar, x: Array, chosen: Terms, inside: Callable[[Array], Array], n: int, fill: FillLike, key: Array | None, chunk):
    """`Σ_{i∈S} a_i` and `s(x without S)` of the sets S = inside(0), …, inside(n−1); −s is the drop but for a constant: no s(x)."""
    removed = remover(x, fill, key)

    def one(i: Array) -> tuple[Array, Array]:
        gone = inside(i) & (chosen.index >= 0)
        return jnp.where(gone, chosen.totals, 0).sum(), s(removed(chosen.without(gone), i))

    return loops.stack(one, n, loops.at_once(x, chunk))


def _correlation(s, x, attribution, key, chosen: Terms, subset_size, draw, num_samples, correlation, fill, chunk) -> Array:
    one_of("correlation", correlation, CORRELATIONS)
    positive(num_samples=num_samples)
    size = size_of("subset_size", subset_size, chosen)
    draw_key, fill_key = jax.random.split(need_key(key, "a metric over random subsets"))
    drawn = draw_subsets(draw_key, chosen.index, chosen.num)
    share = subset_size if isinstance(subset_size, float) else size / chosen.num

    def inside(i: Array) -> Array:
        if draw == "exact":
            return drawn(i, size)
        return jax.random.bernoulli(jax.random.fold_in(draw_key, i), share, chosen.index.shape)

    total, left = _measure(s, x, chosen, inside, num_samples, fill, fill_key, chunk)
    return judged(correlate(correlation, total, -left), attribution, x)


def _places(chosen: Terms, key: Array | None) -> Array:
    """Each feature's place in the order of falling attribution, from 0; equal ones at random, or by number without a key."""
    d = chosen.totals.size
    last = jnp.where(chosen.index >= 0, -chosen.totals, jnp.inf)
    tie = jnp.arange(d) if key is None else jax.random.bits(key, (d,))
    return jnp.zeros(d, jnp.int32).at[jnp.lexsort((tie, order_keys(last)))].set(jnp.arange(d, dtype=jnp.int32))
