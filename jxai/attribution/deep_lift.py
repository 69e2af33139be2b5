"""DeepLIFT: what the score changes by between a baseline and x, shared out step by step; complete to rounding on any program that it has rules for."""

from __future__ import annotations

import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.relevance import differences, reveal
from jxai.relevance.differences import Plan, Special, Values
from jxai.removal import fills
from jxai.removal.doubts import flat, kept_by_fill
from jxai.removal.fills import FillLike
from jxai.removal.masks import as_map
from jxai.scores import check_example, objective, one_of, wide
from jxai.typing import Array, Model

__all__ = ["deep_lift", "deep_shap"]

RULES = ("rescale", "reveal_cancel", "genomics")


@plainly
def deep_lift(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    baseline: FillLike = 0.0,
    rule: str = "rescale",
    score: str = "logit",
) -> Array:
    """DeepLIFT: `(x − b) ⊙ m`, the multipliers m the product of every step's `Δoutput/Δinput` between the baseline b and x.

    Complete, `Σ = s(x) − s(b)`, to rounding: every step's rule is exact, also where layers are used again, called as functions, or meet in products.
    Linear steps carry changes as they are; a nonlinearity has the slope of its chord, `(φ(z) − φ(z₀))/(z − z₀)`, or φ's derivative midway
    where z, or φ(z), moves by at most 1e-6 of its magnitude (the paper's code has the derivative at the baseline below 1e-7, captum the one at x below
    1e-10); a product of two values gives each the mean of the other, `a·b → b̄ Δa + ā Δb` (attention, gates, squeeze-and-excite; a normalisation is a
    product with 1/σ); a softmax, however it is spelled, is one step with a slope of its own (`jxai.relevance.reductions`); a maximum is due to the largest
    at x as far as it rose and to the largest at b as far as it fell (cross-max, as shap; captum 0.9's max pooling is not complete).

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for a baseline that draws noise.
      baseline: b: a number, an array that broadcasts against x, or a fill.
      rule: what nonlinearities do. `"rescale"`: the above (captum, shap). `"reveal_cancel"`: where a dense step or a convolution feeds one, itself or
        by way of constants that scale and shift its entries (a bias, a batch norm), what pushes up and what pulls down get multipliers of their own, each the mean of
        its effect before and after the other; after any other step, as a residual sum, there is no such linear step, and `"rescale"` holds. `"genomics"`:
        `"rescale"` after convolutions, `"reveal_cancel"` after dense steps (the default of the paper's code; a 1 × 1 convolution that is written as a product of matrices is dense).
      score: `"logit"` (explain this; the paper, too, takes the input of a final softmax or sigmoid, which saturate), `"probability"` or `"sigmoid"`.

    Returns:
      x's shape, in units of the score.

    Raises:
      ValueError: a bad option, x, target or score; a step of f that has no rule (named, with its place).

    Cost: two forward passes and one backward pass; one pair of forward passes for all targets of a `vmap`.

    Reference: Shrikumar, Greenside and Kundaje 2017, "Learning Important Features Through Propagating Activation Differences", ICML.
    """
    s = objective(f, x, target, score)
    special = _special(rule)
    kept_by_fill("deep_lift", f, x, target, baseline, key, "baseline", score=score)
    base = fills.path("deep_lift", baseline, x, key)[0].astype(x.dtype)
    plan = differences.plan(s, x)
    found = as_map(_against(plan, differences.at(plan, x), x, base, special), x)
    flat("deep_lift", found, s, x, [base])
    return found


@plainly
def deep_shap(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    baselines: Array,
    rule: str = "rescale",
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """DeepSHAP: the mean of DeepLIFT over baselines, `1/B Σ_b (x − b) ⊙ m_b`.

    Every pair of x and a baseline is complete by itself, so `Σ = s(x) − mean_b s(b)`, to rounding: nothing is drawn.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: unused.
      baselines: `[B, …]`, B examples of x's shape: a sample of the data, or x with its parts shuffled.
      rule: `"rescale"` (captum, shap), `"reveal_cancel"` or `"genomics"`, as in `deep_lift`.
      score: `"logit"`, `"probability"` or `"sigmoid"`. chunk: baselines at once (None: `jxai.loops.at_once`).

    Returns:
      x's shape, in units of the score.

    Raises:
      ValueError: `baselines` of another shape, a bad option, x, target or score; a step of f that has no rule.

    Cost: one forward pass for x, and a forward and a backward pass for each baseline.

    Reference: Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions", NeurIPS (Deep SHAP; DeepExplainer of its package).
    """
    s = objective(f, x, target, score)
    special = _special(rule)
    check_example(baselines, "baselines")
    if baselines.shape[1:] != x.shape:
        raise ValueError(f"baselines must have shape [B, …] with examples of x's shape {x.shape}, got {baselines.shape}")
    fills.check_finite("deep_shap goes from baselines to x; kernel_shap and shapley_sampling remove whole features", x=x, baselines=baselines)
    starts = jnp.asarray(baselines, x.dtype)
    plan = differences.plan(s, x)
    values = differences.at(plan, x)
    mean = loops.means(lambda i: _against(plan, values, x, starts[i], special), len(starts), loops.at_once(x, chunk))
    found = as_map(mean, x)
    flat("deep_shap", found, s, x, [starts[0]])
    return found


def _special(rule: str) -> Special | None:
    one_of("rule", rule, RULES)
    kinds = {"reveal_cancel": (reveal.DENSE, reveal.CONVOLUTION), "genomics": (reveal.DENSE,)}
    return reveal.reveal_cancel(kinds[rule]) if rule in kinds else None


def _against(plan: Plan, values: Values, x: Array, base: Array, special: Special | None) -> Array:
    """The contributions of x's entries against one baseline, float32 or wider."""
    found = differences.multipliers(differences.against(plan, values, base), special)
    return (wide(x) - wide(base)) * wide(found)
