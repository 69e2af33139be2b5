"""The trained generators by name, for the command line, tests and experiments."""

from collections.abc import Callable
from typing import Any

from jxai.models.burgess import btcvae
from jxai.models.digits import digits_vae
from jxai.models.gan import mnist_gan
from jxai.models.inversion import Inverted
from jxai.models.vae import mnist_vae

__all__ = ["generators"]


def generators() -> dict[str, Callable[[], Any]]:
    """What makes each of the trained generators: an object with `decode(z) -> x` and `encode(x) -> z`.

    Each raises ImportError, FileNotFoundError or ValueError where its weights are missing or damaged.
    """
    return {
        "btcvae_celeba": lambda: btcvae("celeba"),
        "btcvae_mnist": lambda: btcvae("mnist"),
        "digits_vae": digits_vae,
        "mnist_gan": lambda: Inverted(mnist_gan(), penalty=0.1),
        "mnist_vae": mnist_vae,
    }
