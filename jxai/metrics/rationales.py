"""Is what the attribution points at needed, and is it enough? Drops of the score for parts of x.

How features are scored, ties are ordered, and what an attribution that is constant or not finite gives: see `jxai.metrics.removal`.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from jxai.callables import plainly
from jxai.metrics.common import by_position, nan_unless_finite
from jxai.metrics.removal import Parts, parts, walk
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, mixer
from jxai.removal.masks import position_shape
from jxai.scores import SHARES, objective, one_of, within
from jxai.typing import Array, Model

__all__ = ["average_drop", "average_gain", "average_increase", "comprehensiveness", "sufficiency"]

_FRACTIONS = (0.01, 0.05, 0.1, 0.2, 0.5)


@plainly
def comprehensiveness(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    fractions: Sequence[float] = _FRACTIONS,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """How much the score drops without the most relevant features: the mean over fractions q of `s(x) − s(x without its top q)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`.
      attribution: of x's rank, broadcasts against x; signed. key: orders ties at random, draws a fill's noise.
      fractions: shares of the features, ascending, in (0, 1]; rounded up to whole features. One alone is the plain score.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default every position is a feature.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a removed position becomes (the paper deletes tokens). score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`.
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      A scalar (the authors' code: the mean over the fractions, without the paper's zero term for q = 0).

    Raises:
      ValueError: attribution does not fit x, fractions that do not ascend in (0, 1], an unknown score, bad segments or grid.

    Range: [−1, 1] for probabilities.
    Direction: higher is better.
    Cost: `1 + len(fractions)` forward passes.
    Reference: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", ACL.
    """
    s, of = objective(f, x, target, score), parts(x, segments, grid, num_segments)
    kept_by_fill("comprehensiveness", f, x, target, fill, key, score=score)
    counts = jnp.array([0, *_top(fractions, of)])
    y = walk(s, x, attribution, key, of, counts, fill=fill, chunk=chunk)
    return (y[0] - y[1:]).mean()


@plainly
def sufficiency(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    fractions: Sequence[float] = _FRACTIONS,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """How much the score drops with the most relevant features alone: the mean over fractions q of `s(x) − s(top q of x)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`.
      attribution: of x's rank, broadcasts against x; signed. key: orders ties at random, draws a fill's noise.
      fractions: shares of the features, ascending, in (0, 1]; rounded up to whole features. One alone is the plain score.
      segments: integer label map over the positions of x, or grid: cells along every axis; by default every position is a feature.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a removed position becomes (the paper deletes tokens). score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`.
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      A scalar (the authors' code: the mean over the fractions, without the paper's term for q = 0).

    Raises:
      ValueError: attribution does not fit x, fractions that do not ascend in (0, 1], an unknown score, bad segments or grid.

    Range: [−1, 1] for probabilities.
    Direction: lower is better.
    Cost: `1 + len(fractions)` forward passes.
    Reference: DeYoung et al. 2020, "ERASER: A Benchmark to Evaluate Rationalized NLP Models", ACL.
    """
    s, of = objective(f, x, target, score), parts(x, segments, grid, num_segments)
    kept_by_fill("sufficiency", f, x, target, fill, key, score=score)
    # All features are x itself; positions of no feature are kept in any case.
    y = walk(s, x, attribution, key, of, jnp.array([*_top(fractions, of), of.count]), keep=True, fill=fill, chunk=chunk)
    return (y[-1] - y[:-1]).mean()


@plainly
def average_drop(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    fill: FillLike = 0.0,
    score: str = "probability",
) -> Array:
    """The relative drop of the score where x is seen through its map: `max(0, s(x) − s(a ⊙ x)) / s(x)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for a fill that draws noise.
      attribution: of x's rank, broadcasts against x; a is its sum over channels, clipped at 0 and divided by its maximum
        (0 everywhere where nothing is positive).
      fill: what is seen where a is 0; 0 multiplies x by a. score: `"probability"` (the paper's) or `"sigmoid"`: a ratio of logits means nothing.

    Returns:
      A scalar; 100 × its mean over a data set is the published percentage. 0 where s(x) is 0 and s(a ⊙ x) is not below.

    Raises:
      ValueError: attribution does not fit x, or an unknown score.

    Range: [0, 1] for probabilities.
    Direction: lower is better.
    Cost: 2 forward passes.
    Reference: Chattopadhay et al. 2018, "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks", WACV.
    """
    whole, seen = _through("average_drop", f, x, target, attribution, key, fill, one_of("score", score, SHARES))
    return _ratio(jnp.maximum(whole - seen, 0), whole)


@plainly
def average_gain(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    fill: FillLike = 0.0,
    score: str = "probability",
) -> Array:
    """The gain in probability where x is seen through its map, of what there is to gain: `max(0, p(a ⊙ x) − p(x)) / (1 − p(x))`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None` where f returns a probability.
      key: for a fill that draws noise.
      attribution: of x's rank, broadcasts against x; a is its sum over channels, clipped at 0 and divided by its maximum
        (0 everywhere where nothing is positive).
      fill: what is seen where a is 0; 0 multiplies x by a. score: p, `"probability"` (the paper's) or `"sigmoid"`.

    Returns:
      A scalar; 100 × its mean over a data set is the published percentage. 0 where p(x) is 1.

    Raises:
      ValueError: attribution does not fit x, or an unknown score.

    Range: [0, 1].
    Direction: higher is better.
    Cost: 2 forward passes.
    Reference: Zhang et al. 2024, "Opti-CAM: Optimizing Saliency Maps for Interpretability", Computer Vision and Image Understanding.
    """
    whole, seen = _through("average_gain", f, x, target, attribution, key, fill, one_of("score", score, SHARES))
    return _ratio(jnp.maximum(seen - whole, 0), 1 - whole)


@plainly
def average_increase(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    fill: FillLike = 0.0,
    score: str = "logit",
) -> Array:
    """Whether the score rises where x is seen through its map: `1[s(a ⊙ x) > s(x)]` (increase in confidence).

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for a fill that draws noise.
      attribution: of x's rank, broadcasts against x; a is its sum over channels, clipped at 0 and divided by its maximum
        (0 everywhere where nothing is positive).
      fill: what is seen where a is 0; 0 multiplies x by a. score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`.

    Returns:
      0 or 1; 100 × its mean over a data set is the published percentage.

    Raises:
      ValueError: attribution does not fit x, or an unknown score.

    Range: [0, 1].
    Direction: higher is better.
    Cost: 2 forward passes.
    Reference: Chattopadhay et al. 2018, "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional Networks", WACV.
    """
    whole, seen = _through("average_increase", f, x, target, attribution, key, fill, score)
    return jnp.where(jnp.isnan(whole + seen), jnp.nan, (seen > whole).astype(whole.dtype))


def _through(name: str, f: Model, x: Array, target, attribution: Array, key: Array | None, fill: FillLike, score: str) -> tuple[Array, Array]:
    """`s(x)` and `s(a ⊙ x)`; NaN both for an attribution that is not finite."""
    s = objective(f, x, target, score)
    kept_by_fill(name, f, x, target, fill, key, score=score)
    a = jnp.maximum(by_position(attribution, x), 0).reshape(position_shape(x))
    top = a.max()
    seen = mixer(name, x, fill, key)(a / jnp.where(top > 0, top, 1), 0)
    return tuple(nan_unless_finite(jax.vmap(s)(jnp.stack([x, seen])), attribution))


def _ratio(part: Array, whole: Array) -> Array:
    """`part / whole`, 0 where the part is 0 (of nothing, too)."""
    return jnp.where(part == 0, 0.0, part / jnp.where(part == 0, 1, whole))


def _top(fractions: Sequence[float], of: Parts) -> list[int | Array]:
    """How many features each fraction is, rounded up."""
    fractions = tuple(fractions)
    if not fractions or any(b <= a for a, b in zip((0.0, *fractions), fractions)):
        raise ValueError(f"{fractions=} must ascend in (0, 1]")
    within(0.0, 1.0, fractions=fractions[-1])
    return [jnp.ceil(q * of.count - 1e-4).astype(int) for q in fractions]
