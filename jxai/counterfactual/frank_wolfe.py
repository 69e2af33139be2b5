"""Sparse visual counterfactuals: the most confident example of the target in an ℓp ball, by Frank–Wolfe steps."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from jxai.counterfactual.saliency import open_entries
from jxai.counterfactual.search import Candidate, Domain, Search, method, wanted
from jxai.counterfactual.search.constraints import frozen
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.scores import positive, wide, within
from jxai.typing import Array, Clip, Model


@method
def sparse_vce(
    *,
    radius: float | Array,
    p: float = 1.5,
    threshold: float = 0.0,
    steps: int = 75,
    step_size: float = 0.75,
    momentum: float = 0.0,
    random_start: bool = False,
    scale: float | Array | None = None,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
) -> Search:
    """Sparse visual counterfactuals (SVCE): `max log p(target | x + d)` over `‖d / s‖_p <= radius` and the valid range, by an adaptive Frank–Wolfe method.

    `d ← d + a (v − d)`, in units of the scale s, v the point of the set that maximises `⟨g, v⟩`, g the gradient at x + d: see `linear_maximum`. p between 1 and 2 gives changes
    that are sparse but not single pixels. As in APGD, a is halved, and the search goes back to its best point, at checkpoints
    (0.22 T, then at intervals that fall by 0.03 T down to 0.06 T) where fewer than 3/4 of the steps improved the objective, or where the best has not
    improved since the last one and a was not halved there. All steps are made: the confidence that the budget buys is what is sought.

    Args:
      radius: of the ball, > 0, in units of the scale (the paper's 50 to 100 for 224 × 224 × 3 pixels and p = 1.5); may differ by example.
      p: in [1, ∞), the paper's 1.5, or `math.inf`. threshold: of the target's probability, in [0, 1), from which x' is valid; the target must be the
        predicted class as well.
      steps: T. step_size: a at first, in (0, 1]. momentum: of the gradient, `g ← m g + (1 − m) ∇`, in [0, 1).
      random_start: d maximises ⟨w, d⟩ of a Gaussian w at first, as in the published code, which needs a key; else 0.
      scale: s > 0, each feature's own unit, as in `wachter`.
      clip: the valid range. region: booleans over the positions or entries of x, where it may change; may differ by example.

    Returns:
      A `Counterfactual`, its latent None: the point of the greatest probability of the target that was met.

    Raises:
      ValueError: bad x, target or option, a random start without a key, a region that freezes everything, x outside of `clip`.

    Cost: a forward and a backward pass for each step, and the sorting of x's entries.
    Reference: Boreiko et al. 2022, "Sparse Visual Counterfactual Explanations in Image Space", GCPR.
    """
    within(math.ulp(0.0), math.nextafter(math.inf, 0.0), radius=radius)
    within(math.ulp(0.0), 1.0, step_size=step_size)
    within(0.0, math.nextafter(1.0, 0.0), threshold=threshold, momentum=momentum)
    check_norm(p)
    positive(steps=steps)
    frozen(region)
    check_scale(scale)
    options = {"scale": scale, "p": p, "threshold": threshold, "momentum": momentum, "random_start": random_start, "clip": clip}
    return Search(
        Partial(_init, region, radius, step_size, options), Partial(_step, options, checkpoints(steps)), steps, Domain(clip, region=region, scale=scale)
    )


def _init(default, budget, step_size, options: dict, f: Model, x: Array, target: Array, key: Array | None, radius=None, region=None):
    if options["random_start"] and key is None:
        raise ValueError("random_start draws random numbers: key=None must be a jax.random.key(…)")
    v = wide(x)
    number = lambda value: jnp.asarray(value, v.dtype)
    memory = {"x": x, "target": wanted(target), "open": open_entries(x, default if region is None else region)}
    memory |= {"radius": number(budget if radius is None else radius), "size": number(step_size), "slope": jnp.zeros_like(v), "step": jnp.int32(0)}
    memory |= {"best": jnp.zeros_like(v), "best_slope": jnp.zeros_like(v), "most": number(-jnp.inf), "before": number(-jnp.inf)}
    memory |= {"since": jnp.int32(0), "improved": jnp.int32(0), "checked": number(-jnp.inf), "halved": jnp.asarray(True)}
    return (_furthest(jax.random.normal(key, x.shape, v.dtype), memory, options) if options["random_start"] else jnp.zeros_like(v)), memory


def _step(options: dict[str, Any], at: Array, f: Model, d: Array, memory: dict[str, Array]) -> tuple[Array, dict[str, Array], Candidate]:
    x, target = memory["x"], memory["target"]

    def look(d: Array) -> tuple[Array, tuple[Array, Array]]:
        point = jnp.where(memory["open"], wide(x) + unit(options["scale"], x) * d, wide(x)).astype(x.dtype)
        logits = wide(f(point))
        return jax.nn.log_softmax(logits)[target], (point, logits)

    (log_p, (point, logits)), slope = jax.value_and_grad(look, has_aux=True)(d)
    valid = (logits.argmax() == target) & (log_p >= jnp.log(options["threshold"]))
    seen = Candidate(point, None, logits, valid, -log_p, jnp.asarray(False))
    moved = memory["step"] > 0
    memory = {**memory, "improved": memory["improved"] + (moved & (log_p > memory["before"])), "since": memory["since"] + moved, "before": log_p}
    better = log_p > memory["most"]
    slope = jnp.where(jnp.isfinite(slope), slope, 0)
    for name, value in (("best", d), ("best_slope", slope), ("most", log_p)):
        memory[name] = jnp.where(better, value, memory[name])
    memory, back = _checked(memory, jnp.asarray(at)[jnp.minimum(memory["step"], len(at) - 1)])
    d, slope = jnp.where(back, memory["best"], d), jnp.where(back, memory["best_slope"], slope)
    m = jnp.where(moved, options["momentum"], 0)
    slope = m * memory["slope"] + (1 - m) * slope
    d = d + memory["size"] * (_furthest(slope, memory, options) - d)
    return d, {**memory, "slope": slope, "step": memory["step"] + 1}, seen


def _checked(memory: dict[str, Array], here: Array) -> tuple[dict[str, Array], Array]:
    """The memory after the checkpoint that this step may be, and whether the search goes back to the best point with half the step."""
    oscillates = memory["improved"] <= 0.75 * memory["since"]
    stands = ~memory["halved"] & (memory["checked"] >= memory["most"])
    back = here & (oscillates | stands)
    after = {"since": jnp.int32(0), "improved": jnp.int32(0), "checked": memory["most"], "halved": oscillates | stands}
    memory = {**memory, **{name: jnp.where(here, value, memory[name]) for name, value in after.items()}}
    return {**memory, "size": jnp.where(back, memory["size"] / 2, memory["size"])}, back


def checkpoints(steps: int) -> np.ndarray:
    """`[steps + 1]`, bool: after which looks the step is judged; the first is at the start, before any step."""
    interval, least, fall = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    at, here = np.zeros(steps + 1, bool), interval
    while here <= steps:
        at[here] = True
        interval = max(interval - fall, least)
        here += interval
    return at


def _furthest(slope: Array, memory: dict[str, Array], options: dict[str, Any]) -> Array:
    x = wide(memory["x"])
    low, high = (jnp.asarray(end, x.dtype) for end in ((-jnp.inf, jnp.inf) if options["clip"] is None else options["clip"]))
    room = jnp.where(memory["open"], jnp.where(slope > 0, high - x, x - low) / unit(options["scale"], x), 0)
    return linear_maximum(slope, jnp.maximum(room, 0), memory["radius"], options["p"])


def linear_maximum(w: Array, room: Array, radius: Array, p: float) -> Array:
    """The d that maximises `⟨w, d⟩` with `‖d‖_p <= radius` and `|d_i| <= room_i`: exact, by sorting.

    By the conditions of Karush, Kuhn and Tucker `d_i = sign(w_i) · min(room_i, t |w_i|^{1/(p−1)})`, with the t at which the norm is the radius, or ∞
    where the box lies in the ball. Σ |d_i|^p grows with t by pieces, on each of which it is `S + t^p R`: S of the entries at their room's end, and
    R of the others. p = 1, the limit: entries in the order of |w_i|, each to its room's end, until the radius is spent. p = ∞: `min(room_i, radius)`.

    Args:
      w: any shape. room: of that shape, >= 0, ∞ for none. radius: `[]`, > 0. p: >= 1, or `math.inf`.
    """
    size = jnp.abs(w).ravel()
    size = size / jnp.where(size.max() > 0, size.max(), 1)
    # In units of the radius, and no entry can use more of it than all.
    room = jnp.where(size > 0, jnp.minimum(room.ravel() / radius, 1), 0)
    if p == math.inf:
        moved = room
    elif p == 1:
        order = jnp.argsort(-size)
        spent = jnp.cumsum(room[order])
        moved = jnp.zeros_like(room).at[order].set(jnp.clip(1 - (spent - room[order]), 0, room[order]))
    else:
        moved = _waterline(size, room, p)
    return radius * jnp.sign(w) * moved.reshape(w.shape)


def _waterline(size: Array, room: Array, p: float) -> Array:
    """`min(room, t b)`, `b = size^{1/(p−1)}`, with the t at which `Σ min(room, t b)^p = 1`, ∞ where there is none."""
    power = 1 / (p - 1)
    log_b = power * jnp.log(size)  # b itself may be too small for a float where p is near 1
    ends = jnp.where(room > 0, jnp.log(room) - log_b, -jnp.inf)
    order = jnp.argsort(ends)
    full = room[order] ** p
    before = jnp.cumsum(full) - full
    after = lax.cumlogsumexp(p * jnp.where(room > 0, log_b, -jnp.inf)[order], reverse=True)
    # At t = exp(ends[k]) the entries before k in this order are at their rooms' ends, the others at t b.
    reached = before + jnp.where(jnp.isfinite(ends[order]), jnp.exp(p * ends[order] + after), 0) >= 1
    k = jnp.argmax(reached)
    beyond = jnp.zeros(size.shape, bool).at[order].set(jnp.arange(size.size) >= k)
    at = size[order[k]]
    share = jnp.where(beyond & (room > 0), (size / jnp.where(at > 0, at, 1)) ** power, 0)
    most = jnp.maximum(share.max(), jnp.finfo(share.dtype).tiny)
    t = jnp.maximum(1 - before[k], 0) ** (1 / p) / (((share / most) ** p).sum() ** (1 / p))
    return jnp.where(reached.any() & beyond, jnp.minimum(room, t * (share / most)), room)


def check_norm(p: float) -> None:
    """Raises ValueError unless p is a number of at least 1."""
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not p >= 1:
        raise ValueError(f"{p=} must be a number of at least 1, or math.inf")
