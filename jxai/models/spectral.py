"""Spectral normalisation: the norm of a layer as the linear map that it is, found by power iteration and held to a bound."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jxai import kernels, loops
from jxai.models.layers import Conv
from jxai.scores import positive, within
from jxai.typing import Array

__all__ = ["SizedConv", "SpectralNorm", "convolution", "largest_singular_value", "operator_norm"]

# Both sides, as PyTorch pads; "SAME" at stride 2 would pad only the far side.
_PADDING = ((1, 1), (1, 1))


class SizedConv(Conv):
    """A 3×3 convolution that knows the size of its input, so that its norm as a linear map is defined.

    Args:
      shape: `(H, W)` of its input; channels, features, stride, rngs: as of `Conv`.
    """

    def __init__(self, shape: tuple[int, int], channels: int, features: int, *, stride: int = 1, rngs: nnx.Rngs):
        super().__init__(channels, features, 3, stride=stride, padding=_PADDING, rngs=rngs)
        self.shape = (*shape, channels)


@dataclasses.dataclass(frozen=True)
class SpectralNorm:
    """`model -> model` with the norm of each convolution as a linear map held to c: `W ← W · min(1, c / ‖W‖₂)`.

    The norm is estimated from below by power iteration on the map itself, stride, padding and all, from a fixed start: nothing is kept between calls, so that
    it is a pure function, to be differentiated in a loss (the direction is held constant, as usual). It costs twice the iterations in
    passes of ONE example a call. For training some iterations do; for the network that is explained, take hundreds.

    Attributes:
      coefficient: c > 0. iterations: of the power method. linear: whether `nnx.Linear` layers are held, too (DDU leaves the classifier free).
    """

    coefficient: float = 3.0
    iterations: int = 10
    linear: bool = False

    def __post_init__(self):
        within(math.ulp(0.0), math.inf, coefficient=self.coefficient)
        positive(iterations=self.iterations)

    def __call__(self, model: nnx.Module) -> nnx.Module:
        model = nnx.clone(model)
        for _, layer in nnx.iter_graph(model):
            if isinstance(layer, SizedConv) or (self.linear and isinstance(layer, nnx.Linear)):
                norm = largest_singular_value(layer, self.iterations)
                layer.kernel.set_value(layer.kernel[...] / jnp.maximum(1, norm / self.coefficient))
        return model


def largest_singular_value(layer: SizedConv | nnx.Linear, iterations: int = 100) -> Array:
    """`[]`: the greatest singular value of a layer's linear part, `max ‖W u‖₂ / ‖u‖₂`, from below by power iteration.

    Raises:
      ValueError: another layer, or bad iterations.
    """
    if not isinstance(layer, (SizedConv, nnx.Linear)):
        raise ValueError(f"layer={type(layer).__name__} must be a SizedConv or an nnx.Linear")
    if isinstance(layer, SizedConv):
        return operator_norm(convolution(layer.strides, layer.padding, layer.groups), layer.kernel[...], layer.shape, iterations)
    return operator_norm(jnp.matmul, layer.kernel[...], (layer.in_features,), iterations)


def convolution(strides: tuple[int, int], padding: str | Sequence[tuple[int, int]], groups: int = 1) -> Callable[[Array, Array], Array]:
    """`(u [H, W, C], kernel [kh, kw, C, F]) -> [Ho, Wo, F]`, linear in both."""
    return lambda u, kernel: kernels.conv2d(u, kernel, strides, padding, groups)


def operator_norm(linear: Callable[[Array, Array], Array], weights: Array, shape: tuple[int, ...], iterations: int) -> Array:
    """`[]`: `max ‖L(u, W)‖₂ / ‖u‖₂` over u of a shape, from below by power iteration from a fixed start: differentiable in W, with u held constant.

    Args:
      linear: L, linear in u. weights: W. shape: of u. iterations: >= 1, each a pass of L and one of its transpose.
    """
    positive(iterations=iterations)
    still = lax.stop_gradient(weights)
    start = jax.random.normal(jax.random.key(0), shape, weights.dtype)

    def turn(_, u: Array) -> Array:
        out, transpose = jax.vjp(lambda v: linear(v, still), u)
        return _unit(transpose(_unit(out))[0])

    u = lax.stop_gradient(loops.fori_loop(0, iterations, turn, _unit(start)))
    out = linear(u, weights)
    square = (out**2).sum()
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _unit(v: Array) -> Array:
    size = jnp.sqrt((v**2).sum())
    return v / jnp.where(size > 0, size, 1)
