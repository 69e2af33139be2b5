"""Variational autoencoders, plain and conditional; their losses are in `variational`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.coders import Decoder, Encoder, condition
from jxai.models.layers import linear
from jxai.scores import need_key, positive
from jxai.typing import Array

__all__ = ["VAE", "ConditionalVAE", "ConvVAE", "mnist_vae"]


class VAE(nnx.Module):
    """A variational autoencoder of examples in [0, 1]: `q(z | x) = N(mean(x), diag exp(log_variance(x)))`, `p(z) = N(0, I)`, pixels `σ(logits(z))`.

    Args:
      shape: of x. latent: numbers in z, >= 1.
      hidden: widths of the encoder's linear layers; the decoder has them in reverse.
      features: channels of the encoder's 4×4 convolutions at stride 2, none by default; the decoder transposes them.

    Raises:
      ValueError: sizes below 1, sides of an image that cannot be halved that often.

    Reference: Kingma and Welling 2014, "Auto-Encoding Variational Bayes", ICLR, arXiv 1312.6114.
    """

    def __init__(self, shape: Sequence[int], *, latent: int = 20, hidden: Sequence[int] = (400,), features: Sequence[int] = (), rngs: nnx.Rngs):
        positive(latent=latent)
        self.shape, self.latent = tuple(shape), latent
        self.encoder = Encoder(shape, 2 * latent, hidden, features, rngs=rngs)
        self.decoder = Decoder(shape, latent, hidden[::-1], features[::-1], rngs=rngs)

    def encode_distribution(self, x: Array) -> tuple[Array, Array]:
        """`(mean [latent], log_variance [latent])` of `q(z | x)`."""
        mean, log_variance = jnp.split(self.encoder(x), 2)
        return mean, log_variance

    def encode(self, x: Array) -> Array:
        """`[latent]`: the mean of `q(z | x)`."""
        return self.encode_distribution(x)[0]

    def logits(self, z: Array) -> Array:
        """`[*shape]`: the logits of the pixels."""
        return self.decoder(z)

    def decode(self, z: Array) -> Array:
        """`[*shape]`: the pixels, in [0, 1]."""
        return jax.nn.sigmoid(self.logits(z))

    def sample(self, key: Array) -> Array:
        """`decode(z)` with z of the prior."""
        return self.decode(jax.random.normal(need_key(key, "sample"), (self.latent,)))


class ConvVAE(VAE):
    """A `VAE` with convolutions: images whose sides halve as often as `features` says (28×28 and 32×32 twice)."""

    def __init__(self, shape: Sequence[int], *, latent: int = 20, hidden: Sequence[int] = (256,), features: Sequence[int] = (32, 64), rngs: nnx.Rngs):
        super().__init__(shape, latent=latent, hidden=hidden, features=features, rngs=rngs)


class ConditionalVAE(nnx.Module):
    """A `VAE` whose encoder and decoder see a class y too: `q(z | x, y)` and `p(x | z, y)`, while z stays N(0, I) whatever y is.

    y is an integer class (NaN comes of one out of range under a trace) or a vector of probabilities `[num_classes]`. `given(y)` is a plain `VAE` to use.

    Args:
      num_classes: >= 1. The others as in `VAE`.

    Reference: Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models", NeurIPS.
    """

    def __init__(
        self,
        shape: Sequence[int],
        num_classes: int,
        *,
        latent: int = 20,
        hidden: Sequence[int] = (400,),
        features: Sequence[int] = (),
        rngs: nnx.Rngs,
    ):
        positive(latent=latent, num_classes=num_classes)
        self.shape, self.latent, self.num_classes = tuple(shape), latent, num_classes
        self.encoder = Encoder(shape, 2 * latent, hidden, features, num_classes=num_classes, rngs=rngs)
        self.decoder = Decoder(shape, latent, hidden[::-1], features[::-1], num_classes=num_classes, rngs=rngs)

    def encode_distribution(self, x: Array, y: int | Array) -> tuple[Array, Array]:
        """`(mean [latent], log_variance [latent])` of `q(z | x, y)`."""
        mean, log_variance = jnp.split(self.encoder(x, condition(y, self.num_classes)), 2)
        return mean, log_variance

    def encode(self, x: Array, y: int | Array) -> Array:
        """`[latent]`: the mean of `q(z | x, y)`."""
        return self.encode_distribution(x, y)[0]

    def logits(self, z: Array, y: int | Array) -> Array:
        """`[*shape]`: the logits of the pixels."""
        return self.decoder(z, condition(y, self.num_classes))

    def decode(self, z: Array, y: int | Array) -> Array:
        """`[*shape]`: the pixels, in [0, 1]."""
        return jax.nn.sigmoid(self.logits(z, y))

    def sample(self, key: Array, y: int | Array) -> Array:
        """`decode(z, y)` with z of the prior."""
        return self.decode(jax.random.normal(need_key(key, "sample"), (self.latent,)), y)

    def given(self, y: int | Array) -> GivenVAE:
        """The generator of the examples of class y."""
        return GivenVAE(self, condition(y, self.num_classes))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class GivenVAE:
    """A `ConditionalVAE` at one y: the methods of a `VAE`."""

    model: ConditionalVAE
    y: Array
    """`[num_classes]`."""

    shape = property(lambda self: self.model.shape)
    latent = property(lambda self: self.model.latent)

    def encode_distribution(self, x: Array) -> tuple[Array, Array]:
        return self.model.encode_distribution(x, self.y)

    def encode(self, x: Array) -> Array:
        return self.model.encode(x, self.y)

    def logits(self, z: Array) -> Array:
        return self.model.logits(z, self.y)

    def decode(self, z: Array) -> Array:
        return self.model.decode(z, self.y)

    def sample(self, key: Array) -> Array:
        return self.model.sample(key, self.y)


def mnist_vae(path: str | os.PathLike | None = None) -> VAE:
    """Returns the `VAE` 784–400–20–400–784 trained on MNIST digits (csinva/gan-vae-pretrained-pytorch, MIT): `x [28, 28, 1]`, latent 20.

    Args:
      path: the file `mnist_vae.npz` or its folder; None searches as `weights.find` says.

    Raises:
      ValueError: weights that do not fit. FileNotFoundError: no such file.
    """
    model = nnx.eval_shape(lambda: VAE((28, 28, 1), rngs=nnx.Rngs(0)))
    arrays = weight_files.read(weights.find("mnist_vae.npz", path))
    join = lambda part: jnp.concatenate([arrays[f"fc21.{part}"], arrays[f"fc22.{part}"]])
    linear(model.encoder.layers[0], arrays["fc1.weight"], arrays["fc1.bias"])
    linear(model.encoder.layers[1], join("weight"), join("bias"))
    linear(model.decoder.layers[0], arrays["fc3.weight"], arrays["fc3.bias"])
    linear(model.decoder.layers[1], arrays["fc4.weight"], arrays["fc4.bias"])
    return model
