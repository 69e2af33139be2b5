"""What bounds are asked for: margins between classes, and the linear functions that bound a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.bounds.backward import Pair, Sums, closed, pull, total
from jxai.bounds.branching import by_cases
from jxai.bounds.forward import Form, combined, concretised, forms, forward, mass
from jxai.bounds.interval import Ranges, interval, ranges
from jxai.bounds.linear import check_options, crown, crown_ibp, crown_ranges, rows_at_once, specification
from jxai.bounds.optimized import alpha_crown, check, optimised, optimised_ranges
from jxai.bounds.region import Interval, Region, is_valid
from jxai.bounds.rounding import outward, slack
from jxai.bounds.rules.operations import Linear
from jxai.callables import plainly
from jxai.scores import check_target, logits_shape, one_of
from jxai.typing import Array, Model

__all__ = ["METHODS", "LinearBounds", "bound", "linear_bounds", "margins"]

METHODS = {"interval": interval, "forward": forward, "crown_ibp": crown_ibp, "crown": crown, "alpha_crown": alpha_crown}
"""The bounds by name, from the cheapest to the tightest."""


class LinearBounds(NamedTuple):
    """`⟨lower_A[k], x⟩ + lower_b[k] <= f(x)[k] <= ⟨upper_A[k], x⟩ + upper_b[k]` for all x in a region.

    `lower_A`, `upper_A`: `[*shape of f(x), *shape of x]`; `lower_b`, `upper_b`: `[*shape of f(x)]`.
    """

    lower_A: Array
    lower_b: Array
    upper_A: Array
    upper_b: Array


@plainly
def margins(
    f: Model,
    region: Region,
    label: int | Array,
    *,
    method: str = "crown",
    rounding: str = "nearest",
    chunk: int | None = None,
    steps: int = 20,
    learning_rate: float = 0.1,
    intermediate: bool = False,
    splits: int = 0,
) -> Array:
    """Lower bounds of `f(x)[label] − f(x)[j]` for all x in the region: positive for every other j, they prove that the class cannot change.

    The difference is bounded as one linear function of the last values that lines rest on, which is tighter than the difference of bounds.

    Args:
      f: a model `x -> logits [K]`. region: a `Box` or `ball(x, radius, p)`. label: a class.
      method: "interval", "forward", "crown_ibp", "crown" or "alpha_crown". rounding: "nearest" or "outward", as in `interval`.
      chunk: backward passes at once, as in `crown`. steps, learning_rate, intermediate: of `alpha_crown`, which optimises the margins themselves.
      splits: of `alpha_crown`, >= 0: bounds them in `2^splits` cases, by the signs of that many ReLUs' inputs, and takes the worst case.

    Returns:
      `[K]`, 0 at j = label; −∞ where nothing is known. NaN for a traced label or region that is none.

    Raises:
      ValueError: a bad region, label or option, f(x) that is no vector, a primitive of f without a rule.

    Cost: that of the method, with K specifications in place of 2 K bounds of logits.
    """
    one_of("method", method, METHODS)
    check_options(rounding, chunk)
    check(steps, learning_rate)
    if not isinstance(splits, int) or splits < 0 or (splits and method != "alpha_crown"):
        raise ValueError(f"{splits=} must be an integer of at least 0, and 0 but for method='alpha_crown', got {method=}")
    loose, form = _found(f, region, method, rounding, chunk, steps, learning_rate, intermediate)
    shape = loose.graph.shape
    logits_shape(jax.ShapeDtypeStruct(shape, jnp.float32))
    check_target(label, shape[0])
    dtype = loose.region.lower.dtype if loose.graph.constant is not None else loose.known[loose.graph.output].lower.dtype
    own = jax.nn.one_hot(label, shape[0], dtype=dtype)
    rows = own - jnp.eye(shape[0], dtype=own.dtype)
    if loose.graph.constant is not None:
        found = rows @ loose.graph.constant
    else:
        ends = loose.known[loose.graph.output]
        apart = (own * jnp.where(own > 0, ends.lower, 0)).sum() - ends.upper  # the difference of bounds, where they come for nothing
        found = jnp.maximum(_at_last_lines(loose, rows, chunk), outward(Interval(apart, apart)).lower if rounding == "outward" else apart)
        if method == "forward":
            found = jnp.maximum(found, _of_form(loose, form, rows))
        elif method == "alpha_crown":
            found = jnp.maximum(found, optimised(loose, loose.graph.output, rows, steps, learning_rate))
            if splits:
                worst = jnp.argmin(jnp.where(own > 0, jnp.inf, found))
                found = jnp.maximum(found, by_cases(loose, rows, worst, splits, steps, learning_rate, chunk))
        elif method != "interval":
            found = jnp.maximum(found, specification(loose, loose.graph.output, rows, chunk))
    found = jnp.where(own > 0, 0.0, jnp.where(jnp.isnan(found), -jnp.inf, found))
    inside = (jnp.asarray(label) >= 0) & (jnp.asarray(label) < shape[0]) & is_valid(loose.region)
    return jnp.where(inside, found, jnp.nan)


@plainly
def linear_bounds(
    f: Model,
    *,
    method: str = "crown",
    rounding: str = "nearest",
    chunk: int | None = None,
) -> Callable[[Region], LinearBounds]:
    """The linear functions of x between which f lies on a region, as CROWN or its kin find them.

    Args:
      f: a model `x -> y`. method: "interval" (constants), "forward", "crown_ibp" or "crown". rounding: "nearest" or "outward", as in
        `interval`; outward, the functions hold as they are evaluated in real numbers. chunk: outputs that go back at once.

    Returns:
      `(region) -> LinearBounds`.

    Raises:
      ValueError: an unknown method; (of the returned function) a bad region, a primitive of f without a rule.

    Cost: that of the method; memory for its coefficients, `2 · y.size · x.size`.
    """
    one_of("method", method, [name for name in METHODS if name != "alpha_crown"])
    check_options(rounding, chunk)

    def bounds(region: Region) -> LinearBounds:
        found, form = _found(f, region, method, rounding, chunk)
        return _masked(_lines(found, form, method, chunk), found)

    return bounds


@plainly
def bound(f: Model, region: Region, *, method: str = "crown", **options: Any) -> Interval:
    """`METHODS[method](f, **options)(region)`: any of the bounds by its name, in the form that `jxai.each` takes.

    Raises:
      ValueError: an unknown method, and what that method raises. TypeError: an option that it does not have.
    """
    return METHODS[one_of("method", method, METHODS)](f, **options)(region)


def _found(
    f: Model, region: Region, method: str, rounding: str, chunk: int | None, steps: int = 0, learning_rate: float = 0.0, intermediate: bool = False
) -> tuple[Ranges, Form | None]:
    """The intervals that a method's last lines rest on."""
    if method == "forward":
        return forms(f, region, rounding)
    if method in ("interval", "crown_ibp"):
        return ranges(f, region, rounding), None
    if method == "alpha_crown" and intermediate:
        return optimised_ranges(f, region, rounding, chunk, steps, learning_rate), None
    return crown_ranges(f, region, rounding, chunk, output=True), None


def _at_last_lines(found: Ranges, rows: Array, chunk: int | None) -> Array:
    """Through the linear steps at the end alone, to the intervals of what goes into them (Gowal et al.: elision of the last layer)."""
    return specification(found, found.graph.output, rows, chunk, stop=lambda node: not isinstance(node.operation, Linear))


def _of_form(found: Ranges, form: Form, rows: Array) -> Array:
    """`[n]`: the least values of `⟨rows[i], f(x)⟩` by the output's two functions."""
    lower = concretised(found, combined(form, rows)).lower
    if found.rounding == "outward":
        lower = lower - slack(2 * jnp.abs(rows) @ mass(found, form), rows.shape[1] + 16)
    return lower


def _lines(found: Ranges, form: Form | None, method: str, chunk: int | None) -> LinearBounds:
    shape, inputs = found.graph.shape, found.graph.input_shape
    if found.graph.constant is not None or method == "interval":
        ends = Interval(found.graph.constant, found.graph.constant) if found.graph.constant is not None else found.known[found.graph.output]
        zero = jnp.zeros((*shape, *inputs), ends.lower.dtype)
        return LinearBounds(zero, ends.lower, zero, ends.upper)
    if form is not None:
        lower_A, upper_A = (jnp.moveaxis(a, 0, -1).reshape(*shape, *inputs) for a in (form.lower_A, form.upper_A))
        room = slack(2 * mass(found, form), 2 * math.prod(inputs) + 16) if found.rounding == "outward" else 0.0
        return LinearBounds(lower_A, form.lower_b - room, upper_A, form.upper_b + room)
    size = math.prod(shape)

    def block(row: Array) -> LinearBounds:
        seeds = row.reshape(1, *shape)
        sums = Sums(total, found.rounding == "outward")
        pair = pull(found, found.graph.output, Pair(seeds, seeds), sums).get(found.graph.input)
        zero = jnp.zeros((1, *inputs), row.dtype)
        pair = Pair(zero, zero) if pair is None else pair
        ends = closed(found, {found.graph.input: pair}, sums)
        return LinearBounds(pair.lower[0], jnp.ravel(ends.lower)[0], pair.upper[0], jnp.ravel(ends.upper)[0])

    eye = jnp.eye(size, dtype=found.region.lower.dtype)
    out = loops.map(block, eye, batch_size=min(size, rows_at_once(found, chunk)))
    return LinearBounds(*(v.reshape(*shape, *v.shape[1:]) for v in out))


def _masked(bounds: LinearBounds, found: Ranges) -> LinearBounds:
    valid = is_valid(found.region)
    return LinearBounds(*(jnp.where(valid, v, jnp.nan) for v in bounds))
