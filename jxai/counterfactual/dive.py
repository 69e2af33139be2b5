"""DiVE: several explanations at once, each along other directions of a generator's code."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jxai import loops
from jxai.callables import Static, partition, plainly
from jxai.counterfactual.search import Candidate, Search, check_search, method, wanted
from jxai.counterfactual.search.constraints import Constraint, frozen
from jxai.counterfactual.search.descent import descent
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.counterfactual.search.generator import decoded
from jxai.latent import check_generator, encoded
from jxai.scores import need_key, one_of, positive, wide, within
from jxai.typing import Array, Clip, Model

KINDS = ("spectral", "chunks", "random")


@method
def dive(
    *,
    generator: Any,
    masks: Array | None = None,
    num_counterfactuals: int = 8,
    sparsity: float = 1.0,
    diversity: float = 1.0,
    reconstruction: float = 10.0,
    scale: float | Array | None = None,
    threshold: float = 0.5,
    share: float = 0.9,
    sigma: float = 0.01,
    steps: int = 20,
    learning_rate: float = 0.1,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """DiVE: n perturbations ε_i of the code, each within its mask, that reach the target, are sparse, near x and unlike one another.

    `Σ_i −log p(target | g(z + ε_i)) / n + [λ_s Σ ‖ε_i‖₁ + λ_d Σ_{i≠j} cos²(ε_i, ε_j) + λ_r Σ_i mean |x − g(z + ε_i)| / s] / Σ masks`, `z = encode(x)`, from
    `ε_i ~ sigma · N(0, 1)`. With masks of directions that matter to the model alike (`fisher_masks`) the explanations are not all the most obvious one.

    Args:
      generator: with `decode(z) -> x` and `encode(x) -> z`, z one array.
      masks: `[n, *shape of z]` booleans, where each explanation may move; None is everywhere, `num_counterfactuals` = n times.
      sparsity: λ_s >= 0. diversity: λ_d >= 0. reconstruction: λ_r >= 0. scale: s > 0, each feature's own unit, as in `wachter`.
      threshold: of the probability of the target, in (0, 1), from which an explanation is valid.
      share: of the explanations that are valid, in (0, 1], at which the search ends (the published code's 90 %, of a batch there). sigma: > 0.
      steps: at most, the published 20. learning_rate: the greatest of those that the authors tried; their 0.01 moves an entry of a code by 0.2 at most.
      optimizer, clip, region, constraints: as in `diffeomorphic`.

    Returns:
      A `Counterfactual` of a set: x, latent, logits and valid have a leading axis n.

    Raises:
      ValueError: bad x, target or option, no key, masks of another shape or with an empty one.

    Cost: n forward and backward passes of generator and model for each step.
    Reference: Rodríguez et al. 2021, "Beyond Trivial Counterfactual Explanations with Diverse Valuable Explanations", ICCV, arXiv 2103.10226.
    """
    within(0.0, 1.0, threshold=threshold, share=share)
    within(0.0, math.inf, sparsity=sparsity, diversity=diversity, reconstruction=reconstruction)
    within(math.ulp(0.0), math.inf, sigma=sigma)
    positive(num_counterfactuals=num_counterfactuals)
    check_scale(scale)
    if masks is not None and not isinstance(masks, jax.core.Tracer) and not np.asarray(masks).reshape(len(masks), -1).any(1).all():
        raise ValueError(f"masks[{int(np.argmin(np.asarray(masks).reshape(len(masks), -1).any(1)))}] is empty: that explanation could not move")
    options = dict(generator=generator, masks=masks, n=num_counterfactuals, sparsity=sparsity, diversity=diversity, reconstruction=reconstruction)
    options |= dict(scale=scale, threshold=threshold, share=share, sigma=sigma, clip=clip, constraints=(*constraints, *frozen(region)))
    return descent(_start, _look, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer, project=_within_masks)


@plainly
def fisher_masks(
    f: Model, generator: Any, examples: Array, num_masks: int = 8, key: Array | None = None, *, kind: str = "spectral", inverse: bool = False
) -> np.ndarray:
    """Masks of latent directions from the Fisher information of the model, for `dive`.

    Args:
      f: a model. generator: as in `dive`, z a vector. examples: `[n, *shape]`. num_masks: from 1 to the entries of z.
      key: for the clustering's start ("spectral") and for "random".
      kind: "spectral", the clusters of the entries of z with |F| as affinity (scikit-learn); "chunks", equal shares in the order of F's diagonal;
        "random", equal shares in random order.
      inverse: everything but each cluster.

    Returns:
      Booleans `[num_masks, entries of z]`, a partition (or its complements).

    Raises:
      ValueError: unknown kind, more masks than entries of z, no key, bad examples. ImportError: "spectral" without scikit-learn.

    Cost: K backward passes of generator and model for each example.
    """
    one_of("kind", kind, KINDS)
    positive(num_masks=num_masks)
    information = fisher_information(f, generator, examples)
    size = len(information)
    if num_masks > size:
        raise ValueError(f"{num_masks=} must not exceed the {size} entries of the code")
    if kind == "spectral":
        from sklearn.cluster import SpectralClustering

        affinity = np.abs(information) / max(float(np.abs(information).max()), np.finfo(np.float64).tiny)
        seed = int(jax.random.randint(need_key(key, "fisher_masks"), (), 0, 2**31 - 1))
        # Entries without any affinity would leave the graph in pieces.
        fit = SpectralClustering(num_masks, affinity="precomputed", assign_labels="kmeans", random_state=seed).fit(affinity + 1e-6)
        labels = fit.labels_
    else:
        order = np.argsort(-np.diag(information), kind="stable")
        if kind == "random":
            order = np.asarray(jax.random.permutation(need_key(key, "fisher_masks"), size))
        labels = np.empty(size, int)
        for label, part in enumerate(np.array_split(order, num_masks)):
            labels[part] = label
    masks = labels == np.arange(num_masks)[:, None]
    return ~masks if inverse else masks


def fisher_information(f: Model, generator: Any, examples: Array) -> np.ndarray:
    """`F = mean_x Σ_k p_k ∇_z log p_k ∇_z log p_kᵀ` at the codes of the examples, the expectation over labels exact: `[d, d]`, float64.

    Raises:
      ValueError: a code that is no vector, bad examples.
    """
    examples = jnp.asarray(examples)
    check_generator(generator, examples[0])
    check_search(f, examples[0], None)
    shape = jax.eval_shape(generator.encode, examples[0]).shape
    if len(shape) != 1:
        raise ValueError(f"the code must be a vector for Fisher masks, got shape {shape}")
    arrays, rest = partition((f, generator))
    return np.asarray(_information(arrays, examples, rest=rest), np.float64)


@functools.partial(jax.jit, static_argnames="rest")
def _information(arrays: list[Array], examples: Array, *, rest: Static) -> Array:
    f, generator = rest.combine(arrays)

    def one(x: Array) -> Array:
        z = wide(generator.encode(x))
        log_p = lambda code: jax.nn.log_softmax(wide(f(generator.decode(code))))
        slopes = jax.jacrev(log_p)(z)
        return jnp.einsum("k,ki,kj->ij", jnp.exp(log_p(z)), slopes, slopes)

    return loops.map(one, examples, batch_size=64).mean(0)


def _start(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
    z = encoded(options["generator"], x)
    masks = jnp.ones((options["n"], *z.shape), bool) if options["masks"] is None else jnp.asarray(options["masks"], bool)
    if masks.ndim != z.ndim + 1 or masks.shape[1:] != z.shape:
        raise ValueError(f"masks must have shape {['n', *z.shape]}, got {list(masks.shape)}")
    steps = options["sigma"] * jax.random.normal(need_key(key, "DiVE"), masks.shape, z.dtype)
    return jnp.where(masks, steps, 0), {"x": x, "target": wanted(target), "start": z, "masks": masks}


def _within_masks(steps: Array, memory: dict[str, Array], options: dict[str, Any]) -> Array:
    return jnp.where(memory["masks"], steps, 0)


def _look(f: Model, steps: Array, memory: dict[str, Array], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    x, codes = memory["x"], memory["start"] + steps
    points = jax.vmap(lambda z: decoded(options["generator"], z, x, options["clip"], options["constraints"]))(codes)
    logits = wide(jax.vmap(f)(points))
    log_p = jax.nn.log_softmax(logits)[:, memory["target"]]
    price = options["sparsity"] * jnp.abs(steps).sum() + options["diversity"] * alike(steps)
    price = price + options["reconstruction"] * (jnp.abs(wide(points) - wide(x)) / unit(options["scale"], x)).mean(tuple(range(1, points.ndim))).sum()
    loss = -log_p.mean() + price / memory["masks"].sum()
    valid = log_p >= jnp.log(options["threshold"])
    return loss, (Candidate(points, codes, logits, valid, loss, wide(valid).mean() >= options["share"]), memory)


def alike(steps: Array) -> Array:
    """`Σ_{i≠j} cos²(ε_i, ε_j)` of `[n, …]`, 0 for one that is 0."""
    flat = steps.reshape(steps.shape[0], -1)
    square = (flat**2).sum(1, keepdims=True)
    unit = flat / jnp.sqrt(jnp.where(square > 0, square, 1))
    return (jnp.where(jnp.eye(len(flat), dtype=bool), 0, unit @ unit.T) ** 2).sum()
