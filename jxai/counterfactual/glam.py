"""GLAM-CLUE: one translation of the code for each group of uncertain examples, learned once, after which a counterfactual is one call."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jxai.callables import Static, partition, plainly
from jxai.counterfactual.clue import check_untargeted
from jxai.counterfactual.search import Candidate, Search, clipped, method
from jxai.counterfactual.search.constraints import Constraint, frozen
from jxai.counterfactual.search.direct import direct
from jxai.counterfactual.search.domain import Domain, check_examples
from jxai.counterfactual.search.generator import decoded
from jxai.counterfactual.search.labels import checked
from jxai.latent import check_generator, encoded, encodings
from jxai.loops import scan
from jxai.scores import wide, within
from jxai.typing import Array, Clip, Model
from jxai.uncertainty.predictive import check_members, of_members


@method
def glam_clue(
    *,
    generator: Any,
    translations: Array,
    uncertainty: str = "total",
    members: Any = None,
    threshold: float | None = None,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """GLAM-CLUE: the example at `encode(x) + θ_g`, the translation that makes the group g of x, its predicted class, certain.

    Args:
      generator: with `decode(z) -> x` and `encode(x) -> z`, z one array. translations: θ `[K, *shape of z]`, of `fit_glam`.
      uncertainty, members, threshold: as in `clue`; they say what is valid. clip, region, constraints: as in `diffeomorphic`.

    Returns:
      A `Counterfactual` of 0 steps.

    Raises:
      ValueError: a target that is not None, bad x or option, translations of another shape.

    Cost: a pass of encoder, decoder, and two of the model.
    Reference: Ley et al. 2022, "Diverse, Global and Amortised Counterfactual Explanations for Uncertainty Estimates", AAAI, arXiv 2112.02646.
    """
    check_members(members, uncertainty)
    within(0.0, math.inf, threshold=threshold)
    options = dict(generator=generator, translations=translations, uncertainty=uncertainty, members=members, threshold=threshold, clip=clip)
    return direct(_translated, _check, {**options, "constraints": (*constraints, *frozen(region))})


@plainly
def fit_glam(
    f: Model,
    generator: Any,
    examples: Array,
    groups: Array,
    num_groups: int,
    *,
    certain: Array | None = None,
    certain_groups: Array | None = None,
    uncertainty: str = "total",
    members: Any = None,
    sparsity: float = 0.01,
    steps: int = 200,
    learning_rate: float = 0.05,
    clip: Clip | None = (0.0, 1.0),
) -> Array:
    """Learns the translations, `min_θ_g mean_{i in g} H(decode(encode(x_i) + θ_g)) + λ ‖θ_g‖₁`, by Adam, all groups at once.

    Args:
      f: the model. examples: uncertain ones, `[n, *shape]`. groups: `[n]`, the class that f predicts there (or another partition of as many groups as f
        has classes). num_groups: K.
      certain, certain_groups: certain examples and their groups; where given, θ_g begins at the difference of the groups' mean codes, else at 0.
      uncertainty, members: as in `clue`. sparsity: λ >= 0. steps: >= 0; with 0 the differences of the means are the result.
      learning_rate: of Adam. clip: the valid range of x.

    Returns:
      `[K, *shape of z]`.

    Raises:
      ValueError: groups that are no integers in [0, K), an empty one, only one of `certain` and `certain_groups`, bad options.

    Cost: `steps · n` forward and backward passes of generator and model.
    """
    check_members(members, uncertainty)
    within(0.0, math.inf, sparsity=sparsity, learning_rate=learning_rate, steps=steps)
    if (certain is None) != (certain_groups is None):
        raise ValueError("certain and certain_groups must be given together, or neither")
    examples, groups = jnp.asarray(examples), checked("groups", groups, len(examples), num_groups)
    check_generator(generator, examples[0])
    check_examples(Domain(clip), np.asarray(examples))
    check_untargeted(f, examples[0], None, members, uncertainty, "GLAM-CLUE")
    codes = encodings(generator, examples)
    start = jnp.zeros((num_groups, *codes.shape[1:]), codes.dtype)
    if certain is not None:
        goal = encodings(generator, jnp.asarray(certain))
        start = _means(goal, checked("certain_groups", certain_groups, len(goal), num_groups), num_groups) - _means(codes, groups, num_groups)
    arrays, rest = partition((f, generator, members))
    return _fit(arrays, codes, jnp.asarray(groups), start, sparsity, clip, rest=rest, uncertainty=uncertainty, steps=steps, learning_rate=learning_rate)


@functools.partial(jax.jit, static_argnames=("rest", "uncertainty", "steps", "learning_rate"))
def _fit(arrays, codes: Array, groups: Array, start: Array, sparsity: float, clip, *, rest: Static, uncertainty: str, steps: int, learning_rate: float):
    f, generator, members = rest.combine(arrays)
    optimizer = optax.adam(learning_rate)
    counts = jnp.zeros(start.shape[0]).at[groups].add(1)

    def uncertain(code: Array) -> Array:
        point = clipped(generator.decode(code), clip)
        return of_members(members, point, wide(f(point)), uncertainty)

    def loss(shifts: Array) -> Array:
        return (jax.vmap(uncertain)(codes + shifts[groups]) / counts[groups]).sum() + sparsity * jnp.abs(shifts).sum()

    def step(state, _):
        shifts, memory = state
        updates, memory = optimizer.update(jax.grad(loss)(shifts), memory)
        return (optax.apply_updates(shifts, updates), memory), None

    return scan(step, (start, optimizer.init(start)), None, length=steps)[0][0]


def _check(f: Model, x: Array, target: Array | None, options: dict[str, Any]) -> None:
    check_untargeted(f, x, target, options["members"], options["uncertainty"], "GLAM-CLUE")
    check_generator(options["generator"], x)
    classes, code = (jax.eval_shape(lambda v, g=g: g(v), x).shape for g in (f, options["generator"].encode))
    if jnp.shape(options["translations"]) != (*classes, *code):
        raise ValueError(f"translations must have shape {[*classes, *code]}, got {list(jnp.shape(options['translations']))}")


def _translated(f: Model, x: Array, target: Array | None, key: Array | None, options: dict[str, Any]) -> Candidate:
    z, before = encoded(options["generator"], x), wide(f(x))
    z = z + jnp.asarray(options["translations"])[before.argmax()].astype(z.dtype)
    point = decoded(options["generator"], z, x, options["clip"], options["constraints"])
    logits = wide(f(point))
    uncertain = of_members(options["members"], point, logits, options["uncertainty"])
    if options["threshold"] is None:
        valid = uncertain < of_members(options["members"], x, before, options["uncertainty"])
    else:
        valid = uncertain <= options["threshold"]
    return Candidate(point, z, logits, valid, uncertain, valid)


def _means(codes: Array, groups: np.ndarray, num_groups: int) -> Array:
    return jnp.stack([codes[groups == g].mean(0) for g in range(num_groups)])
