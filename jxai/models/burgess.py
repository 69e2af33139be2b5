"""The convolutional autoencoder of the literature on disentangling, and trained ones."""

from __future__ import annotations

import os

import jax.numpy as jnp
from flax import nnx

from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.layers import linear
from jxai.models.vae import VAE
from jxai.scores import one_of

__all__ = ["BurgessVAE", "btcvae"]

SIDES = (32, 64)
TRAINED = {"mnist": (32, 1), "celeba": (64, 3)}


class BurgessVAE(VAE):
    """A `VAE` of images 32×32 or 64×64: 4×4 convolutions with 32 channels at stride 2 down to 4×4, linear layers 256–256, and all that in reverse.

    Args:
      side: 32 or 64. channels: of the images. latent: numbers in z, >= 1.

    Raises:
      ValueError: another side, sizes below 1.

    Reference: Burgess et al. 2018, "Understanding disentangling in β-VAE", arXiv 1804.03599.
    """

    def __init__(self, side: int = 32, channels: int = 1, latent: int = 10, *, rngs: nnx.Rngs):
        one_of("side", side, SIDES)
        super().__init__((side, side, channels), latent=latent, hidden=(256, 256), features=(32,) * (3 if side == 32 else 4), rngs=rngs)


def btcvae(data: str = "mnist", path: str | os.PathLike | None = None) -> BurgessVAE:
    """Returns the network trained as a β-TCVAE (YannDubs/disentangling-vae, MIT).

    Args:
      data: "mnist" (`x [32, 32, 1]`, digits resized bilinearly) or "celeba" (`x [64, 64, 3]`).
      path: the file `btcvae_{data}.npz` or its folder; None searches as `weights.find` says.

    Raises:
      ValueError: unknown data, or weights that do not fit. FileNotFoundError: no such file.
    """
    side, channels = TRAINED[one_of("data", data, TRAINED)]
    model = nnx.eval_shape(lambda: BurgessVAE(side, channels, rngs=nnx.Rngs(0)))
    arrays = weight_files.read(weights.find(f"btcvae_{data}.npz", path))
    pair = lambda name: (arrays[f"{name}.weight"], arrays[f"{name}.bias"])
    large = side == 64
    for layer, name in zip(model.encoder.convs, ("conv1", "conv2", "conv3", *["conv_64"] * large), strict=True):
        layer.load(*pair(f"encoder.{name}"))
    for layer, name in zip(model.decoder.convs, (*["convT_64"] * large, "convT1", "convT2", "convT3"), strict=True):
        layer.load(*pair(f"decoder.{name}"))
    # PyTorch flattens channels first.
    kernel, bias = pair("encoder.lin1")
    linear(model.encoder.layers[0], kernel.reshape(-1, 32, 4, 4).transpose(0, 2, 3, 1).reshape(256, -1), bias)
    linear(model.encoder.layers[1], *pair("encoder.lin2"))
    # Means and log-variances alternate there; here the means come first.
    linear(model.encoder.layers[2], *(jnp.concatenate([v[::2], v[1::2]]) for v in pair("encoder.mu_logvar_gen")))
    linear(model.decoder.layers[0], *pair("decoder.lin1"))
    linear(model.decoder.layers[1], *pair("decoder.lin2"))
    kernel, bias = pair("decoder.lin3")
    linear(
        model.decoder.layers[2],
        kernel.reshape(32, 4, 4, 256).transpose(1, 2, 0, 3).reshape(-1, 256),
        bias.reshape(32, 4, 4).transpose(1, 2, 0).reshape(-1),
    )
    return model
