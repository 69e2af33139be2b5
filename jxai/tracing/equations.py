"""What JAX's own equations look like: which primitives are calls, which are elementwise, and every parameter that jxai reads of one.

JAX promises neither names nor parameters, and changes them now and then. Whoever reads an equation asks here, so that such a
change is mended here: `PARAMETERS` lists what is asked for, `tests/tracing/test_equations.py` traces a function for each and says what
the installed JAX no longer has. What can be counted in shapes is not read from parameters at all (see `scan`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import jax
import jax.extend.core as jex

from jxai.callables import vary, varying
from jxai.typing import Array

CALLS = {
    "jit": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "closed_call": "call_jaxpr",  # until JAX 0.11.0
    "eval_jaxpr": "call_jaxpr",  # after it
}
"""Primitives that call one jaxpr with their own operands, and the parameter that holds it."""

ELEMENTWISE = frozenset(
    "abs acos acosh add and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp complex conj convert_element_type copy cos cosh digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt imag "
    "integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or pow pvary real reduce_precision rem round rsqrt select_n sign "
    "sin sinh sqrt square stop_gradient sub tan tanh xor".split()
)

_WINDOWS = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")

PARAMETERS: dict[str, tuple[str, ...]] = {
    **{primitive: (holds,) for primitive, holds in CALLS.items()},
    "jit": ("jaxpr", "name"),
    "scan": ("jaxpr", "length", "reverse"),
    "broadcast_in_dim": ("broadcast_dimensions",),
    "concatenate": ("dimension",),
    "cond": ("branches",),
    "conv2d": ("strides", "padding", "feature_group_count"),  # jxai's own
    "conv_general_dilated": (
        *("window_strides", "padding", "lhs_dilation", "rhs_dilation"),
        *("dimension_numbers", "feature_group_count", "batch_group_count"),
    ),
    "convert_element_type": ("new_dtype",),
    "cumsum": ("axis",),
    **dict.fromkeys(("cumlogsumexp", "cumprod"), ("axis", "reverse")),
    "dot_general": ("dimension_numbers",),
    "dynamic_slice": ("slice_sizes",),
    "fft": ("fft_lengths",),
    "gather": ("dimension_numbers", "slice_sizes"),
    "integer_pow": ("y",),
    "pad": ("padding_config",),
    "reduce_precision": ("exponent_bits", "mantissa_bits"),
    "reduce": ("jaxpr", "dimensions"),
    "reduce_window": (*_WINDOWS, "jaxpr"),
    "reshape": ("dimensions",),
    "rev": ("dimensions",),
    "round": ("rounding_method",),
    **dict.fromkeys("scatter scatter-add scatter-mul scatter-min scatter-max".split(), ("dimension_numbers", "mode")),
    "sort": ("dimension",),
    "slice": ("start_indices", "limit_indices", "strides"),
    "split": ("axis", "sizes"),
    "squeeze": ("dimensions",),
    "stack": ("axis",),
    "tile": ("reps",),
    "transpose": ("permutation",),
    "top_k": ("axis",),
    "unstack": ("axis",),
    "while": ("body_jaxpr", "body_nconsts", "cond_nconsts"),
    **dict.fromkeys("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split(), ("axes",)),
    **dict.fromkeys("reduce_window_sum reduce_window_max reduce_window_min".split(), _WINDOWS),
}
"""Of each primitive the parameters that are read, all of them by `param`."""


_HINTS = {"accuracy", "new_dtype", "out_sharding", "sharding", "weak_type"}
"""Parameters that say nothing of what is computed but how it is rounded and where it is kept."""


class Equation(Protocol):
    """An equation of a jaxpr, or a step made of one; `str(primitive)` is the primitive's name."""

    primitive: Any
    params: dict[str, Any]


def param(eqn: Equation, name: str) -> Any:
    """A parameter of an equation.

    Raises:
      KeyError: `PARAMETERS` does not list it. ValueError: it does, but this version of JAX has no such parameter.
    """
    primitive = str(eqn.primitive)
    if name not in PARAMETERS.get(primitive, ()):
        raise KeyError(f"{name!r} of {primitive!r} is read but not listed in PARAMETERS")
    if name not in eqn.params:
        given = ", ".join(sorted(eqn.params)) or "none"
        raise ValueError(f"the primitive {primitive!r} of JAX {jax.__version__} has no parameter {name!r} (it has {given}): use a JAX that jxai names")
    return eqn.params[name]


def meaning(eqn: Equation) -> tuple[tuple[str, str], ...]:
    """What of an equation's parameters tells one meaning of its primitive from another."""
    return tuple(sorted((name, str(value)) for name, value in eqn.params.items() if name not in _HINTS and value is not None))


def spelled(eqn: Equation) -> tuple[str, ...]:
    """An equation's primitive, what it calls and its other parameters as text, but for functions and where it is kept.

    It is equal for two that compute the same of the same operands; constants that a called jaxpr closes over are not in it.
    """
    called = {name: [str(jaxpr) for jaxpr in jex.jaxprs_in_params({name: value})] for name, value in eqn.params.items()}
    plain = {name: value for name, value in eqn.params.items() if not (called[name] or callable(value) or "sharding" in name)}
    return str(eqn.primitive), str([text for texts in called.values() for text in texts]), str(sorted((name, str(value)) for name, value in plain.items()))


def body(eqn: jex.JaxprEqn) -> jex.ClosedJaxpr | None:
    """What a call equation calls; None for an ordinary equation (loops and conditionals among them)."""
    holds = CALLS.get(eqn.primitive.name)
    if holds is None:
        return None
    inner = param(eqn, holds)
    closed = inner if isinstance(inner, jex.ClosedJaxpr) else jex.ClosedJaxpr(inner, ())
    return closed if len(closed.jaxpr.invars) == len(eqn.invars) else None


def called(eqn: jex.JaxprEqn) -> str:
    """A short name of the equation: the called function's where it is a call that has one, else the primitive's."""
    inner = body(eqn)
    if inner is None:
        return eqn.primitive.name
    if "name" in PARAMETERS[eqn.primitive.name]:
        return str(param(eqn, "name"))
    inside = [e for e in inner.jaxpr.eqns if e.primitive.name != "pvary"]
    return called(inside[0]) if len(inside) == 1 else eqn.primitive.name


def is_elementwise(eqn: jex.JaxprEqn) -> bool:
    """Whether the equation is an elementwise primitive, or a call made of nothing else that returns one value."""
    inner = body(eqn)
    if inner is None:
        return eqn.primitive.name in ELEMENTWISE
    shape = eqn.outvars[0].aval.shape
    plain = {"broadcast_in_dim"}
    return (
        len(eqn.outvars) == 1
        and any(v.aval.shape == shape for v in eqn.invars)
        and all(is_elementwise(e) or (e.primitive.name in plain and e.invars and not e.invars[0].aval.shape) for e in inner.jaxpr.eqns)
    )


class Scan(NamedTuple):
    """A scan's parts.

    Attributes:
      body: `(constants, carry, slices) -> (carry, slices)`. length: how often it runs. order: the indices of the slices, as they are read.
      constants, carry: how many operands are the same for every turn, and how many are handed on; the others are stacked slices.
    """

    body: jex.ClosedJaxpr
    length: int
    order: range
    constants: int
    carry: int


def scan(eqn: jex.JaxprEqn) -> Scan:
    """The parts of a scan.

    What is stacked has one axis more outside the body than within; so the operands are counted by rank, for JAX says their numbers
    now in one way (`num_consts`, `num_carry`), now in another (`ft_in`, `ft_out`, since 0.11).
    """
    closed, length = param(eqn, "jaxpr"), param(eqn, "length")
    order = range(length - 1, -1, -1) if param(eqn, "reverse") else range(length)

    def handed(outside: list[Any], inside: list[Any]) -> int:
        return sum(len(a.aval.shape) == len(b.aval.shape) for a, b in zip(outside, inside))

    carry = handed(eqn.outvars, closed.jaxpr.outvars)
    return Scan(closed, length, order, handed(eqn.invars, closed.jaxpr.invars) - carry, carry)


def bind(eqn: jex.JaxprEqn, values: list[Array]) -> list[Array]:
    """What an equation makes of these values; inside `shard_map` they vary over the axes that its operands did when it was traced."""
    axes = [varying(v.aval) for v in eqn.invars]
    if any(axes) and varying(values):
        values = [vary(value, own) for value, own in zip(values, axes)]
    out = eqn.primitive.bind(*values, **eqn.primitive.get_bind_params(eqn.params))
    return list(out) if eqn.primitive.multiple_results else [out]


def inside(params: dict[str, Any]) -> Iterator[jex.JaxprEqn]:
    """Every equation of the jaxprs that an equation's parameters hold, however deep: of calls, loops and conditionals."""
    for jaxpr in jex.jaxprs_in_params(params):
        for eqn in jaxpr.eqns:
            yield eqn
            yield from inside(eqn.params)
