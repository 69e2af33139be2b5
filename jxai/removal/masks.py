"""Groups of positions, designs of points, and masks made from both.

A *position* of x is an index over all axes but the last (a vector's positions are its entries). Features are groups
of positions, named by an integer label map; a mask has x's rank and broadcasts against it.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.scores import need_key, one_of, positive
from jxai.typing import Array

SAMPLERS = ("sobol", "scrambled_sobol", "latin_hypercube", "halton", "monte_carlo")
INTERPOLATIONS = ("nearest", "bilinear")


class Features(NamedTuple):
    """`labels`: integer map over the positions of x, values in [0, num). `num`: how many features, static."""

    labels: Array | np.ndarray
    num: int


def positions(x: Array) -> tuple[int, ...]:
    """The shape of x's positions: all axes but the last; of a vector, the vector's own."""
    return x.shape[:-1] if x.ndim > 1 else x.shape


def position_shape(x: Array) -> tuple[int, ...]:
    """The shape of a map over positions that broadcasts against x: `[H, W, 1]` for an image, `[D]` for a vector."""
    return positions(x) + (1,) if x.ndim > 1 else x.shape


def as_map(values: Array, x: Array) -> Array:
    """The values in an attribution's precision: float32, or x's where that is wider; half precision would halve the ranks of a map."""
    return values.astype(jnp.promote_types(x.dtype, jnp.float32))


def features(x: Array, segments: Array | None = None, grid: int | tuple[int, ...] | None = None, num_segments: int | None = None) -> Features:
    """The features of x: a given label map, or a regular grid; by default every entry of a vector is one.

    Args:
      x: one example.
      segments: integer label map `[positions of x]`, labels from 0. What counts is which positions share a label, not the numbers: a concrete
        map's labels are numbered 0, 1, … in their order, without gaps (`dense`).
      grid: cells along every position axis (an integer or one for each axis), instead of segments.
      num_segments: the number of labels, static; needed where `segments` is traced. Where it is given, labels stay as they are: those outside
        `[0, num_segments)` belong to no feature and are always kept, and one without positions is no feature.

    Raises:
      ValueError: both or (for anything but a vector) neither of `segments` and `grid`; a grid larger than x; a label
        map of another shape, of no integers, or with negative labels; a traced map without `num_segments`.
    """
    if segments is not None and grid is not None:
        raise ValueError(f"give segments or grid, not both ({grid=})")
    if segments is None:
        if grid is None:
            if x.ndim > 1:
                raise ValueError(f"segments=None and grid=None: x of shape {x.shape} needs one of them")
            grid = x.shape[0]
        labels = regular(positions(x), grid)
        return Features(labels, int(labels.max()) + 1)
    segments = segments if hasattr(segments, "dtype") else np.asarray(segments)
    if not jnp.issubdtype(jnp.result_type(segments), jnp.integer) or jnp.shape(segments) != positions(x):
        raise ValueError(f"segments must be integers of shape {positions(x)}, got {jnp.result_type(segments)} {jnp.shape(segments)}")
    if isinstance(segments, jax.core.Tracer):
        if num_segments is None:
            raise ValueError("num_segments=None: under jit or vmap the number of segments must be given")
        return Features(segments, num_segments)
    # On the host: under jit, a reduction of a concrete JAX array would be a tracer.
    if num_segments is None:
        return Features(*dense(np.asarray(segments)))
    not_negative(np.asarray(segments))
    positive(num_segments=num_segments)
    return Features(jnp.asarray(segments), num_segments)


def dense(segments: np.ndarray, axes: int | None = None) -> tuple[np.ndarray, int]:
    """The same partitions with labels 0, 1, … without gaps, in the order of the given ones, int32; and how many labels one has at most.

    Args:
      segments: integers `[..., *positions]`, not negative. axes: how many position axes there are; None: all.
    """
    segments = not_negative(segments)
    axes = segments.ndim if axes is None else axes
    maps = segments.reshape(-1, *segments.shape[segments.ndim - axes :])
    found = [np.unique(one, return_inverse=True) for one in maps]
    labels = np.stack([labels.reshape(maps.shape[1:]) for _, labels in found]).astype(np.int32)
    return labels.reshape(segments.shape), max(len(values) for values, _ in found)


def not_negative(segments: np.ndarray) -> np.ndarray:
    """The label map; ValueError where a label is negative."""
    if segments.min() < 0:
        raise ValueError(f"segments must not be negative, got a label {segments.min()}")
    return segments


def present(of: Features) -> Array:
    """`[num]`, booleans: which labels have a position."""
    return jnp.zeros(of.num, bool).at[jnp.ravel(jnp.asarray(of.labels))].set(True, mode="drop", wrap_negative_indices=False)


def default_grid(x: Array, segments: Array | None, grid: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
    """`grid`, or where neither it nor segments is given: every entry of a vector, else 8 cells along every axis (or its length)."""
    if segments is not None or grid is not None:
        return grid
    return positions(x) if x.ndim == 1 else tuple(min(8, size) for size in positions(x))


def cells(shape: tuple[int, ...], grid: int | tuple[int, ...]) -> tuple[int, ...]:
    """The number of grid cells along every position axis; ValueError where one exceeds the axis."""
    counts = (grid,) * len(shape) if isinstance(grid, (int, np.integer)) else tuple(grid)
    if len(counts) != len(shape):
        raise ValueError(f"{grid=} must be an integer or {len(shape)} of them, for positions of shape {shape}")
    for count, size in zip(counts, shape):
        positive(grid=count)
        if count > size:
            raise ValueError(f"{grid=} is larger than the positions of x, {shape}")
    return counts


def regular(shape: tuple[int, ...], grid: int | tuple[int, ...]) -> np.ndarray:
    """Label map `[shape]` of a regular grid: position p of an axis of size n falls into cell ⌊p · g / n⌋; C order."""
    counts = cells(shape, grid)
    index = [np.arange(n) * g // n for n, g in zip(shape, counts)]
    return np.ravel_multi_index(np.meshgrid(*index, indexing="ij"), counts).astype(np.int32)


def spread(values: Array, labels: Array | np.ndarray, x: Array, outside: float = 0.0) -> Array:
    """Gives every position the value of its feature: `[num]` to `[H, W, 1]` (or `[D]`); no feature gets `outside`."""
    out = jnp.asarray(values).at[labels].get(mode="fill", fill_value=outside, wrap_negative_indices=False)
    return out.reshape(position_shape(x))


def upsample(values: Array, shape: tuple[int, ...], interpolation: str = "bilinear") -> Array:
    """Resizes `[g, …]` to `shape`, pixel centres at half-integers (`align_corners=False`).

    `interpolation`: "nearest", "bilinear" (linear along every axis) or "bicubic" (Keys, a = −½).
    """
    name = {"nearest": "nearest", "bilinear": "linear", "bicubic": "cubic"}
    return jax.image.resize(values, shape, name[one_of("interpolation", interpolation, name)], antialias=False)


def design(sampler: str, n: int, d: int, key: Array | None = None) -> Array:
    """n points in [0, 1)^d, float32 `[n, d]`.

    Args:
      sampler: "sobol" (the plain sequence from its second point on; no key), "scrambled_sobol" (the sequence with a
        random digital shift), "halton" (with a random shift modulo 1), "latin_hypercube", or "monte_carlo".
      n: number of points; d: dimension. key: for all but "sobol".

    The tables are constants made on the host by `scipy.stats.qmc`; the randomisation is traced, so the key may be a tracer.
    """
    one_of("sampler", sampler, SAMPLERS)
    positive(n=n, d=d)
    if sampler == "sobol":
        return jnp.asarray(_sobol(n, d).astype(np.float32) * np.float32(2.0**-24))
    need_key(key, f"sampler={sampler!r}")
    if sampler == "scrambled_sobol":
        shift = jax.random.bits(key, (d,), jnp.uint32) >> 8
        return (jnp.asarray(_sobol(n, d)) ^ shift).astype(jnp.float32) * 2.0**-24
    if sampler == "halton":
        from scipy.stats import qmc  # a heavy import, for this and `_sobol` alone

        table = qmc.Halton(d, scramble=False).random(n)
        return (jnp.asarray(table, jnp.float32) + jax.random.uniform(key, (d,))) % 1.0
    if sampler == "latin_hypercube":
        order, jitter = jax.random.split(key)
        rows = jax.vmap(lambda k: jax.random.permutation(k, n), out_axes=1)(jax.random.split(order, d))
        return jnp.minimum((rows + jax.random.uniform(jitter, (n, d))) / n, 1 - 2.0**-24)
    return jax.random.uniform(key, (n, d))


def _sobol(n: int, d: int) -> np.ndarray:
    """The first n points after the origin of the d-dimensional Sobol sequence, as 24-bit integers (exact in float32)."""
    from scipy.stats import qmc

    engine = qmc.Sobol(d, scramble=False, bits=24)
    engine.fast_forward(1)
    return np.rint(engine.random(n) * 2**24).astype(np.uint32)
