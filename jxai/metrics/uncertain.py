"""What the uncertainty, or the accuracy, does as pixels come in by the order in which they are said to make the model unsure.

An attribution of uncertainty is right where taking the pixels of its largest values away makes the model sure. How features are scored, ties are
ordered, and what an attribution that is constant or not finite gives: see `jxai.metrics.removal`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax

from jxai.callables import plainly
from jxai.metrics.common import curve
from jxai.metrics.removal import measure, parts, schedule, walk
from jxai.removal.fills import Blur, FillLike, check_fill
from jxai.scores import check_target
from jxai.typing import Array, Curve, Model, Scalar
from jxai.uncertainty.predictive import uncertainty_of

__all__ = ["aic", "eic", "urc"]


@plainly
def eic(
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
    fill: FillLike = Blur(1.5),
    chunk: int | None = None,
) -> Curve:
    """Entropy information curve: `y_k = H(the n_k features of x that make f least unsure, alone) / H(none of x)`, n_0 = 0.

    Read from its end, it is what the entropy does as the pixels that make f most unsure are blurred first. The paper takes the median over images.

    Args:
      f: a model `x -> logits [K]`, whose entropy is measured, or with `target=None` an uncertainty `x -> []` itself.
      x: one example of any rank. target: says nothing of the entropy; a class must be one of f's.
      attribution: of x's rank, broadcasts against x; positive where x makes f unsure. key: orders ties at random, draws a fill's noise.
      steps: insertions, at most as many as there are features; None: one feature at a time (the paper's).
      segments: integer label map over the positions of x, or grid: cells along every axis; by default every position is a feature.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a position is before it is inserted; the paper's are the image blurred (by 1.5 for MNIST, 2 for Fashion-MNIST) and grey, 0.5.
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `Curve`: x the share of features inserted, y the entropy, `[steps + 1]`; auc the trapezoid area over the width of x. NaN where the empty example has
      no entropy at all. (The paper shows 1 − auc.)

    Raises:
      ValueError: attribution does not fit x, bad steps, segments or grid, f(x) is neither logits of two classes or more nor, for `target=None`, a number.

    Range: [0, ∞)
    Direction: lower is better.
    Cost: `steps + 1` forward passes.
    Reference: Perez et al. 2022, "Attribution of predictive uncertainties in classification models", UAI.
    """
    y, share = _walk(_uncertainty(f, x, target), x, attribution, key, (segments, grid, num_segments), steps, fill, chunk, keep=True)
    return curve(share, _ratio(y, y[0]))


@plainly
def aic(
    f: Model,
    x: Array,
    target: int | Array,
    attribution: Array,
    key: Array | None = None,
    *,
    steps: int | None = None,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = Blur(1.5),
    chunk: int | None = None,
) -> Curve:
    """Accuracy information curve: whether f says target as the features of x come in, those that make it least unsure first.

    The order of `eic`: `y_k` is 1 where the n_k features that make f least unsure, alone, are of class target for f, else 0; n_0 = 0. Its mean over
    images is the curve of the paper.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: the class that is right.
      attribution: of x's rank, broadcasts against x; positive where x makes f unsure. key: orders ties at random, draws a fill's noise.
      steps, segments, grid, num_segments, fill, chunk: as in `eic`.

    Returns:
      `Curve`: x the share of features inserted, y 0 or 1, `[steps + 1]`; auc the trapezoid area over the width of x.

    Raises:
      ValueError: attribution does not fit x, no target, bad steps, segments or grid.

    Range: [0, 1]
    Direction: higher is better.
    Cost: `steps + 1` forward passes.
    Reference: Perez et al. 2022, "Attribution of predictive uncertainties in classification models", UAI.
    """
    y, share = _walk(measure(f, x, target, "accuracy"), x, attribution, key, (segments, grid, num_segments), steps, fill, chunk, keep=True)
    return curve(share, y)


@plainly
def urc(
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
    fill: FillLike = Blur(1.5),
    chunk: int | None = None,
) -> Curve:
    """Uncertainty reduction curve: the most of the entropy that is gone by then, `y_k = max_{j ≤ k} 1 − H_j / H_0`.

    `H_j` is the entropy without the n_j features that make f most unsure, `H_0` that of x. The paper takes the median over images.

    Args:
      f: a model `x -> logits [K]`, whose entropy is measured, or with `target=None` an uncertainty `x -> []` itself.
      x: one example of any rank. target: says nothing of the entropy; a class must be one of f's.
      attribution: of x's rank, broadcasts against x; positive where x makes f unsure. key: orders ties at random, draws a fill's noise.
      steps: removals, at most as many as there are features; None: one feature at a time (the paper's).
      segments, grid, num_segments, fill, chunk: as in `eic`.

    Returns:
      `Curve`: x the share of features removed, y the share of the entropy, `[steps + 1]`; auc the trapezoid area over the width of x. NaN where f is
      entirely sure of x.

    Raises:
      ValueError: attribution does not fit x, bad steps, segments or grid, f(x) is neither logits of two classes or more nor, for `target=None`, a number.

    Range: [0, 1]
    Direction: higher is better.
    Cost: `steps + 1` forward passes.
    Reference: Perez et al. 2022, "Attribution of predictive uncertainties in classification models", UAI.
    """
    y, share = _walk(_uncertainty(f, x, target), x, attribution, key, (segments, grid, num_segments), steps, fill, chunk, keep=False)
    return curve(share, lax.cummax(1 - _ratio(y, y[0])))


def _walk(s: Scalar, x: Array, attribution: Array, key: Array | None, groups: tuple, steps: int | None, fill: FillLike, chunk: int | None, keep: bool):
    """s as features come in, the least first, or (`keep=False`) go, the most first; and the share of features that have."""
    of = parts(x, *groups)
    check_fill(fill, x)
    counts = schedule(of, steps)
    y = walk(s, x, attribution, key, of, counts, "least" if keep else "most", keep=keep, fill=fill, chunk=chunk)
    return y, counts / of.count


def _ratio(y: Array, whole: Array) -> Array:
    return y / jnp.where(whole == 0, jnp.nan, whole)


def _uncertainty(f: Model, x: Array, target: int | Array | None) -> Scalar:
    """The entropy of f's prediction, or f itself where it returns a number; NaN for a traced target that is no class."""
    u, k = uncertainty_of(f, x, scalar=target is None)
    if k is None or target is None:
        return u
    check_target(target, k)
    known = (jnp.asarray(target) >= 0) & (jnp.asarray(target) < k)
    return lambda v: jnp.where(known, u(v), jnp.nan)
