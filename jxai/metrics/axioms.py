"""Properties that an attribution should have: completeness, monotonicity, and no attribution where there is no influence."""

from __future__ import annotations

import math

import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.metrics.additive import Terms, judged, terms
from jxai.metrics.common import nan_unless_finite, shared_out
from jxai.metrics.removal import parts, schedule, walk
from jxai.metrics.statistics import CORRELATIONS, correlate
from jxai.removal import fills
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, remover
from jxai.scores import objective, one_of, positive, within
from jxai.typing import Array, Model, Scalar

__all__ = ["completeness_error", "monotonicity", "monotonicity_correlation", "non_sensitivity"]


@plainly
def completeness_error(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    baseline: FillLike = 0.0,
    relative: bool = False,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    score: str = "logit",
) -> Array:
    """What the attributions lack to the change of the score from the baseline b: `|Σ_p a_p − (s(x) − s(b))|`.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x.
      key: for a baseline that draws noise. baseline: what the attribution measures from, as in path methods.
      relative: divided by `|s(x) − s(b)|`; 0 where both are 0, ∞ where only that is.
      segments, grid, num_segments: the groups that the map is by, as of the method that made it (LIME, kernel SHAP, feature ablation …): such a
        map holds a group's value at each of its positions, and it counts once. By default the map is by entries.
      score: `"logit"`, `"probability"` or `"sigmoid"`: what the attribution explained.

    Returns:
      float32; of a constant map as of any other. NaN where the map is not finite.

    Raises:
      ValueError: a bad option or attribution.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: 2 forward passes.
    Reference: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", ICML.
    """
    s = objective(f, x, target, score)
    kept_by_fill("completeness_error", f, x, target, baseline, key, "baseline", score=score)
    total = shared_out(attribution, x, segments, grid, num_segments).sum()
    start = fills.baseline(baseline, x, key)
    change = loops.stack(lambda i: s(jnp.where(i == 0, x, start)), 2, 2)
    change = change[0] - change[1]
    error = jnp.abs(total - change)
    if relative:
        error = jnp.where(error == 0, 0.0, error / jnp.abs(change))
    return nan_unless_finite(error, attribution)


@plainly
def monotonicity(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    steps: int | None = None,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """The share of steps that do not lower the score, when features join the fill in increasing order of attribution.

    `1/n #{k : s(S_k) ≥ s(S_{k−1})}`, S_k being the fill with x in the k features of lowest attribution; 1 is AIX360's True. An additive
    score rises with every feature of positive contribution, in whatever order.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x.
      key: decides between equal attributions (without it, their position does), and for a fill that draws noise.
      steps: features join in so many equal groups; None: one by one.
      segments, grid, num_segments: a label map or a regular grid of features instead of the positions, of which a large image has many.
      fill: where the walk starts. score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      float32; what lowers the score by no more than rounding (10⁻⁶ of the largest score) does not lower it. A constant map's
      order is that of ties. NaN where the map is not finite.

    Raises:
      ValueError: a bad option or attribution.

    Range: [0, 1].
    Direction: higher is better.
    Cost: 1 + min(steps, d) forward passes for d features (all positions by default).
    Reference: Luss et al. 2021, "Leveraging Latent Features for Local Explanations", KDD.
    """
    s = objective(f, x, target, score)
    kept_by_fill("monotonicity", f, x, target, fill, key, score=score)
    of = parts(x, segments, grid, num_segments)
    counts = schedule(of, steps)
    y = walk(s, x, attribution, key, of, counts, "least", True, fill, chunk)
    # Labels without positions leave steps in which nothing joins.
    joins = jnp.diff(jnp.asarray(counts)) > 0
    kept = (y[1:] >= y[:-1] - 1e-6 * jnp.abs(y).max()) & joins
    return jnp.where(jnp.isnan(y).any(), jnp.nan, kept.sum() / joins.sum())


@plainly
def non_sensitivity(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    eps: float | Array = 1e-5,
    relative: bool = False,
    num_samples: int = 10,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    pooling: str = "sum",
    fill: FillLike = fills.Uniform(),
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """How many features have attribution but no influence, or influence but no attribution: `#{i : (|a_i| < ε) ≠ (v_i < ε)}`.

    The influence is `v_i = E_u[(s(x) − s(x with feature i at u))²]`: 0 just where s does not respond to the feature.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x.
      key: for a fill that draws noise, as the default does.
      eps: below it, an attribution (summed over the feature's positions and channels) and an influence count as none.
      relative: the share of features instead of their number. num_samples: draws of u for every feature; a fill that draws nothing needs one.
      segments, grid, num_segments: a label map or a regular grid of features instead of the positions, of which a large image has many.
      pooling: a feature's attribution is the `"sum"` over its positions, or, of a map by these very features, their `"mean"`.
      fill: where u comes from. score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      float32; for the constant map 0 the number of features that have influence. NaN where the map is not finite.

    Raises:
      ValueError: no key for a fill that draws noise, or a bad option or attribution.

    Range: [0, d] for d features; relative: [0, 1].
    Direction: lower is better.
    Cost: 1 + d · num_samples forward passes for d features (all positions by default); 1 + d where the fill draws nothing.
    Reference: Nguyen and Rodríguez Martínez 2020, "On quantitative aspects of model interpretability", arXiv 2007.07584.
    """
    s = objective(f, x, target, score)
    kept_by_fill("non_sensitivity", f, x, target, fill, key, score=score)
    within(0.0, math.inf, eps=eps)
    chosen = terms(x, attribution, segments, grid, num_segments, pooling)
    influence = _influences(s, x, chosen, num_samples, fill, key, chunk)
    differ = ((jnp.abs(chosen.totals) < eps) != (influence < eps)) & (chosen.index >= 0)
    # A score that is NaN differs from nothing: it must not pass for a number.
    count = differ.sum() + 0 * influence.sum()
    return nan_unless_finite(count / chosen.num if relative else count, attribution)


@plainly
def monotonicity_correlation(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    num_samples: int = 10,
    correlation: str = "spearman",
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    pooling: str = "sum",
    fill: FillLike = fills.Uniform(),
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Rank correlation of the features' magnitudes `|a_i|` and their influence `E_u[(s(x) − s(x with feature i at u))²]`.

    (The paper divides the influence by s(x)², one number for all features, which no correlation sees.)

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x.
      key: for a fill that draws noise, as the default does.
      num_samples: draws of u for every feature; a fill that draws nothing needs one.
      correlation: `"spearman"` (the paper's) or `"pearson"`.
      segments, grid, num_segments: a label map or a regular grid of features instead of the positions, of which a large image has many.
      pooling: a feature's attribution is the `"sum"` over its positions, or, of a map by these very features, their `"mean"`.
      fill: where u comes from. score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      float32; 0 where either side is constant. NaN where the map is not finite.

    Raises:
      ValueError: no key for a fill that draws noise, or a bad option or attribution.

    Range: [−1, 1].
    Direction: higher is better.
    Cost: 1 + d · num_samples forward passes for d features (all positions by default); 1 + d where the fill draws nothing.
    Reference: Nguyen and Rodríguez Martínez 2020, "On quantitative aspects of model interpretability", arXiv 2007.07584.
    """
    s = objective(f, x, target, score)
    kept_by_fill("monotonicity_correlation", f, x, target, fill, key, score=score)
    one_of("correlation", correlation, CORRELATIONS)
    chosen = terms(x, attribution, segments, grid, num_segments, pooling)
    influence = _influences(s, x, chosen, num_samples, fill, key, chunk)
    return judged(correlate(correlation, jnp.abs(chosen.totals), influence, chosen.index >= 0), attribution, x)


def _influences(s: Scalar, x: Array, chosen: Terms, num_samples: int, fill: FillLike, key: Array | None, chunk: int | None) -> Array:
    """`E_u[(s(x) − s(x with feature i at u))²]` for every feature, `[d]`."""
    positive(num_samples=num_samples)
    d, draws = chosen.totals.size, num_samples if getattr(fill, "per_mask", False) else 1
    removed = remover(x, fill, key)
    # Pass d · draws removes nothing: x itself runs in the same body, so that f is compiled once.
    scores = loops.stack(lambda i: s(removed(chosen.but(i // draws), i)), d * draws + 1, loops.at_once(x, chunk))
    return ((scores[-1] - scores[:-1].reshape(d, draws)) ** 2).mean(1)
