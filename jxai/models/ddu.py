"""The residual network of deep deterministic uncertainty, whose features keep distances under spectral normalisation."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx

from jxai.models.layers import check_input
from jxai.models.spectral import SizedConv
from jxai.scores import positive

__all__ = ["DDUResNet"]


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
