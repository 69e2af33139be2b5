"""Gradients with another rule at the rectifiers: guided backpropagation and the deconvolutional network."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jxai.callables import plainly
from jxai.removal.doubts import flat
from jxai.removal.masks import as_map
from jxai.scores import objective
from jxai.tracing.ruled import Rule, with_rule
from jxai.typing import Array, Model

__all__ = ["deconvnet", "guided_backprop"]


@plainly
def guided_backprop(f: Model, x: Array, target: int | Array | None, key: Array | None = None, *, score: str = "logit") -> Array:
    """The gradient, with negative cotangents stopped at every rectifier.

    At `a = φ(v)` the cotangent g of a becomes `φ′(v) · max(g, 0)`; all else is differentiated as it stands. Rectifiers are
    found in the traced function (`jxai.tracing.rectifiers`) and proved by value, so that any spelling of ReLU, ReLU6, leaky ReLU, PReLU, GELU, SiLU …
    counts, and no threshold, gate or clip of x does.
    For ReLU networks this is what captum's, Xplique's and zennit's rules give.

    Args:
      f: model, `x -> logits [K]`. x: one example of any rank. target: class, or None where f returns a scalar. key: unused.
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`.

    Returns:
      x's shape.

    Raises:
      ValueError: f has no rectifier, or one inside a `while_loop`; see also `jxai.scores.objective`.

    Cost: 1 forward and 1 backward pass.
    Reference: Springenberg et al. 2015, "Striving for Simplicity: The All Convolutional Net", ICLR workshop.
    """
    return _ruled_gradient("guided_backprop", f, x, target, score, lambda phi, v, g: jax.vjp(phi, v)[1](jnp.maximum(g, 0))[0])


@plainly
def deconvnet(f: Model, x: Array, target: int | Array | None, key: Array | None = None, *, score: str = "logit") -> Array:
    """The gradient, with every rectifier passed back as a rectifier of the cotangent.

    At `a = φ(v)` the cotangent g of a becomes `max(g, 0)`, whatever v is; max pooling keeps its switches, all else is
    differentiated as it stands. Rectifiers are found as for `guided_backprop`.

    Args:
      f: model, `x -> logits [K]`. x: one example of any rank. target: class, or None where f returns a scalar. key: unused.
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`.

    Returns:
      x's shape.

    Raises:
      ValueError: f has no rectifier, or one inside a `while_loop`; see also `jxai.scores.objective`.

    Cost: 1 forward and 1 backward pass.
    Reference: Zeiler & Fergus 2014, "Visualizing and Understanding Convolutional Networks", ECCV.
    """
    return _ruled_gradient("deconvnet", f, x, target, score, lambda phi, v, g: jnp.maximum(g, 0))


def _ruled_gradient(name: str, f: Model, x: Array, target: int | Array | None, score: str, rule: Rule) -> Array:
    s = objective(f, x, target, score)  # bad arguments fail before f is walked
    found = as_map(jax.grad(objective(with_rule(f, x, rule), x, target, score))(x), x)
    flat(name, found, s, x, [jnp.zeros_like(x)], lambda: jax.grad(s)(x))
    return found
