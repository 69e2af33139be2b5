"""Invertible layers on one example: `forward(x) -> (z, log|det ∂z/∂x|)` and its exact inverse `inverse(z) -> x`; channels are the last axis."""

from __future__ import annotations

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax

from jxai.models.layers import Conv
from jxai.scores import one_of, positive
from jxai.typing import Array

__all__ = ["ActNorm", "ChannelCoupling", "ConvNet", "DenseNet", "InvertibleConv", "Logit", "MaskedCoupling", "Squeeze"]

SCALES = ("tanh", "sigmoid")


class Fixed(nnx.Variable):
    """An array that belongs to a layer and is not trained."""


class Logit(nnx.Module):
    """`z = logit(α + (1 − 2α) x)`, from [0, 1] into the reals; a little beyond [0, 1] it is defined still, farther out NaN."""

    def __init__(self, alpha: float):
        if not 0 < alpha < 0.5:
            raise ValueError(f"{alpha=} must lie in (0, 0.5)")
        self.alpha = float(alpha)

    def inner(self, x: Array) -> Array:
        """`α + (1 − 2α) x`, in (0, 1) where the layer is defined."""
        return self.alpha + (1 - 2 * self.alpha) * x

    def forward(self, x: Array) -> tuple[Array, Array]:
        p = self.inner(x)
        low, high = jnp.log(p), jnp.log1p(-p)
        return low - high, x.size * math.log1p(-2 * self.alpha) - (low + high).sum()

    def inverse(self, z: Array) -> Array:
        return (jax.nn.sigmoid(z) - self.alpha) / (1 - 2 * self.alpha)


class ActNorm(nnx.Module):
    """`z = (x + shift) · exp(log_scale)` by channel; `fit` makes the channels of a batch have mean 0 and variance 1."""

    def __init__(self, channels: int):
        self.shift = nnx.Param(jnp.zeros(channels))
        self.log_scale = nnx.Param(jnp.zeros(channels))

    def forward(self, x: Array) -> tuple[Array, Array]:
        log_scale = self.log_scale[...]
        return (x + self.shift[...]) * jnp.exp(log_scale), log_scale.sum() * (x.size // x.shape[-1])

    def inverse(self, z: Array) -> Array:
        return z * jnp.exp(-self.log_scale[...]) - self.shift[...]

    def fit(self, batch: Array) -> None:
        """Sets shift and scale by the mean and standard deviation over all axes of `[B, …, C]` but the last; one below .001 counts as .001."""
        axes = tuple(range(batch.ndim - 1))
        self.shift.set_value(-batch.mean(axes))
        self.log_scale.set_value(-jnp.log(jnp.maximum(batch.std(axes), 1e-3)))


class InvertibleConv(nnx.Module):
    """`z = x W`, a 1×1 convolution by an invertible `W = P L (U + diag(s))` [C, C]: P a fixed permutation, L and U triangular.

    So `log|det ∂z/∂x| = H · W · Σ log|s|` costs nothing. It begins as a random rotation.
    """

    def __init__(self, channels: int, *, rngs: nnx.Rngs):
        permutation, lower, upper = _rotation(rngs.params(), channels)
        s = jnp.diagonal(upper)
        self.order = Fixed(jnp.argmax(permutation, 1).astype(jnp.int32))
        self.sign = Fixed(jnp.sign(s).astype(jnp.int32))
        self.lower = nnx.Param(jnp.tril(lower, -1))
        self.upper = nnx.Param(jnp.triu(upper, 1))
        self.log_scale = nnx.Param(jnp.log(jnp.abs(s)))

    def _factors(self) -> tuple[Array, Array]:
        log_scale = self.log_scale[...]
        lower = jnp.tril(self.lower[...], -1) + jnp.eye(log_scale.size)
        return lower, jnp.triu(self.upper[...], 1) + jnp.diag(self.sign[...] * jnp.exp(log_scale))

    def forward(self, x: Array) -> tuple[Array, Array]:
        lower, upper = self._factors()
        return x @ (lower @ upper)[self.order[...]], self.log_scale[...].sum() * (x.size // x.shape[-1])

    def inverse(self, z: Array) -> Array:
        lower, upper = self._factors()
        inside = jax.scipy.linalg.solve_triangular(lower, jnp.eye(lower.shape[0]), lower=True, unit_diagonal=True)
        return z @ jax.scipy.linalg.solve_triangular(upper, inside)[:, self.order[...]]


@functools.partial(jax.jit, static_argnums=1)
def _rotation(key: Array, size: int) -> tuple[Array, Array, Array]:
    """P, L and U of a random rotation."""
    return jax.scipy.linalg.lu(jnp.linalg.qr(jax.random.normal(key, (size, size)))[0])


class Squeeze(nnx.Module):
    """`[H, W, C] -> [H/2, W/2, 4C]`: each 2×2 block of positions becomes channels."""

    def forward(self, x: Array) -> tuple[Array, Array]:
        h, w, c = x.shape
        blocks = x.reshape(h // 2, 2, w // 2, 2, c).transpose(0, 2, 1, 3, 4)
        return blocks.reshape(h // 2, w // 2, 4 * c), jnp.zeros((), x.dtype)

    def inverse(self, z: Array) -> Array:
        h, w, c = z.shape
        return z.reshape(h, w, 2, 2, c // 4).transpose(0, 2, 1, 3, 4).reshape(2 * h, 2 * w, c // 4)


class _Coupling(nnx.Module):
    """What couplings share: `s` and `t` of what a network says, for `outputs` channels.

    scale: "tanh", `log s = b · tanh(raw)` with a learnt b by channel (RealNVP); "sigmoid", `s = sigmoid(raw + 2)` (Glow).
    """

    def __init__(self, network: nnx.Module, outputs: int, scale: str):
        one_of("scale", scale, SCALES)
        self.network, self.scale = network, scale
        self.bound = nnx.Param(jnp.ones(outputs)) if scale == "tanh" else None

    def affine(self, x: Array) -> tuple[Array, Array]:
        """`(log s, t)` of what the network sees."""
        raw, shift = jnp.split(self.network(x), 2, -1)
        return (self.bound[...] * jnp.tanh(raw) if self.scale == "tanh" else jax.nn.log_sigmoid(raw + 2)), shift


class MaskedCoupling(_Coupling):
    """`z = x` where a mask is 1 and `z = x · s(mask · x) + t(mask · x)` elsewhere.

    The mask of an image is a checkerboard; of a vector, every other entry, or for `number >= 2` a half drawn from number // 2. An odd number
    has the mask of the even one before it turned over.
    """

    def __init__(self, network: nnx.Module, outputs: int, number: int, scale: str = "tanh"):
        super().__init__(network, outputs, scale)
        self.number = number

    def mask(self, shape: tuple[int, ...]) -> np.ndarray:
        """Which entries stay, float32, `[H, W, 1]` or `[D]`."""
        if len(shape) == 1:
            draw, size = self.number // 2, shape[0]
            places = np.arange(size) if draw == 0 else np.random.default_rng(draw).permutation(size)
            stays = places % 2 == self.number % 2
        else:
            stays = (np.add.outer(np.arange(shape[0]), np.arange(shape[1])) % 2 == self.number % 2)[..., None]
        return stays.astype(np.float32)

    def forward(self, x: Array) -> tuple[Array, Array]:
        mask = self.mask(x.shape)
        log_scale, shift = self.affine(mask * x)
        log_scale = (1 - mask) * log_scale
        return x * jnp.exp(log_scale) + (1 - mask) * shift, log_scale.sum()

    def inverse(self, z: Array) -> Array:
        mask = self.mask(z.shape)
        log_scale, shift = self.affine(mask * z)
        return (z - (1 - mask) * shift) * jnp.exp(-(1 - mask) * log_scale)


class ChannelCoupling(_Coupling):
    """`[a, b] -> [a, b · s(a) + t(a)]` for the two halves of the channels; `swap` changes their parts."""

    def __init__(self, network: nnx.Module, outputs: int, swap: bool = False, scale: str = "tanh"):
        super().__init__(network, outputs, scale)
        self.swap = swap

    def forward(self, x: Array) -> tuple[Array, Array]:
        a, b = self._halves(x)
        log_scale, shift = self.affine(a)
        return self._whole(a, b * jnp.exp(log_scale) + shift), log_scale.sum()

    def inverse(self, z: Array) -> Array:
        a, b = self._halves(z)
        log_scale, shift = self.affine(a)
        return self._whole(a, (b - shift) * jnp.exp(-log_scale))

    def _halves(self, x: Array) -> tuple[Array, Array]:
        a, b = jnp.split(x, 2, -1)
        return (b, a) if self.swap else (a, b)

    def _whole(self, a: Array, b: Array) -> Array:
        return jnp.concatenate([b, a] if self.swap else [a, b], -1)


class DenseNet(nnx.Module):
    """A conditioner `[D] -> [outputs]`: `depth` hidden layers of ReLUs; the last layer begins at 0, so that the coupling begins as the identity."""

    def __init__(self, inputs: int, outputs: int, hidden: int, depth: int, *, rngs: nnx.Rngs):
        positive(hidden=hidden, depth=depth)
        widths = (inputs, *(hidden,) * depth)
        self.layers = nnx.List([nnx.Linear(a, b, kernel_init=nnx.initializers.he_normal(), rngs=rngs) for a, b in itertools.pairwise(widths)])
        self.last = nnx.Linear(hidden, outputs, kernel_init=nnx.initializers.zeros, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        for layer in self.layers:
            x = jax.nn.relu(layer(x))
        return self.last(x)


class ConvNet(nnx.Module):
    """A conditioner `[H, W, C] -> [H, W, outputs]`: a 3×3 convolution, the middle, and a 3×3 convolution that begins at 0.

    The middle is a 1×1 convolution for `depth=0` (Glow), or `depth` residual blocks `h + W₂ relu(W₁ relu(h))`, W₁ 3×3 and W₂ 1×1 (RealNVP).
    """

    def __init__(self, channels: int, outputs: int, hidden: int, depth: int, *, rngs: nnx.Rngs):
        positive(hidden=hidden, depth=depth + 1)
        self.first = Conv(channels, hidden, 3, rngs=rngs)
        self.middle = Conv(hidden, hidden, 1, rngs=rngs) if depth == 0 else None
        self.wide = nnx.List([Conv(hidden, hidden, 3, activation=jax.nn.relu, rngs=rngs) for _ in range(depth)])
        self.narrow = nnx.List([Conv(hidden, hidden, 1, rngs=rngs) for _ in range(depth)])
        self.last = Conv(hidden, outputs, 3, rngs=rngs)
        self.last.kernel.set_value(jnp.zeros_like(self.last.kernel[...]))

    def __call__(self, x: Array) -> Array:
        h = self.first(x)
        if self.middle is not None:
            h = self.middle(jax.nn.relu(h))
        for wide, narrow in zip(self.wide, self.narrow):
            h = h + narrow(wide(jax.nn.relu(h)))
        # XLA's own convolution: with so few outputs its gradient on a CPU takes a quarter of the time of `kernels.conv2d`'s.
        h = lax.conv_general_dilated(jax.nn.relu(h)[None], self.last.kernel[...], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]
        return h + self.last.bias[...]
