"""From primitives to operations: what each step of a traced model does to bounds.

`RULES` maps a primitive to a builder `(use) -> Operation`, or to a function that lays it out as several steps. A primitive that is
linear in some of its inputs needs no mathematics here: bound with the others held fixed, it *is* its linear map.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax.numpy as jnp

from jxai.bounds.rules import curve_rules, curves, discrete_rules, linear_rules, order_rules, product_rules, waves
from jxai.bounds.rules.operations import Operation
from jxai.bounds.rules.use import Perturbed, Result, Use


def operation(use: Use) -> Result:
    """The operation of a step, and the references of its inputs.

    Raises:
      ValueError: the primitive has no rule, or one that does not cover these operands.
    """
    if use.step.primitive in _ADVICE:
        raise use.error(_ADVICE[use.step.primitive])
    floating = jnp.issubdtype(use.dtype, jnp.floating) and all(v.floating for v in use.operands if isinstance(v, Perturbed))
    return _ordinary(use) if floating or use.step.primitive in _EITHER else discrete_rules.rule(use, _ordinary)


def _ordinary(use: Use) -> Result:
    rule = RULES.get(use.step.primitive)
    if rule is None:
        raise use.error("write that part of the model in others, or explain it by composing f with a function that has none")
    found = rule(use)
    return found if isinstance(found, tuple) else (found, use.inputs)


_EITHER = {"sort", "top_k", "cummax", "cummin", "argmax", "argmin"}
"""Rules of numbers of any type."""

_ADVICE = {
    "cond": "its predicate depends on x or is no number yet; compute all branches and choose among them by jnp.where",
    "while": "how often it runs depends on x; let a scan or fori_loop of a fixed length freeze what is done by jnp.where",
}

RULES: dict[str, Callable[[Use], Operation | Result]] = {
    "add": lambda use: linear_rules.affine(use),
    "add_any": lambda use: linear_rules.affine(use),
    "sub": lambda use: linear_rules.affine(use, tuple(1 if n == 0 else -1 for n in use.perturbed)),
    "neg": lambda use: linear_rules.negative(),
    "mul": product_rules.mul,
    "div": product_rules.div_,
    "dot_general": product_rules.dot_general,
    "conv_general_dilated": product_rules.convolution,
    "conv2d": product_rules.conv2d,
    "reduce_sum": linear_rules.reduce_sum,
    "reduce_window_sum": linear_rules.reduce_window_sum,
    "cumsum": linear_rules.cumsum,
    "reshape": linear_rules.reshape,
    **dict.fromkeys("transpose broadcast_in_dim squeeze rev slice concatenate pad split stack tile scan_slice scan_stack".split(), linear_rules.structural),
    **dict.fromkeys("copy stop_gradient convert_element_type reduce_precision sharding_constraint optimization_barrier device_put".split(), linear_rules.same),
    **dict.fromkeys("gather dynamic_slice dynamic_update_slice scatter scatter-add".split(), linear_rules.indexed),
    "exp": curve_rules.curve(curves.EXP),
    "exp2": curve_rules.curve(curves.EXP2),
    "expm1": curve_rules.curve(curves.EXPM1),
    "log": curve_rules.curve(curves.LOG),
    "log1p": curve_rules.curve(curves.LOG1P),
    "sqrt": curve_rules.curve(curves.SQRT),
    "rsqrt": curve_rules.curve(curves.RSQRT),
    "square": curve_rules.curve(curves.SQUARE),
    "abs": curve_rules.curve(curves.ABS),
    "tanh": curve_rules.curve(curves.TANH),
    "logistic": curve_rules.curve(curves.SIGMOID),
    "erf": curve_rules.curve(curves.ERF),
    "erfc": curve_rules.erfc,
    "atan": curve_rules.curve(curves.ATAN),
    "sinh": curve_rules.curve(curves.SINH),
    "cosh": curve_rules.curve(curves.COSH),
    "asinh": curve_rules.curve(curves.ASINH),
    "sign": curve_rules.curve(curves.SIGN),
    "floor": curve_rules.curve(curves.FLOOR),
    "ceil": curve_rules.curve(curves.CEIL),
    "round": curve_rules.round_,
    "integer_pow": curve_rules.integer_pow,
    "pow": curve_rules.pow_,
    "max": curve_rules.max_,
    "min": curve_rules.min_,
    "clamp": curve_rules.clamp,
    "reduce_max": curve_rules.reduce_max,
    "reduce_min": functools.partial(curve_rules.reduce_max, sign=-1),
    "reduce_window_max": curve_rules.reduce_window_max,
    "reduce_window_min": functools.partial(curve_rules.reduce_window_max, sign=-1),
    "sin": curve_rules.curve(waves.SIN),
    "cos": curve_rules.curve(waves.COS),
    "sort": order_rules.sort,
    "top_k": order_rules.top_k,
    "cummax": order_rules.running,
    "cummin": order_rules.running,
    "argmax": order_rules.place,
    "argmin": order_rules.place,
    "reduce": curve_rules.reduce_,
    "reduce_window": curve_rules.reduce_window,
    "select_n": discrete_rules.select,
}
