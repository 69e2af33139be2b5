"""Scores that change the features before the last layer and take the energy of what it then says: ReAct, VRA, ASH, SCALE."""

from __future__ import annotations

import dataclasses
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import one_of, within
from jxai.typing import Array
from jxai.uncertainty import fitting
from jxai.uncertainty.checks import need_fitted
from jxai.uncertainty.formulas.energy import before_head, free_energy
from jxai.uncertainty.heads import Head

__all__ = ["React", "Vra", "ash", "fit_react", "fit_vra", "react", "scale", "vra"]

VARIANTS = ("b", "p", "s")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class React:
    """What `react` is fitted by.

    Attributes:
      threshold: `[]`, above which features are cut. head: the model's last linear map.
    """

    threshold: Array
    head: Head


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Vra:
    """What `vra` is fitted by.

    Attributes:
      low, high: `[]`, or `[D]` of each unit's own, between which features are left as they are. head: the model's last linear map.
    """

    low: Array
    high: Array
    head: Head


@plainly
def fit_react(features: Array, logits: Array, labels: Array | None = None, head: Head | None = None, *, percentile: float = 90.0) -> React:
    """The threshold of ReAct: a percentile of the features of all units together.

    OpenOOD takes the features of the validation set, the paper those of the training set.

    Args:
      features: `[n, D]`.
      logits: `[n, K]`, of which K is read.
      labels: not read.
      head: the model's last linear map, as `jxai.uncertainty.linear_head(f, x)` finds it.
      percentile: in [0, 100], interpolated linearly.

    Returns:
      `React(threshold, head)`.

    Raises:
      ValueError: no head, arrays that do not fit together, features that are not finite, a bad percentile, or arrays that are traced.

    Cost: a selection among n D numbers, in float64 on the host.
    Reference: Sun, Guo & Li 2021, "ReAct: Out-of-distribution Detection With Rectified Activations", NeurIPS.
    """
    pooled, head = _pooled("fit_react", features, logits, labels, head)
    within(0, 100, percentile=percentile)
    threshold = jnp.asarray(np.percentile(pooled, percentile))
    return React(threshold, head)


@plainly
def react(logits: Array, features: Array | None = None, fitted: React | None = None, *, convention: str = "paper") -> Array:
    """The energy of the logits that features cut at a threshold c give: `−log Σ_k exp(Wᵀ min(h, c) + b)_k`.

    Args:
      logits: `[K]`, not read.
      features: `[D]`, what the last layer is applied to.
      fitted: of `fit_react`.
      convention: "paper" or "openood", which differ in the data that the threshold is fitted to: OpenOOD's is the validation set.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: not fitted, an unknown convention, features of another size; where they are concrete, NaN.

    Range: (−∞, ∞).
    Cost: `O(D K)` operations.
    Reference: Sun, Guo & Li 2021, "ReAct: Out-of-distribution Detection With Rectified Activations", NeurIPS.
    """
    fitted = need_fitted(fitted, React, "fit_react(features, logits, labels, head)")
    h = before_head(logits, features, fitted.head, convention)
    return free_energy(fitted.head(jnp.minimum(h, fitted.threshold)))


@plainly
def fit_vra(
    features: Array, logits: Array, labels: Array | None = None, head: Head | None = None, *, low: float = 10.0, high: float = 90.0, units: str = "together"
) -> Vra:
    """The two thresholds of VRA, percentiles of the features.

    Args:
      features: `[n, D]`.
      logits: `[n, K]`, of which K is read.
      labels: not read.
      head: the model's last linear map, as `jxai.uncertainty.linear_head(f, x)` finds it.
      low: a percentile in [0, 100], interpolated linearly.
      high: a percentile in [low, 100].
      units: "together" takes the percentiles of all units' features, as OpenOOD does (of the validation set); "each" those of each unit's own, as the code of the
        paper's authors does.

    Returns:
      `Vra(low, high, head)`.

    Raises:
      ValueError: no head, arrays that do not fit together, features that are not finite, bad options, or arrays that are traced.

    Cost: two selections among n D numbers, in float64 on the host.
    Reference: Xu et al. 2023, "VRA: Variational Rectified Activation for Out-of-distribution Detection", NeurIPS.
    """
    pooled, head = _pooled("fit_vra", features, logits, labels, head)
    within(0, 100, low=low, high=high)
    if low > high:
        raise ValueError(f"{low=} must be at most {high=}")
    each = one_of("units", units, ("together", "each")) == "each"
    thresholds = jnp.asarray(np.percentile(pooled, [low, high], axis=0 if each else None))
    return Vra(thresholds[0], thresholds[1], head)


@plainly
def vra(logits: Array, features: Array | None = None, fitted: Vra | None = None, *, convention: str = "paper") -> Array:
    """The energy of the logits that features without their extremes give: `−log Σ_k exp(Wᵀ g(h) + b)_k`.

    `g(h) = 0` below a low threshold, h between it and a high one, the high one above; clipped to the two with convention="openood".

    Args:
      logits: `[K]`, not read.
      features: `[D]`, what the last layer is applied to.
      fitted: of `fit_vra`.
      convention: "paper" sets to 0 what lies below the low threshold, "openood" to the low threshold.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: not fitted, an unknown convention, features of another size; where they are concrete, NaN.

    Range: (−∞, ∞).
    Cost: `O(D K)` operations.
    Reference: Xu et al. 2023, "VRA: Variational Rectified Activation for Out-of-distribution Detection", NeurIPS.
    """
    fitted = need_fitted(fitted, Vra, "fit_vra(features, logits, labels, head)")
    h = before_head(logits, features, fitted.head, convention)
    below = 0 if convention == "paper" else fitted.low
    return free_energy(fitted.head(jnp.where(h < fitted.low, below, jnp.minimum(h, fitted.high))))


@plainly
def ash(
    logits: Array, features: Array | None = None, fitted: Head | None = None, *, variant: str = "b", percentile: float = 90.0, convention: str = "paper"
) -> Array:
    """The energy of the logits that the largest features give, shaped anew: `−log Σ_k exp(Wᵀ g(h) + b)_k`.

    Of D features the k = D − round(D · percentile / 100) largest are kept (of equal ones the first), all others set to 0. What is kept becomes Σh / k
    (variant="b"), stays (variant="p"), or is multiplied by exp(Σh / Σ of what is kept) (variant="s").

    Args:
      logits: `[K]`, not read.
      features: `[D]`, what the last layer is applied to; not negative, as behind a ReLU.
      fitted: the model's last linear map, as `jxai.uncertainty.linear_head(f, x)` finds it.
      variant: "b", "p" or "s".
      percentile: in [0, 100), how many of a hundred features are pruned.
      convention: "paper" or "openood", which are the same here; OpenOOD knows variant="b" alone.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: no head, bad options, a percentile that keeps no feature, features of another size; where they are concrete, NaN.

    Range: (−∞, ∞).
    Cost: `O(D K)` operations.
    Reference: Djurisic et al. 2023, "Extremely Simple Activation Shaping for Out-of-Distribution Detection", ICLR.
    """
    head = need_fitted(fitted, Head, "linear_head(f, x)")
    one_of("variant", variant, VARIANTS)
    h = before_head(logits, features, head, convention)
    kept, count = _largest(h, percentile)
    if variant == "b":
        return free_energy(head(jnp.where(kept, h.sum() / count, 0)))
    pruned = jnp.where(kept | jnp.isnan(h), h, 0)  # what is no number is not pruned away
    return free_energy(head(pruned) if variant == "p" else _scaled(pruned, h, pruned, head))


@plainly
def scale(logits: Array, features: Array | None = None, fitted: Head | None = None, *, percentile: float = 85.0, convention: str = "paper") -> Array:
    """The energy of the logits that features give when they are scaled by how even they are: `−log Σ_k exp(Wᵀ h exp(Σh / Σ of the largest) + b)_k`.

    The largest are, of D features, the k = D − round(D · percentile / 100); none is pruned.

    Args:
      logits: `[K]`, not read.
      features: `[D]`, what the last layer is applied to; not negative, as behind a ReLU.
      fitted: the model's last linear map, as `jxai.uncertainty.linear_head(f, x)` finds it.
      percentile: in [0, 100), how many of a hundred features are none of the largest.
      convention: "paper" or "openood", which are the same here.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: no head, an unknown convention, a percentile that leaves no feature, features of another size; where they are concrete, NaN.

    Range: (−∞, ∞).
    Cost: `O(D K)` operations.
    Reference: Xu et al. 2024, "Scaling for Training Time and Post-hoc Out-of-distribution Detection Enhancement", ICLR.
    """
    head = need_fitted(fitted, Head, "linear_head(f, x)")
    h = before_head(logits, features, head, convention)
    return free_energy(_scaled(h, h, jnp.where(_largest(h, percentile)[0], h, 0), head))


def _pooled(name: str, features: Array, logits: Array | None, labels: Array | None, head: Head | None) -> tuple[np.ndarray, Head]:
    """The features of a fit in float64 and its head, both checked."""
    _, d, k = fitting.given(name, features, logits, labels, read=("logits",))
    fitting.need_head(head, d, k, name)
    return np.asarray(features, np.float64), cast(Head, head)


def _largest(h: Array, percentile: float) -> tuple[Array, int]:
    """Which are the largest of h `[D]`, boolean, and how many; of equal ones the first. Without a scatter, which is slow on a CPU."""
    count = h.size - int(np.round(h.size * percentile / 100)) if 0 <= percentile <= 100 else 0
    if count < 1:
        raise ValueError(f"{percentile=} must lie in [0, 100) and leave one of the {h.size} features, but leaves none")
    least = jax.lax.top_k(h, count)[0][-1]
    above, equal = h > least, h == least
    return above | (equal & (jnp.cumsum(equal) <= count - above.sum())), count


def _scaled(shaped: Array, h: Array, largest: Array, head: Head) -> Array:
    """The head's logits of features multiplied by exp(Σh / Σ largest); of features that are all 0, its bias."""
    total = jnp.where((h != 0).any(), largest.sum(), 1)
    return jnp.exp(h.sum() / total) * (head(shaped) - head.bias) + head.bias
