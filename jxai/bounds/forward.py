"""Linear bounds in forward mode: every value of a model between two linear functions of x, from the first step to the last."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jxai.bounds.graph import Node
from jxai.bounds.interval import ROUNDINGS, Ranges, final, start, unit
from jxai.bounds.region import Interval, Region, magnitude
from jxai.bounds.rounding import SAFETY, slack
from jxai.bounds.rules.operations import Linear, LinearMap, Relaxation, Unary, times
from jxai.callables import plainly
from jxai.scores import one_of
from jxai.typing import Array, Model

__all__ = ["forward"]


class Form(NamedTuple):
    """`⟨lower_A, x⟩ + lower_b <= v <= ⟨upper_A, x⟩ + upper_b`: coefficients `[x.size, *shape]`, one object while both are equal."""

    lower_A: Array
    lower_b: Array
    upper_A: Array
    upper_b: Array

    @property
    def single(self) -> bool:
        return self.upper_A is self.lower_A and self.upper_b is self.lower_b


def forward(f: Model, *, rounding: str = "nearest") -> Callable[[Region], Interval]:
    """Forward linear bounds: two linear functions of x are pushed through every step, and every value's ends are taken from them.

    A linear step with weights W takes the mean m and half the difference d of both functions to `W m ∓ |W| d`. Tighter than IBP
    and, for few inputs, cheaper than CROWN: memory and time grow with the number of inputs rather than of neurons.

    Args:
      f: a model `x -> y`. rounding: "nearest" or "outward", as in `interval`.

    Returns:
      `(region) -> Interval`, as `interval` says; cut to IBP's.

    Raises:
      ValueError: (of the returned function) a bad region; a primitive of f without a rule, by name.

    Cost: two forward passes for each entry of x; memory for two coefficients of every entry of x in every entry of a layer.
    Reference: Xu et al. 2020, "Automatic Perturbation Analysis for Scalable Certified Robustness and Beyond", NeurIPS.
    """
    one_of("rounding", rounding, ROUNDINGS)
    return plainly(lambda region: final(forms(f, region, rounding)[0]))


def forms(f: Model, region: Region, rounding: str) -> tuple[Ranges, Form | None]:
    """The intervals of every value, and the form of the output; None where f is constant."""
    found = start(f, region, rounding)
    size, shape = math.prod(found.graph.input_shape), found.graph.input_shape
    eye = jnp.eye(size, dtype=found.region.lower.dtype).reshape(size, *shape)
    zero = jnp.zeros(shape, eye.dtype)
    known: dict[int, Form | None] = {found.graph.input: Form(eye, zero, eye, zero)}
    for node in found.graph.nodes:
        found.step(node)
        if found.known[node.output].lower.dtype == bool:
            known[node.output] = None
            continue
        form = _push(found, node, [known[r] for r in node.inputs])
        known[node.output] = form
        if not _entry_by_entry(node):
            found.tighten(node.output, concretised(found, form))
    return found, None if found.graph.constant is not None else known[found.graph.output]


def _entry_by_entry(node: Node) -> bool:
    """Whether the interval of a step is already what its form could give: a curve or a linear function of one entry, from ends that are known."""
    op = node.operation
    return len(node.inputs) == 1 and (isinstance(op, Unary) or (isinstance(op, Linear) and op.apart))


def concretised(found: Ranges, form: Form) -> Interval:
    """The least and the greatest value of a form over the region."""
    size = form.lower_A.shape[0]
    flat = {}
    for field in dataclasses.fields(found.region):
        value = getattr(found.region, field.name)
        flat[field.name] = value if field.name == "p" else value.reshape((size,) + (1,) * (form.lower_A.ndim - 1))
    region = dataclasses.replace(found.region, **flat)

    def reduce(values: Array, how: str) -> Array:
        return values.sum(0) if how == "sum" else values.max(0)

    lower, upper = region.least(form.lower_A, reduce) + form.lower_b, -region.least(-form.upper_A, reduce) + form.upper_b
    if found.rounding == "outward":
        room = slack(2 * mass(found, form), 2 * size + 16)
        lower, upper = lower - room, upper + room
    return Interval(lower, upper)


def combined(form: Form, rows: Array) -> Form:
    """The form of `⟨rows[i], v⟩` for a vector v, `rows [n, K]`."""
    return _mixed([form], lambda v: _dot(rows, v), lambda v: _dot(jnp.abs(rows), v))


def _dot(a: Array, b: Array) -> Array:
    return jnp.matmul(a, b, precision="highest")


def _push(found: Ranges, node: Node, inputs: list[Form | None]) -> Form:
    op = node.operation
    shape = node.shape
    if isinstance(op, Linear):
        form = _linear(op, inputs)
        if op.offset is not None:
            offset = jnp.broadcast_to(op.offset, shape)
            lower_b = form.lower_b + offset
            form = Form(form.lower_A, lower_b, form.upper_A, lower_b if form.single else form.upper_b + offset)
        relaxation = None
    else:
        relaxation = _computed_once(op.relax(found.known[node.output], [found.known[r] for r in node.inputs]), found)
        form = _lines(relaxation, inputs, shape, found)
    if found.rounding == "outward":
        error = _error(found, node, inputs, form, relaxation)
        form = Form(form.lower_A, form.lower_b - error, form.upper_A, form.upper_b + error)
    return form


def _linear(op: Linear, inputs: list[Form]) -> Form:
    if op.diagonal is not None:
        return _scaled(inputs[0], op.diagonal)
    if all(form.single for form in inputs):
        a, b = _mapped(op.map, *(form.lower_A for form in inputs)), op.map(*(form.lower_b for form in inputs))
        return Form(a, b, a, b)
    if all(op.signs):
        low = [(f.lower_A, f.lower_b) if s > 0 else (f.upper_A, f.upper_b) for f, s in zip(inputs, op.signs)]
        high = [(f.upper_A, f.upper_b) if s > 0 else (f.lower_A, f.lower_b) for f, s in zip(inputs, op.signs)]
        ends = [part for side in (low, high) for part in (_mapped(op.map, *(a for a, _ in side)), op.map(*(b for _, b in side)))]
        return Form(*ends)
    return _mixed(inputs, op.map, op.absolute)


def _mixed(inputs: list[Form], map_: Callable[..., Array], absolute: Callable[..., Array]) -> Form:
    """`map(mean) ∓ |map|(half the difference)`, of coefficients and constants."""
    means = [(0.5 * f.lower_A + 0.5 * f.upper_A, 0.5 * f.lower_b + 0.5 * f.upper_b) for f in inputs]
    halves = [(0.5 * f.upper_A - 0.5 * f.lower_A, 0.5 * f.upper_b - 0.5 * f.lower_b) for f in inputs]
    a, b = _mapped(map_, *(a for a, _ in means)), map_(*(b for _, b in means))
    da, db = _mapped(absolute, *(a for a, _ in halves)), absolute(*(b for _, b in halves))
    return Form(a - da, b - db, a + da, b + db)


def _scaled(form: Form, by: Array) -> Form:
    """The form times an array, entry by entry."""
    if form.single:
        a, b = form.lower_A * by, form.lower_b * by
        return Form(a, b, a, b)
    up = by >= 0
    lower = (jnp.where(up, form.lower_A, form.upper_A) * by, jnp.where(up, form.lower_b, form.upper_b) * by)
    upper = (jnp.where(up, form.upper_A, form.lower_A) * by, jnp.where(up, form.upper_b, form.lower_b) * by)
    return Form(*lower, *upper)


def _lines(relaxation: Relaxation, inputs: list[Form | None], shape: tuple[int, ...], found: Ranges) -> Form:
    size = math.prod(found.graph.input_shape)
    dtype = found.region.lower.dtype
    parts = [jnp.zeros((size, *shape), dtype), jnp.zeros(shape, dtype), jnp.zeros((size, *shape), dtype), jnp.zeros(shape, dtype)]
    for below, above, form in zip(relaxation.lower_maps, relaxation.upper_maps, inputs):
        for side, map_ in ((0, below), (2, above)):
            if map_ is not None and form is not None:
                mapped = _scaled(form, map_) if not isinstance(map_, LinearMap) else _mixed([form], map_.apply, map_.absolute or map_.apply)
                parts[side] = parts[side] + mapped[side]
                parts[side + 1] = parts[side + 1] + mapped[side + 1]
    if relaxation.lower is not None:
        parts[1] = parts[1] + relaxation.lower
    if relaxation.upper is not None:
        parts[3] = parts[3] + relaxation.upper
    return Form(*parts)


def _computed_once(relaxation: Relaxation, found: Ranges) -> Relaxation:
    """The relaxation with its arrays divided by 1.

    Else XLA on a CPU computes slopes and intercepts anew, by dozens of operations, for every entry of x in the loops over coefficients; a
    division it does not repeat. The 1 comes from the region, so that it is not seen to be one.
    """
    one = jnp.maximum(jnp.abs(found.region.lower.ravel()[0]) * 0, 1)

    def kept(values: tuple) -> tuple:
        return tuple(v if v is None or isinstance(v, LinearMap) else v / one for v in values)

    return Relaxation(kept(relaxation.lower_maps), kept(relaxation.upper_maps), *kept((relaxation.lower, relaxation.upper)))


def _mapped(map_: Callable[..., Array], *coefficients: Array) -> Array:
    return jax.vmap(map_)(*coefficients)


def mass(found: Ranges, form: Form) -> Array:
    """`Σ |A| |x| + |b|` of the greater side: what rounding of a form is relative to."""
    size = form.lower_A.shape[0]
    ends = magnitude(Interval(found.region.lower, found.region.upper)).reshape((size,) + (1,) * (form.lower_A.ndim - 1))
    lower = times(jnp.abs(form.lower_A), ends).sum(0) + jnp.abs(form.lower_b)
    return lower if form.single else jnp.maximum(lower, times(jnp.abs(form.upper_A), ends).sum(0) + jnp.abs(form.upper_b))


def _error(found: Ranges, node: Node, inputs: list[Form | None], form: Form, relaxation: Relaxation | None) -> Array:
    """What the step may be off: the operation's own error at the sizes of the forms, not of the values, since coefficients may cancel."""
    step = unit(node, form.lower_b.dtype)
    sizes = [found.known[r] if f is None else _around(mass(found, f)) for f, r in zip(inputs, node.inputs)]
    error = node.operation.error(sizes, _around(mass(found, form)), step)
    if relaxation is not None:
        for maps, constant in ((relaxation.lower_maps, relaxation.lower), (relaxation.upper_maps, relaxation.upper)):
            for map_, size in zip(maps, sizes):
                if map_ is not None and size.lower.dtype != bool:
                    error = error + 8 * step * ((map_.absolute or map_.apply)(size.upper) if isinstance(map_, LinearMap) else jnp.abs(map_) * size.upper)
            error = error if constant is None else error + 8 * step * jnp.where(jnp.isfinite(constant), jnp.abs(constant), 0)
    return SAFETY * jnp.broadcast_to(error, node.shape) + found.errors[node.output]


def _around(size: Array) -> Interval:
    return Interval(-size, size)
