"""What each uncertainty score is tried with, for the checks of its contract: options, what is fitted, and examples of which one is less certain."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jxai import uncertainty
from jxai.testing import SHAPES, example, network

SHAPE = "vector"


class Case(NamedTuple):
    """How a score is tried.

    Attributes:
      options: small ones. fit: the options of `fit_NAME`, or a function of the answers that makes what is fitted; None of a score that fits nothing.
      far: whether its uncertain example is one far away from those that it was fitted on, rather than one whose logits are all alike.
      given: anything else that `check_score` takes, or a function that makes it.
    """

    options: Mapping[str, Any] = MappingProxyType({})
    fit: Mapping[str, Any] | Callable | None = None
    far: bool = False
    given: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = MappingProxyType({})


def _plain() -> dict[str, Any]:
    """An example of the fit, and one that is hardly there."""
    f, x = network(SHAPES[SHAPE], 0), example(SHAPES[SHAPE], 100)
    return {"certain": (f, x), "uncertain": (f, 0 * x)}


def the_head(features: np.ndarray, logits: np.ndarray, labels: np.ndarray, head: uncertainty.Head) -> uncertainty.Head:
    """What a score is given that needs no more than the head."""
    return head


def _by_margin() -> dict[str, Any]:
    """The examples of the greatest and the least margin."""
    f, margins = network(SHAPES[SHAPE], 0), np.sort(answered()[1], 1) @ np.float32([0, 0, -1, 1])
    return {name: (f, example(SHAPES[SHAPE], 100 + int(n))) for name, n in (("certain", margins.argmax()), ("uncertain", margins.argmin()))}


def _of_one_layer(features: np.ndarray, logits: np.ndarray, labels: np.ndarray, head: uncertainty.Head) -> uncertainty.Dissector:
    """The labels are those that the network gives, but for one of each class that it gives to none."""
    labels = np.array(labels)
    rare = np.flatnonzero(np.bincount(labels, minlength=logits.shape[1]) == 0)
    labels[: len(rare)] = rare
    return uncertainty.fit_dissector((features,), logits, labels, head)


def _every_class(name: str) -> Callable:
    """Makes `fit_NAME` of the features, with logits that predict each class of some."""

    def fit(features: np.ndarray, logits: np.ndarray, labels: np.ndarray, head: uncertainty.Head) -> Any:
        predicted = np.arange(len(labels)) % logits.shape[1]
        return getattr(uncertainty, f"fit_{name}")(features, (5 * np.eye(logits.shape[1])[predicted] + 0.1 * logits).astype(np.float32), predicted)

    return fit


def _kernels(shape: tuple[int, ...], seed: int, scale: float = 1) -> Partial:
    """A network of logarithms of kernels."""
    return Partial(_below, network(shape, seed), jnp.float32(scale))


def _below(f: Callable, scale: jax.Array, x: jax.Array) -> jax.Array:
    return -scale * jax.nn.softplus(f(x))


CASES: dict[str, Case] = {
    "ash": Case({"percentile": 50.0}, the_head, given=_plain()),
    "dice": Case(fit={"percentile": 50.0}, given=_plain()),
    "dissector": Case({"layers": (None,)}, _of_one_layer, given=_by_margin),
    "dsa": Case(fit=_every_class("dsa"), far=True),
    "fdbd": Case(fit={}),
    "gaussian_density": Case(fit=lambda features, logits, labels, head: uncertainty.fit_gaussian_density(features, logits, np.arange(60) % 4), far=True),
    "kl_matching": Case(fit={}, far=True),
    "knn": Case({"num_neighbours": 3, "chunk": 16}, fit={}, far=True),
    "lsa": Case(fit=_every_class("lsa"), far=True),
    "laplace_variance": Case(fit=lambda features, logits, labels, head: uncertainty.fit_laplace(features, logits), far=True),
    "max_kernel": Case(
        given={
            "model": _kernels,
            **{name: (_kernels(SHAPES[SHAPE], 0, scale), example(SHAPES[SHAPE])) for name, scale in (("certain", 0.01), ("uncertain", 20))},
        }
    ),
    "mahalanobis": Case(fit={}, far=True),
    "mdsa": Case(fit=_every_class("mdsa"), far=True),
    "nci": Case(fit={}, far=True),
    "nn_guide": Case({"num_neighbours": 3, "chunk": 16}, fit={"fraction": 0.5}),
    "odin": Case({"noise": 0.01}),
    "rank_feat": Case(given={"shape": "image"}),
    "react": Case(fit={}, given=_plain()),
    "relation": Case({"chunk": 16}, fit={}),
    "relative_mahalanobis": Case(fit={}, far=True),
    "scale": Case({"percentile": 50.0}, the_head, given=_plain()),
    "she": Case(fit={}, given=_plain()),
    "sngp_variance": Case(fit=lambda features, logits, labels, head: uncertainty.fit_sngp(features, logits), far=True),
    "vim": Case(fit={"dimension": 3}),
    "vra": Case(fit={}, given=_plain()),
}
"""By name; what is not listed fits nothing and has its defaults."""


@functools.cache
def answered(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray, uncertainty.Head]:
    """Features, logits and labels (those that the network gives) of n examples, and the head."""
    f, shape = network(SHAPES[SHAPE], 0), SHAPES[SHAPE]
    xs = np.stack([example(shape, seed) for seed in range(100, 100 + n)])
    logits, features = jax.jit(jax.vmap(lambda x: uncertainty.answers(f, x)))(xs)
    return np.asarray(features), np.asarray(logits), np.asarray(jnp.argmax(logits, 1)), uncertainty.linear_head(f, xs[0])


def said(name: str) -> dict[str, Any]:
    """The arguments of `check_score` for a score of this name."""
    case = CASES.get(name, Case())
    told: dict[str, Any] = {"shape": SHAPE, "options": dict(case.options), **(case.given() if callable(case.given) else case.given)}
    if case.fit is not None:
        told["fitted"] = case.fit(*answered()) if callable(case.fit) else getattr(uncertainty, f"fit_{name}")(*answered(), **case.fit)
    if case.far:
        f, x = network(SHAPES[SHAPE], 0), example(SHAPES[SHAPE], 100)
        told |= {"certain": (f, x), "uncertain": (f, 20 * x - 5)}
    return told
