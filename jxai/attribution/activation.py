"""Class activation maps from a layer's values and gradients, on any traced function.

The layer is any intermediate value with spatial extent (`jxai.taps`); tokens of a vision transformer become a grid. A is
its value and g the gradient of the explained score there, both `[h, w, K]`; a map is stretched over the positions of x that the layer reads, all
of x where the model does not crop it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai import outputs
from jxai.attribution.backward import guided_backprop
from jxai.callables import plainly
from jxai.removal.masks import as_map, positions, upsample
from jxai.scores import objective, one_of, wide
from jxai.tracing import taps
from jxai.typing import Array, Model

__all__ = ["eigen_cam", "grad_cam", "grad_cam_plus_plus", "guided_grad_cam", "hires_cam", "layer_cam", "xgrad_cam"]


@plainly
def grad_cam(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "logit",
    relu: bool = True,
    interpolation: str = "bilinear",
) -> Array:
    """The layer's channels, weighted by their mean gradient: `ReLU(Σ_k w_k A_k)`, `w_k = mean_uv g_kuv`.

    Args:
      f: model, `x -> logits [K]`. x: `[H, W, C]` or `[T, H, W, C]`. target: class, or None for a scalar f. key: unused.
      layer: which value (see `jxai.taps.find`); None is the last one from which the class is reached through positions.
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`.
      relu: keep positive evidence only (the paper; captum's default is False).
      interpolation: `"bilinear"` (the paper), `"bicubic"` (Xplique), `"nearest"` (captum).

    Returns:
      `[H, W, 1]` (video: `[T, H, W, 1]`), in units of the score; not normalised.

    Raises:
      ValueError: unknown layer, or one without spatial extent; see also `jxai.scores.objective`.

    Cost: 1 forward pass and 1 backward pass down to the layer.
    Reference: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV.
    """
    found, a, g = _values(f, x, target, layer, score)
    return resize((a * _over_positions(g, "mean")).sum(-1), found, x, relu, interpolation)


@plainly
def grad_cam_plus_plus(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "logit",
    relu: bool = True,
    interpolation: str = "bilinear",
    reduction: str = "sum",
) -> Array:
    """Grad-CAM with pixel-wise weights: `w_k = Σ_uv α_kuv ReLU(g_kuv)`, `α = g² / (2g² + g³ Σ_uv A_k)`.

    The second and third derivatives are those of exp(score), as in the paper; its constant factor exp(score) is left out.

    Args:
      f, x, target, key, layer, score, relu, interpolation: as for `grad_cam`.
      reduction: `"sum"` (the paper's equation 19 and pytorch-grad-cam) or `"mean"` (Xplique: means over the positions
        in place of both sums, which is another map).

    Returns:
      `[H, W, 1]`; not normalised.

    Raises:
      ValueError: as `grad_cam`, and an unknown reduction.

    Cost: 1 forward pass and 1 backward pass down to the layer.
    Reference: Chattopadhyay et al. 2018, "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep Convolutional Networks", WACV.
    """
    one_of("reduction", reduction, ("sum", "mean"))
    found, a, g = _values(f, x, target, layer, score)
    # g²/(2g² + g³ΣA) = 1/(2 + gΣA): no power of a small gradient underflows.
    denominator = 2 + g * _over_positions(a, reduction)
    usable = (g != 0) & (denominator != 0)
    alpha = jnp.where(usable, 1 / jnp.where(usable, denominator, 1), 0)
    return resize((a * _over_positions(alpha * jax.nn.relu(g), reduction)).sum(-1), found, x, relu, interpolation)


@plainly
def layer_cam(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "logit",
    relu: bool = True,
    interpolation: str = "bilinear",
) -> Array:
    """The layer's values weighted entry by entry: `ReLU(Σ_k ReLU(g_k) ⊙ A_k)`; usable at early, fine layers too.

    Args:
      f, x, target, key, layer, score, relu, interpolation: as for `grad_cam`.

    Returns:
      `[H, W, 1]`; not normalised.

    Raises:
      ValueError: as `grad_cam`.

    Cost: 1 forward pass and 1 backward pass down to the layer.
    Reference: Jiang et al. 2021, "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization", IEEE TIP.
    """
    found, a, g = _values(f, x, target, layer, score)
    return resize((jax.nn.relu(g) * a).sum(-1), found, x, relu, interpolation)


@plainly
def xgrad_cam(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "logit",
    relu: bool = True,
    interpolation: str = "bilinear",
) -> Array:
    """Grad-CAM with weights that satisfy the axioms of sensitivity and conservation best: `w_k = Σ_uv (A_k / Σ A_k) g_k`.

    Args:
      f, x, target, key, layer, score, relu, interpolation: as for `grad_cam`. A channel that sums to 0 gets weight 0.

    Returns:
      `[H, W, 1]`; not normalised.

    Raises:
      ValueError: as `grad_cam`.

    Cost: 1 forward pass and 1 backward pass down to the layer.
    Reference: Fu et al. 2020, "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs", BMVC.
    """
    found, a, g = _values(f, x, target, layer, score)
    total = _over_positions(a, "sum")
    weight = jnp.where(total == 0, 0, _over_positions(a * g, "sum") / jnp.where(total == 0, 1, total))
    return resize((a * weight).sum(-1), found, x, relu, interpolation)


@plainly
def hires_cam(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "logit",
    relu: bool = False,
    interpolation: str = "bilinear",
) -> Array:
    """Gradient times value at the layer: `Σ_k g_k ⊙ A_k`, the contribution of each position where the head is linear.

    Args:
      f, x, target, key, layer, score, interpolation: as for `grad_cam`.
      relu: keep positive evidence only (False is the signed map of the paper; pytorch-grad-cam has True).

    Returns:
      `[H, W, 1]`; not normalised.

    Raises:
      ValueError: as `grad_cam`.

    Cost: 1 forward pass and 1 backward pass down to the layer.
    Reference: Draelos & Carin 2020, "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural networks", arXiv:2011.08891.
    """
    found, a, g = _values(f, x, target, layer, score)
    return resize((a * g).sum(-1), found, x, relu, interpolation)


@plainly
def eigen_cam(
    f: Model,
    x: Array,
    target: int | Array | None = None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    center: bool = False,
    interpolation: str = "bilinear",
) -> Array:
    """The projection of the layer's values on their first right singular vector: `A v₁`; it knows no class.

    The sign of v₁ is chosen so that the map agrees with the layer's mean over channels. It has no derivative where singular
    values coincide, as the zeros of a layer with dead channels do.

    Args:
      f: any function of x. x: `[H, W, C]` or `[T, H, W, C]`. target, key: unused.
      layer, interpolation: as for `grad_cam`.
      center: subtract each channel's mean over positions first (pytorch-grad-cam) or not (the paper).

    Returns:
      `[H, W, 1]`, signed; not normalised.

    Raises:
      ValueError: unknown layer, or one without spatial extent.

    Cost: 1 forward pass up to the layer.
    Reference: Muhammad & Yeasin 2020, "Eigen-CAM: Class Activation Map using Principal Components", IJCNN.
    """
    if outputs.concrete(f, x):
        outputs.check_finite(f, x, None, outputs.run)
    found, value, _ = taps.split(f, x, layer)
    a = wide(taps.to_map(value, found))
    flat = a.reshape(-1, a.shape[-1])
    flat = flat - flat.mean(0) if center else flat
    left, singular, _ = jnp.linalg.svd(flat, full_matrices=False)
    projection = left[:, 0] * singular[0]
    mean = flat.mean(1)
    sign = jnp.where(jnp.vdot(projection, mean - mean.mean() * center) < 0, -1, 1)
    return resize((sign * projection).reshape(a.shape[:-1]), found, x, False, interpolation)


@plainly
def guided_grad_cam(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    score: str = "logit",
    interpolation: str = "bilinear",
) -> Array:
    """Guided backpropagation, entry by entry times Grad-CAM: `guided_backprop ⊙ resize(ReLU(Σ_k w_k A_k))`.

    Args:
      f, x, target, key, layer, score: as for `grad_cam`.
      interpolation: `"bilinear"` (the paper) or `"nearest"` (captum's default), of the coarse map.

    Returns:
      x's shape, signed.

    Raises:
      ValueError: as `grad_cam` and `guided_backprop`.

    Cost: 2 forward passes, 1 backward pass and 1 backward pass down to the layer.
    Reference: Selvaraju et al. 2017, "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV.
    """
    coarse = grad_cam(f, x, target, layer=layer, score=score, interpolation=interpolation)
    return coarse * guided_backprop(f, x, target, score=score)


def over(cam: Array, layer: taps.Layer, x: Array, interpolation: str = "bilinear") -> Array:
    """A map `[h, w]` of a layer over the positions of x, `[H, W]`: resized over that part of x which the layer reads, 0 outside of it.

    That is all of x but where the model crops it; what is left out by less than a cell of the map (strides that do not divide x) counts as read.
    """
    shape = positions(x)
    cells = [size / count for size, count in zip(shape, cam.shape)]
    spans = layer.seen or tuple((0, size) for size in shape)
    spans = [(begin if begin >= cell else 0, end if size - end >= cell else size) for (begin, end), size, cell in zip(spans, shape, cells)]
    cam = upsample(cam, tuple(end - begin for begin, end in spans), interpolation)
    return jnp.pad(cam, [(begin, size - end) for (begin, end), size in zip(spans, shape)])


def resize(cam: Array, layer: taps.Layer, x: Array, relu: bool, interpolation: str) -> Array:
    """A map `[h, w]` of a layer as an attribution `[H, W, 1]`, float32 or wider, rectified first where `relu` (see `over`)."""
    return as_map(over(wide(jax.nn.relu(cam) if relu else cam), layer, x, interpolation)[..., None], x)


def _values(f: Model, x: Array, target: int | Array | None, layer: int | str | None, score: str) -> tuple[taps.Layer, Array, Array]:
    """The layer, its value and the score's gradient there, both `[h, w, K]`, float32 or wider."""
    objective(f, x, target, score)  # bad arguments fail before f is walked
    found, value, head = taps.split(f, x, layer)
    g = jax.grad(objective(head, value, target, score))(value)
    return found, wide(taps.to_map(value, found)), wide(taps.to_map(g, found))


def _over_positions(values: Array, reduction: str) -> Array:
    axes = tuple(range(values.ndim - 1))
    return values.sum(axes, keepdims=True) if reduction == "sum" else values.mean(axes, keepdims=True)
