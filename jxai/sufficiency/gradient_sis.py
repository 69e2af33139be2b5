"""Sufficient subsets of many features: they are removed by the gradient, many at a step."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from jxai.callables import plainly
from jxai.loops import scan
from jxai.removal import fills
from jxai.removal.fills import FillLike
from jxai.removal.masks import positions
from jxai.scores import objective, positive, wide, within
from jxai.sufficiency.asked import Asked, Found, Removal, Shape, answered, ask, looked_at, smallest
from jxai.sufficiency.subset import SufficientSubset, keeping
from jxai.typing import Array, Model

__all__ = ["batched_gradient_sis"]

_STEPS = 895
"""The published 100 of 299² pixels at a step."""


@plainly
def batched_gradient_sis(
    f: Model,
    x: Array,
    target: int | Array | None = None,
    key: Array | None = None,
    *,
    threshold: float | Array | None = None,
    per_step: int | None = None,
    noise: float = 1e-12,
    fill: FillLike = 0.0,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    score: str = "logit",
) -> SufficientSubset:
    """A sufficient subset by batched gradient backward selection.

    With `s(m)` the score of `m ⊙ x + (1 − m) ⊙ fill`, each step removes the `per_step` features that are left whose `∂s/∂m_i` is least: to remove
    them costs the score least, to first order. The subset is what was left before the last step at which the score was `threshold` or more;
    the score need not fall steadily, and the first crossing would be another.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: the class; None: the predicted one.
      key: for the noise, and for a fill that draws some; without it equal slopes go by the lowest index.
      threshold: τ, of the score; None: .9 of a probability (or sigmoid). No logit is known to suffice: it must be named. vmap over it alone shares the passes.
      per_step: k, features removed at a step; None: one in 895 of them, at least one. noise: standard deviation of what is added to slopes.
      fill: what a removed feature becomes; its own dependence on m is left out of the slope.
      segments, grid, num_segments: as in `sis`, but by default every position is a feature. score: `"logit"`, `"probability"` or `"sigmoid"`.

    Returns:
      A `SufficientSubset` with the whole curve; where the score of x itself is below the threshold it does not hold, and holds all of x. Under a
      trace it lacks digests (see there). It may be `vacuous`, as that of `sis`.

    Raises:
      ValueError: bad x, target, threshold, fill, segments, grid, score, per_step or noise.

    Cost: `⌈num / k⌉` forward and backward passes and a forward one, in one scan: under `vmap` all examples go in step.
    Reference: Carter et al. 2021, "Overinterpretation reveals image classification model pathologies", NeurIPS, arXiv 2003.08907.
    """
    within(0.0, float("inf"), noise=noise)
    asked, shape = ask(f, x, target, key, threshold, fill, segments, positions(x) if segments is None and grid is None else grid, num_segments, score)
    per_step = max(1, round(shape.num / _STEPS)) if per_step is None else per_step
    positive(per_step=per_step)
    fills.check_finite("batched_gradient_sis goes by the slope from x to its fill; sis removes whole features", fill=fill)
    found, about = answered(_descent, f, asked, shape, per_step=min(per_step, shape.num), noise=float(noise))
    return looked_at(found.certificate(asked, shape, about), f, asked)


def _descent(f: Model, asked: Asked, shape: Shape, *, per_step: int, noise: float) -> Found:
    x, num = asked.x, shape.num
    s = objective(f, x, asked.label, shape.score)
    fixed = fills.fixed(asked.fill, x, asked.key)

    def score(held: Array, t: Array) -> Array:
        mask = keeping(held, asked.labels, x, shape.alone)
        key = None if asked.key is None else jax.random.fold_in(asked.key, t)
        value = lax.stop_gradient(fills.resolve(fixed, x, mask, key))
        return s(fills.mix(x, mask, value))

    def step(removed_at: Array, t: Array) -> tuple[Array, Array]:
        left = removed_at == steps
        value, slope = jax.value_and_grad(score)(left.astype(wide(x).dtype), t)
        if asked.key is not None and noise:
            slope = slope + noise * jax.random.normal(jax.random.fold_in(jax.random.fold_in(asked.key, t), 1), slope.shape, jnp.float32)
        slope = jnp.where(jnp.isnan(slope), jnp.inf, slope)
        _, chosen = lax.top_k(jnp.where(left, -slope, -jnp.inf), per_step)
        # Features that are out stand last among the chosen, after all that are left.
        return removed_at.at[jnp.where(left[chosen], chosen, num)].set(t, mode="drop"), value

    steps = -(-num // per_step)
    removed_at, curve = scan(step, jnp.full(num, steps, jnp.int32), jnp.arange(steps, dtype=jnp.int32))
    end = score(jnp.zeros(num, wide(x).dtype), jnp.int32(steps))
    return smallest(asked, shape, Removal(removed_at, jnp.concatenate([curve, end[None]])), jnp.arange(steps + 1, dtype=jnp.int32))
