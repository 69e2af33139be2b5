"""What is optimised in place of pixels: numbers in which steps of equal size change pictures as natural images vary.

Pixels that are optimised by themselves give noise of high frequency. A spectrum whose entries are divided by their frequency, and colours without the
correlation that they have in photographs, give gradients what photographs have.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jxai import loops
from jxai.callables import plainly
from jxai.concepts.colours import matrix
from jxai.concepts.transformations import Crops, Transformation, Views
from jxai.scores import wide, within
from jxai.typing import Array, PyTree

__all__ = ["Fourier", "Maco", "Parametrisation", "Pixel", "Settings", "magnitude_spectrum"]

_STATIC = {"static": True}
_EPSILON = 1e-5
"""Added to standard deviations that divide, as in Xplique."""


class Settings(NamedTuple):
    """What `visualize` takes where it is given nothing else."""

    learning_rate: float
    """Of the optimiser."""
    optimizer: Callable[..., optax.GradientTransformation]
    """Made of the learning rate."""
    transformations: Transformation
    """Under which the picture is looked at."""
    num_samples: int
    """Such views in each step."""


class Parametrisation(Protocol):
    """A picture `[H, W, C]` as a function of parameters."""

    settings: Settings
    """Those that suit it."""

    def start(self, shape: tuple[int, int, int], key: Array) -> PyTree:
        """The parameters to start from, of a picture of this shape."""
        ...

    def buffer(self, parameters: PyTree, shape: tuple[int, int, int]) -> Array:
        """The picture of these parameters, `[H, W, C]`: real numbers around 0, its colours uncorrelated. Its `inverse(buffer) -> parameters`, where there is one,
        lets a search begin at a picture."""
        ...


_LUCID = Settings(0.05, optax.adam, Views(), 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Pixel:
    """Pixels by themselves, from `N(0, sigma²)`: what the others are compared with."""

    sigma: float = dataclasses.field(default=0.01, metadata=_STATIC)
    """Standard deviation of the start, at least 0."""
    settings: ClassVar[Settings] = _LUCID

    def __post_init__(self) -> None:
        within(0.0, np.inf, sigma=self.sigma)

    def start(self, shape: tuple[int, int, int], key: Array) -> Array:
        """`[H, W, C]`."""
        return self.sigma * jax.random.normal(key, shape, jnp.float32)

    def buffer(self, parameters: Array, shape: tuple[int, int, int]) -> Array:
        """The parameters themselves."""
        return parameters

    def inverse(self, buffer: Array) -> Array:
        """The parameters of a picture that is given."""
        return buffer


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fourier:
    """The spectrum, divided by its frequencies: `irfft2(a ⊙ z) / 4` with `a = √(H W) / max(|f|, 1 / max(H, W))^decay`, z from `N(0, sigma²)`.

    A frequency f is in cycles per pixel. Of odd width the transform is exact (lucid makes one column more, and cuts it off).
    Olah et al. 2017, "Feature Visualization", Distill; the numbers are those of lucid.
    """

    decay: float = dataclasses.field(default=1.0, metadata=_STATIC)
    """How fast high frequencies fall off, at least 0; photographs have 1."""
    sigma: float = dataclasses.field(default=0.01, metadata=_STATIC)
    """Standard deviation of the start, at least 0."""
    settings: ClassVar[Settings] = _LUCID

    def __post_init__(self) -> None:
        within(0.0, np.inf, decay=self.decay, sigma=self.sigma)

    def start(self, shape: tuple[int, int, int], key: Array) -> Array:
        """`[2, H, ⌊W / 2⌋ + 1, C]`: real and imaginary parts."""
        return self.sigma * jax.random.normal(key, (2, *_spectral(shape)), jnp.float32)

    def buffer(self, parameters: Array, shape: tuple[int, int, int]) -> Array:
        """The inverse transform of the scaled spectrum."""
        return jnp.fft.irfft2(self._scale(shape) * jax.lax.complex(parameters[0], parameters[1]), shape[:2], axes=(0, 1)) / 4

    def inverse(self, buffer: Array) -> Array:
        """The parameters of a picture that is given."""
        spectrum = 4 * jnp.fft.rfft2(buffer, axes=(0, 1)) / self._scale(buffer.shape)
        return jnp.stack([spectrum.real, spectrum.imag])

    def _scale(self, shape: tuple[int, ...]) -> Array:
        return jnp.asarray(math.sqrt(shape[0] * shape[1]) * falling(shape, self.decay), jnp.float32)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Maco:
    """Only the phases φ, from N(0, 1): the magnitude of the spectrum stays that of natural images, `irfft2(magnitude ⊙ exp(i φ̂))`, standardised.

    φ̂ is φ standardised over all its entries, and odd on the columns that are their own mirror image, so that the magnitude of the picture is the one that is
    given, to rounding (Xplique leaves them as they are, and loses some there).
    Fel et al. 2023, "Unlocking Feature Visualization for Deeper Networks with MAgnitude Constrained Optimization", NeurIPS; the numbers are those of Xplique.
    """

    magnitude: Array | None = None
    """`[H, ⌊W / 2⌋ + 1, C]`, at least 0, from `magnitude_spectrum`; None: one over the frequency, the same for all channels."""
    settings: ClassVar[Settings] = Settings(1.0, optax.nadam, Crops(), 32)

    def start(self, shape: tuple[int, int, int], key: Array) -> Array:
        """`[H, ⌊W / 2⌋ + 1, C]`: angles."""
        if self.magnitude is not None and jnp.shape(self.magnitude) != _spectral(shape):
            raise ValueError(
                f"magnitude has shape {jnp.shape(self.magnitude)}, but a picture of {shape} has a spectrum of {_spectral(shape)}: "
                f"magnitude_spectrum(images, size={shape[:2]})"
            )
        return jax.random.normal(key, _spectral(shape), jnp.float32)

    def buffer(self, parameters: Array, shape: tuple[int, int, int]) -> Array:
        """The inverse transform, with mean 0 and standard deviation 1 over all entries."""
        magnitude = falling(shape, 1.0) if self.magnitude is None else self.magnitude
        phase = _odd(_standard(parameters), shape[1])
        magnitude = jnp.asarray(magnitude, jnp.float32)
        return _standard(jnp.fft.irfft2(magnitude * jax.lax.complex(jnp.cos(phase), jnp.sin(phase)), shape[:2], axes=(0, 1)))


@plainly
def magnitude_spectrum(images: Array, size: tuple[int, int] | None = None, *, colours: str | Array | None = "natural") -> Array:
    """What `Maco` holds fixed: the mean magnitude of the spectra of pictures, `1/n Σ_i |rfft2(x_i M⁻¹)|`, their colours uncorrelated.

    It is computed where it is used, among uncorrelated colours (Xplique takes the pictures as they are, and correlates the result once more).

    Args:
      images: `[n, H, W, C]`, in the range in which pictures are made. size: `(H', W')` to which they are scaled first; None leaves them.
      colours: as in `visualize`: how M correlates the channels.

    Returns:
      `[H', ⌊W' / 2⌋ + 1, C]`, at least 0.

    Raises:
      ValueError: no pictures, or colours that do not fit them.
    """
    shape = jnp.shape(images)
    if len(shape) != 4 or 0 in shape or not jnp.issubdtype(jnp.result_type(images), jnp.floating):
        raise ValueError(f"images must be floating-point [n, H, W, C], got {getattr(images, 'dtype', type(images).__name__)} of shape {shape}")
    images = jnp.asarray(images)
    target = (*(shape[1:3] if size is None else size), shape[3])
    mixed = matrix(colours, shape[3])
    apart = jnp.eye(shape[3]) if mixed is None else jnp.linalg.inv(wide(jnp.asarray(mixed)))

    def one(i: Array) -> Array:
        image = wide(images[i])
        image = image if image.shape == target else jax.image.resize(image, target, "linear")
        return jnp.abs(jnp.fft.rfft2(jnp.matmul(image, apart, precision="highest"), axes=(0, 1)))

    return loops.means(one, shape[0], loops.at_once(images[0], None))


def falling(shape: tuple[int, ...], decay: float) -> np.ndarray:
    """`1 / max(|f|, 1 / max(H, W))^decay` of the frequencies of a real picture, `[H, ⌊W / 2⌋ + 1, 1]`."""
    height, width = shape[:2]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    return (np.maximum(frequency, 1 / max(height, width)) ** -decay)[..., None]


def _spectral(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return shape[0], shape[1] // 2 + 1, shape[2]


def _standard(v: Array) -> Array:
    centred = v - v.mean()
    square = (centred**2).mean()
    # The root of 0 has no derivative: a picture of one pixel varies by nothing.
    return centred / (jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0) + _EPSILON)


def _odd(phase: Array, width: int) -> Array:
    """Phases, odd in the frequency where a column's mirror image is the column itself (0, and the last of an even width), as a real picture's are."""
    own = np.zeros(phase.shape[1], bool)
    own[0] = True
    own[-1] |= width % 2 == 0
    mirrored = jnp.roll(phase[::-1], 1, 0)  # −f in the place of f
    return jnp.where(own[None, :, None], (phase - mirrored) / math.sqrt(2), phase)
