"""Greedy searches that change one entry a step, the one of the steepest slope: few entries change, by a lot."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jxai.counterfactual.search import Candidate, Domain, Search, method, wanted
from jxai.counterfactual.search.constraints import Frozen, frozen
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.scores import positive, wide, within
from jxai.tracing import taps
from jxai.typing import Array, Clip, Model
from jxai.uncertainty import GaussianDensity

Loss = Callable[[Model, Array, Array, dict[str, Any]], tuple[Array, Array]]
"""`(f, x, target, options) -> (loss, logits)`."""


@method
def jsma(
    *,
    delta: float = 0.2,
    threshold: float = 0.5,
    max_changes: int | None = None,
    steps: int = 700,
    scale: float | Array | None = None,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
) -> Search:
    """JSMA, targeted: at each step the entry with the greatest `s_i |∂ log p(target) / ∂x_i|` moves by `δ s_i`, the way that raises it, until `p >= threshold`.

    The form that Höltgen et al. (2021) compared: the slope of the log-probability instead of the paper's two Jacobians of target and others,
    and an entry that has come to an end of the range stays there. An entry that would be moved beyond the range is passed over.

    Args:
      delta: δ > 0, in units of the scale. threshold: γ, of the target's probability, in (0, 1).
      max_changes: how often an entry may change; None is without limit. steps: at most; the search ends earlier where no entry is left to change.
      scale: s > 0, each feature's own unit, as in `wachter`.
      clip: the valid range. region: booleans over the positions or entries of x, where it may change; all by default; may differ by example.

    Returns:
      A `Counterfactual`, its latent None; valid where `p >= threshold`, or x itself where it is of the target class.

    Raises:
      ValueError: bad x, target or option, a region that freezes everything, x outside of `clip`.

    Cost: a forward and a backward pass for each step.
    Reference: Papernot et al. 2016, "The Limitations of Deep Learning in Adversarial Settings", EuroS&P.
    """
    return _greedy(_log_loss, {}, delta, threshold, max_changes, 0.0, steps, scale, clip, region, stay=True)


@method
def deduce(
    *,
    density: GaussianDensity,
    features: Callable[[Array], Array] | str | int,
    delta: float = 0.2,
    threshold: float = 0.5,
    max_changes: int = 5,
    momentum: float = 0.6,
    certainty: float = 1.0,
    normalize: bool = True,
    steps: int = 700,
    scale: float | Array | None = None,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
) -> Search:
    """DeDUCE: one entry a step towards high density of the target's features and high probability of the target, until `p >= threshold`.

    `L(x) = −α log N(h(x); μ_target, Σ_target) − β λ log p(target | x)`, both terms of size 1 at each step: α and β are one over the terms' magnitudes,
    held constant. Of the entries that have changed fewer than `max_changes` times the one with the greatest `s_i |∂L/∂x_i|` moves by `δ s_i`, against the
    sign of the slope with momentum, `g + m · g_before`. As in the published code, momentum turns signs but does not choose entries.
    An entry that would be moved beyond the range is passed over; the published code spends changes on it that change nothing.

    Args:
      density: of the features of the training data, `jxai.uncertainty.fit_gaussian_density(h, logits, labels)`.
      features: h: a pytree callable `x -> h` (computed beside f), or a layer of f as `jxai.taps.find` names it (in the same pass).
      delta: δ > 0, in units of the scale. threshold: γ, of the target's probability, in (0, 1).
      max_changes: how often an entry may change. momentum: m, in [0, 1]. certainty: λ >= 0, of the probability.
      normalize: False for α = β = 1.
      steps: at most; the search ends earlier where no entry is left to change.
      scale: s > 0, each feature's own unit, as in `wachter`.
      clip: the valid range. region: booleans over the positions or entries of x, where it may change; all by default; may differ by example.

    Returns:
      A `Counterfactual`, its latent None; valid where `p >= threshold`, or x itself where it is of the target class.

    Raises:
      ValueError: bad x, target or option, features of another size than the density's, a region that freezes everything, x outside of `clip`.

    Cost: a forward and a backward pass, and `K D²` operations, for each step.
    Reference: Höltgen et al. 2021, "DeDUCE: Generating Counterfactual Explanations Efficiently", arXiv 2111.15639.
    """
    within(0.0, 1.0, momentum=momentum)
    within(0.0, math.inf, certainty=certainty)
    if not hasattr(density, "log_prob"):
        raise ValueError(f"density must be a GaussianDensity, got {type(density).__name__}")
    if not callable(features) and not isinstance(features, (str, int)):
        raise ValueError(f"features={features!r} must be a callable x -> h, or a layer's name or index")
    options = {"density": density, "features": features, "certainty": certainty, "normalize": normalize}
    return _greedy(_density_loss, options, delta, threshold, max_changes, momentum, steps, scale, clip, region, stay=False)


def _greedy(loss: Loss, options: dict, delta, threshold, max_changes, momentum, steps, scale, clip, region, *, stay: bool) -> Search:
    """The search; stay: an entry that has come to an end of the range is not moved again."""
    within(math.ulp(0.0), math.nextafter(math.inf, 0.0), delta=delta)
    within(math.ulp(0.0), math.nextafter(1.0, 0.0), threshold=threshold)
    positive(steps=steps, max_changes=1 if max_changes is None else max_changes)
    frozen(region)
    check_scale(scale)
    options = {**options, "scale": scale, "delta": delta, "threshold": threshold, "max_changes": max_changes, "momentum": momentum, "clip": clip, "stay": stay}
    return Search(Partial(_init, region), Partial(_step, loss, options), steps, Domain(clip, region=region, scale=scale))


def _init(default: Array | None, f: Model, x: Array, target: Array, key: Array | None, region: Array | None = None) -> tuple[Array, dict[str, Array]]:
    v = wide(x)
    memory = {"target": wanted(target), "open": open_entries(x, default if region is None else region), "changes": jnp.zeros(x.shape, jnp.int32)}
    return x, {**memory, "slope": jnp.zeros_like(v)}


def open_entries(x: Array, region: Array | None) -> Array:
    """`[*x.shape]`, bool: where x may change."""
    if region is None:
        return jnp.ones(x.shape, bool)
    return Frozen(jnp.asarray(region)).exact(jnp.ones(x.shape), jnp.zeros(x.shape)) > 0


def _step(loss: Loss, options: dict[str, Any], f: Model, x: Array, memory: dict[str, Array]) -> tuple[Array, dict[str, Array], Candidate]:
    target, clip, most = memory["target"], options["clip"], options["max_changes"]
    (_, logits), slope = jax.value_and_grad(lambda v: loss(f, v.astype(x.dtype), target, options), has_aux=True)(wide(x))
    log_p = jax.nn.log_softmax(logits)[target]
    left = memory["open"] if most is None else memory["open"] & (memory["changes"] < most)
    scale = unit(options["scale"], x)
    slope = jnp.where(left & jnp.isfinite(slope), scale * slope, 0)
    carried = slope + options["momentum"] * memory["slope"]
    moved = _within(wide(x) - options["delta"] * scale * jnp.sign(carried), clip, x.dtype)
    can = (slope != 0) & (moved != x)
    chosen = jnp.argmax(jnp.where(can, jnp.abs(slope), -1)) == jnp.arange(x.size).reshape(x.shape)
    chosen = chosen & can
    ended = jnp.zeros_like(chosen)
    for end in clip if options["stay"] and clip is not None else ():
        ended = ended | (chosen & (moved == jnp.asarray(end, x.dtype)))
    valid = log_p >= jnp.log(options["threshold"])
    memory = {"target": target, "open": memory["open"] & ~ended, "changes": memory["changes"] + chosen, "slope": carried}
    return jnp.where(chosen, moved, x), memory, Candidate(x, None, logits, valid, -log_p, valid | ~chosen.any())


def _within(v: Array, clip: Clip | None, dtype: Any) -> Array:
    """v cut to the range; what is within rounding of an end (1 − 5 · 0.2) is the end."""
    if clip is None:
        return v.astype(dtype)
    low, high = (jnp.asarray(end, v.dtype) for end in clip)
    near = 8 * float(jnp.finfo(dtype).eps) * (high - low)
    return jnp.where(v <= low + near, low, jnp.where(v >= high - near, high, v)).astype(dtype)


def _log_loss(f: Model, x: Array, target: Array, options: dict[str, Any]) -> tuple[Array, Array]:
    logits = wide(f(x))
    return -jax.nn.log_softmax(logits)[target], logits


def _density_loss(f: Model, x: Array, target: Array, options: dict[str, Any]) -> tuple[Array, Array]:
    density, of = options["density"], options["features"]
    if callable(of):
        h, logits = of(x), wide(f(x))
    else:
        cut = taps.split(f, x, of)
        h, logits = cut.value, wide(cut.head(cut.value))
    log_prob = density.log_prob(wide(h))
    if log_prob.shape != logits.shape:
        raise ValueError(f"density has {log_prob.size} classes, but f(x) {logits.size}")
    terms = jnp.stack([-log_prob[target], -jax.nn.log_softmax(logits)[target]])
    size = jnp.abs(jax.lax.stop_gradient(terms)) if options["normalize"] else jnp.ones(2)
    return (terms / jnp.where(size > 0, size, 1)) @ jnp.stack([1.0, jnp.asarray(options["certainty"], jnp.float32)]), logits
