"""An encoder for a generator that has none: descent to the z whose example is nearest, or a network trained for it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jxai.loops import scan
from jxai.models.coders import check_shape
from jxai.scores import within
from jxai.typing import Array

__all__ = ["Inverted", "encoder_loss"]

_static = {"static": True}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Inverted:
    """A generator G with `encode(x) = argmin_z ‖G(z) − x‖² + μ ‖z‖²`, by Adam from several seeds, of which the best is kept.

    It is deterministic: the seeds are drawn of an integer that is part of it. With a `start` there is one seed, the encoder's z, and `steps=0` leaves
    just that. `encode` never gives a z that is worse than the seeds.

    Raises:
      ValueError: counts, rates or penalties out of range.

    Cost of `encode`: `seeds · (steps + 1)` forward and backward passes of G.
    Reference: Creswell and Bharath 2018, "Inverting the Generator of a Generative Adversarial Network", IEEE TNNLS, arXiv 1611.05644.
    """

    generator: Any
    """With `decode(z [latent]) -> x` and the integer `latent`: a `GAN`, `ConditionalGAN.given(y)`."""
    start: Any = None
    """`x -> z [latent]` (an `Encoder`), the first guess; None draws `seeds` of N(0, I)."""
    steps: int = dataclasses.field(default=200, metadata=_static)
    """Of the descent, >= 0."""
    seeds: int = dataclasses.field(default=8, metadata=_static)
    """>= 1; without effect where there is a start."""
    learning_rate: float = dataclasses.field(default=0.1, metadata=_static)
    """Of Adam, falling to 0 by a cosine."""
    penalty: float = dataclasses.field(default=0.0, metadata=_static)
    """μ >= 0: holds z where the generator was trained."""
    seed: int = dataclasses.field(default=0, metadata=_static)
    """Of the seeds."""

    def __post_init__(self):
        for name in ("steps", "seeds"):
            value, least = getattr(self, name), 0 if name == "steps" else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r} must be an integer >= {least}")
        within(math.ulp(0.0), math.inf, learning_rate=self.learning_rate)
        within(0.0, math.inf, penalty=self.penalty)

    @property
    def latent(self) -> int:
        """Numbers in z."""
        latent = getattr(self.generator, "latent", None)
        if not isinstance(latent, int) or not callable(getattr(self.generator, "decode", None)):
            raise ValueError(f"generator={type(self.generator).__name__} must have decode(z) -> x and the integer latent, how many numbers its z has")
        return latent

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an example."""
        z = jax.ShapeDtypeStruct((self.latent,), jnp.float32)
        return jax.eval_shape(self.generator.decode, z).shape

    def decode(self, z: Array) -> Array:
        """G(z)."""
        return self.generator.decode(z)

    def encode(self, x: Array) -> Array:
        """`[latent]`: the best z that was found.

        Raises:
          ValueError: x of another shape than the generator's, a generator without `latent`.
        """
        check_shape("x", x, self.shape)
        if self.start is None:
            first = jax.random.normal(jax.random.key(self.seed), (self.seeds, self.latent), x.dtype)
        else:
            first = self.start(x)[None]
        z, cost = jax.vmap(lambda seed: self._descended(seed, x))(first)
        return z[jnp.argmin(cost)]

    def _descended(self, z: Array, x: Array) -> tuple[Array, Array]:
        """The best z on the way from this one, and its cost."""
        optimizer = optax.adam(optax.cosine_decay_schedule(self.learning_rate, max(self.steps, 1)))
        cost = lambda z: ((self.generator.decode(z) - x) ** 2).sum() + self.penalty * (z**2).sum()

        def step(carry, _):
            z, state, best, least = carry
            value, gradient = jax.value_and_grad(cost)(z)
            best, least = jnp.where(value < least, z, best), jnp.where(value < least, value, least)
            updates, state = optimizer.update(gradient, state)
            return (z + updates, state, best, least), None

        (last, _, best, least), _ = scan(step, (z, optimizer.init(z), z, jnp.asarray(jnp.inf, z.dtype)), length=self.steps)
        value = cost(last)
        return jnp.where(value < least, last, best), jnp.where(value < least, value, least)


def encoder_loss(model: Inverted, x: Array, y: Array | None, key: Array, *, weight: float = 1.0) -> tuple[Array, dict[str, Array]]:
    """What `model.start` is trained on, while the generator stands still: `E‖E(G(z)) − z‖² + w E‖G(E(x)) − x‖²` with `z ~ N(0, I)`.

    Args:
      model: with a start. x: `[B, *shape]`. y: says nothing. key: draws B of z. weight: w >= 0.

    Returns:
      `(loss [], {"latent_error": [], "error": []})`, the two means.

    Raises:
      ValueError: no start.
    """
    if model.start is None:
        raise ValueError("model.start=None must be an encoder, which the loss trains")
    within(0.0, math.inf, weight=weight)
    z = jax.random.normal(key, (x.shape[0], model.latent), x.dtype)
    generator = jax.lax.stop_gradient(model.generator)
    there_and_back = lambda z: ((model.start(generator.decode(z)) - z) ** 2).sum()
    back_and_there = lambda x: ((generator.decode(model.start(x)) - x) ** 2).sum()
    latent_error, error = jax.vmap(there_and_back)(z).mean(), jax.vmap(back_and_there)(x).mean()
    return latent_error + weight * error, {"latent_error": latent_error, "error": error}
