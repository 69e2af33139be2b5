"""Softmax, its logarithm and the logarithm of a sum of exponentials, proved place by place.

`exp(x − m) / Σ exp(x − m)`, `(x − m) − log Σ exp(x − m)` and `log Σ exp(x − m) + m` do not depend on m, whatever it is, if m is the same all along
the axes that are summed over, every place is divided by (or has subtracted) its own sum, and what is added back to a sum is the m that
was taken off its terms. All of this is read off where entries come from (`jxai.bounds.recognised.layouts`); axes' sizes say nothing of it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jxai.bounds.recognised.layouts import Layout, Reader
from jxai.bounds.rules.operations import Linear, Operation
from jxai.bounds.rules.reductions import LogSumExp, Softmax
from jxai.bounds.rules.use import Perturbed, Result
from jxai.tracing.interpret import Step

Add = Callable[[Operation, tuple[int, ...], tuple[int, ...]], Perturbed]


@dataclasses.dataclass(frozen=True)
class Match:
    """A step recognised as the end of a function of `roots`; `build(add)` gives its operation and the references of that operation's inputs."""

    roots: tuple[int, ...]
    build: Callable[[Add], Result]


def recognised(read: Reader, step: Step) -> Match | None:
    """Softmax, log-softmax or log-sum-exp, if this step ends one.

    In floating point (`read.exact`) a shift that is not the greatest entry may let exponentials overflow or vanish: there it must be that.
    """
    kinds = {"div": _softmax, "sub": _log_softmax, "add": _log_sum_exp}
    return kinds[step.primitive](read, step) if step.primitive in kinds else None


def _softmax(read: Reader, step: Step) -> Match | None:
    shape = read.shape(step.outputs[0])
    exp = read.plain(step.inputs[0])
    found = _sum_of_exp(read, read.layout(step.inputs[1]))
    if found is None or found[0] != exp or read.shape(exp) != shape:
        return None
    _, axes, total = found
    x = _unshifted(read, read.by[exp].inputs[0], axes)
    if x is None or not _spread_back(total.at, axes, shape):
        return None
    return Match((x,), lambda add: (Softmax(axes), (x,)))


def _log_softmax(read: Reader, step: Step) -> Match | None:
    shape = read.shape(step.outputs[0])
    a = read.plain(step.inputs[0])
    log = read.layout(step.inputs[1], ("log",))
    found = _sum_of_exp(read, log) if log.passed == ("log",) else None
    if found is None or read.plain(read.by[found[0]].inputs[0]) != a or read.shape(a) != shape:
        return None
    _, axes, total = found
    x = _unshifted(read, a, axes)
    if x is None or not _spread_back(total.at, axes, shape):
        return None

    def build(add: Add) -> Result:
        reduced = add(LogSumExp(axes), (x,), _reduced(shape, axes))
        return Linear(lambda v, s: v - jnp.expand_dims(s, axes), None, (1, -1), local=None), (x, reduced.reference)

    return Match((x,), build)


def _log_sum_exp(read: Reader, step: Step) -> Match | None:
    for log, shift in (step.inputs, step.inputs[::-1]):
        found = _log_sum(read, step, log, shift)
        if found is not None:
            return found
    return None


def _log_sum(read: Reader, step: Step, log: int, shift: int) -> Match | None:
    out = read.shape(step.outputs[0])
    behind = read.layout(log, ("log", "abs"))  # jax.nn.logsumexp keeps a sign
    found = _sum_of_exp(read, behind) if behind.passed in (("log",), ("log", "abs")) else None
    if found is None:
        return None
    exp, axes, total = found
    minus = read.plain(read.by[exp].inputs[0])
    if not read.made_by(minus, "sub"):
        return None
    x, m = read.by[minus].inputs
    x, shape = read.plain(x), read.shape(minus)
    off, back = _constant_along(read, m, axes, shape), read.layout(shift)
    if x not in read.perturbed or read.shape(x) != shape or off is None or (read.exact and not _greatest(read, off, x, axes)):
        return None
    # Sums keep their order (but for axes of size 1), and each has added to it what was taken off its own terms.
    own = np.arange(math.prod(_reduced(shape, axes)))
    if math.prod(out) != own.size or not np.array_equal(total.at.ravel(), own) or back.base != off.base or back.at.size not in (1, own.size):
        return None
    taken = off.at[tuple(slice(1) if a in axes else slice(None) for a in range(len(shape)))].ravel()
    if not np.array_equal(np.broadcast_to(back.at.ravel(), own.shape), taken):
        return None
    if out == _reduced(shape, axes):
        return Match((x,), lambda add: (LogSumExp(axes), (x,)))

    def build(add: Add) -> Result:
        reduced = add(LogSumExp(axes), (x,), _reduced(shape, axes))
        return Linear(lambda s: s.reshape(out), moves=True, apart=True), (reduced.reference,)

    return Match((x,), build)


def _sum_of_exp(read: Reader, total: Layout) -> tuple[int, tuple[int, ...], Layout] | None:
    """The exponential that a value is the sum of, the axes that are summed over, and the layout itself."""
    if not read.made_by(total.base, "reduce_sum"):
        return None
    step = read.by[total.base]
    exp = read.plain(step.inputs[0])
    return (exp, tuple(int(a) for a in step.param("axes")), total) if read.made_by(exp, "exp") else None


def _spread_back(at: np.ndarray, axes: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether every place of `shape` holds the entry of the sum over `axes` that it is itself a term of."""
    own = np.arange(math.prod(_reduced(shape, axes))).reshape([1 if a in axes else n for a, n in enumerate(shape)])
    return at.ndim in (0, len(shape)) and bool((np.broadcast_to(at, shape) == own).all())


def _unshifted(read: Reader, a: int, axes: tuple[int, ...]) -> int | None:
    """x of `a = x − m` with m constant along the axes, else a itself; None for an exact reading where m is not the greatest of x."""
    a = read.plain(a)
    if read.made_by(a, "sub"):
        x, m = read.by[a].inputs
        x = read.plain(x)
        off = _constant_along(read, m, axes, read.shape(a))
        if off is not None and x in read.perturbed and read.shape(x) == read.shape(a) and (not read.exact or _greatest(read, off, x, axes)):
            return x
    return None if read.exact else a


def _constant_along(read: Reader, m: int, axes: tuple[int, ...], shape: tuple[int, ...]) -> Layout | None:
    """The layout of a value, spread to `shape`, if it is the same all along these axes; else None."""
    found = read.layout(m)
    if found.at.ndim not in (0, len(shape)):
        return None
    at = np.broadcast_to(found.at, shape)
    first = at[tuple(slice(1) if a in axes else slice(None) for a in range(len(shape)))]
    return Layout(found.base, at, found.passed) if (at == first).all() else None


def _greatest(read: Reader, m: Layout, x: int, axes: tuple[int, ...]) -> bool:
    """Whether m is the greatest entry of x along the axes, at every place its own."""
    if not read.made_by(m.base, "reduce_max"):
        return False
    step = read.by[m.base]
    same = read.plain(step.inputs[0]) == x and tuple(sorted(step.param("axes"))) == tuple(sorted(axes))
    return same and _spread_back(m.at, axes, read.shape(x))


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for a, n in enumerate(shape) if a not in axes)
