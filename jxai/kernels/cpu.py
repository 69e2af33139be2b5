"""How a 2-D convolution and its two transposes are computed on a CPU.

XLA's CPU backend has a good dense convolution and good matrix products, but slow depthwise convolutions and very
slow input gradients (it dilates the cotangent and multiplies by zeros). Each function here picks the arrangement
that was fastest when measured (jax 0.10.2, 2 cores):

- depthwise: k·k shifted multiply-adds, which XLA fuses with the bias and the activation around them;
- 1×1: a matrix product;
- few input channels, groups, or images of at most 2×2 positions: im2col and a matrix product;
- any other dense convolution: `lax.conv_general_dilated`;
- every input gradient: by *phases*. With `h + lo = s·p + a`, `0 <= a < s`, an output `h` of phase `a` only meets the
  taps `i = a + s·t`, so `dx[s·p + a] = Σ_t g[p - t] · w[a + s·t]`: a stride-1 sum of ⌈k/s⌉² terms with s² times as
  many channels, and nothing is multiplied by an inserted zero.

Processor time per image in batches of 4 and 64, both ways in one run on a busy machine: EfficientNet-Lite0 forward 8 ms
(plain `lax.conv` 64), input gradient 24 (100); CIFAR ResNet-20 forward 0.6 (0.6), input gradient 1.3 (17). A 3×3 convolution of 2×2 positions and 256
channels takes .012 ms an image (plain `lax.conv` .73); of 3×3 positions `lax.conv` takes .030 (patches .027), of 4×4 and 128 channels .011 (.013).

float16 and bfloat16 are computed in float32 and rounded once at the end: more exact, and faster on this backend.

Every function takes `x [N, H, W, C]`, `kernel [kh, kw, C/groups, O]`, `g [N, Ho, Wo, O]` and the parameters of
`conv_general_dilated` (`strides`, explicit `padding`, `feature_group_count`, `precision`).
"""

import functools
import math

import jax.numpy as jnp
from jax import lax

__all__ = ["conv2d", "conv2d_kernel_gradient", "conv2d_transpose"]

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Up to this many multiplied inputs (kh·kw·C) per output, building the patches costs less than XLA's convolution.
_FEW_INPUTS = 27
# With images of up to this many positions XLA's convolution takes 2 to 130 times as long as patches and a product.
_FEW_POSITIONS = 4
# Input gradients with fewer channels than this are one matrix product to every tap, summed afterwards.
_FEW_CHANNELS = 8


def _in_float32(function):
    """Computes a low-precision call in float32."""

    @functools.wraps(function)
    def wrapped(a, b, **params):
        if jnp.finfo(a.dtype).bits >= 32:
            return function(a, b, **params)
        wide = jnp.float32
        return function(a.astype(wide), b.astype(wide), **params).astype(a.dtype)

    return wrapped


@_in_float32
def conv2d(x, kernel, *, strides, padding, feature_group_count, precision):
    """`y[o] = Σ_i x[o·s + i - lo] · kernel[i]`, `[N, Ho, Wo, O]`."""
    kind = _kind(kernel, feature_group_count)
    large = math.prod(kernel.shape[:3]) > _FEW_INPUTS and math.prod(x.shape[1:3]) > _FEW_POSITIONS
    if kind == "dense" and not _pointwise(kernel) and large:
        return lax.conv_general_dilated(x, kernel, strides, padding, dimension_numbers=_LAYOUT, precision=precision)
    taps = _taps(_pad(x, padding), kernel.shape[:2], strides)
    if kind == "depthwise":
        weights = kernel.reshape(-1, kernel.shape[-1])
        multiplier = kernel.shape[-1] // feature_group_count
        return sum(_repeat(tap, multiplier) * weights[i] for i, tap in enumerate(taps))
    return _product(_patches(taps, feature_group_count), kernel, feature_group_count, precision)


@_in_float32
def conv2d_transpose(g, kernel, *, strides, padding, feature_group_count, precision, spatial):
    """The transpose of `conv2d` in x: `dx[h] = Σ_i g[(h + lo - i) / s] · kernel[i]` over whole quotients, `[N, *spatial, C]`."""
    groups = feature_group_count
    phases = [_Phases(*axis) for axis in zip(spatial, g.shape[1:3], kernel.shape[:2], strides, padding)]
    rows, columns = phases
    # [Th, Tw, sh, sw, C/groups, O]: the taps of every phase, zeros where k is no multiple of s.
    taps = lax.pad(
        kernel,
        jnp.zeros((), kernel.dtype),
        [(0, p.taps * p.stride - k, 0) for p, k in zip(phases, kernel.shape)] + [(0, 0, 0)] * 2,
    )
    taps = taps.reshape(rows.taps, rows.stride, columns.taps, columns.stride, *kernel.shape[2:])
    taps = taps.transpose(0, 2, 1, 3, 4, 5)
    kind = _kind(kernel, groups)
    if kind == "depthwise":
        blocks = _depthwise_phases(_pad(g, [p.padding for p in phases]), taps[..., 0, :], rows, columns)
        multiplier = kernel.shape[-1] // groups
        if multiplier > 1:
            blocks = blocks.reshape(*blocks.shape[:-1], groups, multiplier).sum(-1)
        return _interleave(blocks, rows, columns)
    large = kernel.shape[2] >= _FEW_CHANNELS and math.prod(spatial) > _FEW_POSITIONS
    if kind == "dense" and not _pointwise(kernel) and large:
        blocks = _dense_phases(_pad(g, [p.padding for p in phases]), taps, precision)
    else:
        blocks = _product_phases(g, taps, phases, groups, precision)
    blocks = blocks.reshape(*blocks.shape[:3], rows.stride, columns.stride, -1).transpose(0, 1, 3, 2, 4, 5)
    return _interleave(blocks, rows, columns)


@_in_float32
def conv2d_kernel_gradient(x, g, *, strides, padding, feature_group_count, precision, window):
    """The transpose of `conv2d` in the kernel: `dkernel[i] = Σ_o x[o·s + i - lo] · g[o]`, `[*window, C/groups, O]`."""
    groups = feature_group_count
    channels, features = x.shape[-1] // groups, g.shape[-1]
    taps = _taps(_pad(x, padding), window, strides)
    if channels == 1 and groups > 1:
        multiplier = features // groups
        sums = [jnp.sum(_repeat(tap, multiplier) * g, axis=(0, 1, 2)) for tap in taps]
        return jnp.stack(sums).reshape(*window, 1, features)
    patches = _patches(taps, groups)
    if groups == 1:
        product = _matmul(patches.reshape(-1, patches.shape[-1]), g.reshape(-1, features), (0, 0), precision)
    else:
        rows, cotangent = (v.reshape(-1, groups, v.shape[-1] // groups) for v in (patches, g))
        product = jnp.einsum("ngi,ngo->igo", rows, cotangent, precision=precision)
    return product.reshape(*window, channels, features)


def _kind(kernel, groups):
    """ "dense", "depthwise" (one input channel a group) or "grouped"."""
    if groups == 1:
        return "dense"
    return "depthwise" if kernel.shape[2] == 1 else "grouped"


def _pad(x, padding):
    """x with `padding` (pairs, negative crops) zeros around its two spatial axes."""
    if not any(sum(padding, start=())):
        return x
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((lo, hi, 0) for lo, hi in padding), (0, 0, 0)])


def _taps(x, window, strides):
    """The kh·kw strided views of a padded x, each `[N, Ho, Wo, C]`, in the kernel's order."""
    (kh, kw), (sh, sw) = window, strides
    height, width = x.shape[1] - kh + 1, x.shape[2] - kw + 1
    return [lax.slice(x, (0, i, j, 0), (x.shape[0], i + height, j + width, x.shape[3]), (1, sh, sw, 1)) for i in range(kh) for j in range(kw)]


def _repeat(x, multiplier):
    return x if multiplier == 1 else jnp.repeat(x, multiplier, axis=-1)


def _patches(taps, groups):
    """im2col: `[N, Ho, Wo, groups·kh·kw·C/groups]`, the group outermost."""
    if len(taps) == 1:
        return taps[0]
    if groups == 1:
        return jnp.concatenate(taps, -1)
    split = jnp.concatenate([tap.reshape(*tap.shape[:-1], groups, -1) for tap in taps], -1)
    return split.reshape(*split.shape[:-2], -1)


def _product(patches, kernel, groups, precision):
    """`[..., G·I] · [kh, kw, C/G, G·F] -> [..., G·F]` with `I = kh·kw·C/G`."""
    lead, features = patches.shape[:-1], kernel.shape[-1]
    if groups == 1:
        rows = patches.reshape(-1, patches.shape[-1])
        return _matmul(rows, kernel.reshape(-1, features), (1, 0), precision).reshape(*lead, features)
    weights = kernel.reshape(-1, groups, features // groups)
    rows = patches.reshape(-1, groups, weights.shape[0])
    return jnp.einsum("ngi,igo->ngo", rows, weights, precision=precision).reshape(*lead, features)


def _matmul(a, b, axes, precision):
    """Contracts one axis of each matrix. Only in two dimensions does XLA read a transposed operand where it lies."""
    return lax.dot_general(a, b, (((axes[0],), (axes[1],)), ((), ())), precision=precision)


def _pointwise(kernel):
    return kernel.shape[:2] == (1, 1)


class _Phases:
    """One axis of an input gradient: `h + lo = stride·p + a`, p from `first` to `first + blocks - 1`."""

    def __init__(self, size, out, window, stride, padding):
        lo = padding[0]
        self.size, self.stride = size, stride
        self.taps = -(-window // stride)
        first = lo // stride
        self.blocks = (size - 1 + lo) // stride - first + 1
        # Row `p + taps - 1 - t` of a cotangent padded by this much is g[first + p - t].
        self.padding = (self.taps - 1 - first, first + self.blocks - out)
        self.crop = lo - first * stride

    def view(self, tap):
        start = self.taps - 1 - tap
        return slice(start, start + self.blocks)


def _depthwise_phases(g, taps, rows, columns):
    """`[N, P, sh, Q, sw, O]`: broadcasting over the phases keeps one fused loop that writes x's own layout."""
    return sum(g[:, rows.view(t), None, columns.view(u), None] * taps[t, u][:, None] for t in range(rows.taps) for u in range(columns.taps))


def _dense_phases(g, taps, precision):
    """`[N, P, Q, sh·sw·C]`: a stride-1 convolution whose output channels are (phase, channel)."""
    flipped = taps[::-1, ::-1].transpose(0, 1, 5, 2, 3, 4)
    flipped = flipped.reshape(*flipped.shape[:3], -1)
    return lax.conv_general_dilated(g, flipped, (1, 1), "VALID", dimension_numbers=_LAYOUT, precision=precision)


def _product_phases(g, taps, phases, groups, precision):
    """`[N, P, Q, sh·sw·C]`: g times all taps at once, then the ⌈k/s⌉² shifted pieces are added."""
    rows, columns = phases
    count = rows.taps * columns.taps
    features = taps.shape[-1]
    if groups == 1:
        product = _matmul(g.reshape(-1, features), taps.reshape(-1, features), (1, 1), precision)
    else:
        # Out comes (tap, phase, group, channel): a piece is already in the order of the result.
        weights = taps.reshape(-1, taps.shape[4], groups, features // groups)
        cotangent = g.reshape(-1, groups, features // groups)
        product = jnp.einsum("ngo,aigo->nagi", cotangent, weights, precision=precision)
    product = _pad(product.reshape(*g.shape[:3], -1), [p.padding for p in phases])
    width = product.shape[-1] // count
    return sum(
        product[:, rows.view(t), columns.view(u), index * width : (index + 1) * width]
        for index, (t, u) in enumerate((t, u) for t in range(rows.taps) for u in range(columns.taps))
    )


def _interleave(blocks, rows, columns):
    """`[N, P, sh, Q, sw, C] -> [N, H, W, C]`."""
    full = blocks.reshape(blocks.shape[0], rows.blocks * rows.stride, columns.blocks * columns.stride, -1)
    top, left = rows.crop, columns.crop
    return full[:, top : top + rows.size, left : left + columns.size]
