"""The features that settle the class while all others move within a radius: provably, and with none of them to spare."""

from __future__ import annotations

import dataclasses
import functools
import math
import warnings
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.bounds import Region, ball, margins
from jxai.bounds.certify import least
from jxai.callables import compiled, plainly
from jxai.certificates import Digests, Verdict, digests, judged
from jxai.loops import scan
from jxai.removal.masks import default_grid, features, spread
from jxai.scores import check_example, check_target, need_key, num_classes, objective, one_of, wide
from jxai.typing import Array, Model

__all__ = ["MinimalExplanation", "minimal_explanation"]

ORDERS = ("sensitivity", "random")


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["label", "held", "segments", "radius", "order", "margins", "margin"],
    meta_fields=["p", "clip", "method", "rounding", "digests"],
)
@dataclasses.dataclass(frozen=True)
class MinimalExplanation:
    """The claim that f gives x the class `label` as long as the held features stay and the others move within the radius; proved where `holds`.

    Attributes:
      label: `[]`, int32. held: `[num]`, booleans. segments: label map over the positions of x; those of no feature are held.
      radius: `[*shape of x]`. p, clip: of the ball in which the other features move. method, rounding: of the bounds.
      order: `[num]`, the features as they were tried. margins: `[num + 1]`, the least margin that was found with none free, then with each in
        turn free as well; where it was not above 0, the feature was held again. margin: `[]`, the least margin in the end. No part of the claim.
      digests: of x and of the weights; None where it was made under a trace.
    """

    label: Array
    held: Array
    segments: Array
    radius: Array
    order: Array
    margins: Array
    margin: Array
    p: float
    clip: tuple[float, float] | None
    method: str
    rounding: str
    digests: Digests | None

    @property
    def holds(self) -> Array:
        """`[]`: whether the margin is positive; if not, not even x itself was proved to be of the class, and all features are held."""
        return self.margin > 0

    @property
    def size(self) -> Array:
        """`[]`: how many features are held."""
        return self.held.sum()

    @property
    def mask(self) -> Array:
        """1 where x is held, 0 where it may move: `[H, W, 1]` for an image, `[D]` for a vector."""
        return spread(jnp.asarray(self.held, self.radius.dtype), self.segments, self.radius, outside=1.0)

    def _repr_html_(self) -> str:
        from jxai.views import html, images

        rows = {"holds": self.holds, "label": self.label, "held": self.held, "margin": self.margin, "radius": self.radius, "p": self.p}
        rows["method"] = f"{self.method}, rounded {self.rounding}"
        return html.table("MinimalExplanation", rows, lambda: images.several(self.mask, np.ndim(self.label), "held"), html.about(self.digests))

    def region(self, x: Array) -> Region:
        """Where the other features move."""
        return ball(x, self.radius * (1 - self.mask), self.p, self.clip)

    def check(self, f: Model, x: Array) -> Verdict:
        """One bound pass of this model around x: whether the least margin is positive."""
        check_example(x)
        if x.shape != self.radius.shape:
            raise ValueError(f"x has shape {x.shape}, but the certificate's radius {self.radius.shape}")
        objective(f, x, int(self.label))
        found = compiled(_margin, f, self.region(x), self.label, method=self.method, rounding=self.rounding)
        return judged(f, x, self.digests, {"margin": float(found)}, {"margin": 0.0})


class _Search(NamedTuple):
    """What `_greedy` needs beside the model and x: arrays, and how to bound."""

    label: Array
    radius: Array
    key: Array | None
    order: Array | str


@plainly
def minimal_explanation(
    f: Model,
    x: Array,
    target: int | Array | None = None,
    key: Array | None = None,
    *,
    radius: float | Array,
    p: float = math.inf,
    clip: tuple[float, float] | None = None,
    segments: Array | None = None,
    grid: int | tuple[int, ...] | None = None,
    num_segments: int | None = None,
    order: str | Array = "sensitivity",
    method: str = "crown",
    rounding: str = "outward",
    chunk: int | None = None,
) -> MinimalExplanation:
    """A set of features, as small as a greedy search makes it, that provably settles the class while all others move within the radius.

    `min f(v)[c] − f(v)[j] > 0` over all j ≠ c and all v with `v_held = x_held`, `‖(v − x) / radius‖_p <= 1`. Begins with all features held and
    frees one after another, for good where the bounds still prove it. What is left is minimal: none of it could be freed when its turn came.

    Args:
      f: a model `x -> logits [K]`, K ≥ 2. x: one example of any rank. target: the class c; None: the predicted one. key: for `order="random"`.
      radius: >= 0, a number or an array that broadcasts against x, in units of x. p: of the ball's norm, 1, 2 or `math.inf`.
      clip: (low, high), the valid range of entries that the ball is cut to; x must lie within it.
      segments: integer label map over the positions of x; features are its labels, and positions of none are held.
      grid: cells along every position axis instead; by default the entries of a vector, else 8 along every axis.
      num_segments: the number of labels, static; needed where `segments` is traced.
      order: in which features are tried: "sensitivity", first those that lower the bound of the margin least when they alone move (Wu et al.);
        "random"; or a permutation of the features, `[num]`, integers.
      method, rounding: of `jxai.bounds.margins`. "outward" proves it for floating point, "nearest" up to the rounding of float32.
      chunk: features at once where their sensitivities are computed; None: a 16th of `jxai.loops.at_once`.

    Returns:
      A `MinimalExplanation`, whose `holds` says whether anything was proved (else x is of another class); for `jxai.certificates.verify` and
      `save`. Under a trace (`jit`, `vmap`) it lacks digests, as those of `jxai.bounds.certify` do. For a traced target out of range the
      margins are NaN and all features are held.

    Raises:
      ValueError: bad segments, grid, order, radius, p, clip, x, target or option; f(x) that is no vector, a one-class model, a primitive of f
        without a rule.

    Cost: d + 1 bounds for d features, one after another, and d more for their sensitivities. The check of what comes out is one.

    Reference: Wu et al. 2023, "VeriX: Towards Verified Explainability of Deep Neural Networks", NeurIPS, arXiv 2212.01051; bounds for the order
      as in Wu et al. 2024, "Better Verified Explanations with Applications to Incorrectness and Out-of-Distribution Detection", arXiv 2409.03060.
    """
    check_example(x)
    of = features(x, segments, default_grid(x, segments, grid), num_segments)
    check_target(0 if target is None else target, num_classes(f, x))
    ball(x, radius, p, clip)  # says what is wrong with it: in the search nothing is concrete
    if not isinstance(radius, jax.core.Tracer) and not np.any(radius):
        warnings.warn(f"{radius=} lets nothing move: every feature may be freed, which says nothing of x", stacklevel=3)
    if isinstance(order, str):
        if one_of("order", order, ORDERS) == "random":
            need_key(key, f"{order=}")
    else:
        order = _permutation(order, of.num)
    label = (jnp.argmax(f(x)) if target is None else jnp.asarray(target)).astype(jnp.int32)
    whole = jnp.broadcast_to(jnp.asarray(radius, wide(x).dtype), x.shape)
    search = _Search(label, whole, key, order)
    static = dict(num=of.num, p=p, clip=clip, method=method, rounding=rounding, chunk=chunk)
    about = digests(f, x)
    if about is None or any(isinstance(v, jax.core.Tracer) for v in jax.tree.leaves((search, of.labels))):
        found = _greedy(f, x, of.labels, search, **static)
    else:
        found = compiled(_greedy, f, x, of.labels, search, **static)
    held, tried, all_margins, margin = found
    return MinimalExplanation(label, held, jnp.asarray(of.labels), whole, tried, all_margins, margin, p, clip, method, rounding, about)


def _greedy(
    f: Model,
    x: Array,
    labels: Array,
    search: _Search,
    *,
    num: int,
    p: float,
    clip: tuple[float, float] | None,
    method: str,
    rounding: str,
    chunk: int | None,
) -> tuple[Array, Array, Array, Array]:
    """`held [num], order [num], margins [num + 1], margin []`."""

    def margin(free: Array) -> Array:
        region = ball(x, search.radius * spread(free.astype(search.radius.dtype), labels, x), p, clip)
        return least(margins(f, region, search.label, method=method, rounding=rounding), search.label)

    order = search.order
    if isinstance(order, str) and order == "random":
        order = jax.random.permutation(search.key, num)
    elif isinstance(order, str):
        alone = loops.stack(lambda i: margin(jnp.arange(num) == i), num, max(1, loops.at_once(x, chunk) // (1 if chunk else 16)))
        order = jnp.argsort(-alone, stable=True)

    def step(state: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], Array]:
        free, best = state
        tried = free | (jnp.arange(num) == i)
        found = margin(tried)
        accepted = (found > 0) & ((best > 0) | (i == num))
        return (jnp.where(accepted, tried, free), jnp.where(accepted | (i == num), found, best)), found

    # Number `num` frees nothing: the margin at x itself comes from the same body, so that the bound is compiled once.
    turns = jnp.concatenate([jnp.full((1,), num, jnp.int32), order.astype(jnp.int32)])
    none = jnp.zeros(num, bool)
    start = none, jnp.zeros((), jax.eval_shape(margin, none).dtype)
    (free, best), found = scan(step, start, turns)
    return ~free, order.astype(jnp.int32), found, best


def _margin(f: Model, region: Region, label: Array, *, method: str, rounding: str) -> Array:
    return least(margins(f, region, label, method=method, rounding=rounding), label)


def _permutation(order: Array, num: int) -> Array:
    order = order if isinstance(order, jax.core.Tracer) else np.asarray(order)
    if order.shape != (num,) or not jnp.issubdtype(order.dtype, jnp.integer):
        raise ValueError(f"order must be {', '.join(map(repr, ORDERS))}, or the {num} features as integers, got {order.dtype} of shape {order.shape}")
    if isinstance(order, np.ndarray) and not np.array_equal(np.sort(order), np.arange(num)):
        raise ValueError(f"order must name each of the {num} features once")
    return jnp.asarray(order, jnp.int32)
