"""Interval bound propagation: the range of every value of a model from the ranges of what it is computed from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jxai.bounds.graph import Graph, Node, graph
from jxai.bounds.region import Interval, Region, checked, is_valid, magnitude
from jxai.bounds.rounding import outward, precision, widened
from jxai.bounds.rules.choices import Whole
from jxai.callables import plainly
from jxai.scores import one_of
from jxai.typing import Array, Model

__all__ = ["interval"]

ROUNDINGS = ("nearest", "outward")


@dataclasses.dataclass
class Ranges:
    """What is known of every value of a graph on a region.

    Attributes:
      graph, region: of which and where. rounding: "nearest" or "outward".
      known: intervals by reference; tighter ones may take their place. errors: rounding errors by reference (empty for "nearest").
    """

    graph: Graph
    region: Region
    rounding: str
    known: dict[int, Interval] = dataclasses.field(default_factory=dict)
    errors: dict[int, Array] = dataclasses.field(default_factory=dict)

    def step(self, node: Node) -> None:
        """Adds the interval of a node from those of its inputs."""
        inputs = [self.known[r] for r in node.inputs]
        value = node.operation.interval(*inputs)
        if value.lower.dtype == bool:
            self.known[node.output] = value
            return
        value = _broadcast(value, node.shape)
        if self.rounding == "outward":
            self.errors[node.output] = jnp.broadcast_to(_error(node, inputs, value), node.shape)
            value = widened(value, self.errors[node.output])
            if isinstance(node.operation, Whole):
                value = Interval(jnp.ceil(value.lower), jnp.floor(value.upper))
        self.known[node.output] = sane(value)

    def tighten(self, reference: int, found: Interval) -> None:
        """Cuts what is known of a value to another interval that holds for it as well."""
        known, found = self.known[reference], sane(found)
        kind = known.lower.dtype
        if found.lower.dtype != kind:  # found through what is computed in a wider type
            found = outward(Interval(*(end.astype(kind) for end in found)))
        lower, upper = jnp.maximum(known.lower, found.lower), jnp.minimum(known.upper, found.upper)
        # Rounding may have made two intervals that just touch miss one another.
        self.known[reference] = Interval(jnp.minimum(lower, known.upper), jnp.maximum(upper, known.lower))


def interval(f: Model, *, rounding: str = "nearest") -> Callable[[Region], Interval]:
    """Interval bounds: `interval(f)(region)` holds every value of f on the region, entry by entry.

    A linear step maps centre and radius, `W c + b ∓ |W| r`, a monotone one the ends. The cheapest of the bounds and the loosest:
    every value counts as independent of all others.

    Args:
      f: a model `x -> y`, y of any shape, whose values are numbers on the region (of the log or root of what is negative no bound holds).
        Any float type; bounds are computed in float32, or float64 where f or the region is.
      rounding: "nearest": bounds of the function in real numbers, up to the rounding of the bounds' own float32 arithmetic (about 1e-6
        relative). "outward": what f gives in real numbers and in floating point lies within; see `jxai.bounds.rounding`.

    Returns:
      `(region) -> Interval`, a pure function: it composes with `jit`, `vmap` (over regions and over models) and `grad`. Infinite where
      nothing is known (1/x on a region with x = 0), NaN for a traced region that is none (NaN, `lower > upper`).

    Raises:
      ValueError: (of the returned function) a bad region; a primitive of f without a rule, by name.

    Cost: two forward passes.
    Reference: Gowal et al. 2018, "On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models", arXiv 1810.12715.
    """
    one_of("rounding", rounding, ROUNDINGS)
    return plainly(lambda region: final(ranges(f, region, rounding)))


def ranges(f: Model, region: Region, rounding: str) -> Ranges:
    """The intervals of every value of f on a region."""
    found = start(f, region, rounding)
    for node in found.graph.nodes:
        found.step(node)
    return found


def start(f: Model, region: Region, rounding: str) -> Ranges:
    """The graph of f, with nothing known but the region."""
    region = checked(region)
    found = Ranges(graph(f, region, exact=rounding == "outward"), region, rounding)
    ends = Interval(region.lower, region.upper)
    found.known[found.graph.input] = outward(ends) if rounding == "outward" and region.p != float("inf") else ends
    return found


def final(found: Ranges) -> Interval:
    """What is known of the output; NaN where the region is none."""
    if found.graph.constant is not None:
        value = found.graph.constant
        known = Interval(value, value)
    else:
        known = found.known[found.graph.output]
    return masked(known, found.region)


def masked(known: Interval, region: Region) -> Interval:
    """The interval, or NaN for a traced region that is none."""
    valid = is_valid(region)
    return Interval(*(jnp.where(valid, end, jnp.nan) for end in known))


def sane(value: Interval) -> Interval:
    """NaN, which infinite ends lead to (∞ − ∞), as the end that says nothing."""
    return Interval(jnp.where(jnp.isnan(value.lower), -jnp.inf, value.lower), jnp.where(jnp.isnan(value.upper), jnp.inf, value.upper))


def unit(node: Node, *types: Any) -> float:
    """The coarsest of the model's unit of rounding at a value and of ours, whose bounds, and those of what it comes from, have these types."""
    return max(node.precision.unit, *(precision(dtype).unit for dtype in types))


def _broadcast(value: Interval, shape: tuple[int, ...]) -> Interval:
    return Interval(*(jnp.broadcast_to(end, shape) for end in value))


def _error(node: Node, inputs: list[Interval], value: Interval) -> Array:
    """How far f may be off at this value, or our rule for it."""
    error = node.operation.error(inputs, value, unit(node, value.lower.dtype, *(b.lower.dtype for b in inputs)))
    if not node.precision.narrow():
        return error
    error = error + node.operation.flushed(inputs, node.precision.tiny)
    return jnp.where(magnitude(value) + error > node.precision.largest, jnp.inf, error)
