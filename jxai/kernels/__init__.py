"""What XLA does slowly on a CPU, done fast: 2-D convolutions, each one equation of the jaxpr on every platform, and order statistics.

`conv2d` composes with every transformation (`jit`, `vmap` over images, kernels or both, `grad`, `jvp`,
`linear_transpose`, `checkpoint`, `scan`, `shard_map`), because it is a primitive with a complete set of rules
(`primitives`); what it runs on a CPU is in `cpu`. `order` finds the k-th largest without sorting floats.

What may be touched: a faster `cpu` path, if tests/kernels agrees and the benchmark shows it. Whoever adds a primitive adds all of its rules, and its
meaning to `jxai.tracing.axes` and `jxai.bounds.rules.primitives`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jxai.callables import vary, varying
from jxai.kernels.primitives import conv2d_p

__all__ = ["conv2d", "relu6"]


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
    feature_group_count: int = 1,
    precision: lax.PrecisionLike = None,
) -> jax.Array:
    """Correlates images with a kernel: `y[o] = Σ_i x[o·s + i - lo] · kernel[i]` over both spatial axes.

    Args:
      x: `[..., H, W, C]`, floating point; any number of leading axes.
      kernel: `[kh, kw, C / feature_group_count, O]`.
      strides: positive, one for each spatial axis.
      padding: `"SAME"` (as XLA: the odd zero goes last), `"VALID"`, or `((top, bottom), (left, right))`.
      feature_group_count: number of groups that do not mix; `C` gives a depthwise convolution.
      precision: of the products, as in `jax.lax`; None is `jax.default_matmul_precision` at the call.

    Returns:
      `[..., Ho, Wo, O]`, in the promoted type of x and kernel.

    Raises:
      ValueError: a rank, channel count, stride or padding that does not fit, or an empty result.
    """
    x, kernel = jnp.asarray(x), jnp.asarray(kernel)
    dtype = jnp.result_type(x, kernel)
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"x and kernel must be floating point, got {x.dtype} and {kernel.dtype}")
    if x.ndim < 3 or kernel.ndim != 4:
        raise ValueError(f"x must be [..., H, W, C] and kernel [kh, kw, I, O], got {x.shape} and {kernel.shape}")
    groups, features = feature_group_count, kernel.shape[-1]
    if groups < 1 or kernel.shape[2] * groups != x.shape[-1] or features % groups:
        raise ValueError(f"{feature_group_count=} does not fit x of shape {x.shape} and kernel of shape {kernel.shape}")
    strides = tuple(strides)
    if len(strides) != 2 or min(strides) < 1:
        raise ValueError(f"{strides=} must be two positive integers")
    padding = _explicit(padding, x.shape[-3:-1], kernel.shape[:2], strides)
    padded = [size + sum(pair) for size, pair in zip(x.shape[-3:-1], padding)]
    if any(size < window for size, window in zip(padded, kernel.shape)):
        raise ValueError(f"kernel of shape {kernel.shape} is larger than x of shape {x.shape} with {padding=}")
    x, kernel = _same_axes(x.astype(dtype), kernel.astype(dtype))
    if precision is None:
        # Read now: lowering may happen after a `with jax.default_matmul_precision(...)` around the trace has ended.
        precision = jax.config.jax_default_matmul_precision
    return conv2d_p.bind(x, kernel, strides=strides, padding=padding, feature_group_count=groups, precision=precision)


def relu6(x: jax.Array) -> jax.Array:
    """`min(max(x, 0), 6)`; its derivative is 1 strictly inside (0, 6) and 0 elsewhere, as one mask."""
    return lax.clamp(jnp.zeros((), x.dtype), x, jnp.full((), 6, x.dtype))


def _explicit(padding, spatial, window, strides):
    """Padding as a hashable pair of pairs."""
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"{padding=} must be 'SAME', 'VALID' or two pairs")
        padding = lax.padtype_to_pads(spatial, window, strides, padding)
    padding = tuple(tuple(int(side) for side in pair) for pair in padding)
    if [len(pair) for pair in padding] != [2, 2]:
        raise ValueError(f"{padding=} must be 'SAME', 'VALID' or two pairs")
    return padding


def _same_axes(x, kernel):
    """Under `shard_map`, makes both operands vary over the same mesh axes (weights are usually the replicated one)."""
    return vary((x, kernel), varying((x, kernel)))
