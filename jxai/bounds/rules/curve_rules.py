"""The rules of curves and maxima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.bounds.rules import curves
from jxai.bounds.rules.curve import Curve
from jxai.bounds.rules.linear_rules import float_of, negative
from jxai.bounds.rules.locality import Elementwise, Windows
from jxai.bounds.rules.operations import Linear, Operation, Unary
from jxai.bounds.rules.product_rules import scaled
from jxai.bounds.rules.reductions import Greatest
from jxai.bounds.rules.use import Perturbed, Result, Use
from jxai.scores import wide
from jxai.typing import Array


def curve(curve: Curve, *parameters: Any) -> Callable[[Use], Operation]:
    """The rule of a curve."""
    return lambda use: Unary(curve, parameters)


def integer_pow(use: Use) -> Operation | Result:
    """Whole powers; negative ones by the reciprocal."""
    n, x = use.param("y"), use.operands[0]
    if n in (0, 1):
        raise use.error(f"a power of {n}")
    power = x if n == -1 else use.add(_power(abs(n)), (x.reference,), x.shape) if n < 0 else None
    return (Unary(curves.RECIPROCAL), (power.reference,)) if n < 0 else _power(n)


def _power(n: int) -> Unary:
    return Unary(curves.odd_power(n) if n % 2 else curves.even_power(n))


def pow_(use: Use) -> Operation | Result:
    """Powers with one constant exponent: whole ones, ½ and −½ directly, others as `exp(y · log x)`."""
    base, exponent = use.operands
    if not isinstance(base, Perturbed) or isinstance(exponent, Perturbed):
        raise use.error("only powers with a constant exponent have bounds")
    values = [] if isinstance(exponent, jax.core.Tracer) else np.unique(np.asarray(exponent))
    if len(values) != 1:
        raise use.error("its exponent must be one number, known when the model is traced")
    y, (x, shape) = float(values[0]), (base.reference, base.shape)
    if base.shape != tuple(use.shape):
        raise use.error("its exponent must not be of another shape than its base")
    if y == 1:
        return Linear(lambda v: v, moves=True, apart=True, local=Elementwise()), (x,)
    if y == int(y) and y != 0:
        power = base if y == -1 else use.add(_power(int(abs(y))), (x,), shape) if y < 0 else None
        return _power(int(y)) if power is None else (Unary(curves.RECIPROCAL), (power.reference,))
    if abs(y) == 0.5:
        return Unary(curves.SQRT if y > 0 else curves.RSQRT)
    # Of a negative number this is NaN, whatever is done.
    log = use.add(Unary(curves.LOG), (x,), shape)
    product = use.add(scaled(log, jnp.float32(y), use.shape), (log.reference,), use.shape)
    return Unary(curves.EXP), (product.reference,)


def erfc(use: Use) -> Result:
    """`1 − erf(x)`."""
    x = use.operands[0]
    inner = use.add(Unary(curves.ERF), (x.reference,), x.shape)
    return Linear(lambda v: -v, jnp.ones(x.shape, float_of(use)), (-1,), local=Elementwise()), (inner.reference,)


def max_(use: Use) -> Result:
    """`max(a, b) = b + relu(a − b)`; the other operand of a constant bends the line."""
    a, b = use.operands
    if not isinstance(b, Perturbed):
        return _shifted_relu(use, a, b, 1)
    if not isinstance(a, Perturbed):
        return _shifted_relu(use, b, a, 1)
    gap = use.add(Linear(lambda x, y: x - y, None, (1, -1), local=Elementwise()), (a.reference, b.reference), use.shape)
    over = use.add(Unary(curves.RELU), (gap.reference,), use.shape)
    return Linear(lambda x, y: x + y, None, (1, 1), local=Elementwise()), (b.reference, over.reference)


def min_(use: Use) -> Result:
    """`min(a, b) = b − relu(b − a)`."""
    a, b = use.operands
    if not isinstance(b, Perturbed):
        return _shifted_relu(use, a, b, -1)
    if not isinstance(a, Perturbed):
        return _shifted_relu(use, b, a, -1)
    gap = use.add(Linear(lambda x, y: x - y, None, (1, -1), local=Elementwise()), (b.reference, a.reference), use.shape)
    over = use.add(Unary(curves.RELU), (gap.reference,), use.shape)
    return Linear(lambda x, y: x - y, None, (1, -1), local=Elementwise()), (b.reference, over.reference)


def _shifted_relu(use: Use, x: Perturbed, c: Any, side: int) -> Result:
    """`c + side · relu(side · (x − c))`: max for side 1, min for −1."""
    c = wide(jnp.asarray(c))
    concrete = not isinstance(c, jax.core.Tracer)
    infinite = concrete and np.isinf(np.asarray(c)).all() and (np.asarray(c) * side < 0).all()
    if infinite:  # max(x, −∞) = x, as softmax has it
        return Linear(lambda v: v, moves=True, local=Elementwise()), (x.reference,)
    if concrete and (np.asarray(c) == 0).all() and side == 1 and x.shape == tuple(use.shape):
        return Unary(curves.RELU), (x.reference,)
    apart, turned = x.shape == tuple(use.shape), lambda v: jnp.broadcast_to(side * v, use.shape)
    shifted = use.add(Linear(turned, jnp.broadcast_to(-side * c, use.shape), (side,), apart=apart, local=Elementwise()), (x.reference,), use.shape)
    over = use.add(Unary(curves.RELU), (shifted.reference,), use.shape)
    return Linear(turned, jnp.broadcast_to(c, use.shape), (side,), apart=True, local=Elementwise()), (over.reference,)


def clamp(use: Use) -> Result:
    """`min(max(x, low), high)` with constant ends."""
    low, x, high = use.operands
    if isinstance(low, Perturbed) or isinstance(high, Perturbed) or not isinstance(x, Perturbed):
        raise use.error("the ends of a clamp must not depend on x")
    return Unary(curves.CLIP, (wide(jnp.asarray(low)), wide(jnp.asarray(high)))), (x.reference,)


# The greatest of several.


def reduce_max(use: Use, sign: int = 1) -> Result:
    """The greatest (sign −1: the least) over axes."""
    return _extreme(use, use.operands[0], Greatest(tuple(int(a) for a in use.param("axes"))), sign)


def _extreme(use: Use, x: Perturbed, greatest: Greatest, sign: int) -> Result:
    """The greatest; for sign −1 the least, `−max(−x)`."""
    if sign > 0:
        return greatest, (x.reference,)
    turned = use.add(negative(), (x.reference,), x.shape)
    found = use.add(greatest, (turned.reference,), use.shape)
    return negative(), (found.reference,)


def reduce_window_max(use: Use, sign: int = 1, start: Any = None) -> Result:
    """The windows laid side by side on a new first axis, and the greatest of them; `start` is one more, and lies beyond the border."""
    p, x = use.param, use.operands[0]
    if any(d != 1 for d in p("base_dilation")):
        raise use.error("base dilation")
    window, strides, dilation = tuple(p("window_dimensions")), tuple(p("window_strides")), tuple(p("window_dilation"))
    padding = [tuple(pair) for pair in p("padding")]
    offsets = list(np.ndindex(*window))
    config = [(low, high, 0) for low, high in padding]

    def lay(v: Any) -> Array:
        padded = lax.pad(v, jnp.zeros((), v.dtype), config) if any(low or high for low, high in padding) else v
        views = []
        for offset in offsets:
            begin = [o * d for o, d in zip(offset, dilation)]
            end = [b + (n - 1) * s + 1 for b, n, s in zip(begin, use.shape, strides)]
            views.append(lax.slice(padded, begin, end, strides))
        return jnp.stack(views)

    valid, offset = None, None
    if any(low > 0 or high > 0 for low, high in padding):
        with jax.ensure_compile_time_eval():
            valid = np.asarray(lay(jnp.ones(x.shape))) > 0
    local = Windows(tuple((d + 1, k, s, low, dil) for d, (k, s, (low, _), dil) in enumerate(zip(window, strides, padding, dilation))))
    shape = (len(offsets), *use.shape)
    if start is not None:
        inside = np.ones(shape, bool) if valid is None else valid
        offset = jnp.concatenate([jnp.where(inside, 0, start), jnp.broadcast_to(start, (1, *use.shape))])
        within, valid, shape = lay, None, (len(offsets) + 1, *use.shape)
        lay = lambda v: jnp.pad(within(v), [(0, 1)] + [(0, 0)] * len(use.shape))
    laid = use.add(Linear(lay, offset, moves=True, local=local, terms=len(offsets)), (x.reference,), shape)
    return _extreme(use, laid, Greatest((0,), valid), sign)


def reduce_window(use: Use) -> Result:
    """Windows of maxima or minima that begin with another number than ∓∞."""
    name, start = _taken_together(use)
    return reduce_window_max(use, 1 if name == "max" else -1, start)


def reduce_(use: Use) -> Result:
    """A maximum or minimum over axes that begins with another number than ∓∞."""
    name, start = _taken_together(use)
    sign = 1 if name == "max" else -1
    found = _extreme(use, use.operands[0], Greatest(tuple(int(a) for a in use.param("dimensions"))), sign)
    return _shifted_relu(use, use.add(*found, use.shape), start, sign)


def _taken_together(use: Use) -> tuple[str, Any]:
    """What a reduction takes numbers together by, "max" or "min", and the number that it begins with."""
    steps = getattr(use.param("jaxpr"), "jaxpr", use.param("jaxpr")).eqns
    name = steps[0].primitive.name if len(steps) == 1 else ""
    if len(use.operands) != 2 or name not in ("max", "min") or not isinstance(use.operands[0], Perturbed) or isinstance(use.operands[1], Perturbed):
        raise use.error("only maxima and minima of one array that begin with a constant have bounds")
    return name, use.operands[1]


def round_(use: Use) -> Operation:
    """Rounding, as the primitive does with halves."""
    method = use.param("rounding_method")
    return Unary(curves.step("round", lambda x: lax.round(x, method)))
