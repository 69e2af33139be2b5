"""Gradient searches in the coordinates of a generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jxai.counterfactual.search import Candidate, Search, method, wanted
from jxai.counterfactual.search.constraints import Constraint, frozen
from jxai.counterfactual.search.descent import descent
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.counterfactual.search.generator import decoded
from jxai.latent import encoded
from jxai.scores import wide, within
from jxai.typing import Array, Clip, Model


@method
def diffeomorphic(
    *,
    generator: Any,
    threshold: float = 0.99,
    steps: int = 500,
    learning_rate: float = 0.05,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """Diffeomorphic counterfactuals: gradient ascent of the target's log-probability in the coordinates of a generator.

    `z ← z + η · ∇_z log p(target | g(z))` from `z = g⁻¹(x)`, until `p >= threshold`. A step in z is a step in x that `J Jᵀ` preconditions, `J = ∂g/∂z`,
    so that directions off the data's manifold, along which g hardly moves, are suppressed. No term keeps the point near x: beginning there does.
    With a flow, whose encoder is its exact inverse, g is a diffeomorphism; with a VAE or a GAN it is one approximately.

    Args:
      generator: with `decode(z) -> x` and `encode(x) -> z`. threshold: of the probability, in (0, 1).
      steps: at most. learning_rate: η. optimizer: `optax.adam` (the paper's), or another function of η.
      clip: the valid range, (low, high), numbers or arrays that broadcast against x, that the generator's output is cut to; x must lie in it. (0, 1) is that
        of pictures, None is no range.
      region: booleans over the positions or entries of x, where it may change; all by default.
      constraints: `jxai.counterfactual.constraints` that x keeps to.

    Returns:
      A `Counterfactual`; valid where `p(target) >= threshold`, or x itself where it is of the target class, and all constraints, the region and the range
      hold, to 1e-5 of each entry (in half precision to two roundings). Under a trace nothing is valid for an x out of range.

    Raises:
      ValueError: bad x, target or option, a generator that does not fit x, a region that freezes everything, a concrete x outside of `clip`, constraints
        that nothing can keep to (`Range(5, 1)`, a frozen feature out of its range).

    Cost: a forward and a backward pass of generator and model for each step.
    Reference: Dombrowski et al. 2022, "Diffeomorphic Counterfactuals with Generative Models", arXiv 2206.05075.
    """
    within(0.0, 1.0, threshold=threshold)
    options = dict(generator=generator, threshold=threshold, clip=clip, constraints=(*constraints, *frozen(region)))
    return descent(_start, _nearer_the_target, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer)


@method
def revise(
    *,
    generator: Any,
    proximity: float = 0.1,
    scale: float | Array | None = None,
    threshold: float = 0.5,
    steps: int = 2000,
    learning_rate: float = 0.01,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """REVISE: gradient descent in latent space with a price on the distance, `−log p(target | g(z)) + λ ‖(x − g(z)) / s‖₁`, until `p >= threshold`.

    Args:
      generator: with `decode(z) -> x` and `encode(x) -> z`. proximity: λ >= 0. scale: s > 0, each feature's own unit, as in `wachter`.
      threshold: of the probability, in (0, 1). steps: at most. learning_rate: η; `proximity=1, optimizer=optax.sgd, learning_rate=1e-5,
        steps=50_000` are the settings in which Höltgen et al. (2021) compared it (with λ = 1 most digits stay what they are here).
      optimizer, clip, region, constraints: as in `diffeomorphic`.

    Returns, Raises: as `diffeomorphic`.
    Cost: a forward and a backward pass of generator and model for each step.
    Reference: Joshi et al. 2019, "Towards Realistic Individual Recourse and Actionable Explanations in Black-Box Decision Making Systems",
      arXiv 1907.09615.
    """
    within(0.0, 1.0, threshold=threshold)
    within(0.0, jnp.inf, proximity=proximity)
    check_scale(scale)
    options = dict(generator=generator, threshold=threshold, clip=clip, constraints=(*constraints, *frozen(region)), proximity=proximity, scale=scale)
    return descent(_start, _nearer_the_target, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer)


def _start(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
    return encoded(options["generator"], x), {"x": x, "target": wanted(target)}


def _nearer_the_target(f: Model, z: Array, memory: dict[str, Array], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    x = memory["x"]
    point = decoded(options["generator"], z, x, options["clip"], options["constraints"])
    logits = wide(f(point))
    log_p = jax.nn.log_softmax(logits)[memory["target"]]
    loss = -log_p + options.get("proximity", 0.0) * (jnp.abs(wide(point) - wide(x)) / unit(options.get("scale"), x)).sum()
    valid = log_p >= jnp.log(options["threshold"])
    return loss, (Candidate(point, z, logits, valid, -log_p, valid), memory)
