"""Searches that follow a gradient: any optax optimiser, on any variable, with a projection after each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from jxai.counterfactual.search import Candidate, Domain, Search
from jxai.counterfactual.search.generator import Identity
from jxai.scores import positive, within
from jxai.typing import Array, Model, PyTree

Start = Callable[..., tuple[PyTree, PyTree]]
"""`(f, x, target, key, options) -> (variable, memory)`."""
Look = Callable[..., tuple[Array, tuple[Candidate, PyTree]]]
"""`(f, variable, memory, options) -> (loss, (candidate, memory))`: what is minimised, the point it belongs to, and what is kept from here on."""
Project = Callable[[PyTree, PyTree, dict[str, Any]], PyTree]
"""`(variable, memory, options) -> variable`."""


def descent(
    start: Start,
    look: Look,
    options: dict[str, Any],
    *,
    steps: int,
    learning_rate: float,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    project: Project | None = None,
) -> Search:
    """The search `variable ← P(variable − η · direction(∇ loss))`.

    Args:
      start, look, project: module-level functions; options: what they share, arrays of it are leaves; `clip` and `constraints` are the search's domain.
      steps: at most, >= 1. learning_rate: η > 0. optimizer: `learning_rate -> optax transformation`, a module-level function such as `optax.adam`.

    Raises:
      ValueError: bad steps or learning rate.
    """
    positive(steps=steps)
    within(math.ulp(0.0), math.inf, learning_rate=learning_rate)
    generator = options.get("generator")
    # The codes of other generators are in units of theirs.
    scale = options.get("scale", 1.0) if not isinstance(generator, Identity) else generator.scale if options.get("scale") is None else options["scale"]
    domain = Domain(options.get("clip"), options.get("constraints", ()), scale=scale)
    return Search(Partial(_init, start, optimizer, learning_rate, options), Partial(_step, look, project, optimizer, learning_rate, options), steps, domain)


def _init(start: Start, optimizer: Callable, learning_rate: float, options: dict, f: Model, x: Array, target: Array, key: Array | None, **own: Array):
    if unknown := own.keys() - options.keys():
        raise ValueError(f"{min(unknown)!r} is no option that may differ by example; those are among {', '.join(options)}")
    own = jax.tree.map(jnp.asarray, own)
    variable, memory = start(f, x, target, key, {**options, **own})
    return variable, (memory, optimizer(learning_rate).init(variable), own)


def _step(look: Look, project: Project | None, optimizer: Callable, learning_rate: float, options: dict[str, Any], f: Model, variable: PyTree, memory: PyTree):
    kept, state, own = memory
    options = {**options, **own}
    (_, (candidate, kept)), gradient = jax.value_and_grad(lambda v: look(f, v, kept, options), has_aux=True)(variable)
    gradient = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0), gradient)
    updates, state = optimizer(learning_rate).update(gradient, state, variable)
    variable = optax.apply_updates(variable, updates)
    if project is not None:
        variable = project(variable, kept, options)
    return variable, (kept, state, own), candidate
