"""From primitives to operations: what each step of a traced model does to bounds.

`RULES` maps a primitive to a builder `(use) -> Operation`, or to a function that lays it out as several steps. A primitive that is
linear in some of its inputs needs no mathematics here: bound with the others held fixed, it *is* its linear map.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.bounds import curves
from jxai.bounds.curves import Curve
from jxai.bounds.operations import Bilinear, Greatest, Linear, Logical, Operation, Select, Unary
from jxai.bounds.region import Interval
from jxai.interpret import Step
from jxai.kernels import conv2d
from jxai.scores import wide
from jxai.typing import Array


@dataclasses.dataclass
class Use:
    """A step as a rule sees it.

    Attributes:
      step: the step; its output number `output` is wanted.
      operands: for each input of the primitive its constant value, or a `Perturbed`.
      shape: of the output.
      add: `(operation, inputs, shape) -> Perturbed`, makes a value that the step needs on its way.
    """

    step: Step
    operands: list[Any]
    shape: tuple[int, ...]
    output: int
    add: Callable[..., Perturbed]

    @property
    def params(self) -> dict[str, Any]:
        return self.step.params

    @property
    def perturbed(self) -> list[int]:
        """Which operands depend on x."""
        return [n for n, v in enumerate(self.operands) if isinstance(v, Perturbed)]

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(v.reference for v in self.operands if isinstance(v, Perturbed))

    def error(self, why: str) -> ValueError:
        where = f" (in {self.step.scope})" if self.step.scope else ""
        return ValueError(f"bounds have no rule for the primitive {self.step.primitive!r}{where}: {why}")


@dataclasses.dataclass(frozen=True)
class Perturbed:
    """A value that depends on x: its reference and shape."""

    reference: int
    shape: tuple[int, ...]
    floating: bool = True


Result = tuple[Operation, tuple[int, ...]]


def operation(use: Use) -> Result:
    """The operation of a step, and the references of its inputs.

    Raises:
      ValueError: the primitive has no rule, or one that does not cover these operands.
    """
    rule = RULES.get(use.step.primitive)
    if rule is None:
        raise use.error("write that part of the model in others, or explain it by composing f with a function that has none")
    found = rule(use)
    return found if isinstance(found, tuple) else (found, use.inputs)


# Linear in all perturbed operands together: the constants are an offset.

_MOVES = set(
    "reshape transpose broadcast_in_dim squeeze expand_dims rev slice dynamic_slice concatenate pad split gather select_n scan_slice scan_stack".split()
)
_APART = set("transpose squeeze expand_dims rev slice pad split add sub scan_slice".split())


def _affine(use: Use, signs: tuple[int, ...] | None = None, *, terms: int = 1, local: Any = None, run: Callable | None = None) -> Operation:
    at, operands = use.perturbed, use.operands
    run = run or (lambda values: use.step.run(values)[use.output])
    if any(isinstance(v, Perturbed) and not v.floating for v in operands):
        raise use.error("a truth value that depends on x may only choose between cases")

    def applied(values: dict[int, Array], fixed: Callable[[Any], Any]) -> Array:
        return run([values[n] if n in values else fixed(v) for n, v in enumerate(operands)])

    def zeroed(v: Any) -> Any:
        # Constant operands of floating point are addends; integers (indices, a predicate) stay.
        return jnp.zeros_like(v) if jnp.issubdtype(jnp.result_type(v), jnp.floating) else v

    def map_(*xs: Array) -> Array:
        return applied(dict(zip(at, xs)), zeroed)

    has_offset = any(not isinstance(v, Perturbed) and jnp.issubdtype(jnp.result_type(v), jnp.floating) for v in operands)
    zeros = {n: jnp.zeros(operands[n].shape, _float(use)) for n in at}
    offset = applied(zeros, lambda v: v) if has_offset else None
    name = use.step.primitive
    apart = len(at) == 1 and name in _APART and (name not in _LOCAL or operands[at[0]].shape == tuple(use.shape))
    return Linear(map_, offset, signs or (1,) * len(at), terms=terms, moves=name in _MOVES, apart=apart, local=local or _LOCAL.get(name))


def _float(use: Use) -> Any:
    floats = [jnp.result_type(v) for v in use.operands if not isinstance(v, Perturbed)]
    return jnp.result_type(jnp.float32, *(d for d in floats if jnp.issubdtype(d, jnp.floating)))


def _same(use: Use) -> Operation:
    """The number itself: copies, changes between floating-point types (a model in half precision is bounded as one of real numbers)."""
    out = use.step.params.get("new_dtype")
    if out is not None and not jnp.issubdtype(out, jnp.floating):
        raise use.error(f"it makes {np.dtype(out).name} of a number that depends on x")
    if not use.operands[0].floating:
        low = use.operands[0]
        return Logical(lambda b: (b.lower, b.upper), (0,)), (low.reference,)
    return Linear(lambda x: x, moves=True, apart=True, local=Elementwise())


def _reshape(use: Use) -> Operation:
    if use.step.primitive == "reshape" and use.params.get("dimensions") is not None:
        raise use.error("it permutes")
    shape = use.shape
    return Linear(lambda x: x.reshape(shape), moves=True, apart=True, local=Reshape(use.operands[0].shape, shape))


def _reduce_sum(use: Use) -> Operation:
    axes = tuple(int(a) for a in use.params["axes"])
    return _affine(use, terms=math.prod(use.operands[0].shape[a] for a in axes), local=Reduce(axes))


def _reduce_window_sum(use: Use) -> Operation:
    p = use.params
    window = Window(tuple(p["window_dimensions"]), tuple(p["window_strides"]), tuple(map(tuple, p["padding"])), tuple(p["window_dilation"]))
    if any(d != 1 for d in p["base_dilation"]):
        return _affine(use, terms=math.prod(p["window_dimensions"]))
    return _affine(use, terms=math.prod(p["window_dimensions"]), local=window)


# Products.


def _mul(use: Use) -> Operation | Result:
    a, b = use.operands
    if isinstance(a, Perturbed) and isinstance(b, Perturbed):
        if a.reference == b.reference:
            return Unary(curves.SQUARE), (a.reference,)
        return Bilinear(lambda x, y: x * y, pointwise=True), (a.reference, b.reference)
    x, constant = (a, b) if isinstance(a, Perturbed) else (b, a)
    return _scaled(x, wide(jnp.asarray(constant)), use.shape)


def _scaled(x: Perturbed, by: Array, shape: tuple[int, ...]) -> Linear:
    diagonal = by if x.shape == tuple(shape) else None  # else x is spread over the array
    return Linear(lambda v: v * by, None, (0,), lambda m: m * jnp.abs(by), diagonal=diagonal, apart=diagonal is not None, local=Elementwise())


def _div(use: Use) -> Operation | Result:
    a, b = use.operands
    if not isinstance(b, Perturbed):
        return _scaled(a, 1 / wide(jnp.asarray(b)), use.shape)
    inverse = use.add(Unary(curves.RECIPROCAL), (b.reference,), b.shape)
    if not isinstance(a, Perturbed):
        return _scaled(inverse, wide(jnp.asarray(a)), use.shape), (inverse.reference,)
    return Bilinear(lambda x, y: x * y, pointwise=True), (a.reference, inverse.reference)


def _product(
    use: Use, apply: Callable[[Array, Array], Array], terms: int, local: Any = None, unpadded: Callable[[Array, Array], Array] | None = None, taps: int = 1
) -> Operation:
    """A bilinear primitive: linear in one operand if the other is a constant. unpadded: it without padding."""
    a, b = use.operands
    if isinstance(a, Perturbed) and isinstance(b, Perturbed):
        return Bilinear(apply, terms)
    if isinstance(a, Perturbed):
        b = wide(jnp.asarray(b))
        bare = None if unpadded is None else lambda x: unpadded(x, b)
        return Linear(lambda x: apply(x, b), None, (0,), lambda m: apply(m, jnp.abs(b)), terms, local=local, unpadded=bare, taps=taps)
    a = wide(jnp.asarray(a))
    return Linear(lambda x: apply(a, x), None, (0,), lambda m: apply(jnp.abs(a), m), terms)


def _dot_general(use: Use) -> Operation:
    numbers = use.params["dimension_numbers"]
    (contract, _), _ = numbers
    shapes = [v.shape for v in use.operands]
    # In the forward pass a row meets `contracted` numbers, in the transposed one what is left of the other operand.
    terms = max(math.prod(shapes[0][d] for d in contract), math.prod(use.shape) // max(1, min(math.prod(s) // math.prod(s[d] for d in c) for s, c in zip(shapes, numbers[0]))), 1)
    # Rows stay rows: the axes of the left operand that are not contracted lead the result.
    (contracted, _), (batch, _) = numbers
    free = [d for d in range(len(shapes[0])) if d not in contracted and d not in batch]
    to = {d: n for n, d in enumerate((*batch, *free))}
    local = Windows(tuple((to[d], 1, 1, 0, 1) if d in to else None for d in range(len(shapes[0]))))

    def apply(a: Array, b: Array) -> Array:
        return lax.dot_general(a, b, numbers, precision=lax.Precision.HIGHEST)

    return _product(use, apply, terms, local, apply)


def _convolution(use: Use) -> Operation:
    p, (lhs, rhs) = use.params, (v.shape for v in use.operands)
    numbers = p["dimension_numbers"]
    spatial = len(lhs) - 2
    strides, padding, dilation = tuple(p["window_strides"]), tuple(map(tuple, p["padding"])), tuple(p["rhs_dilation"])
    groups = p["feature_group_count"]
    kernel = tuple(rhs[d] for d in numbers.rhs_spec)  # (O, I, *window)
    terms = max(math.prod(kernel[1:]), kernel[0] // groups * math.prod(kernel[2:]))
    plain = all(d == 1 for d in p["lhs_dilation"]) and p["batch_group_count"] == 1
    local = None
    if plain:
        windows, mix = [], groups == 1 or kernel[1] != 1 or kernel[0] != groups
        for d, size in enumerate(lhs):
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
            y = conv2d(x, w, strides, padding, groups, lax.Precision.HIGHEST)
            return y.transpose(np.argsort([numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1]]))

    else:

        def apply(x: Array, w: Array, padding: Any = padding) -> Array:
            return lax.conv_general_dilated(
                x, w, strides, padding, p["lhs_dilation"], dilation, numbers, groups, p["batch_group_count"], lax.Precision.HIGHEST
            )

    unpadded = functools.partial(apply, padding=((0, 0),) * spatial) if plain else None
    return _product(use, apply, terms, local, unpadded, math.prod(kernel[2:]))


def _conv2d(use: Use) -> Operation:
    p, (x, kernel) = use.params, (v.shape for v in use.operands)
    groups = p["feature_group_count"]
    terms = max(math.prod(kernel[:3]), math.prod(kernel[:2]) * kernel[3] // groups)
    last = len(x) - 1
    windows = [(d, 1, 1, 0, 1) for d in range(last - 2)]
    windows += [(last - 2 + n, kernel[n], p["strides"][n], p["padding"][n][0], 1) for n in range(2)]
    windows.append((last, 1, 1, 0, 1) if groups > 1 and kernel[2] == 1 and kernel[3] == groups else None)

    def apply(a: Array, b: Array, padding: Any = p["padding"]) -> Array:
        return conv2d(a, b, p["strides"], padding, groups, lax.Precision.HIGHEST)

    unpadded = functools.partial(apply, padding=((0, 0), (0, 0)))
    return _product(use, apply, terms, Windows(tuple(windows)), unpadded, math.prod(kernel[:2]))


# Curves.


def _curve(curve: Curve, *parameters: Any) -> Callable[[Use], Operation]:
    return lambda use: Unary(curve, parameters)


def _integer_pow(use: Use) -> Operation | Result:
    n, x = use.params["y"], use.operands[0]
    if n in (0, 1):
        raise use.error(f"a power of {n}")
    power = x if n == -1 else use.add(_power(abs(n)), (x.reference,), x.shape) if n < 0 else None
    return (Unary(curves.RECIPROCAL), (power.reference,)) if n < 0 else _power(n)


def _power(n: int) -> Unary:
    return Unary(curves.odd_power(n) if n % 2 else curves.even_power(n))


def _pow(use: Use) -> Operation | Result:
    """Powers with a constant exponent: whole ones, ½ and −½ directly, others as `exp(y · log x)`, where x is positive."""
    base, exponent = use.operands
    if not isinstance(base, Perturbed) or isinstance(exponent, Perturbed):
        raise use.error("only powers with a constant exponent have bounds")
    known = None if isinstance(exponent, jax.core.Tracer) else np.unique(np.asarray(exponent))
    if known is not None and known.size == 1:
        y = float(known[0])
        if y in (0.5, -0.5):
            return Unary(curves.SQRT if y > 0 else curves.RSQRT)
        if y == int(y) and y >= 2:
            return _power(int(y))
    log = use.add(Unary(curves.LOG), (base.reference,), base.shape)
    scaled = use.add(_scaled(log, wide(jnp.asarray(exponent)), use.shape), (log.reference,), use.shape)
    return Unary(curves.EXP), (scaled.reference,)


def _erfc(use: Use) -> Result:
    x = use.operands[0]
    inner = use.add(Unary(curves.ERF), (x.reference,), x.shape)
    return Linear(lambda v: -v, jnp.ones(x.shape, _float(use)), (-1,), local=Elementwise()), (inner.reference,)


def _max(use: Use) -> Result:
    """`max(a, b) = b + relu(a − b)`; the other operand of a constant bends the line."""
    a, b = use.operands
    if not isinstance(b, Perturbed):
        return _shifted_relu(use, a, b, 1)
    if not isinstance(a, Perturbed):
        return _shifted_relu(use, b, a, 1)
    gap = use.add(Linear(lambda x, y: x - y, None, (1, -1), local=Elementwise()), (a.reference, b.reference), use.shape)
    over = use.add(Unary(curves.RELU), (gap.reference,), use.shape)
    return Linear(lambda x, y: x + y, None, (1, 1), local=Elementwise()), (b.reference, over.reference)


def _min(use: Use) -> Result:
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


def _clamp(use: Use) -> Result:
    low, x, high = use.operands
    if isinstance(low, Perturbed) or isinstance(high, Perturbed) or not isinstance(x, Perturbed):
        raise use.error("the ends of a clamp must not depend on x")
    return Unary(curves.CLIP, (wide(jnp.asarray(low)), wide(jnp.asarray(high)))), (x.reference,)


# The greatest of several.


def _reduce_max(use: Use, sign: int = 1) -> Operation | Result:
    axes = tuple(int(a) for a in use.params["axes"])
    if sign > 0:
        return Greatest(axes)
    x = use.operands[0]
    turned = use.add(_negative(), (x.reference,), x.shape)
    greatest = use.add(Greatest(axes), (turned.reference,), use.shape)
    return _negative(), (greatest.reference,)


def _negative() -> Linear:
    return Linear(lambda v: -v, None, (-1,), apart=True, local=Elementwise())


def _reduce_window_max(use: Use, sign: int = 1) -> Result:
    """The windows laid side by side on a new first axis, and the greatest of them."""
    p, x = use.params, use.operands[0]
    if any(d != 1 for d in p["base_dilation"]):
        raise use.error("base dilation")
    window, strides, dilation = tuple(p["window_dimensions"]), tuple(p["window_strides"]), tuple(p["window_dilation"])
    padding = [tuple(pair) for pair in p["padding"]]
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

    valid = None
    if any(low > 0 or high > 0 for low, high in padding):
        with jax.ensure_compile_time_eval():
            valid = np.asarray(lay(jnp.ones(x.shape))) > 0
    local = Windows(tuple((d + 1, k, s, low, dil) for d, (k, s, (low, _), dil) in enumerate(zip(window, strides, padding, dilation))))
    shape = (len(offsets), *use.shape)
    laid = use.add(Linear(lay, None, (sign,) if sign > 0 else (1,), moves=True, local=local, terms=len(offsets)), (x.reference,), shape)
    if sign < 0:
        laid = use.add(_negative(), (laid.reference,), shape)
    greatest = Greatest((0,), valid), (laid.reference,)
    if sign > 0:
        return greatest
    turned = use.add(greatest[0], greatest[1], use.shape)
    return _negative(), (turned.reference,)


# Comparisons and choices.


def _logical(rule: Callable[..., tuple[Array, Array]]) -> Callable[[Use], Result]:
    def build(use: Use) -> Result:
        at = {n: position for position, n in enumerate(use.perturbed)}
        operands = tuple(at.get(n, v) for n, v in enumerate(use.operands))
        return Logical(rule, operands), use.inputs

    return build


def _greater(strict: bool, turned: bool) -> Callable[[Interval, Interval], tuple[Array, Array]]:
    def rule(a: Interval, b: Interval) -> tuple[Array, Array]:
        a, b = (b, a) if turned else (a, b)
        return (a.lower > b.upper, a.upper > b.lower) if strict else (a.lower >= b.upper, a.upper >= b.lower)

    return rule


def _equal(a: Interval, b: Interval) -> tuple[Array, Array]:
    same = (a.lower == a.upper) & (b.lower == b.upper) & (a.lower == b.lower)
    return same, (a.lower <= b.upper) & (b.lower <= a.upper)


def _unequal(a: Interval, b: Interval) -> tuple[Array, Array]:
    must, may = _equal(a, b)
    return ~may, ~must


def _select(use: Use) -> Operation | Result:
    which, *cases = use.operands
    if not isinstance(which, Perturbed):
        return _affine(use, (1,) * len(use.perturbed), local=Elementwise())
    if any(isinstance(v, Perturbed) and not v.floating for v in cases):
        raise use.error("it chooses between truth values that depend on x")
    at = {n: position for position, n in enumerate(use.perturbed)}
    fixed = [v if isinstance(v, Perturbed) else wide(jnp.asarray(v)) for v in cases]
    return Select(at[0], tuple(at.get(n + 1, v) for n, v in enumerate(fixed))), use.inputs


def _is_finite(use: Use) -> Result:
    return Logical(lambda b: (jnp.ones(b.lower.shape, bool), jnp.ones(b.lower.shape, bool)), (0,)), use.inputs


# What operations do to positions.


@dataclasses.dataclass(frozen=True)
class Elementwise:
    """Every position by itself; an input of size 1 along an axis is spread over it."""


@dataclasses.dataclass(frozen=True)
class Windows:
    """For each axis of the input: (axis of the output, window, stride, padding in front, dilation), or None where all positions mix."""

    axes: tuple[tuple[int, int, int, int, int] | None, ...]


def Window(window, strides, padding, dilation) -> Windows:
    return Windows(tuple((d, k, s, low, dil) for d, (k, s, (low, _), dil) in enumerate(zip(window, strides, padding, dilation))))


@dataclasses.dataclass(frozen=True)
class Reshape:
    """From one shape to another."""

    before: tuple[int, ...]
    after: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Reduce:
    """These axes of the input mix and are gone."""

    axes: tuple[int, ...]


_LOCAL: dict[str, Any] = {name: Elementwise() for name in ("add", "sub", "neg", "add_any", "select_n")}


def _structural(use: Use) -> Operation:
    name, p = use.step.primitive, use.params
    x = next(v for v in use.operands if isinstance(v, Perturbed))
    rank = len(x.shape)
    same = [(d, 1, 1, 0, 1) for d in range(rank)]
    local: Any = None
    if name in ("squeeze", "expand_dims", "broadcast_in_dim") and [n for n in x.shape if n > 1] == [n for n in use.shape if n > 1]:
        return _reshape(use)  # only axes of size 1 come or go
    if name == "transpose":
        local = Windows(tuple((p["permutation"].index(d), 1, 1, 0, 1) for d in range(rank)))
    elif name == "broadcast_in_dim":
        to = p["broadcast_dimensions"]
        local = Windows(tuple((int(to[d]), 1, 1, 0, 1) if x.shape[d] == use.shape[to[d]] else None for d in range(rank)))
    elif name == "slice":
        strides = p["strides"] or (1,) * rank
        local = Windows(tuple((d, 1, s, -b, 1) for d, (b, s) in enumerate(zip(p["start_indices"], strides))))
    elif name == "pad" and isinstance(use.operands[0], Perturbed) and not any(c for _, _, c in p["padding_config"]):
        local = Windows(tuple((d, 1, 1, low, 1) for d, (low, _, _) in enumerate(p["padding_config"])))
    elif name == "concatenate":
        local = Windows(tuple(None if d == p["dimension"] else axis for d, axis in enumerate(same)))
    elif name == "split":
        local = Windows(tuple(None if d == p["axis"] else axis for d, axis in enumerate(same)))
    found = _affine(use, local=local)
    return dataclasses.replace(found, unpadded=found.map) if name == "transpose" else found


def _cumsum(use: Use) -> Operation:
    return _affine(use, terms=use.operands[0].shape[use.params["axis"]])


def _indexed(use: Use) -> Operation:
    """Gathers, slices and scatters at constant places."""
    if any(isinstance(v, Perturbed) for v in use.operands[1:] if not isinstance(v, Perturbed) or not v.floating):
        raise use.error("its indices depend on x")
    return _affine(use)



RULES: dict[str, Callable[[Use], Operation | Result]] = {
    "add": lambda use: _affine(use),
    "add_any": lambda use: _affine(use),
    "sub": lambda use: _affine(use, tuple(1 if n == 0 else -1 for n in use.perturbed)),
    "neg": lambda use: _negative(),
    "mul": _mul,
    "div": _div,
    "dot_general": _dot_general,
    "conv_general_dilated": _convolution,
    "conv2d": _conv2d,
    "reduce_sum": _reduce_sum,
    "reduce_window_sum": _reduce_window_sum,
    "cumsum": _cumsum,
    "reshape": _reshape,
    **dict.fromkeys("transpose broadcast_in_dim squeeze expand_dims rev slice concatenate pad split scan_slice scan_stack".split(), _structural),
    **dict.fromkeys("copy copy_p stop_gradient convert_element_type reduce_precision sharding_constraint optimization_barrier device_put".split(), _same),
    **dict.fromkeys("gather dynamic_slice dynamic_update_slice scatter scatter-add scatter_add".split(), _indexed),
    "exp": _curve(curves.EXP),
    "exp2": _curve(curves.EXP2),
    "expm1": _curve(curves.EXPM1),
    "log": _curve(curves.LOG),
    "log1p": _curve(curves.LOG1P),
    "sqrt": _curve(curves.SQRT),
    "rsqrt": _curve(curves.RSQRT),
    "square": _curve(curves.SQUARE),
    "abs": _curve(curves.ABS),
    "tanh": _curve(curves.TANH),
    "logistic": _curve(curves.SIGMOID),
    "erf": _curve(curves.ERF),
    "erfc": _erfc,
    "atan": _curve(curves.ATAN),
    "sinh": _curve(curves.SINH),
    "cosh": _curve(curves.COSH),
    "asinh": _curve(curves.ASINH),
    "sign": _curve(curves.SIGN),
    "floor": _curve(curves.FLOOR),
    "ceil": _curve(curves.CEIL),
    "round": _curve(curves.ROUND),
    "integer_pow": _integer_pow,
    "pow": _pow,
    "max": _max,
    "min": _min,
    "clamp": _clamp,
    "reduce_max": _reduce_max,
    "reduce_min": functools.partial(_reduce_max, sign=-1),
    "reduce_window_max": _reduce_window_max,
    "reduce_window_min": functools.partial(_reduce_window_max, sign=-1),
    "gt": _logical(_greater(True, False)),
    "ge": _logical(_greater(False, False)),
    "lt": _logical(_greater(True, True)),
    "le": _logical(_greater(False, True)),
    "eq": _logical(_equal),
    "ne": _logical(_unequal),
    "not": _logical(lambda a: (~a.upper, ~a.lower)),
    "and": _logical(lambda a, b: (a.lower & b.lower, a.upper & b.upper)),
    "or": _logical(lambda a, b: (a.lower | b.lower, a.upper | b.upper)),
    "is_finite": _is_finite,
    "select_n": _select,
}
