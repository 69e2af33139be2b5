"""Metrics that explain again: the method, and the noise on what it explains."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jxai.metrics.common import check_attribution
from jxai.scores import check_example, need_key, objective, one_of, positive, wide, within
from jxai.typing import Array, Method, Model

NOISES = ("uniform", "normal")
_NOISE = 2**31 - 1


def explainer(
    f: Model, x: Array, target: int | Array | None, attribution: Array, key: Array | None, method: Method | None, options: dict[str, Any] | None
) -> Callable[[Model, Array, int | Array | None], Array]:
    """`(f, x, target) -> attribution` in float32 or wider, by this method; checks all of them first.

    A stochastic method gets the metric's own key, the same for all that is explained again: with the key that made the given
    attribution, all of them see the same draws, and the method's sampling error is not taken for a change.

    Raises:
      ValueError: no method, bad x, target or attribution, or (once called) a method that returns another shape than the given attribution's.
    """
    if method is None:
        raise ValueError("method=None must be the method that made this attribution: another's maps would be compared with it")
    objective(f, x, target)
    check_attribution(attribution, x)
    shape = jnp.shape(attribution)

    def explain(f: Model, x: Array, target: int | Array | None) -> Array:
        again = method(f, x, target, key, **(options or {}))
        if again.shape != shape:
            name = getattr(method, "__name__", method)
            raise ValueError(f"attribution must have the shape of what method={name} returns, {again.shape}, got {shape}")
        return wide(again)

    return explain


def neighbours(name: str, x: Array, key: Array | None, noise: str, radius: float | Array, num_samples: int) -> Callable[[Array], Array]:
    """`i -> x + ε_i` in x's dtype; `"uniform"` noise in `[−radius, radius]`, or `"normal"` noise of that standard deviation.

    Raises:
      ValueError: bad x, no key, unknown noise, or a radius or `num_samples` (how many i will be asked for) that is not positive.
    """
    check_example(x)
    positive(num_samples=num_samples)
    one_of("noise", noise, NOISES)
    within(math.ulp(0.0), math.inf, radius=radius)
    # Apart from every key that the method derives from the same one.
    draws = jax.random.fold_in(need_key(key, name), _NOISE)
    clean = wide(x)

    def neighbour(i: Array) -> Array:
        drawn = jax.random.fold_in(draws, i)
        if noise == "normal":
            change = jax.random.normal(drawn, x.shape, clean.dtype)
        else:
            change = jax.random.uniform(drawn, x.shape, clean.dtype, -1.0, 1.0)
        return (clean + radius * change).astype(x.dtype)

    return neighbour


def norm(v: Array) -> Array:
    """The Euclidean norm of all entries, which neither overflows nor vanishes."""
    top = jnp.abs(v).max()
    scale = jnp.where((top > 0) & jnp.isfinite(top), top, 1)
    return scale * jnp.sqrt(((v / scale) ** 2).sum())
