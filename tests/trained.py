"""Networks with real weights, each with the photograph of a cat at its size; a test that asks for one that is not here is skipped."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
import skimage.data
from skimage.transform import resize

from jxai import models
from jxai.typing import Model

NETWORKS = {
    "efficientnet_lite0": (lambda: models.efficientnet_lite(0), 224),
    "resnet20": (lambda: models.cifar_resnet(20), 32),
    "resnet56": (lambda: models.cifar_resnet(56), 32),
    "vit_pgd": (lambda: models.cifar_vit("pgd"), 32),
    "vit_ibp": (lambda: models.cifar_vit("ibp"), 32),
}


def network(name: str) -> tuple[Model, jax.Array]:
    """The network of that name, and the photograph."""
    make, size = NETWORKS[name]
    try:
        f = make()
    except (ImportError, FileNotFoundError) as missing:
        pytest.skip(str(missing))
    return f, jnp.asarray(resize(skimage.data.chelsea(), (size, size), anti_aliasing=True), jnp.float32)
