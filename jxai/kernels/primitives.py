"""`conv2d` and its two transposes as JAX primitives: one equation each, on every platform.

The three are the three ways to read one trilinear form `⟨g, conv(x, kernel)⟩`: `conv2d` maps (x, kernel) to the space
of g, `conv2d_transpose` maps (g, kernel) to the space of x, `conv2d_kernel_gradient` maps (x, g) to the space of the
kernel. Each is bilinear and its transposes are the other two, so derivatives of every order and in either direction
stay within the set, and each of them keeps its fast arrangement on a CPU (`cpu.py`). GPU and TPU run
`lax.conv_general_dilated` and its transposes.
"""

import functools

import jax
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from jxai.kernels import cpu

__all__ = ["conv2d_kernel_gradient_p", "conv2d_p", "conv2d_transpose_p"]

conv2d_p = Primitive("conv2d")
conv2d_transpose_p = Primitive("conv2d_transpose")
conv2d_kernel_gradient_p = Primitive("conv2d_kernel_gradient")


# Shapes.


def _conv2d_shape(x, kernel, *, strides, padding, **_):
    spatial = [(size + lo + hi - window) // stride + 1 for size, window, stride, (lo, hi) in zip(x.shape[-3:-1], kernel.shape, strides, padding)]
    return x.update(shape=(*x.shape[:-3], *spatial, kernel.shape[-1]), weak_type=False)


def _transpose_shape(g, kernel, *, feature_group_count, spatial, **_):
    return g.update(shape=(*g.shape[:-3], *spatial, kernel.shape[2] * feature_group_count), weak_type=False)


def _kernel_gradient_shape(x, g, *, feature_group_count, window, **_):
    sharding = NamedSharding(x.sharding.mesh, PartitionSpec(None, None, None, None))
    shape = (*window, x.shape[-1] // feature_group_count, g.shape[-1])
    return x.update(shape=shape, weak_type=False, sharding=sharding)


# What runs where. The implementations see exactly one batch axis.


def _lax_conv2d(x, kernel, *, strides, padding, feature_group_count, precision):
    return lax.conv_general_dilated(
        x,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=feature_group_count,
        precision=precision,
    )


def _lax_transpose(g, kernel, *, spatial, **params):
    channels = kernel.shape[2] * params["feature_group_count"]
    x = jax.ShapeDtypeStruct((g.shape[0], *spatial, channels), g.dtype)
    return jax.linear_transpose(lambda x: _lax_conv2d(x, kernel, **params), x)(g)[0]


def _lax_kernel_gradient(x, g, *, window, **params):
    channels = x.shape[-1] // params["feature_group_count"]
    kernel = jax.ShapeDtypeStruct((*window, channels, g.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda kernel: _lax_conv2d(x, kernel, **params), kernel)(g)[0]


def _one_batch_axis(function):
    """Merges the leading axes of image operands, and gives them back to an image result (free: a bitcast)."""

    def wrapped(a, b, **params):
        lead = a.shape[:-3]
        images = [v.reshape(-1, *v.shape[-3:]) for v in ((a, b) if "window" in params else (a,))]
        out = function(*images, *(() if "window" in params else (b,)), **params)
        return out if "window" in params else out.reshape(*lead, *out.shape[1:])

    return wrapped


# vmap. An axis of images alone joins the leading axes. An axis of the other operand joins the channels: it multiplies
# the number of groups, or only the outputs where one image meets many kernels.


def _merge(v, axis, size):
    """Moves a mapped axis (None: broadcasts one) in front of the channels and merges the two."""
    if axis is None:
        v = lax.broadcast_in_dim(v, (*v.shape[:-1], size, v.shape[-1]), (*range(v.ndim - 1), v.ndim))
    else:
        v = jax.numpy.moveaxis(v, axis, -2)
    return v.reshape(*v.shape[:-2], -1)


def _batch(primitive, images, args, axes, *, feature_group_count, **params):
    bind = functools.partial(primitive.bind, **params)
    if images == (0,) and axes[1] is None:
        x = jax.numpy.moveaxis(args[0], axes[0], 0)
        return bind(x, args[1], feature_group_count=feature_group_count), 0
    size = next(v.shape[axis] for v, axis in zip(args, axes) if axis is not None)
    shared_image = axes[0] is None and feature_group_count == 1 and primitive is not conv2d_transpose_p
    groups = feature_group_count * (1 if shared_image else size)
    a = args[0] if shared_image else _merge(args[0], axes[0], size)
    out = bind(a, _merge(args[1], axes[1], size), feature_group_count=groups)
    return out.reshape(*out.shape[:-1], size, -1), out.ndim - 1


# Transposes. `x`, `kernel` and `g` are the operand whose transpose is taken, known by its shape only.


def _drop(params, name):
    return {key: value for key, value in params.items() if key != name}


def _conv2d_in_x(g, x, kernel, **params):
    return conv2d_transpose_p.bind(g, kernel, spatial=x.aval.shape[-3:-1], **params)


def _conv2d_in_kernel(g, x, kernel, **params):
    return conv2d_kernel_gradient_p.bind(x, g, window=kernel.aval.shape[:2], **params)


def _transpose_in_g(x, g, kernel, **params):
    return conv2d_p.bind(x, kernel, **_drop(params, "spatial"))


def _transpose_in_kernel(x, g, kernel, **params):
    return conv2d_kernel_gradient_p.bind(x, g, window=kernel.aval.shape[:2], **_drop(params, "spatial"))


def _kernel_gradient_in_x(kernel, x, g, **params):
    return conv2d_transpose_p.bind(g, kernel, spatial=x.aval.shape[-3:-1], **_drop(params, "window"))


def _kernel_gradient_in_g(kernel, x, g, **params):
    return conv2d_p.bind(x, kernel, **_drop(params, "window"))


def _define(primitive, shape, lax_rule, cpu_rule, transposes, images):
    primitive.def_abstract_eval(shape)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=_PARAMS))
    for rule, platform in ((lax_rule, None), (cpu_rule, "cpu")):
        lowering = mlir.lower_fun(_one_batch_axis(rule), multiple_results=False)
        mlir.register_lowering(primitive, lowering, platform=platform)
    batching.primitive_batchers[primitive] = functools.partial(_batch, primitive, images)
    ad.defbilinear(primitive, *transposes)


_PARAMS = ("strides", "padding", "feature_group_count", "precision", "spatial", "window")

_define(conv2d_p, _conv2d_shape, _lax_conv2d, cpu.conv2d, (_conv2d_in_x, _conv2d_in_kernel), (0,))
_define(
    conv2d_transpose_p,
    _transpose_shape,
    _lax_transpose,
    cpu.conv2d_transpose,
    (_transpose_in_g, _transpose_in_kernel),
    (0,),
)
_define(
    conv2d_kernel_gradient_p,
    _kernel_gradient_shape,
    _lax_kernel_gradient,
    cpu.conv2d_kernel_gradient,
    (_kernel_gradient_in_x, _kernel_gradient_in_g),
    (0, 1),
)
