"""Infidelity: how far the attribution is from predicting what perturbations of the example do to the score."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import plainly
from jxai.metrics.common import nan_unless_finite, shared_out
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, baseline, remover
from jxai.removal.masks import position_shape, positions
from jxai.removal.scales import or_pictures
from jxai.scores import need_key, objective, one_of, positive, wide, within
from jxai.typing import Array, Model, Scalar

__all__ = ["infidelity"]

PERTURBATIONS = ("square", "noisy_baseline", "gaussian")


@plainly
def infidelity(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    perturbation: str = "square",
    sizes: int | tuple[int, ...] = 4,
    stride: int | None = None,
    num_samples: int = 100,
    sigma: float | Array | None = None,
    scaled: bool = False,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Mean squared error of the drop that the attribution predicts: `E_I[(Iᵀa − (s(x) − s(x − I)))²]`.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or `None`. attribution: has x's rank, broadcasts against x.
      key: needed for noise. perturbation: what I is:
        `"square"`: every patch of the given sizes is filled; `a` is the contribution of an entry (input × gradient, integrated gradients,
        Shapley values, occlusion), of which a map with one channel gives the sum, and `Iᵀa` adds it up over the patch;
        `"noisy_baseline"`: all of x becomes `fill + σε`; `"gaussian"`: `I = σε`, ε standard normal. There, `a` is the slope at an
        entry (gradient, SmoothGrad), the same in all channels where the map has one, and `Iᵀa` is the product with I.
        The authors' code pairs them so; its patches have `sizes=tuple(range(1, 11)), stride=1`, its noise is clipped to [0, 1].
      sizes: sides of patches, cut at the far border and at short axes. stride: positions between patches; None: side by side.
      num_samples: draws of noise. sigma: their standard deviation, in units of x; None: 0.2 for pictures.
      scaled: the attribution is first multiplied by the β that fits best, `E[(Iᵀa) Δs] / E[(Iᵀa)²]`, as the authors' code does.
      segments, grid, num_segments: the groups that a map for `"square"` is by, as of the method that made it: such a map holds a group's value at
        each of its positions; it counts once, shared out among them. By default the map is by entries.
      fill: what a removed position becomes. score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: passes at once.

    Returns:
      float32, in squared units of the score; of a constant map as of any other. NaN where the map is not finite.

    Raises:
      ValueError: noise without a key, or a bad option or attribution.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: 1 + num_samples forward passes with noise; 1 + Σ_size Π_axes (⌈(length − size) / stride⌉ + 1) with patches.
    Reference: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", NeurIPS.
    """
    s = objective(f, x, target, score)
    kept_by_fill("infidelity", f, x, target, fill, key, score=score)
    a = shared_out(attribution, x, segments, grid, num_segments)
    one_of("perturbation", perturbation, PERTURBATIONS)
    if perturbation != "square" and (segments is not None or grid is not None):
        raise ValueError(f"{perturbation=} takes a map of slopes, which is by entries: segments and grid are for 'square'")
    positive(num_samples=num_samples)
    within(math.ulp(0.0), math.inf, sigma=sigma)
    # Checked whatever the perturbation is.
    first, side = _patches(positions(x), sizes, stride)
    if perturbation == "square":
        n, apply = len(side), _filled(x, a, first, side, remover(x, fill, key))
    else:
        n, apply = num_samples, _noisy(x, attribution, need_key(key, f"perturbation={perturbation!r}"), perturbation, or_pictures("sigma", sigma, 0.2, x), fill)

    predicted, drop = _measure(s, x, apply, n, loops.at_once(x, chunk))
    scale = _best_scale(predicted, drop) if scaled else 1.0
    return nan_unless_finite(((scale * predicted - drop) ** 2).mean(), attribution)


def _measure(s: Scalar, x: Array, apply, n: int, chunk: int) -> tuple[Array, Array]:
    """`Iᵀa` and `s(x) − s(x − I)` for the perturbations `apply(0), …, apply(n−1)`, each `[n]`."""

    def one(i: Array) -> tuple[Array, Array]:
        # Pass n changes nothing: x itself runs in the same body, so that f is compiled once.
        changed, predicted = apply(jnp.minimum(i, n - 1))
        return predicted, s(jnp.where(i == n, x, changed))

    predicted, left = loops.stack(one, n + 1, chunk)
    return predicted[:-1], left[-1] - left[:-1]


def _best_scale(predicted: Array, drop: Array) -> Array:
    """The β with the least `E[(β · predicted − drop)²]`; 0 where nothing is predicted."""
    # Scaled first, so that squares neither overflow nor vanish.
    top = jnp.abs(predicted).max()
    unit = predicted / jnp.where(top == 0, 1, top)
    return jnp.where(top == 0, 0.0, (unit * drop).mean() / jnp.where(top == 0, 1, (unit**2).mean() * top))


def _filled(x: Array, a: Array, first: np.ndarray, side: np.ndarray, removed):
    """`i -> (x with patch i filled, Σ a over the patch)`, a being per position."""
    first, side = jnp.asarray(first), jnp.asarray(side)

    def apply(i: Array) -> tuple[Array, Array]:
        inside = jnp.ones((), bool)
        for axis, length in enumerate(positions(x)):
            along = jnp.arange(length) - first[i, axis]
            inside = inside[..., None] & (along >= 0) & (along < side[i])
        return removed(~inside.reshape(position_shape(x)), i), jnp.where(inside, a, 0).sum()

    return apply


def _noisy(x: Array, attribution: Array, key: Array, perturbation: str, sigma: float | Array, fill: FillLike):
    """`i -> (x − I, Iᵀa)` for noise I, a being per entry."""
    draw_key, fill_key = jax.random.split(key)
    clean, a = wide(x), wide(attribution)
    start = clean if perturbation == "gaussian" else wide(baseline(fill, x, fill_key))

    def apply(i: Array) -> tuple[Array, Array]:
        noise = sigma * jax.random.normal(jax.random.fold_in(draw_key, i), x.shape, clean.dtype)
        changed = (start - noise).astype(x.dtype)
        # What f sees: in half precision, it is not quite the noise that was drawn.
        return changed, ((clean - wide(changed)) * a).sum()

    return apply


def _patches(shape: tuple[int, ...], sizes: int | tuple[int, ...], stride: int | None) -> tuple[np.ndarray, np.ndarray]:
    """The first position `[n, axes]` and the side `[n]` of every patch."""
    first, side = [], []
    for size in sizes if isinstance(sizes, (tuple, list)) else (sizes,):
        positive(sizes=size, stride=size if stride is None else stride)
        step = size if stride is None else stride
        counts = [-(-max(length - size, 0) // step) + 1 for length in shape]
        first.append(np.stack(np.unravel_index(np.arange(np.prod(counts)), counts), -1) * step)
        side.append(np.full(len(first[-1]), size))
    if not side:
        raise ValueError(f"{sizes=} must be at least one side of patches")
    return np.concatenate(first).astype(np.int32), np.concatenate(side).astype(np.int32)
