"""The other side of a bound: points of a region at which a model changes its mind, found by projected gradient descent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.bounds.projection import contains, descent, projection, random_point
from jxai.bounds.region import Region, checked
from jxai.callables import plainly
from jxai.loops import at_once, scan, staged
from jxai.scores import check_target, margin, need_key, num_classes, one_of, positive, wide, within
from jxai.typing import Array, Model

__all__ = ["Attack", "attack"]

LOSSES = ("ce", "dlr", "both")
_MOMENTUM = 0.75
_RISING = 0.75
"""The share of the steps between two checkpoints that must have raised the loss, else the step is halved."""


class Attack(NamedTuple):
    """The point of a region where the margin is least, of all that an attack has seen."""

    x: Array
    """The point; it lies in the region."""
    margin: Array
    """`[]`: `min_{j ≠ label} f(x)[label] − f(x)[j]` there."""
    success: Array
    """`[]`: whether it is negative, so that x is a counterexample."""


class _State(NamedTuple):
    """A descent on its way: where it is and was, the best point by the loss, the step and its bookkeeping, the least margin found."""

    x: Array
    before: Array
    gradient: Array
    value: Array
    top: tuple[Array, Array, Array]
    size: Array
    rose: Array
    mark: tuple[Array, Array]
    found: tuple[Array, Array]


@plainly
def attack(
    f: Model,
    region: Region,
    label: int | Array,
    key: Array | None = None,
    *,
    loss: str = "both",
    steps: int = 40,
    restarts: int = 4,
    step_size: float = 2.0,
    chunk: int | None = None,
) -> Attack:
    """Auto-PGD: searches the region for a point of another class, `min_x f(x)[label] − max_{j ≠ label} f(x)[j]`, from several starts.

    `x ← P(x + 3/4 · (P(x + η · d) − x) + 1/4 · (x − x'))`: d is the steepest ascent of the loss in the region's norm, x' where x was before,
    P the projection. η is halved, and the best point taken up again, at checkpoints between which too few steps have raised the loss.

    Args:
      f: a model `x -> logits [K]`, K ≥ 2. region: a `Box` or `ball(x, radius, p)`. label: the class to be left.
      key: draws the starts, all but the first, which is the region's centre; needed for more than one.
      loss: "ce", the cross-entropy `log Σ_j exp f_j − f_label`; "dlr", the difference of logits ratio
        `−(f_label − max_{j ≠ label} f_j) / (f_(1) − f_(3))` of the sorted logits (for two classes the margin itself); "both", by turns.
      steps: of each descent. restarts: descents. step_size: the first η, as a share of the region's radius, > 0.
      chunk: descents at once (None: `jxai.loops.at_once`).

    Returns:
      An `Attack`. Its x lies in the region in real numbers, not only up to rounding. A failure proves nothing: bounds do. The margin is NaN
      for a traced label or region that is none.

    Raises:
      ValueError: a bad region, label or option, no key for several restarts, f(x) that is no vector, a one-class model.

    Cost: `restarts · (steps + 1)` forward and backward passes.
    Reference: Croce & Hein 2020, "Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks", ICML;
      for p = 1, Croce & Hein 2021, "Mind the Box: l1-APGD for Sparse Adversarial Attacks on Image Classifiers", ICML.
    """
    region = checked(region)
    one_of("loss", loss, LOSSES)
    positive(steps=steps, restarts=restarts, chunk=1 if chunk is None else chunk)
    within(math.ulp(0.0), math.inf, step_size=step_size)
    objective = _objective(f, region, label, loss)
    draws = None if restarts == 1 else need_key(key, "attack")
    chunk = at_once(region.lower, chunk)
    blocks = -(-restarts // chunk)
    size = -(-restarts // blocks)

    def start(i: Array) -> Array:
        if draws is None:
            return region.center
        return jnp.where(i == 0, region.center, random_point(region, jax.random.fold_in(draws, i)))

    def one(i: Array) -> tuple[Array, Array]:
        return _descend(lambda x: objective(x, i), region, start(i), steps, step_size)

    def block(best: tuple[Array, Array], b: Array) -> tuple[tuple[Array, Array], None]:
        margin, x = jax.vmap(one)(jnp.minimum(b * size + jnp.arange(size), restarts - 1))
        at = jnp.argmin(margin)
        better = margin[at] < best[0]
        return (jnp.where(better, margin[at], best[0]), jnp.where(better, x[at], best[1])), None

    none = (jnp.asarray(jnp.inf, region.lower.dtype), region.center)
    margin, x = scan(block, none, jnp.arange(blocks))[0] if blocks > 1 else staged(block, none, jnp.int32(0))[0]
    margin = jnp.where((margin < jnp.inf) & contains(region, x), margin, jnp.nan)
    return Attack(x, margin, margin < 0)


def _objective(f: Model, region: Region, label: int | Array, loss: str) -> Callable[[Array, Array], tuple]:
    """`(x, i) -> ((loss, margin), gradient of the loss)` of descent number i."""
    classes = num_classes(f, region.lower)
    check_target(label, classes)

    def value(x: Array, i: Array) -> tuple[Array, Array]:
        logits = wide(f(x))
        here = margin(logits, label)
        values = []
        if loss in ("dlr", "both"):
            values.append(-here if classes < 3 else -here / _spread(logits))
        if loss in ("ce", "both"):
            values.append(jax.nn.logsumexp(logits) - logits[jnp.clip(label, 0, classes - 1)])
        return (values[0] if len(values) == 1 else jnp.where(i % 2 == 0, values[0], values[1])), here

    return jax.value_and_grad(value, has_aux=True)


def _spread(logits: Array) -> Array:
    """The greatest logit over the third; 1 where they are equal."""
    top = lax.top_k(logits, 3)[0]
    gap = top[0] - top[2]
    return jnp.where(gap > 0, gap, 1)


def _descend(objective: Callable[[Array], tuple], region: Region, start: Array, steps: int, step_size: float) -> tuple[Array, Array]:
    """The least margin that a descent passes, and where."""
    project = projection(region)

    def evaluate(x: Array) -> tuple[Array, Array, Array]:
        (value, here), gradient = objective(x)
        value, here = value.astype(x.dtype), here.astype(x.dtype)  # a model may compute in a wider type
        return jnp.where(jnp.isnan(value), -jnp.inf, value), here, jnp.where(jnp.isfinite(gradient), gradient, 0)

    def step(s: _State, at: tuple[Array, Array]) -> tuple[_State, None]:
        ahead, since = at
        toward = project(s.x + descent(region, s.x, s.gradient, s.size))
        x = project(s.x + ahead * (toward - s.x) + (1 - ahead) * (s.x - s.before))
        value, here, gradient = evaluate(x)
        found = _where(here < s.found[0], (here, x), s.found)
        top = _where(value > s.top[0], (value, gradient, x), s.top)
        rose = s.rose + (value > s.value)
        # At a checkpoint (since > 0): too few steps have raised the loss, or the step is as it was and has led to nothing better.
        stuck = (since > 0) & ((rose < _RISING * since) | ((s.size == s.mark[1]) & (top[0] <= s.mark[0])))
        mark = _where(since > 0, (top[0], s.size), s.mark)
        value, gradient, before, x = _where(stuck, (*top[:2], top[2], top[2]), (value, gradient, s.x, x))
        return _State(x, before, gradient, value, top, jnp.where(stuck, s.size / 2, s.size), jnp.where(since > 0, 0, rose), mark, found), None

    x = project(start)
    value, here, gradient = evaluate(x)
    size = jnp.asarray(step_size, x.dtype)
    first = _where(jnp.isnan(here), (jnp.inf, x), (here, x))
    begin = _State(x, x, gradient, value, (value, gradient, x), size, jnp.int32(0), (value, size), first)
    return scan(step, begin, _schedule(steps, x.dtype))[0].found


def _schedule(steps: int, dtype) -> tuple[np.ndarray, np.ndarray]:
    """For every step, the weight of the new direction beside the momentum, and at checkpoints how many steps lie since the last."""
    since, last, length = np.zeros(steps, np.int32), 0, max(1, int(0.22 * steps))
    while last + length <= steps:
        since[last + length - 1] = length
        last, length = last + length, max(length - max(1, int(0.03 * steps)), max(1, int(0.06 * steps)))
    ahead = np.full(steps, _MOMENTUM, dtype)
    ahead[0] = 1
    return ahead, since


def _where(condition: Array, a: tuple, b: tuple) -> tuple:
    return tuple(jnp.where(condition, x, y) for x, y in zip(a, b))
