"""What a whole set of counterfactuals is worth as data: functions on the host, of arrays `[n, *shape]`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import Static, partition, plainly
from jxai.metrics.counterfactual.neighbours import nearest
from jxai.scores import check_labels, positive, wide
from jxai.typing import Array, Model

__all__ = ["fid", "substitutability"]

Trainer = Callable[[Array, Array], Model]


@plainly
def fid(examples: Array, counterfactuals: Array, *, features: Callable[[Array], Array] | None = None, batch_size: int = 256) -> float:
    """The Fréchet distance of two sets' features as Gaussians, `‖m₁ − m₂‖² + tr(S₁ + S₂ − 2 (S₁ S₂)^½)`.

    Of features of LeNet report it as "LeNet-FID": it cannot be compared with the FID of Inception's features, or of any other network's. It is biased
    upwards in small sets; take 2000 examples or more in each, and equally many wherever two numbers are compared. A counterfactual is near its
    own example by construction: compare the counterfactuals of one half of the data with the examples of the other.

    Args:
      examples: `[n, *shape]`, n >= 2. counterfactuals: `[m, *shape]`, m >= 2.
      features: φ(x), of one example, flattened: `Partial(read, f)` with `read(f, x) = taps.read(f, x, layer)`; None for x itself.
      batch_size: examples at once.

    Returns:
      A float, from float64; NaN where a feature is not finite.

    Raises:
      ValueError: sets of fewer than two or of unequal shapes, tracers, a bad batch_size.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: n + m passes of φ, and two eigendecompositions.
    Reference: Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium", NeurIPS.
    """
    positive(batch_size=batch_size)
    first, second = _host(examples=examples, counterfactuals=counterfactuals)
    if first.shape[1:] != second.shape[1:] or min(len(first), len(second)) < 2:
        raise ValueError(f"examples and counterfactuals must be [n, *shape] with n >= 2 of one shape, got {first.shape} and {second.shape}")
    h, g = (v if features is None else _apply(features, v, batch_size) for v in (first, second))
    h, g = (v.reshape(len(v), -1).astype(np.float64) for v in (h, g))
    if not (np.isfinite(h).all() and np.isfinite(g).all()):
        return float("nan")
    s, t = (np.cov(v, rowvar=False).reshape(v.shape[1], -1) for v in (h, g))
    # tr (S T)^½ = Σ √λ(S^½ T S^½), of a symmetric matrix: no complex numbers, as a root of S T itself may bring.
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ t @ root), 0)).sum()
    return float(max(((h.mean(0) - g.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * cross, 0.0))


@plainly
def substitutability(
    counterfactuals: Array,
    targets: Array,
    examples: Array,
    labels: Array,
    test_examples: Array,
    test_labels: Array,
    *,
    k: int = 1,
    trainer: Trainer | None = None,
    batch_size: int = 64,
) -> float:
    """R-Sub: what counterfactuals are worth as training data, `accuracy(trained on x', t) / accuracy(trained on x, y)` on test data.

    Args:
      counterfactuals: `[m, *shape]`. targets: `[m]`, their target classes. examples, labels: `[n, *shape]`, `[n]`: the real training data.
      test_examples, test_labels: `[p, *shape]`, `[p]`. k: neighbours that vote, Euclidean; of classes with equal votes the least.
      trainer: `(examples, labels) -> f`, a model `f(x) -> logits` to judge by instead of neighbours. batch_size: test examples at once.

    Returns:
      A float: 1 where counterfactuals do as well as the data (0.8 is reported as "80 %-Sub"). NaN where a counterfactual is not finite, or the data
      teach nothing (accuracy 0).

    Raises:
      ValueError: empty sets, shapes or lengths that do not fit, labels that are no classes, k larger than a set, tracers.

    Range: [0, ∞).
    Direction: higher is better.
    Cost: `p · (m + n)` distances, or two trainings and 2 p passes.
    Reference: Kenny and Keane 2021, "On Generating Plausible Counterfactual and Semi-Factual Explanations for Deep Learning", AAAI.
    """
    positive(k=k, batch_size=batch_size)
    made, given, test = _host(counterfactuals=counterfactuals, examples=examples, test_examples=test_examples)
    classes = _labels([made, given, test], targets=targets, labels=labels, test_labels=test_labels)
    if made.shape[1:] != given.shape[1:] or test.shape[1:] != given.shape[1:]:
        raise ValueError(f"counterfactuals, examples and test_examples must be of one shape, got {made.shape}, {given.shape} and {test.shape}")
    if trainer is None and k > min(len(made), len(given)):
        raise ValueError(f"{k=} must be at most the number of counterfactuals and of examples, {len(made)} and {len(given)}")
    if not np.isfinite(made).all():
        return float("nan")

    def accuracy(x: np.ndarray, y: np.ndarray) -> float:
        model = _Votes(jnp.asarray(x), jnp.asarray(y), k, 1 + max(int(c.max()) for c in classes)) if trainer is None else trainer(x, y)
        return float((np.asarray(_apply(model, test, batch_size)).argmax(-1) == classes[2]).mean())

    real = accuracy(given, classes[1])
    return accuracy(made, classes[0]) / real if real else float("nan")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Votes:
    """A classifier of nearest neighbours, `x -> votes [classes]`."""

    examples: Array
    labels: Array
    k: int = dataclasses.field(metadata={"static": True})
    classes: int = dataclasses.field(metadata={"static": True})

    def __call__(self, x: Array) -> Array:
        at = nearest(x, self.examples, self.k)[1]
        return jax.nn.one_hot(self.labels[at], self.classes).sum(0)


def _host(**sets: Array) -> list[np.ndarray]:
    """The sets as NumPy arrays; raises ValueError for tracers and sets without examples."""
    for name, value in sets.items():
        if isinstance(value, jax.core.Tracer):
            raise ValueError(f"{name} is traced: this works on the host, outside of jit and vmap")
        if np.ndim(value) < 2 or not np.size(value):
            raise ValueError(f"{name} must be [n, *shape] with n >= 1, got shape {np.shape(value)}")
    return [np.asarray(value) for value in sets.values()]


def _labels(sets: list[np.ndarray], **labels: Array) -> list[np.ndarray]:
    """The labels as NumPy arrays, one class for each example of the sets."""
    for v, (name, value) in zip(sets, labels.items(), strict=True):
        check_labels(value, len(v), name=name)
    return [np.asarray(value) for value in labels.values()]


def _apply(fn: Callable[[Array], Array], examples: np.ndarray, batch_size: int) -> np.ndarray:
    """`fn` of each example, a block at a time; the last block is filled up, so that one shape is compiled."""
    arrays, rest = partition(fn)
    size = min(batch_size, len(examples))
    filled = np.concatenate([examples, np.repeat(examples[-1:], -len(examples) % size, axis=0)])
    return np.asarray(_map(arrays, filled, rest=rest, size=size))[: len(examples)]


@functools.partial(jax.jit, static_argnames=("rest", "size"))
def _map(arrays: list[Array], examples: Array, *, rest: Static, size: int) -> Array:
    fn = rest.combine(arrays)
    return loops.map(lambda v: wide(fn(v)), examples, batch_size=size)
