"""A computation that is called eagerly, compiled once for what it computes.

JAX keeps the program of an eager loop by the function that it is handed, which in a routine is a closure made for that call: it compiles at every call, and
keeps every program. Here the computation is traced, which each call needs anyway, for only the trace says what it computes (a closure over a global number
looks the same after the number has changed), and the program is kept by that, with all arrays as arguments.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.extend.core as jex
import numpy as np

from jxai.outputs import is_staged
from jxai.typing import PyTree

_KEPT = 128
"""Programs; the one that was used longest ago goes first."""
_PROGRAMS: OrderedDict[Hashable, Callable] = OrderedDict()


def staged(run: Callable[..., PyTree], *args: PyTree) -> PyTree:
    """`run(*args)`; where nothing is traced, as one program, compiled once for all calls that compute the same on arrays of equal shapes.

    Under a trace, and where a transformation's values are among the arguments or in `run`'s closure, it is `run(*args)`.
    """
    leaves, treedef = jax.tree.flatten(args)
    if is_staged() or any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return run(*args)
    closed, shape = jax.make_jaxpr(lambda leaves: run(*treedef.unflatten(leaves)), return_shape=True)(leaves)  # type: ignore[call-overload]
    if closed.effects or any(isinstance(c, jax.core.Tracer) for c in closed.consts):
        return run(*args)
    key = (jax.default_backend(), jax.config.jax_default_matmul_precision, jax.config.jax_disable_jit, _spelled(closed.jaxpr))
    if key not in _PROGRAMS:
        jaxpr = closed.jaxpr
        _PROGRAMS[key] = jax.jit(lambda consts, leaves: jex.jaxpr_as_fun(jex.ClosedJaxpr(jaxpr, consts))(*leaves))
        while len(_PROGRAMS) > _KEPT:
            _PROGRAMS.popitem(last=False)[1].clear_cache()
    _PROGRAMS.move_to_end(key)
    return jax.tree.unflatten(jax.tree.structure(shape), _PROGRAMS[key](closed.consts, leaves))


def _spelled(jaxpr: jex.Jaxpr) -> Hashable:
    """A program as a key: equal for two that compute the same of their constants and arguments, by the same steps.

    Derivatives of its calls are not in it: what is run is not differentiated.
    """
    number: dict[Any, int] = {}  # the numbers of its variables, in the order in which they are made

    def of(v: Any) -> Hashable:
        if isinstance(v, jex.Literal):
            return str(v.aval), _value(v.val)
        return number.setdefault(v, len(number))

    ends = tuple((of(v), _aval(v)) for v in (*jaxpr.constvars, *jaxpr.invars))
    steps = tuple(
        (
            eqn.primitive.name,
            tuple(of(v) for v in eqn.invars),
            tuple((name, "" if _is_derivative(eqn, value) else _param(value)) for name, value in sorted(eqn.params.items())),
            tuple((of(v), _aval(v)) for v in eqn.outvars),
        )
        for eqn in jaxpr.eqns
    )
    return ends, steps, tuple(of(v) for v in jaxpr.outvars)


def _aval(v: Any) -> str:
    return f"{v.aval.str_short()}{getattr(v.aval, 'weak_type', '')}"


def _is_derivative(eqn: jex.JaxprEqn, value: Any) -> bool:
    return eqn.primitive.name.startswith(("custom_jvp", "custom_vjp")) and not isinstance(value, (jex.ClosedJaxpr, jex.Jaxpr, int, tuple))


def _param(value: Any) -> Hashable:
    if isinstance(value, jex.ClosedJaxpr):
        return _spelled(value.jaxpr), tuple(_value(c) for c in value.consts)
    if isinstance(value, jex.Jaxpr):
        return _spelled(value)
    if isinstance(value, (tuple, list)):
        return type(value).__name__, tuple(map(_param, value))
    if isinstance(value, dict):
        return tuple((name, _param(v)) for name, v in sorted(value.items(), key=str))
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return _value(value)
    try:
        hash(value)
    except TypeError:
        return type(value).__name__, repr(value)
    return type(value).__name__, value  # functions by identity, which the key keeps alive


def _value(value: Any) -> Hashable:
    if isinstance(value, jax.core.Tracer):
        return id(value)
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    a = np.asarray(value)
    data = a.tobytes()
    return type(value).__name__ if np.ndim(value) == 0 else "", str(a.dtype), a.shape, data if len(data) <= 64 else hashlib.sha256(data).hexdigest()
