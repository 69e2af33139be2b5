"""Which parts of x make a model unsure: its uncertainty, shared out along a path through a generator from a point that is like x but certain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.attribution.ends import explained, found
from jxai.attribution.path import RULES, quadrature, slope
from jxai.callables import plainly
from jxai.latent import check_code, check_generator
from jxai.removal.doubts import concrete, flat, warn
from jxai.removal.masks import as_map
from jxai.scores import one_of, positive, wide
from jxai.typing import Array, Generator, Model, PyTree, Scalar
from jxai.uncertainty.predictive import Score

__all__ = ["uncertainty_path"]

SECANT = "secant"
Way = Callable[[float | Array], Array]


@plainly
def uncertainty_path(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    generator: Generator,
    uncertainty: str | Score = "total",
    members: Any = None,
    fiducial: PyTree = None,
    code: PyTree = None,
    steps: int = 50,
    rule: str = "secant",
    weight: float = 1e4,
    prior: float = 0.5,
    distance: str = "cross_entropy",
    search_steps: int = 2000,
    learning_rate: float = 0.01,
    tolerance: float = 1e-3,
    chunk: int | None = None,
) -> Array:
    """Uncertainty by a path integral: `∫₀¹ ∇u(g(ζ)) ⊙ ∂g(ζ)/∂α dα` along `ζ = z₀ + α (z − z₀)`, and on straight from `g(z)` to x.

    u is the entropy of the prediction, g a generator's decoder. The codes are found by descent from `encode(x)`: of x, `z = argmin d(x, g(z)) + w_z ‖z‖²`,
    and of the fiducial, which is of the class for sure, `z₀ = argmin d(x, g(z₀)) + w P BCE(1_c, p(g(z₀))) + w_z ‖z₀‖²`, P the number of positions.
    Complete: `Σ = u(x) − u(g(z₀))`. Positive entries are what makes f less sure.

    Args:
      f: a model `x -> logits [K]`, or with `target=None` an uncertainty `x -> []` itself, which then takes the place of the BCE.
      x: one example of any rank. target: c, the class that the fiducial is of; `None` is the one that f predicts (the paper's). key: unused.
      generator: with `decode(z) -> x` and `encode(x) -> z`.
      uncertainty: u: "total" (entropy in nats), "aleatoric" or "epistemic" (mutual information), as in `counterfactual.clue`, or a score
        `(f, x) -> []`, such as those of `jxai.uncertainty`.
      members: a pytree callable `x -> logits [S, K]` of an ensemble, whose uncertainty is explained; None is f alone, which has the total one only.
      fiducial: z₀, such as the `latent` of a counterfactual. code: z. None finds them; `uncertainty_ends` shows them.
      steps: of each of the two parts (the paper's 50). rule: "secant", which takes the slopes at both ends of a step and weighs them so that the step adds
        what u does there, what no weights explain being shared by magnitude: complete to rounding, and exact for one kink a step; or a rule of
        `integrated_gradients` ("midpoint" is the published code's, which at 50 steps misses .08 nats of 1 for LeNet-5).
      weight: w >= 0. prior: w_z >= 0. distance: d: "cross_entropy", for x in [0, 1], or "squared"; the mean over channels, summed over positions.
      search_steps, learning_rate: of Adam, at most. tolerance: >= 0; z is found where a step lowers the objective by less than that on average,
        z₀ where by less than that share of what the first ten did.
      chunk: points at once (None: `jxai.loops.at_once`).

    Returns:
      x's shape, in units of u. Its derivatives hold the ends of the path.

    Raises:
      ValueError: bad x, target or option, a generator that does not fit x, codes of another shape, x out of [0, 1] for a cross-entropy.

    Cost: up to `2 search_steps` forward and backward passes of the generator (half of them with f), and `4 steps` of f (half as many for another rule).

    Reference: Perez et al. 2022, "Attribution of predictive uncertainties in classification models", UAI, arXiv 2107.08756.
    """
    of = explained(f, x, target, uncertainty, members)
    expected = check_generator(generator, x)
    fiducial, code = (None if z is None else check_code(z, expected, name) for name, z in (("fiducial", fiducial), ("code", code)))
    one_of("rule", rule, (SECANT, *RULES))
    positive(steps=steps)
    search = dict(weight=weight, prior=prior, distance=distance, search_steps=search_steps, learning_rate=learning_rate, tolerance=tolerance)
    (first, _), (last, _) = found(of, x, generator, fiducial, code, search)
    decode, u = lambda z: wide(generator.decode(z)), of.uncertainty
    near, way = decode(last), jax.tree.map(jnp.subtract, last, first)
    curve = lambda alpha: decode(jax.tree.map(lambda z, d: z + alpha * d, first, way))
    straight = lambda alpha: near + alpha * (wide(x) - near)
    integrate = _secants if rule == SECANT else functools.partial(_quadrature, rule)
    shared = integrate(u, (curve, straight), x, steps, loops.at_once(x, chunk))
    attribution = as_map(jnp.where(of.known, shared, jnp.nan), x)
    start = curve(0.0).astype(x.dtype)
    flat("uncertainty_path", attribution, u, x, [start])
    _doubtful(u, x, start)
    return attribution


def _quadrature(rule: str, u: Scalar, ways: Sequence[Way], x: Array, steps: int, chunk: int) -> Array:
    """`Σ_k w_k ∇u(γ(α_k)) ⊙ γ'(α_k)` of each way; one gradient of all, so that f is in the program once."""
    alphas, weights = (jnp.asarray(v, wide(x).dtype) for v in quadrature(rule, steps))

    def part(k: Array) -> Array:
        points, velocities = zip(*(jax.jvp(way, (alphas[k],), (jnp.ones_like(alphas[k]),)) for way in ways))
        slopes = jax.vmap(lambda v: slope(u, v, x))(jnp.stack(points))
        return weights[k] * (slopes * jnp.stack(velocities)).sum(0)

    return loops.sums(part, steps, chunk)


def _secants(u: Scalar, ways: Sequence[Way], x: Array, steps: int, chunk: int) -> Array:
    """`Σ_k (λ_k ∇u(γ_k) + (1 − λ_k) ∇u(γ_{k+1})) ⊙ (γ_{k+1} − γ_k)` of each way."""

    def part(k: Array) -> Array:
        points = jnp.stack([jnp.stack([way((k + j) / steps) for j in (0, 1)]) for way in ways])
        values, slopes = jax.vmap(jax.vmap(jax.value_and_grad(lambda v: u(v.astype(x.dtype)))))(points)
        moved = points[:, 1] - points[:, 0]
        before, after = jnp.moveaxis((slopes * moved[:, None]).reshape(*slopes.shape[:2], -1).sum(-1), 1, 0)
        gap = before - after
        share = jnp.clip((values[:, 1] - values[:, 0] - after) / jnp.where(gap == 0, 1, gap), 0, 1)
        share = jnp.where(gap == 0, 0.5, share).reshape(-1, *(1,) * x.ndim)
        shared = (share * slopes[:, 0] + (1 - share) * slopes[:, 1]) * moved
        size = jnp.abs(shared)
        entries = tuple(range(1, size.ndim))
        left, whole = values[:, 1] - values[:, 0] - shared.sum(entries), size.sum(entries)
        part = jnp.where(whole > 0, left / jnp.where(whole > 0, whole, 1), 0)
        return (shared + part.reshape(-1, *(1,) * x.ndim) * size).sum(0)

    return loops.sums(part, steps, chunk)


def _doubtful(u: Scalar, x: Array, start: Array) -> None:
    """Warns where the fiducial is no more certain than x."""
    if concrete(x, start):
        here, there = u(x), u(start)
        if concrete(here, there) and np.asarray(there) >= np.asarray(here):
            warn(
                f"uncertainty_path: the fiducial is no more certain ({float(there):g}) than x ({float(here):g}): the map says how that came about, not what makes "
                "f unsure; look at uncertainty_ends, give another fiducial or target, or raise search_steps"
            )
