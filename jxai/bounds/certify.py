"""What bounds prove of one example: that its class cannot change within a radius, and up to which radius."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.bounds.projection import contains
from jxai.bounds.region import Clip, Region, ball, check_radius
from jxai.bounds.specification import margins
from jxai.callables import Static, partition, plainly
from jxai.certificates import Digests, Verdict, digests, judged
from jxai.loops import scan
from jxai.scores import check_example, check_target, num_classes, positive, wide
from jxai.typing import Array, Model

__all__ = ["RobustnessCertificate", "certified_radius", "certify"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["label", "margins", "region"], meta_fields=["method", "rounding", "options", "digests"])
@dataclasses.dataclass(frozen=True)
class RobustnessCertificate:
    """The claim that f gives every point of the region, x among them, the class `label`; proved where `holds`.

    Attributes:
      label: `[]`, int32. region: the set, as a `Box` or `Ball`.
      margins: `[K]`, the lower bounds of `f[label] − f[j]` on the region that were found; no part of the claim.
      method, rounding, options: how. digests: of x and of the weights; None where it was made under a trace.
    """

    label: Array
    margins: Array
    region: Region
    method: str
    rounding: str
    options: tuple[tuple[str, Any], ...]
    digests: Digests | None

    @property
    def holds(self) -> Array:
        """`[]`: whether all margins to other classes are positive."""
        return least(self.margins, self.label) > 0

    def _repr_html_(self) -> str:
        from jxai.views import html

        traced = html.is_traced(self.margins, self.label)
        rows = {"holds": self.holds, "label": self.label, "least margin": "traced" if traced else least(self.margins, self.label), "margins": self.margins}
        rows |= {"region": f"{type(self.region).__name__} of p = {self.region.p:g}", "lower": self.region.lower, "upper": self.region.upper}
        return html.table("RobustnessCertificate", rows | {"method": f"{self.method}, rounded {self.rounding}"}, note=html.about(self.digests))

    def check(self, f: Model, x: Array) -> Verdict:
        """One bound pass of this model on the region, which must hold x: whether the least margin is positive."""
        check_example(x)
        if x.shape != self.region.lower.shape:
            raise ValueError(f"x has shape {x.shape}, but the certificate's region {self.region.lower.shape}")
        arrays, model = partition(f)
        how = dict(method=self.method, rounding=self.rounding, options=self.options)
        found = _compiled(arrays, self.region, self.label, model=model, dtype=np.dtype(x.dtype), **how)
        values = {"x_in_region": float(contains(self.region, wide(x))), "margin": float(least(found, self.label))}
        return judged(f, x, self.digests, values, dict.fromkeys(values, 0.0))


@plainly
def certify(
    f: Model,
    x: Array,
    radius: float | Array,
    label: int | Array | None = None,
    *,
    p: float = math.inf,
    clip: Clip | None = None,
    method: str = "crown",
    rounding: str = "outward",
    **options: Any,
) -> RobustnessCertificate:
    """Tries to prove that no change of x within a radius changes the class: `min_v f(v)[label] − f(v)[j] > 0` for all j ≠ label, `‖(v − x) / radius‖_p <= 1`.

    Args:
      f: a model `x -> logits [K]`, K ≥ 2. x: one example; where it is in half precision, so is every point that f is given. radius: >= 0, a number or an array that broadcasts against x, in units of x.
      label: the class; None: the predicted one. p: 1, 2 or `math.inf`. clip: (low, high), the valid range of entries or of each feature, see `ball`.
      method, rounding, options: of `margins`. "outward" proves it for floating point, "nearest" up to the rounding of float32.

    Returns:
      The certificate, whose `holds` says whether that was proved; for `jxai.certificates.verify` and `save`. Under a trace
      (`jit`, `vmap`) it lacks digests: `dataclasses.replace(certificate, digests=jxai.certificates.digests(f, x))`.

    Raises:
      ValueError: bad x, radius, label or option; f(x) that is no vector, a one-class model, a primitive of f without a rule.

    Cost: that of `margins`.
    """
    check_example(x)
    label = _label(f, x, label)
    region = ball(x, radius, p, clip)
    about, chosen = digests(f, x), tuple(sorted(options.items()))
    if about is None:
        found = margins(_given(f, x.dtype), region, label, method=method, rounding=rounding, **options)
    else:
        arrays, model = partition(f)
        found = _compiled(arrays, region, label, model=model, dtype=np.dtype(x.dtype), method=method, rounding=rounding, options=chosen)
    return RobustnessCertificate(label, found, region, method, rounding, chosen, about)


@plainly
def certified_radius(
    f: Model,
    x: Array,
    label: int | Array | None = None,
    *,
    high: float | Array = 1.0,
    rounds: int = 16,
    p: float = math.inf,
    clip: Clip | None = None,
    method: str = "crown",
    rounding: str = "outward",
    **options: Any,
) -> Array:
    """The largest radius for which the class is proved, by bisection between one that is and one that is not.

    Args:
      f, x, label, p, clip, method, rounding, options: as in `certify`.
      high: the largest radius that is tried, > 0; or an array that broadcasts against x, >= 0: as much of each feature (its range, say), where
        radii are shares of it. rounds: of bisection, each halving the interval that holds the answer.

    Returns:
      A radius of high's shape, `share · high`, within `high / 2^rounds` below the first that fails (bounds need not be monotone: a larger one
      may be provable again); itself proved, by `certify(f, x, radius)`. 0 where x is of another class or nothing is; NaN for a traced label out of range, or traced x that is not finite.

    Raises:
      ValueError: as `certify`; `high` or `rounds` that are not positive.

    Cost: `rounds + 1` times that of `margins`; jit it.
    """
    check_example(x)
    check_radius("high", high, x)
    if not isinstance(high, jax.core.Tracer) and not (np.asarray(high) > 0).any():
        raise ValueError(f"{high=} must be positive, of some feature at least")
    positive(rounds=rounds)
    label = _label(f, x, label)
    high = jnp.asarray(high, wide(x).dtype)

    def step(bracket: tuple[Array, Array], first: Array) -> tuple[tuple[Array, Array], None]:
        low, top = bracket
        radius = jnp.where(first, top, 0.5 * (low + top))
        proved = least(margins(_given(f, x.dtype), ball(x, radius, p, clip), label, method=method, rounding=rounding, **options), label) > 0
        return (jnp.where(proved, radius, low), jnp.where(proved, top, radius)), None

    found = scan(step, (jnp.zeros_like(high), high), jnp.arange(rounds + 1) == 0)[0][0]
    known = (label >= 0) & (label < num_classes(f, x)) & jnp.isfinite(x).all()
    return jnp.where(known, found, jnp.nan)


def least(margins: Array, label: Array) -> Array:
    """`[]`: the least of the margins `[K]` to other classes than the label; NaN where one is. Leading axes are a batch."""
    return jnp.where(jnp.arange(margins.shape[-1]) == jnp.asarray(label)[..., None], jnp.inf, margins).min(-1)


def _label(f: Model, x: Array, label: int | Array | None) -> Array:
    """The class as an array; the predicted one for None."""
    classes = num_classes(f, x)
    if label is None:
        return jnp.argmax(f(x)).astype(jnp.int32)
    check_target(label, classes)
    return jnp.asarray(label, jnp.int32)


@functools.partial(jax.jit, static_argnames=("model", "dtype", "method", "rounding", "options"))
def _compiled(arrays: list[Array], region: Region, label: Array, *, model: Static, dtype: Any, method: str, rounding: str, options: tuple) -> Array:
    return margins(_given(model.combine(arrays), dtype), region, label, method=method, rounding=rounding, **dict(options))


def _given(f: Model, dtype: Any) -> Model:
    """f of points of this type: a region has float32 at least, but f computes what x's type makes it compute."""
    return f if jnp.finfo(dtype).bits >= 32 else lambda v: f(v.astype(dtype))
