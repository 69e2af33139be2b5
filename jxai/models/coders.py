"""What generators are made of: an encoder from an example to numbers and a decoder back, dense or convolutional, with or without a class."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jxai import kernels
from jxai.callables import transpose
from jxai.models.layers import Conv
from jxai.scores import positive
from jxai.typing import Array

WINDOW = 4
PADDING = ((1, 1), (1, 1))


class ConvTranspose(nnx.Module):
    """The transpose of a 4×4 convolution at stride 2, plus a bias: `[H, W, channels] -> [2H, 2W, features]`."""

    def __init__(self, channels: int, features: int, *, rngs: nnx.Rngs):
        # Each pixel of the result meets a quarter of the taps.
        scale = math.sqrt(2 / (WINDOW * WINDOW / 4 * channels))
        self.kernel = nnx.Param(scale * jax.random.normal(rngs.params(), (WINDOW, WINDOW, features, channels)))
        self.bias = nnx.Param(jnp.zeros(features))

    def __call__(self, x: Array) -> Array:
        kernel = self.kernel[...]
        large = jax.ShapeDtypeStruct((2 * x.shape[0], 2 * x.shape[1], kernel.shape[2]), x.dtype)
        down = lambda v: kernels.conv2d(v, kernel.astype(v.dtype), (2, 2), PADDING)
        return transpose(down, large, x) + self.bias[...].astype(x.dtype)

    def load(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Sets the weights from a PyTorch kernel `[I, O, kh, kw]` and a bias `[O]`."""
        for parameter, value in ((self.kernel, np.transpose(kernel, (2, 3, 1, 0))), (self.bias, bias)):
            if parameter.shape != value.shape:
                raise ValueError(f"weights of shape {value.shape} do not fit a parameter of shape {parameter.shape}")
            parameter.set_value(jnp.asarray(value, jnp.float32))


class Encoder(nnx.Module):
    """`(x [*shape], y [num_classes]) -> [outputs]`: 4×4 convolutions at stride 2, then linear layers that see y as well.

    Args:
      shape: of x. outputs: how many numbers.
      hidden: widths of the linear layers but the last. features: channels of each convolution, each halves the sides; none by default.
      num_classes: of the condition y; 0 for none.
      activation: between the layers.

    Raises:
      ValueError: a width below 1, convolutions of something else than an image, sides that cannot be halved that often.
    """

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        hidden: Sequence[int] = (),
        features: Sequence[int] = (),
        *,
        num_classes: int = 0,
        activation: Callable[[Array], Array] = nnx.relu,
        rngs: nnx.Rngs,
    ):
        self.shape, self.num_classes, self.activation = tuple(shape), num_classes, activation
        flat = math.prod(_smallest(shape, features))
        widths = (flat + num_classes, *hidden, outputs)
        positive(**{f"hidden[{n}]": width for n, width in enumerate(hidden)}, outputs=outputs)
        channels = (shape[-1], *features)
        self.convs = nnx.List(Conv(a, b, WINDOW, stride=2, padding=PADDING, activation=activation, rngs=rngs) for a, b in zip(channels, features))
        self.layers = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths))

    def __call__(self, x: Array, y: Array | None = None) -> Array:
        check_shape("x", x, self.shape)
        for conv in self.convs:
            x = conv(x)
        x = _joined(x.reshape(-1), y)
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


class Decoder(nnx.Module):
    """`(z [latent], y [num_classes]) -> [*shape]`, the logits of pixels: linear layers, then transposed convolutions that double the sides.

    Args:
      shape: of the result. latent: numbers in z, >= 1.
      hidden: widths of the linear layers. features: channels before each transposed convolution, in the order of their use.
      num_classes, activation: as in `Encoder`.

    Raises:
      ValueError: as `Encoder`.
    """

    def __init__(
        self,
        shape: Sequence[int],
        latent: int,
        hidden: Sequence[int] = (),
        features: Sequence[int] = (),
        *,
        num_classes: int = 0,
        activation: Callable[[Array], Array] = nnx.relu,
        rngs: nnx.Rngs,
    ):
        positive(latent=latent, **{f"hidden[{n}]": width for n, width in enumerate(hidden)})
        self.shape, self.latent, self.num_classes, self.activation = tuple(shape), latent, num_classes, activation
        self.smallest = _smallest(shape, features[::-1])
        widths = (latent + num_classes, *hidden, math.prod(self.smallest))
        self.layers = nnx.List(nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(widths))
        self.convs = nnx.List(ConvTranspose(a, b, rngs=rngs) for a, b in zip(features, (*features[1:], shape[-1])))

    def __call__(self, z: Array, y: Array | None = None) -> Array:
        check_shape("z", z, (self.latent,))
        x = _joined(z, y)
        layers = [*self.layers, *self.convs]
        for n, layer in enumerate(layers):
            x = layer(x)
            if n == len(self.layers) - 1:
                x = x.reshape(self.smallest)
            if n < len(layers) - 1:
                x = self.activation(x)
        return x


def condition(y: int | Array, num_classes: int) -> Array:
    """`[num_classes]`: a class as a one-hot vector (NaN for a traced one out of range), or a vector of probabilities as it is.

    Raises:
      ValueError: a Python integer out of range, or something that is neither.
    """
    if isinstance(y, numbers.Integral) and not isinstance(y, bool):
        if not 0 <= y < num_classes:
            raise ValueError(f"{y=} must be a class in [0, {num_classes})")
        return jax.nn.one_hot(y, num_classes)
    shape, dtype = jnp.shape(y), getattr(y, "dtype", None)
    if shape == () and dtype is not None and jnp.issubdtype(dtype, jnp.integer):
        return jnp.where((y >= 0) & (y < num_classes), jax.nn.one_hot(y, num_classes), jnp.nan)
    if shape != (num_classes,) or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"y must be a class in [0, {num_classes}) or probabilities [{num_classes}], got {dtype or type(y).__name__} of shape {shape}")
    return jnp.asarray(y)


def given(model: Any, y: Array | None) -> Any:
    """The model where y is known: `model.given(y)` of a conditional one, the model itself otherwise.

    Raises:
      ValueError: no y for a conditional model.
    """
    if not hasattr(model, "given"):
        return model
    if y is None:
        raise ValueError(f"{type(model).__name__} needs the classes of its examples: y=None must be [B] integers or [B, num_classes] probabilities")
    return model.given(y)


def check_shape(name: str, value: Array, shape: tuple[int, ...]) -> None:
    """Raises ValueError unless value is one floating-point array of this shape."""
    dtype = getattr(value, "dtype", None)
    if jnp.shape(value) != shape or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        got = f"{dtype or type(value).__name__} of shape {jnp.shape(value)}"
        raise ValueError(f"{name} must be floating point of shape {shape} (use jax.vmap for a batch), got {got}")


def _joined(v: Array, y: Array | None) -> Array:
    return v if y is None else jnp.concatenate([v, y.astype(v.dtype)])


def _smallest(shape: Sequence[int], features: Sequence[int]) -> tuple[int, ...]:
    """The shape after the convolutions."""
    shape = tuple(shape)
    positive(**{f"shape[{n}]": size for n, size in enumerate(shape)}, **{f"features[{n}]": width for n, width in enumerate(features)})
    if not features:
        return shape
    halvings = 2 ** len(features)
    if len(shape) != 3 or shape[0] % halvings or shape[1] % halvings:
        raise ValueError(f"{shape=} must be an image [H, W, C] with sides divisible by {halvings}, for {len(features)} convolutions at stride 2")
    return (shape[0] // halvings, shape[1] // halvings, features[-1])
