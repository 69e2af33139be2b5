"""Concept relevance propagation: the part of an explanation that runs through chosen channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.relevance import Composite, Relevance, propagate, propagate_each
from jxai.relevance.places import channel_numbers
from jxai.tracing import taps
from jxai.typing import Array, Model

__all__ = ["channel_maps", "conditional"]


@plainly
def conditional(
    f: Model,
    x: Array,
    target: int | Array | None,
    conditions: Mapping[Any, Any],
    *,
    exclude_parallel: bool = True,
    at: Sequence[int | str] = (),
    composite: str | Composite = "epsilon_plus_flat",
    **options: Any,
) -> Relevance:
    """CRP: relevance that passes through these channels, `R_i = Σ_j (share of i in j) θ_j R_j` with a mask θ at each layer that is named.

    With f and x fixed, `jax.vmap` over masks gives the maps of many channels with one forward pass.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class, or None where f returns a scalar.
      conditions: `{layer: channels}`; layers as `jxai.taps.find` names them, channels as numbers, or as a mask that broadcasts against the layer's value (an array of
        booleans or floats). An empty list lets nothing through. Masks of several layers multiply.
      exclude_parallel: keep only paths through all the layers, in their order (the paper's); else what bypasses a layer flows on.
      at: layers whose relevance is returned, too. composite: as in `jxai.relevance.propagate`, and **options: its others.

    Returns:
      The conditional map, what was absorbed on the way, and relevance at `at`.

    Raises:
      ValueError: no layer, one that the score does not pass, layers that do not follow one another, a channel out of range; see also `jxai.relevance.propagate`.

    Cost: 1 forward pass and 1 relevance pass.
    Reference: Achtibat et al. 2023, "From attribution maps to human-understandable explanations through Concept Relevance Propagation", Nature Machine Intelligence.
    """
    if not conditions:
        raise ValueError("conditions={} must name a layer and its channels, as in {'conv5': [3, 17]}; without any it is jxai.relevance.propagate")
    return propagate(f, x, target, composite=composite, at=at, conditions=conditions, exclude_parallel=exclude_parallel, **options)


@plainly
def channel_maps(
    f: Model,
    x: Array,
    target: int | Array | None,
    layer: int | str,
    channels: Sequence[int] | Array | None = None,
    *,
    composite: str | Composite = "epsilon_plus_flat",
    chunk: int | None = None,
    **options: Any,
) -> Array:
    """The conditional map of each of many channels of a layer; what is above the layer is done once, for all.

    Args:
      f, x, target: as for `conditional`. layer: which (see `jxai.taps.find`). channels: their numbers; None is all.
      composite: a name or a `jxai.relevance.Composite`, and options: others of `jxai.relevance.propagate`.
      chunk: channels at once (None: `jxai.loops.at_once`), which bounds memory.

    Returns:
      `[n, *x.shape]`, in the order of `channels`. Over all channels they add up to the map of what runs through the layer.

    Raises:
      ValueError: as `conditional`.

    Cost: 1 forward pass, and one walk back from the layer for each channel.
    """
    numbers = np.asarray(channel_numbers(taps.find(f, x, layer)))
    count = int(numbers.max()) + 1
    chosen = np.arange(count) if channels is None else channels
    known = None if isinstance(chosen, jax.core.Tracer) else np.asarray(chosen)
    if known is not None and (known.ndim != 1 or not known.size or known.dtype.kind not in "iu" or known.min() < 0 or known.max() >= count):
        raise ValueError(f"{channels=} must be numbers from 0 to {count - 1}, the channels of {layer=}")
    masks = jnp.asarray(chosen).reshape(-1, *(1,) * numbers.ndim) == numbers
    return propagate_each(f, x, target, layer, masks, chunk=chunk, composite=composite, **options)
