"""Class activation maps that need no gradient: channels are ablated, or become masks of the image."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.attribution.activation import over, resize
from jxai.callables import fresh, plainly
from jxai.removal import fills
from jxai.removal.doubts import kept_by_fill
from jxai.scores import SHARES, objective, one_of, scored, wide
from jxai.tracing import taps
from jxai.typing import Array, Model

__all__ = ["ablation_cam", "score_cam", "sidu"]


@plainly
def ablation_cam(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "logit",
    relu: bool = True,
    interpolation: str = "bilinear",
    chunk: int | None = None,
) -> Array:
    """The layer's channels, weighted by what the score loses without them: `w_k = (s − s_k) / s`.

    `s_k` is the score with channel k set to 0 at every position. Only what follows the layer is computed again.

    Args:
      f: model, `x -> logits [K]`. x: `[H, W, C]` or `[T, H, W, C]`. target: class, or None for a scalar f. key: unused.
      layer: which value (see `jxai.taps.find`); None is the last one from which the class is reached through positions.
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`. relu: keep positive evidence only (the paper).
      interpolation: `"bilinear"`, `"bicubic"` or `"nearest"`. chunk: passes at once (None: `jxai.loops.at_once`).

    Returns:
      `[H, W, 1]`, as a share of the score; not normalised. A negative score turns the signs, as the definition has it; of a
      score of 0 there are no shares, and the map is 0.

    Raises:
      ValueError: unknown layer, or one without spatial extent; see also `jxai.scores.objective`.

    Cost: 1 forward pass and one from the layer on for each of its channels.
    Reference: Desai & Ramaswamy 2020, "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free Localization", WACV.
    """
    objective(f, x, target, score)
    found, value, head = taps.split(f, x, layer)
    a = wide(taps.to_map(value, found))
    s = objective(head, value, target, score)
    whole = s(value)
    channel = taps.channels(found)
    without = loops.stack(lambda k: s(jnp.where(channel == k, 0, value)), a.shape[-1], loops.at_once(x, chunk))
    share = jnp.where(whole == 0, 0, (whole - without) / jnp.where(whole == 0, 1, whole))
    return resize((a * share).sum(-1), found, x, relu, interpolation)


@plainly
def score_cam(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "logit",
    weights: str = "softmax",
    relu: bool = True,
    fill: fills.FillLike = 0.0,
    chunk: int | None = None,
) -> Array:
    """The layer's channels, weighted by the score that each reaches as a mask: `ReLU(Σ_k w_k A_k)`.

    Channel k, resized to x and scaled to [0, 1], is the mask H_k; `s_k = s(x ⊙ H_k)`. A constant channel is left out.

    Args:
      f, x, target, key, layer, relu, chunk: as for `ablation_cam`.
      score, weights: `weights="softmax"` with `score="logit"` is the paper's `w = softmax_k(s(x ⊙ H_k) − s(x_b))`, whose
        baseline cancels, and pytorch-grad-cam's; `weights="score"` with `score="probability"` is `w_k = s_k`, the authors' code.
      fill: what masked positions become (the paper: 0).

    Returns:
      `[H, W, 1]`; not normalised.

    Raises:
      ValueError: as `ablation_cam`, and unknown weights.

    Cost: 1 forward pass up to the layer and one for each of its channels.
    Reference: Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks", CVPR workshops.
    """
    one_of("weights", weights, ("softmax", "score"))
    s = objective(f, x, target, score)
    kept_by_fill("score_cam", f, x, target, fill, key, score=score)
    found, a = _layer_map(f, x, layer)
    removed = fills.mixer("score_cam", x, fill, key)

    def reached(k: Array) -> tuple[Array, Array]:
        mask = over(a[..., k], found, x)
        low, high = mask.min(), mask.max()
        mask = (mask - low) / jnp.where(high > low, high - low, 1)
        return s(removed(mask[..., None], k)), high > low

    scores, varies = loops.stack(reached, a.shape[-1], loops.at_once(x, chunk))
    if weights == "softmax":
        scores = jax.nn.softmax(jnp.where(varies, scores, jnp.finfo(scores.dtype).min))
    # Resizing is linear, so the sum is taken at the layer's size.
    return resize((a * jnp.where(varies, scores, 0)).sum(-1), found, x, relu, "bilinear")


@plainly
def sidu(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "probability",
    threshold: float = 0.1,
    sigma: float = 0.25,
    fill: fills.FillLike = 0.0,
    chunk: int | None = None,
) -> Array:
    """Similarity difference and uniqueness: masks from binarised channels, weighted by how like f(x) and how unlike one another they are.

    `M_i = resize(1[A_i > threshold])`, `P_i = f(x ⊙ M_i)`, `SD_ic = exp(−(P_c − P_ic)² / 2σ²)`,
    `U_i = minmax_i(Σ_j ‖P_i − P_j‖₂)`, and the map of class c is `Σ_i SD_ic U_i M_i / (N/2)`.

    Args:
      f, x, target, key, layer, chunk: as for `ablation_cam`.
      score: whether P holds `"probability"` (the authors' code) or `"sigmoid"`: the similarity's σ is for numbers in [0, 1], of which no logit is one.
      threshold: of the channels; .1 is the authors' code, .5 their paper. sigma: of the similarity.
      fill: what masked positions become.

    Returns:
      `[H, W, 1]`, ≥ 0.

    Raises:
      ValueError: as `ablation_cam`, and `sigma` not above 0.

    Cost: 1 forward pass and one for each of the layer's channels.
    Reference: Muddamsetty et al. 2022, "Visual explanation of black-box model: Similarity Difference and Uniqueness (SIDU) method", Pattern Recognition.
    """
    if not sigma > 0:
        raise ValueError(f"{sigma=} must be above 0")
    objective(f, x, target, one_of("score", score, SHARES))
    kept_by_fill("sidu", f, x, target, fill, key, score=score)
    found, a = _layer_map(f, x, layer)
    masks = (a > threshold).astype(jnp.float32)
    removed = fills.mixer("sidu", x, fill, key)

    model = fresh(f)

    def outputs(v: Array) -> Array:
        out = wide(jnp.atleast_1d(model(v)))
        return out if target is None else scored(out, score)

    count = masks.shape[-1]
    p = loops.stack(lambda i: outputs(removed(over(masks[..., i], found, x)[..., None], i)), count, loops.at_once(x, chunk))
    similar = jnp.exp(-((outputs(x) - p) ** 2) / (2 * sigma**2))
    unique = loops.stack(lambda i: _distance(p - p[i]).sum(), count, loops.at_once(x, chunk))
    low, high = unique.min(), unique.max()
    weight = similar * ((unique - low) / jnp.where(high > low, high - low, 1))[:, None]
    if target is None:
        chosen = weight[:, 0]
    else:
        chosen = jax.vmap(lambda w: objective(lambda v: v, w, target)(w))(weight)
    return resize((masks * chosen).sum(-1) / (0.5 * count), found, x, False, "bilinear")


def _layer_map(f: Model, x: Array, layer: int | str | None) -> tuple[taps.Layer, Array]:
    found, value, _ = taps.split(f, x, layer)
    return found, wide(taps.to_map(value, found))


def _distance(difference: Array) -> Array:
    """Row-wise ℓ2 norm, whose gradient at 0 is 0."""
    square = (difference**2).sum(-1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
