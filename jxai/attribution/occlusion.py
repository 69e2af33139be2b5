"""Removing one part of the example at a time: sliding windows, and the features of a segmentation or a grid."""

from __future__ import annotations

from functools import reduce

import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import plainly
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, remover
from jxai.removal.masks import as_map, default_grid, features, position_shape, positions, spread
from jxai.scores import objective, one_of, positive
from jxai.typing import Array, Model

__all__ = ["feature_ablation", "occlusion"]

BORDERS = ("clip", "valid")
REDUCTIONS = ("mean", "sum")


@plainly
def occlusion(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    window: int | tuple[int, ...] | None = None,
    stride: int | tuple[int, ...] | None = None,
    borders: str = "clip",
    reduction: str = "mean",
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Occlusion by a sliding window W: a position p gets the drops `s(x) − s(x without W)` of the windows that cover p.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for a fill that draws noise.
      window: positions along every position axis (an integer or one for each); by default an eighth of every axis, at least 1.
      stride: steps between windows, at most `window`; by default half of it, at least 1.
      borders: `"clip"`: windows run on until the border is covered, the last one cut there (captum); `"valid"`: only
        whole windows, so that a rest at the far border may stay 0 (Xplique, PAIR).
      reduction: `"mean"` over the windows that cover a position (captum) or their `"sum"` (Xplique, PAIR).
        Xplique has window 3 and stride 3; PAIR window 15 and stride 1, without the last window of every axis.
      fill: what an occluded position becomes.
      score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`.
      chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]` for an image, `[T, H, W, 1]` for a video, `[D]` for a vector; signed, positive where removal lowers the score.

    Raises:
      ValueError: a window larger than x, a stride larger than the window, an unknown option, or bad x, target or score.

    Cost: one forward pass for x and one for every window, `1 + Π (⌈(size − window) / stride⌉ + 1)` over the axes.

    Reference: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks", ECCV.
    """
    s = objective(f, x, target, score)
    kept_by_fill("occlusion", f, x, target, fill, key, score=score)
    one_of("reduction", reduction, REDUCTIONS)
    windows = _windows(positions(x), window, stride, one_of("borders", borders, BORDERS))
    counts = tuple(count for count, _, _ in windows)
    num = int(np.prod(counts))
    removed = remover(x, fill, key)

    def scored(i: Array) -> Array:
        inside = [_covers(j, w, n) for j, w, n in zip(jnp.unravel_index(i, counts), windows, positions(x))]
        keep = ~reduce(lambda a, b: a[..., None] & b, inside).reshape(position_shape(x))
        # Pass `num` removes nothing: x itself runs in the same body, so that f is compiled once.
        return s(removed(keep | (i == num), i))

    scores = loops.stack(scored, num + 1, loops.at_once(x, chunk))
    out = (scores[-1] - scores[:-1]).reshape(counts)
    covers = [_covers(np.arange(w[0])[:, None], w, n).astype(np.float32) for w, n in zip(windows, positions(x))]
    for cover in covers:
        # Contracts the first axis of windows and appends its positions, so that the axes end in order.
        out = jnp.tensordot(out, cover, axes=(0, 0), precision="highest")
    if reduction == "mean":
        out = out / np.maximum(reduce(np.multiply.outer, [cover.sum(0) for cover in covers]), 1)
    return as_map(out.reshape(position_shape(x)), x)


@plainly
def feature_ablation(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Every feature removed alone: `a_i = s(x) − s(x without feature i)`, given to all positions of the feature.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for a fill that draws noise.
      segments: integer label map over the positions of x; features are its labels.
      grid: cells along every position axis instead; by default the entries of a vector, else 8 along every axis.
      num_segments: the number of labels, static; needed where `segments` is traced.
      fill: what a removed position becomes.
      score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]` for an image, `[T, H, W, 1]` for a video, `[D]` for a vector; signed. Positions of no feature get 0.
      It is a feature's whole drop, not shared out among its positions (captum's FeatureAblation).

    Raises:
      ValueError: bad segments or grid, or bad x, target or score.

    Cost: d + 1 forward passes for d features.

    Reference: Kokhlikyan et al. 2020, "Captum: A Unified and Generic Model Interpretability Library for PyTorch", arXiv 2009.07896.
    """
    s = objective(f, x, target, score)
    kept_by_fill("feature_ablation", f, x, target, fill, key, score=score)
    labels, num = features(x, segments, default_grid(x, segments, grid), num_segments)
    removed = remover(x, fill, key)

    def scored(i: Array) -> Array:
        # Pass `num` removes nothing; a label may equal it, though, where positions belong to no feature.
        keep = (labels != i) | (i == num)
        return s(removed(keep.reshape(position_shape(x)), i))

    scores = loops.stack(scored, num + 1, loops.at_once(x, chunk))
    return as_map(spread(scores[-1] - scores[:-1], labels, x), x)


def _windows(shape: tuple[int, ...], window, stride, borders: str) -> list[tuple[int, int, int]]:
    """For every axis the number of windows, their stride and their size."""
    window = tuple(max(1, size // 8) for size in shape) if window is None else _per_axis("window", window, shape)
    stride = tuple(max(1, w // 2) for w in window) if stride is None else _per_axis("stride", stride, shape)
    windows = []
    for size, w, step in zip(shape, window, stride):
        if w > size:
            raise ValueError(f"{window=} is larger than the positions of x, {shape}")
        if step > w:
            raise ValueError(f"{stride=} must not exceed {window=}, or positions between windows are never occluded")
        rest = size - w
        windows.append(((-(-rest // step) if borders == "clip" else rest // step) + 1, step, w))
    return windows


def _covers(j: Array | np.ndarray, window: tuple[int, int, int], size: int) -> Array | np.ndarray:
    """Which positions of an axis the window(s) number j cover: `[..., size]`."""
    _, step, w = window
    position = np.arange(size)
    return (position >= j * step) & (position < j * step + w)


def _per_axis(name: str, value: int | tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    values = tuple(value) if isinstance(value, (tuple, list)) else (value,) * len(shape)
    if len(values) != len(shape):
        raise ValueError(f"{name}={value} must be an integer or {len(shape)} of them, for positions of shape {shape}")
    for each in values:
        positive(**{name: each})
    return values
