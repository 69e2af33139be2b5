"""Does a map vouch for its label, and only for a label that the model believes? The intrinsic pair of Gupta et al.

How features are scored, ties are ordered, and what an attribution that is constant or not finite gives: see `jxai.metrics.removal`.
"""

from __future__ import annotations

import jax.numpy as jnp

from jxai.callables import plainly
from jxai.metrics.curves import insertion
from jxai.removal.fills import FillLike, Mean
from jxai.scores import SHARES, one_of
from jxai.typing import Array, Model

__all__ = ["completeness_score", "soundness_score"]


@plainly
def completeness_score(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    alpha: float | Array = 1.0,
    eps: float | Array = 0.01,
    steps: int | None = 28,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = Mean(),
    score: str = "probability",
    chunk: int | None = None,
) -> Array:
    """How much of the label's probability its map recovers: `min(max(ε, q) / min(α, p), 1)`, p = p(x), q the insertion area.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: the label, the predicted one as a rule, or `None`.
      attribution: of x's rank, broadcasts against x; signed; made for this label. key: orders ties at random, draws a fill's noise.
      alpha: probability that is enough, > 0. eps: smallest q that counts, ≥ 0 (the authors' function; their script takes 0.1).
      steps: insertions (the authors insert 8 rows of 224 at a time: 28), at most as many as there are features.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default every position is a feature.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a position is before it is inserted; by default each channel's mean.
      score: p, `"probability"` (the paper's) or `"sigmoid"`: a ratio of logits means nothing. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      A scalar.

    Raises:
      ValueError: attribution does not fit x, an unknown score, bad steps, segments or grid.

    Range: [0, 1].
    Direction: higher is better.
    Cost: `steps + 1` forward passes.
    Reference: Gupta et al. 2022, "New Definitions and Evaluations for Saliency Methods: Staying Intrinsic, Complete and Sound", NeurIPS.
    """
    options = dict(steps=steps, segments=segments, grid=grid, num_segments=num_segments, fill=fill, score=one_of("score", score, SHARES), chunk=chunk)
    _, y, q = insertion(f, x, target, attribution, key, **options)
    return jnp.minimum(jnp.maximum(eps, q) / jnp.minimum(alpha, y[-1]), 1)


@plainly
def soundness_score(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    beta: float | Array = 0.1,
    steps: int | None = 28,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = Mean(),
    score: str = "probability",
    chunk: int | None = None,
) -> Array:
    """Whether a map makes its label no more probable than x does: `min(max(β, p) / q, 1)`, p = p(x), q the insertion area.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank.
      target: the label that the attribution was made for; the authors take the mean or the worst over all but the predicted one.
      attribution: of x's rank, broadcasts against x; signed; made for this label. key: orders ties at random, draws a fill's noise.
      beta: probability that is no claim yet, ≥ 0.
      steps: insertions (the authors insert 8 rows of 224 at a time: 28), at most as many as there are features.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default every position is a feature.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a position is before it is inserted; by default each channel's mean.
      score: p, `"probability"` (the paper's) or `"sigmoid"`: a ratio of logits means nothing. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      A scalar; 1 where q is 0.

    Raises:
      ValueError: attribution does not fit x, an unknown score, bad steps, segments or grid.

    Range: [0, 1].
    Direction: higher is better.
    Cost: `steps + 1` forward passes.
    Reference: Gupta et al. 2022, "New Definitions and Evaluations for Saliency Methods: Staying Intrinsic, Complete and Sound", NeurIPS.
    """
    options = dict(steps=steps, segments=segments, grid=grid, num_segments=num_segments, fill=fill, score=one_of("score", score, SHARES), chunk=chunk)
    _, y, q = insertion(f, x, target, attribution, key, **options)
    return jnp.where(q == 0, 1.0, jnp.minimum(jnp.maximum(beta, y[-1]) / jnp.where(q == 0, 1, q), 1))
