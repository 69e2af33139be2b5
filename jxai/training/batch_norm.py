"""Batch normalisation of models that take one example: trained on what a mapped batch shares, then settled to statistics of the data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jxai.scores import positive
from jxai.typing import Array

__all__ = ["in_batches", "settled"]

_BATCH = "batch"
"""The name of the mapped axis over which statistics are taken."""


def in_batches(model: nnx.Module, method: str = "__call__") -> Callable[[Array], Array]:
    """`x [n, ...] -> f(x) [n, ...]`, or another method of f, normalised by the batch's own mean and variance over examples and positions: for the loss of a training.

    The model's `nnx.BatchNorm`s need no options: they are told of the batch here, and have `use_running_average=True` (or a view has) elsewhere.
    Pure: the kept statistics stay as they are (`settled` sets them after the training). Without batch normalisation it is `jax.vmap(model)`.
    """
    return lambda x: jax.vmap(lambda v: getattr(_own(model), method)(v), axis_name=_BATCH)(x)


def settled(model: nnx.Module, x: Array, batch_size: int = 250) -> nnx.Module:
    """The model to explain: its kept statistics are those of data x `[n, ...]` under its weights, the mean of batches of the same size.

    A running average of a training is of weights that have changed since; this one is of the last ones ("precise" batch normalisation).

    Raises:
      ValueError: fewer examples than `batch_size`; those of a last incomplete batch are left out.

    Reference: Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", arXiv 2105.07576.
    """
    positive(batch_size=batch_size)
    if len(x) < batch_size:
        raise ValueError(f"{batch_size=} is more than the {len(x)} examples of x")
    batches = jnp.reshape(x[: len(x) // batch_size * batch_size], (-1, batch_size, *x.shape[1:]))
    model = nnx.clone(model)
    nnx.update(model, _statistics(model, batches))
    return model


@jax.jit
def _statistics(model: nnx.Module, batches: Array) -> Any:
    """The mean and variance before each batch normalisation, the mean over batches."""

    def seen(v: Array) -> Any:
        own = _own(model, momentum=0.0)
        own(v)
        return nnx.state(own, nnx.BatchStat)

    of_each = jax.lax.map(jax.vmap(seen, axis_name=_BATCH, out_axes=None), batches)
    return jax.tree.map(lambda v: v.mean(0), of_each)


def _own(model: nnx.Module, **options: Any) -> nnx.Module:
    """A copy that takes statistics from its batch, with these options, and may be written to inside of a transformation."""
    own = nnx.clone(nnx.view(model, use_running_average=False, raise_if_not_found=False))
    for _, layer in nnx.iter_graph(own):
        if isinstance(layer, nnx.BatchNorm):
            for name, value in {"axis_name": _BATCH, **options}.items():
                setattr(layer, name, value)
    return own
