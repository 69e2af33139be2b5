"""Backward linear bounds (CROWN): from linear functions of a value back to linear functions of x, step by step.

`⟨A, v⟩` with v computed by a linear step is `⟨Aᵀ-transposed, inputs⟩`; where v lies between two lines, the positive coefficients of a lower
bound go by the lower line and the negative ones by the upper. What is constant is added up on the way.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jxai.bounds.graph import Node
from jxai.bounds.interval import Ranges
from jxai.bounds.region import Interval, Region, magnitude
from jxai.bounds.rounding import SAFETY, slack
from jxai.bounds.rules.operations import Linear, LinearMap, Relaxation, times
from jxai.callables import transpose
from jxai.typing import Array

Reduce = Callable[[Array, int, str], Array]
"""`(products [n, *shape], reference, "sum" or "max") -> [n, …]`."""


class Pair(NamedTuple):
    """Coefficients `[n, *shape]` of a lower and of an upper bound; either may be None, and both are one object as long as they are equal."""

    lower: Array | None
    upper: Array | None

    def each(self, function: Callable[[Array], Array]) -> Pair:
        """The function of both, computed once where they are one."""
        lower = None if self.lower is None else function(self.lower)
        upper = lower if self.upper is self.lower else None if self.upper is None else function(self.upper)
        return Pair(lower, upper)

    def plus(self, other: Pair) -> Pair:
        """The sums; still one object where all four are two."""
        lower = None if self.lower is None else self.lower + other.lower
        if self.upper is self.lower and other.upper is other.lower:
            return Pair(lower, lower)
        return Pair(lower, None if self.upper is None else self.upper + other.upper)


def total(values: Array, reference: int, how: str) -> Array:
    """Takes all entries of a value together: `[n, *shape] -> [n]`."""
    flat = values.reshape(values.shape[0], -1)
    if how == "max":
        return flat.max(1)
    return flat.sum(1)


@dataclasses.dataclass
class Sums:
    """What a backward pass adds up: lower and upper constants, and how far they may be off."""

    reduce: Reduce
    outward: bool
    lower: Any = 0.0
    upper: Any = 0.0
    error_lower: Any = 0.0
    error_upper: Any = 0.0
    mass_lower: Any = 0.0
    mass_upper: Any = 0.0

    def add(self, pair: Pair, lower: Array | None, upper: Array | None, reference: int, guard: bool = False) -> None:
        """`⟨A⁺, lower⟩ + ⟨A⁻, upper⟩` to the lower bound, the reverse to the upper one; None counts as 0. guard: 0 · ∞ is 0."""
        product = times if guard else jnp.multiply
        for a, below, above, side in ((pair.lower, lower, upper, "lower"), (pair.upper, upper, lower, "upper")):
            if a is None or (below is None and above is None):
                continue
            if below is above:
                products = product(a, below)
            else:
                signed = ((jnp.maximum(a, 0), below), (jnp.minimum(a, 0), above))
                products = sum(product(part, constant) for part, constant in signed if constant is not None)
            setattr(self, side, getattr(self, side) + self.reduce(products, reference, "sum"))
            if self.outward:
                mass = sum(product(jnp.abs(a), jnp.abs(constant)) for constant in (below, above) if constant is not None)
                setattr(self, f"mass_{side}", getattr(self, f"mass_{side}") + self.reduce(mass, reference, "sum"))

    def add_error(self, pair: Pair, error: Array, reference: int) -> None:
        """`3 ⟨|A|, error⟩`, see `jxai.bounds.rounding`."""
        for a, name in ((pair.lower, "error_lower"), (pair.upper, "error_upper")):
            if a is not None:
                setattr(self, name, getattr(self, name) + SAFETY * self.reduce(times(jnp.abs(a), error), reference, "sum"))


class Whole:
    """What a backward pass sees: whole layers. (`jxai.bounds.windows` has another view.)"""

    def array(self, value: Array, reference: int) -> Array:
        """An array that belongs to a value, as it meets coefficients on it."""
        return value

    def linear(self, node: Node, pair: Pair, shapes: list[jax.ShapeDtypeStruct]) -> list[Pair]:
        """The coefficients on the inputs of a linear step."""
        op = node.operation
        if op.diagonal is not None:
            return [pair.each(lambda a: a * op.diagonal)]
        return [pair.each(lambda a, n=n: transposed(op.map, shapes, n)(a)) for n in range(len(shapes))]


def pull(
    found: Ranges,
    target: int,
    pair: Pair,
    sums: Sums,
    *,
    stop: Callable[[Node], bool] = lambda node: False,
    t: Mapping[int, Any] | None = None,
    view: Any = Whole(),
) -> dict[int, Pair]:
    """Takes coefficients on a value back through the graph.

    Args:
      found: the graph and what is known of its values. target: the value's reference. pair: the coefficients.
      sums: takes up the constants. stop: nodes at whose values to stop.
      t: by reference, the choices of lines (`Curve.lines`). view: the part of each layer that the coefficients are on.

    Returns:
      The coefficients on x, and on the values of the nodes where it stopped, by reference.
    """
    waiting, left = {target: pair}, {}
    for node in reversed(found.graph.nodes):
        here = waiting.pop(node.output, None)
        if here is None:
            continue
        if stop(node):
            left[node.output] = here
            continue
        op, inputs = node.operation, [found.known[r] for r in node.inputs]
        if isinstance(op, Linear):
            if op.offset is not None:
                offset = view.array(jnp.broadcast_to(op.offset, node.shape), node.output)
                sums.add(here, offset, offset, node.output)
            pulled = view.linear(node, here, [found_shape(found, r) for r in node.inputs])
        else:
            relaxation = op.relax(found.known[node.output], inputs, None if t is None else t.get(node.output))
            seen = _seen(relaxation, node, view)
            pulled = _through_lines(seen, here, [found_shape(found, r) for r in node.inputs], node, sums)
            if sums.outward:
                error = _line_error(relaxation, inputs, found.known[node.output])
                sums.add_error(here, view.array(error, node.output), node.output)
        if sums.outward:
            sums.add_error(here, view.array(found.errors[node.output], node.output), node.output)
        for reference, more in zip(node.inputs, pulled):
            if more is not None:
                kind = found.known[reference].lower.dtype  # a model may go on in a wider type than it began with
                if any(a is not None and a.dtype != kind for a in more):
                    more = more.each(lambda a, kind=kind: a.astype(kind))
                waiting[reference] = waiting[reference].plus(more) if reference in waiting else more
    left.update(waiting)
    return left


def found_shape(found: Ranges, reference: int) -> jax.ShapeDtypeStruct:
    """Shape and type of a value's bounds."""
    end = found.known[reference].lower
    return jax.ShapeDtypeStruct(end.shape, end.dtype)


def concretised(found: Ranges, left: dict[int, Pair], sums: Sums, view: Any = Whole()) -> Interval:
    """The least and the greatest value of what a backward pass left, over the region and the intervals where it stopped."""
    ends = closed(found, left, sums, view)
    lower, upper = ends
    for reference, pair in left.items():

        def reduce(values: Array, how: str, reference: int = reference) -> Array:
            return sums.reduce(values, reference, how)

        region = seen_region(found.region, reference, view) if reference == found.graph.input else _Ends(*found.known[reference])
        if pair.lower is not None:
            lower = lower + region.least(pair.lower, reduce)
        if pair.upper is not None:
            upper = upper - region.least(-pair.upper, reduce)
    return Interval(lower, upper)


def closed(found: Ranges, left: dict[int, Pair], sums: Sums, view: Any = Whole()) -> Interval:
    """The constants of a backward pass, with room for what rounding did to them and will do to what is left."""
    if not sums.outward:
        return Interval(sums.lower, sums.upper)
    for reference, pair in left.items():
        for a, name in ((pair.lower, "mass_lower"), (pair.upper, "mass_upper")):
            if a is not None:
                products = times(jnp.abs(a), view.array(magnitude(found.known[reference]), reference))
                setattr(sums, name, getattr(sums, name) + 2 * sums.reduce(products, reference, "sum"))
    terms = max([math.prod(found.graph.input_shape), *(math.prod(n.shape) for n in found.graph.nodes)]) + len(found.graph.nodes) + 16
    lower = sums.lower - 2 * sums.error_lower - slack(sums.mass_lower, terms)
    return Interval(lower, sums.upper + 2 * sums.error_upper + slack(sums.mass_upper, terms))


def seen_region(region: Region, reference: int, view: Any) -> Region:
    """The region's arrays as the view has them."""
    if isinstance(view, Whole):
        return region
    names = [field.name for field in dataclasses.fields(region) if field.name != "p"]
    return dataclasses.replace(region, **{name: view.array(getattr(region, name), reference) for name in names})


class _Ends(NamedTuple):
    """An interval where a pass stopped, whose ends may be infinite."""

    lower: Array
    upper: Array

    def least(self, a: Array, reduce: Callable[[Array, str], Array]) -> Array:
        return reduce(times(jnp.maximum(a, 0), self.lower) + times(jnp.minimum(a, 0), self.upper), "sum")


def _seen(relaxation: Relaxation, node: Node, view: Any) -> Relaxation:
    """The relaxation's arrays as the view has them."""
    if isinstance(view, Whole):
        return relaxation

    def arrays(values: tuple) -> tuple:
        return tuple(v if v is None or isinstance(v, LinearMap) else view.array(v, node.output) for v in values)

    ends = arrays((relaxation.lower, relaxation.upper))
    return Relaxation(arrays(relaxation.lower_maps), arrays(relaxation.upper_maps), *ends)


def transposed(map_: Callable[..., Array], shapes: list[jax.ShapeDtypeStruct], position: int = 0) -> Callable[[Array], Array]:
    """The transpose of a linear map in one of its inputs, for coefficients with a leading axis."""

    def alone(x: Array) -> Array:
        return map_(*(x if n == position else jnp.zeros(s.shape, s.dtype) for n, s in enumerate(shapes)))

    def apply(a: Array) -> Array:
        return jax.vmap(lambda one: transpose(alone, shapes[position], one))(a)

    return apply


def _through_lines(relaxation: Relaxation, pair: Pair, shapes: list[jax.ShapeDtypeStruct], node: Any, sums: Sums) -> list[Pair | None]:
    sums.add(pair, relaxation.lower, relaxation.upper, node.output, guard=True)
    pulled: list[Pair | None] = []
    for below, above, shape in zip(relaxation.lower_maps, relaxation.upper_maps, shapes):
        if below is None and above is None:
            pulled.append(None)
        elif below is above:
            pulled.append(pair.each(lambda a, m=below, s=shape: _back(m, a, s)))
        else:
            # The lower bound takes its positive part by the lower map; the upper bound the other way round.
            sides = [None if a is None else _parts(a, first, second, shape) for a, first, second in ((pair.lower, below, above), (pair.upper, above, below))]
            pulled.append(Pair(*sides))
    return pulled


def _parts(a: Array, positive: Array | LinearMap | None, negative: Array | LinearMap | None, shape: jax.ShapeDtypeStruct) -> Array:
    return _back(positive, jnp.maximum(a, 0), shape) + _back(negative, jnp.minimum(a, 0), shape)


def _back(map_: Array | LinearMap | None, a: Array, shape: jax.ShapeDtypeStruct) -> Array:
    if map_ is None:
        return jnp.zeros((a.shape[0], *shape.shape), a.dtype)
    return transposed(map_.apply, [shape])(a) if isinstance(map_, LinearMap) else a * map_


def _line_error(relaxation: Relaxation, inputs: list[Interval], value: Interval) -> Array:
    """What computing slopes, intercepts and their products in floating point may be off, as an error of the value."""
    unit = float(jnp.finfo(value.lower.dtype).eps) / 2
    size = magnitude(value)
    for maps in (relaxation.lower_maps, relaxation.upper_maps):
        for m, x in zip(maps, inputs):
            if m is not None and not isinstance(m, LinearMap):  # what other maps may be off is in their operation's own error
                size = size + times(jnp.abs(m), magnitude(x))
    for constant in (relaxation.lower, relaxation.upper):
        size = size if constant is None else size + jnp.where(jnp.isfinite(constant), jnp.abs(constant), 0)
    return 8 * unit * size
