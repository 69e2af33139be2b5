"""How much samples of a model disagree: of an ensemble's members, of passes with dropout, of draws from a posterior."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jxai.callables import Adapter, fresh, plainly
from jxai.scores import check_example, wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_logits
from jxai.uncertainty.predictive import predictive

__all__ = ["Averaged", "expected_entropy", "mean_entropy", "mean_max_softmax", "mutual_information", "sampled", "variation_ratio"]


@plainly
def sampled(f: Any, x: Array, key: Array | None = None) -> Array:
    """`[S, K]`: logits of f's samples at x.

    Args:
      f: a pytree callable `x -> logits [S, K]`, as an `Ensemble` is; or one with `samples(x, key) -> logits [S, K]` that draws them: `monte_carlo(…)`,
        a `LaplaceModel`, an `SNGPModel`. x: one example. key: for those that draw.

    Raises:
      ValueError: bad x, one model's logits `[K]`, no key for a model that draws; where they are concrete, NaN or probabilities.
    """
    check_example(x)
    draws = getattr(f, "samples", None)
    logits = fresh(f)(x) if draws is None else draws(x, key)
    if jnp.ndim(logits) != 2:
        raise ValueError(
            f"f(x) must be logits [S, K] of S samples, got shape {jnp.shape(logits)}: ensemble([f, g, …]) makes one of models, "
            "monte_carlo(f) draws from one with dropout"
        )
    check_logits(logits, rank=2, name="f(x)")
    return wide(logits)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Averaged(Adapter):
    """The model of samples' mean probability: `x -> log mean_s softmax(f(x)_s) [K]`, whose softmax is that mean.

    Every score, method and metric of one model then takes it: `energy` apart, whose logits have a size of their own, which the logarithm of a mean
    probability has not.

    Attributes:
      f: `x -> logits [S, K]`: an `Ensemble`, or what draws samples with its key held, `monte_carlo(…).at(key)`.
    """

    f: Any

    def __call__(self, x: Array) -> Array:
        log_p = jax.nn.log_softmax(sampled(self.f, x))
        return jax.nn.logsumexp(log_p, 0) - jnp.log(log_p.shape[0])


@plainly
def mutual_information(f: Any, x: Array, key: Array | None = None) -> Array:
    """What samples of a model disagree about: `H(mean_s p_s) − mean_s H(p_s)`, the epistemic part of the uncertainty, in nats (BALD).

    Args:
      f: `x -> logits [S, K]`, or what draws them (`sampled`). x: one example. key: for an f that draws.

    Returns:
      `[]`.

    Raises:
      ValueError: as `sampled`.

    Range: [0, ∞).
    Cost: S forward passes.
    Reference: Houlsby et al. 2011, "Bayesian Active Learning for Classification and Preference Learning", arXiv 1112.5745.
    """
    return jnp.maximum(predictive(sampled(f, x, key), "epistemic"), 0)  # less than 0 by rounding alone


@plainly
def mean_entropy(f: Any, x: Array, key: Array | None = None) -> Array:
    """The entropy of the samples' mean probability, `H(mean_s p_s)`: the whole uncertainty, in nats (predictive entropy).

    Args:
      f: `x -> logits [S, K]`, or what draws them (`sampled`). x: one example. key: for an f that draws.

    Returns:
      `[]`.

    Raises:
      ValueError: as `sampled`.

    Range: [0, ∞).
    Cost: S forward passes.
    Reference: Gal & Ghahramani 2016, "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", ICML.
    """
    return predictive(sampled(f, x, key), "total")


@plainly
def expected_entropy(f: Any, x: Array, key: Array | None = None) -> Array:
    """The mean of the samples' entropies, `mean_s H(p_s)`: the aleatoric part of the uncertainty, in nats.

    Args:
      f: `x -> logits [S, K]`, or what draws them (`sampled`). x: one example. key: for an f that draws.

    Returns:
      `[]`.

    Raises:
      ValueError: as `sampled`.

    Range: [0, ∞).
    Cost: S forward passes.
    Reference: Depeweg et al. 2018, "Decomposition of Uncertainty in Bayesian Deep Learning for Efficient and Risk-sensitive Learning", ICML.
    """
    return predictive(sampled(f, x, key), "aleatoric")


@plainly
def mean_max_softmax(f: Any, x: Array, key: Array | None = None) -> Array:
    """The greatest entry of the samples' mean probability, negated: `−max_c mean_s p_s(c)`.

    Args:
      f: `x -> logits [S, K]`, or what draws them (`sampled`). x: one example. key: for an f that draws.

    Returns:
      `[]`.

    Raises:
      ValueError: as `sampled`.

    Range: [−1, 0].
    Cost: S forward passes.
    Reference: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles", NeurIPS.
    """
    return -jax.nn.softmax(sampled(f, x, key)).mean(0).max()


@plainly
def variation_ratio(f: Any, x: Array, key: Array | None = None) -> Array:
    """The share of samples that do not vote for the class with most votes: `1 − max_c #{s : argmax p_s = c} / S`.

    A sample with several classes of the greatest logit votes for the first. It is piecewise constant: its derivative by x is 0.

    Args:
      f: `x -> logits [S, K]`, or what draws them (`sampled`). x: one example. key: for an f that draws.

    Returns:
      `[]`.

    Raises:
      ValueError: as `sampled`.

    Range: [0, 1].
    Cost: S forward passes.
    Reference: Gal & Ghahramani 2016, "Dropout as a Bayesian Approximation: Representing Model Uncertainty in Deep Learning", ICML.
    """
    logits = sampled(f, x, key)
    votes = jax.nn.one_hot(logits.argmax(1), logits.shape[1], dtype=logits.dtype).sum(0)
    return 1 - votes.max() / len(logits)
