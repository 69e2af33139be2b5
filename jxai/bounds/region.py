"""Sets of inputs: boxes and ℓp balls, and the least value of a linear function on them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import check_example, wide
from jxai.typing import Array

__all__ = ["Ball", "Box", "Interval", "Region", "ball"]

Reduce = Callable[[Array, str], Array]
"""Takes products `[..., *x.shape]` of coefficients together over x, by "sum" or "max"."""


class Interval(NamedTuple):
    """`lower <= value <= upper`, entry by entry; infinite where nothing is known."""

    lower: Array
    upper: Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Box:
    """All x with `lower <= x <= upper`, entry by entry; both have the shape of x and are finite."""

    lower: Array
    upper: Array

    p = math.inf

    @property
    def center(self) -> Array:
        """The middle of the box; the entry itself where both ends are one."""
        return jnp.where(self.lower == self.upper, self.lower, 0.5 * self.lower + 0.5 * self.upper)

    def least(self, a: Array, reduce: Reduce) -> Array:
        """`min ⟨a, x⟩` over the box: `⟨a, c⟩ − ⟨|a|, r⟩` with centre c and radius r."""
        c = self.center
        return reduce(a * c, "sum") - reduce(jnp.abs(a) * _radius(self, c), "sum")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ball:
    """All x with `‖(x − center) / radius‖_p <= 1` and `lower <= x <= upper`; a feature whose radius is 0 is fixed.

    Attributes:
      center, radius: the shape of x. lower, upper: the box around the ball, cut to the valid range.
      p: 1 or 2, static. (The ball of the largest norm is a `Box`.)
    """

    center: Array
    radius: Array
    lower: Array
    upper: Array
    p: float = dataclasses.field(default=2, metadata={"static": True})

    def least(self, a: Array, reduce: Reduce) -> Array:
        """The greater of `min ⟨a, x⟩` over the ball, `⟨a, c⟩ − ‖a · radius‖_q` with `1/p + 1/q = 1`, and over the box around it."""
        scaled = jnp.abs(a) * self.radius
        if self.p == 1:
            spread = reduce(scaled, "max")
        else:
            # The root of 0 has no derivative: it is taken of something positive, and thrown away.
            square = reduce(scaled**2, "sum")
            spread = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
        return jnp.maximum(reduce(a * self.center, "sum") - spread, Box(self.lower, self.upper).least(a, reduce))


Region = Box | Ball


Clip = tuple[float | Array, float | Array]
"""The lowest and the highest valid value, of all features or of each."""


@plainly
def ball(x: Array, radius: float | Array, p: float = math.inf, clip: Clip | None = None) -> Region:
    """The ℓp ball around x, `‖(v − x) / radius‖_p <= 1`: for p = ∞ a `Box`, else a `Ball`.

    Args:
      x: one example, floating point.
      radius: >= 0, a number or an array that broadcasts against x, in units of x; a feature whose radius is 0 is held fixed.
      p: 1, 2 or `math.inf`.
      clip: (low, high), the valid range of entries that the ball is cut to, numbers or arrays that broadcast against x; x must lie within it.

    Raises:
      ValueError: a bad x, p or clip; a radius that is negative, not finite or does not broadcast; x with NaN or outside `clip`
        (where these are concrete).
    """
    check_example(x)
    if p not in (1, 2, math.inf):
        raise ValueError(f"{p=} must be 1, 2 or math.inf")
    if clip is not None:
        _check_clip(clip, x)
    check_radius("radius", radius, x)
    if not _traced(x):
        seen = np.asarray(x, np.float64)
        if not np.isfinite(seen).all():
            raise ValueError(f"x must be finite, but {(~np.isfinite(seen)).sum()} of {seen.size} entries are not")
        if clip is not None and not any(map(_traced, clip)):
            low, high = (np.broadcast_to(np.asarray(end, np.float64), seen.shape) for end in clip)
            if (out := (seen < low) | (seen > high)).any():
                at = tuple(int(i) for i in np.argwhere(out)[0])
                raise ValueError(f"x must lie in clip, but at {at} it is {seen[at]}, outside of [{low[at]}, {high[at]}] ({out.sum()} of {out.size} entries)")
    x = wide(x)
    radius = jnp.broadcast_to(jnp.asarray(radius, x.dtype), x.shape)
    lower, upper = x - radius, x + radius
    if clip is not None:
        # x itself stays inside, should it be traced and lie outside of the range.
        low, high = (jnp.asarray(end, x.dtype) for end in clip)
        lower, upper = jnp.minimum(jnp.maximum(lower, low), x), jnp.maximum(jnp.minimum(upper, high), x)
    return Box(lower, upper) if p == math.inf else Ball(x, radius, lower, upper, p)


def check_radius(name: str, radius: float | Array, x: Array) -> None:
    """Raises ValueError unless a radius broadcasts against x and is finite and at least 0, where it is concrete."""
    if not _broadcasts(radius, x):
        raise ValueError(f"{name} has shape {jnp.shape(radius)}, which does not broadcast against x of shape {x.shape}")
    if not _traced(radius) and not (np.isfinite(values := np.asarray(radius, np.float64)) & (values >= 0)).all():
        bad = values[~(np.isfinite(values) & (values >= 0))].ravel()[0]
        raise ValueError(f"{name}={bad} must be a finite number of at least 0")


def _check_clip(clip: Clip, x: Array) -> None:
    if not isinstance(clip, (tuple, list)) or len(clip) != 2:
        raise ValueError(f"{clip=} must be (low, high), each a number or an array that broadcasts against x, or None")
    for name, end in zip(("low", "high"), clip):
        if not _broadcasts(end, x):
            raise ValueError(f"clip's {name} has shape {jnp.shape(end)}, which does not broadcast against x of shape {x.shape}")
    if not any(map(_traced, clip)):
        low, high = (np.asarray(end, np.float64) for end in clip)
        if low.ndim == high.ndim == 0 and not low < high:
            raise ValueError(f"{clip=} must be (low, high) with low < high, or None")
        if not (low <= high).all():
            at = tuple(int(i) for i in np.argwhere(~np.atleast_1d(low <= high))[0])
            raise ValueError(f"clip must be (low, high) with low <= high for every feature, but at {at} it is not")


def _broadcasts(value: float | Array, x: Array) -> bool:
    shape = jnp.shape(value)
    return len(shape) <= x.ndim and all(a in (1, b) for a, b in zip(shape[::-1], x.shape[::-1]))


def checked(region: Region) -> Region:
    """The region in float32 or wider; a NaN in any of its arrays is spread to all of its ends, so that bounds on it are NaN.

    Raises:
      ValueError: no region, ends of unequal or empty shapes or that are no floating-point numbers; where they are concrete,
        NaN or infinite entries, `lower > upper`, or a negative radius.
    """
    if not isinstance(region, (Box, Ball)):
        raise ValueError(f"region must be a Box or what ball(…) returns, got {type(region).__name__}")
    arrays = {field.name: getattr(region, field.name) for field in dataclasses.fields(region) if field.name != "p"}
    for name, value in arrays.items():
        check_example(value, f"region.{name}")
        if value.shape != region.lower.shape:
            raise ValueError(f"region.{name} has shape {value.shape}, but region.lower {region.lower.shape}")
        if not _traced(value) and not np.isfinite(np.asarray(value, np.float64)).all():
            raise ValueError(f"region.{name} must be finite, but has NaN or infinite entries")
    if not _traced(region.lower) and not _traced(region.upper):
        low, high = np.asarray(region.lower, np.float64), np.asarray(region.upper, np.float64)
        if (low > high).any():
            at = tuple(int(i) for i in np.argwhere(low > high)[0])
            raise ValueError(f"region.lower must not exceed region.upper, but at {at} it is {low[at]} > {high[at]}")
    if isinstance(region, Ball) and not _traced(region.radius) and (np.asarray(region.radius) < 0).any():
        raise ValueError(f"region.radius must be at least 0, got {np.asarray(region.radius).min()}")
    return dataclasses.replace(region, **{name: wide(value) for name, value in arrays.items()})


def is_valid(region: Region) -> Array:
    """`[]`: whether a region that was traced is one after all: finite, its ends in order."""
    fine = (region.lower <= region.upper).all() & jnp.isfinite(region.lower).all() & jnp.isfinite(region.upper).all()
    return fine & ((region.radius >= 0).all() & jnp.isfinite(region.center).all() if isinstance(region, Ball) else True)


def magnitude(bounds: Interval) -> Array:
    """The largest absolute value in it."""
    return jnp.maximum(jnp.abs(bounds.lower), jnp.abs(bounds.upper))


def _radius(box: Box, center: Array) -> Array:
    return jnp.maximum(box.upper - center, center - box.lower)


def _traced(value) -> bool:
    return isinstance(value, jax.core.Tracer)
