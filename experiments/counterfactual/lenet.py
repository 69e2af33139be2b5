"""The oracle of digits: LeNet-5, which none of the searches sees."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jxai import models


def lenet() -> Callable:
    """LeNet-5 on 28 × 28 pixels: its margin of 2 is put around them."""
    return Partial(_padded, models.available()["mnist_lenet5"].build().model)


def _padded(f: Callable, x: jax.Array) -> jax.Array:
    return f(jnp.pad(x, ((2, 2), (2, 2), (0, 0))))
