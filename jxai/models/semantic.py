"""A small autoencoder of scenes: a layout of parts that is given, and a style code for each part."""

import jax
import jax.numpy as jnp
from flax import nnx

from jxai.models.layers import Conv, check_input

__all__ = ["SemanticAutoencoder", "loss"]


class SemanticAutoencoder(nnx.Module):
    """`encode(x [H, W, C], segments [H, W]) -> codes [R, D]`, `decode(codes, segments) -> x`, after the semantic autoencoder of STEEX.

    The code of a part is a linear map of the mean of convolutional features over its positions. The decoder mixes at each position the code of its part
    with features of the layout there (convolutions of the one-hot labels and coordinates), by a network of that position alone: a code changes its own
    part and nothing else.

    Args:
      parts: R, labels are in [0, R). channels: C. code: D. features: channels of the convolutions. hidden: width of the network at each position.
    """

    def __init__(self, parts: int, channels: int = 1, *, code: int = 8, features: int = 16, hidden: int = 32, rngs: nnx.Rngs):
        self.parts, self.channels, self.code = parts, channels, code
        self.look = Conv(channels, features, 3, activation=nnx.relu, rngs=rngs)
        self.style = nnx.Linear(features + channels, code, rngs=rngs)
        self.layout = Conv(parts + 2, features, 3, activation=nnx.relu, rngs=rngs)
        self.mix = nnx.Linear(features + code, hidden, rngs=rngs)
        self.more = nnx.Linear(hidden, hidden, rngs=rngs)
        self.paint = nnx.Linear(hidden, channels, rngs=rngs)

    def encode(self, x: jax.Array, segments: jax.Array) -> jax.Array:
        """The codes `[R, D]`; of a part without positions, the code of nothing."""
        check_input(x, self.channels)
        member = self._members(segments, x.shape[:2])
        seen = jnp.concatenate([self.look(x), x], -1)
        mean = jnp.einsum("hwr,hwf->rf", member, seen) / jnp.maximum(member.sum((0, 1)), 1)[:, None]
        return self.style(mean)

    def decode(self, codes: jax.Array, segments: jax.Array) -> jax.Array:
        """The image in (0, 1) of parts with these codes."""
        if codes.shape != (self.parts, self.code):
            raise ValueError(f"codes must have shape {(self.parts, self.code)}, got {codes.shape}")
        member = self._members(segments, segments.shape)
        ways = (jnp.linspace(-1, 1, side) for side in segments.shape)
        where = jnp.stack(jnp.meshgrid(*ways, indexing="ij"), -1)
        layout = self.layout(jnp.concatenate([member, where], -1))
        mixed = nnx.relu(self.mix(jnp.concatenate([layout, member @ codes], -1)))
        return nnx.sigmoid(self.paint(nnx.relu(self.more(mixed))))

    def _members(self, segments: jax.Array, shape: tuple[int, ...]) -> jax.Array:
        if segments.shape != tuple(shape) or not jnp.issubdtype(segments.dtype, jnp.integer):
            raise ValueError(f"segments must be integer labels of shape {tuple(shape)}, got {segments.dtype} of shape {segments.shape}")
        return jax.nn.one_hot(segments, self.parts)


def loss(model: SemanticAutoencoder, x: jax.Array, segments: jax.Array, key: jax.Array | None = None) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean squared error of reconstructions.

    Args:
      x: `[B, H, W, C]`. segments: `[B, H, W]`. key: unused.

    Returns:
      The loss, and its parts: "reconstruction".
    """
    made = jax.vmap(lambda v, s: model.decode(model.encode(v, s), s))(x, segments)
    error = ((made - x) ** 2).mean()
    return error, {"reconstruction": error}
