"""The contract of an uncertainty score: `score(f, x, key=None, *, fitted=None, options) -> scalar`, higher where f is less certain."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.testing.examples import Shape, example, network, shape_of
from jxai.testing.trial import Options, Trial, check_documentation, check_signature, close, finite, hold, stated_range
from jxai.typing import Array, PyTree


class ScoreTrial(Trial):
    """A score of a model whose logits are scaled: by 1, by 0 where all classes are alike to it, or by 20 where it is sure."""

    def __init__(self, fn: Callable, shape: Shape, options: Options, model: Callable, said: dict[str, Any]) -> None:
        super().__init__(fn, options, shape)
        self.said, self.model = said, model
        self.f, self.x = self.scaled(1), example(shape)
        self.key, self.other_key = jax.random.key(3), jax.random.key(77)
        self.fitted = said["fitted"]

    def scaled(self, scale: float, seed: int = 0) -> Callable:
        f = self.model(self.shape, seed)
        return jax.tree_util.Partial(_scaled, f, jnp.float32(scale)) if callable(f) else f

    def bound(self, **changes: Any) -> Callable:
        """As a function of `(f, x, key, fitted)`."""
        given = {**self.options, **changes}
        return lambda f, x, key, fitted: self.fn(f, x, key, **({} if fitted is None else {"fitted": fitted}), **given)

    def call(self, *, f: Any = None, x: Any = None, key: Any = None) -> np.ndarray:
        """The score, with some arguments others."""
        given = (self.f, self.x, self.key)
        return self.main(*(own if value is None else value for own, value in zip(given, (f, x, key))), self.fitted)

    @functools.cached_property
    def first(self) -> np.ndarray:
        return self.call()


def _scaled(f: Callable, scale: Array, x: Array) -> Array:
    return scale * f(x)


def check_score(
    fn: Callable,
    *,
    options: Options = None,
    shape: str | Shape = "vector",
    model: Callable[[Shape, int], Callable] = network,
    fitted: PyTree = None,
    keyed: bool | None = None,
    certain: tuple[Callable, Array] | None = None,
    uncertain: tuple[Callable, Array] | None = None,
    tolerance: float = 2e-5,
    clauses: Collection[str] | None = None,
) -> None:
    """Checks an uncertainty score against its contract.

    Args:
      fn: `score(f, x, key=None, *, fitted=None, options) -> scalar`, a module-level function.
      options: small ones to try it with, or a function of the shape of x that makes them.
      shape: of x, of `SHAPES` or a shape.
      model: `(shape, seed) -> f` with `CLASSES` logits; by default a small network. What is no function (a generator) is tried as it is: then `certain` and
        `uncertain` are needed.
      fitted: what `fit_NAME(arrays)` returned, for a score that is fitted.
      keyed: whether it must draw random numbers; None finds out, and asks only that it needs a key if and only if it does.
      certain, uncertain: `(f, x)` of which the first must score lower; by default the network with its logits times 20 and times 0, both at one x.
      tolerance: of results that are equal but for rounding.
      clauses: some of `SCORE_CLAUSES`, all by default.

    Raises:
      AssertionError: a sentence that says which clause is broken, and how.
    """
    said = dict(fitted=fitted, keyed=keyed, certain=certain, uncertain=uncertain, tolerance=tolerance)
    trial = ScoreTrial(fn, shape_of(shape), options, model, said)
    hold([trial], SCORE_CLAUSES, clauses)


def _signature(t: ScoreTrial) -> None:
    check_signature(t.fn, ("f", "x", "key"), given=t.options)
    if "fitted" in t.parameters:
        t.require(t.parameters["fitted"].default is None, "must have the default fitted=None")
    t.require(t.fitted is None or "fitted" in t.parameters, "has no option fitted, in which a score takes what fit_NAME returned")


def _documentation(t: ScoreTrial) -> None:
    check_documentation(t.fn, ("Range", "Cost", "Reference"))


def _result(t: ScoreTrial) -> None:
    result = t.first
    t.require(isinstance(result, np.ndarray) and result.shape == (), f"returns shape {getattr(result, 'shape', None)}: a score of one example is a scalar")
    t.require(result.dtype == np.float32, f"returns {result.dtype}: a score is float32 whatever x is")
    t.require(finite(result), "returns NaN or infinity for a finite x")
    low, high = stated_range(t.fn)
    t.require(low - 1e-5 <= result <= high + 1e-5, f"returns {result:g}, outside the range [{low:g}, {high:g}] that its docstring states")


def _weights(t: ScoreTrial) -> None:
    first, before = t.first, t.main.traces
    other = t.call(f=t.scaled(1, seed=1), key=t.other_key)
    t.stays_compiled(before, "new weights and another key")
    t.require(not np.array_equal(first, other), "returns the same for other weights: it does not look at the model")
    t.require(np.array_equal(first, t.call()), "returns another score for the same arguments: something outside them is drawn or kept")


def _fitted(t: ScoreTrial) -> None:
    if t.fitted is None:
        return
    leaves = jax.tree.leaves(t.fitted)
    known = dataclasses.is_dataclass(t.fitted) and leaves and all(isinstance(leaf, (jax.Array, np.ndarray)) for leaf in leaves)
    t.require(known, f"is fitted by a {type(t.fitted).__name__}: what fit_NAME returns is a registered dataclass whose leaves are arrays")
    first, before = t.first, t.main.traces
    t.main(t.f, t.x, t.key, jax.tree.map(np.array, t.fitted))
    t.stays_compiled(before, "another fit")
    other = t.main(t.f, t.x, t.key, jax.tree.map(lambda leaf: np.asarray(1.5 * leaf + 0.1, leaf.dtype) if leaf.dtype.kind == "f" else leaf, t.fitted))
    t.require(not np.array_equal(other, first), "returns the same for another fit: it does not look at fitted")


def _key(t: ScoreTrial) -> None:
    drawn = not np.array_equal(t.first, t.call(key=t.other_key))
    keyed = t.said["keyed"]
    t.require(keyed is None or keyed == drawn, f"is said to be keyed={keyed}, but its result {'depends' if drawn else 'does not depend'} on the key")
    if drawn:
        t.refuses("key=None, although it draws random numbers", "key=None", t.f, t.x, None, t.fitted)
    else:
        error = t.refusal(t.f, t.x, None, t.fitted)
        t.require(error is None, f"does not depend on the key, but fails without one: {error}")


def _direction(t: ScoreTrial) -> None:
    certain, uncertain = (t.said[word] or (t.scaled(scale), t.x) for word, scale in (("certain", 20), ("uncertain", 0)))
    low, high = (t.call(f=f, x=x) for f, x in (certain, uncertain))
    whose = (
        "the given (f, x)"
        if t.said["certain"]
        else "a model whose logits are all alike (certain= and uncertain= say of which, for a score that reads no logits)"
    )
    t.require(low < high, f"is {high:g} for {whose} and {low:g} for one that is sure: a score is higher where it is less certain")


def _errors(t: ScoreTrial) -> None:
    t.refuses("integer pixels as x", r"\bx\b.* must be", t.f, np.asarray(np.asarray(t.x) * 255, np.uint8), t.key, t.fitted)
    t.traces_every_name(t.refuses_unknown_names(t.f, t.x, t.key, t.fitted), t.f, t.x, t.key, t.fitted)


def _eager(t: ScoreTrial) -> None:
    plain = t.plainly(t.f, t.x, t.key, t.fitted)
    t.require(close(plain, t.first, t.said["tolerance"]), "returns another score under jit than without it")


def _batched(t: ScoreTrial) -> None:
    xs, keys = np.stack([example(t.shape, seed) for seed in range(3)]), jax.random.split(t.key, 3)
    loop = np.stack([t.call(x=x, key=key) for x, key in zip(xs, keys)])
    batched = t.program(jax.vmap(t.bound(), (None, 0, 0, None)))(t.f, xs, keys, t.fitted)
    t.require(close(batched, loop, t.said["tolerance"]), "returns another score under vmap than in a loop")


def _half(t: ScoreTrial) -> None:
    for dtype in (jnp.float16, jnp.bfloat16):
        half = t.call(x=example(t.shape, dtype=dtype))
        t.require(half.dtype == np.float32, f"returns {half.dtype} for x of {np.dtype(dtype)}: a score is float32 whatever x is")
        t.require(finite(half), f"returns NaN or infinity for x of {np.dtype(dtype)}")


SCORE_CLAUSES: dict[str, Callable[[ScoreTrial], None]] = {
    "signature": _signature,
    "documentation": _documentation,
    "result": _result,
    "weights": _weights,
    "fitted": _fitted,
    "key": _key,
    "direction": _direction,
    "errors": _errors,
    "eager": _eager,
    "batched": _batched,
    "half": _half,
}
"""The clauses of the contract, by name."""
