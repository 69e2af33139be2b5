"""Robustness as a judge of attributions: how hard it is to change the class by way of the features that they rank highest."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import fresh, plainly
from jxai.loops import scan
from jxai.metrics.common import by_feature, by_position, curve, nan_unless_finite
from jxai.metrics.explaining import norm
from jxai.metrics.removal import parts, when
from jxai.removal.masks import Features, position_shape, spread
from jxai.scores import check_example, check_target, check_values, margin, num_classes, one_of, positive, wide, within
from jxai.typing import Array, Curve, Model

__all__ = ["robustness_sr"]

FEATURES = ("relevant", "irrelevant")
_STRIDE = 2.5


@plainly
def robustness_sr(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    shares: float | Sequence[float] = (0.1, 0.2, 0.3, 0.4, 0.5),
    features: str = "relevant",
    p: float = 2,
    clip: tuple[float, float] | None = None,
    max_radius: float | Array | None = None,
    rounds: int = 10,
    steps: int = 20,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    chunk: int | None = None,
) -> Array | Curve:
    """Robustness-S_r: the least change of the top features S_r alone that changes the class, `min ‖δ‖_p: argmax f(x + δ) ≠ target, δ = 0 outside S_r`.

    Found from above, by projected gradient descent on the margin `f_target − max_{j ≠ target} f_j` in balls: their radius begins at
    the linear estimate, exact for a linear model, and is doubled until the class changes, then bisected.

    Args:
      f: a model `x -> logits [K]`, K ≥ 2. x: one example. target: the class to be left: the predicted one.
      attribution: broadcasts against x. key: ranks tied features at random; None: by position.
      shares: r, in (0, 1): the share of features that the attribution ranks highest; one, or several in ascending order.
      features: which may change: the `"relevant"` ones, S_r, or the `"irrelevant"` rest (Robustness-S̄_r).
      p: 2 or `math.inf`. clip: (low, high), what changed entries stay in, as x must; None: all numbers (the paper's).
      max_radius: the largest norm tried, > 0; by default the farthest corner of `clip` from x, or ∞ without it.
      rounds: radii tried. steps: of descent for each. chunk: shares at once (None: `jxai.loops.at_once`).
      segments, grid, num_segments: features, as in `jxai.masks.features`; by default every position, all its channels together.

    Returns:
      The norm, float32, in units of x; a `Curve` for several shares. 0 where x is of another class already, `max_radius` (∞)
      where nothing changed the class.

    Raises:
      ValueError: a bad option, `target=None`, a one-class model, a single feature, or bad x, target or attribution.

    Range: [0, max_radius].
    Direction: lower is better. (Higher of the irrelevant features.)
    Cost: `len(shares) · rounds · steps + 1` forward and backward passes.
    Reference: Hsieh et al. 2021, "Evaluations and Methods for Explanation through Robustness Analysis", ICLR.
    """
    margin = _margin(f, x, target)
    _check(features, p, clip, max_radius, rounds, steps)
    wanted, search = _ascending(shares), _search(margin, x, p, clip, max_radius, rounds, steps)
    free = _free(x, attribution, key, wanted, features == "relevant", segments, grid, num_segments)
    radii = loops.stack(lambda i: search(free(i)), len(wanted), loops.at_once(x, chunk))
    radii = nan_unless_finite(radii, attribution).astype(jnp.float32)
    return radii[0] if isinstance(shares, numbers.Real) else curve(jnp.asarray(wanted), radii)


def _free(x: Array, attribution: Array, key: Array | None, shares: np.ndarray, relevant: bool, segments, grid, num_segments) -> Callable[[Array], Array]:
    """`i -> 1.0` at the positions that may change for share number i, the top ones or all others, 0.0 elsewhere."""
    of = parts(x, segments, grid, num_segments)
    if of.num < 2:
        raise ValueError(f"x of shape {x.shape} has one feature: no share of the features leaves a rest")
    scores = by_position(attribution, x).ravel() if of.labels is None else by_feature(attribution, x, Features(of.labels, of.num))
    counts = jnp.clip(jnp.rint(shares * of.count), 1, jnp.maximum(of.count - 1, 1)).astype(jnp.int32)
    first = when(scores, counts, "most", key, of.exists)

    def free(i: Array) -> Array:
        inside = ((first <= i) == relevant).astype(jnp.float32)
        return inside.reshape(position_shape(x)) if of.labels is None else spread(inside, of.labels, x)

    return free


def _margin(f: Model, x: Array, target: int | Array | None) -> Callable[[Array], Array]:
    """`v -> f(v)[target] − max_{j ≠ target} f(v)[j]`; NaN for a traced target out of range."""
    if target is None:
        raise ValueError("target=None must be a class, for the class to change")
    check_example(x)
    check_target(target, num_classes(f, x))
    check_values(f, x)
    model = fresh(f)
    return lambda v: margin(wide(model(v)), target)


def _search(
    margin: Callable[[Array], Array], x: Array, p: float, clip: tuple[float, float] | None, max_radius, rounds: int, steps: int
) -> Callable[[Array], Array]:
    """`free -> the least norm of a change of class`, where `free` is 1 at positions that may change and 0 elsewhere."""
    clean = wide(x)
    slope = jax.value_and_grad(lambda delta: margin((clean + delta).astype(x.dtype)).astype(clean.dtype))
    here, first_slope = slope(jnp.zeros_like(clean))
    if max_radius is None:
        max_radius = jnp.inf if clip is None else _size(jnp.maximum(clean - clip[0], clip[1] - clean), p)

    def inside(delta: Array, radius: Array) -> Array:
        if p == 2:
            delta = delta * jnp.minimum(1, radius / jnp.maximum(_size(delta, p), jnp.finfo(delta.dtype).tiny))
        else:
            delta = jnp.clip(delta, -radius, radius)
        return delta if clip is None else jnp.clip(clean + delta, *clip) - clean

    def attack(free: Array, radius: Array) -> Array:
        """The least norm at which descent within the ball leaves the class; ∞ where it does not."""

        def step(delta: Array, g: Array) -> Array:
            g = g * free
            size = norm(g)
            along = jnp.sign(g) if p != 2 else g / jnp.where(size > 0, size, 1)
            return free * inside(delta - _STRIDE / steps * radius * along, radius)

        def descend(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
            delta, found = state
            value, g = slope(delta)
            return (step(delta, g), jnp.where(value < 0, jnp.minimum(found, _size(delta, p)), found)), None

        start = step(jnp.zeros_like(clean), first_slope)
        return scan(descend, (start, jnp.asarray(jnp.inf, clean.dtype)), None, length=steps)[0][1]

    def least(free: Array) -> Array:
        g = first_slope * free
        dual = norm(g) if p == 2 else jnp.abs(g).sum()
        # A hair beyond the boundary of a linear f, or rounding would decide whether the first ball leaves the class.
        linear = 1.0001 * here / jnp.where(dual > 0, dual, 1)
        estimate = jnp.where(dual > 0, linear, jnp.where(jnp.isfinite(max_radius), max_radius, 1.0))

        def halve(state: tuple[Array, Array, Array], _: None) -> tuple[tuple[Array, Array, Array], None]:
            low, best, radius = state
            found = attack(free, radius)
            low, best = jnp.where(jnp.isfinite(found), low, radius), jnp.minimum(best, found)
            return (low, best, jnp.where(jnp.isfinite(best), (low + best) / 2, jnp.minimum(2 * radius, max_radius))), None

        none = jnp.zeros_like(estimate)
        best = scan(halve, (none, none + jnp.inf, jnp.minimum(estimate, max_radius)), None, length=rounds)[0][1]
        found = jnp.where(here < 0, 0, jnp.where(jnp.isfinite(best), best, max_radius))
        return jnp.where(jnp.isnan(here), jnp.nan, found)

    return least


def _size(delta: Array, p: float) -> Array:
    return norm(delta) if p == 2 else jnp.abs(delta).max()


def _ascending(shares: float | Sequence[float]) -> np.ndarray:
    given = np.atleast_1d(np.asarray(shares, np.float32))
    if given.ndim > 1 or not given.size or not ((given > 0) & (given < 1)).all() or (np.diff(given) <= 0).any():
        raise ValueError(f"{shares=} must be a number in (0, 1), or several in ascending order")
    return given


def _check(features: str, p: float, clip: tuple[float, float] | None, max_radius: float | Array | None, rounds: int, steps: int) -> None:
    one_of("features", features, FEATURES)
    if p not in (2, math.inf):
        raise ValueError(f"{p=} must be 2 or math.inf")
    if clip is not None and (len(clip) != 2 or not clip[0] < clip[1]):
        raise ValueError(f"{clip=} must be (low, high) with low < high, or None")
    positive(rounds=rounds, steps=steps)
    within(math.ulp(0.0), math.inf, max_radius=max_radius)
