"""Scores that change what flows through a model and let it answer again: ODIN moves the example, RankFeat takes from a map what is strongest in it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import fresh, plainly
from jxai.scores import check_example, check_values, logits_shape, wide
from jxai.tracing import taps
from jxai.typing import Array, Model
from jxai.uncertainty import formulas
from jxai.uncertainty.checks import check_convention, check_not_negative, check_positive, fits_nothing
from jxai.uncertainty.formulas.perturbed import without_first

__all__ = ["odin", "rank_feat"]


@plainly
def odin(
    f: Model,
    x: Array,
    key: Array | None = None,
    *,
    fitted: Any = None,
    temperature: float = 1000.0,
    noise: float = 0.0014,
    std: Array | tuple[float, ...] | float | None = None,
    convention: str = "paper",
) -> Array:
    """The largest class probability at a high temperature, negated, after a small step towards it: `−max_k softmax(f(x′) / T)_k`, `x′ = x + ε sign(∂ log softmax(f(x) / T)_ŷ / ∂x) / std`.

    ŷ is the class with the largest logit. The sign is that of the derivative of `T log Σ_{k≠ŷ} exp(f(x)_k / T) − f(x)_ŷ`, negated: it is the same, and does not
    vanish where the softmax is saturated.

    Args:
      f: a model `x -> logits [K]`. x: one example, floating point. key: nothing is drawn.
      fitted: nothing is fitted, so it must be None.
      temperature: T > 0.
      noise: ε >= 0, in units of x; of the pixels, where x is normalised and `std` is given.
      std: the standard deviations that x was divided by, which broadcast against x (`[C]` for channels last); None where f takes pixels and normalises inside, as models
        here do: OpenOOD's step on normalised images is this step on pixels.
      convention: "paper" leaves alone the entries whose derivative is 0, "openood" subtracts ε from them.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: a bad x or option; where they are concrete, f(x) that is NaN or probabilities.

    Range: [−1, 0].
    Cost: 2 forward passes and 1 backward pass.
    Reference: Liang, Li & Srikant 2018, "Enhancing The Reliability of Out-of-distribution Image Detection in Neural Networks", ICLR.
    """
    fits_nothing("odin", fitted)
    check_example(x)
    logits_shape(check_values(f, x))
    check_positive(temperature=temperature)
    check_not_negative(noise=noise)
    check_convention(convention)
    call = fresh(f)

    def against(v: Array) -> Array:
        z = wide(call(v))
        own = jnp.arange(z.size) == jnp.argmax(z)
        return temperature * jax.nn.logsumexp(jnp.where(own, -jnp.inf, z) / temperature) - jnp.where(own, z, 0).sum()

    slope = jax.grad(against)(x)
    sign = jnp.sign(slope) if convention == "paper" else jnp.where(slope >= 0, 1, -1)
    moved = x - noise * sign / _deviations(std, x)
    return formulas.odin(call(moved.astype(x.dtype)), temperature=temperature, convention=convention)


@plainly
def rank_feat(
    f: Model,
    x: Array,
    key: Array | None = None,
    *,
    fitted: Any = None,
    layer: int | str | tuple[int | str, ...] | None = None,
    temperature: float = 1.0,
    convention: str = "paper",
) -> Array:
    """The energy of the logits that f gives when a map loses its first singular component: `−T log Σ_k exp(z_k / T)`, `z = head(A − σ₁ u₁ v₁ᵀ)`.

    A `[positions, channels]` is the layer's value, head the rest of f; of several layers the logits are averaged (the paper takes the ends of the last two
    stages of a ResNet).

    Args:
      f: a model `x -> logits [K]`. x: one example, floating point. key: nothing is drawn.
      fitted: nothing is fitted, so it must be None.
      layer: a layer with positions as `jxai.taps.find` takes it, or a tuple of such; None for the last one.
      temperature: T > 0.
      convention: "paper" or "openood", which are the same here.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: a bad x or option, a layer without positions; where they are concrete, f(x) that is NaN or probabilities.

    Range: (−∞, ∞).
    Cost: 1 forward pass, for each layer that of what follows it, and 20 products of matrices as large as the fewer of its positions and channels.
    Reference: Song, Sebe & Wang 2022, "RankFeat: Rank-1 Feature Removal for Out-of-distribution Detection", NeurIPS.
    """
    fits_nothing("rank_feat", fitted)
    check_example(x)
    logits_shape(check_values(f, x))
    layers = layer if isinstance(layer, tuple) else (layer,)
    if not layers:
        raise ValueError("layer=() must name a layer or more")
    answers = jnp.stack([wide(_weakened(f, x, name)) for name in layers])
    return formulas.energy(answers.mean(0), temperature=temperature, convention=convention)


def _weakened(f: Model, x: Array, layer: int | str | None) -> Array:
    """`f(x)` with the layer's map without its first singular component; what has no position (a class token) stays."""
    chosen, value, head = taps.split(f, x, layer)
    to_map = lambda v: taps.to_map(v, chosen)
    a = to_map(value)
    change = wide(a).reshape(-1, a.shape[-1])
    change = (without_first(change) - change).reshape(a.shape).astype(value.dtype)
    return head(value + jax.linear_transpose(to_map, value)(change)[0])


def _deviations(std: Any, x: Array) -> Array:
    """The deviations as an array, 1 for None; ValueError where they do not broadcast against x or, concrete, are not positive."""
    if std is None:
        return jnp.ones((), wide(x).dtype)
    shape = np.shape(std)
    if len(shape) > x.ndim or any(n not in (1, m) for n, m in zip(reversed(shape), reversed(x.shape))):
        raise ValueError(f"std of shape {shape} must broadcast against x of shape {x.shape}: one number for each channel [{x.shape[-1]}]")
    if not isinstance(std, jax.core.Tracer) and not (np.asarray(std) > 0).all():
        raise ValueError(f"{std=} must be positive")
    return jnp.asarray(std, wide(x).dtype)
