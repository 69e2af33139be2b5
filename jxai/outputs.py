"""What a model's answer says where it can be looked at: that x is finite or that the model knows what is missing, and that the answer
is logits and no probabilities yet.

Under a trace nothing can be said of values, so only concrete x and weights are looked at; and f is run only where how it ends leaves
a doubt: a classifier whose last operation is a product with weights returns whatever it likes, hence no probabilities.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
import jax.numpy as jnp
import numpy as np

from jxai.callables import fresh, is_array
from jxai.typing import Array, Model, PyTree

SUM = 1e-3
"""By which probabilities may fail to sum to 1; in half precision, by four units of its last place if that is more."""

_MOVED = frozenset(
    "reshape squeeze expand_dims broadcast_in_dim transpose slice dynamic_slice gather rev copy convert_element_type reduce_precision neg "
    "reduce_sum reduce_max concatenate stack split add sub add_any stop_gradient".split()
)
"""What leaves numbers that may be anything to be anything: one such operand is enough."""
_JOINED = _MOVED - {"add", "add_any", "sub", "neg", "reduce_sum", "reduce_max"}
_PRODUCTS = frozenset("dot_general conv_general_dilated conv2d ragged_dot".split())
_LOOPS = frozenset(("scan", "while", "cond"))
_SHARES = frozenset("exp exp2 div logistic eq ne lt le gt ge and or".split())
"""What makes shares, or truths: a product of these with weights may be one of leaves with their classes' shares, as of a forest."""


class Ending(NamedTuple):
    """What f returns, as `jax.eval_shape` says it, and how it ends."""

    out: Any
    free: bool
    """Whether the numbers may be anything, as those of a product with weights: they are no probabilities."""
    sigmoid: bool
    """Whether they come out of a sigmoid."""

    @property
    def is_vector(self) -> bool:
        """Whether it is one array `[K]`."""
        return getattr(self.out, "ndim", None) == 1


def ending(f: Model, x: Array) -> Ending:
    """How `f(x)` ends, from its trace."""
    closed, out = jax.make_jaxpr(fresh(f), return_shape=True)(x)
    if not isinstance(out, jax.ShapeDtypeStruct):
        return Ending(out, False, False)
    last = _Value(closed.jaxpr.outvars[0], _Frame(closed.jaxpr, {}))
    return Ending(out, _free(last), _made_by(last, frozenset(("logistic",))))


def concrete(f: PyTree, x: Array) -> bool:
    """Whether x and the weights (those in f, or f itself) are numbers, not tracers."""
    return is_array(x) and not any(isinstance(leaf, jax.core.Tracer) for leaf in (x, *jax.tree.leaves(f)))


def check_finite(f: Model, x: Array, target: int | Array | None, call: Callable[[Model, Array], Array], name: str = "it") -> None:
    """Raises ValueError where x is not finite and the score of it is not, either; a model that knows missing values may have them.

    Args:
      f, x: concrete. target: a class, else all of f(x) must be finite. call: how f is run. name: of x, in the message.
    """
    if is_finite(x) or is_staged():
        return
    out = call(f, x)
    if isinstance(out, jax.core.Tracer):
        return
    out = np.asarray(out)
    scores = out[target] if isinstance(target, numbers.Integral) and out.ndim == 1 else out
    if not np.isfinite(scores).all():
        raise ValueError(f"x must be finite, but {name} has NaN or infinite entries, and f(x) is {_short(scores)}")


def check_logits(f: Model, x: Array, end: Ending, score: str, call: Callable[[Model, Array], Array], given: np.ndarray | None = None) -> None:
    """Raises ValueError where f(x) is probabilities already: they would go through the softmax or the sigmoid again.

    Args:
      f, x: concrete. end: `ending(f, x)`. score: what will be made of f(x). call: how f is run. given: f(x), if it is known.
    """
    if end.sigmoid and score != "logit":
        raise ValueError(
            f"f ends in a sigmoid, and {score=} would put it through another: return the logits, or explain the number itself by composing f with target=None"
        )
    if end.free or not end.is_vector or end.out.shape[0] < 2 or is_staged():
        return
    first = call(f, x) if given is None else given
    if isinstance(first, jax.core.Tracer) or not _are_probabilities(first):
        return
    # Elsewhere, too, where entries differ: a function whose values happen to sum to 1 at x is not meant.
    v, ramp = np.asarray(x, np.float32), np.linspace(0.5, 1.5, x.size, dtype=np.float32).reshape(x.shape)
    others = [np.asarray(call(f, jnp.asarray(u, x.dtype))) for u in (ramp * v, v + ramp, 8 * ramp * v - 4)]
    others = [p for p in others if np.isfinite(p.astype(np.float32)).all()]
    if others and all(map(_are_probabilities, others)):
        raise ValueError(
            "f(x) must be logits, but it is probabilities (in [0, 1], of sum 1), which would go through the softmax again: wrap it as "
            "jxai.LogProbabilities(f), or explain the number itself by composing f with target=None, lambda x: f(x)[1]"
        )


def is_finite(x: Array) -> bool:
    """Whether all of a concrete array is; on a CPU NumPy sees the same memory, and starts at once."""
    return bool(np.isfinite(np.asarray(x)).all() if isinstance(x, np.ndarray) or jax.default_backend() == "cpu" else jnp.isfinite(x).all())


def run(f: Model, x: Array) -> Array:
    """`f(x)`, as it comes."""
    return f(x)


def is_staged() -> bool:
    """Whether what is computed here becomes part of a program, under `jit`, though its operands are concrete: f would run in it for nothing."""
    return isinstance(jax.lax.neg(np.float32(0)), jax.core.Tracer)


def _are_probabilities(p: Array) -> bool:
    near = max(SUM, 4 * float(jnp.finfo(p.dtype).eps)) if jnp.issubdtype(p.dtype, jnp.floating) else SUM
    p = np.asarray(p, np.float32)
    return bool((p >= 0).all() and (p <= 1 + near).all() and abs(p.sum() - 1) <= near)


def _short(v: np.ndarray) -> str:
    return np.array2string(v, precision=3, threshold=6, max_line_width=10_000).replace("\n", "")


class _Frame(NamedTuple):
    """A jaxpr, and what its inputs are outside."""

    jaxpr: Any
    outside: dict[Any, _Value]


class _Value(NamedTuple):
    """A value of a traced function."""

    variable: Any
    frame: _Frame

    def made(self) -> tuple[str, list[_Value]]:
        """By which operation and of which operands, calls laid open; "" where it is an input or a constant."""
        value = self
        while True:
            variable, (jaxpr, outside) = value
            if isinstance(variable, jex.Literal):
                return "", []
            if variable in outside:
                value = outside[variable]
                continue
            eqn = next((e for e in reversed(jaxpr.eqns) if any(v is variable for v in e.outvars)), None)
            if eqn is None:
                return "", []
            operands = [_Value(v, value.frame) for v in eqn.invars]
            if eqn.primitive.name == "pvary":  # the same value inside a `shard_map`
                value = operands[0]
                continue
            inner = [] if eqn.primitive.name in _LOOPS else list(jex.jaxprs_in_params(eqn.params))
            if len(inner) != 1 or (len(inner[0].invars), len(inner[0].outvars)) != (len(eqn.invars), len(eqn.outvars)):
                return eqn.primitive.name, operands
            place = next(n for n, v in enumerate(eqn.outvars) if v is variable)
            value = _Value(inner[0].outvars[place], _Frame(inner[0], dict(zip(inner[0].invars, operands))))


def _free(value: _Value, seen: set[tuple[int, int]] | None = None) -> bool:
    """Whether numbers may be anything: a product with weights, or logarithms, moved, summed, shifted and scaled."""
    seen = set() if seen is None else seen
    here = (id(value.variable), id(value.frame.outside))
    if here in seen:  # what is added to itself again and again is asked once
        return False
    seen.add(here)
    name, operands = value.made()
    if name in _PRODUCTS:
        return not any(_made_by(v, _SHARES) for v in operands)
    if name == "log":
        return True
    if name == "mul":
        a, b = operands
        scaled = any(_made_by(v, frozenset(("div",))) for v in operands)  # z · (1 / Σz)
        return not scaled and a.variable is not b.variable and any(_free(v, seen) for v in operands)
    if name == "div":
        return _free(operands[0], seen) and operands[1].made()[0] == ""
    return name in _MOVED and any(_free(v, seen) for v in operands)


def _made_by(value: _Value, names: frozenset[str]) -> bool:
    """Whether an operation of these names made it, moved or joined since, or it is a product of nothing else."""
    name, operands = value.made()
    if name == "mul":
        return all(_made_by(v, names) for v in operands)
    return name in names or (name in _JOINED and any(_made_by(v, names) for v in operands))
