"""Scores of models of the examples themselves: how badly one is made again, and how unusual its density is."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import outputs
from jxai.callables import fresh, plainly
from jxai.latent import check_generator
from jxai.scores import check_example, one_of, wide
from jxai.typing import Array
from jxai.uncertainty.checks import fits_nothing, host_numbers, need_fitted

__all__ = ["Typicality", "fit_typicality", "reconstruction_error", "typicality"]

DISTANCES = {"mse": jnp.square, "mae": jnp.abs}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Typicality:
    """What log-density the examples have on average; made by `fit_typicality`.

    Attributes:
      entropy: `[]`, `−1/n Σ_i log p(x_i)` in nats.
    """

    entropy: Array


@plainly
def fit_typicality(log_densities: Array) -> Typicality:
    """The entropy of a density, estimated by the examples that it was fitted to, or better by others of their kind: `−1/n Σ_i log p(x_i)`.

    Args:
      log_densities: `[n]`, log p(x_i) in nats, finite.

    Returns:
      A `Typicality`.

    Raises:
      ValueError: no numbers `[n]`, or not finite ones; tracers.
    """
    (given,) = host_numbers("fit_typicality", log_densities=log_densities)
    return Typicality(jnp.asarray(-np.mean(given)))


@plainly
def reconstruction_error(f: Any, x: Array, key: Array | None = None, *, fitted: None = None, distance: str = "mse") -> Array:
    """How far an example is from what a generator makes of its code, `1/D Σ_i |x_i − x̂_i|²` with `x̂ = decode(encode(x))`.

    Args:
      f: a generator with the methods `encode(x) -> z` and `decode(z) -> x`, or a function `x -> x̂` (an autoencoder). x: one example, floating point.
      key: nothing is drawn. fitted: nothing is fitted, so it must be None.
      distance: `"mse"`, or `"mae"` for the mean of |x_i − x̂_i|.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: bad x, no generator or one of other examples, an unknown distance.

    Range: [0, ∞).
    Cost: 1 pass through the encoder and the decoder.
    Reference: Hawkins et al. 2002, "Outlier Detection Using Replicator Neural Networks", DaWaK.
    """
    one_of("distance", distance, DISTANCES)
    fits_nothing("reconstruction_error", fitted)
    _check(f, x)
    if callable(getattr(f, "encode", None)) or not callable(f):
        check_generator(f, x)
        again = f.decode(f.encode(wide(x)))
    else:
        again = fresh(f)(wide(x))
        if jnp.shape(again) != x.shape:
            raise ValueError(f"f(x) must be x made again, of shape {x.shape}, got {jnp.shape(again)}")
    return DISTANCES[distance](wide(again) - wide(x)).mean()


@plainly
def typicality(f: Any, x: Array, key: Array | None = None, *, fitted: Typicality | None = None) -> Array:
    """How far the log-density of an example is from that of typical ones, `|−log p(x) − H|`: what is more probable than they are is unusual, too.

    Args:
      f: a flow or another density with the method `log_prob(x) -> []`, or a function `x -> log p(x)`. x: one example, floating point. key: nothing is drawn.
      fitted: of `fit_typicality`, H.

    Returns:
      `[]`, float32 or wider, in nats; ∞ where the density is 0.

    Raises:
      ValueError: bad x, no density, nothing fitted.

    Range: [0, ∞].
    Cost: 1 forward pass.
    Reference: Nalisnick et al. 2019, "Detecting Out-of-Distribution Inputs to Deep Generative Models Using Typicality", arXiv 1906.02994 (one example).
    """
    known = need_fitted(fitted, Typicality, "fit_typicality(log_densities)")
    _check(f, x)
    density = getattr(f, "log_prob", None)
    if not callable(density) and not callable(f):
        raise ValueError(f"f must be a density with a method log_prob(x), or a function x -> log p(x), got {type(f).__name__}")
    log_p = density(wide(x)) if callable(density) else fresh(f)(wide(x))
    if jnp.shape(log_p) != ():
        raise ValueError(f"log p(x) must be one number, got shape {jnp.shape(log_p)}")
    return jnp.abs(-wide(log_p) - known.entropy)


def _check(f: Any, x: Array) -> None:
    check_example(x)
    if outputs.concrete(f, x) and not outputs.is_finite(x):
        raise ValueError("x must be finite, but has NaN or infinite entries")
