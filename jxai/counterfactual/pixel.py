"""Wachter's counterfactuals: a gradient search among the examples themselves for the nearest one of another class."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from jxai.counterfactual.search import Candidate, Domain, Search, clipped, method, wanted
from jxai.counterfactual.search.constraints import Constraint, frozen, relaxed, settled
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.counterfactual.search.exchange import exchange
from jxai.counterfactual.search.norms import DISTANCES, length, soft
from jxai.scores import one_of, positive, wide, within
from jxai.typing import Array, Clip, Model

LOSSES = ("squared", "cross_entropy", "hinge")


@method
def wachter(
    *,
    loss: str = "squared",
    distance: str = "l1",
    scale: float | Array | None = None,
    threshold: float = 0.5,
    price: float = 0.1,
    growth: float = 1.1,
    patience: int = 50,
    halvings: int = 5,
    steps: int = 1000,
    learning_rate: float = 0.01,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    start: Array | None = None,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
    exchanges: int = 200,
) -> Search:
    """Wachter's counterfactuals: the nearest example that reaches the target, `min_x' max_λ λ · loss(f(x'), target) + d(x, x')`.

    The search is in units of the scale, `u_i = x_i / s_i`: distances, gradients and steps. With scales it goes the way of the scaled problem without.

    The loss counts while x' is not valid. λ falls by a factor at each step that finds x' valid and grows by it at each that finds it short of the target
    by no less than the step before, so that x' hovers about the boundary; at x it is at least what moves x'. Where `patience` steps bring no nearer valid
    point, the search goes back to the nearest, and halves η. "l1" has a kink at `x'_i = x_i`: there an entry stays while
    `λ s_i |∂loss/∂x'_i| <= 1`, so that changes are sparse.

    Steps and gradients find no optimum among levels and categories, and leave changes that nothing needs: what is found for a vector is brought nearer by
    `exchange`, which takes back or exchanges one change after another. That is ours.

    Args:
      loss: "squared", `(p(target) − 1)²` (the paper's form); "cross_entropy", `−log p(target)`; "hinge", what f_target lacks to be valid: 0 at the
        boundary and in logits, so that with `distance="l2"` a linear model's x is projected onto the decision boundary.
      distance: "l1", `Σ |x'_i − x_i| / s_i` (the paper's; its s_i is feature i's median absolute deviation); "l2", its Euclidean norm; "squared", half the
        square of that.
      scale: s > 0, a number or an array that broadcasts against x: each feature's own unit, such as its median absolute deviation. None is 1, for
        pictures and for vectors and series whose features are in one unit of about 1; an error for one with entries beyond 10.
      threshold: of the probability of the target, in [0, 1), from which x' is valid; the target must be the predicted class as well.
      price: 1/λ at first, > 0. growth: the factor, > 1.
      patience: steps without a nearer valid point before η is halved. halvings: the search ends at the one after these, or after
      steps: at most. learning_rate: η > 0, in units of the scale. optimizer: `learning_rate -> optax transformation`, a module-level function such as `optax.adam`.
      start: where x' begins, of x's shape: x by default, or an example of the target class (`nearest_unlike`) where the loss at x is flat; may differ
        by example. clip, constraints: as in `diffeomorphic`. region: likewise; may differ by example.
      exchanges: steps of that second search at most, for vectors; 0 is none.

    Returns:
      A `Counterfactual`, its latent None.

    Raises:
      ValueError: bad x, target or option, an x outside of `clip`, constraints that nothing can keep to, a scale that is not given and needed.

    Cost: a forward and a backward pass for each step, of either search.
    Reference: Wachter et al. 2018, "Counterfactual Explanations without Opening the Black Box", Harvard Journal of Law & Technology 31 (2).
    """
    one_of("loss", loss, LOSSES)
    one_of("distance", distance, DISTANCES)
    within(0.0, math.nextafter(1.0, 0.0), threshold=threshold)
    within(math.ulp(0.0), math.inf, price=price, learning_rate=learning_rate)
    check_scale(scale)
    within(math.nextafter(1.0, 2.0), math.inf, growth=growth)
    positive(steps=steps, patience=patience, halvings=halvings, exchanges=exchanges or 1)
    frozen(region)
    options = dict(loss=loss, distance=distance, scale=scale, threshold=threshold, growth=growth, price=price, patience=patience, halvings=halvings)
    domain = Domain(clip, tuple(constraints), region, scale)
    options |= dict(start=start, domain=domain, scale=scale)
    update = Partial(optimizer, learning_rate)
    nearer = exchange(lacking, domain, distance=distance, threshold=threshold, steps=exchanges) if exchanges else None
    return Search(Partial(_init, update, options), Partial(_step, update, options), steps, domain, nearer)


def _init(update: Callable, options: dict, f: Model, x: Array, target: Array, key: Array | None, region: Array | None = None, start: Array | None = None):
    domain = options["domain"] if region is None else dataclasses.replace(options["domain"], region=region)
    start = options["start"] if start is None else start
    if start is not None and jnp.shape(start) != x.shape:
        raise ValueError(f"start of shape {jnp.shape(start)} must have the shape of x, {x.shape}")
    v = wide(x) if start is None else relaxed(clipped(jnp.asarray(start, wide(x).dtype), domain.clip), wide(x), domain.all)
    infinite = jnp.asarray(jnp.inf, v.dtype)
    memory = {"x": x, "target": wanted(target), "region": domain.region, "weight": jnp.ones_like(infinite) / options["price"], "short": infinite}
    memory |= {"best": v, "least": infinite, "since": jnp.int32(0), "halved": jnp.int32(0), "optimizer": update().init(v)}
    return v, memory


def _step(update: Callable, options: dict[str, Any], f: Model, v: Array, memory: dict[str, Any]) -> tuple[Array, dict[str, Any], Candidate]:
    x, domain = wide(memory["x"]), dataclasses.replace(options["domain"], region=memory["region"])
    scale = unit(options["scale"], x)

    def look(v: Array) -> tuple[Array, tuple[Array, Array]]:
        point = settled(v, x, domain.all).astype(memory["x"].dtype)
        logits = wide(f(point))
        return missing(logits, memory["target"], options["loss"], options["threshold"]), (point, logits)

    (short, (point, logits)), pull = jax.value_and_grad(look, has_aux=True)(v)
    p = jax.nn.softmax(logits)[memory["target"]]
    valid = (p >= options["threshold"]) & (logits.argmax() == memory["target"]) & domain.contains(point, memory["x"])
    far = length((wide(point) - x) / scale, options["distance"])
    pull = jnp.where(valid | ~jnp.isfinite(pull), 0, pull * scale)
    least = options["growth"] * leaving(pull, options["distance"])
    memory = {**memory, "weight": jnp.where((v == x).all(), jnp.maximum(memory["weight"], least), memory["weight"])}
    slope = steepest(memory["weight"] * pull, (v - x) / scale, options["distance"])
    move, state = update().update(slope, memory["optimizer"], v / scale)
    moved = v + scale * move * 0.5 ** memory["halved"].astype(v.dtype)
    if options["distance"] == "l1":
        moved = stopped(x, v, moved, slope)
    moved = clipped(moved, domain.clip)
    memory, back = _weighed({**memory, "optimizer": state}, v, short, valid, far, options)
    # Going back to the nearest valid point takes no momentum along.
    fresh = jax.tree.map(lambda new, old: jnp.where(back, new, old), update().init(v), memory["optimizer"])
    candidate = Candidate(point, None, logits, valid, jnp.where(valid, far, -p), memory["halved"] > options["halvings"])
    return jnp.where(back, memory["best"], relaxed(moved, x, domain.all)), {**memory, "optimizer": fresh}, candidate


def _weighed(memory: dict[str, Any], v: Array, short: Array, valid: Array, far: Array, options: dict[str, Any]) -> tuple[dict[str, Any], Array]:
    """The memory after a look at v with the next λ, and whether the search goes back to the best point with half the step."""
    better = valid & (far < memory["least"] * (1 - 1e-4))
    least = jnp.where(better, far, memory["least"])
    since = jnp.where(better | ~jnp.isfinite(least), 0, memory["since"] + 1)
    back = since >= options["patience"]
    stuck = ~valid & (short >= memory["short"])
    weight = memory["weight"] * jnp.where(valid, 1 / options["growth"], jnp.where(stuck, options["growth"], 1.0))
    kept = {"weight": jnp.clip(weight, 1e-30, 1e30), "short": short, "best": jnp.where(better, v, memory["best"]), "least": least}
    return {**memory, **kept, "since": jnp.where(back, 0, since), "halved": memory["halved"] + back}, back


def missing(logits: Array, target: Array, loss: str, threshold: float) -> Array:
    """`[]`: the loss that is to reach the target, see `wachter`."""
    log_p = jax.nn.log_softmax(logits)[target]
    if loss == "squared":
        return (jnp.exp(log_p) - 1) ** 2
    if loss == "cross_entropy":
        return -log_p
    return jax.nn.relu(lacking(logits, target, threshold))


def lacking(logits: Array, target: Array, threshold: float | Array) -> Array:
    """`[]`: what f_target lacks to be valid, in logits; less than 0 where it is."""
    rest = jnp.where(jnp.arange(logits.shape[0]) == target, -jnp.inf, logits)
    # p(target) >= t where f_target exceeds the log-sum-exp of the others by log(t / (1 − t)).
    needed = jnp.maximum(rest.max(), jax.nn.logsumexp(rest) + jnp.log(threshold) - jnp.log1p(-threshold))
    return needed - logits[target]


def steepest(pull: Array, d: Array, distance: str) -> Array:
    """The shortest subgradient of `⟨pull, d⟩ + length(d)` at d."""
    if distance == "squared":
        return pull + d
    if distance == "l1":
        return jnp.where(d != 0, pull + jnp.sign(d), soft(pull, 1))
    size, pulled = length(d, "l2"), length(pull, "l2")
    away = pull * jnp.maximum(0, 1 - 1 / jnp.where(pulled > 0, pulled, 1))
    return jnp.where(size > 0, pull + d / jnp.where(size > 0, size, 1), away)


def leaving(pull: Array, distance: str) -> Array:
    """`[]`: the λ from which a loss of this gradient moves x' away from x; 0 where none or any does."""
    if distance == "squared":
        return jnp.zeros((), pull.dtype)
    size = jnp.abs(pull).max() if distance == "l1" else length(pull, "l2")
    return jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)


def stopped(x: Array, v: Array, moved: Array, slope: Array) -> Array:
    """The move from v cut where it would cross x, and an entry that lies at x left there unless the slope moves it."""
    side = jnp.where(v != x, jnp.sign(v - x), -jnp.sign(slope))
    return jnp.where((moved - x) * side > 0, moved, x)
