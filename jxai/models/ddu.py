"""Spectral normalisation, and the residual network of deep deterministic uncertainty, whose features keep distances."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jxai import kernels
from jxai.models.layers import Conv, check_input
from jxai.scores import positive, within

__all__ = ["DDUResNet", "SizedConv", "SpectralNorm", "largest_singular_value"]

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


class DDUResNet(nnx.Module):
    """`f(x [H, W, C] in [0, 1]) -> logits [K]`: a residual network for spectral normalisation, with features that a density is fitted to.

    Leaky ReLUs and average-pooling shortcuts lose no direction of x, and with `SpectralNorm` no residual branch stretches one by more than c², so that
    far examples have far features. Train and use it through `SpectralNorm`: `norm = SpectralNorm(3.0)`, a loss of `norm(model)`, and at last
    `SpectralNorm(3.0, iterations=300)(model)` is the network to explain.

    As published it has batch normalisation, which undoes that bound: it may stretch any channel. Here it is left out unless it is asked for, and then the
    loss is of `in_batches(norm(model))`, and `settled(…, x)` comes last (`jxai.models.batch_norm`).

    The features, the mean over positions of the last block, are in the name scope "features" (`jxai.taps`) and given by `model.features(x)`; as a pytree
    callable they are `jax.tree_util.Partial(DDUResNet.features, model)`.

    Args:
      size: `(H, W)`. channels: C. num_classes: K. widths: channels of each stage; all but the first halve the image. blocks: of each stage.
        The published ResNet-18 has widths (64, 128, 256, 512) and 2 blocks.
      batch_norm: whether a batch normalisation follows each convolution.

    Reference: Mukhoti et al. 2023, "Deep Deterministic Uncertainty: A New Simple Baseline", CVPR.
    """

    def __init__(
        self,
        size: tuple[int, int] = (28, 28),
        channels: int = 1,
        num_classes: int = 10,
        widths: tuple[int, ...] = (16, 32, 64),
        blocks: int = 1,
        *,
        batch_norm: bool = False,
        rngs: nnx.Rngs,
    ):
        positive(channels=channels, num_classes=num_classes, blocks=blocks, **{f"widths[{n}]": width for n, width in enumerate(widths)})
        if len(size) != 2 or min(size) < 1 or not widths or list(widths) != sorted(widths):
            raise ValueError(f"{size=} must be (H, W), and {widths=} ascending")
        self.size, self.channels = tuple(size), channels
        self.stem = SizedConv(size, channels, widths[0], rngs=rngs)
        self.norm = _norm(widths[0], batch_norm, rngs)
        self.blocks = nnx.List([])
        inner = widths[0]
        for stage, features in enumerate(widths):
            for n in range(blocks):
                stride = 2 if stage and not n else 1
                self.blocks.append(_Block(size, inner, features, stride, batch_norm, rngs))
                size, inner = tuple(-(-side // stride) for side in size), features
        self.classifier = nnx.Linear(inner, num_classes, rngs=rngs)

    def features(self, x: jax.Array) -> jax.Array:
        """`[widths[-1]]`: what the classifier reads."""
        check_input(x, self.channels)
        if x.shape[:2] != self.size:
            raise ValueError(f"x must be of size {self.size}, got shape {x.shape}")
        x = nnx.leaky_relu(self.norm(self.stem(2 * x - 1)))
        for block in self.blocks:
            x = block(x)
        with jax.named_scope("features"):
            return x.mean((0, 1))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.classifier(self.features(x))


class _Block(nnx.Module):
    """Two 3×3 convolutions and a shortcut: where the image is halved, the average of 2×2 positions; where it widens, zeros."""

    def __init__(self, size: tuple[int, int], channels: int, features: int, stride: int, norm: bool, rngs: nnx.Rngs):
        self.first = SizedConv(size, channels, features, stride=stride, rngs=rngs)
        self.second = SizedConv(tuple(-(-side // stride) for side in size), features, features, rngs=rngs)
        self.first_norm, self.second_norm = (_norm(features, norm, rngs) for _ in range(2))
        self.stride, self.widen = stride, features - channels

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.second_norm(self.second(nnx.leaky_relu(self.first_norm(self.first(x)))))
        if self.stride > 1:
            x = nnx.avg_pool(x, (2, 2), (2, 2), "SAME")
        return nnx.leaky_relu(jnp.pad(x, ((0, 0), (0, 0), (0, self.widen))) + y)


def _norm(channels: int, wanted: bool, rngs: nnx.Rngs) -> Callable[[jax.Array], jax.Array]:
    return nnx.BatchNorm(channels, use_running_average=True, rngs=rngs) if wanted else jax.nn.identity


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


def largest_singular_value(layer: SizedConv | nnx.Linear, iterations: int = 100) -> jax.Array:
    """`[]`: the greatest singular value of a layer's linear part, `max ‖W u‖₂ / ‖u‖₂`, from below by power iteration.

    Raises:
      ValueError: another layer, or bad iterations.
    """
    positive(iterations=iterations)
    if not isinstance(layer, (SizedConv, nnx.Linear)):
        raise ValueError(f"layer={type(layer).__name__} must be a SizedConv or an nnx.Linear")
    kernel = layer.kernel[...]
    shape = layer.shape if isinstance(layer, SizedConv) else (layer.in_features,)
    still = _linear_map(layer, lax.stop_gradient(kernel))
    start = jax.random.normal(jax.random.key(0), shape, kernel.dtype)

    def turn(_, u: jax.Array) -> jax.Array:
        out, transpose = jax.vjp(still, u)
        return _unit(transpose(_unit(out))[0])

    u = lax.stop_gradient(lax.fori_loop(0, iterations, turn, _unit(start)))
    out = _linear_map(layer, kernel)(u)
    square = (out**2).sum()
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _linear_map(layer: SizedConv | nnx.Linear, kernel: jax.Array) -> Callable[[jax.Array], jax.Array]:
    if isinstance(layer, SizedConv):
        return lambda u: kernels.conv2d(u, kernel, layer.strides, layer.padding, layer.groups)
    return lambda u: u @ kernel


def _unit(v: jax.Array) -> jax.Array:
    size = jnp.sqrt((v**2).sum())
    return v / jnp.where(size > 0, size, 1)
