"""The kernel calibration error: how often a prediction comes true is estimated from its neighbours, by Dirichlet and Beta kernels, instead of bins."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.scipy.special import gammaln, logsumexp

from jxai import loops
from jxai.callables import plainly
from jxai.scores import one_of, wide
from jxai.typing import Array
from jxai.uncertainty.calibration.errors import check_norm
from jxai.uncertainty.calibration.outcomes import check_predictions, events, onehot
from jxai.uncertainty.checks import check_positive, check_probabilities

__all__ = ["BANDWIDTHS", "kernel_bandwidth", "kernel_calibration_error"]

KINDS = ("canonical", "classwise", "top_label")
BANDWIDTHS = (*(float(b) for b in np.logspace(-5, -1, 15)), 0.2, 0.4, 0.6, 0.8, 1.0)
"""What `kernel_bandwidth` chooses among: those of the authors' code."""
_ROWS = 64
"""Predictions whose neighbours are weighed at once."""


@plainly
def kernel_calibration_error(probabilities: Array, labels: Array, *, bandwidth: float | Array | None = None, norm: float = 1, kind: str = "canonical") -> Array:
    """KDE-ECE: the mean of |E[y | p] − p|ᵖ, with the expectation a leave-one-out kernel regression.

    `1/n Σ_j Σ_k |Ê_k(p_j) − p_jk|ᵖ,   Ê(p_j) = Σ_{i≠j} κ(p_j; p_i) y_i / Σ_{i≠j} κ(p_j; p_i),   κ(·; p) = Dirichlet(p/h + 1)`.

    No root is taken. Weights are computed by their logarithms, so that no example is without neighbours; a probability of 0 counts as the least normal number.

    Args:
      probabilities: `[n, K]`, n >= 2, K >= 2. labels: `[n]`, integers in [0, K).
      bandwidth: h > 0; None takes `kernel_bandwidth(probabilities, kind=kind)`. norm: p >= 1.
      kind: `"canonical"`, of whole vectors; `"classwise"`, each class against the rest with Beta kernels, the sum over classes (`expected_calibration_error` has the
        mean); `"top_label"`, the largest probability and whether it is right, with Beta kernels.

    Returns:
      `[]`. Differentiable in the probabilities and the bandwidth. Under a trace a label out of range gives NaN.

    Raises:
      ValueError: probabilities or labels that are none, one class, one example, an unknown kind, p < 1 or a bandwidth that is not positive.

    Range: ≥ 0
    Cost: O(n² K) operations; memory of 64 n.
    Reference: Popordanoska, Sayer, Blaschko 2022, "A Consistent and Differentiable Lp Canonical Calibration Error Estimator", NeurIPS. Their code (ece-kde)
    doubles the error of probabilities given as one column, and keeps the bandwidth −1 where all likelihoods are below 1; this does neither.
    """
    one_of("kind", kind, KINDS)
    check_norm(norm)
    k = check_predictions(probabilities, labels)
    if math.isinf(norm):
        raise ValueError(f"{norm=} must be finite: the error is a mean of powers")
    p = wide(jnp.asarray(probabilities))
    if bandwidth is None:
        h = kernel_bandwidth(p, kind=kind)
    else:
        check_positive(bandwidth=bandwidth)
        h = jnp.asarray(bandwidth, p.dtype)
    if kind == "canonical":
        expected, _ = _regression(p, onehot(labels, k), h)
        return (jnp.abs(expected - p) ** norm).sum(1).mean()

    def one(event: tuple[Array, Array]) -> Array:
        confidence, outcome = event
        expected, _ = _regression(_two(confidence), outcome[:, None], h)
        return (jnp.abs(expected[:, 0] - confidence) ** norm).mean()

    return loops.map(one, events(probabilities, labels, kind)).sum()


@plainly
def kernel_bandwidth(probabilities: Array, *, kind: str = "canonical") -> Array:
    """The bandwidth of `BANDWIDTHS` under which each prediction is the likeliest from all others: `argmax_h Σ_j log 1/(n−1) Σ_{i≠j} κ_h(p_j; p_i)`.

    Args:
      probabilities: `[n, K]`, n >= 2. kind: as in `kernel_calibration_error`, whose kernels are meant; of `"classwise"` all classes together.

    Returns:
      `[]`. Predictions that repeat themselves make the smallest bandwidth the likeliest.

    Raises:
      ValueError: no probabilities, one class, one example, or an unknown kind.

    Cost: 20 times that of the error.
    """
    one_of("kind", kind, KINDS)
    check_probabilities(probabilities)
    p = lax.stop_gradient(wide(jnp.asarray(probabilities)))
    views = {"canonical": lambda: p[None], "classwise": lambda: jax.vmap(_two)(p.T), "top_label": lambda: _two(p.max(1))[None]}[kind]()
    likelihood = lambda h: loops.map(lambda view: _regression(view, jnp.zeros((len(view), 1), view.dtype), h)[1].mean(), views).sum()
    candidates = jnp.asarray(BANDWIDTHS, p.dtype)
    return candidates[loops.map(likelihood, candidates).argmax()]


def _two(confidence: Array) -> Array:
    """Confidences `[n]` as probabilities of two classes: a Beta kernel is their Dirichlet's."""
    return jnp.stack([confidence, 1 - confidence], 1)


def _regression(p: Array, y: Array, h: Array) -> tuple[Array, Array]:
    """Of predictions `[n, K]` and outcomes `[n, M]`: what the others' outcomes let expect of each, `[n, M]`, and the logarithm of their density there, `[n]`."""
    n, k = p.shape
    if n < 2:
        raise ValueError("probabilities must be of two examples or more: each is judged by the others")
    a, total = p / h, 1 / h
    # The kernel at its mode, from differences to Stirling's leading terms: log-gammas of large numbers would cancel.
    peak = _stirling(total) + jnp.log(total + jnp.arange(1, k)).sum() - _stirling(a).sum(1)
    logs = jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))
    own = (p * logs).sum(1)

    def one(row: tuple[Array, Array]) -> tuple[Array, Array]:
        log_p, at = row
        kernel = peak + (jnp.matmul(p, log_p, precision=lax.Precision.HIGHEST) - own) / h
        kernel = jnp.where(jnp.arange(n) == at, -jnp.inf, kernel)
        return jnp.matmul(jax.nn.softmax(kernel), y, precision=lax.Precision.HIGHEST), logsumexp(kernel) - math.log(n - 1)

    return loops.map(one, (logs, jnp.arange(n)), batch_size=min(n, _ROWS))


def _stirling(a: Array) -> Array:
    """`log Γ(a + 1) − (a log a − a)`, which grows but as ½ log 2πa."""
    large = jnp.maximum(a, 8)
    series = 0.5 * jnp.log(2 * math.pi * large) + 1 / (12 * large) - 1 / (360 * large**3)
    small = jnp.minimum(a, 8)
    logs = jnp.log(jnp.maximum(small, jnp.finfo(a.dtype).tiny))  # whose derivative at 0 is a number
    return jnp.where(a > 8, series, gammaln(small + 1) - small * logs + small)
