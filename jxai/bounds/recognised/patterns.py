"""Activations and softmax recognised by structure, however many primitives they are spelled in.

A curve is bounded much better as one function than as the products and sums that compute it. A step is taken for one only if the
steps behind it are, equation by equation and constant by constant, those that `jax.nn` itself traces to: the match is a proof. With several
axes, the proof is of places, too (see `jxai.bounds.recognised.softmaxes`, `jxai.bounds.recognised.layouts`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.recognised.layouts import Reader
from jxai.bounds.recognised.softmaxes import Match, recognised
from jxai.bounds.recognised.templates import templates
from jxai.bounds.rules.operations import Unary
from jxai.tracing import equations
from jxai.tracing.interpret import Step

_COMMUTES = {"add", "mul", "max", "min"}


def match(read: Reader, step: Step) -> Match | None:
    """The curve or softmax that this step ends; None where it ends none."""
    output = step.outputs[0]
    if len(step.outputs) != 1 or not jnp.issubdtype(read.dtype(output), jnp.floating):
        return None
    for template in templates(read.dtype(output)).get(step.primitive, ()):
        bound: dict[Any, Any] = {}
        if not _same(read, template.expression, output, bound) or "x" not in bound:
            continue
        parameters = tuple(bound[mark] for mark in sorted(k for k in bound if k != "x"))
        if template.holds(*parameters) and read.shape(bound["x"]) == read.shape(output) and not (read.exact and template.overflows):
            return Match((bound["x"],), lambda add, curve=template.curve, root=bound["x"], p=parameters: (Unary(curve, p), (root,)))
    return recognised(read, step)


def _same(read: Reader, expression: Any, reference: int, bound: dict) -> bool:
    if reference not in read.known:  # a constant is what it was rounded to
        reference = read.plain(reference)
    if expression == ("x",):
        return reference in read.perturbed and bound.setdefault("x", reference) == reference
    if reference in read.known:
        value = read.known[reference]
        if isinstance(expression, tuple) and expression[0] == "any":
            previous = bound.setdefault(expression[1], value)
            return previous is value or _equal(previous, value)
        return isinstance(expression, float) and _equal(value, expression)
    if not isinstance(expression, tuple) or expression[0] == "any":
        return False
    step = read.by.get(reference)
    if step is None or step.primitive != expression[0] or equations.meaning(step) != expression[1] or len(step.inputs) != len(expression[2]):
        return False
    orders = [expression[2]] if expression[0] not in _COMMUTES else [expression[2], expression[2][::-1]]
    for operands in orders:
        trial = dict(bound)
        if all(_same(read, e, r, trial) for e, r in zip(operands, step.inputs)):
            bound.update(trial)
            return True
    return False


def _equal(a: Any, b: Any) -> bool:
    """Whether all entries are equal, of constants that are concrete; a template's numbers are rounded to its type, as the model's are."""
    if isinstance(a, jax.core.Tracer) or isinstance(b, jax.core.Tracer):
        return False
    return bool(np.all(np.asarray(a, np.float64) == np.asarray(b, np.float64)))
