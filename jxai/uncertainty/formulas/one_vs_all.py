"""What the answers of a one-vs-all classifier say: which class, whether any at all, and how ambiguous it is."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import wide
from jxai.typing import Array
from jxai.uncertainty.checks import check_logits
from jxai.uncertainty.decomposition import entropy

_NEAR = 1e-6
"""What the rounding of a mean may leave the interval [0, 1] by."""
_LEAST = 1e-16
"""What the published code adds to every class, so that the posterior is defined where all are impossible."""


class OneVsAll(NamedTuple):
    """What a one-vs-all classifier says of an example."""

    posterior: Array
    """`[K]`, p(y | x, in): of the classes, given that x is of one of them."""
    inside: Array
    """`[]` in [0, 1], p(in | x): that it is."""
    aleatoric: Array
    """`[]` in [0, 1]: the entropy of the posterior over its greatest, log K."""


@plainly
def one_vs_all(p: Array, *, prior: Array | None = None) -> OneVsAll:
    """Class, membership and ambiguity from one-vs-all probabilities, UQGAN's formula (3): with `p̂_k = p_k / ((2 − K) p_k + K − 1)`,

    `p(y = k | x, in) ∝ (p̂_k + 10⁻¹⁶) π_k`, `p(in | x) = Σ_k π_k p̂_k² / Σ_k π_k p̂_k`, aleatoric `H(p(y | x, in)) / log K`.

    `p̂_k` is the posterior of class k among all when each question was trained with as much weight on the class as on all others together, which share it
    alike, as `uqgan.classifier_loss` does. The epistemic uncertainty is `1 − p(in | x)`. Of several passes (dropout, ensembles) give the mean of p.

    Args:
      p: `[K]` in [0, 1], K >= 2: the sigmoids of the questions "is x of class k?"; they need not sum to 1.
      prior: `[K]`, π, >= 0: the classes' shares, of which only the ratios matter; None for equal ones.

    Returns:
      A `OneVsAll`, float32 or wider. Where all p are 0, p(in | x) is 0 and the posterior the prior.

    Raises:
      ValueError: p that is no vector of two classes or more (of one, p itself says whether x is in it), a prior of another shape; where they are concrete,
        numbers outside of [0, 1] (as logits) or NaN, a prior that is negative or 0 throughout.

    Reference: Oberdiek, Fink and Rottmann 2022, "UQGAN", NeurIPS, arXiv 2201.13279.
    """
    p = _checked(p)
    k = p.size
    share = p / ((2 - k) * p + (k - 1))
    log_share = jnp.where(share > 0, jnp.log(jnp.where(share > 0, share, 1)), -jnp.inf)
    return _combined(share, log_share, prior)


def from_logits(logits: Array, *, prior: Array | None = None) -> OneVsAll:
    """`one_vs_all` of the sigmoids of logits `[K]`, right also where float32 knows no such sigmoid: `p̂ = σ(logit − log(K − 1))`."""
    z = wide(jnp.asarray(logits)) - math.log(logits.shape[0] - 1)
    return _combined(jax.nn.sigmoid(z), jax.nn.log_sigmoid(z), prior)


@plainly
def outside(logits: Array, features: Array | None = None, fitted: Any = None, *, prior: Array | None = None) -> Array:
    """UQGAN's epistemic uncertainty, `1 − p(in | x)` of the answers of a one-vs-all classifier.

    `Σ_k w_k (1 − p̂_k)`, `w ∝ π p̂`, `p̂ = σ(logit − log(K − 1))`: `1 − one_vs_all(σ(logits)).inside`, without the rounding of either difference.

    Args:
      logits: `[K]`, of the questions "is x of class k?", K >= 2, as of a `UQGAN`.
      features: not read.
      fitted: not read.
      prior: `[K]`, the classes' shares; None for equal ones.

    Returns:
      `[]`, float32 or wider.

    Raises:
      ValueError: logits that are none, or of one class; a bad prior.

    Range: [0, 1]
    Cost: `O(K)` operations.
    Reference: Oberdiek, Fink and Rottmann 2022, "UQGAN", NeurIPS, arXiv 2201.13279.
    """
    k = check_logits(logits)
    z = wide(jnp.asarray(logits)) - math.log(k - 1)
    return (_weights(jax.nn.log_sigmoid(z), prior) * jax.nn.sigmoid(-z)).sum()


def check_prior(prior: Any, num_classes: int) -> None:
    """Raises ValueError unless a prior is the shares of as many classes, where concrete none negative and not all 0."""
    if jnp.shape(prior) != (num_classes,):
        raise ValueError(f"prior must be [{num_classes}], a share for each class, got shape {jnp.shape(prior)}")
    if not isinstance(prior, jax.core.Tracer):
        v = np.asarray(prior, np.float64)
        if not (np.isfinite(v).all() and (v >= 0).all() and v.sum() > 0):
            raise ValueError(f"prior={v} must be shares, finite, none negative, and not all 0")


def _combined(share: Array, log_share: Array, prior: Array | None) -> OneVsAll:
    """Of p̂ and log p̂."""
    k = share.size
    pi = jnp.ones(k, share.dtype) if prior is None else wide(jnp.asarray(prior))
    inside = (_weights(log_share, prior) * share).sum()
    posterior = (share + _LEAST) * pi
    posterior = posterior / posterior.sum()
    return OneVsAll(posterior, inside, entropy(posterior) / math.log(k))


def _weights(log_share: Array, prior: Array | None) -> Array:
    """`[K]`: π p̂ / Σ π p̂; where all p̂ are 0, whatever: their mean is 0."""
    if prior is None:
        log_prior = jnp.zeros(log_share.shape, log_share.dtype)
    else:
        check_prior(prior, log_share.size)
        pi = wide(jnp.asarray(prior))
        log_prior = jnp.where(pi > 0, jnp.log(jnp.where(pi > 0, pi, 1)), -jnp.inf)
    weight = log_share + log_prior
    none = jnp.isneginf(weight).all()
    return jnp.where(none, 1 / weight.size, jax.nn.softmax(jnp.where(none, 0, weight)))


def _checked(p: Any) -> Array:
    array = p if hasattr(p, "dtype") else np.asarray(p, np.float32)
    if jnp.ndim(array) != 1 or jnp.size(array) < 2 or not jnp.issubdtype(array.dtype, jnp.floating):
        what = f"{array.dtype} of shape {jnp.shape(array)}"
        raise ValueError(
            f"p must be floating-point [K], the sigmoids of K >= 2 questions, got {what}; of one class p[0] itself says whether x is in it, of many examples use jax.vmap"
        )
    if not isinstance(array, jax.core.Tracer):
        v = np.asarray(array, np.float64)
        if not ((v >= -_NEAR) & (v <= 1 + _NEAR)).all():
            raise ValueError(f"p must be probabilities in [0, 1], but goes from {v.min():.3g} to {v.max():.3g}: of logits take jax.nn.sigmoid")
    return jnp.clip(wide(jnp.asarray(array)), 0, 1)
