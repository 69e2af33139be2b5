"""Removal that leaves no hole to see: what is removed is imputed from its neighbours."""

from __future__ import annotations

from jxai.callables import plainly
from jxai.metrics.common import curve
from jxai.metrics.removal import measure, parts, schedule, walk
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, Neighbours
from jxai.typing import Array, Curve, Model

__all__ = ["road"]


@plainly
def road(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    order: str = "most",
    steps: int | None = 9,
    max_fraction: float = 0.9,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = Neighbours(),
    score: str = "accuracy",
    chunk: int | None = None,
) -> Curve:
    """Remove and debias: whether f still answers target as positions are replaced by a noisy mean of their neighbours.

    `y_k = 1[argmax f(x without its first n_k positions) = target]`, so that the mean over a data set is the accuracy.

    Args:
      f: a model `x -> logits [K]`. x: an image `[H, W, C]` or a video (any example with another fill). target: a class.
      attribution: of x's rank, broadcasts against x; signed. key: draws the noise, orders ties at random.
      order: `"most"` relevant first (MoRF), `"least"` (LeRF), or `"random"`.
      steps, max_fraction: shares `max_fraction · k / steps` are removed; by default 0, 10, …, 90 %.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default every position is a feature.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a removed position becomes; the default solves for all of them at once (noisy-linear imputation).
      score: `"accuracy"`, `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `Curve`: x the share of positions removed, y the score, `[steps + 1]`; auc the trapezoid area over the width of x.

    Raises:
      ValueError: attribution does not fit x, no key, an unknown order or score, bad steps, segments or grid; `target=None` for the accuracy.

    Range: [0, 1] for accuracy and probability.
    Direction: lower is better. (The reverse for order="least".)
    Cost: `steps + 1` forward passes and as many imputations.
    Reference: Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods", ICML.
    """
    s, of = measure(f, x, target, score), parts(x, segments, grid, num_segments)
    kept_by_fill("road", f, x, target, fill, key, score=score)
    counts = schedule(of, steps, max_fraction)
    y = walk(s, x, attribution, key, of, counts, order, fill=fill, chunk=chunk)
    return curve(counts / of.count, y)
