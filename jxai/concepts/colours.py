"""How the channels of pictures go together: colours as a matrix that correlates independent ones."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai.callables import plainly
from jxai.scores import one_of, wide
from jxai.typing import Array

__all__ = ["colour_correlation"]

_NATURAL = np.asarray([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]], np.float32)
_MEAN = np.asarray([0.48, 0.46, 0.41], np.float32)
"""The root of the covariance of ImageNet's colours, and their mean, as lucid has them."""


def matrix(colours: str | Array | None, channels: int) -> Array | np.ndarray | None:
    """M `[C, C]` that takes uncorrelated channels v to the picture's, `v @ M`; None where channels stay as they are.

    Raises:
      ValueError: `"natural"` of neither one nor three channels, or an array that is not `[C, C]`.
    """
    if colours is None:
        return None
    if isinstance(colours, str):
        one_of("colours", colours, ("natural",))
        if channels == 1:
            return None
        if channels != 3:
            raise ValueError(f"colours='natural' knows pictures of 1 or 3 channels, not of {channels}: give colour_correlation(images), or None")
        return _normalised(_NATURAL).T
    if jnp.shape(colours) != (channels, channels):
        raise ValueError(f"colours has shape {jnp.shape(colours)}, but {channels} channels need ({channels}, {channels})")
    return colours


def mean(colours: str | Array | None, channels: int) -> np.ndarray:
    """The middle of a picture in [0, 1]: where colours are natural their mean, else one half."""
    return _MEAN if isinstance(colours, str) and channels == 3 else np.full(channels, 0.5, np.float32)


@plainly
def colour_correlation(images: Array) -> Array:
    """The colours of a data set for `visualize(colours=…)`: `Mᵀ = U √S / m` of the covariance `U S Uᵀ` of its pixels, m the largest norm of a column of `U √S`.

    `"natural"` is this matrix of ImageNet. For a data set without colour, or with other channels than red, green and blue.

    Args:
      images: `[n, H, W, C]`.

    Returns:
      `[C, C]`, M: uncorrelated channels v become `v @ M`.

    Raises:
      ValueError: no such array; where it is concrete, channels of which one does not vary or follows from the others.
    """
    shape = jnp.shape(images)
    if len(shape) != 4 or 0 in shape or not jnp.issubdtype(jnp.result_type(images), jnp.floating):
        raise ValueError(f"images must be floating-point [n, H, W, C], got {getattr(images, 'dtype', type(images).__name__)} of shape {shape}")
    pixels = wide(jnp.asarray(images)).reshape(-1, shape[3])
    centred = pixels - pixels.mean(0)
    covariance = jnp.matmul(centred.T, centred, precision="highest") / len(pixels)
    values, vectors = jnp.linalg.eigh(covariance)
    if not isinstance(values, jax.core.Tracer) and not float(values[0]) > 1e-7 * float(values[-1]):
        raise ValueError("images must have channels that vary independently, but one of them does not vary or follows from the others: colours=None")
    return _normalised(vectors * jnp.sqrt(jnp.maximum(values, 0))).T


def _normalised(root: Any) -> Any:
    """A matrix over the largest norm of its columns."""
    return root / (root**2).sum(0).max() ** 0.5
