"""What replaces a removed position: `remove(x, m, fill) = m · x + (1 − m) · fill`, m in [0, 1], 1 keeps.

A fill is a number, an array that broadcasts against x, or one of the frozen dataclasses below (anything callable as
`fill(x, m, key)` with an attribute `per_mask`). Methods, metrics and baselines share them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.removal.harmonic import harmonic
from jxai.removal.masks import positions
from jxai.scores import wide
from jxai.typing import Array, Fill

FillLike = float | Array | Fill


def resolve(fill: FillLike, x: Array, m: Array | float, key: Array | None = None) -> Array:
    """The array that a fill stands for, in x's dtype; it broadcasts against x."""
    if callable(fill):
        return fill(x, jnp.asarray(m), key).astype(x.dtype)
    shape = jnp.shape(fill)
    if len(shape) > x.ndim or any(a not in (1, b) for a, b in zip(shape[::-1], x.shape[::-1])):
        raise ValueError(f"fill has shape {shape}, which does not broadcast against x of shape {x.shape}")
    return jnp.asarray(fill, x.dtype)


def fixed(fill: FillLike, x: Array, key: Array | None = None) -> FillLike:
    """The fill as an array where it depends on x alone, so that a loop over masks computes it once; a number stays one."""
    keep = isinstance(fill, (int, float)) or getattr(fill, "per_mask", False)
    return fill if keep else resolve(fill, x, 0.0, key)


def remove(x: Array, m: Array, fill: FillLike = 0.0, key: Array | None = None) -> Array:
    """`m · x + (1 − m) · fill`: x where m is 1, the fill where it is 0.

    Args:
      x: `[...]`. m: broadcasts against x, in [0, 1]. fill: see the module. key: for fills that draw noise.
    """
    m = jnp.asarray(m, x.dtype)
    if not callable(fill) and np.ndim(fill) == 0 and isinstance(fill, (int, float)) and fill == 0:
        return m * x
    value = resolve(fill, x, m, key)
    return value + m * (x - value)


def remover(x: Array, fill: FillLike = 0.0, key: Array | None = None) -> Callable[[Array, Array], Array]:
    """`removed(m, i) = remove(x, m, fill, fold_in(key, i))` for a loop over masks: what depends on x alone is made once."""
    value = fixed(fill, x, key)
    return lambda m, i: remove(x, m, value, None if key is None else jax.random.fold_in(key, i))


def baseline(value: FillLike, x: Array, key: Array | None = None) -> Array:
    """A whole example of fill, x's shape: where a path starts."""
    return jnp.broadcast_to(resolve(value, x, jnp.zeros_like(x), key), x.shape)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean of every channel of x over its positions (of a vector: the mean of its entries)."""

    per_mask = False

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array:
        v = wide(x)
        return v.mean(axis=tuple(range(len(positions(x)))), keepdims=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blur:
    """x blurred by a Gaussian of standard deviation `sigma` in positions, edges reflected, cut at 4 sigma.

    The boundary and the cut are `scipy.ndimage.gaussian_filter(mode="reflect")`'s. Video is blurred frame by frame.
    """

    sigma: float = dataclasses.field(default=10.0, metadata={"static": True})
    per_mask = False

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array:
        return gaussian_blur(x, self.sigma)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Uniform:
    """Independent uniform noise in [low, high) for every entry of x, drawn anew for every mask."""

    low: float | Array = 0.0
    high: float | Array = 1.0
    per_mask = True

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array:
        if key is None:
            raise ValueError("fills.Uniform draws random numbers: key=None must be a jax.random.key(…)")
        return jax.random.uniform(key, x.shape, jnp.float32, self.low, self.high)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Noisy-linear imputation: every removed pixel is the weighted mean of its eight neighbours, plus noise.

    Solves `p_i · Σ_j w_ij = Σ_j w_ij p_j` over the removed pixels (those with m < ½) by conjugate gradients with a multigrid
    preconditioner; w is 1/6 for an edge neighbour and 1/12 for a diagonal one, and rows are renormalised at the border.
    Where nothing is kept it is the channel's mean. For `[H, W, C]` and, frame by frame, `[T, H, W, C]`.

    Attributes:
      noise: standard deviation of the Gaussian noise that is added; 0 needs no key.
      tol: relative residual at which the solver stops. steps: its iterations at most.

    Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods" (ROAD).
    """

    noise: float = dataclasses.field(default=0.01, metadata={"static": True})
    tol: float = dataclasses.field(default=1e-4, metadata={"static": True})
    steps: int = dataclasses.field(default=100, metadata={"static": True})
    per_mask = True

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array:
        if x.ndim < 3:
            raise ValueError(f"fills.Neighbours needs an image [H, W, C] or a video, got x of shape {x.shape}")
        if self.noise and key is None:
            raise ValueError("fills.Neighbours adds noise: key=None must be a jax.random.key(…), or noise=0")
        v = wide(x)
        known = jnp.broadcast_to(m >= 0.5, x.shape[:-1] + (jnp.shape(m)[-1:] or (1,)))
        planes, where = (jnp.moveaxis(a, -1, -3) for a in (v, known))
        filled = jnp.moveaxis(harmonic(planes, where, self.tol, self.steps), -3, -1)
        noise = self.noise * jax.random.normal(key, x.shape) if self.noise else 0.0
        return jnp.where(known, v, filled + noise)


def gaussian_blur(x: Array, sigma: float, truncate: float = 4.0, padding: str = "symmetric") -> Array:
    """Gaussian blur over the last two position axes (the only one of a vector), cut at `truncate · sigma`.

    Args:
      x: `[H, W, C]`, `[T, H, W, C]` or `[D]`. sigma: in positions, ≥ 0, static.
      padding: a mode of `numpy.pad`: "symmetric" is SciPy's "reflect"; "constant" pads by zeros.
    """
    if sigma < 0:
        raise ValueError(f"{sigma=} must be at least 0")
    radius = int(truncate * sigma + 0.5)
    if radius == 0:
        return x
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    v = wide(x)
    count = len(positions(x))
    for axis in range(max(0, count - 2), count):
        v = _along(v, _band(x.shape[axis], weights, padding), axis)
    return v.astype(x.dtype)


def _band(size: int, weights: np.ndarray, padding: Any) -> np.ndarray:
    """The blur along one axis as a matrix [size, size]: one small product is faster than a long convolution."""
    radius = len(weights) // 2
    source = np.pad(np.eye(size, dtype=np.float32), ((radius, radius), (0, 0)), mode=padding)
    windows = np.lib.stride_tricks.sliding_window_view(source, len(weights), axis=0)
    return windows @ weights


def _along(x: Array, matrix: np.ndarray, axis: int) -> Array:
    moved = jnp.tensordot(matrix, x, axes=(1, axis), precision="highest")
    return jnp.moveaxis(moved, 0, axis)
