"""How large a change of x is: pictures have one scale for all entries, a table's features each their own, which one row does not show."""

from __future__ import annotations

import jax.numpy as jnp

from jxai.scores import wide
from jxai.typing import Array


def span(x: Array, asked: str) -> Array:
    """The range of x in which noise is measured: over all entries of a picture or video, over time for each channel of a series `[T, C]`.

    Entries that are NaN, which stand for missing, are left out.

    Args:
      asked: what to give instead, for the error.

    Raises:
      ValueError: x is a vector.
    """
    if x.ndim == 1:
        raise ValueError(f"x of shape {x.shape} is a vector, whose features have units of their own, so that its range means nothing: give {asked}")
    v, axes = wide(x), (0,) if x.ndim == 2 else None
    return jnp.nanmax(v, axis=axes, keepdims=x.ndim == 2) - jnp.nanmin(v, axis=axes, keepdims=x.ndim == 2)


def or_pictures(name: str, value: float | Array | None, default: float, x: Array) -> float | Array:
    """The value that was given, or pictures' and videos' default, whose entries lie in [0, 1].

    Raises:
      ValueError: none was given for a vector or a series.
    """
    if value is None and x.ndim < 3:
        raise ValueError(
            f"{name}=None is {default:g} for pictures; the features of a vector or a series {x.shape} have units of their own: "
            f"give {name} as an array, one for each feature, or as a number if they share a unit"
        )
    return default if value is None else value
