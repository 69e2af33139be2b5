"""The rules of truth values and whole numbers that depend on x: comparisons, masks that are moved about, counts, choices.

A mask is a pair of booleans (where it must, where it may be true); a whole number has an interval, beyond its type's range all of it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.region import Interval
from jxai.bounds.rules import curves
from jxai.bounds.rules.choices import Ranged, Select, Whole
from jxai.bounds.rules.linear_rules import affine, index_error, wide_type
from jxai.bounds.rules.locality import Elementwise
from jxai.bounds.rules.operations import Linear, Operation, Unary
from jxai.bounds.rules.use import Perturbed, Result, Use
from jxai.scores import wide
from jxai.typing import Array

_MOVING = set("reshape transpose broadcast_in_dim squeeze rev slice concatenate pad split stack tile scan_slice scan_stack select_n copy".split())
_MOVING |= set("stop_gradient optimization_barrier sharding_constraint device_put gather dynamic_slice dynamic_update_slice scatter".split())
_ARITHMETIC = set("add add_any sub mul neg abs max min sign square integer_pow clamp reduce_sum reduce_max reduce_min cumsum".split())
_ARITHMETIC |= set("reduce reduce_window reduce_window_sum reduce_window_max reduce_window_min".split())
_EXACT = 2**24
"""Up to here float32 holds every whole number."""


def rule(use: Use, ordinary: Callable[[Use], Result]) -> Result:
    """A step that makes or takes truth values or whole numbers. ordinary: the rules of floating-point numbers."""
    name, operands = use.step.primitive, use.operands
    chooses = name == "select_n" and isinstance(operands[0], Perturbed)
    if name in RULES or chooses:
        found = select(use) if chooses else RULES[name](use)
        return (found, use.inputs) if isinstance(found, Operation) else found
    if name in _MOVING:
        return moved(use)
    if name in _ARITHMETIC and jnp.issubdtype(use.dtype, jnp.integer):
        as_numbers = [dataclasses.replace(v, dtype=jnp.float32) if isinstance(v, Perturbed) else number(use, v) for v in operands]
        op, inputs = ordinary(dataclasses.replace(use, operands=as_numbers, dtype=jnp.float32))
        return whole(op, use.dtype), inputs
    kind = "truth values" if _is_truth(use.dtype) else "whole numbers"
    raise use.error(f"of {kind} that depend on x; masks may be moved, compared, counted and chosen by, whole numbers added and multiplied")


def whole(op: Operation, dtype: Any) -> Whole:
    """The operation on a type's range."""
    kind = jnp.iinfo(dtype)
    return Whole(op, float(kind.min), float(kind.max))


def number(use: Use, constant: Any) -> Array:
    """A constant as floating-point numbers; a truth value stays one.

    Raises:
      ValueError: a whole number that float32 does not hold, where it is concrete.
    """
    kind = jnp.result_type(constant)
    if not jnp.issubdtype(kind, jnp.integer):
        return jnp.asarray(constant) if _is_truth(kind) else wide(jnp.asarray(constant))
    if not isinstance(constant, jax.core.Tracer) and np.abs(np.asarray(constant, np.float64)).max(initial=0) > _EXACT:
        raise use.error(f"it uses whole numbers beyond {_EXACT}")
    return jnp.asarray(constant, jnp.float32)


def moved(use: Use) -> Result:
    """Steps that move entries about: both ends move alike."""
    name = use.step.primitive
    if any(isinstance(v, Perturbed) and _is_index(name, n) for n, v in enumerate(use.operands)):
        raise index_error(use)
    fixed = [v if isinstance(v, Perturbed) or _is_index(name, n) else number(use, v) for n, v in enumerate(use.operands)]
    at = {n: position for position, n in enumerate(use.perturbed)}

    def ends(*inputs: Interval) -> tuple[Array, ...]:
        kind = bool if _is_truth(use.dtype) else jnp.result_type(jnp.float32, *(b.lower for b in inputs))
        sides = []
        for side in (0, 1):
            data = [inputs[at[n]][side] if n in at else v for n, v in enumerate(fixed)]
            sides.append(use.step.run([v if _is_index(name, n) else v.astype(kind) for n, v in enumerate(data)])[use.output])
        return tuple(sides)

    op = Ranged(ends, tuple(range(len(at))))
    # What a gather fills in is a float's NaN here, but a whole number's least.
    return (op if _is_truth(use.dtype) else whole(op, use.dtype)), use.inputs


def _is_truth(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.bool_)


def _is_index(name: str, n: int) -> bool:
    """Whether operand n says where, or which, not what."""
    if name in ("select_n", "scatter"):
        return n == (0 if name == "select_n" else 1)
    return n > 1 if name == "dynamic_update_slice" else n > 0 and name in ("gather", "dynamic_slice")


def convert(use: Use) -> Result:
    """Between truth values, whole and other numbers: towards 0, and beyond the type's range to what the machine likes."""
    x, to = use.operands[0], use.dtype
    if _is_truth(to):
        return Ranged(lambda b: (b.lower, b.upper) if _is_truth(b.lower.dtype) else unequal(b, _zero(b)), (0,)), use.inputs
    wanted = wide_type(to) if jnp.issubdtype(to, jnp.floating) else jnp.float32
    if _is_truth(x.dtype):
        op = Ranged(lambda b: (b.lower.astype(wanted), b.upper.astype(wanted)), (0,))
        return (whole(op, to) if jnp.issubdtype(to, jnp.integer) else op), use.inputs
    if jnp.issubdtype(to, jnp.floating):
        return Linear(lambda v: v.astype(wanted), terms=0, apart=True, local=Elementwise()), use.inputs
    return whole(Unary(curves.TRUNCATE) if x.floating else Ranged(lambda b: (b.lower, b.upper), (0,)), to), use.inputs


def _zero(b: Interval) -> Interval:
    return Interval(jnp.zeros_like(b.lower), jnp.zeros_like(b.upper))


# Comparisons.


def compared(rule: Callable[[Interval, Interval], tuple[Array, Array]], with_itself: bool) -> Callable[[Use], Result]:
    """The rule of a comparison; with_itself: what it says of a number and itself. What may be no number (∞ − ∞, say) is not equal to itself."""

    def build(use: Use) -> Result:
        at = {n: position for position, n in enumerate(use.perturbed)}
        if len(at) == 2 and use.operands[0].reference == use.operands[1].reference:
            partial = use.operands[0].partial
            sure = use.step.primitive in ("lt", "gt")  # false of whatever it is

            def itself(a: Interval, b: Interval) -> tuple[Array, Array]:
                number = jnp.isfinite(a.lower) & jnp.isfinite(a.upper) & (not partial)
                return number & with_itself, ~number & (not sure) | with_itself

            return Ranged(itself, (0, 1)), use.inputs
        return Ranged(rule, tuple(at.get(n, v if isinstance(v, Perturbed) else number(use, v)) for n, v in enumerate(use.operands))), use.inputs

    return build


def greater(strict: bool, turned: bool) -> Callable[[Interval, Interval], tuple[Array, Array]]:
    """Whether `a > b` (not strict: `a >= b`; turned: the other way round) must and may hold."""

    def rule(a: Interval, b: Interval) -> tuple[Array, Array]:
        a, b = (b, a) if turned else (a, b)
        return (a.lower > b.upper, a.upper > b.lower) if strict else (a.lower >= b.upper, a.upper >= b.lower)

    return rule


def equal(a: Interval, b: Interval) -> tuple[Array, Array]:
    """Whether `a = b` must and may hold."""
    same = (a.lower == a.upper) & (b.lower == b.upper) & (a.lower == b.lower)
    return same, (a.lower <= b.upper) & (b.lower <= a.upper)


def unequal(a: Interval, b: Interval) -> tuple[Array, Array]:
    """Whether `a ≠ b` must and may hold."""
    must, may = equal(a, b)
    return ~may, ~must


def is_finite(use: Use) -> Result:
    """True of what is bounded and made by steps that are defined everywhere."""
    partial = use.operands[0].partial
    finite = lambda b: jnp.isfinite(b.lower) & jnp.isfinite(b.upper)
    return Ranged(lambda b: (finite(b) & (not partial), jnp.ones(b.lower.shape, bool)), (0,)), use.inputs


# Truth values.


def logical(rule: Callable[..., tuple[Array, Array]]) -> Callable[[Use], Result]:
    """The rule of an operation on truth values."""

    def build(use: Use) -> Result:
        if not _is_truth(use.dtype):
            raise use.error("of whole numbers that depend on x, bit by bit; compare them, or use truth values")
        at = {n: position for position, n in enumerate(use.perturbed)}
        return Ranged(rule, tuple(at.get(n, v) for n, v in enumerate(use.operands))), use.inputs

    return build


def either(use: Use) -> Result:
    """Whether some (reduce_or) or all (reduce_and) truth values along axes must and may be true."""
    axes, some = tuple(use.param("axes")), use.step.primitive == "reduce_or"
    return logical(lambda b: tuple(end.any(axes) if some else end.all(axes) for end in b))(use)


def unlike(a: Interval, b: Interval) -> tuple[Array, Array]:
    """Whether exactly one of two truth values must and may be true."""
    must = (a.lower & ~b.upper) | (~a.upper & b.lower)
    return must, ~((a.lower & b.lower) | (~a.upper & ~b.upper))


def select(use: Use) -> Operation | Result:
    """Cases by a predicate: linear in the cases where the predicate is constant."""
    which, *cases = use.operands
    if not isinstance(which, Perturbed):
        return affine(use, (1,) * len(use.perturbed), local=Elementwise())
    at = {n: position for position, n in enumerate(use.perturbed)}
    return Select(at[0], tuple(at[n + 1] if isinstance(v, Perturbed) else number(use, v) for n, v in enumerate(cases))), use.inputs


RULES: dict[str, Callable[[Use], Operation | Result]] = {
    "convert_element_type": convert,
    "gt": compared(greater(True, False), False),
    "ge": compared(greater(False, False), True),
    "lt": compared(greater(True, True), False),
    "le": compared(greater(False, True), True),
    "eq": compared(equal, True),
    "ne": compared(unequal, False),
    "not": logical(lambda a: (~a.upper, ~a.lower)),
    "and": logical(lambda a, b: (a.lower & b.lower, a.upper & b.upper)),
    "or": logical(lambda a, b: (a.lower | b.lower, a.upper | b.upper)),
    "xor": logical(unlike),
    "reduce_or": either,
    "reduce_and": either,
    "is_finite": is_finite,
}
