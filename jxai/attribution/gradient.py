"""Gradients of the score with respect to the input, plain and smoothed over noisy copies of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jxai import loops
from jxai.callables import plainly
from jxai.removal.doubts import flat
from jxai.removal.masks import as_map
from jxai.removal.scales import span
from jxai.scores import need_key, objective, one_of, sharing, wide, within
from jxai.typing import Array, Method, Model, Scalar

__all__ = ["gradient", "input_x_gradient", "smoothgrad", "squaregrad", "vargrad"]

NOISES = ("relative", "absolute")


@plainly
def gradient(f: Model, x: Array, target: int | Array | None, key: Array | None = None, *, score: str = "logit") -> Array:
    """The gradient of the score, `∂s(x)/∂x`, signed.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: unused.
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`.

    Returns:
      x's shape, in units of the score per unit of x. The paper shows the largest magnitude over channels.

    Raises:
      ValueError: bad x, target or score.

    Cost: one forward and one backward pass.

    Reference: Simonyan et al. 2014, "Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency Maps", ICLR Workshop.
    """
    s = objective(f, x, target, score)
    found = as_map(jax.grad(s)(x), x)
    flat("gradient", found, s, x, [jnp.zeros_like(x)])
    return found


@plainly
def input_x_gradient(f: Model, x: Array, target: int | Array | None, key: Array | None = None, *, score: str = "logit") -> Array:
    """The input times the gradient, `x ⊙ ∂s(x)/∂x`; for a linear score it is complete, `Σ = s(x) − s(0)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: unused.
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`.

    Returns:
      x's shape, in units of the score.

    Raises:
      ValueError: bad x, target or score.

    Cost: one forward and one backward pass.

    Reference: Shrikumar et al. 2016, "Not Just a Black Box: Learning Important Features Through Propagating Activation Differences", arXiv 1605.01713.
    """
    return wide(x) * gradient(f, x, target, score=score)


@plainly
def smoothgrad(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    num_samples: int = 50,
    sigma: float | Array = 0.15,
    noise: str = "relative",
    method: Method = gradient,
    method_options: dict[str, Any] | None = None,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """SmoothGrad: the mean attribution of noisy copies of x, `1/n Σ_i a(x + σ ε_i)`, `ε_i ~ N(0, 1)`.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the noise.
      num_samples: n (the paper's 50; captum's NoiseTunnel has 5, PAIR 25).
      sigma: the noise level, ≥ 0. The paper advises 0.1 to 0.2 of the range of x; PAIR's default is 0.15, Xplique's 0.2.
      noise: `"relative"`: σ is `sigma · (max x − min x)` (the paper, PAIR), of a series `[T, C]` each channel's own; `"absolute"`: σ is
        `sigma`, in units of x (captum, Xplique); of a vector it must be, with a sigma for each feature, since their units differ.
      method: the attribution `a` that is smoothed, and `method_options`: its own options.
      score: `"logit"` (the paper's), `"probability"` or `"sigmoid"`; handed on to `method`.
      chunk: noisy copies at once (None: `jxai.loops.at_once`); a `method` with its own `chunk` runs that many passes for each of them.

    Returns:
      The shape of what `method` returns (x's for gradients), signed.

    Raises:
      ValueError: no key, a bad option, relative noise on a vector, or bad x, target or score.

    Cost: `num_samples` forward and backward passes (`num_samples` times the cost of another `method`).

    Reference: Smilkov et al. 2017, "SmoothGrad: removing noise by adding noise", arXiv 1706.03825.
    """
    s, sample = _noisy("smoothgrad", f, x, target, key, sigma, noise, method, method_options, score)
    found = loops.means(sample, num_samples, loops.at_once(x, chunk))
    flat("smoothgrad", found, s, x, [jnp.zeros_like(x)], lambda: jax.grad(s)(x))
    return found


@plainly
def squaregrad(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    num_samples: int = 50,
    sigma: float | Array = 0.15,
    noise: str = "relative",
    method: Method = gradient,
    method_options: dict[str, Any] | None = None,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """SmoothGrad-squared: the mean squared attribution of noisy copies of x, `1/n Σ_i a(x + σ ε_i)²`, not negative.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the noise.
      num_samples, sigma, noise, method, method_options, score, chunk: as in `smoothgrad`.

    Returns:
      The shape of what `method` returns, in its units squared. With the same key it is `smoothgrad² + vargrad`.

    Raises:
      ValueError: no key, a bad option, relative noise on a vector, or bad x, target or score.

    Cost: `num_samples` forward and backward passes (`num_samples` times the cost of another `method`).

    Reference: Hooker et al. 2019, "A Benchmark for Interpretability Methods in Deep Neural Networks", NeurIPS.
    """
    s, sample = _noisy("squaregrad", f, x, target, key, sigma, noise, method, method_options, score)
    found = loops.means(lambda i: sample(i) ** 2, num_samples, loops.at_once(x, chunk))
    flat("squaregrad", found, s, x, [jnp.zeros_like(x)], lambda: jax.grad(s)(x))
    return found


@plainly
def vargrad(
    f: Model,
    x: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    num_samples: int = 50,
    sigma: float | Array = 0.15,
    noise: str = "relative",
    method: Method = gradient,
    method_options: dict[str, Any] | None = None,
    score: str = "logit",
    chunk: int | None = None,
) -> Array:
    """VarGrad: the variance of the attributions of noisy copies of x, `1/n Σ_i (a_i − ā)²`, `a_i = a(x + σ ε_i)`.

    It divides by n, not by n − 1 (`ddof=0`, captum's too). It is accumulated around running means, so that it neither
    turns negative nor loses digits where the gradient is large against its spread.

    Args:
      f: a model `x -> logits [K]`. x: one example of any rank. target: a class, or `None`. key: for the noise.
      num_samples, sigma, noise, method, method_options, score, chunk: as in `smoothgrad`.

    Returns:
      The shape of what `method` returns, in its units squared; 0 for a linear score.

    Raises:
      ValueError: no key, a bad option, relative noise on a vector, or bad x, target or score.

    Cost: `num_samples` forward and backward passes (`num_samples` times the cost of another `method`).

    Reference: Adebayo et al. 2018, "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to Parameter Values", ICLR Workshop.
    """
    _, sample = _noisy("vargrad", f, x, target, key, sigma, noise, method, method_options, score)
    return loops.moments(sample, num_samples, loops.at_once(x, chunk))[1]


def _noisy(
    name: str, f: Model, x: Array, target, key, sigma: float | Array, noise: str, method: Method, options: dict | None, score: str
) -> tuple[Scalar, Callable[[Array], Array]]:
    """The score, and `i -> a(x + σ ε_i)` in float32 or wider; draw i comes from `fold_in(key, i)`, whatever the block it runs in."""
    s = objective(f, x, target, score)
    need_key(key, name)
    one_of("noise", noise, NOISES)
    within(0, math.inf, sigma=sigma)
    clean, shared = wide(x), sharing(method, options, score)
    level = sigma * span(x, "sigma=[…] for each feature, with noise='absolute'") if noise == "relative" else sigma

    def sample(i: Array) -> Array:
        draw, inner = jax.random.split(jax.random.fold_in(key, i))
        noisy = (clean + level * jax.random.normal(draw, x.shape, clean.dtype)).astype(x.dtype)
        return wide(method(f, noisy, target, inner, **shared))

    return s, sample
