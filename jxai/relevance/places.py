"""Where in the parts of a program a layer is; masks and bounds that go there."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.relevance.parts import Parts, parts
from jxai.scores import wide
from jxai.tracing import interpret, taps
from jxai.tracing.choosing import Layer, find_in, listed
from jxai.typing import Array


class Place(NamedTuple):
    """A layer in a program: the value that relevance is read at and its shape, and the layer itself, whose own may have other axes of size 1."""

    value: int
    shape: tuple[int, ...]
    layer: Layer

    def laid(self, given: Array, lead: int = 0) -> Array:
        """What broadcasts against the layer's value (behind `lead` other axes), laid out as the value that relevance is read at."""
        if self.shape == self.layer.shape:
            return given
        ahead = given.shape[:lead]
        return jnp.broadcast_to(given, (*ahead, *self.layer.shape)).reshape(*ahead, *self.shape)


def reference(program: interpret.Program, traced: interpret.Traced, x: Array, layer: int | str, batch_norm: str) -> int:
    """The value of a layer, by reference: of a linear map what leaves it, unless something above the layer has no rule."""
    r = _located(program, find_in(traced, x, layer))
    try:
        return parts(program, batch_norm).owner.get(r, r)
    except ValueError:
        return r


def find(read: Parts, traced: interpret.Traced, x: Array, layer: int | str) -> Place:
    """Where a layer is.

    Of a linear map it is what leaves it, after its bias and after a batch norm that is folded into it; of an activation its value.

    Raises:
      ValueError: no such layer, or one that the score does not pass.
    """
    found = find_in(traced, x, layer)
    r = _located(read.program, found)
    r = read.owner.get(r, r)
    on_path = {o for part in read.list for o in part.outputs}
    if r not in on_path:
        known = [f"{item.index} {item.name or item.primitive}" for item in _listed(read, traced)]
        near = difflib.get_close_matches(str(found), known, 3, 0.2) or known[-3:]
        raise ValueError(f"{layer=} ({found}) is not on the path of relevance; layers that are: {'; '.join(near)}")
    shape = read.values.shape(r)
    if [size for size in shape if size > 1] != [size for size in found.shape if size > 1]:
        raise ValueError(f"{layer=} ({found}) is a step inside {read.program.makers[r].primitive!r}, whose value has shape {shape}; name that")
    return Place(r, shape, found)


def _listed(read: Parts, traced: interpret.Traced) -> list[Layer]:
    """The layers that relevance passes."""
    on_path = {o for part in read.list for o in part.outputs}
    return [item for item in listed(traced)[2] if read.owner.get(_located(read.program, item), _located(read.program, item)) in on_path]


def _located(program: interpret.Program, layer: Layer) -> int:
    """A layer's value in a program that has calls open which the layer's listing keeps whole."""
    exact = next((step for step in program.steps if step.path == layer.path), None)
    if exact is not None:
        return exact.outputs[layer.output]
    inside = [step for step in program.steps if step.path[: len(layer.path)] == layer.path]
    return inside[-1].outputs[-1]


def mask(place: Place, name: Any, condition: Any) -> Array:
    """A condition as a mask that broadcasts against its layer's value; True lets all through.

    Raises:
      ValueError: channels out of range, or a mask that does not broadcast.
    """
    shape = place.layer.shape
    if condition is True:
        return jnp.ones(())
    try:
        array = jnp.asarray(list(condition) if isinstance(condition, (set, range)) else condition)
    except (TypeError, ValueError):
        raise ValueError(
            f"conditions[{name!r}]={condition!r} must be channels by number, or a mask that broadcasts against the layer's value, {shape}"
        ) from None
    given = not isinstance(condition, (list, tuple, set, bool))
    if given and (array.dtype == bool or jnp.issubdtype(array.dtype, jnp.floating)):
        try:
            fits = np.broadcast_shapes(array.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"conditions[{name!r}] is a mask of shape {array.shape}, which must broadcast against the layer's value, {shape}")
        return place.laid(wide(array.astype(jnp.float32) if array.dtype == bool else array))
    chosen = array.reshape(-1)
    channels = channel_numbers(place.layer)
    count = int(channels.max()) + 1
    if chosen.size and not jnp.issubdtype(chosen.dtype, jnp.integer):
        raise ValueError(f"conditions[{name!r}]={condition!r} must be whole numbers; a mask is an array that broadcasts against the layer's value, {shape}")
    if not isinstance(chosen, jax.core.Tracer) and (wrong := [int(n) for n in np.asarray(chosen) if not 0 <= n < count]):
        raise ValueError(f"conditions[{name!r}] has the channels {wrong}, but layer {place.layer} has whole numbers 0 to {count - 1}")
    if chosen.size == 0:
        return jnp.zeros(())
    met = (jnp.asarray(channels)[..., None] == chosen).any(-1).astype(jnp.float32)
    return place.laid(jnp.where(((chosen >= 0) & (chosen < count)).all(), met, jnp.nan))  # of traced numbers, as of a traced target)


def channel_numbers(layer: Layer) -> np.ndarray:
    """For every entry of a layer's value the number of its channel; it broadcasts against the value. Without positions the last axis is the channels."""
    return np.arange(layer.shape[-1] if layer.shape else 1) if layer.grid is None else taps.channels(layer)


def check_path(read: Parts, conditions: Mapping[Any, Place], begins: int) -> None:
    """ValueError where no path from the start goes through all the conditions' layers."""
    by_value: dict[int, list[Any]] = {}  # a layer may be named twice
    for name, place in conditions.items():
        by_value.setdefault(place.value, []).append(name)
    met: list[Any] = []
    pending = {begins}
    for part in reversed(read.list):
        for r in part.outputs:
            if r in by_value and r in pending:
                pending = {r}
                met.extend(by_value[r])
        if not pending.isdisjoint(part.outputs):
            pending = (pending - set(part.outputs)) | set(part.inputs)
    missed = [name for name in conditions if name not in met]
    if missed:
        raise ValueError(f"conditions: no path goes through {missed[0]!r} and {met}; layers must follow one another, or give exclude_parallel=False")


def _told(bound: Any) -> str:
    return f"<array of shape {np.shape(bound)}>" if np.ndim(bound) else repr(bound)


def box(x: Array, low: Any, high: Any) -> tuple[Array, Array]:
    """The z-box of x, lower and upper.

    Raises:
      ValueError: x and the bounds are concrete, and it does not hold x.
    """
    sides = []
    for name, bound in (("low", low), ("high", high)):
        try:
            sides.append(jnp.broadcast_to(jnp.asarray(bound, x.dtype), x.shape))
        except (TypeError, ValueError):
            said = f"of shape {np.shape(bound)}" if hasattr(bound, "shape") else f"= {bound!r}"
            raise ValueError(f"{name} {said} must be a number, or broadcast against x, {x.shape}") from None
    if not any(isinstance(v, jax.core.Tracer) for v in (x, *sides)):
        inside = (np.asarray(sides[0]) <= np.asarray(x)) & (np.asarray(x) <= np.asarray(sides[1]))
        if not (inside | ~np.isfinite(np.asarray(x))).all():
            worst = float(np.asarray(x)[~inside].flat[0])
            raise ValueError(f"low={_told(low)} and high={_told(high)} must hold x, which has {worst}: give its range")
    return sides[0], sides[1]
