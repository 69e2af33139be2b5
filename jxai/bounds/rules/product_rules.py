"""The rules of products: linear in one operand where the other is a constant, bilinear where both depend on x."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai import kernels
from jxai.bounds.rules import curves
from jxai.bounds.rules.locality import Elementwise, Windows
from jxai.bounds.rules.operations import Bilinear, Linear, Operation, Unary
from jxai.bounds.rules.use import Perturbed, Result, Use
from jxai.scores import wide
from jxai.typing import Array


def mul(use: Use) -> Operation | Result:
    """A product entry by entry; of a value with itself, its square."""
    a, b = use.operands
    if isinstance(a, Perturbed) and isinstance(b, Perturbed):
        if a.reference == b.reference:
            return Unary(curves.SQUARE), (a.reference,)
        return Bilinear(lambda x, y: x * y, pointwise=True), (a.reference, b.reference)
    x, constant = (a, b) if isinstance(a, Perturbed) else (b, a)
    return scaled(x, wide(jnp.asarray(constant)), use.shape)


def scaled(x: Perturbed, by: Array, shape: tuple[int, ...]) -> Linear:
    """x times a constant array, entry by entry."""
    diagonal = by if x.shape == tuple(shape) else None  # else x is spread over the array
    return Linear(lambda v: v * by, None, (0,), lambda m: m * jnp.abs(by), diagonal=diagonal, apart=diagonal is not None, local=Elementwise())


def div_(use: Use) -> Operation | Result:
    """A quotient: by a constant, or a product with the reciprocal."""
    a, b = use.operands
    if not isinstance(b, Perturbed):
        return scaled(a, 1 / wide(jnp.asarray(b)), use.shape)
    inverse = use.add(Unary(curves.RECIPROCAL), (b.reference,), b.shape)
    if not isinstance(a, Perturbed):
        return scaled(inverse, wide(jnp.asarray(a)), use.shape), (inverse.reference,)
    return Bilinear(lambda x, y: x * y, pointwise=True), (a.reference, inverse.reference)


def _product(
    use: Use,
    apply: Callable[[Array, Array], Array],
    terms: int,
    local: Any = None,
    unpadded: Callable[[Array, Array], Array] | None = None,
    whole: tuple[int, ...] = (),
    taps: int = 1,
) -> Operation:
    """A bilinear primitive: linear in one operand if the other is a constant. unpadded: it without padding, on windows that do not cut `whole`."""
    a, b = use.operands
    if isinstance(a, Perturbed) and isinstance(b, Perturbed):
        return Bilinear(apply, terms)
    if isinstance(a, Perturbed):
        b = wide(jnp.asarray(b))
        bare = None if unpadded is None else lambda x: unpadded(x, b)
        return Linear(lambda x: apply(x, b), None, (0,), lambda m: apply(m, jnp.abs(b)), terms, local=local, unpadded=bare, whole=whole, taps=taps)
    a = wide(jnp.asarray(a))
    return Linear(lambda x: apply(a, x), None, (0,), lambda m: apply(jnp.abs(a), m), terms)


def dot_general(use: Use) -> Operation:
    """Products of matrices, whatever their axes."""
    numbers = use.param("dimension_numbers")
    (contract, _), _ = numbers
    shapes = [v.shape for v in use.operands]
    # In the forward pass a row meets `contracted` numbers, in the transposed one what is left of the other operand.
    terms = max(
        math.prod(shapes[0][d] for d in contract),
        math.prod(use.shape) // max(1, min(math.prod(s) // math.prod(s[d] for d in c) for s, c in zip(shapes, numbers[0]))),
        1,
    )
    # Rows stay rows: the axes of the left operand that are not contracted lead the result.
    (contracted, _), (batch, _) = numbers
    free = [d for d in range(len(shapes[0])) if d not in contracted and d not in batch]
    to = {d: n for n, d in enumerate((*batch, *free))}
    local = Windows(tuple((to[d], 1, 1, 0, 1) if d in to else None for d in range(len(shapes[0]))))

    def apply(a: Array, b: Array) -> Array:
        return lax.dot_general(a, b, numbers, precision=lax.Precision.HIGHEST)

    return _product(use, apply, terms, local, apply)


def convolution(use: Use) -> Operation:
    """A convolution as `jax.lax` has it; in two dimensions by our own primitive."""
    p, (lhs, rhs) = use.param, (v.shape for v in use.operands)
    numbers = p("dimension_numbers")
    spatial = len(lhs) - 2
    strides, padding, dilation = tuple(p("window_strides")), tuple(map(tuple, p("padding"))), tuple(p("rhs_dilation"))
    groups = p("feature_group_count")
    kernel = tuple(rhs[d] for d in numbers.rhs_spec)  # (O, I, *window)
    terms = max(math.prod(kernel[1:]), kernel[0] // groups * math.prod(kernel[2:]))
    plain = all(d == 1 for d in p("lhs_dilation")) and p("batch_group_count") == 1
    local = None
    if plain:
        windows, mix = [], groups == 1 or kernel[1] != 1 or kernel[0] != groups
        for d in range(len(lhs)):
            if d in numbers.lhs_spec[2:]:
                n = numbers.lhs_spec[2:].index(d)
                windows.append((numbers.out_spec[2 + n], kernel[2 + n], strides[n], padding[n][0], dilation[n]))
            elif d == numbers.lhs_spec[0]:
                windows.append((numbers.out_spec[0], 1, 1, 0, 1))
            else:
                windows.append(None if mix else (numbers.out_spec[1], 1, 1, 0, 1))
        local = Windows(tuple(windows))
    if plain and spatial == 2 and all(d == 1 for d in dilation):
        # Our own primitive has a transpose that is fast on a CPU.
        def apply(x: Array, w: Array, padding: Any = padding) -> Array:
            x = x.transpose(numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
            w = w.transpose(*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0])
            y = kernels.conv2d(x, w, strides, padding, groups, lax.Precision.HIGHEST)
            return y.transpose(np.argsort([numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1]]))

    else:

        def apply(x: Array, w: Array, padding: Any = padding) -> Array:
            return lax.conv_general_dilated(x, w, strides, padding, p("lhs_dilation"), dilation, numbers, groups, p("batch_group_count"), lax.Precision.HIGHEST)

    unpadded = functools.partial(apply, padding=((0, 0),) * spatial) if plain else None
    return _product(use, apply, terms, local, unpadded, (numbers.lhs_spec[1],), math.prod(kernel[2:]))


def conv2d(use: Use) -> Operation:
    """Our own convolution."""
    p, (x, kernel) = use.param, (v.shape for v in use.operands)
    groups = p("feature_group_count")
    terms = max(math.prod(kernel[:3]), math.prod(kernel[:2]) * kernel[3] // groups)
    last = len(x) - 1
    windows = [(d, 1, 1, 0, 1) for d in range(last - 2)]
    windows += [(last - 2 + n, kernel[n], p("strides")[n], p("padding")[n][0], 1) for n in range(2)]
    windows.append((last, 1, 1, 0, 1) if groups > 1 and kernel[2] == 1 and kernel[3] == groups else None)

    def apply(a: Array, b: Array, padding: Any = p("padding")) -> Array:
        return kernels.conv2d(a, b, p("strides"), padding, groups, lax.Precision.HIGHEST)

    unpadded = functools.partial(apply, padding=((0, 0), (0, 0)))
    return _product(use, apply, terms, Windows(tuple(windows)), unpadded, (last,), math.prod(kernel[:2]))
