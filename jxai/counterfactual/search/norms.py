"""The size of a change, with a gradient that is finite everywhere."""

from __future__ import annotations

import jax.numpy as jnp

from jxai.typing import Array

DISTANCES = ("l1", "l2", "squared")


def length(d: Array, distance: str) -> Array:
    """`[]`: `Σ |d_i|` ("l1"), `‖d‖₂` ("l2", its gradient 0 at 0) or `‖d‖₂² / 2` ("squared")."""
    if distance == "l1":
        return jnp.abs(d).sum()
    square = (d**2).sum()
    if distance == "squared":
        return square / 2
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def soft(d: Array, threshold: float | Array) -> Array:
    """The proximal step of `threshold · ‖·‖₁`: every entry nearer to 0 by the threshold, and 0 within it."""
    return jnp.sign(d) * jnp.maximum(jnp.abs(d) - threshold, 0)
