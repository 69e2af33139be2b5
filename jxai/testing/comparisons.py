"""The contract of a comparison of two maps: `compare(a, b, *, options) -> scalar`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
import numpy as np

from jxai.testing.examples import Shape, attribution_map, shape_of
from jxai.testing.trial import Options, Trial, check_documentation, check_signature, close, finite, hold, stated_range


class ComparisonTrial(Trial):
    """A comparison of two maps that are alike."""

    def __init__(self, fn: Callable, shape: Shape, options: Options, symmetric: bool) -> None:
        super().__init__(fn, options, shape)
        self.symmetric = symmetric
        self.a = np.asarray(attribution_map(shape))
        self.b = self.a + np.asarray(attribution_map(shape, 1))

    @functools.cached_property
    def first(self) -> np.ndarray:
        return self.main(self.a, self.b)


def check_comparison(
    fn: Callable,
    *,
    options: Options = None,
    shape: str | Shape = "image",
    symmetric: bool = True,
    clauses: Collection[str] | None = None,
) -> None:
    """Checks a comparison of two maps against its contract.

    Args:
      fn: `compare(a, b, *, options) -> scalar`, a module-level function.
      options: some to try it with, or a function of the maps' shape that makes them.
      shape: of the maps, of `SHAPES` or a shape.
      symmetric: whether `compare(a, b)` is `compare(b, a)`.
      clauses: some of `COMPARISON_CLAUSES`, all by default.

    Raises:
      AssertionError: a sentence that says which clause is broken, and how.
    """
    trial = ComparisonTrial(fn, shape_of(shape), options, symmetric)
    hold([trial], COMPARISON_CLAUSES, clauses)


def _signature(t: ComparisonTrial) -> None:
    check_signature(t.fn, ("a", "b"), given=t.options)


def _documentation(t: ComparisonTrial) -> None:
    check_documentation(t.fn, ("Range", "Direction", "Cost", "Reference"))


def _result(t: ComparisonTrial) -> None:
    result = t.first
    t.require(getattr(result, "shape", None) == (), f"returns shape {getattr(result, 'shape', None)}: a comparison of two maps is one scalar")
    t.require(result.dtype == np.float32, f"returns {result.dtype}: a comparison is float32 whatever the maps are")
    t.require(finite(result), "returns NaN or infinity for two maps that are finite")
    low, high = stated_range(t.fn)
    t.require(low - 1e-5 <= result <= high + 1e-5, f"returns {result:g}, outside the range [{low:g}, {high:g}] that its docstring states")
    same = t.main(t.a, t.a)
    if np.isfinite([low, high]).any():
        end = min(abs(same - low), abs(same - high))
        t.require(end < 1e-4, f"returns {same:g} for a map and itself, which is no end of the range [{low:g}, {high:g}] that its docstring states")
    if t.symmetric:
        t.require(close(t.main(t.b, t.a), result, 1e-5), "returns another number for (b, a) than for (a, b) (symmetric=False where that is meant)")
    # Of few entries, the largest may be the same in two maps.
    others = (t.main(t.a, np.asarray(attribution_map(t.shape, seed))) for seed in range(1, 9))
    t.require(any(not np.array_equal(same, other) for other in others), "returns the same for other maps: it does not look at both")


def _bad_maps(t: ComparisonTrial) -> None:
    for bad in (np.nan, np.inf):
        spoiled = t.a.copy()
        spoiled[(0,) * spoiled.ndim] = bad
        for pair in ((spoiled, t.b), (t.b, spoiled)):
            t.require(np.isnan(t.main(*pair)).all(), f"gives a number for a map with an entry of {bad}: it must give NaN")
    for pair in ((np.zeros_like(t.a), t.b), (t.a, np.ones_like(t.b)), (np.ones_like(t.a), np.ones_like(t.a))):
        t.require(finite(t.main(*pair)), "gives NaN or infinity where a map is constant: it must give a number that its docstring states")


def _errors(t: ComparisonTrial) -> None:
    t.refuses("maps of unequal shapes", "shape", t.a, t.b[:-1])
    t.refuses("a map of integers", "floating", (t.a * 10).astype(np.int32), t.b)
    t.traces_every_name(t.refuses_unknown_names(t.a, t.b), t.a, t.b)


def _eager(t: ComparisonTrial) -> None:
    t.require(close(t.plainly(t.a, t.b), t.first, 1e-5), "returns another number under jit than without it")


def _batched(t: ComparisonTrial) -> None:
    many = np.stack([t.a, t.b, 0.5 * t.a - t.b])
    loop = np.stack([t.main(one, t.b) for one in many])
    t.require(close(t.program(jax.vmap(t.bound(), (0, None)))(many, t.b), loop, 1e-5), "returns another number under vmap than in a loop")


def _half(t: ComparisonTrial) -> None:
    a, b = (v.astype(jnp.float16) for v in (t.a, t.b))
    half, single = t.main(a, b), t.main(a.astype(np.float32), b.astype(np.float32))
    t.require(half.dtype == np.float32, f"returns {half.dtype} for maps of float16: a comparison is float32 whatever the maps are")
    t.require(close(half, single, 1e-5), "returns another number for maps of float16 than for the same maps in float32")


COMPARISON_CLAUSES: dict[str, Callable[[ComparisonTrial], None]] = {
    "signature": _signature,
    "documentation": _documentation,
    "result": _result,
    "bad maps": _bad_maps,
    "errors": _errors,
    "eager": _eager,
    "batched": _batched,
    "half": _half,
}
"""The clauses of the contract, by name."""
