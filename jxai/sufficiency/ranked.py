"""Subsets that suffice when features are removed in a given order: that of an attribution, or at random as the control."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.metrics.common import by_feature, check_attribution
from jxai.removal.fills import FillLike
from jxai.removal.masks import Features, features, positions
from jxai.scores import need_key, positive
from jxai.sufficiency.asked import Asked, Found, Removal, Shape, answered, ask, looked_at, smallest
from jxai.sufficiency.subset import SufficientSubset
from jxai.typing import Array, Model

__all__ = ["random_subset", "ranked_subset"]


@plainly
def ranked_subset(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    threshold: float | Array | None = None,
    per_step: int = 1,
    fill: FillLike = 0.0,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    score: str = "logit",
    chunk: int | None = None,
) -> SufficientSubset:
    """The features of greatest attribution that suffice: all others are removed, the least first, `per_step` at a step.

    The subset is what was left before the last step at which the score was `threshold` or more, as in `batched_gradient_sis`.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: the class; None: the predicted one.
      attribution: has x's rank and broadcasts against it; a feature's is the mean over its positions of the sum over channels, signed; NaN is
        removed first. Equal ones go by the lowest index. key: for a fill that draws noise.
      threshold, per_step, fill, segments, grid, num_segments, score: as in `batched_gradient_sis`. chunk: passes at once.

    Returns:
      A `SufficientSubset`, as `batched_gradient_sis` does.

    Raises:
      ValueError: an attribution that does not fit x; as `batched_gradient_sis`.

    Cost: `⌈num / per_step⌉ + 1` forward passes.
    """
    check_attribution(attribution, x)
    grid = positions(x) if segments is None and grid is None else grid
    of = features(x, segments, grid, num_segments)
    ranks = by_feature(jnp.nan_to_num(attribution, nan=-jnp.inf, neginf=-jnp.inf), x, of)
    return _ordered(f, x, target, key, ranks, of, threshold, per_step, fill, score, chunk)


@plainly
def random_subset(
    f: Model,
    x: Array,
    target: int | Array | None = None,
    key: Array | None = None,
    *,
    threshold: float | Array | None = None,
    per_step: int = 1,
    fill: FillLike = 0.0,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    score: str = "logit",
    chunk: int | None = None,
) -> SufficientSubset:
    """The control of a sufficient subset: features are removed in random order; `curve` says how confident random subsets of every size leave f.

    Args:
      key: of the order. All others: as in `ranked_subset`.

    Returns:
      A `SufficientSubset`, as `batched_gradient_sis` does.

    Raises:
      ValueError: no key; as `batched_gradient_sis`.

    Cost: `⌈num / per_step⌉ + 1` forward passes.
    """
    order, key = jax.random.split(need_key(key, "random_subset"))
    of = features(x, segments, positions(x) if segments is None and grid is None else grid, num_segments)
    return _ordered(f, x, target, key, jax.random.uniform(order, (of.num,), jnp.float32), of, threshold, per_step, fill, score, chunk)


def _ordered(f, x, target, key, ranks: Array, of: Features, threshold, per_step: int, fill, score: str, chunk: int | None) -> SufficientSubset:
    """The subset of an order: the features of least rank `[num]` go first."""
    positive(per_step=per_step)
    asked, shape = ask(f, x, target, key, threshold, fill, of.labels, None, of.num, score, more=ranks)
    size = loops.at_once(x, chunk)
    positive(chunk=size)
    found, about = answered(_walk, f, asked, shape, per_step=per_step, size=size)
    return looked_at(found.certificate(asked, shape, about), f, asked)


def _walk(f: Model, asked: Asked, shape: Shape, *, per_step: int, size: int) -> Found:
    value, steps = shape.scores(f, asked), -(-shape.num // per_step)
    turn = jnp.argsort(jnp.argsort(asked.more, stable=True), stable=True).astype(jnp.int32)
    removed_at = turn // per_step
    curve = loops.stack(lambda t: value((removed_at >= t).astype(jnp.float32), t), steps + 1, size)
    return smallest(asked, shape, Removal(removed_at, curve), jnp.arange(steps + 1, dtype=jnp.int32))
