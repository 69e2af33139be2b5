"""Monte Carlo dropout: samples of a model whose dropout stays on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import jax

from jxai import loops
from jxai.callables import partition, plainly
from jxai.scores import need_key, positive
from jxai.typing import Array, Model

__all__ = ["MonteCarlo", "monte_carlo", "sampling"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MonteCarlo:
    """S draws of a random model; made by `monte_carlo`. What takes samples calls `samples(x, key)`.

    Attributes:
      draw: `(x, key) -> logits [K]`. num_samples: S (static). chunk: how many run at once (static).
    """

    draw: Any
    num_samples: int = dataclasses.field(metadata={"static": True})
    chunk: int = dataclasses.field(default=1, metadata={"static": True})

    def samples(self, x: Array, key: Array | None = None) -> Array:
        """`[S, K]`: logits, each drawn with a key of its own.

        Raises:
          ValueError: no key, or a model that draws nothing.
        """
        keys = jax.random.split(need_key(key, "Monte Carlo dropout"), self.num_samples)
        self._check(x, keys)
        return loops.map(lambda key: self.draw(x, key), keys, batch_size=None if self.chunk == 1 else min(self.chunk, self.num_samples))

    def at(self, key: Array) -> Model:
        """The ensemble of the sub-networks that a key draws, the same ones for every x: `x -> logits [S, K]`."""
        return jax.tree_util.Partial(_fixed, self, key)

    def _check(self, x: Array, keys: Array) -> None:
        # An answer that depends on the key is one for each of two, which `out_axes=None` does not take.
        arrays, rest = partition(self.draw)
        try:
            jax.eval_shape(lambda arrays, x, keys: jax.vmap(lambda key: rest.combine(arrays)(x, key), out_axes=None)(keys), arrays, x, keys)
        except ValueError as error:
            if "out_axes" not in str(error):
                raise
            return
        raise ValueError("the model draws nothing: its answer is the same for every key (no dropout, or a rate of 0), so that its samples would all be one")


@plainly
def monte_carlo(model: Any, num_samples: int = 30, *, chunk: int = 1) -> MonteCarlo:
    """Samples of a model with dropout, as they are in training; batch normalisation stays as in evaluation.

    Args:
      model: an `nnx.Module` with dropout or other random layers, in whatever mode, which stays as it is; or any pytree callable `(x, key) -> logits [K]`,
        for example `Partial(lambda variables, x, key: module.apply(variables, x, rngs={"dropout": key}, train=True), variables)` of linen.
      num_samples: S >= 1. chunk: how many run at once; one after the other is fastest on a CPU.

    Raises:
      ValueError: bad sizes; a module without random streams.

    Cost: S forward passes an example.
    Reference: Gal & Ghahramani 2016, "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", ICML.
    """
    positive(num_samples=num_samples, chunk=chunk)
    if not callable(model):
        raise ValueError(f"model={type(model).__name__} must be an nnx.Module or a pytree callable (x, key) -> logits [K]")
    nnx = sys.modules.get("flax.nnx")
    return MonteCarlo(sampling(model) if nnx is not None and isinstance(model, nnx.Module) else model, num_samples, chunk)


def _fixed(drawn: MonteCarlo, key: Array, x: Array) -> Array:
    return drawn.samples(x, key)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Sampling:
    """An nnx module with its random layers on: `(x, key) -> f(x)`, its streams of random numbers begun anew by the key."""

    f: Any

    def __call__(self, x: Array, key: Array) -> Array:
        from jxai.training.updates import formed  # brings flax

        form, weights, fixed = formed(self.f, ())
        return form.model(weights, form.drawn(fixed, key))(x)


@plainly
def sampling(model: Any) -> Callable[[Array, Array], Array]:
    """An nnx module with its random layers on, as a pure function `(x, key) -> f(x)`; batch normalisation stays as in evaluation.

    A loss trains with it: `jax.vmap(sampling(model))(x, jax.random.split(key, len(x)))` draws another mask for each example.

    Args:
      model: an `nnx.Module`, in whatever mode, which stays as it is.

    Raises:
      ValueError: a module without random streams.
    """
    from flax import nnx

    from jxai.training.updates import formed

    if not isinstance(model, nnx.Module):
        raise ValueError(f"model={type(model).__name__} must be an nnx.Module: of another framework write a function (x, key) -> logits")
    view = nnx.view(model, deterministic=False, use_running_average=True, raise_if_not_found=False)
    if not any(formed(view, ())[0].streams):
        raise ValueError(f"model={type(model).__name__} has no random streams: give its nnx.Dropout layers rngs, or pass a function (x, key) -> logits")
    return _Sampling(view)
