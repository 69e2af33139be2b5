"""A method of one's own in a file of its own: the gradient of a score at the darkest and brightest rendering of x, averaged.

    python -m pytest tests/testing/test_own_method.py

`check_method` holds it to the contract that every method of `jxai.attribution` keeps; nothing in jxai needs to know of it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai.loops import at_once, means
from jxai.scores import need_key, objective, within
from jxai.typing import Array, Model


def exposure_gradient(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    num_samples: int = 16,
    stops: float = 1.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """The mean gradient over random exposures of x, `1/n Σ_i ∂s(2^(e_i) x)/∂x`, `e_i ~ U(−stops, stops)`: what counts in dim and in bright light.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank, 0 is black. target: a class, or `None`. key: for the exposures.
      num_samples: n. stops: how far the exposure varies in photographic stops, doublings of the light, in [0, 8].
      score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: exposures at once (None: `jxai.loops.at_once`).

    Returns:
      x's shape, in units of the score per unit of x, signed.

    Raises:
      ValueError: no key, a bad option, or bad x, target or score.

    Cost: `num_samples` forward and backward passes.
    Reference: none; a worked example.
    """
    s = objective(f, x, target, score)
    within(0.0, 8.0, stops=stops)
    key = need_key(key, "exposure_gradient")

    def one(i: Array) -> Array:
        exposure = jax.random.uniform(jax.random.fold_in(key, i), (), jnp.float32, -stops, stops)
        return jax.grad(lambda v: s(jnp.exp2(exposure).astype(x.dtype) * v))(x)

    return means(one, num_samples, at_once(x, chunk))
