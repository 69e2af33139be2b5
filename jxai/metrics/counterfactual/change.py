"""How much a counterfactual changes, and whether all of it was needed and allowed.

Distances are those of `d = x' − x`, entry by entry (a pixel with three channels has three entries). Where x or x' is not finite they are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import ops

from jxai.callables import plainly
from jxai.counterfactual.search.constraints import Constraint
from jxai.counterfactual.search.domain import check_constraints
from jxai.loops import at_once, while_loop
from jxai.metrics.counterfactual.common import check_class, check_pair, finite, is_class
from jxai.metrics.removal import parts
from jxai.removal.masks import position_shape
from jxai.scores import positive, wide, within
from jxai.typing import Array, Model

__all__ = ["constraint_violations", "l0", "l1", "l2", "linf", "mad", "redundancy", "sparsity"]


@plainly
def l0(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None, *, atol: float | Array = 1e-5) -> Array:
    """The number of entries that change, `#{i: |x'_i − x_i| > atol}`.

    Args:
      f, target: not looked at. x: the example. counterfactual: x', of x's shape. atol: what counts as a change (CARLA's), >= 0.

    Returns:
      float32; 0 where nothing changes, NaN where an entry is not finite.

    Raises:
      ValueError: bad x, counterfactual or atol.

    Range: [0, x.size].
    Direction: lower is better.
    Cost: no passes.
    Reference: Pawelczyk et al. 2021, "CARLA: A Python Library to Benchmark Algorithmic Recourse and Counterfactual Explanation Algorithms", NeurIPS.
    """
    return finite(_changed(x, counterfactual, atol).sum(), x, counterfactual)


@plainly
def sparsity(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None, *, atol: float | Array = 1e-5) -> Array:
    """The share of entries that do not change, `1 − L0 / n` (DiCE's sparsity; CounterfactualExplanations.jl calls it redundancy).

    Args:
      f, target: not looked at. x: the example. counterfactual: x', of x's shape. atol: what counts as a change, >= 0.

    Returns:
      float32; 1 where nothing changes, NaN where an entry is not finite.

    Raises:
      ValueError: bad x, counterfactual or atol.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes.
    Reference: Mothilal et al. 2020, "Explaining Machine Learning Classifiers through Diverse Counterfactual Explanations", FAT*.
    """
    return finite(1 - _changed(x, counterfactual, atol).mean(dtype=jnp.float32), x, counterfactual)


@plainly
def l1(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None, *, scale: float | Array = 1.0, per_feature: bool = False) -> Array:
    """The sum of the changes, `Σ_i |x'_i − x_i| / s_i`.

    With `scale=mad(examples)` it is Wachter's distance, and with `per_feature=True` besides, DiCE's proximity (with the opposite sign).

    Args:
      f, target: not looked at. x: the example. counterfactual: x', of x's shape.
      scale: s > 0, broadcasts against x. per_feature: the mean instead of the sum.

    Returns:
      float32, in units of x / s; NaN where an entry is not finite.

    Raises:
      ValueError: bad x, counterfactual or scale.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: no passes.
    Reference: Wachter et al. 2018, "Counterfactual Explanations without Opening the Black Box", Harvard Journal of Law & Technology.
    """
    size = jnp.abs(_difference(x, counterfactual, scale))
    return finite(size.mean() if per_feature else size.sum(), x, counterfactual)


@plainly
def l2(
    f: Model | None,
    x: Array,
    counterfactual: Array,
    target: int | Array | None,
    *,
    scale: float | Array = 1.0,
    squared: bool = False,
    per_feature: bool = False,
) -> Array:
    """The Euclidean length of the change, `√Σ_i ((x'_i − x_i) / s_i)²`; with `squared=True` its square, which is what CARLA calls L2.

    Args:
      f, target: not looked at. x: the example. counterfactual: x', of x's shape.
      scale: s > 0, broadcasts against x. squared: without the root. per_feature: the mean instead of the sum (below the root).

    Returns:
      float32, in units of x / s, or their square; NaN where an entry is not finite.

    Raises:
      ValueError: bad x, counterfactual or scale.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: no passes.
    Reference: Pawelczyk et al. 2021, "CARLA: A Python Library to Benchmark Algorithmic Recourse and Counterfactual Explanation Algorithms", NeurIPS.
    """
    square = _difference(x, counterfactual, scale) ** 2
    square = square.mean() if per_feature else square.sum()
    return finite(square if squared else jnp.sqrt(square), x, counterfactual)


@plainly
def linf(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None, *, scale: float | Array = 1.0) -> Array:
    """The largest change of an entry, `max_i |x'_i − x_i| / s_i`.

    Args:
      f, target: not looked at. x: the example. counterfactual: x', of x's shape. scale: s > 0, broadcasts against x.

    Returns:
      float32, in units of x / s; NaN where an entry is not finite.

    Raises:
      ValueError: bad x, counterfactual or scale.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: no passes.
    Reference: Pawelczyk et al. 2021, "CARLA: A Python Library to Benchmark Algorithmic Recourse and Counterfactual Explanation Algorithms", NeurIPS.
    """
    return finite(jnp.abs(_difference(x, counterfactual, scale)).max(), x, counterfactual)


def mad(examples: Array) -> Array:
    """The median absolute deviation of each feature over a data set, `median |v_i − median v_i|`: a scale for `l1`.

    Args:
      examples: `[n, *shape]`, n >= 1.

    Returns:
      `[*shape]`, float32 or wider; 1 where it would be 0 (a feature that is constant for most examples), as DiCE has it.

    Raises:
      ValueError: no examples.
    """
    if examples.ndim < 2 or not examples.size:
        raise ValueError(f"examples must be [n, *shape] with n >= 1, got shape {examples.shape}")
    v = wide(jnp.asarray(examples))
    deviation = jnp.median(jnp.abs(v - jnp.median(v, 0)), 0)
    return jnp.where(deviation == 0, 1, deviation)


@plainly
def redundancy(
    f: Model,
    x: Array,
    counterfactual: Array,
    target: int | Array,
    *,
    atol: float | Array = 1e-5,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    chunk: int | None = None,
) -> Array:
    """The number of changed features that need not have changed: with feature j alone restored, `argmax f(x' with x_j) = t` still (CARLA).

    Args:
      f: a model. x: the example. counterfactual: x', of x's shape. target: t, the class that x' shall be taken for.
      atol: what counts as a change, >= 0.
      segments, grid, num_segments: features, as in `jxai.masks.features`; by default every position, all its channels together.
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      float32; 0 where nothing changes, NaN where x, x' or an output of f is not a number, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual, target or option.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: a forward pass for each changed feature, rounded up to whole chunks.
    Reference: Pawelczyk et al. 2021, "CARLA: A Python Library to Benchmark Algorithmic Recourse and Counterfactual Explanation Algorithms", NeurIPS.
    """
    changed, known = _changed(x, counterfactual, atol), check_class(f, x, target)
    of = parts(x, segments, grid, num_segments)
    by_position = (changed.any(-1) if x.ndim > 1 else changed).ravel()
    labels = jnp.arange(of.num) if of.labels is None else jnp.ravel(jnp.asarray(of.labels))
    features = ops.segment_sum(by_position.astype(jnp.int32), labels, of.num) > 0
    positive(chunk=1 if chunk is None else chunk)
    size, count = min(at_once(x, chunk), of.num), features.sum()
    # The changed ones first, so that the loop may end behind them.
    order = jnp.argsort(~features, stable=True)

    def without(i: Array) -> Array:
        inside = (labels == i).reshape(position_shape(x))
        return is_class(wide(f(jnp.where(inside, x, counterfactual))), target)

    def block(state: tuple[Array, Array]) -> tuple[Array, Array]:
        start, total = state
        place = start + jnp.arange(size)
        kept = jax.vmap(without)(order[jnp.minimum(place, of.num - 1)])
        return start + size, total + jnp.where(place < count, kept, 0).sum()

    total = while_loop(lambda state: state[0] < count, block, (jnp.int32(0), jnp.float32(0)))[1]
    return finite(jnp.where(known, total, jnp.nan), x, counterfactual)


@plainly
def constraint_violations(
    f: Model | None,
    x: Array,
    counterfactual: Array,
    target: int | Array | None,
    *,
    constraints: Sequence[Constraint],
    atol: float | Array = 1e-5,
) -> Array:
    """The number of entries that break a constraint: those that the nearest allowed point has otherwise, `#{i: ∃ c: |c(x')_i − x'_i| > atol}`.

    Of `Frozen` these are the frozen entries that changed (CARLA's violations), of `Range` those out of range, of `Near` all that changed, if too far.

    Args:
      f, target: not looked at. x: the example. counterfactual: x', of x's shape.
      constraints: of `jxai.counterfactual.constraints`. atol: how far beside a constraint is on it, >= 0.

    Returns:
      float32; NaN where x or x' is not finite.

    Raises:
      ValueError: bad x, counterfactual or atol, no constraints or such as do not fit x.

    Range: [0, x.size].
    Direction: lower is better.
    Cost: no passes.
    Reference: Pawelczyk et al. 2021, "CARLA: A Python Library to Benchmark Algorithmic Recourse and Counterfactual Explanation Algorithms", NeurIPS.
    """
    check_pair(x, counterfactual)
    within(0.0, math.inf, atol=atol)
    if not check_constraints(constraints, x):
        raise ValueError(f"{constraints=} must hold a constraint at least")
    v, origin = wide(counterfactual), wide(x)
    broken = jnp.stack([jnp.abs(c.exact(v, origin) - v) > atol for c in constraints]).any(0)
    return finite(broken.sum(), x, counterfactual)


def _difference(x: Array, counterfactual: Array, scale: float | Array) -> Array:
    check_pair(x, counterfactual)
    within(math.ulp(0.0), math.inf, scale=scale)
    shape = jnp.shape(scale)
    if len(shape) > x.ndim or any(a not in (1, b) for a, b in zip(shape[::-1], x.shape[::-1])):
        raise ValueError(f"scale of shape {shape} must broadcast against x of shape {x.shape}")
    return (wide(counterfactual) - wide(x)) / scale


def _changed(x: Array, counterfactual: Array, atol: float | Array) -> Array:
    within(0.0, math.inf, atol=atol)
    return jnp.abs(_difference(x, counterfactual, 1.0)) > atol
