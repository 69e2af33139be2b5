"""Extremal perturbation: the smooth mask of a given area that keeps, or destroys, most of the evidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jxai.callables import fresh, plainly
from jxai.kernels.order import kth_largest
from jxai.loops import scan, staged
from jxai.removal import fills
from jxai.removal.doubts import kept_by_fill
from jxai.removal.masks import as_map
from jxai.scores import SCORES, check_example, objective, one_of, positive, scored, wide
from jxai.typing import Array, Model

__all__ = ["extremal_perturbation"]

VARIANTS = ("preserve", "delete", "dual")
REWARDS = ("simple", "contrastive")
_COLDNESS = 20.0
_RATE, _MOMENTUM, _DAMPENING = 0.01, 0.9, 0.9
_GROWTH = 1.0035


@plainly
def extremal_perturbation(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    areas: float | tuple[float, ...] | Array = (0.1,),
    steps: int = 800,
    variant: str = "preserve",
    reward: str = "simple",
    score: str = "logit",
    fill: fills.FillLike | None = None,
    blur: float = 20.0,
    levels: int = 8,
    spacing: int = 7,
    sigma: float = 21.0,
    weight: float | Array = 300.0,
    flip: bool = True,
) -> Array:
    """The smooth mask of area a that maximises the evidence kept, summed over areas:
    `argmax_m Φ(m ⊗ x) − λ_t · mean((sort(m) − r_a)²)`, `λ_t = weight · 1.0035ᵗ`, r_a: zeros, then a share a of ones.

    m is a smooth max-convolution of a lattice of parameters in [0, 1], which start at 1 and move by gradient steps (rate
    0.01, momentum and dampening 0.9 as in PyTorch). Its area counts where it reaches over the border too, or corners would
    be cheap. Defaults are TorchRay's for 224 × 224 pixels; `spacing`, `sigma` and `blur` are in pixels, so choose smaller
    ones for smaller images. All areas are optimised at once.

    Args:
      f: a model. x: an image `[H, W, C]`. target: a class, or None. key: only for a fill that draws noise.
      areas: shares of the image in (0, 1); the masks of several are summed, as for the paper's pointing game on VOC with
        (0.025, 0.05, 0.1, 0.2), whose smoothing by a Gaussian of 9 % of the image is left to the metric.
      steps: iterations; a few hundred at least, since the area is a penalty.
      variant: "preserve" maximises Φ of the kept region, "delete" minimises Φ when it is removed, "dual" does both.
      reward: Φ is the score ("simple") or its margin over the best other class ("contrastive").
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`.
      fill: None for the paper's `⊗`: linear interpolation in m between `levels` images blurred with sigma `blur` (m = 0)
        to 0 (m = 1), edges reflected (TorchRay pads normalised pixels by zeros, which here would be a black frame). A
        number, an array or a fill fades to it: `m · x + (1 − m) · fill`.
      spacing, sigma: between lattice points, and of the max-convolution. weight: of the area term at first.
      flip: whether the network sees every second perturbed image, from the first on, mirrored left to right.

    Returns:
      `[H, W, 1]` in [0, number of areas]: high where the evidence is, for every variant.

    Raises:
      ValueError: x is no image, an option is out of its range, or "contrastive" without a second class.

    Cost: `steps × len(areas)` forward and backward passes, twice that for `variant="dual"`.
    Reference: Fong, Patrick and Vedaldi 2019, "Understanding Deep Networks via Extremal Perturbations and Smooth Masks", ICCV.
    """
    _check(x, areas, steps, variant, blur, levels, spacing, sigma)
    s = objective(*_rewarded(f, x, target, one_of("reward", reward, REWARDS), score))
    if fill is not None:
        kept_by_fill("extremal_perturbation", f, x, target, fill, key, score=score)
    shares = jnp.atleast_1d(jnp.asarray(areas, jnp.float32))
    perturb = _perturbation(x, fill, blur, levels, key)
    signs = jnp.asarray({"preserve": [1.0], "delete": [-1.0], "dual": [1.0, -1.0]}[variant])
    masked = partial(_smooth_mask, spacing=spacing, sigma=sigma)
    shape = x.shape[:2]

    def loss(params: Array, area: Array, t: Array) -> Array:
        whole = masked(params)
        m = _center(whole, shape)
        noise = None if key is None else jax.random.fold_in(key, t)

        def kept(sign: Array) -> Array:
            v = perturb(jnp.where(sign > 0, m, 1 - m)[..., None], noise)
            v = jnp.where(t % 2 == 0, v[:, ::-1], v) if flip else v
            return sign * s(v.astype(x.dtype))

        return weight * _GROWTH**t * _area_loss(whole, area * math.prod(shape)) - jax.vmap(kept)(signs).sum()

    start = jnp.ones(shares.shape + tuple(-(-n // spacing) for n in x.shape[:2]))
    params = _descend(lambda params, t: jax.vmap(loss, (0, 0, None))(params, shares, t).sum(), start, steps)
    return as_map(staged(jax.vmap(lambda p: _center(masked(p), shape)), params).sum(0)[..., None], x)


def _descend(loss: Callable[[Array, Array], Array], start: Array, steps: int) -> Array:
    """Momentum steps on `loss(params, t)`, clipped to [0, 1]."""
    # PyTorch's momentum buffer starts from the first gradient itself; dampening scales the later ones only.
    damping = optax.scale_by_schedule(lambda t: jnp.where(t == 0, 1.0, 1.0 - _DAMPENING))
    optimiser = optax.chain(damping, optax.trace(_MOMENTUM), optax.scale(-_RATE))

    def step(carry, t: Array):
        params, state = carry
        update, state = optimiser.update(jax.grad(loss)(params, t), state)
        return (jnp.clip(optax.apply_updates(params, update), 0, 1), state), None

    return scan(step, (start, optimiser.init(start)), jnp.arange(steps))[0][0]


def _check(x: Array, areas, steps: int, variant: str, blur: float, levels: int, spacing: int, sigma: float) -> None:
    check_example(x)
    if x.ndim != 3:
        raise ValueError(f"extremal_perturbation needs an image [H, W, C], got x of shape {x.shape}")
    positive(steps=steps, spacing=spacing, levels=levels)
    one_of("variant", variant, VARIANTS)
    if spacing > min(x.shape[:2]):
        raise ValueError(f"{spacing=} is larger than the image, {x.shape[:2]}")
    if levels < 2:
        raise ValueError(f"{levels=} must be at least 2")
    if not (sigma > 0 and blur >= 0):
        raise ValueError(f"{sigma=} must be positive and {blur=} not negative")
    if len(np.shape(areas)) > 1 or np.shape(areas) == (0,):
        raise ValueError(f"{areas=} must be one share of the image or several in a row")
    if not isinstance(areas, jax.Array) and not all(0 < a < 1 for a in np.atleast_1d(areas)):
        raise ValueError(f"{areas=} must lie in (0, 1)")


def _rewarded(f: Model, x: Array, target: int | Array | None, reward: str, score: str):
    """The arguments of `objective`: f itself, or the model whose outputs are margins over the best other class."""
    if reward == "simple":
        return f, x, target, score
    one_of("score", score, SCORES)
    f = fresh(f)
    shape = getattr(jax.eval_shape(lambda v: f(v), x), "shape", ())
    if target is None or len(shape) != 1 or shape[0] < 2:
        raise ValueError(f"reward='contrastive' needs a class among two or more, got {target=} and f(x) of shape {shape}")

    def margins(v: Array) -> Array:
        z = scored(wide(f(v)), score)
        (_, second), (best, _) = lax.top_k(z, 2)
        return z - jnp.where(jnp.arange(z.size) == best, second, z[best])

    return margins, x, target, "logit"


def _perturbation(x: Array, fill, blur: float, levels: int, key: Array | None) -> Callable[[Array, Array | None], Array]:
    """`(m [H, W, 1], key) -> m ⊗ x`, float32 or wider; what depends on x alone is computed here, once."""
    x = wide(x)
    if fill is not None:
        fills.check_finite("extremal_perturbation mixes x with its fill", x=x, fill=fill)
        value = fills.fixed(fill, x, key)
        return lambda m, k: fills.remove(x, m, lax.stop_gradient(fills.resolve(value, x, m, k)))
    pyramid = [fills.gaussian_blur(x, blur * (1 - i / (levels - 1))) for i in range(levels)]
    rises = [after - before for before, after in zip(pyramid, pyramid[1:])]

    def interpolated(m: Array, k: Array | None) -> Array:
        # Sum of the rises passed, in place of a gather: it vectorises, and the slope at m = 0 and at m = 1 is the whole one.
        at = m * (levels - 1)
        level = lax.stop_gradient(jnp.clip(jnp.floor(at), 0, levels - 2))
        parts = (jnp.where(level > i, 1.0, jnp.where(level == i, at - level, 0.0)) for i in range(levels - 1))
        return pyramid[0] + sum(part * rise for part, rise in zip(parts, rises))

    return interpolated


def _area_loss(m: Array, count: Array) -> Array:
    """`mean((sort(m) − r)²)`, r = zeros, then round(count) ones (at least one).

    Without sorting: r is 1 above the threshold that so many entries reach, 0 below; ties at the threshold share what is
    left, where a sort would favour one corner of the image.
    """
    count = jnp.clip(jnp.round(count), 1, m.size)
    threshold = kth_largest(m, count)
    above, tied = m > threshold, m == threshold
    r = jnp.where(above, 1.0, jnp.where(tied, (count - above.sum()) / tied.sum(), 0.0))
    return ((m - r) ** 2 + r * (1 - r)).mean()


def _smooth_mask(params: Array, spacing: int, sigma: float) -> Array:
    """`m(u) = Σ_v a exp(20 a) / Σ_v exp(20 a)`, `a = κ(|u − v|) · params(v)`, over lattice points v near pixel u.

    `κ(δ) = exp(−2 max(δ/σ − ½, 0)²)`. Points lie at the centres of cells of `spacing` pixels, the lattice is centred on
    the image (to half a pixel) and 0 beyond it; near are the (2r + 1)² cells around u's own, r = 1 + ⌈σ / spacing⌉. The
    mask has a margin of ⌈σ / spacing⌉ cells on every side.
    """
    phases = _smooth_max(jnp.pad(params, math.ceil(sigma / spacing)), spacing, sigma)
    return phases.transpose(2, 0, 3, 1).reshape([a * b for a, b in zip(phases.shape[2:], phases.shape[:2])])


def _center(whole: Array, shape: tuple[int, int]) -> Array:
    top, left = ((n - size) // 2 for n, size in zip(whole.shape, shape))
    return whole[top : top + shape[0], left : left + shape[1]]


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _smooth_max(params: Array, spacing: int, sigma: float) -> Array:
    """The mask by position within a cell, then by cell: `[spacing, spacing, h, w]`, so that every weight is a scalar."""
    return _smooth_max_forward(params, spacing, sigma)[0]


def _weights(spacing: int, sigma: float) -> np.ndarray:
    """κ between a pixel of a cell and the centre of the cell (i, j) away: `[2r + 1, 2r + 1, spacing, spacing]`."""
    radius = 1 + math.ceil(sigma / spacing)
    along = np.arange(spacing) - (spacing - 1) / 2 - spacing * np.arange(-radius, radius + 1)[:, None]
    distance = np.hypot(along[:, None, :, None], along[None, :, None, :])
    return np.exp(-2 * np.maximum(distance / sigma - 0.5, 0) ** 2).astype(np.float32)


# Rows of neighbours are scanned and those of a row unrolled: one pass over the mask for each row, nothing of size
# (2r + 1)² · H · W. The backward pass accumulates per lattice point what its pixels send back, in the same way.


def _smooth_max_forward(params: Array, spacing: int, sigma: float):
    weights = _weights(spacing, sigma)
    side, (h, w) = len(weights), params.shape
    padded = jnp.pad(params, side // 2)

    def row(sums, this):
        top, kernels = this
        kernels, band = lax.optimization_barrier((kernels, lax.dynamic_slice_in_dim(padded, top, h, axis=0)))
        total, norm = sums
        for left in range(side):
            a = kernels[left][:, :, None, None] * band[:, left : left + w]
            e = jnp.exp(_COLDNESS * a)
            total, norm = total + a * e, norm + e
        return (total, norm), None

    zeros = jnp.zeros((spacing, spacing, h, w), params.dtype)
    (total, norm), _ = scan(row, (zeros, zeros), (jnp.arange(side), jnp.asarray(weights)))
    return total / norm, (params, total / norm, norm)


def _smooth_max_backward(spacing: int, sigma: float, residuals, cotangent: Array):
    params, out, norm = residuals
    weights = _weights(spacing, sigma)
    side, (h, w) = len(weights), params.shape
    around = ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2)
    # ∂m/∂a = e (1 + 20 (a − m)) / Σe
    slope = jnp.pad(cotangent / norm * _COLDNESS, around)
    constant = jnp.pad(cotangent / norm * (1 - _COLDNESS * out), around)

    def row(total, this):
        top, kernels = this
        lines = [lax.dynamic_slice_in_dim(v, side - 1 - top, h, axis=2) for v in (slope, constant)]
        kernels, lines = lax.optimization_barrier((kernels, lines))
        for left in range(side):
            kernel = kernels[left][:, :, None, None]
            a = kernel * params
            gain, rest = (v[..., side - 1 - left : side - 1 - left + w] for v in lines)
            total = total + kernel * jnp.exp(_COLDNESS * a) * (rest + a * gain)
        return total, None

    total, _ = scan(row, jnp.zeros_like(out), (jnp.arange(side), jnp.asarray(weights)))
    return (total.sum((0, 1)),)


_smooth_max.defvjp(_smooth_max_forward, _smooth_max_backward)
