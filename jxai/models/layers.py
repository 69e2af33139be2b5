"""The layers that our models are made of, on one example, channels last, batch normalisation folded in."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jxai import kernels

__all__ = ["Conv", "assign", "check_input", "fold_batch_norm", "linear"]


class Conv(nnx.Module):
    """`activation(conv2d(x, kernel) + bias)`: `[H, W, C] -> [Ho, Wo, features]`.

    `rngs=None` leaves the kernel zero, for weights that `load` brings: random ones take 20 ms of tracing for each layer.
    """

    def __init__(
        self,
        channels: int,
        features: int,
        window: int,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: str | Sequence[tuple[int, int]] = "SAME",
        activation: Callable[[jax.Array], jax.Array] | None = None,
        rngs: nnx.Rngs | None,
    ):
        shape = (window, window, channels // groups, features)
        self.kernel = nnx.Param(jnp.zeros(shape) if rngs is None else nnx.initializers.he_normal()(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(features))
        self.strides = (stride, stride)
        self.groups = groups
        self.padding = padding if isinstance(padding, str) else tuple(padding)
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        y = kernels.conv2d(x, self.kernel[...], self.strides, self.padding, self.groups)
        y = y + self.bias[...].astype(y.dtype)
        return y if self.activation is None else self.activation(y)

    def load(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Sets the weights from a PyTorch kernel `[O, I, kh, kw]` and a bias `[O]`."""
        assign(self.kernel, np.transpose(kernel, (2, 3, 1, 0)))
        assign(self.bias, bias)


def linear(layer: nnx.Linear, kernel: np.ndarray, bias: np.ndarray) -> None:
    """Sets the weights of `layer` from a PyTorch kernel `[out, in]` and a bias `[out]`."""
    assign(layer.kernel, kernel.T)
    assign(layer.bias, bias)


def fold_batch_norm(kernel, weights, prefix, epsilon) -> tuple[np.ndarray, np.ndarray]:
    """Returns the kernel `[O, …]` and bias `[O]` of a bias-free convolution followed by batch normalisation.

    In evaluation mode `γ (conv(x) - μ) / √(σ² + ε) + β` is a convolution with kernel `γ / √(σ² + ε) · kernel` and bias
    `β - γ μ / √(σ² + ε)`. `weights` holds PyTorch's four arrays under `prefix`.
    """
    gamma, beta, mean, variance = (weights[f"{prefix}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var"))
    scale = gamma / np.sqrt(variance + epsilon)
    folded = kernel * scale.reshape(-1, *(1,) * (kernel.ndim - 1))
    return folded.astype(np.float32), (beta - mean * scale).astype(np.float32)


def check_input(x: jax.Array, channels: int) -> None:
    """Raises ValueError where x is not one floating-point image `[H, W, channels]`."""
    if x.ndim != 3 or x.shape[-1] != channels:
        raise ValueError(f"x must be one image [H, W, {channels}] (use jax.vmap for a batch), got shape {x.shape}")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x must be floating point with pixels in [0, 1], got {x.dtype}")


def assign(parameter: nnx.Param, value: np.ndarray) -> None:
    """Sets a parameter to an array of its shape."""
    if parameter.shape != value.shape:
        raise ValueError(f"weights of shape {value.shape} do not fit a parameter of shape {parameter.shape}")
    parameter.set_value(jnp.asarray(value, jnp.float32))
