"""Linear surrogates of the score over coalitions of features: LIME and KernelSHAP."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.attribution.coalitions import game, kernel_coalitions
from jxai.callables import plainly
from jxai.removal.doubts import kept_by_fill
from jxai.removal.fills import FillLike
from jxai.scores import need_key, objective, one_of, positive, within
from jxai.typing import Array, Model

__all__ = ["kernel_shap", "lime"]

DISTANCES = ("cosine", "l2")


@plainly
def lime(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    num_samples: int = 1000,
    p: float = 0.5,
    distance: str = "cosine",
    kernel_width: float | None = None,
    regularization: float = 1.0,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """LIME: the weights of a ridge regression of the score on coalitions near x.

    `min_{a, b} Σ_z π(z) (s(x_z) − b − aᵀz)² + α‖a‖²` with `π(z) = exp(−D(z, 1)² / σ²)`; the first sample is x itself.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the samples.
      segments: integer label map over the positions of x; features are its labels. num_segments: their number, static.
      grid: cells along every position axis instead; by default the entries of a vector, else 8 along every axis.
      num_samples: coalitions (1000 as in the authors' code; captum has 50), which keep each feature with probability `p` (all have 0.5).
      distance: `"cosine"`, `D = 1 − √(|z|/d)` (the authors' for images; captum takes the cosine of pixels), or `"l2"`, `D = √(d − |z|)` (theirs for tables).
      kernel_width: σ > 0; by default 0.25 √2 for cosine and 0.75 √(2d) for l2: the authors' code takes the square root of π (its σ is ours / √2).
      regularization: α ≥ 0 (1 in the authors' code, 2 in Xplique); the intercept b is free. At 0, of all weights that fit as well, those of
        the least norm: fewer samples than features leave them open.
      fill: what a removed position becomes; the authors' code for images takes the segment's mean colour.
      score: `"logit"`, `"probability"` (the paper's) or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]`, `[T, H, W, 1]` or `[D]`: the weight of each position's feature, signed.

    Raises:
      ValueError: no key, bad segments, grid or option, or bad x, target or score.

    Cost: `num_samples` forward passes.

    Reference: Ribeiro et al. 2016, "'Why Should I Trust You?': Explaining the Predictions of Any Classifier", KDD.
    """
    s = objective(f, x, target, score)
    kept_by_fill("lime", f, x, target, fill, key, score=score)
    positive(num_samples=num_samples)
    within(0, 1, p=p)
    within(0, math.inf, regularization=regularization)
    sample_key, fill_key = jax.random.split(need_key(key, "lime"))
    d, exists, value, spread = game(s, x, segments, grid, num_segments, fill, fill_key)
    proximity = _proximity(exists.sum(), distance, kernel_width)

    def block(i: Array, live: Array) -> tuple[Array, Array]:
        z = jax.vmap(lambda j: jax.random.bernoulli(jax.random.fold_in(sample_key, j), p, (d,)) | (j == 0))(i)
        # − ½ moves the intercept only, for a better condition; a label without positions is no feature: a column of zeros.
        rows = jnp.concatenate([(z - 0.5) * exists, jnp.ones((len(i), 1))], axis=1)
        weighted = (rows * (live * proximity((z & exists).sum(1)))[:, None]).T
        return jnp.matmul(weighted, rows, precision="highest"), jnp.matmul(weighted, value(z, i), precision="highest")

    gram, moment = loops.block_sums(block, num_samples, loops.at_once(x, chunk))
    return spread(_ridge(gram, moment, regularization))


def _ridge(gram: Array, moment: Array, alpha: float | Array) -> Array:
    """The weights, without the intercept, which is the last column and free; those of the least norm where α = 0 leaves them open."""
    if isinstance(alpha, (int, float)) and alpha > 0:
        return jnp.linalg.solve(gram + alpha * jnp.diag(jnp.arange(len(gram)) < len(gram) - 1), moment)[:-1]
    centred = gram[:-1, :-1] - jnp.outer(gram[:-1, -1], gram[-1, :-1] / gram[-1, -1])
    size, along = jnp.linalg.eigh(centred)
    known = size > len(gram) * jnp.finfo(gram.dtype).eps * size[-1]
    right = jnp.matmul(along.T, moment[:-1] - gram[:-1, -1] * (moment[-1] / gram[-1, -1]), precision="highest")
    return jnp.matmul(along, jnp.where(known, right / jnp.where(known, size + alpha, 1), 0), precision="highest")


def _proximity(d: Array, distance: str, width: float | Array | None) -> Callable[[Array], Array]:
    """`π` of a coalition as a function of its size."""
    one_of("distance", distance, DISTANCES)
    within(1e-6, math.inf, kernel_width=1.0 if width is None else width)
    if width is None:
        width = math.sqrt(2) * (0.25 if distance == "cosine" else 0.75 * jnp.sqrt(1.0 * d))

    def kernel(size: Array) -> Array:
        gap = 1 - jnp.sqrt(size / d) if distance == "cosine" else jnp.sqrt(1.0 * (d - size))
        return jnp.exp(-((gap / width) ** 2))

    return kernel


@plainly
def kernel_shap(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    num_samples: int = 2048,
    fill: FillLike = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """KernelSHAP: Shapley values as a weighted regression that is exact at the empty and at the full coalition.

    `min_φ Σ_z π(z) (s(x_z) − s(x_∅) − φᵀz)²` subject to `Σφ = s(x) − s(x_∅)`, with `π(z) = (d−1) / (C(d, |z|) |z| (d−|z|))`.
    Where all coalitions are at most `num_samples` they are all taken, which gives the Shapley values themselves; else they
    are drawn with probability ∝ π, each together with its complement.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`.
      key: for the samples and a noisy fill; not needed where all `2^d − 2` coalitions are taken.
      segments: integer label map over the positions of x; features are its labels. num_segments: their number, static.
      grid: cells along every position axis instead; by default the entries of a vector, else 8 along every axis.
      num_samples: coalitions besides those two; where drawn, at least 2 d, better 4 d or more (the authors' package: 2 d + 2048).
      fill: what a removed position becomes: one background example, where the authors' package averages over many.
      score: `"logit"` (the authors' package takes f as it is), `"probability"` or `"sigmoid"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]`, `[T, H, W, 1]` or `[D]`: the value of each position's feature, signed; over features they sum to `s(x) − s(x_∅)`.

    Raises:
      ValueError: no key where one is needed, fewer samples than 2 d, bad segments or grid, or bad x, target or score.

    Cost: `min(num_samples, 2**d - 2) + 2` forward passes for d features.

    Reference: Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions", NeurIPS.
    """
    s = objective(f, x, target, score)
    kept_by_fill("kernel_shap", f, x, target, fill, key, score=score)
    positive(num_samples=num_samples)
    sample_key, fill_key = (None, None) if key is None else jax.random.split(key)
    d, _, value, spread = game(s, x, segments, grid, num_segments, fill, fill_key)
    coalition, num = kernel_coalitions(d, num_samples, sample_key)

    def block(i: Array, live: Array) -> tuple[Array, ...]:
        z, weight = jax.vmap(coalition)(i)
        y, weight = value(z, i), live * weight
        # Rows on the right are z − ½, whose sum over a pair is 0: λ below takes up what all features share.
        rows = weight * (z.T - 0.5)
        # The last two passes are the empty and the full coalition.
        ends = jnp.where(i[:, None] == jnp.array([num - 2, num - 1]), (live * y)[:, None], 0).sum(0)
        return jnp.matmul(weight * z.T, z, precision="highest"), jnp.matmul(rows, y, precision="highest"), rows.sum(1), ends

    gram, moment, kept, (empty, full) = loops.block_sums(block, num, loops.at_once(x, chunk))
    # Lagrange: [A 1; 1ᵀ 0] [φ; λ] = [b; s(x) − s(∅)]; of the least norm where few samples leave A singular.
    one = jnp.ones((d, 1))
    system = jnp.block([[gram / num, one], [one.T, jnp.zeros((1, 1))]])
    inverse = jnp.linalg.pinv(system, rtol=1e-5, hermitian=True)
    return spread(jnp.matmul(inverse, jnp.append((moment - empty * kept) / num, full - empty), precision="highest")[:d])
