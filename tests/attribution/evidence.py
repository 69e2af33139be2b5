"""Images and scores whose evidence is known: a detector of a square."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

KEY = jax.random.key(0)
SMALL = dict(mask_scale=4, sigma=2.0, fill=0.0, jitter=2)
"""Options of `meaningful_perturbation` that fit small images."""


def square(size, top, left, side):
    region = np.zeros((size, size, 1), np.float32)
    region[top : top + side, left : left + side] = 1
    return region


def image(size):
    return np.float32(np.random.default_rng(1).uniform(0.5, 1, (size, size, 3)))


def detector(region, scale=10.0):
    """Two logits: the brightness of a region, and a threshold."""
    return lambda v: jnp.stack([scale * (region * v).sum() / region.sum() / 3, scale / 3 + 0 * v.sum()])


def around(region):
    return ndimage.binary_dilation(region[..., 0], iterations=4)[..., None]


def energy(attribution, region):
    return float((attribution * region).sum() / attribution.sum())
