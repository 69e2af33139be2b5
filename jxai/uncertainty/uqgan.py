"""UQGAN: a one-vs-all classifier that a generative network shields with examples from around each class, made in the codes of an autoencoder."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.loops import map as lax_map
from jxai.models.adversarial import critic_loss as wasserstein
from jxai.models.coders import Decoder, Encoder, condition
from jxai.models.gan import ConditionalGAN
from jxai.scores import check_labels, positive, within
from jxai.training.updates import Part
from jxai.typing import Array
from jxai.uncertainty.formulas.one_vs_all import OneVsAll, check_prior, from_logits, one_vs_all

__all__ = [
    "UQGAN",
    "CodeGAN",
    "ConditionalAutoencoder",
    "OneVsAll",
    "classifier_loss",
    "critic_loss",
    "generator_loss",
    "one_vs_all",
    "one_vs_all_loss",
    "parts",
    "reconstruction_loss",
    "spread",
]

_NEAR = 1e-6
"""The published code keeps cosines, and angles under a logarithm, by this much from where they are infinite."""


class ConditionalAutoencoder(nnx.Module):
    """An autoencoder of examples in [0, 1] whose encoder and decoder see the class: `encode(x, y) -> z [latent]`, `decode(z, y) -> x`.

    Args:
      shape: of x. num_classes: K. latent: numbers in z.
      hidden: widths of the encoder's linear layers, of the decoder's in reverse. features: channels of 4×4 convolutions at stride 2, as in `jxai.models.VAE`.

    Raises:
      ValueError: sizes below 1, sides of an image that cannot be halved that often.
    """

    def __init__(
        self, shape: Sequence[int], num_classes: int, *, latent: int = 32, hidden: Sequence[int] = (256,), features: Sequence[int] = (), rngs: nnx.Rngs
    ):
        positive(latent=latent, num_classes=num_classes)
        self.shape, self.latent, self.num_classes = tuple(shape), latent, num_classes
        self.encoder = Encoder(shape, latent, hidden, features, num_classes=num_classes, rngs=rngs)
        self.decoder = Decoder(shape, latent, hidden[::-1], features[::-1], num_classes=num_classes, rngs=rngs)

    def encode(self, x: Array, y: int | Array) -> Array:
        """`[latent]`."""
        return self.encoder(x, condition(y, self.num_classes))

    def logits(self, z: Array, y: int | Array) -> Array:
        """`[*shape]`: the logits of the pixels."""
        return self.decoder(z, condition(y, self.num_classes))

    def decode(self, z: Array, y: int | Array) -> Array:
        """`[*shape]`: the pixels, in [0, 1]."""
        return jax.nn.sigmoid(self.logits(z, y))


def reconstruction_loss(model: Any, x: Array, y: Array, key: Array) -> tuple[Array, dict[str, Array]]:
    """What a `ConditionalAutoencoder` is trained with by `jxai.train.train`: the cross-entropy of pixels, in nats per example; it draws nothing."""
    one = lambda v, c: optax.sigmoid_binary_cross_entropy(model.logits(model.encode(v, c), c), v).sum()
    return jax.vmap(one)(x, y).mean(), {}


class CodeGAN(ConditionalGAN):
    """A `jxai.models.ConditionalGAN` of codes, which may be any numbers: its generator ends without a sigmoid."""

    def decode(self, z: Array, y: int | Array) -> Array:
        """`[*shape]`: a code."""
        return self.generator(z, condition(y, self.num_classes))


class UQGAN(nnx.Module):
    """`f(x) -> logits [K]` of one-vs-all questions, "is it of class k, or of none or another?"; `beliefs(x)` says what follows from the answers.

    Train the autoencoder first (`reconstruction_loss`), then all else by `train(model, parts(…), (x, labels), …)`, which leaves the autoencoder as it is.

    Args:
      classifier: a module `x -> logits [K]`, trained as one-vs-all.
      autoencoder: with `encode(x, y)`, `decode(z, y)`, `latent` and `num_classes`, trained, as a `ConditionalAutoencoder`.
      prior: `[K]`, the classes' shares in the data, of which only the ratios matter; equal by default.
      noise: numbers that the generator draws. hidden: widths of its layers, and in reverse of the critic's (published: 1024, 512, 256 with batch
        normalisation, and 512 three times).

    Raises:
      ValueError: fewer than two classes, a prior that is none.

    Reference: Oberdiek, Fink and Rottmann 2022, "UQGAN: A Unified Model for Uncertainty Quantification of Deep Classifiers trained via Conditional GANs",
      NeurIPS, arXiv 2201.13279.
    """

    def __init__(
        self,
        classifier: nnx.Module,
        autoencoder: nnx.Module,
        *,
        prior: Array | None = None,
        noise: int = 128,
        hidden: Sequence[int] = (512, 512, 512),
        rngs: nnx.Rngs,
    ):
        k = autoencoder.num_classes
        if k < 2:
            raise ValueError(f"autoencoder.num_classes={k} must be at least 2: one class has no others")
        self.classifier, self.autoencoder, self.num_classes = classifier, autoencoder, k
        self.gan = CodeGAN((autoencoder.latent,), k, latent=noise, hidden=hidden, rngs=rngs)
        shares = np.ones(k, np.float32) if prior is None else np.asarray(prior, np.float32)
        check_prior(shares, k)
        self.prior = nnx.Variable(jnp.asarray(shares / shares.sum()))

    def __call__(self, x: Array) -> Array:
        """`[K]`: the logits of the questions."""
        return self.classifier(x)

    def beliefs(self, x: Array) -> OneVsAll:
        """The posterior of the classes, whether x is of one of them, and how ambiguous it is."""
        return from_logits(self(x), prior=self.prior[...])

    def sample(self, key: Array, y: int | Array) -> Array:
        """`[*shape]`: an example from around class y."""
        return self.autoencoder.decode(self.gan.sample(key, y), y)


def parts(
    *,
    penalty: float = 10.0,
    doubt: float = 2.0,
    spreading: float = 32.0,
    real: float = 0.6,
    anchors: int | None = None,
    critic_updates: int = 5,
    classifier_updates: int = 5,
    optimizer: optax.GradientTransformation | None = None,
    classifier_optimizer: optax.GradientTransformation | None = None,
) -> tuple[Part, Part, Part]:
    """What a `UQGAN` is trained with by `jxai.train.train`: critic, generator and classifier, by turns.

    Args:
      penalty, doubt, spreading, real, anchors: of the losses; λ_gp, λ_cl, λ_reg and λ_real of the paper, with its values for MNIST (for CIFAR-10: doubt 4,
        spreading 1).
      critic_updates, classifier_updates: for each of the generator's, on a batch each (the published code repeats them on one).
      optimizer: of critic and generator; `optax.adam(1e-4, b1=0, b2=0.9)` by default. classifier_optimizer: `optax.adam(1e-3)` by default (published: both
        fall to a tenth in the course of the training).
    """
    within(0.0, math.inf, penalty=penalty, doubt=doubt, spreading=spreading)
    within(0.0, 1.0, real=real)
    positive(critic_updates=critic_updates, classifier_updates=classifier_updates, anchors=1 if anchors is None else anchors)
    optimizer = optax.adam(1e-4, b1=0.0, b2=0.9) if optimizer is None else optimizer
    own = optax.adam(1e-3) if classifier_optimizer is None else classifier_optimizer
    critic = functools.partial(critic_loss, penalty=penalty)
    generator = functools.partial(generator_loss, doubt=doubt, spreading=spreading, anchors=anchors)
    return (
        Part(critic, optimizer, ("gan.critic",), critic_updates, "critic"),
        Part(generator, optimizer, ("gan.generator",), 1, "generator"),
        Part(functools.partial(classifier_loss, real=real), own, ("classifier",), classifier_updates, "classifier"),
    )


def critic_loss(model: Any, x: Array, y: Array, key: Array, *, penalty: float = 10.0) -> tuple[Array, dict[str, Array]]:
    """That of a Wasserstein GAN with gradient penalty (`jxai.models.adversarial.critic_loss`), of the codes of x given y."""
    return wasserstein(model.gan, jax.vmap(model.autoencoder.encode)(x, y), y, key, penalty=penalty)


def generator_loss(
    model: Any, x: Array, y: Array, key: Array, *, doubt: float = 2.0, spreading: float = 32.0, anchors: int | None = None
) -> tuple[Array, dict[str, Array]]:
    """`−E[D(z̃, y)] + λ_cl E[BCE(C_y(dec(z̃, y)), 0)] + λ_reg spread`: codes as of the class, not believed to be, and on all sides of it.

    Args:
      model: a `UQGAN`. x: `[B, *shape]`. y: `[B]`, classes. doubt: λ_cl. spreading: λ_reg.
      anchors: how many examples of the batch are looked around from; None for all, which costs B² for each.

    Returns:
      `(loss [], {"score": E[D(z̃, y)], "believed": E[σ(C_y(dec(z̃, y)))], "spread": []})`.
    """

    def one(c: Array, k: Array) -> tuple[Array, Array, Array]:
        z = model.gan.sample(k, c)
        return z, model.gan.score(z, c), model(model.autoencoder.decode(z, c))[c]

    z, score, logit = jax.vmap(one)(y, jax.random.split(key, x.shape[0]))
    beside = spread(jax.vmap(model.autoencoder.encode)(x, y), z, y, anchors=anchors)
    loss = doubt * jax.nn.softplus(logit).mean() - score.mean() + spreading * beside
    return loss, {"score": score.mean(), "believed": jax.nn.sigmoid(logit).mean(), "spread": beside}


def spread(codes: Array, fakes: Array, y: Array, *, anchors: int | None = None) -> Array:
    """`[]`: how much fakes hide behind each other, `mean −log(∠ / π)` over real codes and pairs of fakes of its class, ∠ the angle under which it sees them.

    Args:
      codes, fakes: `[B, D]`. y: `[B]`, the classes of both. anchors: how many codes are looked from, the first; None for all.

    Returns:
      >= 0; log 2 where all are seen at right angles; 0 where no class has two.

    Cost: `anchors · B² · D` operations, one anchor at a time.
    """

    def one(code: Array, c: Array) -> tuple[Array, Array]:
        way = fakes - code
        square = (way**2).sum(-1, keepdims=True)
        way = way * jax.lax.rsqrt(jnp.where(square > 0, square, 1))
        angle = jnp.arccos(jnp.clip(way @ way.T, -1 + _NEAR, 1 - _NEAR)) / jnp.pi
        own = (y == c).astype(codes.dtype)
        both = own[:, None] * own * (1 - jnp.eye(len(y)))
        pairs = both.sum()
        return -(both * jnp.log(angle + _NEAR)).sum() / jnp.maximum(pairs, 1), (pairs > 0).astype(codes.dtype)

    count = len(y) if anchors is None else min(anchors, len(y))
    value, seen = lax_map(jax.checkpoint(lambda v: one(*v)), (codes[:count], y[:count]))
    return value.sum() / jnp.maximum(seen.sum(), 1)


def classifier_loss(model: Any, x: Array, y: Array, key: Array, *, real: float = 0.6) -> tuple[Array, dict[str, Array]]:
    """`E[BCE(C_y(x), 1)] + λ E[w BCE(C_{j ≠ y}(x), 0)] + (1 − λ) E[BCE(C_y(x̃), 0)]`, x̃ decoded from the generator's code of class y.

    `w = π_j / π_y` and the mean over j make the others of class j, each class of them alike, weigh together as much as its own: then formula (3) holds.

    Args:
      model: a `UQGAN`. x: `[B, *shape]`. y: `[B]`, classes. real: λ in [0, 1], the weight of real examples of other classes.

    Returns:
      `(loss [], {"accuracy": [], "fakes": E[σ(C_y(x̃))]})`.
    """
    own, others, accuracy = _real(jax.vmap(model)(x), y, model.prior[...])
    fakes = jax.vmap(lambda c, k: model(model.sample(k, c))[c])(y, jax.random.split(key, x.shape[0]))
    loss = own + real * others + (1 - real) * jax.nn.softplus(fakes).mean()
    return loss, {"accuracy": accuracy, "fakes": jax.nn.sigmoid(fakes).mean()}


def one_vs_all_loss(model: Callable[[Array], Array], x: Array, y: Array, key: Array) -> tuple[Array, dict[str, Array]]:
    """`E[BCE(C_y(x), 1)] + E[BCE(C_{j ≠ y}(x), 0)]`: of any one-vs-all classifier without a shield, of classes that are equally frequent."""
    logits = jax.vmap(model)(x)
    own, others, accuracy = _real(logits, y, jnp.ones(logits.shape[-1]))
    return own + others, {"accuracy": accuracy}


def _real(logits: Array, y: Array, prior: Array) -> tuple[Array, Array, Array]:
    """The losses of real examples: of their own class, of the others, and how often the own one is the largest."""
    own = jax.nn.one_hot(y, logits.shape[-1])
    weight = (1 - own) * prior / prior[y][:, None]
    one = (own * jax.nn.softplus(-logits)).sum(1).mean()
    others = (weight * jax.nn.softplus(logits)).sum(1).mean() / (logits.shape[-1] - 1)
    return one, others, (logits.argmax(1) == y).mean()


def _check(model: Any, x: np.ndarray, y: np.ndarray | None) -> None:
    if y is None:
        raise ValueError("data must be (x, labels): UQGAN is trained on classes")
    check_labels(y, len(x), model.num_classes)


critic_loss.check = generator_loss.check = classifier_loss.check = reconstruction_loss.check = _check  # type: ignore[attr-defined]
