"""Relative stability: how far an attribution moves near x, against how far x, the output or a representation moves.

All are `max_i ‖(a − a_i) / a‖ / max(D_i, ε)` over noisy copies `x_i` of x that are predicted to be of the same class as x,
entry by entry and then the Euclidean norm; `D_i` differs. An entry that is 0 is taken for ε where it divides (Quantus's rule), so
that zeros in a map, or black pixels, weigh heavily. The copies are explained again, with the keys that `jxai.metrics.robustness`
describes. Where no copy keeps its class nothing was measured, and the result is NaN; for `target=None` all copies count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jxai import loops
from jxai.callables import fresh, plainly
from jxai.metrics.common import nan_unless_finite
from jxai.metrics.explaining import explainer, neighbours, norm
from jxai.removal.scales import or_pictures
from jxai.scores import wide, within
from jxai.tracing import taps
from jxai.typing import Array, Method, Model

__all__ = ["relative_input_stability", "relative_output_stability", "relative_representation_stability"]


@plainly
def relative_input_stability(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    num_samples: int = 50,
    radius: float | Array | None = None,
    noise: str = "normal",
    epsilon: float | Array = 1e-6,
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
    chunk: int | None = None,
) -> Array:
    """Relative input stability: `max_i ‖(a − a_i) / a‖ / max(‖(x − x_i) / x‖, ε)` over copies of the same predicted class.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or None. key: for the noise, and for `method`.
      attribution: `a`, of the shape that `method` returns.
      num_samples: noisy copies of x (Quantus has 200).
      radius: of the noise, in units of x, > 0, a number or an array that broadcasts against x; None: 0.05 for pictures. That of a vector or a
        series must be given, as its features have units of their own. noise: `"normal"` with that standard deviation, or `"uniform"` in the cube
        `[−radius, radius]` around x (Quantus has 0.2).
      epsilon: ε, > 0 (Quantus's 1e-6).
      method, method_options: what made the attribution (it must be named), and its options.
      chunk: noisy copies at once (None: `jxai.loops.at_once`); a `method` with its own `chunk` runs that many passes for each of them.

    Returns:
      float32 (the paper plots its logarithm); NaN where no copy keeps its class.

    Raises:
      ValueError: no key or method, a bad option, bad x, target or attribution, or an attribution of another shape than the method's.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: `num_samples` explanations and `num_samples + 1` forward passes.
    Reference: Agarwal et al. 2022, "Rethinking Stability for Attribution-based Explanations", ICLR Workshop on Privacy, Accountability, Interpretability, Robustness, Reasoning on Structured Data.
    """
    options = (num_samples, radius, noise, epsilon, method, method_options, chunk)
    return _stability("relative_input_stability", f, x, target, attribution, key, lambda v: (v, fresh(f)(v)), True, *options)


@plainly
def relative_output_stability(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    num_samples: int = 50,
    radius: float | Array | None = None,
    noise: str = "normal",
    epsilon: float | Array = 1e-6,
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
    chunk: int | None = None,
) -> Array:
    """Relative output stability: `max_i ‖(a − a_i) / a‖ / max(‖f(x) − f(x_i)‖, ε)` over copies of the same predicted class.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or None. key: for the noise, and for `method`.
      attribution: `a`, of the shape that `method` returns.
      num_samples, radius, noise, epsilon, method, method_options, chunk: as in `relative_input_stability`.

    Returns:
      float32, per unit of the logits; NaN where no copy keeps its class.

    Raises:
      ValueError: no key or method, a bad option, bad x, target or attribution, or an attribution of another shape than the method's.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: `num_samples` explanations and `num_samples + 1` forward passes.
    Reference: Agarwal et al. 2022, "Rethinking Stability for Attribution-based Explanations", ICLR Workshop on Privacy, Accountability, Interpretability, Robustness, Reasoning on Structured Data.
    """
    options = (num_samples, radius, noise, epsilon, method, method_options, chunk)

    def view(v: Array) -> tuple[Array, Array]:
        out = fresh(f)(v)
        return out, out

    return _stability("relative_output_stability", f, x, target, attribution, key, view, False, *options)


@plainly
def relative_representation_stability(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    layer: int | str | None = None,
    num_samples: int = 50,
    radius: float | Array | None = None,
    noise: str = "normal",
    epsilon: float | Array = 1e-6,
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
    chunk: int | None = None,
) -> Array:
    """Relative representation stability: `max_i ‖(a − a_i) / a‖ / max(‖(z − z_i) / z‖, ε)` over copies of the same predicted class.

    z is the value of a layer of f, read in the same forward pass that gives the class.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or None. key: for the noise, and for `method`.
      attribution: `a`, of the shape that `method` returns.
      layer: the representation, as `jxai.taps.find` takes it; by default the last value with spatial extent, or where x is a
        vector the last value of another shape than the logits'.
      num_samples, radius, noise, epsilon, method, method_options, chunk: as in `relative_input_stability`.

    Returns:
      float32; NaN where no copy keeps its class.

    Raises:
      ValueError: no such layer, no key or method, a bad option, bad x, target or attribution, or an attribution of another shape than
        the method's.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: `num_samples` explanations and `num_samples + 1` forward passes.
    Reference: Agarwal et al. 2022, "Rethinking Stability for Attribution-based Explanations", ICLR Workshop on Privacy, Accountability, Interpretability, Robustness, Reasoning on Structured Data.
    """
    options = (num_samples, radius, noise, epsilon, method, method_options, chunk)

    chosen = _last_hidden(f, x) if layer is None and x.ndim == 1 else layer

    def view(v: Array) -> tuple[Array, Array]:
        cut = taps.split(f, v, chosen)
        return cut.value, cut.head(cut.value)

    return _stability("relative_representation_stability", f, x, target, attribution, key, view, True, *options)


def _last_hidden(f: Model, x: Array) -> int | None:
    """The index of the last value of another shape than f(x)'s, the positions of a vector being no grid to look for."""
    *_, out = found = taps.layers(f, x)
    return next((item.index for item in reversed(found) if item.shape != out.shape), None)


def _stability(
    name, f, x, target, attribution, key, view: Callable[[Array], tuple[Array, Array]], relative: bool,
    num_samples, radius, noise, epsilon, method, method_options, chunk,
) -> Array:  # fmt: skip
    """The stability against what `view` sees of a copy, `v -> (z, output)`; z's change is `relative` to z, or not."""
    within(math.ulp(0.0), math.inf, epsilon=epsilon)
    neighbour = neighbours(name, x, key, noise, or_pictures("radius", radius, 0.05, x), num_samples)
    explain = explainer(f, x, target, attribution, key, method, method_options)

    def change(v: Array, other: Array) -> Array:
        return (v - other) / jnp.where(v == 0, epsilon, v)

    a = wide(jnp.asarray(attribution))
    z, output = view(x)

    def ratio(i: Array) -> Array:
        near = neighbour(i)
        other, other_output = view(near)
        moved = norm(change(wide(z), wide(other)) if relative else wide(z) - wide(other))
        same = jnp.argmax(output) == jnp.argmax(other_output)
        return jnp.where(same, norm(change(a, explain(f, near, target))) / jnp.maximum(moved, epsilon), -jnp.inf)

    worst = loops.stack(ratio, num_samples, loops.at_once(x, chunk)).max()
    return nan_unless_finite(jnp.where(worst == -jnp.inf, jnp.nan, worst), attribution).astype(jnp.float32)
