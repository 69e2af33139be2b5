"""Generative adversarial networks, plain and conditional, and the adversarial autoencoder; their losses are in `adversarial`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import jax
from flax import nnx

from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.coders import Decoder, Encoder, condition
from jxai.models.layers import linear
from jxai.scores import need_key, positive
from jxai.typing import Array

__all__ = ["GAN", "AdversarialAutoencoder", "ConditionalGAN", "mnist_gan"]


class GAN(nnx.Module):
    """A generator of examples in [0, 1] from `z ~ N(0, I)`, and the critic that it was trained against.

    It has no encoder: `Inverted(gan)` gives it one.

    Args:
      shape: of x. latent: numbers in z, >= 1.
      hidden: widths of the generator's linear layers; the critic has them in reverse.
      features: channels before each of the generator's transposed 4×4 convolutions at stride 2, none by default; the critic's convolve in reverse.

    Raises:
      ValueError: sizes below 1, sides of an image that cannot be halved that often.

    Reference: Goodfellow et al. 2014, "Generative Adversarial Nets", NeurIPS.
    """

    def __init__(self, shape: Sequence[int], *, latent: int = 64, hidden: Sequence[int] = (256, 256), features: Sequence[int] = (), rngs: nnx.Rngs):
        self.shape, self.latent = tuple(shape), latent
        self.generator = Decoder(shape, latent, hidden, features, rngs=rngs)
        self.critic = Encoder(shape, 1, hidden[::-1], features[::-1], activation=_leaky, rngs=rngs)

    def decode(self, z: Array) -> Array:
        """`[*shape]`: the pixels, in [0, 1]."""
        return jax.nn.sigmoid(self.generator(z))

    def sample(self, key: Array) -> Array:
        """`decode(z)` with z of the prior."""
        return self.decode(jax.random.normal(need_key(key, "sample"), (self.latent,)))

    def score(self, x: Array) -> Array:
        """`[]`: the critic's, larger for what it takes for data; of a network trained with a cross-entropy, the logit of that."""
        return self.critic(x)[0]


class ConditionalGAN(nnx.Module):
    """A `GAN` whose generator and critic see a class y too.

    y is an integer class (NaN comes of one out of range under a trace) or a vector of probabilities `[num_classes]`. `given(y)` is a plain `GAN` to use.

    Args:
      num_classes: >= 1. The others as in `GAN`.

    Reference: Mirza and Osindero 2014, "Conditional Generative Adversarial Nets", arXiv 1411.1784.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int,
        *,
        latent: int = 64,
        hidden: Sequence[int] = (256, 256),
        features: Sequence[int] = (),
        rngs: nnx.Rngs,
    ):
        positive(num_classes=num_classes)
        self.shape, self.latent, self.num_classes = tuple(shape), latent, num_classes
        self.generator = Decoder(shape, latent, hidden, features, num_classes=num_classes, rngs=rngs)
        self.critic = Encoder(shape, 1, hidden[::-1], features[::-1], num_classes=num_classes, activation=_leaky, rngs=rngs)

    def decode(self, z: Array, y: int | Array) -> Array:
        """`[*shape]`: the pixels, in [0, 1]."""
        return jax.nn.sigmoid(self.generator(z, condition(y, self.num_classes)))

    def sample(self, key: Array, y: int | Array) -> Array:
        """`decode(z, y)` with z of the prior."""
        return self.decode(jax.random.normal(need_key(key, "sample"), (self.latent,)), y)

    def score(self, x: Array, y: int | Array) -> Array:
        """`[]`: the critic's, larger for what it takes for data of class y."""
        return self.critic(x, condition(y, self.num_classes))[0]

    def given(self, y: int | Array) -> GivenGAN:
        """The generator of the examples of class y."""
        return GivenGAN(self, condition(y, self.num_classes))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GivenGAN:
    """A `ConditionalGAN` at one y: the methods of a `GAN`."""

    model: ConditionalGAN
    y: Array
    """`[num_classes]`."""

    shape = property(lambda self: self.model.shape)
    latent = property(lambda self: self.model.latent)

    def decode(self, z: Array) -> Array:
        return self.model.decode(z, self.y)

    def sample(self, key: Array) -> Array:
        return self.model.sample(key, self.y)

    def score(self, x: Array) -> Array:
        return self.model.score(x, self.y)


class AdversarialAutoencoder(nnx.Module):
    """An autoencoder of examples in [0, 1] whose z is held to N(0, I) by a critic of z.

    Args:
      critic: widths of the critic's hidden layers. The others as in `VAE`.

    Raises:
      ValueError: as `VAE`.

    Reference: Makhzani et al. 2015, "Adversarial Autoencoders", arXiv 1511.05644.
    """

    def __init__(
        self,
        shape: Sequence[int],
        *,
        latent: int = 20,
        hidden: Sequence[int] = (400,),
        features: Sequence[int] = (),
        critic: Sequence[int] = (128, 128),
        rngs: nnx.Rngs,
    ):
        positive(latent=latent)
        self.shape, self.latent = tuple(shape), latent
        self.encoder = Encoder(shape, latent, hidden, features, rngs=rngs)
        self.decoder = Decoder(shape, latent, hidden[::-1], features[::-1], rngs=rngs)
        self.critic = Encoder((latent,), 1, critic, activation=_leaky, rngs=rngs)

    def encode(self, x: Array) -> Array:
        """`[latent]`."""
        return self.encoder(x)

    def logits(self, z: Array) -> Array:
        """`[*shape]`: the logits of the pixels."""
        return self.decoder(z)

    def decode(self, z: Array) -> Array:
        """`[*shape]`: the pixels, in [0, 1]."""
        return jax.nn.sigmoid(self.logits(z))

    def sample(self, key: Array) -> Array:
        """`decode(z)` with z of the prior."""
        return self.decode(jax.random.normal(need_key(key, "sample"), (self.latent,)))

    def score(self, z: Array) -> Array:
        """`[]`: the critic's logit that z is of the prior rather than of the encoder."""
        return self.critic(z)[0]


def mnist_gan(path: str | os.PathLike | None = None) -> GAN:
    """Returns the `GAN` trained on MNIST digits with a cross-entropy (csinva/gan-vae-pretrained-pytorch, MIT): `x [28, 28, 1]`, latent 64.

    Args:
      path: the folder of `mnist_gan_generator.npz` and `mnist_gan_discriminator.npz`; None searches as `weights.find` says.

    Raises:
      ValueError: weights that do not fit, a path that is no folder. FileNotFoundError: no such file.
    """
    if path is not None and os.path.isfile(path):
        raise ValueError(f"{path=} must be the folder of mnist_gan_generator.npz and mnist_gan_discriminator.npz")
    model = nnx.eval_shape(lambda: GAN((28, 28, 1), rngs=nnx.Rngs(0)))
    for network, name in ((model.generator, "generator"), (model.critic, "discriminator")):
        arrays = weight_files.read(weights.find(f"mnist_gan_{name}.npz", path))
        for n, layer in enumerate(network.layers):
            kernel, bias = arrays[f"{2 * n}.weight"], arrays[f"{2 * n}.bias"]
            if name == "generator" and n == 2:
                kernel, bias = 2 * kernel, 2 * bias  # (tanh(a) + 1) / 2 = σ(2a)
            if name == "discriminator" and n == 0:
                kernel, bias = 2 * kernel, bias - kernel.sum(1)  # it takes pixels 2x − 1
            linear(layer, kernel, bias)
    return model


def _leaky(x: Array) -> Array:
    return nnx.leaky_relu(x, 0.2)
