"""Path integrals of the gradient along curves that the image or the model shapes: increasing blur, guided steps."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai import loops
from jxai.callables import plainly
from jxai.kernels.order import kth_largest
from jxai.loops import scan, while_loop
from jxai.removal import fills
from jxai.removal.doubts import flat, kept_by_fill
from jxai.removal.fills import FillLike
from jxai.removal.masks import as_map, positions
from jxai.scores import objective, one_of, positive, wide, within
from jxai.typing import Array, Model

__all__ = ["blur_integrated_gradients", "guided_integrated_gradients"]

PADDINGS = ("symmetric", "constant")


@plainly
def blur_integrated_gradients(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    max_sigma: float = 50.0,
    steps: int = 100,
    padding: str = "symmetric",
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Blur Integrated Gradients: the path of ever less blurred copies of x, `−∫₀^max_sigma ∇s(L(σ)) ⊙ ∂L(σ)/∂σ dσ`.

    `L(σ)` is x blurred by a Gaussian of standard deviation σ. The sum is `Σ_k ∇s((L_k + L_{k+1})/2) ⊙ (L_k − L_{k+1})`
    with `L_k = L(k · max_sigma / steps)`: differences instead of a numerical ∂L/∂σ, and midpoints, make it complete
    (`Σ = s(x) − s(L(max_sigma))`) exactly for linear and quadratic scores and up to `O(1/steps²)` for smooth ones.
    PAIR's code takes the gradient at `L_k` and a forward difference of width 0.01 in σ instead.

    Args:
      f: a model `x -> logits [K]`. x: `[H, W, C]`; `[T, H, W, C]`, frame by frame; or a series `[T, C]`. target: a class, or `None`. key: unused.
      max_sigma: blur where the path starts, in positions, > 0, static (PAIR's 50, for images of 224 to 299).
      steps: intervals of σ, evenly spaced (PAIR's 100).
      padding: `"symmetric"`: edges are reflected, so that a flat image stays flat (`fills.Blur`); `"constant"`: zeros beyond the edge (PAIR).
      score: `"logit"`, `"probability"` (the paper's F has values in [0, 1]) or `"sigmoid"`. chunk: steps at once (None: `jxai.loops.at_once`).

    Returns:
      x's shape, in units of the score.

    Raises:
      ValueError: a bad option, x, target or score.

    Cost: `steps` forward and backward passes (and as many pairs of blurs).

    Reference: Xu et al. 2020, "Attribution in Scale and Space", CVPR.
    """
    s = objective(f, x, target, score)
    positive(steps=steps)
    one_of("padding", padding, PADDINGS)
    if isinstance(max_sigma, jax.core.Tracer) or not 0 < max_sigma < math.inf:
        raise ValueError(f"{max_sigma=} must be a positive Python number")
    if x.ndim == 1:
        raise ValueError(f"x of shape {x.shape} is a vector, whose entries are no neighbours of one another; a signal is given as [T, 1]")
    image = wide(x)
    radius = int(4 * max_sigma + 0.5)

    def step(k: Array) -> Array:
        sharp, blurred = (_blur(image, (k + j) * (max_sigma / steps), radius, padding) for j in (0, 1))
        slope = jax.grad(s)(((sharp + blurred) / 2).astype(x.dtype))
        return slope.astype(image.dtype) * (sharp - blurred)

    found = as_map(loops.sums(step, steps, loops.at_once(x, chunk)), x)
    flat("blur_integrated_gradients", found, s, x, [_blur(image, max_sigma, radius, padding).astype(x.dtype)])
    return found


@plainly
def guided_integrated_gradients(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    baseline: FillLike = 0.0,
    steps: int = 200,
    fraction: float = 0.25,
    max_dist: float = 0.02,
    score: str = "logit",
) -> Array:
    """Guided Integrated Gradients: a path that moves the features of smallest |gradient| first, `Σ_k ∇s(z_k) ⊙ (z_{k+1} − z_k)`.

    `z_0 = b`, `z_steps = x`; every step takes the same share of `‖x − b‖₁`. Step k brings features that lag behind up to
    `α − max_dist` of their way, `α = (k + 1)/steps`, then moves the `fraction` of the features with the smallest |∂s/∂z|
    (equal ones together) towards `α + max_dist` of theirs; where that is not enough, the next `fraction`, and so on; the
    last group moves as far as the step's share needs. This is PAIR's code (saliency 0.2.1).

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for a baseline that draws noise.
      baseline: b: a number, an array that broadcasts against x, or a fill (the paper: black).
      steps: gradients, one after another (PAIR's 200).
      fraction: share of the features that moves at once, in [0, 1], static (PAIR's 0.25).
      max_dist: how far a feature may stray from the straight line, in [0, 1]: 0 is integrated gradients with the left
        rule, 1 is unbounded (PAIR's 0.02). score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`.

    Returns:
      x's shape, in units of the score. `Σ ≈ s(x) − s(b)` up to `O(1/steps)` for smooth s; along a kink of s (ReLU, max
      pooling) the path can slide without ever seeing the slope beside it, and a gap remains however many steps there are.

    Raises:
      ValueError: a bad option, x, target or score.

    Cost: `steps` forward and backward passes, one at a time.

    Reference: Kapishnikov et al. 2021, "Guided Integrated Gradients: an Adaptive Path Method for Removing Noise", CVPR.
    """
    s = objective(f, x, target, score)
    kept_by_fill("guided_integrated_gradients", f, x, target, baseline, key, "baseline", score=score)
    positive(steps=steps)
    within(0, 1, fraction=fraction, max_dist=max_dist)
    group = _group(fraction, x.size)
    start, end = (end.ravel() for end in fills.path("guided_integrated_gradients", baseline, x, key))
    distance = jnp.abs(end - start).sum()

    def step(carry: tuple[Array, Array], k: Array):
        z, total = carry
        slope = jax.grad(s)(z.reshape(x.shape).astype(x.dtype)).astype(z.dtype).ravel()
        alpha = ((k + 1) / steps).astype(z.dtype)
        low, high = (start + jnp.clip(alpha + d, 0, 1) * (end - start) for d in (-max_dist, max_dist))
        moved = jnp.where(jnp.abs(end - z) > jnp.abs(end - low), low, z)  # farther from the end: behind
        need = jnp.abs(end - moved).sum() - distance * (1 - alpha)
        moved = _advance(moved, high, jnp.abs(slope), need, group)
        moved = jnp.where(k == steps - 1, end, moved)  # what rounding left over
        return (moved, total + slope * (moved - z)), None

    total = scan(jax.checkpoint(step), (start, jnp.zeros_like(end)), jnp.arange(steps))[0][1]
    found = as_map(total.reshape(x.shape), x)
    flat("guided_integrated_gradients", found, s, x, [start.reshape(x.shape).astype(x.dtype)])
    return found


def _advance(z: Array, goal: Array, size: Array, need: Array, group: int) -> Array:
    """Moves z towards goal, groups of smallest `size` first, until it has covered the L1 distance `need`.

    A group is the next `group` features in ascending order of `size`, with those that tie with its last one; features already
    at their goal are in none. Whole groups reach the goal; the one in which the distance is met moves in part.
    """
    room = jnp.abs(goal - z)
    # Nothing in the loop carries a derivative, so that the method can be differentiated in both directions. A slope that is
    # not a number comes last: the path must end.
    size = lax.stop_gradient(jnp.where((room > 0) & (size < jnp.inf), size, jnp.inf)).astype(jnp.float32)
    fixed_room, fixed_need = lax.stop_gradient((room, need))

    def short(bounds: tuple[Array, Array]) -> Array:
        within_reach = size <= bounds[1]
        return (jnp.where(within_reach, fixed_room, 0).sum() < fixed_need) & ~within_reach.all()

    def grow(bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        last = jnp.minimum((size <= bounds[1]).sum() + group, z.size)
        return bounds[1], kth_largest(size, z.size - last + 1)

    below, upto = while_loop(short, grow, (jnp.float32(-1), jnp.float32(-1)))
    whole, partly = size <= below, (size > below) & (size <= upto)
    before, span = (jnp.where(chosen, room, 0).sum() for chosen in (whole, partly))
    share = jnp.where(span > 0, jnp.clip((need - before) / jnp.where(span > 0, span, 1), 0, 1), 0)
    return z + (goal - z) * jnp.where(whole, 1, jnp.where(partly, share, 0))


def _group(fraction: float, size: int) -> int:
    if isinstance(fraction, jax.core.Tracer):
        raise ValueError(f"fraction={fraction} must be a Python number: it fixes the size of a group")
    return int(fraction * (size - 1)) + 1


def _blur(x: Array, sigma: Array, radius: int, padding: str) -> Array:
    """`fills.gaussian_blur(x, sigma)` for a traced sigma with `4 sigma <= radius`."""
    offsets = np.arange(-radius, radius + 1)
    weights = jnp.exp(-0.5 * (offsets / jnp.maximum(sigma, 1e-6)) ** 2)  # sigma = 0 gives the identity
    weights = jnp.where(np.abs(offsets) <= jnp.floor(4 * sigma + 0.5), weights, 0)
    weights = (weights / weights.sum()).astype(x.dtype)
    count = len(positions(x))
    for axis in range(max(0, count - 2), count):
        moved = jnp.tensordot(_band(x.shape[axis], weights, padding), x, axes=(1, axis), precision="highest")
        x = jnp.moveaxis(moved, 0, axis)
    return x


def _band(size: int, weights: Array, padding: str) -> Array:
    """The blur along one axis as a matrix `[size, size]`; a reflected signal is one of period `2 size`."""
    i, j = np.mgrid[:size, :size]
    radius = len(weights) // 2
    if padding == "constant":
        return weights.at[j - i + radius].get(mode="fill", fill_value=0, wrap_negative_indices=False)
    period = 2 * size
    before = -radius % period  # puts offset d at an index ≡ d (mod period)
    padded = jnp.pad(weights, (before, -(before + len(weights)) % period))
    folded = padded.reshape(-1, period).sum(0)
    return folded[(j - i) % period] + folded[(-1 - j - i) % period]
