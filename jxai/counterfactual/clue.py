"""CLUE and its kin: the nearest example of which the model is certain, by descent among the codes of a generator."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jxai.counterfactual.diversity import DIVERSITIES
from jxai.counterfactual.diversity import diversity as spread_of
from jxai.counterfactual.search import Candidate, Search, method
from jxai.counterfactual.search.constraints import Constraint, frozen
from jxai.counterfactual.search.descent import descent
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.counterfactual.search.generator import decoded
from jxai.counterfactual.search.norms import DISTANCES, length
from jxai.latent import encoded
from jxai.scores import need_key, one_of, positive, wide, within
from jxai.typing import Array, Clip, Model, PyTree
from jxai.uncertainty.predictive import check_members, of_members

_WINDOW = 3


@method
def clue(
    *,
    generator: Any,
    uncertainty: str = "total",
    members: Any = None,
    distance: str = "l1",
    scale: float | Array | None = None,
    proximity: float | None = None,
    latent: float = 0.0,
    prediction: float = 0.0,
    threshold: float | None = None,
    sigma: float = 0.0,
    tolerance: float = 0.01,
    steps: int = 25,
    learning_rate: float = 0.1,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """CLUE: what would make the model certain, `min_z H(g(z)) + w_d d(g(z), x) + w_z ‖z − z₀‖² + w_p KL(p(x) ‖ p(g(z)))` from `z₀ = encode(x)`.

    H is the entropy of the mean prediction (total), the mean entropy of the members' predictions (aleatoric), or their difference (epistemic), in
    nats.

    Args:
      generator: with `decode(z) -> x` and `encode(x) -> z`. uncertainty: "total", "aleatoric" or "epistemic".
      members: a pytree callable `x -> logits [S, K]` of an ensemble (or of a posterior's samples), whose uncertainty is reduced; None is f alone, which
        has the total uncertainty only. f gives the logits that are returned in both cases.
      distance: "l1", "l2" or "squared". scale: s > 0, each feature's own unit in distances, as in `wachter`.
      proximity: w_d >= 0; None is 2 / (entries of x). latent: w_z >= 0. prediction: w_p >= 0.
      threshold: a point is valid whose uncertainty is at most that, in nats; None is anything below the uncertainty of x itself.
      sigma: the search begins at `z₀ + sigma · N(0, 1)`, which needs a key; several restarts then find several CLUEs (the paper's 0.15).
      tolerance: >= 0; the search ends where the objective has changed in three steps by less than that share of its first value, or than a tenth of it in
        nats (0.01 gives the published 1 % and 1e-3); 0 makes all steps.
      steps, learning_rate, optimizer, clip, region, constraints: as in `diffeomorphic`.

    Returns:
      A `Counterfactual`, the valid point of least objective.

    Raises:
      ValueError: a target that is not None (certainty is searched, not a class), bad x or option, an ensemble of another shape, no key for sigma > 0.

    Cost: a forward and a backward pass of generator and members (and f) for each step.
    Reference: Antorán et al. 2021, "Getting a CLUE: A Method for Explaining Uncertainty Estimates", ICLR, arXiv 2006.06848.
    """
    options = _options(generator, uncertainty, members, distance, proximity, latent, prediction, threshold, tolerance, clip, region, constraints, scale)
    within(0.0, math.inf, sigma=sigma)
    return descent(_start, _look, {**options, "sigma": sigma}, steps=steps, learning_rate=learning_rate, optimizer=optimizer)


@method
def delta_clue(
    *,
    generator: Any,
    radius: float,
    uncertainty: str = "total",
    members: Any = None,
    distance: str = "l1",
    scale: float | Array | None = None,
    proximity: float | None = None,
    latent: float = 0.0,
    prediction: float = 0.0,
    threshold: float | None = None,
    tolerance: float = 0.01,
    steps: int = 25,
    learning_rate: float = 0.1,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """δ-CLUE: CLUE within a ball of codes, `‖z − z₀‖₂ <= δ`, from a point drawn uniformly in it; restarts give a set of different explanations.

    Args:
      radius: δ > 0, in units of the code.
      The others: as in `clue`.

    Returns, Raises: as `clue`; a key is needed.
    Cost: a forward and a backward pass of generator and members (and f) for each step.
    Reference: Ley et al. 2021, "δ-CLUE: Diverse Sets of Explanations for Uncertainty Estimates", arXiv 2104.06323.
    """
    options = _options(generator, uncertainty, members, distance, proximity, latent, prediction, threshold, tolerance, clip, region, constraints, scale)
    within(math.ulp(0.0), math.inf, radius=radius)
    return descent(_start_in_ball, _look, {**options, "radius": radius}, steps=steps, learning_rate=learning_rate, optimizer=optimizer, project=_into_ball)


@method
def nabla_clue(
    *,
    generator: Any,
    num_counterfactuals: int = 5,
    diversity: str = "dpp",
    diversity_weight: float = 1.0,
    sigma: float = 0.15,
    uncertainty: str = "total",
    members: Any = None,
    distance: str = "l1",
    scale: float | Array | None = None,
    proximity: float | None = None,
    latent: float = 0.0,
    prediction: float = 0.0,
    threshold: float | None = None,
    tolerance: float = 0.01,
    steps: int = 25,
    learning_rate: float = 0.1,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """∇-CLUE: k CLUEs at once that keep apart, `min Σ_i clue(z_i) / k − w D(x'_1, …, x'_k)`, from `z₀ + sigma · N(0, 1)`.

    Args:
      num_counterfactuals: k >= 1. diversity: D, "dpp", `det [1 / (1 + d_ij)]`, or "apd", the mean of d_ij, of the Euclidean distances d_ij of the
        examples. diversity_weight: w >= 0. sigma: > 0, so that the points do not begin as one.
      The others: as in `clue`.

    Returns:
      A `Counterfactual` of a set: x, latent, logits and valid have a leading axis k.

    Raises: as `clue`; a key is needed.
    Cost: k forward and backward passes of generator and members (and f) for each step.
    Reference: Ley et al. 2022, "Diverse, Global and Amortised Counterfactual Explanations for Uncertainty Estimates", AAAI, arXiv 2112.02646.
    """
    options = _options(generator, uncertainty, members, distance, proximity, latent, prediction, threshold, tolerance, clip, region, constraints, scale)
    one_of("diversity", diversity, DIVERSITIES)
    positive(num_counterfactuals=num_counterfactuals)
    within(0.0, math.inf, diversity_weight=diversity_weight)
    within(math.ulp(0.0), math.inf, sigma=sigma)
    options |= dict(k=num_counterfactuals, diversity=diversity, diversity_weight=diversity_weight, sigma=sigma)
    return descent(_start_set, _look_at_set, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer)


def check_untargeted(f: Model, x: Array, target: Array | None, members: Any, uncertainty: str, name: str) -> None:
    """Raises ValueError for a target, or for members that do not give `[S, K]` with f's K."""
    if target is not None:
        raise ValueError(f"{name} searches for certainty, not for a class: target={target} must be None")
    check_members(members, uncertainty, f, x)


def _options(
    generator, uncertainty, members, distance, proximity, latent, prediction, threshold, tolerance, clip, region, constraints, scale
) -> dict[str, Any]:
    check_members(members, uncertainty)
    one_of("distance", distance, DISTANCES)
    check_scale(scale)
    within(0.0, math.inf, proximity=proximity, latent=latent, prediction=prediction, threshold=threshold, tolerance=tolerance)
    options = dict(generator=generator, uncertainty=uncertainty, members=members, distance=distance, scale=scale, proximity=proximity, latent=latent)
    options |= dict(prediction=prediction, threshold=threshold, tolerance=tolerance, clip=clip)
    return {**options, "constraints": (*constraints, *frozen(region))}


def _begin(f: Model, x: Array, target: Array | None, options: dict[str, Any]) -> tuple[PyTree, dict[str, PyTree]]:
    check_untargeted(f, x, target, options["members"], options["uncertainty"], "CLUE")
    z, logits = encoded(options["generator"], x), wide(f(x))
    limit = of_members(options["members"], x, logits, options["uncertainty"]) if options["threshold"] is None else jnp.float32(options["threshold"])
    costs = jnp.full(_WINDOW, jnp.inf)
    return z, {"x": x, "start": z, "logits": logits, "limit": limit, "first": jnp.float32(jnp.inf), "costs": costs}


def _start(f: Model, x: Array, target: Array | None, key: Array | None, options: dict[str, Any]) -> tuple[PyTree, dict[str, PyTree]]:
    z, memory = _begin(f, x, target, options)
    return (z if options["sigma"] == 0 else near(z, options["sigma"], need_key(key, "CLUE with sigma > 0"))), memory


def _start_in_ball(f: Model, x: Array, target: Array | None, key: Array | None, options: dict[str, Any]) -> tuple[PyTree, dict[str, PyTree]]:
    z, memory = _begin(f, x, target, options)
    flat, back = ravel_pytree(z)
    return back(flat + options["radius"] * jax.random.ball(need_key(key, "δ-CLUE"), flat.size, dtype=flat.dtype)), memory


def _start_set(f: Model, x: Array, target: Array | None, key: Array | None, options: dict[str, Any]) -> tuple[PyTree, dict[str, PyTree]]:
    z, memory = _begin(f, x, target, options)
    return jax.vmap(lambda key: near(z, options["sigma"], key))(jax.random.split(need_key(key, "∇-CLUE"), options["k"])), memory


def near(z: PyTree, sigma: float, key: Array) -> PyTree:
    """`z + sigma · N(0, 1)`."""
    flat, back = ravel_pytree(z)
    return back(flat + sigma * jax.random.normal(key, flat.shape, flat.dtype))


def _into_ball(z: PyTree, memory: dict[str, PyTree], options: dict[str, Any]) -> PyTree:
    off = jax.tree.map(jnp.subtract, z, memory["start"])
    size = length(ravel_pytree(off)[0], "l2")
    share = options["radius"] / jnp.maximum(size, options["radius"])
    return jax.tree.map(lambda a, d: a + share * d, memory["start"], off)


def _cost(f: Model, z: PyTree, memory: dict[str, PyTree], options: dict[str, Any]) -> tuple[Array, Array, Array, Array]:
    """The objective at a code, the example there, f's logits, and whether it is certain enough."""
    x = memory["x"]
    point = decoded(options["generator"], z, x, options["clip"], options["constraints"])
    logits = wide(f(point))
    uncertain = of_members(options["members"], point, logits, options["uncertainty"])
    weight = 2 / x.size if options["proximity"] is None else options["proximity"]
    cost = uncertain + weight * length((wide(point) - wide(x)) / unit(options["scale"], x), options["distance"])
    cost = cost + options["latent"] * sum(((a - b) ** 2).sum() for a, b in zip(jax.tree.leaves(z), jax.tree.leaves(memory["start"]), strict=True))
    before, now = jax.nn.log_softmax(memory["logits"]), jax.nn.log_softmax(logits)
    cost = cost + options["prediction"] * (jnp.exp(before) * (before - now)).sum()
    valid = uncertain < memory["limit"] if options["threshold"] is None else uncertain <= memory["limit"]
    return cost, point, logits, valid


def _look(f: Model, z: PyTree, memory: dict[str, PyTree], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    cost, point, logits, valid = _cost(f, z, memory, options)
    stop, memory = _plateau(cost, memory, options)
    return cost, (Candidate(point, z, logits, valid, cost, stop), memory)


def _look_at_set(f: Model, z: PyTree, memory: dict[str, PyTree], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    costs, points, logits, valid = jax.vmap(lambda one: _cost(f, one, memory, options))(z)
    total = costs.mean() - options["diversity_weight"] * spread_of(wide(points) / unit(options["scale"], memory["x"]), options["diversity"])
    stop, memory = _plateau(total, memory, options)
    return total, (Candidate(points, z, logits, valid, total, stop), memory)


def _plateau(cost: Array, memory: dict[str, PyTree], options: dict[str, Any]) -> tuple[Array, dict[str, PyTree]]:
    """Whether the objective no longer falls, as the paper's code decides it."""
    now = jax.lax.stop_gradient(cost)
    first = jnp.where(jnp.isfinite(memory["first"]), memory["first"], now)
    stop = jnp.abs(memory["costs"][0] - now) < options["tolerance"] * jnp.maximum(jnp.abs(first), 0.1)
    return stop, {**memory, "first": first, "costs": jnp.append(memory["costs"][1:], now)}
