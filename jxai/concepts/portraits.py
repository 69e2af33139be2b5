"""The channels that decided about one image, beside crops of the examples that stand for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jxai.batching import each
from jxai.callables import plainly
from jxai.concepts.channels import REDUCTIONS, by_channel, shares, sizes
from jxai.concepts.collection import BY
from jxai.concepts.conditional import channel_maps
from jxai.concepts.ranking import References
from jxai.concepts.reference_maps import ReferenceMap, crop, reference_map
from jxai.data import Source, load
from jxai.relevance import Composite, propagate
from jxai.scores import one_of, positive
from jxai.tracing import taps
from jxai.typing import Array, Model

_LEAST = 0.2
"""Of x along each axis, what a crop shows at least."""
_SHARE, _ROOM = 0.8, 1.3
"""Of what was seen, how much a crop holds along each axis; and how much wider it is."""


Seen = list[list[tuple[np.ndarray, np.ndarray]]]
"""For each channel, for each of its references, a picture and the map of what the channel saw in it."""


class Portrait(NamedTuple):
    """What is told of T channels.

    Attributes:
      channels: `[T]`, their numbers, most relevant first. share: `[T]`, of the sum of magnitudes over all channels of the layer, for x.
      maps: `[T, *shape of x]`, what of x was relevant for the class through each channel. index, value: `[T, count]`, its references' places in the data set and shares.
      crops: for each channel, for each reference that there is: the cropped picture and the cropped map of what the channel saw.
    """

    channels: np.ndarray
    share: np.ndarray
    maps: np.ndarray
    index: np.ndarray  # type: ignore[assignment]  # a tuple has a method of this name
    value: np.ndarray
    crops: Seen


@plainly
def portrait(
    f: Model,
    x: Array,
    target: int,
    layer: int | str | None,
    found: References,
    source: Source,
    *,
    by: str = "relevance",
    reduction: str = "sum",
    top: int = 8,
    channels: Sequence[int] | None = None,
    preprocess: Callable | None = None,
    batch_size: int | None = None,
    composite: str | Composite = "epsilon_plus_flat",
    **options: Any,
) -> Portrait:
    """The channels of a layer that were most relevant for a class of x, where each was in x, and what it saw in its references.

    Args:
      f: the model. x: an image. target: the class. layer: as `jxai.taps.find` takes it.
      found: the references of that layer's channels (`references`, `strongest`). source: the data set that they are places in. preprocess: uint8 pixels to x.
      by, reduction: what of x is shared among its channels, as in `collect`. top: how many channels. channels: these instead, in this order.
      batch_size: examples at once, as in `jxai.each`. composite, options: of `jxai.relevance.propagate`.

    Raises:
      ValueError: as `jxai.relevance.propagate`; `top` below 1; a channel that the layer does not have; references of a layer of another number of channels; a
        reference that cannot be read.

    Cost: 2 forward and relevance passes, for each channel a relevance pass from the layer down, and `reference_crops`.
    """
    one_of("by", by, BY)
    one_of("reduction", reduction, REDUCTIONS)
    positive(top=top)
    at = taps.find(f, x, layer)
    count, named = sizes(at)[1], at.index if layer is None else layer
    if len(found.index) != count:
        raise ValueError(f"found must hold references of the layer's {count} channels, got those of {len(found.index)}")
    task = {"layer": named, "composite": composite, **options}
    one = lambda value: np.asarray(value)[None]
    share = np.asarray(each(_shares, f, one(x), one(target), batch_size=1, by=by, reduction=reduction, **task))[0]
    chosen = np.argsort(-share, kind="stable")[:top] if channels is None else np.asarray(channels, int)
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= count:
        raise ValueError(f"channels={list(map(int, chosen))} must be in [0, {count})")
    maps = np.asarray(channel_maps(f, jnp.asarray(x), target, named, chosen, composite=composite, **options))
    crops = reference_crops(f, layer, found, source, chosen, preprocess=preprocess, batch_size=batch_size, composite=composite, **options)
    return Portrait(chosen, share[chosen], maps, found.index[chosen], found.value[chosen], crops)


@plainly
def reference_crops(
    f: Model,
    layer: int | str | None,
    found: References,
    source: Source,
    channels: Sequence[int] | np.ndarray,
    *,
    preprocess: Callable | None = None,
    batch_size: int | None = None,
    composite: str | Composite = "epsilon_plus_flat",
    **options: Any,
) -> Seen:
    """What some channels saw in their references: for each channel, for each reference that there is, the part of the picture that it was in, and the map of it.

    Args:
      f, layer, found, source, preprocess, batch_size, composite, options: as for `portrait`. channels: their numbers.

    Raises:
      ValueError: as `jxai.relevance.propagate`; a channel that the layer does not have, or a reference that cannot be read.

    Cost: for each reference a forward pass and a relevance pass from the layer down.
    """
    chosen = np.asarray(channels, int)
    if not chosen.size or chosen.min() < 0 or chosen.max() >= len(found.index):
        raise ValueError(f"channels={chosen.tolist()} must be in [0, {len(found.index)})")
    index, there = found.index[chosen], found.index[chosen] >= 0
    batch = load(source, index[there], None, preprocess)
    if batch.errors:
        place, error = next(iter(batch.errors.items()))
        raise ValueError(f"example {place} of {source.name}, a reference, cannot be read: {error}")
    at = taps.find(f, batch.x[0], layer)
    owners = np.repeat(np.arange(len(chosen)), there.sum(1))
    own_place = {"channel": chosen[owners], "position": found.position[chosen][there]}
    task = {"layer": at.index if layer is None else layer, "composite": composite, **options}
    seen = each(_seen, f, batch.x, per_example=own_place, batch_size=batch_size, **task)
    made: Seen = [[] for _ in chosen]
    for n, owner in enumerate(owners):
        own = ReferenceMap(np.asarray(seen.map[n]), np.asarray(seen.field[n]))
        box = tuple(slice(*span) for span in _roomy(crop(own, _SHARE), batch.x.shape[1:-1]))
        made[owner].append((batch.x[n][box], own.map[box]))
    return made


def _shares(f: Model, x: Array, target: Array, *, layer: int | str, by: str, reduction: str, **options: Any) -> Array:
    if by == "activation":
        found, value, _ = taps.split(f, x, layer)
    else:
        found, value = taps.find(f, x, layer), propagate(f, x, target, at=(layer,), **options).at[layer]
    return shares(by_channel(value, found, reduction).value)


def _seen(f: Model, x: Array, *, channel: Array, position: Array, layer: int | str, **options: Any) -> ReferenceMap:
    return reference_map(f, x, layer, channel, position, **options)


def _roomy(spans: Sequence[tuple[int, int]], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """A box around these spans within x, with some room and as long a share of x along every axis."""
    share = min(1.0, max(_LEAST, *(_ROOM * (end - begin) / size for (begin, end), size in zip(spans, shape))))
    box = []
    for (begin, end), size in zip(spans, shape):
        length = max(1, round(share * size))
        first = min(max(0, round((begin + end - length) / 2)), size - length)
        box.append((first, first + length))
    return box
