"""Linear operators of inverse problems, `y = A x`, as pytree callables of one image `[H, W, C]`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai import loops
from jxai.callables import transpose
from jxai.loops import scan
from jxai.typing import Array

__all__ = ["Convolve", "Inpaint", "Matrix", "ParallelBeam", "Raveled", "adjoint", "gaussian", "norm"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Matrix:
    """`y = M x`, of x flattened; `matrix [m, entries of x]`."""

    matrix: Array

    def __call__(self, x: Array) -> Array:
        return self.matrix @ x.reshape(-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Raveled:
    """Another operator, of which the output is raveled to a vector, as `jxai.counterfactual.run` wants it."""

    operator: Any

    def __call__(self, x: Array) -> Array:
        return self.operator(x).reshape(-1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inpaint:
    """`y = m ⊙ x`: what a mask (booleans over the positions or entries of x) lets through, 0 elsewhere."""

    mask: Array

    def __call__(self, x: Array) -> Array:
        mask = jnp.asarray(self.mask)
        return jnp.where(mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim)).astype(bool), x, 0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Convolve:
    """A blur, `y[i] = Σ_k kernel[k] x[i − k]` in every channel, 0 beyond the border; `kernel [h, w]` with odd sides, centred."""

    kernel: Array

    def __call__(self, x: Array) -> Array:
        sides = jnp.shape(self.kernel)
        if len(sides) != 2 or not all(side % 2 for side in sides) or x.ndim != 3:
            raise ValueError(f"kernel of shape {sides} must have two odd sides, and x three axes, got shape {x.shape}")
        kernel = jnp.flip(jnp.asarray(self.kernel, x.dtype))[..., None, None]
        padding = [(side // 2, side // 2) for side in sides]
        out = lax.conv_general_dilated(jnp.moveaxis(x, -1, 0)[..., None], kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.moveaxis(out[..., 0], 0, -1)


def gaussian(sigma: float, radius: int | None = None) -> Convolve:
    """The blur by a Gaussian of standard deviation `sigma` > 0 in pixels, cut at `radius` (3 sigma by default), its sum 1.

    Raises:
      ValueError: bad sigma.
    """
    if not sigma > 0:
        raise ValueError(f"{sigma=} must be positive")
    radius = math.ceil(3 * sigma) if radius is None else radius
    line = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    kernel = np.outer(line, line)
    return Convolve(jnp.asarray(kernel / kernel.sum(), jnp.float32))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ParallelBeam:
    """Tomography by parallel beams: the sums of an image along lines, `[angles, side, C]` of x `[side, side, C]`, 0 beyond the border.

    The image is turned by each angle by linear interpolation about its centre pixel `side // 2`, and its rows are summed (`skimage.transform.radon`).

    Attributes:
      angles: `[n]`, in degrees.
    """

    angles: Array

    def __call__(self, x: Array) -> Array:
        if x.ndim != 3 or x.shape[0] != x.shape[1]:
            raise ValueError(f"x must be a square image [side, side, C], got shape {x.shape}")
        centre = x.shape[0] // 2
        rows, columns = (axis - centre for axis in jnp.meshgrid(jnp.arange(x.shape[0]), jnp.arange(x.shape[0]), indexing="ij"))

        def turned(angle: Array) -> Array:
            cos, sin = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
            at = [cos * rows - sin * columns + centre, sin * rows + cos * columns + centre]
            sample = lambda channel: jax.scipy.ndimage.map_coordinates(channel, at, order=1, mode="constant")
            return jax.vmap(sample, -1, -1)(x).sum(0)

        return loops.map(turned, jnp.asarray(self.angles, x.dtype))


def adjoint(operator: Any, like: Array) -> Any:
    """`y -> Aᵀ y` for an operator on examples of the shape and type of `like`."""
    return lambda y: transpose(lambda v: operator(v), like, y)


def norm(operator: Any, like: Array, steps: int = 30) -> Array:
    """`‖A‖₂` on examples like this, by power iteration from a fixed random start: a lower bound, close after some tens of steps."""
    start = jax.random.normal(jax.random.key(0), like.shape, like.dtype)
    back = adjoint(operator, like)

    def step(v: Array, _: None) -> tuple[Array, Array]:
        w = back(operator(v / jnp.maximum(jnp.sqrt((v**2).sum()), jnp.finfo(v.dtype).tiny)))
        return w, jnp.sqrt((w**2).sum())

    return jnp.sqrt(scan(step, start, None, length=steps)[1][-1])
