"""Meaningful perturbation: the mask of least area and variation that makes the evidence vanish."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from jxai import loops
from jxai.callables import plainly
from jxai.loops import scan
from jxai.removal import fills
from jxai.removal.doubts import kept_by_fill
from jxai.removal.masks import as_map
from jxai.scores import need_key, objective, one_of, positive, wide
from jxai.typing import Array, Model, Scalar

__all__ = ["meaningful_perturbation"]

INITS = ("circle", "random")
_SUPPRESSED = 1e-2  # the share of the score that a circle may leave
_SHIFT_STREAM, _FILL_STREAM, _INIT_STREAM = 0, 1, 2


@plainly
def meaningful_perturbation(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    steps: int = 300,
    fill: fills.FillLike = fills.Blur(10.0),
    mask_scale: int = 8,
    sigma: float = 5.0,
    l1: float | Array = 1e-4,
    l2: float | Array = 1e-2,
    tv_beta: float = 3.0,
    jitter: int = 4,
    init: str = "circle",
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """The smallest smooth deletion that suppresses the score, `1 − m̂` with
    `m = argmin l1·Σ|1 − m| + l2·Σ(∂₁m² + ∂₂m²)^(β/2) + s(m̂ ⊙ x + (1 − m̂) ⊙ fill)`, `m̂ = blur(upsample(m))`, m in [0, 1].

    m is optimised by Adam (rate 0.1), clipped at every step. Defaults are those of the paper's code for 224 × 224 pixels;
    `mask_scale`, `sigma`, `jitter` and the fill's sigma are in pixels, so choose smaller ones for smaller images.

    Args:
      f: a model. x: an image `[H, W, C]`. target: a class, or None. key: for the jitter, the fill and a random start.
      steps: iterations. fill: what is put in place of the evidence. mask_scale: pixels per entry of m, nearest upsampling.
      sigma: of the Gaussian blur of the upsampled mask, edges reflected.
      l1: weight of the deleted area. The code's value lets the deletion grow well beyond the evidence once the score is
        gone; 1e-3 gives tighter masks where the score is a confident probability.
      l2, tv_beta: weight and exponent (at least 1) of the total variation; both penalties count entries of m, not pixels.
      jitter: x and the fill shift together by a random offset of `jitter` possible values in each direction, at every
        step, edges repeated (the paper crops a larger image); 1 for none.
      init: "circle" starts from the smallest centred blurred disc, of radii 0, 5 … 170 and sigma 10 in units of
        max(H, W) / 224, that leaves 1 % of the score (the largest covers the image); "random" starts from noise.
      score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. chunk: discs that are tried at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]` in [0, 1]: 1 where the evidence was deleted.

    Raises:
      ValueError: x is no image, key is None, or an option is out of its range.

    Cost: `steps` forward and backward passes, and 35 forward passes for `init="circle"`.
    Reference: Fong and Vedaldi 2017, "Interpretable Explanations of Black Boxes by Meaningful Perturbation", ICCV.
    """
    s = objective(f, x, target, score)
    kept_by_fill("meaningful_perturbation", f, x, target, fill, key, score=score)
    key = need_key(key, "meaningful_perturbation")
    _check(x, steps, mask_scale, jitter, tv_beta, init)
    v = wide(x)
    fills.check_finite("meaningful_perturbation mixes x with its fill", x=x, fill=fill)
    null = fills.fixed(fill, v, jax.random.fold_in(key, _FILL_STREAM))
    null = null if callable(null) else jnp.broadcast_to(null, x.shape)
    up = [_upsampling(n, mask_scale, sigma) for n in x.shape[:2]]

    def enlarge(m: Array) -> Array:
        return jnp.einsum("hi,ij,wj->hw", up[0], m, up[1], precision="highest")[..., None]

    def perturbed(m: Array, image: Array, value: fills.FillLike, k: Array) -> Array:
        m = enlarge(m)
        return s(fills.remove(image, m, lax.stop_gradient(fills.resolve(value, image, m, k))).astype(x.dtype))

    def loss(m: Array, t: Array) -> Array:
        shift, noise = (jax.random.fold_in(jax.random.fold_in(key, stream), t) for stream in (_SHIFT_STREAM, _FILL_STREAM))
        offset = jax.random.randint(shift, (2,), 0, jitter)
        value = null if callable(null) else _shifted(null, offset, jitter)
        return l1 * jnp.abs(1 - m).sum() + l2 * _variation(m, tv_beta) + perturbed(m, _shifted(v, offset, jitter), value, noise)

    optimiser = optax.adam(0.1, b1=0.9, b2=0.999)

    def step(carry, t: Array):
        m, state = carry
        update, state = optimiser.update(jax.grad(loss)(m, t), state)
        return (jnp.clip(optax.apply_updates(m, update), 0, 1), state), None

    once = loops.at_once(x, chunk)
    if init == "circle":
        start = _smallest_circle(lambda m: perturbed(m, v, null, key), x.shape[:2], mask_scale, once)
    else:
        start = jax.random.uniform(jax.random.fold_in(key, _INIT_STREAM), [u.shape[1] for u in up])
    (m, _), _ = scan(step, (start, optimiser.init(start)), jnp.arange(steps))
    return as_map(1 - enlarge(m), x)


def _check(x: Array, steps: int, mask_scale: int, jitter: int, tv_beta: float, init: str) -> None:
    if x.ndim != 3:
        raise ValueError(f"meaningful_perturbation needs an image [H, W, C], got x of shape {x.shape}")
    positive(steps=steps, mask_scale=mask_scale, jitter=jitter)
    one_of("init", init, INITS)
    if mask_scale > min(x.shape[:2]):
        raise ValueError(f"{mask_scale=} is larger than the image, {x.shape[:2]}")
    if not tv_beta >= 1:
        raise ValueError(f"{tv_beta=} must be at least 1")


def _shifted(v: Array, offset: Array, jitter: int) -> Array:
    """v moved by `offset − ⌊(jitter − 1) / 2⌋` pixels, edges repeated; centred, so that the mask is not biased."""
    before = (jitter - 1) // 2
    around = (before, jitter - 1 - before)
    padded = jnp.pad(v, (around, around, (0, 0)), mode="edge")
    return lax.dynamic_slice(padded, (offset[0], offset[1], 0), v.shape)


def _cells(size: int, scale: int) -> np.ndarray:
    """Which entry of the mask a position belongs to, as `[size, ⌈size / scale⌉]` of 0 and 1."""
    return (np.arange(size)[:, None] // scale == np.arange(-(-size // scale))).astype(np.float32)


def _upsampling(size: int, scale: int, sigma: float) -> Array:
    """Nearest upsampling and blur along one axis as one matrix `[size, ⌈size / scale⌉]`: both are separable."""
    return fills.gaussian_blur(jnp.asarray(_cells(size, scale)), sigma)


def _variation(m: Array, beta: float) -> Array:
    """`Σ (∂₁m² + ∂₂m²)^(β/2)` with forward differences, 0 at the far edges; its gradient is 0 where m is flat."""
    square = jnp.diff(m, axis=0, append=m[-1:]) ** 2 + jnp.diff(m, axis=1, append=m[:, -1:]) ** 2
    return jnp.where(square > 0, jnp.where(square > 0, square, 1) ** (beta / 2), 0).sum()


def _smallest_circle(value: Scalar, shape: tuple[int, int], scale: int, chunk: int) -> Array:
    """The mask of the smallest disc that brings the score to 1 % of the way from nothing (all fill) to x."""
    unit = max(shape) / 224
    radii = jnp.asarray(unit * np.arange(0, 175, 5), jnp.float32)  # the first deletes nothing, the last everything
    y, x = (np.arange(n) - (n - 1) / 2 for n in shape)
    distance = jnp.asarray(np.hypot(y[:, None], x[None]), jnp.float32)
    mean = [c.T / c.sum(0)[:, None] for c in (_cells(n, scale) for n in shape)]
    smooth = [jnp.dot(a, fills.gaussian_blur(jnp.eye(n), 10 * unit), precision="highest") for a, n in zip(mean, shape)]

    def mask(radius: Array) -> Array:
        disc = (distance < radius).astype(jnp.float32)
        return jnp.clip(1 - jnp.einsum("ih,hw,jw->ij", smooth[0], disc, smooth[1], precision="highest"), 0, 1)

    scores = loops.stack(lambda i: value(mask(radii[i])), len(radii), chunk)
    gone = scores - scores[-1] <= _SUPPRESSED * (scores[0] - scores[-1])
    return mask(radii[jnp.argmax(gone)])
