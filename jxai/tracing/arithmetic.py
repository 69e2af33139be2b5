"""How much a traced function computes: the multiplications of its products and convolutions, loops counted as often as they turn."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.extend.core as jex

from jxai.tracing.equations import param, scan

_CONVOLUTIONS = {"conv2d": (-1, 1), "conv2d_transpose": (0, 1), "conv2d_kernel_gradient": (1, -1)}
"""Of jxai's own: which value is in the space of the result of the convolution, and which is the kernel; −1 is the equation's result."""


class Work(NamedTuple):
    """What a program multiplies."""

    multiplications: float
    """Of numbers, in products of matrices and convolutions; what else it does is small beside them in a network."""
    bounded: bool
    """Whether that is all: False where a loop that multiplies turns as often as the data ask for, which is counted once."""


def work(jaxpr: jex.Jaxpr) -> Work:
    """The multiplications of a jaxpr and of all that it calls; of the branches of a conditional those of the dearest."""
    total, bounded = 0.0, True
    for eqn in jaxpr.eqns:
        inner = [work(getattr(j, "jaxpr", j)) for j in jex.jaxprs_in_params(eqn.params)]
        name = eqn.primitive.name
        if name == "scan":
            total += scan(eqn).length * inner[0].multiplications
        elif name == "cond":
            total += max(branch.multiplications for branch in inner)
        elif name in ("custom_jvp_call", "custom_vjp_call"):  # the derivatives that they hold beside it have been traced where they are used
            total += inner[0].multiplications
        else:
            total += sum(one.multiplications for one in inner) + _own(eqn)
        bounded = bounded and all(one.bounded and not (name == "while" and one.multiplications) for one in inner)
    return Work(total, bounded)


def _own(eqn: jex.JaxprEqn) -> float:
    name = eqn.primitive.name
    if name == "dot_general":
        (contracted, _), _ = param(eqn, "dimension_numbers")
        return math.prod(eqn.outvars[0].aval.shape) * math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        return math.prod(eqn.outvars[0].aval.shape) * math.prod(kernel) / kernel[param(eqn, "dimension_numbers").rhs_spec[0]]
    if name in _CONVOLUTIONS:
        values = [*(v.aval.shape for v in eqn.invars), eqn.outvars[0].aval.shape]
        result, kernel = (values[place] for place in _CONVOLUTIONS[name])
        return math.prod(result) * math.prod(kernel) / kernel[-1]
    return 0.0
