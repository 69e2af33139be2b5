"""Sensitivity analysis: how much the score varies with, or depends on, every cell of a random mask."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.attribution.estimators import DESIGN_KERNELS, SOBOL_ESTIMATORS, hsic_of_binary, total_order
from jxai.callables import plainly
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, mixer, remover
from jxai.removal.masks import INTERPOLATIONS, as_map, cells, default_grid, design, features, position_shape, positions, spread, upsample
from jxai.scores import objective, one_of, positive
from jxai.typing import Array, Model

__all__ = ["hsic", "sobol"]

UPSAMPLINGS = ("nearest", "bilinear", "bicubic")


@plainly
def sobol(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    grid: int | tuple[int, ...] | None = None,
    segments: Array | None = None,
    num_segments: int | None = None,
    num_designs: int = 32,
    estimator: str = "jansen",
    sampler: str = "sobol",
    fill: FillLike = 0.0,
    interpolation: str = "nearest",
    upsampling: str = "bicubic",
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Total-order Sobol indices of the score in the cells of a mask m: `ST_i = E[Var(s | m_j, j ≠ i)] / Var(s)`.

    Masks in [0, 1]^d are a design A, `[N, d]`, and A with column i from a second design B, whose own scores no estimator needs.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the other samplers and a noisy fill.
      grid: cells along every position axis; by default the entries of a vector, else 8 (the published codes; the paper has 11).
      segments: integer label map instead of a grid. num_segments: its labels, static; needed where it is traced.
      num_designs: N ≥ 2; Sobol points are balanced at powers of two. 32 as in the paper and Xplique; the authors' code has 64.
      estimator: `"jansen"` (the paper's), `"homma"`, `"saltelli"` (the same number), `"janon"` or `"glen"`.
      sampler: `"sobol"` (the paper's LP-τ), `"scrambled_sobol"`, `"halton"`, `"latin_hypercube"` or `"monte_carlo"`.
      fill: what `m = 0` becomes: 0 is the paper's inpainting; its blur is a box, ours `fills.Blur(sigma)`.
      interpolation: of a grid's masks: `"nearest"` (the authors' PyTorch code, Xplique) or `"bilinear"` (their TensorFlow code).
      upsampling: of a grid's map: `"bicubic"` (the published codes), `"bilinear"` or `"nearest"`. Segments are filled as they are.
      score: `"logit"` (the published codes'), `"probability"` or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]`, `[T, H, W, 1]` or `[D]`: the share of the variance that a cell takes part in, without a sign. 0 for a constant score.

    Raises:
      ValueError: bad segments, grid or option, a sampler without the key it needs, or bad x, target or score.

    Cost: `num_designs * (d + 1)` forward passes for d cells.

    Reference: Fel et al. 2021, "Look at the Variance! Efficient Black-box Explanations with Sobol-based Sensitivity Analysis", NeurIPS.
    """
    s = objective(f, x, target, score)
    kept_by_fill("sobol", f, x, target, fill, key, score=score)
    _at_least_two(num_designs)
    one_of("estimator", estimator, SOBOL_ESTIMATORS)
    num, paint, heat = _layout(x, segments, grid, num_segments, interpolation, upsampling)
    design_key, fill_key = (None, None) if key is None else jax.random.split(key)
    a, b = jnp.split(design(sampler, num_designs, 2 * num, design_key), 2, axis=1)
    removed = mixer("sobol", x, fill, fill_key)

    def scored(i: Array) -> Array:
        # Block 0 of N passes is A, block j + 1 is A with column j of B; one design shares the noise of the fill.
        column, row = i // num_designs - 1, i % num_designs
        values = jnp.where(jnp.arange(num) == column, b[row], a[row])
        return s(removed(paint(values), row))

    scores = loops.stack(scored, num_designs * (num + 1), loops.at_once(x, chunk)).reshape(num + 1, num_designs)
    return as_map(heat(total_order(scores[0], scores[1:], estimator)), x)


@plainly
def hsic(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    grid: int | tuple[int, ...] | None = None,
    segments: Array | None = None,
    num_segments: int | None = None,
    num_designs: int = 500,
    kernel: str = "dirac",
    width: float | None = None,
    sampler: str = "latin_hypercube",
    fill: FillLike = 0.0,
    upsampling: str = "bicubic",
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Hilbert–Schmidt dependence of the score on the cells of a binary mask: `1/N tr(H K_i H · H L H)`, `H = I − 11ᵀ/N`.

    K_i is the kernel of the cell's values (a constant added to it, as in the published `1 + K_i`, changes nothing), and
    `L = exp(−(s−s')²/(2w²))` that of the scores.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the sampler and a noisy fill.
      grid: cells along every position axis; by default the entries of a vector, else 8 (Xplique).
      segments: integer label map instead of a grid. num_segments: its labels, static; needed where it is traced.
      num_designs: N masks, cells kept with probability ½ (Xplique's 500).
      kernel: of a cell: `"dirac"` (Xplique's default), `"rbf"` (of width ½) or `"sobolev"`. On {0, 1} they differ by a factor only.
      width: w > 0, of the scores' kernel; by default their median (Xplique: the median of the scores themselves, not of their distances).
      sampler: `"latin_hypercube"` (the paper's), `"sobol"` (Xplique's; no key; with few designs, columns coincide), or another of
        `sobol`'s; its points are rounded to 0 and 1.
      fill: what a removed position becomes (0: the published inpainting).
      upsampling: of a grid's map: `"bicubic"` (Xplique), `"bilinear"` or `"nearest"`. Segments are filled as they are.
      score: `"logit"` (Xplique's), `"probability"` or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`), and rows of L.

    Returns:
      `[H, W, 1]`, `[T, H, W, 1]` or `[D]`, without a sign; 0 for a constant score.

    Raises:
      ValueError: no key (unless `sampler="sobol"`), bad segments, grid or option, or bad x, target or score.

    Cost: `num_designs` forward passes.

    Reference: Novello et al. 2022, "Making Sense of Dependence: Efficient Black-box Explanations Using Dependence Measure", NeurIPS.
    """
    s = objective(f, x, target, score)
    kept_by_fill("hsic", f, x, target, fill, key, score=score)
    _at_least_two(num_designs)
    one_of("kernel", kernel, DESIGN_KERNELS)
    if isinstance(width, (int, float)) and not width > 0:
        raise ValueError(f"{width=} must be positive, or None for the median of the scores")
    num, paint, heat = _layout(x, segments, grid, num_segments, "nearest", upsampling)
    design_key, fill_key = (None, None) if key is None else jax.random.split(key)
    z = (design(sampler, num_designs, num, design_key) >= 0.5).astype(jnp.float32)
    removed = remover(x, fill, fill_key)
    scores = loops.stack(lambda i: s(removed(paint(z[i]), i)), num_designs, loops.at_once(x, chunk))
    return as_map(heat(hsic_of_binary(z, scores, kernel, width, loops.at_once(x, chunk))), x)


def _layout(x: Array, segments, grid, num_segments, interpolation: str, upsampling: str) -> tuple[int, Callable, Callable]:
    """The number of cells d, `paint [d] -> mask`, and `heat [d] -> map`, both in `position_shape(x)`."""
    one_of("interpolation", interpolation, INTERPOLATIONS)
    one_of("upsampling", upsampling, UPSAMPLINGS)
    if segments is not None and interpolation != "nearest":
        raise ValueError(f"{interpolation=} needs a grid: segments have no neighbours in order")
    grid = default_grid(x, segments, grid)
    labels, num = features(x, segments, grid, num_segments)

    def resized(values: Array, method: str) -> Array:
        return upsample(values.reshape(cells(positions(x), grid)), positions(x), method).reshape(position_shape(x))

    def paint(values: Array) -> Array:
        return spread(values, labels, x, outside=1.0) if interpolation == "nearest" else resized(values, interpolation)

    def heat(values: Array) -> Array:
        return spread(values, labels, x) if segments is not None or upsampling == "nearest" else resized(values, upsampling)

    return num, paint, heat


def _at_least_two(num_designs: int) -> None:
    positive(num_designs=num_designs)
    if num_designs < 2:
        raise ValueError(f"{num_designs=} must be at least 2: an index is a share of variance")
