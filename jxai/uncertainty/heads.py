"""The last layer of a classifier as what it is, `z = Wᵀ h + b`, and the features h that it is applied to."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jxai.callables import plainly
from jxai.scores import check_example, check_values, logits_shape, wide
from jxai.tracing import taps
from jxai.tracing.heads import linear_end
from jxai.typing import Array, Model

__all__ = ["Answers", "Head", "answers", "features", "linear_head"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Head:
    """A linear map from features to logits.

    Attributes:
      weights: `[D, K]`. bias: `[K]`.
    """

    weights: Array
    bias: Array

    def __call__(self, features: Array) -> Array:
        """`h W + b`: logits `[K]` of features `[D]`, or `[n, K]` of `[n, D]`."""
        return jnp.matmul(features, self.weights, precision=jax.lax.Precision.HIGHEST) + self.bias


class Answers(NamedTuple):
    """What one forward pass gives a score: logits `[K]`, features `[D]`."""

    logits: Array
    features: Array


@plainly
def linear_head(f: Model, x: Array) -> Head:
    """The last linear map of a model: with `features(f, x)` as h, `f(x) = h W + b`.

    Found in the trace of f, however it is written; scales and shifts of the logits after it are part of it. It does not depend on x but for its shape.

    Args:
      f: a model `x -> logits [K]`, in evaluation mode. x: one example.

    Returns:
      `Head(weights [D, K], bias [K])`.

    Raises:
      ValueError: f does not end in one linear map: something else follows it (a softmax), there is none, or several values' maps are added or joined, which the
        message lists.

    Cost: nothing but the map: K products with its transpose.
    """
    end = linear_end(f, x)
    zero = jnp.zeros_like(end.features)
    return Head(wide(jax.jacrev(end.head)(zero)).T, wide(end.head(zero)))


@plainly
def features(f: Model, x: Array, layer: int | str | None = None) -> Array:
    """What the last linear map of a model is applied to, or another layer's value.

    Args:
      f: a model `x -> logits [K]`, in evaluation mode. x: one example.
      layer: None for the input of the last linear map; an index or part of a name for another value, as `jxai.taps.find` takes it: of a map or of tokens the mean
        over positions, one number a channel; of anything else all entries.

    Returns:
      `[D]`, float32 or wider.

    Raises:
      ValueError: as `linear_head`, or as `jxai.taps.find` for a layer.

    Cost: 1 forward pass.
    """
    return answers(f, x, layer).features


@plainly
def answers(f: Model, x: Array, layer: int | str | None = None) -> Answers:
    """Logits and features of one forward pass.

    Args:
      f, x, layer: as in `features`.

    Returns:
      `Answers(logits [K], features [D])`, float32 or wider.

    Raises:
      ValueError: as `features`; where x and the weights are concrete, f(x) is probabilities, or x is not finite and f(x) is not, either.

    Cost: 1 forward pass.
    """
    check_example(x)
    logits_shape(check_values(f, x))
    if layer is None:
        end = linear_end(f, x)
        return Answers(wide(end.logits), wide(end.features))
    chosen, value, head = taps.split(f, x, layer)
    pooled = wide(taps.to_map(value, chosen)) if chosen.spatial else wide(value)
    return Answers(wide(head(value)), pooled.mean(tuple(range(pooled.ndim - 1))) if chosen.spatial else pooled.ravel())
