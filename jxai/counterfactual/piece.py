"""PIECE: features that are exceptional for the target class become what is normal there, and a generator shows that; and its two baselines."""

from __future__ import annotations

import dataclasses
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
from jxai.counterfactual.search.generator import decoded
from jxai.counterfactual.search.labels import checked
from jxai.latent import encoded
from jxai.scores import wide, within
from jxai.tracing import taps
from jxai.typing import Array, Clip, Model


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ClassFeatures:
    """A hurdle model of the features of each class: a feature is active with some probability, and normally distributed where it is.

    Attributes:
      active: `[K, F]`, the probability that it is not 0. mean, std: `[K, F]`, of its active values.
      layer: whose features they are.
    """

    active: Array
    mean: Array
    std: Array
    layer: int | str | None = dataclasses.field(default=None, metadata={"static": True})

    def tails(self, features: Array, target: int | Array) -> Array:
        """`[F]`: `min(P(X <= v), P(X >= v))` of features `[F]` in the target class."""
        active, mean, std = (jnp.asarray(part)[target] for part in (self.active, self.mean, self.std))
        below = jax.scipy.stats.norm.cdf(features, mean, std)
        low = 1 - active + active * jnp.where(features == 0, 0, below)
        high = jnp.where(features == 0, 1, active * (1 - below))
        return jnp.minimum(low, high)

    def expected(self, target: int | Array) -> Array:
        """`[F]`: the mean of the features in the target class."""
        return (jnp.asarray(self.active) * jnp.asarray(self.mean))[target]


@plainly
def class_features(f: Model, examples: Array, labels: Array, num_classes: int, layer: int | str | None = None, *, hurdle: bool = True) -> ClassFeatures:
    """Fits the features of a layer, class by class.

    Args:
      f: a model. examples: `[n, *shape]`. labels: `[n]`, the classes that f predicts there. num_classes: K. layer: as in `taps.find`.
      hurdle: whether exact zeros (of a ReLU) are an event of their own; False for a layer whose features have none.

    Raises:
      ValueError: labels that are no integers in [0, K), a class without examples, no such layer.
    """
    labels, examples = checked("labels", labels, len(examples), num_classes), jnp.asarray(examples)
    check_search(f, examples[0], None)
    arrays, rest = partition(f)
    values = np.asarray(_features(arrays, examples, rest=rest, layer=layer), np.float64)
    active, means, stds = [], [], []
    for label in range(num_classes):
        own = values[labels == label]
        on = (own != 0) if hurdle else np.ones(own.shape, bool)
        count = np.maximum(on.sum(0), 1)
        mean = np.where(on, own, 0).sum(0) / count
        active.append(on.mean(0))
        means.append(mean)
        stds.append(np.maximum(np.sqrt((np.where(on, own - mean, 0) ** 2).sum(0) / count), 1e-6))
    shares, mean, std = (jnp.asarray(np.stack(part), jnp.float32) for part in (active, means, stds))
    return ClassFeatures(shares, mean, std, layer)


@functools.partial(jax.jit, static_argnames=("rest", "layer"))
def _features(arrays: list[Array], examples: Array, *, rest: Static, layer: int | str | None) -> Array:
    f = rest.combine(arrays)
    return loops.map(lambda x: wide(taps.read(f, x, layer)).ravel(), examples, batch_size=64)


@method
def piece(
    *,
    generator: Any,
    features: ClassFeatures,
    alpha: float = 0.05,
    steps: int = 300,
    learning_rate: float = 0.05,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """PIECE: `min_z ‖φ(g(z)) − φ*‖²`, φ* the features of x with those that are exceptional for the target class replaced by their mean there.

    A feature is exceptional where values as low or as high as x's have a probability below α in the target class: one that is 0 but normally is not,
    is not but normally is 0, or is far in a tail.

    Args:
      generator: with `decode(z) -> x` and `encode(x) -> z`. features: of `class_features`, for the layer φ. alpha: α in [0, 1].
      steps: all are made (the paper's 300). learning_rate, optimizer, clip, region, constraints: as in `diffeomorphic`.

    Returns:
      A `Counterfactual`, valid where f predicts the target; of the valid points the one of nearest features.

    Raises:
      ValueError: bad x, target or option, features of another layer's size.

    Cost: a forward and a backward pass of generator and model for each step.
    Reference: Kenny and Keane 2021, "On Generating Plausible Counterfactual and Semi-Factual Explanations for Deep Learning", AAAI, arXiv 2009.06399;
      the paper chooses among several densities for the active values, here they are normal.
    """
    within(0.0, 1.0, alpha=alpha)
    options = dict(generator=generator, features=features, layer=features.layer, alpha=alpha, clip=clip, constraints=(*constraints, *frozen(region)))
    return descent(_normal, _look_at_features, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer)


@method
def min_edit(
    *,
    generator: Any,
    steps: int = 300,
    learning_rate: float = 0.05,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """Min-Edit, a baseline of PIECE: latent descent of the cross entropy `−log p(target | g(z))` that ends where the predicted class is the target.

    Args, Returns, Raises: as in `piece`.
    Cost: a forward and a backward pass of generator and model for each step.
    Reference: Kenny and Keane 2021, "On Generating Plausible Counterfactual and Semi-Factual Explanations for Deep Learning", AAAI, arXiv 2009.06399.
    """
    options = dict(generator=generator, growth=0.0, start=1.0, clip=clip, constraints=(*constraints, *frozen(region)))
    return descent(_same, _look_at_class, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer)


@method
def constrained_min_edit(
    *,
    generator: Any,
    layer: int | str | None,
    growth: float = 0.1,
    steps: int = 300,
    learning_rate: float = 0.05,
    optimizer: Callable[[float], optax.GradientTransformation] = optax.adam,
    clip: Clip | None = (0.0, 1.0),
    region: Array | None = None,
    constraints: Sequence[Constraint] = (),
) -> Search:
    """C-Min-Edit, a baseline of PIECE: `‖φ(g(z)) − φ(x)‖₂ − λ log p(target | g(z))`, λ grows by `growth` at each step, until the predicted class is the target.

    Args:
      layer: φ, as in `taps.find`. growth: > 0; λ is that at the first step.
      The others: as in `piece`.

    Returns, Raises: as in `piece`.
    Cost: a forward and a backward pass of generator and model for each step.
    Reference: Kenny and Keane 2021, "On Generating Plausible Counterfactual and Semi-Factual Explanations for Deep Learning", AAAI, arXiv 2009.06399.
    """
    within(math.ulp(0.0), math.inf, growth=growth)
    options = dict(generator=generator, growth=growth, start=growth, layer=layer, clip=clip, constraints=(*constraints, *frozen(region)))
    return descent(_same_features, _look_at_class, options, steps=steps, learning_rate=learning_rate, optimizer=optimizer)


def _same(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
    return encoded(options["generator"], x), {"x": x, "target": wanted(target), "weight": jnp.float32(options["start"])}


def _same_features(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
    z, memory = _same(f, x, target, key, options)
    return z, {**memory, "goal": wide(taps.read(f, x, options["layer"])).ravel()}


def _normal(f: Model, x: Array, target: Array, key: Array | None, options: dict[str, Any]) -> tuple[Array, dict[str, Array]]:
    z, memory = _same_features(f, x, target, key, {**options, "start": 0.0})
    features, own = options["features"], memory["goal"]
    if jnp.shape(features.mean)[1:] != own.shape:
        raise ValueError(f"features are of {jnp.shape(features.mean)[-1]} values, but layer={features.layer!r} has {own.size}")
    odd = features.tails(own, target) < options["alpha"]
    return z, {**memory, "goal": jnp.where(odd, features.expected(target), own)}


def _look_at_features(f: Model, z: Array, memory: dict[str, Array], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    point = decoded(options["generator"], z, memory["x"], options["clip"], options["constraints"])
    cut = taps.split(f, point, options["layer"])
    logits, off = wide(cut.head(cut.value)), ((wide(cut.value).ravel() - memory["goal"]) ** 2).sum()
    return off, (Candidate(point, z, logits, logits.argmax() == memory["target"], off, jnp.asarray(False)), memory)


def _look_at_class(f: Model, z: Array, memory: dict[str, Array], options: dict[str, Any]) -> tuple[Array, tuple[Candidate, dict]]:
    point = decoded(options["generator"], z, memory["x"], options["clip"], options["constraints"])
    if "goal" in memory:
        cut = taps.split(f, point, options["layer"])
        square = ((wide(cut.value).ravel() - memory["goal"]) ** 2).sum()
        # The norm's gradient has length 1 however small the difference: rounded at 0, it does not amplify what the coder rounds.
        logits, off = wide(cut.head(cut.value)), jnp.sqrt(square + 1e-8)
    else:
        logits, off = wide(f(point)), 0
    missing, valid = -jax.nn.log_softmax(logits)[memory["target"]], logits.argmax() == memory["target"]
    kept = {**memory, "weight": memory["weight"] + options["growth"]}
    return off + memory["weight"] * missing, (Candidate(point, z, logits, valid, missing, valid), kept)
