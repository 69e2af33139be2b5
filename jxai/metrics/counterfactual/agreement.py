"""Whether a counterfactual is of the target class: for the model, for an independent one, for the model trained again."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from jxai.callables import plainly
from jxai.metrics.counterfactual.common import at_class, check_class, check_pair, finite, is_class, over
from jxai.scores import wide, within
from jxai.typing import Array, Model, PyTree

__all__ = ["oracle_agreement", "strict_validity", "success", "transfer_validity", "validity"]


@plainly
def validity(f: Model, x: Array, counterfactual: Array, target: int | Array) -> Array:
    """Whether the model takes the counterfactual for the target, `1[argmax f(x') = t]`.

    Args:
      f: a model. x: the example, used for its shape. counterfactual: x', of x's shape. target: t, the class that x' shall be taken for.

    Returns:
      float32: 1 or 0; NaN where x' or f(x') has NaN, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual or target.

    Range: [0, 1].
    Direction: higher is better.
    Cost: one forward pass.
    Reference: Wachter et al. 2018, "Counterfactual Explanations without Opening the Black Box", Harvard Journal of Law & Technology.
    """
    check_pair(x, counterfactual)
    check_class(f, x, target)
    return finite(is_class(wide(f(counterfactual)), target), counterfactual)


@plainly
def strict_validity(f: Model, x: Array, counterfactual: Array, target: int | Array, *, threshold: float | Array = 0.5) -> Array:
    """Whether the model is sure enough of the target, `1[softmax(f(x'))_t ≥ γ]`.

    Args:
      f: a model. x: the example, used for its shape. counterfactual: x', of x's shape. target: t, the class that x' shall be taken for.
      threshold: γ, in (0, 1].

    Returns:
      float32: 1 or 0; NaN where x' or f(x') has NaN, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual, target or threshold.

    Range: [0, 1].
    Direction: higher is better.
    Cost: one forward pass.
    Reference: Dombrowski et al. 2022, "Diffeomorphic Counterfactuals with Generative Models", arXiv 2206.05075.
    """
    within(math.ulp(0.0), 1.0, threshold=threshold)
    check_pair(x, counterfactual)
    check_class(f, x, target)
    # In logarithms, as the searches decide it.
    log_p = at_class(jax.nn.log_softmax(wide(f(counterfactual))), target)
    return finite(jnp.where(jnp.isnan(log_p), jnp.nan, log_p >= jnp.log(threshold)), counterfactual)


@plainly
def success(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None) -> Array:
    """Whether the method returned anything, `1[x' is finite]`: CARLA's success rate, which does not ask the model.

    The searches of `jxai.counterfactual` return their best point in any case, and say in `valid` whether they reached the target.

    Args:
      f, target: not looked at. x: the example, used for its shape. counterfactual: x', of x's shape.

    Returns:
      float32: 1, or 0 where x' has an entry that is not finite.

    Raises:
      ValueError: bad x or counterfactual.

    Range: [0, 1].
    Direction: higher is better.
    Cost: no passes.
    Reference: Pawelczyk et al. 2021, "CARLA: A Python Library to Benchmark Algorithmic Recourse and Counterfactual Explanation Algorithms", NeurIPS.
    """
    check_pair(x, counterfactual)
    return jnp.isfinite(counterfactual).all().astype(jnp.float32)


@plainly
def oracle_agreement(f: Model, x: Array, counterfactual: Array, target: int | Array, *, oracle: Model, valid_only: bool = True) -> Array:
    """Whether an independent model takes the counterfactual for the target too, `1[argmax F(x') = t]` given that `argmax f(x') = t`.

    An adversarial example deceives f alone; a change of what the example shows convinces others.

    Args:
      f: the model. x: the example, used for its shape. counterfactual: x', of x's shape. target: t, the class that x' shall be taken for.
      oracle: F, another model of the same classes; best of another seed or architecture, and trained apart.
      valid_only: NaN where f itself is not convinced, so that `jnp.nanmean` over examples is the share given success; False asks F alone.

    Returns:
      float32: 1 or 0; NaN as well where x', f(x') or F(x') has NaN, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual or target, an oracle of other classes.

    Range: [0, 1].
    Direction: higher is better.
    Cost: a forward pass of each model.
    Reference: Dombrowski et al. 2022, "Diffeomorphic Counterfactuals with Generative Models", arXiv 2206.05075.
    """
    check_pair(x, counterfactual)
    check_class(f, x, target)
    shapes = [jax.eval_shape(lambda v, m=m: m(v), counterfactual).shape for m in (f, oracle)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"oracle must have the classes of f, logits of shape {shapes[0]}, got {shapes[1]}")
    agrees = is_class(wide(oracle(counterfactual)), target)
    if valid_only:
        agrees = jnp.where(is_class(wide(f(counterfactual)), target) == 1, agrees, jnp.nan)
    return finite(agrees, counterfactual)


@plainly
def transfer_validity(f: Model, x: Array, counterfactual: Array, target: int | Array, *, models: PyTree) -> Array:
    """The share of models trained again that take the counterfactual for the target, `1/m Σ_i 1[argmax f_i(x') = t]`.

    Args:
      f: the model, used for its classes. x: the example, used for its shape. counterfactual: x', of x's shape. target: t.
      models: m models of one architecture, their arrays stacked in a leading axis `[m, …]`: `jax.tree.map(lambda *a: jnp.stack(a), *models)`.

    Returns:
      float32; NaN where x' or a model's logits have NaN, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual or target, models that are not stacked.

    Range: [0, 1].
    Direction: higher is better.
    Cost: m forward passes, one after the other.
    Reference: Upadhyay et al. 2021, "Towards Robust and Reliable Algorithmic Recourse", NeurIPS.
    """
    check_pair(x, counterfactual)
    check_class(f, x, target)
    return finite(over("models", models, lambda model: is_class(wide(model(counterfactual)), target)).mean(), counterfactual)
