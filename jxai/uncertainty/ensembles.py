"""Deep ensembles: networks that differ by their first weights and the order of their examples, as one pytree of stacked weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.callables import fresh, is_array, partition, plainly
from jxai.scores import positive
from jxai.typing import Array, Model, PyTree

__all__ = ["Ensemble", "ensemble", "train_ensemble"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Ensemble:
    """S models of one structure: `x -> logits [S, K]`. `Averaged(ensemble)` is the model of their mean probability.

    Attributes:
      members: the model, each of its arrays with a leading axis S; `ensemble` makes it.
      chunk: how many members run at once (static). One after the other is fastest on a CPU; an accelerator takes all of them.
    """

    members: PyTree
    chunk: int = dataclasses.field(default=1, metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        arrays, rest = partition(self.members)
        return loops.map(lambda own: fresh(rest.combine(own))(x), arrays, batch_size=None if self.chunk == 1 else min(self.chunk, len(self)))

    def __len__(self) -> int:
        return next(len(leaf) for leaf in jax.tree.leaves(self.members) if is_array(leaf))

    def __getitem__(self, s: int) -> Model:
        """The model of one member."""
        arrays, rest = partition(self.members)
        return rest.combine([leaf[s] for leaf in arrays])


@plainly
def ensemble(models: Sequence[Model], *, chunk: int = 1) -> Ensemble:
    """An `Ensemble` of trained models.

    Args:
      models: pytree callables `x -> logits [K]`, evaluation views, of one structure and shapes. chunk: as of `Ensemble`.

    Raises:
      ValueError: no models, one without weights, models of several structures or shapes.
    """
    positive(chunk=chunk)
    models = list(models)
    if not models:
        raise ValueError("models must be one model or more, got none")
    arrays, rests = zip(*(partition(model) for model in models))
    if not arrays[0]:
        raise ValueError(f"models[0]={type(models[0]).__name__} has no weights as leaves: all members would be one (jxai.adapt makes a pytree callable)")
    for n, (own, rest) in enumerate(zip(arrays, rests)):
        shapes = [[(leaf.shape, leaf.dtype) for leaf in leaves] for leaves in (own, arrays[0])]
        if rest != rests[0] or shapes[0] != shapes[1]:
            raise ValueError(f"models[{n}] must have the structure and the shapes of models[0]: members are stacked weight by weight")
    return Ensemble(rests[0].combine([jnp.stack(leaves) for leaves in zip(*arrays)]), chunk)


@plainly
def train_ensemble(make: Callable[[Array], Any], loss: Any, data: Any, *, keys: Array, chunk: int = 1, **options: Any) -> Ensemble:
    """An ensemble whose members are trained at once, by `jax.vmap` over their keys: `ensemble` of what `jxai.train.train_seeds` gives.

    Args:
      make: `key -> model`. keys: `[S]` PRNG keys, one for each member's first weights and order. loss, data, options: of `jxai.train.train`.
      chunk: as of `Ensemble`.

    Raises:
      ValueError: bad data or options; a member that diverged.

    Reference: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS (without its
    adversarial training, which later work leaves out).
    """
    from jxai.training.train import train_seeds  # brings flax, which evaluating an ensemble does not need

    trained = train_seeds(make, loss, data, keys=keys, **options)
    lost = [s for s, one in enumerate(trained) if one.outcome == "diverged"]
    if lost:
        raise ValueError(f"members {lost} of {len(trained)} diverged (a loss or weight was not finite): lower the learning rate, or leave out their keys")
    return ensemble([one.model for one in trained], chunk=chunk)
