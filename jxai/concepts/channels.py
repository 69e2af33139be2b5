"""A layer's value by channel: what each channel holds in all, and where most of it is."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.relevance import Composite, propagate
from jxai.scores import one_of, wide
from jxai.tracing import taps
from jxai.typing import Array, Model

REDUCTIONS = ("sum", "max")
_SMALL = 1e-10


class Channels(NamedTuple):
    """What a layer holds by channel, each field `[C]`.

    Attributes:
      value: of each channel over all positions. position: where it is largest, a place in the layer's map counted row by row; 0 in a layer without positions.
    """

    value: Array
    position: Array


@plainly
def channel_relevance(
    f: Model,
    x: Array,
    target: int | Array | None,
    layer: int | str | None = None,
    *,
    composite: str | Composite = "epsilon_plus_flat",
    reduction: str = "sum",
    normalise: bool = False,
    **options: Any,
) -> Array:
    """How relevant each channel of a layer was for a class: `R_c = Σ_p R_{p,c}`, relevance at the layer's output summed over positions.

    Channels are what a layer's value has beside its positions: the feature maps of a convolution, the features of tokens. What has no position (a class token) counts, too. In a
    layer without positions (after the pooling, say) the last axis is the channels.

    Args:
      f: a model `x -> logits [K]`. x: one example. target: a class; None where f returns a scalar.
      layer: which, as `jxai.taps.find` takes it; None is the last with spatial extent.
      composite: a name or a `jxai.relevance.Composite`. options: others of `jxai.relevance.propagate` (`epsilon`, `bias`, `init` …).
      reduction: `"sum"` over positions, or `"max"`, the largest.
      normalise: shares `R_c / (Σ_c |R_c| + 1e-10)`, in [−1, 1], instead.

    Returns:
      `[C]`, raw and signed.

    Raises:
      ValueError: as `jxai.relevance.propagate`; no such layer; an unknown reduction.

    Cost: 1 forward and 1 relevance pass.
    Reference: Achtibat et al. 2023, "From attribution maps to human-understandable explanations through Concept Relevance Propagation", Nature Machine Intelligence.
    """
    one_of("reduction", reduction, REDUCTIONS)
    found = taps.find(f, x, layer)
    at = layer_name(layer, found)
    relevance = propagate(f, x, target, composite=composite, at=(at,), **options).at[at]
    value = by_channel(relevance, found, reduction).value
    return shares(value) if normalise else value


def by_channel(value: Array, layer: taps.Layer, reduction: str = "sum") -> Channels:
    """A layer's value by channel: its sum over all entries, or its largest at a position."""
    mapped, rest = laid_out(wide(value), layer)
    position = mapped.argmax(0).astype(jnp.int32)
    if reduction == "max":
        return Channels(mapped.max(0), position)
    total = mapped.sum(0)
    return Channels(total if rest is None else total.at[: rest.shape[1]].add(rest.sum(0)), position)


def laid_out(value: Array, layer: taps.Layer) -> tuple[Array, Array | None]:
    """`[P, C]`: a layer's value by position and channel; and `[n, C']` what of it has no position, where there is any."""
    if layer.grid is None:
        return value.reshape(-1, value.shape[-1] if value.ndim else 1), None
    mapped = taps.to_map(value, layer)
    moved = jnp.moveaxis(value, layer.grid.axes, range(len(layer.grid.axes)))
    moved = moved.reshape(np.prod([layer.shape[d] for d in layer.grid.axes], dtype=int), -1)
    left = np.setdiff1d(np.arange(moved.shape[0]), layer.grid.order)
    return mapped.reshape(-1, mapped.shape[-1]), moved[left] if len(left) else None


@plainly
def shares(value: Array) -> Array:
    """`v_c / (Σ_c |v_c| + 1e-10)`, `[…, C]`: what each channel has of all there is, in [−1, 1], so that sure and unsure decisions compare."""
    value = wide(jnp.asarray(value))
    return value / (jnp.abs(value).sum(-1, keepdims=True) + _SMALL)


def sizes(layer: taps.Layer) -> tuple[tuple[int, ...], int]:
    """The shape of a layer's map, `(1,)` of one without positions along its last axis, and how many channels it has."""
    if layer.grid is None:
        channels = layer.shape[-1] if layer.shape else 1
        return (int(np.prod(layer.shape[:-1], dtype=int)),), channels
    positions = int(np.prod([layer.shape[d] for d in layer.grid.axes], dtype=int))
    return layer.grid.shape, layer.grid.depth * (int(np.prod(layer.shape, dtype=int)) // positions)


def layer_name(layer: int | str | None, found: taps.Layer) -> int | str:
    """How to name a layer again that was found."""
    return found.index if layer is None else layer
