"""How the generators are made, trained and judged; and a trained one, read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jxai import checkpoint, models
from jxai.models.adversarial import adversarial_autoencoder, critic_loss, wgan_gp
from jxai.models.coders import given


class Recipe(NamedTuple):
    """How a model is made, trained and judged."""

    build: Callable[[Any, tuple[int, ...], nnx.Rngs], Any]
    loss: Callable[[Any, int], Any]
    """`(config, examples) -> loss or parts`."""
    measure: str
    """A key of `MEASURES`."""
    steps: int
    batch_size: int


def recipes() -> dict[str, Recipe]:
    """All models by name."""

    def vae(kind: Callable, *more: Any) -> Recipe:
        return Recipe(lambda c, shape, rngs: kind(shape, *more, rngs=rngs), lambda c, n: models.vae_loss, "reconstruction_mse", 10_000, 128)

    def flow(make: Callable) -> Recipe:
        return Recipe(make, lambda c, n: functools.partial(models.likelihood_loss, levels=levels(c)), "bits_per_dim", 10_000, 32)

    def tc(c: Any, n: int) -> Callable:
        return functools.partial(models.tc_vae_loss, num_examples=n)

    def glow(c: Any, shape: tuple[int, ...], rngs: nnx.Rngs) -> models.Glow:
        return models.Glow(shape, steps=c.depth, hidden=c.hidden, scale="tanh", rngs=rngs)

    def realnvp(c: Any, shape: tuple[int, ...], rngs: nnx.Rngs) -> models.RealNVP:
        return models.RealNVP(shape, couplings=max(1, c.depth // 2), hidden=c.hidden, depth=1, rngs=rngs)

    return {
        "vae": vae(models.VAE),
        "conv_vae": vae(models.ConvVAE),
        "conditional_vae": vae(models.ConditionalVAE, 10),
        "btcvae": Recipe(lambda c, shape, rngs: models.BurgessVAE(32, shape[-1], rngs=rngs), tc, "reconstruction_mse", 10_000, 64),
        "adversarial_autoencoder": Recipe(
            lambda c, shape, rngs: models.AdversarialAutoencoder(shape, rngs=rngs), lambda c, n: adversarial_autoencoder(), "reconstruction_mse", 10_000, 128
        ),
        "wgan_gp": Recipe(lambda c, shape, rngs: models.GAN(shape, rngs=rngs), lambda c, n: wgan_gp(), "distance", 20_000, 64),
        "conditional_gan": Recipe(lambda c, shape, rngs: models.ConditionalGAN(shape, 10, rngs=rngs), lambda c, n: wgan_gp(), "distance", 20_000, 64),
        "realnvp": flow(realnvp),
        "glow": flow(glow),
    }


def _mse(c: Any, model: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
    view = given(model, y)
    return ((view.decode(view.encode(x)) - x) ** 2).mean()


def _bits(c: Any, model: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
    return model.bits_per_dim(x, key, levels=levels(c))


def _distance(c: Any, model: Any, x: jax.Array, y: jax.Array, key: jax.Array) -> jax.Array:
    return critic_loss(model, x[None], y[None], key, penalty=0.0)[1]["distance"]


MEASURES = {"reconstruction_mse": _mse, "bits_per_dim": _bits, "distance": _distance}


def levels(config: Any) -> int:
    """The values that a pixel of the data set takes."""
    return 17 if config.dataset == "digits" else 256


def load(folder: str | Path) -> Any:
    """The model that a run has trained, from its folder, `jxai.evaluate.record.folder(config)`.

    Raises:
      FileNotFoundError: no whole model there.
    """

    def like(step: int, extra: dict[str, Any]) -> Any:
        config = SimpleNamespace(**extra["config"])
        return nnx.eval_shape(lambda: recipes()[config.model].build(config, tuple(extra["shape"]), nnx.Rngs(0)))

    found = checkpoint.restore(Path(folder) / "model", like)
    if found is None:
        raise FileNotFoundError(f"no trained model in {Path(folder) / 'model'}; experiments/training/train.py makes one")
    return jax.tree.map(jnp.asarray, found.tree)
