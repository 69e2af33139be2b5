"""RISE: the score averaged over smooth random masks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import plainly
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike, mixer
from jxai.removal.masks import as_map, cells, position_shape, positions
from jxai.scores import need_key, objective, one_of, positive, within
from jxai.typing import Array, Model

__all__ = ["rise"]

NORMALIZATIONS = ("expectation", "coverage")


@plainly
def rise(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    num_masks: int = 4000,
    grid: int | tuple[int, ...] = 7,
    p: float = 0.5,
    normalization: str = "expectation",
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """RISE: `S = 1/(N p) Σ_i s(x ⊙ M_i) M_i` over N random masks.

    A mask is a grid of independent cells, 1 with probability p, interpolated linearly to one cell more than x and cropped
    at a uniformly random offset of its own, less than a cell along every axis. (Xplique shares the offsets within a batch.)

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the masks.
      num_masks: N. The paper has 4000 (VGG16) and 8000 (ResNet50), its published code 5000 and 6000.
      grid: cells along every position axis, an integer or one for each (the paper's 7; its code 8 and 10).
      p: the probability that a cell is kept, in (0, 1] (the paper's 0.5; its code 0.1).
      normalization: `"expectation"` divides by `N p` (the paper, its code); `"coverage"` divides every position by its own
        `Σ_i M_i + 1e-4` (Xplique), which takes out the noise of the masks' mean.
      fill: what a removed position becomes; the paper removes after the model's normalisation, that is to the data's mean.
      score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]` for an image, `[T, H, W, 1]` for a video, `[D]` for a vector: the expected score given that the position
      is kept. Not zero where the position is irrelevant: only differences between positions mean something.

    Raises:
      ValueError: no key, p not in (0, 1], a grid larger than x, an unknown option, or bad x, target or score.

    Cost: `num_masks` forward passes.

    Reference: Petsiuk et al. 2018, "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC.
    """
    s = objective(f, x, target, score)
    kept_by_fill("rise", f, x, target, fill, key, score=score)
    positive(num_masks=num_masks)
    within(1e-6, 1.0, p=p)
    one_of("normalization", normalization, NORMALIZATIONS)
    mask_key, fill_key = jax.random.split(need_key(key, "rise"))
    mask, removed = _sampler(x, grid, p), mixer("rise", x, fill, fill_key)

    def block(i: Array, live: Array) -> tuple[Array, ...]:
        masks = jax.vmap(lambda j: mask(jax.random.fold_in(mask_key, j)))(i)
        scores = jax.vmap(lambda m, j: s(removed(m, j)))(masks, i)
        # One contraction: under `vmap` over targets it becomes a matrix product with the same masks.
        weights = (scores * live,) if normalization == "expectation" else (scores * live, live)
        return tuple(jnp.tensordot(w, masks, axes=1, precision="highest") for w in weights)

    total, *coverage = loops.block_sums(block, num_masks, loops.at_once(x, chunk))
    return as_map(total / (coverage[0] + 1e-4 if coverage else num_masks * p), x)


def _sampler(x: Array, grid: int | tuple[int, ...], p: float):
    """`key -> mask`, float32, in `position_shape(x)`."""
    shape = positions(x)
    counts = cells(shape, grid)
    widths = [-(-size // count) for size, count in zip(shape, counts)]
    tables = [_interpolation(count, width) for count, width in zip(counts, widths)]

    def mask(key: Array) -> Array:
        cell_key, shift_key = jax.random.split(key)
        out = jax.random.bernoulli(cell_key, p, counts).astype(jnp.float32)
        shifts = jax.random.randint(shift_key, (len(shape),), 0, jnp.array(widths))
        for table, shift, size in zip(tables, shifts, shape):
            rows = jax.lax.dynamic_slice_in_dim(table, shift, size)
            # Contracts the first axis of cells and appends its positions, so that the axes end in order.
            out = jnp.tensordot(out, rows, axes=(0, 1), precision="highest")
        return out.reshape(position_shape(x))

    return mask


def _interpolation(count: int, width: int) -> Array:
    """Linear interpolation of `count` cells to `(count + 1) · width` positions as a matrix `[positions, count]`.

    Pixel centres lie at half-integers and cells are mirrored at the border about the centre of the last, which is what
    the published code's resize (scikit-image, order 1, "reflect") computes.
    """
    size = (count + 1) * width
    at = (np.arange(size) + 0.5) * count / size - 0.5
    low = np.floor(at).astype(int)
    mirrored = np.pad(np.arange(count), 1, mode="reflect")
    table = np.zeros((size, count), np.float32)
    for cell, weight in ((low, 1 - (at - low)), (low + 1, at - low)):
        np.add.at(table, (np.arange(size), mirrored[cell + 1]), weight)
    return jnp.asarray(table)
