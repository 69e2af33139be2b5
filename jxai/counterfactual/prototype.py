"""Counterfactuals guided by prototypes: a sparse change that an encoder sees near the target class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jxai.callables import plainly
from jxai.counterfactual.search import Candidate, Domain, Search, clipped, method, wanted
from jxai.counterfactual.search.constraints import Constraint, frozen, relaxed, settled
from jxai.counterfactual.search.descent import descent
from jxai.counterfactual.search.domain import check_scale, unit
from jxai.counterfactual.search.labels import checked
from jxai.counterfactual.search.norms import soft
from jxai.latent import check_generator, encoded, encodings
from jxai.scores import one_of, positive, wide, within
from jxai.typing import Array, Clip, Model

LOSSES = ("hinge", "cross_entropy")


@method
def prototype(
    *,
    generator: Any,
    prototypes: Array,
    loss: str = "hinge",
    margin: float = 0.0,
    weight: float = 1.0,
    growth: float = 1.05,
    sparsity: float = 0.1,
    reconstruction: float = 0.0,
    attraction: float = 1.0,
    patience: int = 100,
    scale: float | Array | None = None,
    steps: int = 500,
    learning_rate: float = 0.01,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.sgd,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """Counterfactuals guided by prototypes, `min_δ c · loss + β ‖δ‖₁ + ‖δ‖₂² + γ ‖x' − AE(x')‖² + θ ‖enc(x') − proto_target‖²`, `x' = x + s δ`.

    The loss is `max(0, κ + max_{j ≠ target} f_j − f_target)` or the cross entropy. Accelerated proximal descent (FISTA) from x: after each step δ is
    soft-thresholded by η β, so that entries that do not help stay 0 exactly. c grows by a factor at each step that finds x' short of the target and
    falls by it at each that does not (the paper bisects it over restarts; `growth=1` keeps it); the valid point of which the other terms are least is
    returned.

    Args:
      generator: with `encode(x) -> z` (one array) and `decode(z) -> x`; AE(x) is `decode(encode(x))`.
      prototypes: `[K, *shape of z]`, a code for each class: `class_prototypes`. It may differ by example (`per_example`).
      loss: "hinge" (the paper's) or "cross_entropy". margin: κ >= 0 of the hinge, in logits. weight: c > 0 at first. growth: >= 1.
      sparsity: β >= 0. reconstruction: γ >= 0. attraction: θ >= 0. patience: the search ends that many steps after the last better point.
      scale: s > 0, each feature's own unit, of δ and its steps, as in `wachter`.
      steps: at most. learning_rate: η. optimizer: `optax.sgd`, for which the thresholding is the exact proximal step, or another function of η.
      clip, region, constraints: as in `diffeomorphic`.

    Returns:
      A `Counterfactual`, valid where f predicts the target, its latent `encode(x')`.

    Raises:
      ValueError: bad x, target or option, a generator that does not fit x, prototypes of another shape, a region that freezes everything.

    Cost: two forward and a backward pass of model and encoder for each step, and of the decoder for γ > 0.
    Reference: Van Looveren and Klaise 2021, "Interpretable Counterfactual Explanations Guided by Prototypes", ECML PKDD, arXiv 1907.02584.
    """
    one_of("loss", loss, LOSSES)
    positive(patience=patience)
    within(0.0, math.inf, margin=margin, sparsity=sparsity, reconstruction=reconstruction, attraction=attraction)
    within(math.ulp(0.0), math.inf, weight=weight)
    within(1.0, math.inf, growth=growth)
    check_scale(scale)
    options = dict(scale=scale, generator=generator, prototypes=prototypes, loss=loss, margin=margin, weight=weight, growth=growth, sparsity=sparsity)
    options |= dict(reconstruction=reconstruction, attraction=attraction, patience=patience, rate=learning_rate, clip=clip)
    options["constraints"] = (*constraints, *frozen(region))
    return descent(_start, _look, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer, project=_proximal)


@plainly
def class_prototypes(generator: Any, examples: Array, labels: Array, num_classes: int, *, k: int | None = None, x: Array | None = None) -> Array:
    """The mean code of each class, `1/k Σ encode(x_i)` over its examples, or over the k of them whose codes are nearest to that of x.

    Args:
      generator: with `encode` and `decode`. examples: `[n, *shape]`. labels: `[n]`, the classes that the model predicts there (or true ones).
      num_classes: K. k: >= 1, needs x; None is all of the class.

    Returns:
      `[K, *shape of z]`.

    Raises:
      ValueError: labels that are no integers in [0, K), a class without examples, only one of k and x.
    """
    if (k is None) != (x is None):
        raise ValueError(f"k={k} nearest examples need x, and x needs k: give both or neither")
    labels = checked("labels", labels, len(examples), num_classes)
    check_generator(generator, jnp.asarray(examples)[0])
    codes = np.asarray(encodings(generator, examples))
    means = []
    for label in range(num_classes):
        own = codes[labels == label]
        if k is not None:
            positive(k=k)
            far = ((own - np.asarray(encoded(generator, jnp.asarray(x)))) ** 2).reshape(len(own), -1).sum(1)
            own = own[np.argsort(far, kind="stable")[:k]]
        means.append(own.mean(0))
    return jnp.asarray(np.stack(means))


def _start(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> tuple[dict[str, Array], dict[str, Array]]:
    code, prototypes = encoded(options["generator"], x), jnp.asarray(options["prototypes"])
    classes = jax.eval_shape(lambda v: f(v), x).shape[0]
    if prototypes.shape != (classes, *code.shape):
        raise ValueError(f"prototypes must have shape {[classes, *code.shape]}, got {list(prototypes.shape)}")
    memory = {"x": x, "target": wanted(target), "goal": prototypes[target].astype(code.dtype), "weight": jnp.float32(options["weight"])}
    memory |= {"least": jnp.float32(jnp.inf), "since": jnp.int32(0)}
    # What is looked at is ahead of the last point by its momentum.
    still = jnp.zeros_like(wide(x))
    return {"ahead": still, "last": still, "time": jnp.float32(0)}, memory


def _look(f: Model, variable: dict[str, Array], memory: dict[str, Array], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    x, target, generator, scale = memory["x"], memory["target"], options["generator"], unit(options["scale"], memory["x"])

    def terms(move: Array, clip: Clip | None = None) -> tuple[Array, Array, Array, Array, Array]:
        point = settled(clipped(wide(x) + scale * move, clip), wide(x), options["constraints"])
        logits, code = wide(f(point.astype(x.dtype))), generator.encode(point)
        gap = jnp.where(jnp.arange(logits.shape[0]) == target, -jnp.inf, logits).max() - logits[target]
        missing = jax.nn.relu(options["margin"] + gap) if options["loss"] == "hinge" else -jax.nn.log_softmax(logits)[target]
        smooth = (((point - wide(x)) / scale) ** 2).sum() + options["attraction"] * ((code - memory["goal"]) ** 2).sum()
        if not isinstance(options["reconstruction"], (int, float)) or options["reconstruction"] > 0:
            smooth = smooth + options["reconstruction"] * ((point - generator.decode(code)) ** 2).sum()
        return missing, smooth, point.astype(x.dtype), logits, code

    missing, smooth, *_ = terms(variable["ahead"])
    total = memory["weight"] * missing + smooth
    # The candidate is the proximal point, of which entries are exactly those of x.
    _, rest, point, logits, code = jax.lax.stop_gradient(terms(variable["last"], options["clip"]))
    far = rest + options["sparsity"] * jnp.abs((wide(point) - wide(x)) / scale).sum()
    valid = (logits.argmax() == target) & Domain(options["clip"], options["constraints"]).contains(point, x)
    better = valid & (far < memory["least"] * (1 - 1e-4))
    since = jnp.where(better, 0, memory["since"] + 1)
    weight = memory["weight"] * jnp.where(valid, 1 / options["growth"], options["growth"])
    kept = {**memory, "weight": weight, "least": jnp.where(better, far, memory["least"]), "since": since}
    stop = jnp.isfinite(kept["least"]) & (since >= options["patience"])
    cost = jnp.where(valid, far, -jax.nn.log_softmax(logits)[target])
    return total, (Candidate(point, code, logits, valid, cost, stop), kept)


def _proximal(variable: dict[str, Array], memory: dict[str, Array], options: dict[str, Any]) -> dict[str, Array]:
    x, scale = wide(memory["x"]), unit(options["scale"], memory["x"])
    new = x + scale * soft(variable["ahead"], options["rate"] * options["sparsity"])
    new = (relaxed(clipped(new, options["clip"]), x, options["constraints"]) - x) / scale
    time = variable["time"] + 1
    return {"ahead": new + time / (time + 3) * (new - variable["last"]), "last": new, "time": time}
