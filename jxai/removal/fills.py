"""What replaces a removed position: `remove(x, m, fill)` is x where m is 1, the fill where it is 0, and `m · x + (1 − m) · fill` between.

At both ends it is so to the bit, whatever the other side holds: a NaN or a code such as −999 that a model knows for "missing" may stand on
either. A fill is a number, an array that broadcasts against x, or one of the frozen dataclasses below (anything callable as
`fill(x, m, key)` with an attribute `per_mask`). Methods, metrics and baselines share them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.removal.harmonic import harmonic
from jxai.removal.masks import positions
from jxai.removal.scales import or_pictures
from jxai.scores import wide
from jxai.typing import Array, Fill

FillLike = float | Array | Fill


def resolve(fill: FillLike, x: Array, m: Array | float, key: Array | None = None) -> Array:
    """The array that a fill stands for, in x's dtype; it broadcasts against x."""
    check_fill(fill, x)
    if callable(fill):
        return fill(x, jnp.asarray(m), key).astype(x.dtype)
    return jnp.asarray(fill, x.dtype)


def check_fill(fill: FillLike, x: Array, name: str = "fill") -> None:
    """Raises ValueError unless the fill is callable and no class, or numbers that broadcast against x."""
    if inspect.isclass(fill):
        raise ValueError(f"{name}={fill.__name__} is a class: it must be one of its fills, {name}=fills.{fill.__name__}()")
    if callable(fill):
        return
    dtype = getattr(fill, "dtype", None)
    dtype = np.asarray(fill).dtype if dtype is None else dtype
    if not (jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)):
        raise ValueError(f"{name}={fill!r} must be a number, an array that broadcasts against x, or one of {', '.join(names())} of jxai.fills")
    shape = np.shape(fill)
    if len(shape) > x.ndim or any(a not in (1, b) for a, b in zip(shape[::-1], x.shape[::-1])):
        raise ValueError(f"{name} has shape {shape}, which does not broadcast against x of shape {x.shape}")


def names() -> dict[str, type]:
    """The fills by their names: `Mean()`, `Blur()` …"""
    return {f"{name}()": c for name, c in globals().items() if inspect.isclass(c) and hasattr(c, "per_mask") and c is not Fill}


def fixed(fill: FillLike, x: Array, key: Array | None = None) -> FillLike:
    """The fill as an array where it depends on x alone, so that a loop over masks computes it once; a number stays one."""
    keep = isinstance(fill, (int, float)) or getattr(fill, "per_mask", False)
    return fill if keep else resolve(fill, x, 0.0, key)


def remove(x: Array, m: Array, fill: FillLike = 0.0, key: Array | None = None) -> Array:
    """x where m is 1 and the fill where it is 0, to the bit; between them `m · x + (1 − m) · fill`.

    Args:
      x: `[...]`. m: broadcasts against x, in [0, 1] or boolean. fill: see the module. key: for fills that draw noise.
    """
    return mix(x, m, resolve(fill, x, m, key))


def mix(x: Array, m: Array | float, value: Array) -> Array:
    """x where m is 1 and the value where it is 0, to the bit; between them `value + m (x − value)`, made in float32 or wider.

    A derivative by m is `x − value` at both ends too, so that a search can leave them, and 0 where one of both is not finite; one by x or by the
    value is 0 where that is not shown, whatever the function that is differentiated does with the other.
    """
    m = jnp.asarray(m)
    if m.dtype == bool:
        return jnp.where(m, x, value)
    return _mix(m.astype(jnp.promote_types(x.dtype, jnp.float32)), x, jnp.asarray(value, x.dtype))


@jax.custom_jvp
def _mix(m: Array, x: Array, value: Array) -> Array:
    between = wide(value) + m * (wide(x) - wide(value))
    return jnp.where(m == 1, x, jnp.where(m == 0, value, between.astype(x.dtype)))


@_mix.defjvp
def _mix_jvp(primals: tuple[Array, ...], tangents: tuple[Array, ...]) -> tuple[Array, Array]:
    (m, x, value), (dm, dx, dvalue) = primals, tangents
    gap = wide(x) - wide(value)
    slope = jnp.where(jnp.isfinite(gap), gap, 0) * dm
    slope += jnp.where(m == 0, 0, m * jnp.where(m == 0, 0, wide(dx))) + jnp.where(m == 1, 0, (1 - m) * jnp.where(m == 1, 0, wide(dvalue)))
    return _mix(m, x, value), slope.astype(x.dtype)


def remover(x: Array, fill: FillLike = 0.0, key: Array | None = None) -> Callable[[Array, Array], Array]:
    """`removed(m, i) = remove(x, m, fill, fold_in(key, i))` for a loop over masks: what depends on x alone is made once."""
    value = fixed(fill, x, key)
    return lambda m, i: remove(x, m, value, None if key is None else jax.random.fold_in(key, i))


def mixer(name: str, x: Array, fill: FillLike = 0.0, key: Array | None = None) -> Callable[[Array, Array], Array]:
    """`remover`, for the method of that name, whose masks lie between 0 and 1, too.

    Raises:
      ValueError: x, or a fill, that is not finite, where they are concrete: between a number and NaN there is nothing.
    """
    check_finite(f"{name} mixes x with its fill; occlusion, feature_ablation and kernel_shap remove whole features", x=x, fill=fill)
    return remover(x, fill, key)


def baseline(value: FillLike, x: Array, key: Array | None = None) -> Array:
    """A whole example of fill, x's shape: where a path starts."""
    check_fill(value, x, "baseline")
    return jnp.broadcast_to(resolve(value, x, jnp.zeros_like(x), key), x.shape)


def path(name: str, value: FillLike, x: Array, key: Array | None = None) -> tuple[Array, Array]:
    """Both ends of a path, `(baseline, x)`, float32 or wider.

    Raises:
      ValueError: one of both is not finite, where it is concrete.
    """
    check_finite(f"{name} goes from a baseline to x; kernel_shap and shapley_sampling remove whole features", x=x, baseline=value)
    return wide(baseline(value, x, key)), wide(x)


def check_finite(why: str, **values: FillLike) -> None:
    """Raises ValueError where one of the named values is concrete and not finite."""
    for name, value in values.items():
        if not callable(value) and not isinstance(value, jax.core.Tracer) and not np.isfinite(np.asarray(value, np.float64)).all():
            raise ValueError(f"{name} must be finite: {why}")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean of every channel of a picture, video or series over its positions; entries that are NaN, which stand for missing, are left out.

    A vector has no such mean, for its entries have units of their own: give their data set's means as an array.
    """

    per_mask = False

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array:
        _not_a_table("Mean", x, "an array of its features' means over the data, or a number")
        return jnp.nanmean(wide(x), axis=tuple(range(x.ndim - 1)), keepdims=True)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Blur:
    """x blurred by a Gaussian of standard deviation `sigma` in positions, edges reflected, cut at 4 sigma.

    The boundary and the cut are `scipy.ndimage.gaussian_filter(mode="reflect")`'s. Video is blurred frame by frame, a series `[T, C]` along
    time. The features of a vector are no neighbours of one another: a signal is given as `[T, 1]`.
    """

    sigma: float = dataclasses.field(default=10.0, metadata={"static": True})
    per_mask = False

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array:
        _not_a_table("Blur", x, "a number or an array; a signal is an x of shape [T, 1]")
        return gaussian_blur(x, self.sigma)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Uniform:
    """Independent uniform noise in [low, high) for every entry of x, drawn anew for every mask.

    Attributes:
      low, high: numbers, or arrays that broadcast against x; None: 0 and 1 for pictures. Those of a vector or a series must be given.
    """

    low: float | Array | None = None
    high: float | Array | None = None
    per_mask = True

    def __call__(self, x: Array, m: Array, key: Array | None) -> Array:
        if key is None:
            raise ValueError("fills.Uniform draws random numbers: key=None must be a jax.random.key(…)")
        low, high = or_pictures("fills.Uniform's low", self.low, 0.0, x), or_pictures("fills.Uniform's high", self.high, 1.0, x)
        return jax.random.uniform(key, x.shape, jnp.float32, low, high)


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


def _not_a_table(name: str, x: Array, instead: str) -> None:
    if x.ndim == 1:
        raise ValueError(f"fills.{name}: x of shape {x.shape} is a vector, whose features have units of their own: give a fill for each, {instead}")


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
