"""What is asked of the arrays of this room: shapes at once; where they are concrete, numbers that can be what they are said to be."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import is_array
from jxai.outputs import SUM
from jxai.scores import check_labels, one_of
from jxai.uncertainty.rows import blocks

CONVENTIONS = ("paper", "openood")
"""Whose numbers a post-hoc score reproduces where the two differ; the sign is ours in both."""

T = TypeVar("T")
_SHAPES = {1: "[K]", 2: "[n, K]"}


def check_logits(logits: Any, *, rank: int = 1, size: int | None = None, name: str = "logits") -> int:
    """K of logits `[K]` or `[n, K]` (`rank`); a class that is impossible may have −∞.

    Raises:
      ValueError: no floating-point numbers of that rank, no examples, fewer than two classes, another K than `size`; where they are concrete: NaN, +∞, or −∞ in all classes;
        probabilities (in [0, 1], of sum 1, not all whole numbers), which would go through the softmax again.
    """
    k = _check_shape(logits, rank, name, _SHAPES[rank])
    _check_classes(logits, name)
    if size is not None and k != size:
        raise ValueError(f"{name} must be of K = {size} classes, as what was fitted has, got {k}")
    if isinstance(logits, jax.core.Tracer):
        return k
    rows = np.atleast_2d(np.asarray(logits))
    if (wrong := _marked(rows, lambda v: ~(v < np.inf).all(1) | np.isneginf(v).all(1))).any():
        raise ValueError(f"{name} must be finite, but {_row(name, wrong, rank)} has NaN, +∞, or −∞ in all classes")
    if are_probabilities(rows):
        raise ValueError(
            f"{name} must be logits, but they are probabilities (in [0, 1], of sum 1), which would go through the softmax again: give the logits, or np.log({name})"
        )
    return k


def check_probabilities(probabilities: Any, *, rank: int = 2, name: str = "probabilities", axes: str | None = None) -> int:
    """K of probabilities `[n, K]` or `[K]` (`rank`), K >= 2.

    Args:
      axes: what the shape is called in the message.

    Raises:
      ValueError: no floating-point numbers of that rank, or none at all, fewer than two classes; where they are concrete: NaN, entries outside of [0, 1], rows whose sum is not 1.
    """
    k = _check_shape(probabilities, rank, name, axes or _SHAPES[rank])
    _check_classes(probabilities, name)
    if isinstance(probabilities, jax.core.Tracer):
        return k
    v = _wide(probabilities).reshape(-1, k)
    near = max(SUM, 4 * float(jnp.finfo(_dtype(probabilities)).eps))
    if (wrong := np.isnan(v).any(1)).any():
        raise ValueError(f"{name} must be probabilities, but {_row(name, wrong, rank)} has NaN")
    if (wrong := ((v < -1e-6) | (v > 1 + near)).any(1) | (np.abs(v.sum(1) - 1) > near)).any():
        first = v[np.flatnonzero(wrong)[0]]
        hint = "; they look like logits: jax.nn.softmax makes probabilities of them" if (v < 0).any() or (v > 1 + near).any() else ""
        raise ValueError(
            f"{name} must be probabilities (in [0, 1], of sum 1), but {_row(name, wrong, rank)} goes from {first.min():.3g} to {first.max():.3g} with sum {first.sum():.4g}{hint}"
        )
    return k


def check_features(features: Any, *, rank: int = 1, size: int | None = None, name: str = "features") -> int:
    """D of features `[D]` or `[n, D]` (`rank`).

    Raises:
      ValueError: no floating-point numbers of that rank, or none at all, another D than `size`; where they are concrete: NaN or infinities.
    """
    d = _check_shape(features, rank, name, _SHAPES[rank].replace("K", "D"))
    if size is not None and d != size:
        raise ValueError(f"{name} must have D = {size} entries, as what was fitted has, got {d}")
    if not isinstance(features, jax.core.Tracer):
        if (wrong := _marked(np.atleast_2d(np.asarray(features)), lambda v: ~np.isfinite(v).all(1))).any():
            raise ValueError(f"{name} must be finite, but {_row(name, wrong, rank)} has NaN or infinite entries")
    return d


def check_examples(features: Any, logits: Any = None, labels: Any = None, *, every_class: int = 0) -> tuple[int, int, int]:
    """`(n, D, K)` of what a fit is given: features `[n, D]` and, unless None, logits `[n, K]`, without which K is 0, and labels `[n]`.

    Args:
      every_class: how many examples each class must have, where labels are concrete.

    Raises:
      ValueError: as `check_features`, `check_logits` and `jxai.scores.check_labels`; unequal lengths; a class of too few examples.
    """
    d, k = check_features(features, rank=2), 0 if logits is None else check_logits(logits, rank=2)
    n = same_length(**{name: value for name, value in (("features", features), ("logits", logits), ("labels", labels)) if value is not None})
    if labels is not None:
        check_labels(labels, n, k or None)
        if every_class and not isinstance(labels, jax.core.Tracer):
            few = np.flatnonzero(np.bincount(np.asarray(labels), minlength=k) < every_class)
            if few.size:
                raise ValueError(f"every class must have {every_class} examples or more, but of class {few[0]} there are fewer in labels")
    return n, d, k


def same_length(**arrays: Any) -> int:
    """The length that named arrays share along their first axis.

    Raises:
      ValueError: they have no such axis, no entries along it, or unequal lengths.
    """
    lengths = {}
    for name, array in arrays.items():
        if not np.shape(array):
            raise ValueError(f"{name} must have an axis of examples, got a single number")
        lengths[name] = np.shape(array)[0]
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{' and '.join(lengths)} must be of the same examples, got lengths {', '.join(map(str, lengths.values()))}")
    n = next(iter(lengths.values()))
    if not n:
        raise ValueError(f"{' and '.join(lengths)} must have examples, got none")
    return n


def check_level(**values: Any) -> None:
    """Raises ValueError unless every named number lies strictly between 0 and 1; a traced one is data and passes."""
    for name, value in values.items():
        if not _passes(value) and not 0 < _real(value) < 1:
            raise ValueError(f"{name}={value!r} must lie in (0, 1)")


def check_positive(**values: Any) -> None:
    """Raises ValueError unless every named number is positive and finite; a traced one is data and passes."""
    for name, value in values.items():
        if not _passes(value) and not 0 < _real(value) < np.inf:
            raise ValueError(f"{name}={value!r} must be a positive number")


def check_not_negative(**values: Any) -> None:
    """Raises ValueError unless every named number is finite and at least 0; a traced one is data and passes."""
    for name, value in values.items():
        if not _passes(value) and not 0 <= _real(value) < np.inf:
            raise ValueError(f"{name}={value!r} must be a number >= 0")


def check_finite(**values: Any) -> None:
    """Raises ValueError unless every named value is one finite number, and no traced one."""
    for name, value in values.items():
        if isinstance(value, jax.core.Tracer) or not np.isfinite(_real(value)):
            raise ValueError(f"{name}={value!r} must be a finite number")


def check_convention(convention: str) -> None:
    """Raises ValueError unless the convention is one of `CONVENTIONS`."""
    one_of("convention", convention, CONVENTIONS)


def need_fitted(fitted: Any, kind: type[T], made_by: str) -> T:
    """What a score was given as `fitted`; ValueError unless it is of its kind. made_by: the call that makes it."""
    if not isinstance(fitted, kind):
        shown = "None" if fitted is None else f"a {type(fitted).__name__}"
        raise ValueError(f"fitted must be a {kind.__name__}, made by {made_by}, got {shown}")
    return fitted


def fits_nothing(name: str, fitted: Any) -> None:
    """Raises ValueError where the score of this name was given what was fitted."""
    if fitted is not None:
        raise ValueError(f"{name} fits nothing: fitted must be None, got a {type(fitted).__name__}")


def check_host(what: str, **arrays: Any) -> None:
    """Raises ValueError where a named array is traced: what is computed on the host has no place in a program."""
    traced = [name for name, array in arrays.items() if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(array))]
    if traced:
        raise ValueError(
            f"{' and '.join(traced)} must be concrete, but {'is' if len(traced) == 1 else 'are'} traced: call {what} outside of jit, vmap and grad"
        )


def host_numbers(what: str, *, finite: bool = True, **arrays: Any) -> tuple[np.ndarray, ...]:
    """Named numbers `[n]` in float64, for what works on the host.

    Args:
      what: the routine, in the messages. finite: whether ±∞ is refused, too, and not NaN alone.

    Raises:
      ValueError: they are traced, no real numbers `[n]`, none at all, or NaN.
    """
    check_host(what, **arrays)
    found = []
    for name, array in arrays.items():
        given = np.asarray(array)
        if given.ndim != 1 or not given.size or not (jnp.issubdtype(given.dtype, jnp.number) or given.dtype == bool) or np.iscomplexobj(given):
            raise ValueError(f"{name} must be numbers [n] of one example or more, got {given.dtype} of shape {given.shape}")
        v = given.astype(np.float64)
        if (wrong := ~np.isfinite(v) if finite else np.isnan(v)).any():
            raise ValueError(f"{name} must be {'finite' if finite else 'numbers'}, but {_row(name, wrong, 2)} is {v[wrong][0]}")
        found.append(v)
    return tuple(found)


def are_probabilities(rows: Any) -> bool:
    """Whether all rows of concrete numbers `[n, K]` are probabilities; one-hot rows alone may well be logits."""
    shares = False
    for (p,) in blocks(rows):
        if not ((p >= 0).all() and (p <= 1 + SUM).all() and (np.abs(p.sum(1) - 1) <= SUM).all()):
            return False
        shares |= bool((p != np.round(p)).any())
    return shares


def _marked(rows: Any, wrong: Callable[[np.ndarray], Any]) -> np.ndarray:
    """`[n]`: which rows are wrong."""
    return np.concatenate([wrong(v) for (v,) in blocks(rows)])


def _check_classes(value: Any, name: str) -> None:
    if np.shape(value)[-1] < 2:
        raise ValueError(f"{name} must be of two classes or more, got shape {np.shape(value)}: of one class nothing is uncertain")


def _passes(value: Any) -> bool:
    """Whether it is one traced number: data, of which nothing is known."""
    return isinstance(value, jax.core.Tracer) and not value.ndim


def _real(value: Any) -> float:
    """A concrete number, or an array of one; NaN, which is in no range, of anything else."""
    if is_array(value):
        real = not np.ndim(value) and any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.floating, jnp.integer))
    else:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return float(value) if real else np.nan


def _dtype(value: Any) -> Any:
    return value.dtype if is_array(value) else np.asarray(value).dtype


def _check_shape(value: Any, rank: int, name: str, axes: str) -> int:
    dtype, shape = _dtype(value), np.shape(value)
    if len(shape) != rank or 0 in shape or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} must be floating-point {axes}, got {dtype} of shape {shape}")
    return int(shape[-1])


def _wide(value: Any) -> np.ndarray:
    return np.asarray(value, np.float64)


def _row(name: str, wrong: np.ndarray, rank: int) -> str:
    """The first wrong row, and how many there are."""
    at = np.flatnonzero(wrong)
    return "it" if rank == 1 else f"{name}[{at[0]}]" + (f" ({len(at)} of {len(wrong)})" if len(at) > 1 else "")
