"""Path integrals of the gradient along straight lines: from one baseline, or from many drawn at random.

A path γ from γ(0) to γ(1) = x gives `a_i = ∫ ∂s/∂x_i(γ(α)) γ_i'(α) dα`; it is complete: `Σ_i a_i = s(x) − s(γ(0))`.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import plainly
from jxai.removal import fills
from jxai.removal.doubts import flat, kept_by_fill
from jxai.removal.fills import FillLike
from jxai.removal.masks import as_map
from jxai.scores import check_example, need_key, objective, one_of, positive, wide, within
from jxai.typing import Array, Model, Scalar

__all__ = ["expected_gradients", "gradient_shap", "integrated_gradients"]

RULES = ("midpoint", "trapezoid", "gauss_legendre", "left", "right")


@plainly
def integrated_gradients(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    baseline: FillLike = 0.0,
    steps: int = 50,
    rule: str = "midpoint",
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Integrated Gradients: `(x − b) ⊙ ∫₀¹ ∇s(b + α (x − b)) dα ≈ (x − b) ⊙ Σ_k w_k ∇s(b + α_k (x − b))`.

    Complete up to the error of the quadrature: `Σ = s(x) − s(b)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for a baseline that draws noise.
      baseline: b: a number, an array that broadcasts against x, or a fill. The paper's is black, 0.
      steps: the number of points α_k, the same for every rule (the paper: 20 to 300; captum, Xplique: 50).
      rule: `"midpoint"` (α = (k − ½)/n; captum's riemann_middle), `"trapezoid"` (both ends are points, `steps` ≥ 2; Xplique),
        `"gauss_legendre"` (captum's default; the most exact where s is smooth), `"right"` (α = k/n, the sum printed in the
        paper) or `"left"`. The weights sum to 1: captum's trapezoid and PAIR's sum do not, and are not complete.
      score: `"logit"`, `"probability"` (the paper's F has values in [0, 1]) or `"sigmoid"`. chunk: points at once (None: `jxai.loops.at_once`).

    Returns:
      x's shape, in units of the score.

    Raises:
      ValueError: a bad option, x, target or score.

    Cost: `steps` forward and backward passes.

    Reference: Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", ICML.
    """
    s = objective(f, x, target, score)
    kept_by_fill("integrated_gradients", f, x, target, baseline, key, "baseline", score=score)
    alphas, weights = quadrature(rule, steps)
    start, end = fills.path("integrated_gradients", baseline, x, key)
    alphas, weights = jnp.asarray(alphas, end.dtype), jnp.asarray(weights, end.dtype)
    mean = loops.sums(lambda k: weights[k] * slope(s, start + alphas[k] * (end - start), x), steps, loops.at_once(x, chunk))
    found = as_map((end - start) * mean, x)
    flat("integrated_gradients", found, s, x, [start.astype(x.dtype)])
    return found


@plainly
def expected_gradients(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    baselines: Array,
    num_samples: int = 200,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """Expected Gradients: integrated gradients averaged over baselines, `E_{b, α}[(x − b) ⊙ ∇s(b + α (x − b))]`.

    Every sample draws one row b of `baselines` (with replacement) and one `α ~ U(0, 1)`. Complete in expectation:
    `E[Σ] = s(x) − mean_b s(b)`; the gap of one call is Monte Carlo noise and shrinks as `1/√num_samples`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the draws.
      baselines: `[B, …]`, B examples of x's shape: a sample of the data.
      num_samples: draws (the default of the `shap` package's GradientExplainer).
      score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: draws at once (None: `jxai.loops.at_once`).

    Returns:
      x's shape, in units of the score.

    Raises:
      ValueError: no key, `baselines` of another shape, a bad option, x, target or score.

    Cost: `num_samples` forward and backward passes.

    Reference: Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and expected gradients", Nature Machine Intelligence.
    """
    return _sampled("expected_gradients", f, x, target, key, baselines, num_samples, 0.0, score, chunk)


@plainly
def gradient_shap(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    baselines: Array,
    num_samples: int = 200,
    sigma: float | Array = 0.0,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """GradientSHAP: expected gradients of noisy copies of x, `E[(x̃ − b) ⊙ ∇s(b + α (x̃ − b))]`, `x̃ = x + sigma ε`.

    It differs from `expected_gradients` by the noise only, drawn anew for every sample; with `sigma=0` both are the same.
    Complete in expectation with respect to the noisy input: `E[Σ] = E s(x̃) − mean_b s(b)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the draws.
      baselines: `[B, …]`, B examples of x's shape: a sample of the data.
      num_samples: draws (`shap`'s default; captum's is 5).
      sigma: standard deviation of the noise in units of x, ≥ 0 (`shap`'s local_smoothing, captum's stdevs; both default to 0).
      score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: draws at once (None: `jxai.loops.at_once`).

    Returns:
      x's shape, in units of the score: Shapley values in expectation, if f is linear along the paths and features independent.

    Raises:
      ValueError: no key, `baselines` of another shape, a bad option, x, target or score.

    Cost: `num_samples` forward and backward passes.

    Reference: Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions", NeurIPS (GradientExplainer of its package).
    """
    return _sampled("gradient_shap", f, x, target, key, baselines, num_samples, sigma, score, chunk)


def _sampled(name: str, f: Model, x: Array, target, key, baselines: Array, num_samples: int, sigma, score: str, chunk: int | None) -> Array:
    s = objective(f, x, target, score)
    need_key(key, name)
    within(0, math.inf, sigma=sigma)
    check_example(baselines, "baselines")
    if baselines.shape[1:] != x.shape:
        raise ValueError(f"baselines must have shape [B, …] with examples of x's shape {x.shape}, got {baselines.shape}")
    fills.check_finite(f"{name} goes from a baseline to x; kernel_shap and shapley_sampling remove whole features", x=x, baselines=baselines)
    end, starts = wide(x), jnp.asarray(baselines)

    def draw(i: Array) -> Array:
        which, where, noise = jax.random.split(jax.random.fold_in(key, i), 3)
        start = starts[jax.random.randint(which, (), 0, len(starts))].astype(end.dtype)
        still = isinstance(sigma, (int, float)) and sigma == 0
        noisy = end if still else end + sigma * jax.random.normal(noise, x.shape, end.dtype)
        alpha = jax.random.uniform(where, (), end.dtype)
        return (noisy - start) * slope(s, start + alpha * (noisy - start), x)

    found = as_map(loops.means(draw, num_samples, loops.at_once(x, chunk)), x)
    flat(name, found, s, x, [starts[0].astype(x.dtype)])
    return found


def quadrature(rule: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in [0, 1] and weights of sum 1, `[steps]` each."""
    one_of("rule", rule, RULES)
    positive(steps=steps)
    if rule == "gauss_legendre":
        points, weights = np.polynomial.legendre.leggauss(steps)
        return (1 + points) / 2, weights / 2
    weights = np.full(steps, 1 / steps)
    if rule == "trapezoid":
        if steps < 2:
            raise ValueError(f"{steps=} must be at least 2 for rule='trapezoid', which has a point at either end")
        weights = np.full(steps, 1 / (steps - 1))
        weights[[0, -1]] /= 2
        return np.linspace(0, 1, steps), weights
    offset = {"left": 0.0, "midpoint": 0.5, "right": 1.0}[rule]
    return (np.arange(steps) + offset) / steps, weights


def slope(s: Scalar, point: Array, x: Array) -> Array:
    """`∇s(point)`: the model is given x's dtype, sums are made in the point's."""
    return jax.grad(s)(point.astype(x.dtype)).astype(point.dtype)
