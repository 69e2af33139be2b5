"""How alike two maps are: `compare(a, b, *, options) -> scalar`, of maps of equal shape, signed as they come.

A map that is not finite gives NaN; constant maps give a number that each docstring states.
"""

from __future__ import annotations

import math
import numbers
from functools import partial, reduce

import jax.numpy as jnp
import numpy as np
from jax import lax

from jxai.kernels.order import kth_largest, order_keys
from jxai.loops import fori_loop
from jxai.metrics import statistics
from jxai.metrics.common import nan_unless_finite
from jxai.scores import one_of, positive, wide, within
from jxai.typing import Array

__all__ = ["kendall", "pearson", "spearman", "ssim", "top_k_overlap"]

WINDOWS = ("gaussian", "uniform")
_K1, _K2 = 0.01, 0.03


def pearson(a: Array, b: Array) -> Array:
    """Pearson's correlation of all entries, `cov(a, b) / (σ_a σ_b)`.

    Args:
      a, b: two maps of one shape, floating point.

    Returns:
      float32; 0 where either map is constant.

    Raises:
      ValueError: maps of unequal shapes, or that are not floating point.

    Range: [−1, 1].
    Direction: none.
    Cost: no passes.
    Reference: Pearson 1895, "Notes on Regression and Inheritance in the Case of Two Parents", Proceedings of the Royal Society of London.
    """
    a, b = _pair(a, b)
    return _finite(statistics.pearson(a, b), a, b)


def spearman(a: Array, b: Array) -> Array:
    """Spearman's rank correlation of all entries: Pearson's correlation of their ranks, equal entries sharing the mean of theirs.

    Args:
      a, b: two maps of one shape, floating point.

    Returns:
      float32; 0 where either map is constant.

    Raises:
      ValueError: maps of unequal shapes, or that are not floating point.

    Range: [−1, 1].
    Direction: none.
    Cost: no passes.
    Reference: Spearman 1904, "The Proof and Measurement of Association between Two Things", The American Journal of Psychology.
    """
    a, b = _pair(a, b)
    return _finite(statistics.spearman(a, b), a, b)


def kendall(a: Array, b: Array) -> Array:
    """Kendall's τ_b of all entries: `(C − D) / √((C + D + T_a) (C + D + T_b))` over all pairs of entries.

    C pairs are in the same order in both maps, D in opposite orders, T_a are tied in b alone and T_b in a alone. It takes
    O(n log n) time and O(n) memory for n entries.

    Args:
      a, b: two maps of one shape, floating point.

    Returns:
      float32, exact up to rounding; 0 where either map is constant.

    Raises:
      ValueError: maps of unequal shapes, or that are not floating point.

    Range: [−1, 1].
    Direction: none.
    Cost: no passes.
    Reference: Kendall 1945, "The Treatment of Ties in Ranking Problems", Biometrika.
    """
    a, b = _pair(a, b)
    u, v = order_keys(jnp.ravel(a)), order_keys(jnp.ravel(b))
    u, v = lax.sort((u, v), num_keys=2)
    ordered, order = lax.sort((v, jnp.arange(v.size, dtype=jnp.int32)), num_keys=1, is_stable=True)
    first, index = jnp.zeros(v.size, bool).at[0].set(True), jnp.arange(v.size)
    changed_a, changed_b = (first | (k != jnp.roll(k, 1)) for k in (u, v))
    # Of each entry, how many before it are tied with it in a, in b, and in both.
    tied_a, tied_both = (index - lax.cummax(jnp.where(new, index, 0)) for new in (changed_a, changed_a | changed_b))
    tied_b = index - lax.cummax(jnp.where(first | (ordered != jnp.roll(ordered, 1)), index, 0))
    distinct_a, distinct_b = _total(index - tied_a), _total(index - tied_b)
    # Pairs tied in b alone: those tied in b less those tied in both.
    only_b = _total(tied_b) - _total(tied_both)
    against = _inversions(jnp.zeros_like(order).at[order].set(index, unique_indices=True))
    spread = jnp.sqrt(distinct_a) * jnp.sqrt(distinct_b)
    tau = (distinct_a - only_b - 2 * against) / jnp.where(spread > 0, spread, 1)
    return _finite(jnp.clip(tau, -1, 1), a, b)


def ssim(
    a: Array,
    b: Array,
    *,
    window: str = "gaussian",
    size: int | None = None,
    sigma: float = 1.5,
    data_range: float | Array | None = None,
) -> Array:
    """The mean structural similarity over all windows that lie inside the maps, channel by channel.

    In each window, `(2 μ_a μ_b + c₁) (2 σ_ab + c₂) / ((μ_a² + μ_b² + c₁) (σ_a² + σ_b² + c₂))` with weighted means, variances and
    covariance, `c₁ = (0.01 L)²`, `c₂ = (0.03 L)²`. It is made for pictures, whose brightness is not negative: signed maps are compared as the
    pictures that they are, measured from the lowest value of both (so that a map is unlike its negative; taken as they come, its brightness
    and its structure are both reversed, which would make them alike).

    Args:
      a, b: two maps of one shape, floating point. The last axis is channels, but for a vector; windows span all others.
      window: `"gaussian"` (the paper's; scikit-image's `gaussian_weights=True, use_sample_covariance=False`) or `"uniform"`
        (scikit-image's default, with sample covariances).
      size: the window's side, odd; by default 11 and 7, shrunk to what fits into a shorter axis.
      sigma: the Gaussian's standard deviation in positions, > 0.
      data_range: L, > 0; by default what both maps span together, `max(a, b) − min(a, b)` (Quantus).

    Returns:
      float32; 1 where both maps are one constant; a constant map is compared like any other.

    Raises:
      ValueError: maps of unequal shapes or that are not floating point, an unknown window, an even size or one that
        exceeds an axis, or a `sigma` or `data_range` that is not positive.

    Range: [−1, 1].
    Direction: none.
    Cost: no passes.
    Reference: Wang et al. 2004, "Image Quality Assessment: From Error Visibility to Structural Similarity", IEEE Transactions on Image Processing.
    """
    a, b = _pair(a, b)
    one_of("window", window, WINDOWS)
    within(math.ulp(0.0), math.inf, sigma=sigma, data_range=data_range)
    lengths = a.shape[:-1] if a.ndim > 1 else a.shape
    weights = [_window(window, _side(size, window, n, a.shape), sigma) for n in lengths]
    count = math.prod(w.size for w in weights)
    sample = count / (count - 1) if window == "uniform" and count > 1 else 1.0
    low, high = jnp.minimum(a.min(), b.min()), jnp.maximum(a.max(), b.max())
    span = high - low if data_range is None else data_range
    scale = jnp.where(span > 0, span, 1)
    # In units of L, and variances about the middle of the range: neither overflows, vanishes or cancels.
    u, v = ((m - (low + high) / 2) / scale for m in (a, b))
    mean_u, mean_v, uu, vv, uv = _smooth(jnp.stack([u, v, u * u, v * v, u * v]), weights)
    spread, shared = sample * (uu - mean_u**2 + vv - mean_v**2), sample * (uv - mean_u * mean_v)
    mean_a, mean_b = (m + ((low + high) / 2 - jnp.minimum(low, 0)) / scale for m in (mean_u, mean_v))
    light = (2 * mean_a * mean_b + _K1**2) / (mean_a**2 + mean_b**2 + _K1**2)
    structure = (2 * shared + _K2**2) / (spread + _K2**2)
    return _finite(jnp.where(high > low, (light * structure).mean(), 1.0), a, b)


def top_k_overlap(a: Array, b: Array, *, k: int | float = 0.1) -> Array:
    """The share of the k largest entries that both maps have in common, `|top_k(a) ∩ top_k(b)| / k`.

    Where several entries tie for the last places, each belongs by an equal share (3 for 2 places: ⅔ each), and two entries
    have in common the smaller of their shares; a map has everything in common with itself, ties or not.

    Args:
      a, b: two maps of one shape, floating point; the largest are the largest signed values.
      k: a number of entries (an integer in [1, n]) or a share of them (a float in (0, 1], rounded, at least one entry).

    Returns:
      float32; a constant map has `k/n` in common with any without ties, what a random choice is expected to have.

    Raises:
      ValueError: maps of unequal shapes or that are not floating point, or k out of its range.

    Range: [0, 1].
    Direction: none.
    Cost: no passes.
    Reference: Ghorbani et al. 2019, "Interpretation of Neural Networks Is Fragile", AAAI.
    """
    a, b = _pair(a, b)
    n = a.size
    if isinstance(k, bool) or not isinstance(k, numbers.Real) or not (1 <= k <= n if isinstance(k, numbers.Integral) else 0 < k <= 1):
        raise ValueError(f"{k=} must be an integer in [1, {n}] or a share in (0, 1]")
    count = int(k) if isinstance(k, numbers.Integral) else max(1, round(k * n))

    (above_a, tied_a, share_a), (above_b, tied_b, share_b) = (_places(m, count) for m in (a, b))
    common = (above_a & above_b).sum() + share_b * (above_a & tied_b).sum() + share_a * (tied_a & above_b).sum()
    common = common + jnp.minimum(share_a, share_b) * (tied_a & tied_b).sum()
    return _finite(jnp.minimum(common / count, 1), a, b)


def _places(m: Array, count: int) -> tuple[Array, Array, Array]:
    """Which entries are among the `count` largest for sure, which tie for the last places, and the places for each of those."""
    last = kth_largest(m, count)
    above, tied = m > last, m == last
    return above, tied, (count - above.sum()) / jnp.maximum(tied.sum(), 1)


def _pair(a: Array, b: Array) -> tuple[Array, Array]:
    """Both maps in float32 or wider."""
    a, b = jnp.asarray(a), jnp.asarray(b)
    if a.shape != b.shape or a.size < 1:
        raise ValueError(f"b must have the shape of a, {a.shape} and not empty, got {b.shape}")
    for name, m in (("a", a), ("b", b)):
        if not jnp.issubdtype(m.dtype, jnp.floating):
            raise ValueError(f"{name} must be floating point, got {m.dtype}")
    return wide(a), wide(b)


def _finite(value: Array, a: Array, b: Array) -> Array:
    return nan_unless_finite(nan_unless_finite(value, a), b).astype(jnp.float32)


def _inversions(p: Array) -> Array:
    """The number of pairs `i < j` with `p_i > p_j` of a permutation of 0 … n−1, float32.

    From the highest bit down, entries are kept sorted by the bits above it and in their first order otherwise. A pair is counted at
    the highest bit in which its entries differ: as a one before a zero, in a block that the bits above have in common.
    """
    n = p.size
    bits = max(n - 1, 1).bit_length()
    index = jnp.arange(n)

    def level(step: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        p, found = state
        bit = bits - 1 - step
        one = (p >> bit) & 1
        # The block of an entry holds the values from `start` on, so that it also begins at that index.
        start = (index >> (bit + 1)) << (bit + 1)
        before = jnp.cumsum(one) - one
        before = before - before[start]
        # Where a block has ones at all, its zeros are complete.
        place = jnp.where(one == 1, start + jnp.left_shift(1, bit) + before, index - before)
        return jnp.zeros_like(p).at[place].set(p, unique_indices=True), found + _total(jnp.where(one == 0, before, 0))

    return fori_loop(0, bits, level, (p, jnp.float32(0)))[1]


def _total(counts: Array) -> Array:
    """The sum of integers below 2²², which may exceed int32, in float32: exact within rows."""
    rows = jnp.pad(counts.astype(jnp.int32), (0, -counts.size % 512)).reshape(-1, 512)
    return rows.sum(1).astype(jnp.float32).sum()


def _side(size: int | None, window: str, length: int, shape: tuple[int, ...]) -> int:
    if size is None:
        return min(11 if window == "gaussian" else 7, length - 1 + length % 2)
    positive(size=size)
    if size % 2 == 0 or size > length:
        raise ValueError(f"{size=} must be odd and at most every axis of the windows' in maps of shape {shape}")
    return size


def _window(window: str, side: int, sigma: float) -> np.ndarray:
    distance = np.arange(side) - side // 2
    weights = np.exp(-0.5 * (distance / sigma) ** 2) if window == "gaussian" else np.ones(side)
    return (weights / weights.sum()).astype(np.float32)


def _smooth(maps: Array, weights: list[np.ndarray]) -> Array:
    """Weighted means in all windows inside the maps, axis by axis after the first."""
    for axis, w in enumerate(weights, 1):
        shifted = partial(lax.slice_in_dim, maps, axis=axis)
        inside = maps.shape[axis] - w.size + 1
        maps = reduce(jnp.add, (float(w[i]) * shifted(i, i + inside) for i in range(w.size)))
    return maps
