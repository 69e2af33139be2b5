"""Robustness: how far an attribution moves where x moves a little.

The noisy copies of x are explained again, at the same target, by `method`; the given attribution is not. A stochastic method gets
the metric's own key for every copy: pass the key that made the given attribution (as `jxai.each` does when both get
one key), and only what the noise on x changes is measured; with another key, the method's sampling error is measured as well.
A map that is not finite gives NaN; a constant one is a map like any other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.metrics.common import nan_unless_finite
from jxai.metrics.explaining import explainer, neighbours, norm
from jxai.removal.scales import or_pictures
from jxai.scores import wide
from jxai.typing import Array, Method, Model

__all__ = ["avg_sensitivity", "local_lipschitz", "max_sensitivity"]


@plainly
def max_sensitivity(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    num_samples: int = 10,
    radius: float | Array | None = None,
    noise: str = "uniform",
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
    chunk: int | None = None,
) -> Array:
    """The largest relative change of the attribution near x: `max_i ‖a(x + ε_i) − a‖ / ‖a‖`, Euclidean norms of all entries.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or None. key: for the noise, and for `method`.
      attribution: `a`, of the shape that `method` returns.
      num_samples: noisy copies of x (captum's 10; Quantus has 200).
      radius: of the noise, in units of x, > 0, a number or an array that broadcasts against x; None: captum's 0.02 for pictures (Quantus has
        0.2). That of a vector or a series must be given, as its features have units of their own.
      noise: `"uniform"` in the cube `[−radius, radius]` around x (the paper's, captum's and Quantus's), or `"normal"` with that
        standard deviation.
      method, method_options: what made the attribution (it must be named), and its options.
      chunk: noisy copies at once (None: `jxai.loops.at_once`); a `method` with its own `chunk` runs that many passes for each of them.

    Returns:
      float32; of a map of zeros, the largest `‖a(x + ε_i)‖` (captum's).

    Raises:
      ValueError: no key or method, a bad option, bad x, target or attribution, or an attribution of another shape than the method's.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: `num_samples` explanations.
    Reference: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", NeurIPS.
    """
    change = _changes("max_sensitivity", f, x, target, attribution, key, noise, or_pictures("radius", radius, 0.02, x), num_samples, method, method_options)
    return _over(jnp.max, lambda i: change(i)[1], attribution, num_samples, x, chunk)


@plainly
def avg_sensitivity(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    num_samples: int = 10,
    radius: float | Array | None = None,
    noise: str = "uniform",
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
    chunk: int | None = None,
) -> Array:
    """The mean relative change of the attribution near x: `1/n Σ_i ‖a(x + ε_i) − a‖ / ‖a‖`, Euclidean norms of all entries.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or None. key: for the noise, and for `method`.
      attribution: `a`, of the shape that `method` returns.
      num_samples, radius, noise, method, method_options, chunk: as in `max_sensitivity`.

    Returns:
      float32; of a map of zeros, the mean `‖a(x + ε_i)‖`. With one key, at most `max_sensitivity`.

    Raises:
      ValueError: no key or method, a bad option, bad x, target or attribution, or an attribution of another shape than the method's.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: `num_samples` explanations.
    Reference: Yeh et al. 2019, "On the (In)fidelity and Sensitivity of Explanations", NeurIPS.
    """
    change = _changes("avg_sensitivity", f, x, target, attribution, key, noise, or_pictures("radius", radius, 0.02, x), num_samples, method, method_options)
    return _over(jnp.mean, lambda i: change(i)[1], attribution, num_samples, x, chunk)


@plainly
def local_lipschitz(
    f: Model,
    x: Array,
    target: int | Array | None,
    attribution: Array,
    key: Array | None = None,
    *,
    num_samples: int = 50,
    radius: float | Array | None = None,
    noise: str = "uniform",
    method: Method | None = None,
    method_options: dict[str, Any] | None = None,
    chunk: int | None = None,
) -> Array:
    """The local Lipschitz estimate: `max_i ‖a(x + ε_i) − a‖ / ‖ε_i‖`, Euclidean norms of all entries.

    A lower bound of the Lipschitz constant near x. The paper searches the cube by Bayesian optimisation; drawing from it, as
    here and in Quantus, finds less.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or None. key: for the noise, and for `method`.
      attribution: `a`, of the shape that `method` returns.
      num_samples: noisy copies of x (Quantus has 200).
      radius: as in `max_sensitivity`, but 0.1 for pictures. noise: `"uniform"` in the cube `[−radius, radius]` around x (the paper's
        neighbourhood), or `"normal"` with that standard deviation (Quantus has 0.1).
      method, method_options, chunk: as in `max_sensitivity`.

    Returns:
      float32, in units of the attribution per unit of x: it scales with the attribution.

    Raises:
      ValueError: no key or method, a bad option, bad x, target or attribution, or an attribution of another shape than the method's.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: `num_samples` explanations.
    Reference: Alvarez-Melis and Jaakkola 2018, "On the Robustness of Interpretability Methods", ICML Workshop on Human Interpretability.
    """
    change = _changes("local_lipschitz", f, x, target, attribution, key, noise, or_pictures("radius", radius, 0.1, x), num_samples, method, method_options)

    def ratio(i: Array) -> Array:
        moved, relative, size = change(i)
        # Noise below the resolution of a half-precision x leaves x, and a, where they are.
        return jnp.where(moved > 0, relative * size / jnp.where(moved > 0, moved, 1), 0)

    return _over(jnp.max, ratio, attribution, num_samples, x, chunk)


def _changes(name, f, x, target, attribution, key, noise, radius, num_samples, method, options) -> Callable[[Array], tuple[Array, Array, Array]]:
    """`i -> (‖x_i − x‖, ‖a_i − a‖ / ‖a‖, ‖a‖)`, where the norm of a map of zeros is taken for 1."""
    neighbour = neighbours(name, x, key, noise, radius, num_samples)
    explain = explainer(f, x, target, attribution, key, method, options)
    a = wide(jnp.asarray(attribution))
    size = norm(a)
    size = jnp.where(size > 0, size, 1)

    def change(i: Array) -> tuple[Array, Array, Array]:
        near = neighbour(i)
        return norm(wide(near) - wide(x)), norm(explain(f, near, target) - a) / size, size

    return change


def _over(reduce: Callable[[Array], Array], fn: Callable[[Array], Array], attribution, num_samples: int, x: Array, chunk) -> Array:
    return nan_unless_finite(reduce(loops.stack(fn, num_samples, loops.at_once(x, chunk))), attribution).astype(jnp.float32)
