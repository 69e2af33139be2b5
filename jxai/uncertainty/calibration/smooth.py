"""The smooth calibration error: gaps between confidence and outcome, smoothed by a kernel whose width the error itself chooses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jxai import loops
from jxai.callables import plainly
from jxai.typing import Array
from jxai.uncertainty.calibration.binning import sums
from jxai.uncertainty.calibration.outcomes import outcomes
from jxai.uncertainty.checks import check_positive

__all__ = ["smooth_calibration_error"]

_CELLS = 1 << 14
"""Of the grid on [0, 1] that residuals are put on; its error is below (cell / width)² / 8, 7e-5 of the value at width .0025."""


@plainly
def smooth_calibration_error(confidence: Array, correct: Array, *, width: float | Array | None = None) -> Array:
    """smECE: the calibration error after smoothing by a Gaussian kernel, reflected at 0 and 1.

    `smECE_σ = ∫₀¹ |1/n Σ_i (y_i − f_i) K_σ(t, f_i)| dt,   K_σ(t, f) = Σ_k φ_σ(t − f + 2k) + φ_σ(t + f + 2k)`.

    Without bins: it changes continuously with the confidences. By default σ is the one at which `smECE_σ = σ`, which is unique, for smECE_σ does not grow with σ.

    The kernel is the heat kernel of [0, 1] without flow at its ends, `1 + 2 Σ_k exp(−(kπσ)²/2) cos kπt cos kπf`: residuals on a fine grid are smoothed exactly by a
    cosine transform.

    Args:
      confidence: `[n]` in [0, 1]. correct: `[n]`, boolean, or numbers in [0, 1]. width: σ > 0; None finds the fixed point.

    Returns:
      `[]`: smECE_σ, equal to σ at the fixed point; 0 for outcomes equal to their confidences. Differentiable, through the fixed point, too.

    Raises:
      ValueError: other shapes, unequal lengths, numbers outside of [0, 1], or a width that is not positive.

    Range: [0, 1]
    Cost: n additions and about 30 Fourier transforms of length 32768.
    Reference: Błasiok, Nakkiran 2024, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing", ICLR. The code of its authors (relplot) integrates on
    a mesh that is 1 to 2 % high.
    """
    f, y = outcomes(confidence, correct)
    if width is not None:
        check_positive(width=width)
        return _smoothed(_waves(f, y), jnp.asarray(width, f.dtype))
    waves = _waves(f, y)
    fixed = jax.lax.stop_gradient(waves)

    def halve(_: Array, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) / 2
        above = _smoothed(fixed, middle) > middle
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    low, high = loops.fori_loop(0, 26, halve, (jnp.zeros((), f.dtype), jnp.ones((), f.dtype)))
    at = (low + high) / 2
    # One step of Newton's: it refines the value, and has the derivative of the fixed point by whatever the waves depend on.
    slope = jax.grad(lambda width: _smoothed(fixed, width))(at)
    return jnp.maximum(at + (_smoothed(waves, at) - at) / (1 - slope), 0)


def _waves(f: Array, y: Array) -> Array:
    """`1/n Σ_i (y_i − f_i) cos kπf_i` for k = 0 … cells, of residuals that the two nearest points of the grid share."""
    place = jnp.clip(f, 0, 1) * _CELLS
    cell = jnp.clip(jnp.floor(place), 0, _CELLS - 1)
    share, residual, at = place - cell, (y - f) / f.shape[0], cell.astype(jnp.int32)
    left, right = (sums(residual * part, at, _CELLS) for part in (1 - share, share))
    mass = jnp.pad(left, (0, 1)) + jnp.pad(right, (1, 0))
    return jnp.fft.rfft(mass, 2 * _CELLS).real


def _smoothed(waves: Array, width: Array) -> Array:
    decay = jnp.exp(-0.5 * (np.pi * width * np.arange(_CELLS + 1, dtype=waves.dtype)) ** 2)
    height = jnp.abs(jnp.fft.irfft(waves * decay, 2 * _CELLS)[: _CELLS + 1]) * 2  # of which the grid has one in `1 / _CELLS`
    return height.sum() - (height[0] + height[-1]) / 2
