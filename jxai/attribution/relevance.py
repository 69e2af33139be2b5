"""Layer-wise relevance propagation as a method; the engine is `jxai.relevance`."""

from __future__ import annotations

import jax.numpy as jnp

from jxai.callables import plainly
from jxai.relevance import Composite, propagate
from jxai.removal.doubts import flat
from jxai.scores import objective
from jxai.typing import Array, Model

__all__ = ["lrp"]


@plainly
def lrp(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    composite: str | Composite = "epsilon_plus_flat",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    low: float | Array = 0.0,
    high: float | Array = 1.0,
    bias: str = "absorb",
    batch_norm: str = "fold",
    init: str = "logit",
    score: str = "logit",
) -> Array:
    """LRP: the score handed back from step to step, each input getting the share that it had in a value: `R_i = Σ_j (share of i in j) R_j`.

    What a share is, a rule says for each kind of step; a composite is a table of rules. Linear maps, residual sums, concatenations, attention, gates, normalisations and
    loops are read off the traced function, so that no model is rewritten. AttnLRP's authors hold a patent on it, free for personal and scientific use.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None` where f returns a scalar. key: unused.
      composite: `"epsilon_plus_flat"` (z⁺ for convolutions, ε for dense steps, flat for the first; CRP's default), `"epsilon"`, `"z_plus"`, `"epsilon_plus"`,
        `"epsilon_gamma_box"` (γ for convolutions, a z-box for the first), `"epsilon_alpha2_beta1"`, `"epsilon_alpha2_beta1_flat"`, `"excitation_backprop"`,
        `"attn_lrp"` and `"cp_lrp"` (transformers), or a `jxai.relevance.Composite` of your own.
      epsilon: of the ε rules, > 0. gamma: of the γ rule, ≥ 0. low, high: the range of x, for the z-box.
      bias: `"absorb"` (a bias takes its share) or `"ignore"` (all goes to the inputs, so that ε, z⁺ and αβ maps add up to the score).
      batch_norm: `"fold"`, `"pass"` or `"epsilon"`; see `jxai.relevance.propagate`.
      init: `"logit"`, `"one"`, `"absolute"` or `"contrastive"`: with negative logits the sign of a map flips, and the last two are ways out.
      score: `"logit"` (the papers'), `"probability"` or `"sigmoid"`.

    Returns:
      x's shape, signed, in units of the score. It adds up to the score less what biases absorbed (`jxai.relevance.propagate` tells), but for AttnLRP, whose
      softmax rule does not conserve.

    Raises:
      ValueError: an unknown composite or option, an equation without a rule, a z-box that does not hold x; bad x, target or score.

    Cost: 1 forward pass, and backward about what a gradient costs (ε), up to twice (z⁺, flat) or three times (γ, αβ) that.

    Reference: Bach et al. 2015, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions by Layer-Wise Relevance Propagation", PLOS ONE; composites:
    Kohlbrenner et al. 2020, "Towards Best Practice in Explaining Neural Network Decisions with LRP", IJCNN; attention: Achtibat et al. 2024, "AttnLRP", ICML.
    """
    found = propagate(
        f, x, target, composite=composite, epsilon=epsilon, gamma=gamma, low=low, high=high, bias=bias, batch_norm=batch_norm, init=init, score=score
    ).map
    flat("lrp", found, objective(f, x, target, score), x, [jnp.zeros_like(x)])
    return found
