"""Growing spheres: random search in shells of growing radius, for models that are black boxes."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from jxai import loops
from jxai.counterfactual.saliency import open_entries
from jxai.counterfactual.search import Candidate, Domain, Search, clipped, method, wanted
from jxai.counterfactual.search.constraints import frozen
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.scores import need_key, positive, wide, within
from jxai.typing import Array, Clip, Model

_SHRINK, _GROW, _RESTORE = 0, 1, 2


@method
def growing_spheres(
    *,
    radius: float | Array = 1.0,
    num_samples: int = 256,
    steps: int = 200,
    sparse: bool = True,
    scale: float | Array | None = None,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    chunk: int = 16,
) -> Search:
    """Growing spheres: the nearest of random points that the model takes for the target, found in ℓ2 shells around x; then as few entries as will do.

    A ball of radius η is halved until none of `num_samples` points drawn uniformly from it is of the target class. From there shells
    `a < ‖(x' − x) / s‖₂ <= a + η`, with a = η, 2η …, are searched until one holds such a point. From the nearest point that was met, the entries are put
    back to x's in the order of their change, smallest first, as long as the class stays the target.

    Args:
      radius: the first η > 0, in units of the scale. num_samples: drawn in each ball or shell.
      steps: at most: balls, shells, and for the last stage one for every `num_samples` entries. sparse: whether there is that stage.
      scale: s > 0, each feature's own unit, as in `wachter`.
      clip: the valid range, that points are cut to. region: booleans over the positions or entries of x, where it may change; may differ by example.
      chunk: points at once, for each of the searches that run at once.

    Returns:
      A `Counterfactual`, its latent None; valid where it is of the target class.

    Raises:
      ValueError: bad x, target or option, no key, a region that freezes everything, x outside of `clip`.

    Cost: `num_samples` forward passes for each step.
    Reference: Laugel et al. 2018, "Comparison-Based Inverse Classification for Interpretability in Machine Learning" (Growing Spheres), IPMU.
    """
    within(math.ulp(0.0), math.nextafter(math.inf, 0.0), radius=radius)
    positive(num_samples=num_samples, steps=steps, chunk=chunk)
    frozen(region)
    check_scale(scale)
    options = {"num_samples": num_samples, "sparse": sparse, "clip": clip, "chunk": chunk, "scale": scale}
    return Search(Partial(_init, region, radius), Partial(_step, options), steps, Domain(clip, region=region, scale=scale))


def _init(default: Array | None, eta: float | Array, f: Model, x: Array, target: Array, key: Array | None, region: Array | None = None):
    need_key(key, "growing_spheres")
    opened = open_entries(x, default if region is None else region)
    memory = {"x": x, "target": wanted(target), "open": opened, "key": key, "round": jnp.int32(0), "stage": jnp.int32(_SHRINK)}
    eta = jnp.asarray(eta, wide(x).dtype)
    return x, {**memory, "inner": jnp.zeros_like(eta), "outer": eta, "eta": eta, "least": jnp.full_like(eta, jnp.inf)}


def _step(options: dict[str, Any], f: Model, best: Array, memory: dict[str, Array]) -> tuple[Array, dict[str, Array], Candidate]:
    """A ball, a shell, or a block of restored entries; `best` is the nearest point of the target class, once there is one."""
    x, n, restoring = wide(memory["x"]), options["num_samples"], memory["stage"] == _RESTORE
    key, scale = jax.random.fold_in(memory["key"], memory["round"]), unit(options["scale"], x)
    order = jnp.argsort(jnp.argsort(jnp.abs((wide(best) - x) / scale).ravel(), stable=True), stable=True).reshape(x.shape)
    unchanged = (best == memory["x"]).sum()

    def point(i: Array) -> Array:
        drawn = x + scale * in_shell(jax.random.fold_in(key, i), memory["open"], memory["inner"], memory["outer"], x.dtype)
        drawn = clipped(drawn, options["clip"])
        fewer = jnp.where(order < unchanged + i + 1, x, wide(best))
        return jnp.where(memory["open"], jnp.where(restoring, fewer, drawn), x).astype(memory["x"].dtype)

    def look(i: Array) -> tuple[Array, Array, Array]:
        v = point(i)
        logits = wide(f(v))
        return logits.argmax() == memory["target"], jnp.sqrt((((wide(v) - x) / scale) ** 2).sum()), jax.nn.log_softmax(logits)[memory["target"]]

    hit, far, log_p = loops.stack(look, n, options["chunk"])
    # Restored one after the other: those before the first that leaves the class.
    kept = jnp.where(hit.all(), n, jnp.argmin(hit))
    nearest = jnp.where(hit.any(), jnp.argmin(jnp.where(hit, far, jnp.inf)), jnp.argmax(log_p))
    at = jnp.where(restoring, jnp.maximum(kept - 1, 0), nearest)
    chosen = point(at)
    better = hit[at] & (far[at] < memory["least"])
    new, stop = _next(memory, options, hit.any(), (kept == n) & (unchanged + n < x.size))
    new |= {"least": jnp.where(better, far[at], memory["least"]), "round": memory["round"] + 1}
    seen = Candidate(chosen, None, wide(f(chosen)), hit[at], jnp.where(hit[at], far[at], -log_p[at]), stop)
    return jnp.where(better, chosen, best), {**memory, **new}, seen


def _next(memory: dict[str, Array], options: dict[str, Any], any_hit: Array, more: Array) -> tuple[dict[str, Array], Array]:
    """The stage and the shell after this one, and whether this was the last."""
    stage, eta = memory["stage"], memory["eta"]
    shrink, grow = stage == _SHRINK, stage == _GROW
    smaller = shrink & any_hit
    found = grow & any_hit
    halved = jnp.where(smaller, eta / 2, eta)
    start = jnp.where(smaller, 0, jnp.where(shrink, eta, memory["outer"]))
    stop = (found & (not options["sparse"])) | ((stage == _RESTORE) & ~more)
    stage = jnp.where(found, _RESTORE, jnp.where(shrink & ~any_hit, _GROW, stage))
    return {"stage": stage, "eta": halved, "inner": start, "outer": start + halved}, stop


def in_shell(key: Array, opened: Array, inner: Array, outer: Array, dtype: Any) -> Array:
    """A point uniform in `inner < ‖v‖₂ <= outer` of the subspace of open entries: `v = r u / ‖u‖`, u normal, r^d uniform between the radii's powers."""
    direction, share = jax.random.split(key)
    u = jnp.where(opened, jax.random.normal(direction, opened.shape, dtype), 0)
    size = jnp.sqrt((u**2).sum())
    low = (inner / outer) ** opened.sum()
    r = outer * (low + (1 - low) * (1 - jax.random.uniform(share, (), dtype))) ** (1 / jnp.maximum(opened.sum(), 1))
    return r * u / jnp.where(size > 0, size, 1)
