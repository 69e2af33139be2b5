"""What a picture may excite, as functions that carry their model: made anew for another channel they compile nothing anew."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import Adapter, plainly
from jxai.tracing import taps
from jxai.typing import Array, Model

__all__ = ["Channel", "channel"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Channel(Adapter):
    """How much of a channel there is at x: its mean over all positions, or its value at one; made by `channel`."""

    f: Any
    """The model."""
    channel: Array
    """`[]`, an integer: an entry of the layer's last axis, or of what `jxai.taps.to_map` makes of a layer with positions."""
    layer: int | str | None = dataclasses.field(default=None, metadata={"static": True})
    """As `jxai.taps.find` takes it."""
    position: tuple[int, ...] | None = dataclasses.field(default=None, metadata={"static": True})
    """Of the layer's map; None is the mean over all."""

    def __call__(self, x: Array) -> Array:
        """`[]`; NaN for a traced channel that the layer does not have.

        Raises:
          ValueError: no such layer, position, or (where it is concrete) channel.
        """
        layer, value, _ = taps.split(self.f, x, self.layer)
        value = taps.to_map(value, layer) if layer.spatial else value
        if not isinstance(self.channel, jax.core.Tracer) and not 0 <= int(self.channel) < value.shape[-1]:
            raise ValueError(f"channel={int(self.channel)} must be one of {value.shape[-1]} of layer {layer}: 0 to {value.shape[-1] - 1}")
        one = jnp.take(value, self.channel, axis=-1, mode="fill", fill_value=jnp.nan)
        one = jnp.where(self.channel < 0, jnp.nan, one)  # which would count from the end
        if self.position is None:
            return one.mean()
        if len(self.position) != one.ndim or not all(0 <= at < n for at, n in zip(self.position, one.shape)):
            raise ValueError(f"position={self.position} must lie in the map {one.shape} of layer {layer}")
        return one[self.position]


@plainly
def channel(f: Model, layer: int | str | None, channel: int | Array, position: tuple[int, ...] | None = None) -> Channel:
    """An objective for `visualize`: the mean of one channel of a layer over its positions, or its value at one of them.

    The channel is an array, so that all channels of a layer are one program, and under `jax.vmap` one run of it:
    `jax.vmap(lambda c, k: visualize(channel(f, layer, c), shape, None, k))(jnp.arange(64), keys)`.

    Args:
      f: the model. layer: as `jxai.taps.find` takes it. channel: an integer, traced or not. position: one of the layer's map, None for the mean.

    Raises:
      ValueError: channel is no integer; when it is called, what the layer does not have.
    """
    if jnp.shape(channel) != () or isinstance(channel, (bool, np.bool_)) or not jnp.issubdtype(jnp.result_type(channel), jnp.integer):
        raise ValueError(f"{channel=} must be one integer; of several, jax.vmap")
    return Channel(f, jnp.asarray(channel), layer, position)
