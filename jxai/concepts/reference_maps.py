"""What a channel saw where: the map of one of its places, its receptive field, and the crop worth looking at."""

from __future__ import annotations

import math
import numbers
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jxai.callables import is_array, plainly
from jxai.concepts.channels import laid_out, layer_name, sizes
from jxai.relevance import Composite, propagate, propagate_from
from jxai.scores import one_of
from jxai.tracing import taps
from jxai.typing import Array, Model

STARTS = ("activation", "relevance")


class ReferenceMap(NamedTuple):
    """What one place of a channel saw.

    Attributes:
      map: x's shape, raw and signed; 0 outside of the field. field: `[axes, 2]`, from where to where along each position axis of x the place reads.
    """

    map: Array
    field: Array


@plainly
def reference_map(
    f: Model,
    x: Array,
    layer: int | str | None,
    channel: int | Array,
    position: int | Array,
    *,
    start: str = "activation",
    target: int | Array | None = None,
    composite: str | Composite = "epsilon_plus_flat",
    **options: Any,
) -> ReferenceMap:
    """What a channel of a layer saw at one place of x: relevance that starts at that one neuron and flows back to x.

    Args:
      f: the model. x: one example. layer: as `jxai.taps.find` takes it.
      channel: in [0, C). position: a place in the layer's map, counted row by row, as `References.position` gives it.
      start: `"activation"`: the neuron's own value is explained, whatever the class; `"relevance"`: its relevance for `target`.
      target: a class, by relevance; None where f returns a scalar.
      composite: a name or a `jxai.relevance.Composite`. options: others of `jxai.relevance.propagate`.

    Raises:
      ValueError: as `jxai.relevance.propagate`; an unknown start; a channel or a position that the layer does not have (of traced ones the map is NaN).

    Cost: 1 forward pass and 1 relevance pass from the layer down (by relevance: from the output).
    Reference: Achtibat et al. 2023, "From attribution maps to human-understandable explanations through Concept Relevance Propagation", Nature Machine Intelligence.
    """
    one_of("start", start, STARTS)
    found = taps.find(f, x, layer)
    shape, channels = sizes(found)
    _check(channel=(channel, channels), position=(position, math.prod(shape)))
    order = jnp.arange(math.prod(found.shape)).reshape(found.shape)
    entry = laid_out(order, found)[0].at[position, channel].get(mode="fill", fill_value=-1, wrap_negative_indices=False)
    at = layer_name(layer, found)
    options |= {"composite": composite, "conditions": {at: order == entry}}
    value = propagate(f, x, target, **options).map if start == "relevance" else propagate_from(f, x, at, None, **options).map
    return ReferenceMap(jnp.where(entry < 0, jnp.nan, value), _field(f, x, found, at, position))


@plainly
def crop(found: ReferenceMap, share: float = 0.9) -> tuple[tuple[int, int], ...]:
    """The part of a concrete map worth looking at: along each position axis the shortest span within the field that holds `share` of the map's magnitude.

    Args:
      share: in (0, 1].

    Returns:
      `(begin, end)` along each position axis of x, at least one place; the whole field where the map is 0.

    Raises:
      ValueError: a share outside of (0, 1], or a map that is not finite.
    """
    if not 0 < share <= 1:
        raise ValueError(f"{share=} must be in (0, 1]")
    magnitude, field = np.abs(np.asarray(found.map, np.float64)), np.asarray(found.field)
    if not np.isfinite(magnitude).all():
        raise ValueError("found.map must be finite")
    spans = []
    for axis, (begin, end) in enumerate(field.tolist()):
        line = magnitude.sum(tuple(d for d in range(magnitude.ndim) if d != axis))[begin:end]
        first, last = _shortest(line, share)
        spans.append((begin + first, begin + last))
    return tuple(spans)


def _shortest(line: np.ndarray, share: float) -> tuple[int, int]:
    """The shortest span that holds a share of a line's sum; the first of several."""
    sums = np.concatenate([[0.0], np.cumsum(line)])
    if sums[-1] <= 0:
        return 0, len(line)
    wanted = share * sums[-1] * (1 - 1e-12)
    ends = np.searchsorted(sums, sums[:-1] + wanted)  # for each begin the first end that holds enough
    lengths = np.where(ends <= len(line), ends - np.arange(len(line)), len(line) + 1)
    begin = int(lengths.argmin())
    return begin, begin + max(1, int(lengths[begin]))


def _field(f: Model, x: Array, found: taps.Layer, layer: int | str, position: int | Array) -> Array:
    if found.grid is None:
        return jnp.asarray(found.seen or [(0, size) for size in x.shape[:-1]], jnp.int32).reshape(-1, 2)
    places = jnp.unravel_index(jnp.asarray(position), found.grid.shape)
    return jnp.stack([jnp.asarray(spans, jnp.int32)[at] for spans, at in zip(taps.fields(f, x, layer), places)])


def _check(**given: tuple[int | Array, int]) -> None:
    for name, (value, size) in given.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole and not (is_array(value) and jnp.issubdtype(value.dtype, jnp.integer) and value.ndim == 0):
            raise ValueError(f"{name}={value!r} must be one integer in [0, {size})")
        if whole and not 0 <= value < size:
            raise ValueError(f"{name}={value} must be in [0, {size})")
