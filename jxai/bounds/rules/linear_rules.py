"""The rules of linear primitives: bound with everything else held fixed, such a primitive *is* its linear map."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jxai.bounds.rules.locality import Elementwise, Reduce, Reshape, Window, Windows
from jxai.bounds.rules.operations import Linear, Operation
from jxai.bounds.rules.use import Perturbed, Use
from jxai.typing import Array

# Linear in all perturbed operands together: the constants are an offset.

_MOVES = set("reshape transpose broadcast_in_dim squeeze rev slice dynamic_slice concatenate pad split gather select_n scan_slice scan_stack".split())
_APART = set("transpose squeeze rev slice pad split add sub scan_slice".split())


def affine(use: Use, signs: tuple[int, ...] | None = None, *, terms: int = 1, local: Any = None, run: Callable | None = None) -> Linear:
    """A step that is linear in all of its perturbed operands together; the constant ones are the offset."""
    at, operands = use.perturbed, use.operands
    run = run or (lambda values: use.step.run(values)[use.output])

    def applied(values: dict[int, Array], fixed: Callable[[Any], Any]) -> Array:
        return run([values[n] if n in values else fixed(v) for n, v in enumerate(operands)])

    def zeroed(v: Any) -> Any:
        # Constant operands of floating point are addends; integers (indices, a predicate) stay.
        return jnp.zeros_like(v) if jnp.issubdtype(jnp.result_type(v), jnp.floating) else v

    def map_(*xs: Array) -> Array:
        return applied(dict(zip(at, xs)), zeroed)

    has_offset = any(not isinstance(v, Perturbed) and jnp.issubdtype(jnp.result_type(v), jnp.floating) for v in operands)
    zeros = {n: jnp.zeros(operands[n].shape, float_of(use)) for n in at}
    offset = applied(zeros, lambda v: v) if has_offset else None
    name = use.step.primitive
    apart = len(at) == 1 and name in _APART and (name not in _LOCAL or operands[at[0]].shape == tuple(use.shape))
    return Linear(map_, offset, signs or (1,) * len(at), terms=terms, moves=name in _MOVES, apart=apart, local=local or _LOCAL.get(name))


def float_of(use: Use) -> Any:
    """The type that the step's bounds are computed in."""
    floats = [jnp.result_type(v) for v in use.operands if not isinstance(v, Perturbed)]
    return jnp.result_type(jnp.float32, *(wide_type(d) for d in floats if jnp.issubdtype(d, jnp.floating)))


def wide_type(dtype: Any) -> Any:
    """The type that bounds of numbers of a floating-point type are computed in (with types of 8 bits, JAX promotes nothing)."""
    return jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype


def same(use: Use) -> Operation:
    """The number itself: copies, and changes between floating-point types, which round."""
    exact = use.step.primitive not in ("convert_element_type", "reduce_precision")  # which round to what a narrower type can hold
    kind = wide_type(use.dtype)
    return Linear(lambda x: x.astype(kind), terms=0, moves=exact, apart=True, local=Elementwise())


def reshape(use: Use) -> Operation:
    """The same numbers in another shape."""
    if use.step.primitive == "reshape" and use.param("dimensions") is not None:
        raise use.error("it permutes")
    shape = use.shape
    return Linear(lambda x: x.reshape(shape), moves=True, apart=True, local=Reshape(use.operands[0].shape, shape))


def reduce_sum(use: Use) -> Operation:
    """A sum over axes."""
    axes = tuple(int(a) for a in use.param("axes"))
    return affine(use, terms=math.prod(use.operands[0].shape[a] for a in axes), local=Reduce(axes))


def reduce_window_sum(use: Use) -> Operation:
    """Sums over windows."""
    p = use.param
    window = Window(tuple(p("window_dimensions")), tuple(p("window_strides")), tuple(map(tuple, p("padding"))), tuple(p("window_dilation")))
    if any(d != 1 for d in p("base_dilation")):
        return affine(use, terms=math.prod(p("window_dimensions")))
    return affine(use, terms=math.prod(p("window_dimensions")), local=window)


def negative() -> Linear:
    """`−x`."""
    return Linear(lambda v: -v, None, (-1,), apart=True, local=Elementwise())


_LOCAL: dict[str, Any] = {name: Elementwise() for name in ("add", "sub", "neg", "add_any", "select_n")}


def structural(use: Use) -> Operation:
    """Steps that move numbers about."""
    name, p = use.step.primitive, use.param
    x = next(v for v in use.operands if isinstance(v, Perturbed))
    rank = len(x.shape)
    same = [(d, 1, 1, 0, 1) for d in range(rank)]
    local: Any = None
    if name in ("squeeze", "broadcast_in_dim") and [n for n in x.shape if n > 1] == [n for n in use.shape if n > 1]:
        return reshape(use)  # only axes of size 1 come or go
    if name == "transpose":
        local = Windows(tuple((p("permutation").index(d), 1, 1, 0, 1) for d in range(rank)))
    elif name == "broadcast_in_dim":
        to = p("broadcast_dimensions")
        local = Windows(tuple((int(to[d]), 1, 1, 0, 1) if x.shape[d] == use.shape[to[d]] else None for d in range(rank)))
    elif name == "slice":
        strides = p("strides") or (1,) * rank
        local = Windows(tuple((d, 1, s, -b, 1) for d, (b, s) in enumerate(zip(p("start_indices"), strides))))
    elif name == "pad" and isinstance(use.operands[0], Perturbed) and not any(c for _, _, c in p("padding_config")):
        local = Windows(tuple((d, 1, 1, low, 1) for d, (low, _, _) in enumerate(p("padding_config"))))
    elif name == "concatenate":
        local = Windows(tuple(None if d == p("dimension") else axis for d, axis in enumerate(same)))
    elif name == "split":
        local = Windows(tuple(None if d == p("axis") else axis for d, axis in enumerate(same)))
    # In the transpose, an entry that went to several places gathers their sum.
    found = affine(use, local=local, terms=max(1, math.prod(use.shape) // max(1, math.prod(x.shape))))
    return dataclasses.replace(found, unpadded=found.map) if name == "transpose" else found


def cumsum(use: Use) -> Operation:
    """Sums along an axis."""
    return affine(use, terms=use.operands[0].shape[use.param("axis")])


def indexed(use: Use) -> Operation:
    """Gathers, slices and scatters at constant places."""
    if any(isinstance(v, Perturbed) and not v.floating for v in use.operands[1:]):
        raise index_error(use)
    if use.step.primitive == "gather":
        return _gather(use)
    return affine(use, terms=1 + sum(math.prod(jnp.shape(v)) if not isinstance(v, Perturbed) else math.prod(v.shape) for v in use.operands[1:]))


def index_error(use: Use) -> ValueError:
    """Of a step where x decides which entries are taken."""
    return use.error("its indices depend on x; take every entry, times a mask or by jnp.where")


def _gather(use: Use) -> Operation:
    """Entries by their numbers: which ones, the primitive itself says of an array of numbers (it may cut an index off, or fill)."""
    x = use.operands[0]
    numbers = jnp.arange(math.prod(x.shape), dtype=jnp.int32).reshape(x.shape)
    at = use.step.run([numbers, *use.operands[1:]])[use.output]
    inside = (at >= 0) & (at < numbers.size)
    offset = jnp.where(inside, 0.0, jnp.nan)  # what lies outside is filled with NaN, of which nothing is known
    return Linear(lambda v: jnp.where(inside, v.ravel()[jnp.where(inside, at, 0)], 0), offset, terms=math.prod(use.shape), moves=True)
