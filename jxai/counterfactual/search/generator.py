"""Examples of a generator within the domain of a search, and the way from one to another."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jxai.callables import plainly
from jxai.counterfactual.search.constraints import Constraint, settled
from jxai.counterfactual.search.domain import clipped, unit
from jxai.latent import encoded
from jxai.scores import wide
from jxai.typing import Array, Clip


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Identity:
    """The examples' own coordinates, `z = x / s`: what a search in latent space is without a generator.

    scale: s > 0, each feature's own unit, as in `wachter`.
    """

    scale: float | Array | None = None

    def encode(self, x: Array) -> Array:
        """`x / s`, x where there is no scale."""
        return x if self.scale is None else x / unit(self.scale, x)

    def decode(self, z: Array) -> Array:
        """`s z`."""
        return z if self.scale is None else z * unit(self.scale, z)


def decoded(generator: Any, z: Array, x: Array, clip: Clip | None, constraints: Sequence[Constraint]) -> Array:
    """The example at z: decoded, cut to the valid range, held to the constraints given the example x, of x's type."""
    return settled(clipped(generator.decode(z), clip), wide(x), constraints).astype(x.dtype)


@plainly
def latent_path(generator: Any, x: Array, latent: Array, steps: int = 12) -> Array:
    """`[steps, *shape of x]`: what the generator makes of the straight way from `encode(x)` to a latent point."""
    share = jnp.linspace(0, 1, steps)
    start = encoded(generator, x)
    return jax.vmap(lambda a: generator.decode(jax.tree.map(lambda u, v: (1 - a) * u + a * v, start, latent)))(share)
