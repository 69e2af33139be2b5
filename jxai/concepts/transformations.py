"""Random views of a picture: what is only there at one place, size and angle excites a network like noise, and looks like it.

A transformation is `transformation(picture [H', W', C] in [0, 1], shape (H, W, C), key, progress) -> [H, W, C]`, differentiable in the picture; `progress` goes
from 0 to 1. What is outside of the picture is grey, 0.5. Sizes are shares of the picture's, so that one setting suits nets of 32 and of 224 pixels.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from jxai.scores import within
from jxai.typing import Array

__all__ = ["Crops", "Transformation", "Views"]

_STATIC = {"static": True}
_OUTSIDE = 0.5
_UPRIGHT = 5 / 26
"""The share of views that lucid does not turn at all."""


class Transformation(Protocol):
    """A random view of a picture."""

    def __call__(self, picture: Array, shape: tuple[int, int, int], key: Array, progress: Array) -> Array: ...


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Views:
    """The whole picture, padded, moved, scaled, turned and moved again, in one resampling; lucid's numbers for its pictures of 128 pixels.

    Raises:
      ValueError: a field that is out of its range.
    """

    pad: float = dataclasses.field(default=12 / 128, metadata=_STATIC)
    """Grey that is put around, on each side, as a share of the size, at least 0."""
    jitter: float = dataclasses.field(default=8 / 128, metadata=_STATIC)
    """By how much views are moved, from end to end, as a share of the size, in [0, 1): cut off from what is seen."""
    scale: float = dataclasses.field(default=0.1, metadata=_STATIC)
    """Views are enlarged by a factor in [1 − scale, 1 + scale], in [0, 1)."""
    rotate: float = dataclasses.field(default=10.0, metadata=_STATIC)
    """They are turned by up to so many degrees in both directions, at least 0; one of five not at all."""
    jitter_after: float = dataclasses.field(default=4 / 128, metadata=_STATIC)
    """As `jitter`, along the turned axes."""

    def __post_init__(self) -> None:
        within(0.0, np.inf, pad=self.pad, rotate=self.rotate)
        within(0.0, np.nextafter(1.0, 0.0), jitter=self.jitter, scale=self.scale, jitter_after=self.jitter_after)

    def __call__(self, picture: Array, shape: tuple[int, int, int], key: Array, progress: Array) -> Array:
        """One view."""
        draws = jax.random.uniform(key, (7,), jnp.float32, -1.0, 1.0)
        zoom, upright = 1 + self.scale * draws[0], jnp.abs(draws[1]) < _UPRIGHT
        angle = jnp.where(upright, 0.0, math.radians(self.rotate) * draws[2])
        turn = jnp.stack([jnp.stack([jnp.cos(angle), -jnp.sin(angle)]), jnp.stack([jnp.sin(angle), jnp.cos(angle)])])
        seen = 1 + 2 * self.pad - self.jitter - self.jitter_after
        sides = np.asarray(picture.shape[:2], np.float32)
        # In pixels of the picture, from its middle: pixel i of n in a view stands for the middle of its cell.
        axes = [(np.arange(n, dtype=np.float32) + 0.5) / n - 0.5 for n in shape[:2]]
        grid = jnp.asarray(np.stack(np.meshgrid(*axes, indexing="ij"), -1)) * seen * sides + self.jitter_after / 2 * draws[5:] * sides
        at = jnp.matmul(grid / zoom, turn, precision="highest") + self.jitter / 2 * draws[3:5] * sides + (sides - 1) / 2
        return _sampled(picture, at)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Crops:
    """Squares of the picture, enlarged to what the network takes, and noise; Xplique's numbers for MACO.

    A crop's side is drawn from `N(s, spread²)` in [0.05, 1] as a share of the picture's, s falling evenly from `first` to `last`, its centre from `N(½, centre²)`.

    Raises:
      ValueError: a field that is out of its range.
    """

    first: float = dataclasses.field(default=0.5, metadata=_STATIC)
    """The mean side at the start, in (0, 1]."""
    last: float = dataclasses.field(default=0.05, metadata=_STATIC)
    """At the end."""
    spread: float = dataclasses.field(default=0.05, metadata=_STATIC)
    """Its standard deviation, at least 0."""
    centre: float = dataclasses.field(default=0.15, metadata=_STATIC)
    """The standard deviation of the centre, at least 0."""
    noise: float = dataclasses.field(default=0.04, metadata=_STATIC)
    """Of what is added, `N(0, noise²)` and uniform noise in ±noise / 2, as a share of the range, at least 0; 0.08 of Xplique's range from −1 to 1."""

    def __post_init__(self) -> None:
        within(np.nextafter(0.0, 1.0), 1.0, first=self.first, last=self.last)
        within(0.0, np.inf, spread=self.spread, centre=self.centre, noise=self.noise)

    def __call__(self, picture: Array, shape: tuple[int, int, int], key: Array, progress: Array) -> Array:
        """One crop."""
        places, normal, uniform = jax.random.split(key, 3)
        draws = jax.random.normal(places, (3,), jnp.float32)
        side = jnp.clip(self.first + (self.last - self.first) * progress + self.spread * draws[0], 0.05, 1.0)
        centre = 0.5 + self.centre * draws[1:]
        ends = np.asarray(picture.shape[:2], np.float32) - 1
        axes = [np.linspace(-0.5, 0.5, n, dtype=np.float32) if n > 1 else np.zeros(1, np.float32) for n in shape[:2]]
        at = (centre + side * np.stack(np.meshgrid(*axes, indexing="ij"), -1)) * ends
        noise = jax.random.normal(normal, shape, jnp.float32) + jax.random.uniform(uniform, shape, jnp.float32, -0.5, 0.5)
        return _sampled(picture, at) + self.noise * noise


def _sampled(picture: Array, at: Array) -> Array:
    """A picture `[H', W', C]` between its pixels, at places `[H, W, 2]`."""
    return jax.vmap(lambda plane: map_coordinates(plane, [at[..., 0], at[..., 1]], 1, "constant", _OUTSIDE), -1, -1)(picture)
