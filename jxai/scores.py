"""The number that is explained: one class of a model, as a logit or a probability; `docs/howto/scores.md` says why the logit is the default."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import outputs
from jxai.callables import fresh, is_array
from jxai.typing import Array, Model, Scalar

SCORES = ("logit", "probability", "sigmoid")
SHARES = ("probability", "sigmoid")
"""Scores in [0, 1]: what ratios are taken of."""


def objective(f: Model, x: Array, target: int | Array | None, score: str = "logit") -> Scalar:
    """The scalar function of x that `target` and `score` name: `s(x) = f(x)[target]`, `softmax(f(x))[target]` or `σ(f(x)[target])`.

    Args:
      f: a model `x -> logits [K]`, or with `target=None` a function `x -> []`.
      x: one example, floating point, at least one axis. Where it and the weights are concrete, values are looked at.
      target: an integer class in `[0, K)`. `None` explains the scalar that `f` returns, and `score` says nothing then.
        A traced or array-valued target out of range gives NaN (its gradient too), never another class's value.
      score: `"logit"`, `"probability"` (classes that exclude each other), or `"sigmoid"` (one-logit and multi-label models).

    Returns:
      `s(x) -> []`, float32 or wider.

    Raises:
      ValueError: x is not a floating array with an axis, `f(x)` is no vector (no scalar for `target=None`), `target`
        is a Python integer out of range or no integer, `score` is unknown, or it asks for the probability of a
        one-class model (a constant), or f is in training mode (`jxai.callables.fresh`). Of concrete values: x is not finite and its score is not, either; `f(x)` is probabilities.
    """
    one_of("score", score, SCORES)
    check_example(x)
    concrete, f = outputs.concrete(f, x), fresh(f)
    seen = outputs.ending(f, x) if concrete else None
    out = seen.out if seen else jax.eval_shape(lambda v: f(v), x)
    shape = getattr(out, "shape", None)
    if target is None:
        if shape != ():
            raise ValueError(f"target=None explains a scalar, but f(x) has shape {_shown(out)}; pass a target class or compose f")
        if seen:
            outputs.check_finite(f, x, None, outputs.run)
        return lambda v: wide(f(v))
    num_classes = logits_shape(out)[0]
    check_target(target, num_classes)
    if score == "probability" and num_classes == 1:
        raise ValueError("score='probability' of a one-class model is the constant 1; use score='sigmoid'")
    if seen:
        outputs.check_finite(f, x, target, outputs.run)
        outputs.check_logits(f, x, seen, score, outputs.run)

    def scalar(v: Array) -> Array:
        values = scored(wide(f(v)), score)
        if isinstance(target, numbers.Integral):
            return values[target]
        inside = (target >= 0) & (target < num_classes)
        # Added by way of v, so that every entry of the gradient becomes NaN as well, dead units or not; entries that f knows as missing are no poison.
        poison = (jnp.where(inside, 0, jnp.nan) * jnp.where(jnp.isfinite(v), wide(v), 0)).sum()
        return values[jnp.clip(target, 0, num_classes - 1)] + poison.astype(values.dtype)

    return scalar


def scored(logits: Array, score: str) -> Array:
    """Logits `[…, K]` as the scores of that name."""
    return logits if score == "logit" else jax.nn.softmax(logits) if score == "probability" else jax.nn.sigmoid(logits)


def confidences(logits: Array) -> Array:
    """How sure a classifier of logits `[…, K]` is of each class: the softmax, or of one logit its sigmoid."""
    return scored(logits, "sigmoid" if logits.shape[-1] == 1 else "probability")


def has_class(logits: Array | np.ndarray, label: int | Array, score: str = "logit") -> Array:
    """`[]`, boolean: whether what gives logits `[K]` is of this class: alone the largest; of one logit, or of classes of which several may hold
    (`score="sigmoid"`), above 0."""
    here = np.arange(logits.shape[0]) == label
    if score == "sigmoid" or logits.shape[0] == 1:
        return ((logits > 0) & here).any()
    first = logits >= logits.max()
    return (first & here).any() & (first.sum() == 1)


def sharing(method: Callable, options: Mapping[str, Any] | None, score: str) -> dict[str, Any]:
    """The options of a method that explains the same score, unless they name another or it has none."""
    own = {"score": score} if "score" in inspect.signature(method).parameters else {}
    return {**own, **(options or {})}


def margin(logits: Array, label: int | Array) -> Array:
    """`f[label] − max_{j ≠ label} f[j]` of logits `[K]`; NaN for a label out of range."""
    own = jnp.arange(logits.shape[0]) == label
    value = jnp.where(own, logits, 0).sum() - jnp.where(own, -jnp.inf, logits).max()
    return jnp.where(own.any(), value, jnp.nan)


def num_classes(f: Model, x: Array) -> int:
    """K of `f(x) [K]`; ValueError where f(x) is no vector, or K is 1: then the class cannot change."""
    out = jax.eval_shape(fresh(f), x)
    shape = logits_shape(out)
    if shape[0] < 2:
        raise ValueError(f"f(x) must have two classes or more for the class to change, got {shape[0]}")
    return shape[0]


def check_values(f: Model, x: Array, score: str = "logit") -> Any:
    """What `jax.eval_shape` says of f(x); ValueError where x and the weights are concrete and x has entries that f does not know (not finite), or
    f(x) is probabilities."""
    known, f = outputs.concrete(f, x), fresh(f)
    if not known:
        return jax.eval_shape(f, x)
    end = outputs.ending(f, x)
    outputs.check_finite(f, x, None, outputs.run)
    outputs.check_logits(f, x, end, score, outputs.run)
    return end.out


def check_example(x: Array, name: str = "x") -> None:
    """Raises ValueError unless x is one floating-point array with at least one axis and no empty one."""
    if isinstance(x, (tuple, list, dict)):
        raise ValueError(
            f"{name} must be one array, got a {type(x).__name__} of {len(x)}: of several inputs explain one while the others are held, "
            "f = lambda v: model((v, other)), or join them to one array that f takes apart"
        )
    dtype, shape = getattr(x, "dtype", None), getattr(x, "shape", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{name} must be a floating-point array (pixels in [0, 1]), got {type(x).__name__} of {dtype}")
    if len(shape) < 1 or 0 in shape:
        raise ValueError(f"{name} must be one example [D], [H, W, C], [T, H, W, C] …, got shape {shape}")


def check_labels(labels: Any, n: int, num_classes: int | None = None, name: str = "labels") -> None:
    """Raises ValueError unless labels are n classes: integers, and where they are no tracers in [0, num_classes)."""
    dtype, shape = labels.dtype if is_array(labels) else np.asarray(labels).dtype, np.shape(labels)
    most = "num_classes" if num_classes is None else num_classes
    if shape != (n,) or not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"{name} must be integers [{n}] in [0, {most}), one class for each example, got {dtype} of shape {shape}")
    if isinstance(labels, jax.core.Tracer) or not n:
        return
    seen = np.asarray(labels)
    low, high = int(seen.min()), int(seen.max())
    if low < 0 or (num_classes is not None and high >= num_classes):
        hint = "; they look one-based: subtract 1" if low == 1 and high == num_classes else "; leave out examples without a label" if low == -1 else ""
        raise ValueError(f"{name} must be classes in [0, {most}), but go from {low} to {high}{hint}")


def check_target(target: int | Array, num_classes: int) -> None:
    """Raises ValueError unless target is an integer scalar; a Python integer must lie in `[0, num_classes)`."""
    if isinstance(target, numbers.Integral) and not isinstance(target, bool):
        if not 0 <= target < num_classes:
            raise ValueError(f"{target=} must be a class in [0, {num_classes})")
        return
    dtype = getattr(target, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.integer) or jnp.shape(target) != ():
        raise ValueError(f"{target=} must be one integer class in [0, {num_classes}) or None")


def one_of(name: str, value: str, known: Iterable[str]) -> str:
    """Returns value if it is among the known names, else raises ValueError that lists them."""
    if value not in tuple(known):
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, known))}")
    return value


def need_key(key: Array | None, method: str) -> Array:
    """Returns the key; raises ValueError where a stochastic method was given none, or something else."""
    dtype = getattr(key, "dtype", None)
    if dtype is None or not (jnp.issubdtype(dtype, jax.dtypes.prng_key) or dtype == jnp.uint32):
        raise ValueError(f"{method} draws random numbers: {key=} must be a jax.random.key(…)")
    return key


def generator(key: Array | None, what: str) -> np.random.Generator:
    """NumPy's random numbers by a key of JAX."""
    if isinstance(need_key(key, what), jax.core.Tracer):
        raise ValueError(f"key is traced, but {what} works on the host: call it outside of jit, vmap and grad")
    with jax.ensure_compile_time_eval():
        return np.random.default_rng(np.asarray(jax.random.bits(key, (4,))))


def positive(**values: int) -> None:
    """Raises ValueError unless every named value is a positive integer."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
            raise ValueError(f"{name}={value!r} must be a positive integer")


def within(low: float, high: float, /, **values: float | Array) -> None:
    """Raises ValueError unless every named number lies in `[low, high]`; a traced or array-valued one is data and passes."""
    for name, value in values.items():
        if isinstance(value, numbers.Real) and not low <= value <= high:
            raise ValueError(f"{name}={value!r} must lie in [{low:g}, {high:g}]")


def wide(value: Array) -> Array:
    """The value in float32, or in its own dtype where that is wider: what sums are taken in."""
    narrow = jnp.issubdtype(value.dtype, jnp.floating) and jnp.finfo(value.dtype).bits < 32  # of 8 bits, JAX promotes nothing
    return value.astype(jnp.float32 if narrow else jnp.promote_types(value.dtype, jnp.float32))


def logits_shape(out: Any, what: str = "f(x) must be a vector of logits [K]") -> tuple[int, ...]:
    """The shape `(K,)` of what f returns; else a ValueError that says how to make a vector of it.

    Args:
      out: `jax.eval_shape(f, x)`. what: what must be.
    """
    shape = getattr(out, "shape", None)
    if shape is not None and len(shape) == 1:
        return shape
    if isinstance(out, dict):
        remedy = f"take what is explained out of it, f = lambda x: model(x)[{next(iter(out), 'logits')!r}]"
    elif isinstance(out, (tuple, list)):
        remedy = "take what is explained out of it, f = lambda x: model(x)[0]"
    elif shape == ():
        remedy = "a number that is the logit of one class is f = lambda x: model(x)[None]; target=None explains any other, where a target may be None"
    else:
        remedy = "a batch-only model is wrapped as Batched(f)"
    raise ValueError(f"{what}, got {_shown(out)}; {remedy}")


def _shown(out: Any) -> str:
    if isinstance(out, dict):
        return f"a dict of {', '.join(map(repr, out))}"
    if isinstance(out, (tuple, list)):
        return f"a {type(out).__name__} of {len(out)}"
    return str(getattr(out, "shape", None) or ("()" if hasattr(out, "shape") else type(out).__name__))
