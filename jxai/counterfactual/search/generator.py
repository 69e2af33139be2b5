"""What counterfactual methods ask of a generator: `decode(z) -> x` and `encode(x) -> z` of one example, as methods of a pytree."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.counterfactual.search.constraints import Constraint, settled
from jxai.counterfactual.search.domain import clipped, unit
from jxai.scores import check_example, wide
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


def encoded(generator: Any, x: Array) -> Array:
    """`encode(x)`, float32 or wider.

    Raises:
      ValueError: bad x, no generator, or one whose examples have another shape than x.
    """
    check_generator(generator, x)
    return jax.tree.map(wide, generator.encode(wide(x)))


def check_generator(generator: Any, x: Array) -> None:
    """Raises ValueError unless the generator encodes x, and decodes that to x's shape."""
    check_example(x)
    for name in ("encode", "decode"):
        if not callable(getattr(generator, name, None)):
            raise ValueError(f"generator={type(generator).__name__} must have a method {name}: decode(z) -> x and encode(x) -> z")
    kind = type(generator).__name__
    try:
        out = jax.eval_shape(lambda v: generator.decode(generator.encode(v)), jax.ShapeDtypeStruct(x.shape, jnp.float32))
    except (TypeError, ValueError) as error:
        raise ValueError(f"generator={kind} does not take x of shape {x.shape}: {error}") from None
    if getattr(out, "shape", None) != x.shape:
        raise ValueError(f"generator={kind} makes examples of shape {getattr(out, 'shape', None)}, but x has {x.shape}")


def decoded(generator: Any, z: Array, x: Array, clip: Clip | None, constraints: Sequence[Constraint]) -> Array:
    """The example at z: decoded, cut to the valid range, held to the constraints given the example x, of x's type."""
    return settled(clipped(generator.decode(z), clip), wide(x), constraints).astype(x.dtype)


def encodings(generator: Any, examples: Array) -> Array:
    """`[n, *shape of z]`: the codes of examples `[n, *shape]`, 256 at once; compiled anew for each call."""
    return jax.jit(lambda v: jax.tree.map(wide, loops.map(generator.encode, wide(v), batch_size=256)))(jnp.asarray(examples))


@plainly
def latent_path(generator: Any, x: Array, latent: Array, steps: int = 12) -> Array:
    """`[steps, *shape of x]`: what the generator makes of the straight way from `encode(x)` to a latent point."""
    share = jnp.linspace(0, 1, steps)
    start = encoded(generator, x)
    return jax.vmap(lambda a: generator.decode(jax.tree.map(lambda u, v: (1 - a) * u + a * v, start, latent)))(share)
