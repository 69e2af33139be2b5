"""The nearest known example of the target class: a place to start from, and the counterfactual on the way to it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jxai import loops
from jxai.callables import plainly
from jxai.counterfactual.saliency import open_entries
from jxai.counterfactual.search import Candidate, Domain, Search, method, wanted
from jxai.counterfactual.search.constraints import frozen
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.counterfactual.search.norms import DISTANCES, length
from jxai.scores import check_example, check_labels, one_of, positive, wide, within
from jxai.typing import Array, Model


@plainly
def nearest_unlike(x: Array, examples: Array, labels: Array, target: int | Array, distance: str = "l2", scale: float | Array | None = None) -> Array:
    """The example of the target class nearest to x: its nearest unlike neighbour ("native guide"), x's shape.

    Args:
      x: one example. examples: `[n, *x.shape]`. labels: `[n]`, integers: true classes, or those that the model predicts.
      target: a class. distance: "l1" or "l2", of `(e − x) / s`. scale: s > 0, each feature's own unit, as in `wachter`.

    Returns:
      x's type; under a trace NaN where no example is of the target class.

    Raises:
      ValueError: shapes that do not fit, an unknown distance, no example of a concrete target's class.

    Cost: n distances, a few at a time.
    """
    check_guides(x, examples, labels, distance)
    check_scale(scale, x)
    if not any(isinstance(value, jax.core.Tracer) for value in (labels, target)) and not np.any(np.asarray(labels) == np.asarray(target)):
        raise ValueError(f"no example is of the class target={target}")
    examples, labels = jnp.asarray(examples), jnp.asarray(labels)
    far = loops.stack(lambda i: length((wide(examples[i]) - wide(x)) / unit(scale, x), distance), examples.shape[0], loops.at_once(x, None))
    own = labels == target
    guide = examples[jnp.argmin(jnp.where(own, far, jnp.inf))].astype(x.dtype)
    return jnp.where(own.any(), guide, jnp.nan)


@method
def native_guide(
    *,
    examples: Array,
    labels: Array,
    distance: str = "l2",
    threshold: float = 0.0,
    num_points: int = 16,
    halvings: int = 10,
    scale: float | Array | None = None,
    region: Array | None = None,
) -> Search:
    """The way to the nearest unlike neighbour: `x' = x + t (e − x)` with the smallest t that is found to reach the target.

    t goes over `1/n, 2/n …, 1` until one is valid, and the interval before it is bisected, so that t is within `2^−halvings / n` of the boundary that it is
    at; another, nearer to x, is missed only where the line crosses the target's region within one such interval.

    Args:
      examples: `[n, *x.shape]`. labels: `[n]`, integers; those that the model predicts make e itself a counterfactual.
      distance: by which e is the nearest example of the target class, "l1" or "l2".
      threshold: of the target's probability, in [0, 1), from which x' is valid; the target must be the predicted class as well.
      num_points: n. halvings: of the interval. scale: s > 0, each feature's own unit in that distance, as in `wachter`.
      region: booleans over the positions or entries of x, where e is blended in; all by default; may differ by example.

    Returns:
      A `Counterfactual`, its latent t. Invalid where nothing on the way is valid, or (traced) no example is of the target class.

    Raises:
      ValueError: bad x, target or option, shapes that do not fit, no example of the target class, a region that freezes everything.

    Cost: at most `num_points + halvings` forward passes, and n distances.
    Reference: Delaney et al. 2021, "Instance-Based Counterfactual Explanations for Time Series Classification" (Native Guide), ICCBR; here the blend is of all
      entries in the region, where theirs is of a growing window.
    """
    one_of("distance", distance, DISTANCES[:2])
    within(0.0, float(np.nextafter(1.0, 0.0)), threshold=threshold)
    positive(num_points=num_points, halvings=halvings)
    frozen(region)
    check_scale(scale)
    options = {"threshold": threshold, "num_points": num_points, "halvings": halvings}
    return Search(Partial(_init, region, distance, scale, examples, labels), Partial(_step, options), num_points + halvings, Domain(region=region, scale=scale))


def _init(default, distance: str, scale, examples: Array, labels: Array, f: Model, x: Array, target: Array, key: Array | None, region=None):
    target = wanted(target)
    opened = open_entries(x, default if region is None else region)
    guide = nearest_unlike(x, examples, labels, target, distance, scale)
    low = jnp.zeros((), wide(x).dtype)
    return low, {"x": x, "guide": jnp.where(opened, guide, x), "target": target, "low": low, "high": jnp.full_like(low, jnp.inf), "looks": jnp.int32(0)}


def _step(options: dict[str, Any], f: Model, t: Array, memory: dict[str, Array]) -> tuple[Array, dict[str, Array], Candidate]:
    x, guide, n = memory["x"], memory["guide"], options["num_points"]
    blend = jnp.where(t >= 1, wide(guide), wide(x) + t * (wide(guide) - wide(x)))
    # Where nothing is blended in x stays to the bit.
    point = jnp.where(guide == x, x, blend.astype(x.dtype))
    logits = wide(f(point))
    log_p = jax.nn.log_softmax(logits)[memory["target"]]
    valid = (logits.argmax() == memory["target"]) & (log_p >= jnp.log(options["threshold"]))
    high = jnp.where(valid, jnp.minimum(t, memory["high"]), memory["high"])
    low = jnp.where(valid, memory["low"], t)
    scanning = ~jnp.isfinite(high)
    looks = memory["looks"] + ~scanning
    after = jnp.where(scanning, (jnp.rint(t * n) + 1) / n, (low + high) / 2)
    stop = (scanning & (t >= 1)) | (looks > options["halvings"]) | ~jnp.isfinite(guide).all()
    seen = Candidate(point, t, logits, valid, jnp.where(valid, t, -log_p), stop)
    return after.astype(t.dtype), {**memory, "low": low, "high": high, "looks": looks}, seen


def check_guides(x: Array, examples: Array, labels: Array, distance: str) -> None:
    """Raises ValueError unless examples `[n, *x.shape]`, labels `[n]` and the distance are such."""
    check_example(x)
    one_of("distance", distance, DISTANCES[:2])
    shape = jnp.shape(examples)
    if len(shape) != x.ndim + 1 or shape[1:] != x.shape or shape[0] == 0:
        raise ValueError(f"examples must be [n, *{x.shape}], got shape {shape}")
    check_labels(labels, shape[0])
