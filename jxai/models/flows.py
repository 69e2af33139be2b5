"""Normalising flows on one example: RealNVP and Glow, whose encoder and decoder are exact inverses, and whose likelihood is exact."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jxai.models.flow_layers import ActNorm, ChannelCoupling, ConvNet, DenseNet, InvertibleConv, Logit, MaskedCoupling, Squeeze
from jxai.scores import check_example, positive, within
from jxai.typing import Array

__all__ = ["Flow", "Glow", "RealNVP", "dequantised", "initialised", "likelihood_loss"]


class Flow(nnx.Module):
    """An invertible map between x and z `[x.size]`, whose entries are standard normal under the model: `log p(x) = log N(z; 0, I) + log|det ∂z/∂x|`.

    levels: lists of layers; after each but the last, the second half of the channels leaves for z. shapes: what each level ends with.

    In float32, `decode(encode(x))` is x to about 1e-6 while layers stretch little. Products are taken in full precision on every platform.
    """

    def __init__(self, shape: tuple[int, ...], levels: Sequence[Sequence[nnx.Module]], shapes: Sequence[tuple[int, ...]]):
        self.shape, self.shapes = shape, tuple(shapes)
        self.levels = nnx.List([nnx.List(level) for level in levels])

    def encode_with_log_det(self, x: Array) -> tuple[Array, Array]:
        """`(z [x.size], log|det ∂z/∂x|)`; the latents of the finest scale come first.

        Raises:
          ValueError: x is not one floating-point example of the flow's shape.
        """
        check_example(x)
        if x.shape != self.shape:
            raise ValueError(f"x must have shape {self.shape} (use jax.vmap for a batch), got {x.shape}")
        parts, total = [], jnp.zeros((), x.dtype)
        with jax.default_matmul_precision("highest"):
            for n, level in enumerate(self.levels):
                for layer in level:
                    x, log_det = layer.forward(x)
                    total = total + log_det
                if n + 1 < len(self.levels):
                    x, out = jnp.split(x, 2, -1)
                    parts.append(out.reshape(-1))
        return jnp.concatenate([*parts, x.reshape(-1)]), total

    def encode(self, x: Array) -> Array:
        """`[x.size]`: the z of which x is decoded. A flow on [0, 1] gives NaN for an x well outside."""
        return self.encode_with_log_det(x)[0]

    def log_det(self, x: Array) -> Array:
        """`log|det ∂z/∂x|` at x."""
        return self.encode_with_log_det(x)[1]

    def decode(self, z: Array) -> Array:
        """The x of z `[x.size]`; of a flow on [0, 1] an x in (−α, 1 + α) / (1 − 2α) or so, hence to be cut to [0, 1] where that matters.

        Raises:
          ValueError: z has another shape.
        """
        if z.shape != (math.prod(self.shape),):
            raise ValueError(f"z must have shape ({math.prod(self.shape)},), got {z.shape}")
        parts, start = [], 0
        for n, shape in enumerate(self.shapes):
            own = shape if n + 1 == len(self.shapes) else (*shape[:-1], shape[-1] // 2)
            parts.append(z[start : start + math.prod(own)].reshape(own))
            start += math.prod(own)
        x = parts.pop()
        with jax.default_matmul_precision("highest"):
            for level in reversed(self.levels):
                for layer in reversed(level):
                    x = layer.inverse(x)
                if parts:
                    x = jnp.concatenate([x, parts.pop()], -1)
        return x

    def log_prob(self, x: Array) -> Array:
        """`log p(x)` in nats; −inf where a flow on [0, 1] is not defined, which is x outside [−α, 1 − α] / (1 − 2α) (a little beyond [0, 1])."""
        logit = self.levels[0][0]
        inside = jnp.asarray(True)
        if isinstance(logit, Logit):
            p = logit.inner(x)
            inside = ((p > 0) & (p < 1)).all()
            x = jnp.where(inside, x, 0.5)
        z, log_det = self.encode_with_log_det(x)
        return jnp.where(inside, log_det - 0.5 * (z**2).sum() - 0.5 * z.size * math.log(2 * math.pi), -jnp.inf)

    def bits_per_dim(self, x: Array, key: Array, *, levels: int = 256) -> Array:
        """`log₂ levels − log₂ p(x̃) / D`, x̃ being x dequantised: an upper bound (in expectation) of the code length of quantised x, bits per entry.

        Args:
          x: entries in [0, 1], multiples of 1 / (levels − 1). key: of the noise. levels: that an entry can take.
        """
        return math.log2(levels) - self.log_prob(dequantised(x, key, levels=levels)) / (x.size * math.log(2))

    def sample(self, key: Array, temperature: float | Array = 1.0) -> Array:
        """`decode(temperature · ε)`, ε standard normal; temperature >= 0."""
        within(0.0, math.inf, temperature=temperature)
        return self.decode(temperature * jax.random.normal(key, (math.prod(self.shape),)))


class RealNVP(Flow):
    """RealNVP: affine couplings, whose masks are checkerboards and halves of the channels of an image, or halves of a vector.

    Of a vector: `couplings` couplings, each between activation normalisations. Of an image, by scale: `couplings` couplings with checkerboards, squeeze,
    `couplings` couplings of channels, and half of the channels leaves; the last scale has checkerboards alone, one more.

    Args:
      shape: of x, `(D,)` with D >= 2 or `(H, W, C)`; scales: of an image, H and W are multiples of `2^(scales − 1)`.
      couplings: >= 1, two or more for every entry to change. hidden, depth: width and hidden layers (residual blocks, of an image) of the networks.
      scale: "tanh" or "sigmoid", what bounds the factors.
      unit: whether x lies in [0, 1], so that it passes through a logit first; None is True for images. alpha: of `logit(α + (1 − 2α) x)`, in (0, .5).

    Raises:
      ValueError: a shape or an option that does not fit.

    Reference: Dinh et al. 2017, "Density estimation using Real NVP", ICLR.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        scales: int = 2,
        couplings: int | None = None,
        hidden: int = 64,
        depth: int = 2,
        scale: str = "tanh",
        unit: bool | None = None,
        alpha: float = 0.05,
        rngs: nnx.Rngs,
    ):
        shape = _checked(shape, 2 ** (scales - 1))
        couplings = (8 if len(shape) == 1 else 3) if couplings is None else couplings
        positive(scales=scales, couplings=couplings)
        first = [Logit(alpha)] if (len(shape) == 3 if unit is None else unit) else []
        if len(shape) == 1:
            (size,) = shape
            level = [*first, ActNorm(size)]
            for n in range(couplings):
                level += [MaskedCoupling(DenseNet(size, 2 * size, hidden, depth, rngs=rngs), size, n, scale), ActNorm(size)]
            super().__init__(shape, [level], [shape])
            return

        def masked(c: int, n: int) -> list[nnx.Module]:
            return [MaskedCoupling(ConvNet(c, 2 * c, hidden, depth, rngs=rngs), c, n, scale), ActNorm(c)]

        def halves(c: int, n: int) -> list[nnx.Module]:
            return [ChannelCoupling(ConvNet(c // 2, c, hidden, depth, rngs=rngs), c // 2, n % 2 == 1, scale), ActNorm(c)]

        levels, shapes, (h, w, c) = [], [], shape
        for k in range(scales):
            level = [*first, ActNorm(c)] if k == 0 else []
            for n in range(couplings + (k + 1 == scales)):
                level += masked(c, n)
            if k + 1 < scales:
                h, w, c = h // 2, w // 2, 4 * c
                level.append(Squeeze())
                for n in range(couplings):
                    level += halves(c, n)
            levels.append(level)
            shapes.append((h, w, c))
            c = c // 2
        super().__init__(shape, levels, shapes)


class Glow(Flow):
    """Glow: at each scale a squeeze, then steps of activation normalisation, invertible 1×1 convolution and affine coupling.

    After each scale but the last, half of the channels leaves, `z = b · s(a) + t(a)` given the half a that stays: a Gaussian conditional on a.

    Args:
      shape: `(H, W, C)` with H and W multiples of `2^scales`. scales: squeezes. steps: at each scale.
      hidden, depth: of the couplings' networks, `ConvNet`. scale, alpha: as in `RealNVP`; Glow's own is "sigmoid".

    Raises:
      ValueError: a shape or an option that does not fit.

    Reference: Kingma and Dhariwal 2018, "Glow: Generative Flow with Invertible 1×1 Convolutions", NeurIPS.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        scales: int = 2,
        steps: int = 8,
        hidden: int = 64,
        depth: int = 0,
        scale: str = "sigmoid",
        alpha: float = 0.05,
        rngs: nnx.Rngs,
    ):
        positive(scales=scales, steps=steps)
        shape = _checked(shape, 2**scales, images=True)
        levels, shapes, (h, w, c) = [], [], shape
        for k in range(scales):
            h, w, c = h // 2, w // 2, 4 * c
            level = [Logit(alpha), Squeeze()] if k == 0 else [Squeeze()]
            for _ in range(steps):
                level += [ActNorm(c), InvertibleConv(c, rngs=rngs), ChannelCoupling(ConvNet(c // 2, c, hidden, depth, rngs=rngs), c // 2, scale=scale)]
            if k + 1 < scales:
                level.append(ChannelCoupling(ConvNet(c // 2, c, hidden, depth, rngs=rngs), c // 2, scale="tanh"))
            levels.append(level)
            shapes.append((h, w, c))
            c = c // 2
        super().__init__(shape, levels, shapes)


def initialised(flow: Flow, batch: Array) -> Flow:
    """The flow with activation normalisations that give each channel of `batch` mean 0 and variance 1, one layer after the other.

    A pure function (the flow that is given stays as it is). Pixels should be dequantised first.

    Args:
      batch: `[B, *flow.shape]`, B >= 2.
    """
    if batch.ndim != len(flow.shape) + 1 or batch.shape[1:] != flow.shape or batch.shape[0] < 2:
        raise ValueError(f"batch must have shape [B, {', '.join(map(str, flow.shape))}] with B >= 2, got {batch.shape}")
    flow = nnx.clone(flow)
    for n, level in enumerate(flow.levels):
        for layer in level:
            if isinstance(layer, ActNorm):
                layer.fit(batch)
            batch = jax.vmap(layer.forward)(batch)[0]
        if n + 1 < len(flow.levels):
            batch = jnp.split(batch, 2, -1)[0]
    return flow


def dequantised(x: Array, key: Array, *, levels: int = 256) -> Array:
    """`(level + u) / levels` with u uniform in [0, 1), where x is `level / (levels − 1)`: what a density of pixels is trained on.

    x itself lies near the edge of its bin, so that its latents are farther from 0 than those of dequantised pixels: by up to √3 in a coordinate that is noise.
    """
    positive(levels=levels)
    u = jax.random.uniform(key, x.shape, x.dtype)
    return (jnp.round(x * (levels - 1)) + u) / levels


def likelihood_loss(flow: Flow, x: Array, y: Array | None, key: Array, *, levels: int | None = None) -> tuple[Array, dict[str, Array]]:
    """The mean negative log-likelihood of a batch, for `jxai.train.train`: bits per entry of quantised x, or nats per example for `levels=None`.

    Args:
      x: `[B, …]`. y: says nothing. key: of the noise. levels: as in `bits_per_dim`; bind it with `functools.partial`.
    """
    if levels is None:
        nats = -jax.vmap(flow.log_prob)(x).mean()
        return nats, {"nats": nats}
    bits = jax.vmap(lambda v, k: flow.bits_per_dim(v, k, levels=levels))(x, jax.random.split(key, x.shape[0])).mean()
    return bits, {"bits_per_dim": bits}


def _checked(shape: Sequence[int], multiple: int, *, images: bool = False) -> tuple[int, ...]:
    shape = tuple(int(side) for side in shape)
    if len(shape) == 3 and min(shape) >= 1:
        if shape[0] % multiple or shape[1] % multiple:
            raise ValueError(f"{shape=} must have sides that are multiples of {multiple} for as many scales")
        return shape
    if images or len(shape) != 1 or shape[0] < 2:
        raise ValueError(f"{shape=} must be (H, W, C)" + ("" if images else " or (D,) with D >= 2"))
    return shape
