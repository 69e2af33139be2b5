"""What the score does as features are taken away, or put back, in the order of their attribution.

How features are scored, ties are ordered, and what an attribution that is constant or not finite gives: see `jxai.metrics.removal`.
"""

from __future__ import annotations

import jax.numpy as jnp

from jxai.callables import plainly
from jxai.metrics.common import curve
from jxai.metrics.removal import parts, schedule, walk
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import Blur, FillLike, Mean, Uniform
from jxai.removal.masks import default_grid
from jxai.scores import SHARES, objective, one_of
from jxai.typing import Array, Curve, Model

__all__ = ["aopc", "deletion", "insertion", "irof", "selectivity"]


@plainly
def deletion(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    order: str = "most",
    steps: int | None = 32,
    max_fraction: float = 1.0,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Curve:
    """The score as features are deleted by relevance (pixel flipping): `y_k = s(x without the first n_k features)`, n_0 = 0.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`.
      attribution: of x's rank, broadcasts against x; signed. key: orders ties at random, draws a fill's noise.
      order: `"most"` relevant first (MoRF), `"least"` (LeRF), or `"random"`.
      steps: deletions, at most as many as there are features; None: one feature at a time (Bach et al. 2015).
      max_fraction: share of the features that is gone at the end, in [0, 1]; one at least.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default every position is a feature.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a removed position becomes. score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`.
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `Curve`: x the share of features deleted, y the score, `[steps + 1]`; auc the trapezoid area over the width of x.

    Raises:
      ValueError: attribution does not fit x, an unknown order or score, bad steps, segments or grid.

    Range: [0, 1] for probabilities.
    Direction: lower is better. (The reverse for order="least".)
    Cost: `steps + 1` forward passes.
    Reference: Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC.
    """
    s, of = objective(f, x, target, score), parts(x, segments, grid, num_segments)
    kept_by_fill("deletion", f, x, target, fill, key, score=score)
    counts = schedule(of, steps, max_fraction)
    y = walk(s, x, attribution, key, of, counts, order, fill=fill, chunk=chunk)
    return curve(counts / of.count, y)


@plainly
def insertion(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    order: str = "most",
    steps: int | None = 32,
    max_fraction: float = 1.0,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = Blur(5.0),
    score: str = "logit",
    chunk: int | None = None,
) -> Curve:
    """The score as features are put into an empty example by relevance: `y_k = s(the first n_k features of x alone)`, n_0 = 0.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`.
      attribution: of x's rank, broadcasts against x; signed. key: orders ties at random, draws a fill's noise.
      order: `"most"` relevant first, `"least"`, or `"random"`.
      steps: insertions, at most as many as there are features; None: one feature at a time.
      max_fraction: share of the features that is there at the end, in [0, 1]; one at least.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default every position is a feature.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a position is before it is inserted; by default the blurred image, which has no sharp edges (the paper's).
      score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `Curve`: x the share of features inserted, y the score, `[steps + 1]`; auc the trapezoid area over the width of x.

    Raises:
      ValueError: attribution does not fit x, an unknown order or score, bad steps, segments or grid.

    Range: [0, 1] for probabilities.
    Direction: higher is better. (The reverse for order="least".)
    Cost: `steps + 1` forward passes.
    Reference: Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC.
    """
    s, of = objective(f, x, target, score), parts(x, segments, grid, num_segments)
    kept_by_fill("insertion", f, x, target, fill, key, score=score)
    counts = schedule(of, steps, max_fraction)
    y = walk(s, x, attribution, key, of, counts, order, keep=True, fill=fill, chunk=chunk)
    return curve(counts / of.count, y)


@plainly
def aopc(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    order: str = "most",
    steps: int | None = None,
    max_fraction: float = 1.0,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = Uniform(),
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Area over the perturbation curve: `1/(L + 1) Σ_{k=0}^{L} (s(x) − s(x without the first n_k patches))`, n_0 = 0.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`.
      attribution: of x's rank, broadcasts against x; signed.
      key: draws the fill's noise, orders ties at random; needed for the default fill.
      order: `"most"` relevant first (MoRF), `"least"` (LeRF), or `"random"`, which the paper subtracts.
      steps: L, at most as many as there are patches; None: one patch at a time (the paper takes 100 of 9 × 9 pixels).
      max_fraction: share of the patches that is gone at the end, in [0, 1]; one at least.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default 8 (a vector: its entries).
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a removed position becomes; by default uniform noise in [0, 1) (the paper's). score: `"logit"`, `"probability"` or `"sigmoid"`.
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      A scalar: the mean drop; a constant attribution gives that of an arbitrary order.

    Raises:
      ValueError: attribution does not fit x, an unknown order or score, bad steps, segments or grid, or no key for the noise.

    Range: unbounded; [−1, 1] for probabilities.
    Direction: higher is better. (The reverse for order="least".)
    Cost: `steps + 1` forward passes.
    Reference: Samek et al. 2017, "Evaluating the Visualization of What a Deep Neural Network Has Learned", IEEE TNNLS.
    """
    s, of = objective(f, x, target, score), parts(x, segments, default_grid(x, segments, grid), num_segments)
    kept_by_fill("aopc", f, x, target, fill, key, score=score)
    counts = schedule(of, steps, max_fraction)
    y = walk(s, x, attribution, key, of, counts, order, fill=fill, chunk=chunk)
    # Fewer patches than labels: a step that removed none is not counted again.
    new = jnp.diff(jnp.asarray(counts), prepend=-1) > 0
    return y[0] - jnp.where(new, y, 0).sum() / new.sum()


@plainly
def selectivity(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Curve:
    """The score as patches are removed one at a time, the most relevant first: `y_k = s(x without its first k patches)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`.
      attribution: of x's rank, broadcasts against x; signed. key: orders ties at random, draws a fill's noise.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default 8 (a vector: its entries).
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a removed position becomes. score: `"logit"` (the paper's function value), `"probability"` or `"sigmoid"`.
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `Curve`: x the share of patches removed, y the score, `[patches + 1]`; auc the trapezoid area over the width of x.

    Raises:
      ValueError: attribution does not fit x, an unknown score, bad segments or grid.

    Range: that of the score.
    Direction: lower is better.
    Cost: one forward pass for x and one for every patch.
    Reference: Montavon et al. 2018, "Methods for Interpreting and Understanding Deep Neural Networks", Digital Signal Processing.
    """
    s, of = objective(f, x, target, score), parts(x, segments, default_grid(x, segments, grid), num_segments)
    kept_by_fill("selectivity", f, x, target, fill, key, score=score)
    counts = schedule(of, None)
    return curve(counts / of.count, walk(s, x, attribution, key, of, counts, fill=fill, chunk=chunk))


@plainly
def irof(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = Mean(),
    score: str = "probability",
    chunk: int | None = None,
) -> Array:
    """Iterative removal of features: the area over `s(x without its first k segments) / s(x)`, by mean attribution.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`.
      attribution: of x's rank, broadcasts against x; signed. key: orders ties at random, draws a fill's noise.
      segments: integer label map over the positions of x (the paper's are SLIC superpixels), or grid: cells along every
        axis; by default 8 (a vector: its entries).
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a removed position becomes; by default each channel's mean (the paper's).
      score: `"probability"` (the paper's) or `"sigmoid"`: a ratio of logits means nothing. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      A scalar, `1 − area / width`; 0 where the score never changes, NaN where s(x) is 0.

    Raises:
      ValueError: attribution does not fit x, an unknown score, bad segments or grid.

    Range: (−∞, 1] for probabilities, and [0, 1] where no removal raises the score.
    Direction: higher is better.
    Cost: one forward pass for x and one for every segment.
    Reference: Rieger and Hansen 2020, "IROF: A Low Resource Evaluation Metric for Explanation Methods", ICLR workshop.
    """
    s, of = objective(f, x, target, one_of("score", score, SHARES)), parts(x, segments, default_grid(x, segments, grid), num_segments)
    kept_by_fill("irof", f, x, target, fill, key, score=score)
    counts = schedule(of, None)
    y = walk(s, x, attribution, key, of, counts, fill=fill, chunk=chunk)
    return 1 - curve(counts / of.count, y / jnp.where(y[0] == 0, jnp.nan, y[0])).auc
