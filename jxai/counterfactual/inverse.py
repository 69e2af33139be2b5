"""Inverse problems with a generator as the prior, by the searches that find counterfactuals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jxai.callables import plainly
from jxai.counterfactual import operators
from jxai.counterfactual.search import Candidate, Search, State, advance, begin
from jxai.counterfactual.search.descent import descent
from jxai.counterfactual.search.norms import soft
from jxai.latent import check_generator, encoded
from jxai.loops import while_loop
from jxai.scores import check_example, one_of, wide, within
from jxai.typing import Array, PyTree

FORMS = ("hard", "soft", "sparse")


class Reconstruction(NamedTuple):
    """What an inverse problem was solved by."""

    x: Array
    """The example: `G(z)`, or near it."""
    latent: PyTree
    """z."""
    loss: Array
    """`[]`: the objective there."""
    misfit: Array
    """`[]`: `‖A x − y‖²`."""
    steps: Array
    """`[]`, int32: the steps that were made."""


@plainly
def generative_regularizer(operator: Any, y: Array, generator: Any, x: Array, *, form: str = "hard", **options: Any) -> Reconstruction:
    """Solves `A x ≈ y` with a generator G as the regulariser.

    - "hard": `min_z ‖A G(z) − y‖² + λ ‖z‖²`, x = G(z).
    - "soft": `min_{x, z} ‖A x − y‖² + λ (‖x − G(z)‖² + μ ‖z‖²)`.
    - "sparse": `min_{u, z} ‖A (G(z) + u) − y‖² + λ (‖u‖₁ + μ ‖z‖²)`, x = G(z) + u; u by proximal gradient steps, so that most of it is 0 exactly.

    Args:
      operator: A, a linear pytree callable, such as those of `jxai.counterfactual.operators`. y: what was measured.
      generator: with `decode(z) -> x` and `encode(x) -> z`. x: where the search begins, at `encode(x)`; of the shape of the solution.
      form: of the three. options: of `regularized`.

    Returns:
      A `Reconstruction`, the point of least objective that was met.

    Raises:
      ValueError: unknown form, an operator that does not fit x or y, a generator that does not fit x, bad options.

    Cost: a forward and a backward pass of generator and operator for each step ("sparse": two of the operator).
    Reference: Duff, Campbell and Ehrhardt 2023, "Regularising Inverse Problems with Generative Machine Learning Models", JMIV, arXiv 2107.11191.
    """
    check_example(x)
    _check_operator(operator, x, y)
    search, y = regularized(generator=generator, form=form, **options), jnp.asarray(y)
    state = while_loop(lambda s: ~s.done, lambda s: advance(search, operator, s), begin(search, operator, x, None, None, y=y))
    return reconstruction(state, y)


@plainly
def regularized(
    *,
    generator: Any,
    form: str = "hard",
    weight: float = 0.1,
    latent: float = 0.01,
    tolerance: float = 0.0,
    steps: int = 500,
    learning_rate: float = 0.05,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
) -> Search:
    """The search behind `generative_regularizer`, for `jxai.counterfactual.run` with the operator (`Raveled`) as the model and y by example.

    Args:
      generator, form: as there. weight: λ >= 0. latent: μ >= 0 ("soft", "sparse").
      tolerance: >= 0; the search ends where a step changes the objective by less than that share of it. steps: at most.
      learning_rate, optimizer: of the descent in z (and in x, "soft").

    Raises:
      ValueError: unknown form, a bad option.
    """
    one_of("form", form, FORMS)
    within(0.0, math.inf, weight=weight, latent=latent, tolerance=tolerance)
    options = dict(generator=generator, form=form, weight=weight, latent=latent, tolerance=tolerance, y=None)
    return descent(_start, _look, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer, project=_proximal if form == "sparse" else None)


def reconstruction(state: State, y: Array) -> Reconstruction:
    """What a search has found so far."""
    best = state.best
    return Reconstruction(best.x, best.latent, best.cost, ((best.logits.ravel() - wide(y).ravel()) ** 2).sum(), state.steps)


def _start(operator: Any, x: Array, target: None, key: None, options: dict[str, Any]) -> tuple[dict[str, PyTree], dict[str, Array]]:
    if target is not None:
        raise ValueError(f"an inverse problem has no target class: target={target} must be None")
    if options["y"] is None:
        raise ValueError("an inverse problem needs y: what was measured (per_example={'y': …} of run)")
    _check_operator(operator, x, options["y"])
    check_generator(options["generator"], x)
    z = encoded(options["generator"], x)
    variable, memory = {"z": z}, {"y": wide(jnp.asarray(options["y"])).ravel(), "last": jnp.float32(jnp.inf)}
    if options["form"] == "soft":
        variable["x"] = options["generator"].decode(z)
    if options["form"] == "sparse":
        variable["u"] = jnp.zeros_like(wide(x))
        # The gradient of the misfit changes by at most 2 ‖A‖² per unit of u; power iteration falls short of the norm by a little.
        memory |= {"rate": 0.45 / operators.norm(operator, wide(x)) ** 2, "slope": variable["u"]}
    return variable, memory


def _look(operator: Any, variable: dict[str, PyTree], memory: dict[str, Array], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    z, form, weight = variable["z"], options["form"], options["weight"]
    made = wide(options["generator"].decode(z))
    energy, slope = sum((leaf**2).sum() for leaf in jax.tree.leaves(z)), {}
    u = lax.stop_gradient(variable.get("u", jnp.zeros(())))
    point = variable["x"] if form == "soft" else made + u
    measured = wide(operator(point))
    off = measured.ravel() - memory["y"]
    loss = (off**2).sum()
    if form == "hard":
        loss = loss + weight * energy
    if form == "soft":
        loss = loss + weight * (((point - made) ** 2).sum() + options["latent"] * energy)
    if form == "sparse":
        loss = loss + weight * (jnp.abs(u).sum() + options["latent"] * energy)
        slope = {"slope": operators.adjoint(operator, u)(2 * lax.stop_gradient(off).reshape(measured.shape))}
    now = lax.stop_gradient(loss)
    level = jnp.abs(memory["last"] - now) < options["tolerance"] * jnp.abs(now)
    # Nothing is claimed but the least objective that was met: every finite point is valid.
    return loss, (Candidate(point, z, measured, jnp.asarray(True), loss, level), {**memory, "last": now, **slope})


def _proximal(variable: dict[str, PyTree], memory: dict[str, Array], options: dict[str, Any]) -> dict[str, PyTree]:
    rate = memory["rate"]
    return {**variable, "u": soft(variable["u"] - rate * memory["slope"], rate * options["weight"])}


def _check_operator(operator: Any, x: Array, y: Array) -> None:
    try:
        out = jax.eval_shape(lambda v: operator(v), jax.ShapeDtypeStruct(jnp.shape(x), jnp.float32))
    except (TypeError, ValueError) as error:
        raise ValueError(f"operator={type(operator).__name__} does not take x of shape {jnp.shape(x)}: {error}") from None
    if math.prod(out.shape) != math.prod(jnp.shape(y)):
        raise ValueError(f"operator={type(operator).__name__} measures {out.shape} of x of shape {jnp.shape(x)}, but y has {jnp.shape(y)}")
