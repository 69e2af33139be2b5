"""Whether a counterfactual looks like data, as generators trained on the data see it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jxai.callables import plainly
from jxai.loops import scan, staged
from jxai.metrics.counterfactual.common import at_class, check_class, check_pair, finite, norm, over
from jxai.scores import need_key, positive, wide, within
from jxai.typing import Array, Model, PyTree

__all__ = ["anogan_score", "bits_per_dim", "im1", "im2"]


@plainly
def im1(f: Model, x: Array, counterfactual: Array, target: int | Array, *, autoencoders: PyTree, epsilon: float = 1e-8) -> Array:
    """IM1: how much better the target's autoencoder knows x' than that of the class it comes from, `‖x' − AE_t(x')‖² / (‖x' − AE_o(x')‖² + ε)`.

    o is the class of x. It does not see what both autoencoders take away, noise off the data's manifold; report it with a density or an oracle.

    Args:
      f: the model, for the class of x. x: the example. counterfactual: x', of x's shape. target: t.
      autoencoders: one for each class, trained on that class alone, with `encode(x) -> z` and `decode(z) -> x`, their arrays stacked in a leading axis `[K, …]`.
      epsilon: ε > 0.

    Returns:
      float32; NaN where x or x' is not finite, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual or target, autoencoders that are not stacked, or not one for each class.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: one forward pass, K reconstructions.
    Reference: Van Looveren and Klaise 2021, "Interpretable Counterfactual Explanations Guided by Prototypes", ECML PKDD.
    """
    _check(f, x, counterfactual, target, epsilon)
    logits = wide(f(x))
    errors = _by_class(autoencoders, lambda coder: norm(_through(coder, counterfactual) - counterfactual) ** 2, logits.shape[0])
    return finite(at_class(errors, target) / (errors[logits.argmax()] + epsilon), logits, x, counterfactual)


@plainly
def im2(f: Model, x: Array, counterfactual: Array, target: int | Array, *, autoencoders: PyTree, autoencoder: Any, epsilon: float = 1e-8) -> Array:
    """IM2: how differently the target's autoencoder and that of all classes see x', `‖AE_t(x') − AE(x')‖² / (‖x'‖₁ + ε)`.

    Its values are small and depend on how well both are trained: compare methods on the same autoencoders only, and beside other metrics.

    Args:
      f: the model, for its classes. x: the example, used for its shape. counterfactual: x', of x's shape. target: t.
      autoencoders: one for each class, as in `im1`. autoencoder: one for the data of all classes. epsilon: ε > 0.

    Returns:
      float32; NaN where x' is not finite, or a traced target is no class.

    Raises:
      ValueError: bad x, counterfactual or target, autoencoders that are not stacked, or not one for each class.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: K + 1 reconstructions.
    Reference: Van Looveren and Klaise 2021, "Interpretable Counterfactual Explanations Guided by Prototypes", ECML PKDD.
    """
    _check(f, x, counterfactual, target, epsilon)
    general, classes = _through(autoencoder, counterfactual), jax.eval_shape(lambda v: f(v), x).shape[0]
    apart = _by_class(autoencoders, lambda coder: norm(_through(coder, counterfactual) - general) ** 2, classes)
    return finite(at_class(apart, target) / (norm(counterfactual, "l1") + epsilon), counterfactual)


@plainly
def bits_per_dim(f: Model | None, x: Array, counterfactual: Array, target: int | Array | None, *, generator: Any, levels: int = 256) -> Array:
    """The code length of the counterfactual under a model with a likelihood, `log₂ levels − log₂ p(x') / n`, bits per entry.

    No noise is added to x', which a search leaves continuous; of pixels that are multiples of 1 / (levels − 1) add it first (dequantise).

    Args:
      f, target: not looked at. x: the example, used for its shape. counterfactual: x', of x's shape.
      generator: with `log_prob(x) -> []` in nats, such as a flow. levels: that an entry in [0, 1] can take; 1 for the density as it is.

    Returns:
      float32; ∞ where the generator gives x' no density, NaN where x' is not finite.

    Raises:
      ValueError: bad x, counterfactual or levels, a generator without `log_prob`.

    Range: (−∞, ∞].
    Direction: lower is better.
    Cost: a pass of the generator.
    Reference: Dinh et al. 2017, "Density Estimation Using Real NVP", ICLR.
    """
    check_pair(x, counterfactual)
    positive(levels=levels)
    if not callable(getattr(generator, "log_prob", None)):
        raise ValueError(f"generator={type(generator).__name__} must have a method log_prob(x) -> [], as a flow has")
    return finite(math.log2(levels) - wide(generator.log_prob(counterfactual)) / (x.size * math.log(2)), counterfactual)


@plainly
def anogan_score(
    f: Model | None,
    x: Array,
    counterfactual: Array,
    target: int | Array | None,
    key: Array | None = None,
    *,
    generator: Any,
    latent: int | tuple[int, ...] | None = None,
    features: Callable[[Array], Array] | None = None,
    weight: float | Array = 0.1,
    steps: int = 4000,
    learning_rate: float = 0.03,
    restarts: int = 3,
) -> Array:
    """AnoGAN's score: how near a generator comes to x', `min_z ‖x' − G(z)‖₁ + λ ‖φ(x') − φ(G(z))‖₁`.

    Adam from z ~ N(0, I), the last fifth of the steps with a tenth of η; the least loss of all steps and restarts counts. Steps, η and restarts are
    DeDUCE's, whose code descends without Adam and takes each restart's last loss.
    What was searched for in the coordinates of this very generator scores 0 by construction; judge it by another one.

    Args:
      f, target: not looked at. x: the example, used for its shape. counterfactual: x', of x's shape.
      key: of the starts.
      generator: with `decode(z) -> x`. latent: the shape of z; by default `generator.latent`, or that of `generator.encode(x)`.
      features: φ, of a discriminator of the data; None leaves its term out. weight: λ >= 0.
      steps: of each search, >= 1. learning_rate: η > 0. restarts: searches, >= 1, side by side.

    Returns:
      float32; NaN where x' is not finite.

    Raises:
      ValueError: no key, bad x, counterfactual or option, a generator without `decode` or of other examples.

    Range: [0, ∞).
    Direction: lower is better.
    Cost: `restarts · (steps + 1)` forward and backward passes of G and φ.
    Reference: Schlegl et al. 2017, "Unsupervised Anomaly Detection with Generative Adversarial Networks to Guide Marker Discovery", IPMI.
    """
    check_pair(x, counterfactual)
    need_key(key, "anogan_score")
    positive(steps=steps, restarts=restarts)
    within(0.0, math.inf, weight=weight)
    within(math.ulp(0.0), math.inf, learning_rate=learning_rate)
    shape, point = _latent_shape(generator, x, latent), wide(counterfactual)
    seen = None if features is None else wide(features(point))

    def loss(z: Array) -> Array:
        made = wide(generator.decode(z))
        far = norm(point - made, "l1")
        return far if features is None else far + weight * norm(seen - wide(features(made)), "l1")

    def least(key: Array) -> Array:
        z = jax.random.normal(key, shape)
        adam = optax.adam(optax.piecewise_constant_schedule(learning_rate, {steps - steps // 5: 0.1}))

        def step(state: tuple, _: None) -> tuple[tuple, None]:
            z, memory, best = state
            value, gradient = jax.value_and_grad(loss)(z)
            update, memory = adam.update(jnp.where(jnp.isfinite(gradient), gradient, 0), memory, z)
            return (z + update, memory, jnp.minimum(best, jnp.where(jnp.isnan(value), jnp.inf, value))), None

        z, _, best = scan(step, (z, adam.init(z), jnp.asarray(jnp.inf, point.dtype)), None, length=steps)[0]
        return jnp.minimum(best, loss(z))

    scores = staged(jax.vmap(lambda r: least(jax.random.fold_in(key, r))), jnp.arange(restarts))
    return finite(scores.min(), counterfactual)


def _latent_shape(generator: Any, x: Array, latent: int | tuple[int, ...] | None) -> tuple[int, ...]:
    kind = type(generator).__name__
    if not callable(getattr(generator, "decode", None)):
        raise ValueError(f"generator={kind} must have a method decode(z) -> x")
    latent = getattr(generator, "latent", None) if latent is None else latent
    if latent is None:
        if not callable(getattr(generator, "encode", None)):
            raise ValueError(f"latent=None: generator={kind} has neither latent nor encode, so the shape of z must be given")
        latent = jax.eval_shape(generator.encode, x).shape
    shape = (latent,) if isinstance(latent, int) else tuple(latent)
    made = jax.eval_shape(generator.decode, jax.ShapeDtypeStruct(shape, jnp.float32)).shape
    if made != x.shape:
        raise ValueError(f"generator={kind} makes examples of shape {made}, but x has {x.shape}")
    return shape


def _check(f: Model, x: Array, counterfactual: Array, target: int | Array, epsilon: float) -> None:
    check_pair(x, counterfactual)
    check_class(f, x, target)
    within(math.ulp(0.0), math.inf, epsilon=epsilon)


def _through(coder: Any, v: Array) -> Array:
    for name in ("encode", "decode"):
        if not callable(getattr(coder, name, None)):
            raise ValueError(f"autoencoder={type(coder).__name__} must have a method {name}: encode(x) -> z and decode(z) -> x")
    return wide(coder.decode(coder.encode(v)))


def _by_class(coders: PyTree, fn: Callable[[Any], Array], classes: int) -> Array:
    values = over("autoencoders", coders, fn)
    if values.shape[0] != classes:
        raise ValueError(f"autoencoders must be {classes}, one for each class of f, got {values.shape[0]}")
    return values
