"""One picture, corrupted: the same for the same pixels and seed, whatever was drawn before."""

from __future__ import annotations

import contextlib
import importlib
import threading
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from jxai.data.corruptions import cifar10c
from jxai.data.corruptions.names import CIFAR10C, CORRUPTIONS, NOISES, PARAMETERS
from jxai.scores import one_of

_SMALL = 32
"""Pixels a side of CIFAR's pictures; the package takes none that are smaller."""
_LOCK = threading.Lock()


def corrupt(pixels: np.ndarray, name: str, severity: int, *, seed: int | Sequence[int] = 0, parameters: str | None = None) -> np.ndarray:
    """A picture spoilt by one of `CORRUPTIONS`.

    Args:
      pixels: `[H, W, 3]` or `[H, W, 1]` uint8. A grey picture is spoilt as one of three equal channels, of which the luminance is taken; noise is drawn for its one.
      name: of `CORRUPTIONS`. severity: 1 to 5.
      seed: one integer or several; equal ones give equal draws at every severity.
      parameters: how strong a severity is: `"imagenet-c"`, as the package `imagecorruptions-imaug` has it; `"cifar-10-c"`, which is milder; None takes
        the latter of pictures up to 32 pixels a side, for which it is made.

    Returns:
      uint8 of the shape of `pixels`.

    Raises:
      ImportError: the package is not installed.
      ValueError: pixels of another shape or type, an unknown name, severity or `parameters`, ImageNet-C's of a picture below 32 pixels a side.

    Reference: Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR.
    """
    check(name, severity, parameters)
    pixels = np.asarray(pixels)
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3) or pixels.dtype != np.uint8 or 0 in pixels.shape:
        raise ValueError(f"{name} is of pixels [H, W, 3] or [H, W, 1] uint8, got {pixels.dtype} {pixels.shape}")
    if parameters is None:
        parameters = PARAMETERS[max(pixels.shape[:2]) <= _SMALL]
    elif parameters == "imagenet-c" and min(pixels.shape[:2]) < _SMALL:
        raise ValueError(f"{parameters=} needs pictures of at least {_SMALL} pixels a side, got {pixels.shape}; take 'cifar-10-c'")
    single = pixels.shape[-1] == 1
    given = pixels if not single or name in NOISES else np.repeat(pixels, 3, -1)
    words = np.random.SeedSequence([zlib.crc32(name.encode()), *np.atleast_1d(seed).tolist()]).generate_state(4)
    made = (_cifar if parameters == "cifar-10-c" else _imagenet)(given, name, severity, words)
    if not np.isfinite(made).all():
        raise ValueError(f"{name}:{severity} of a picture of shape {pixels.shape} is not finite by the formula of {parameters}")
    made = made.reshape(given.shape)
    # Truncated, as the published data are.
    return (made @ [[0.299], [0.587], [0.114]] + 1e-6 if made.shape != pixels.shape else made).astype(np.uint8)


def check(name: str, severity: int, parameters: str | None) -> None:
    """Raises as `corrupt` does of these."""
    package()
    one_of("corruption", name, CORRUPTIONS)
    if isinstance(severity, bool) or severity not in (1, 2, 3, 4, 5):
        raise ValueError(f"{severity=} of {name} must be 1, 2, 3, 4 or 5")
    if parameters is not None:
        one_of("parameters", parameters, PARAMETERS)


def package() -> Any:
    """The package's module; ImportError that says how to get it."""
    try:
        return importlib.import_module("imagecorruptions")
    except ImportError:
        raise ImportError("corruptions need imagecorruptions-imaug: pip install 'jxai[corruptions]'") from None


def _cifar(pixels: np.ndarray, name: str, severity: int, words: np.ndarray) -> np.ndarray:
    with _drawn_from(words):
        made = getattr(cifar10c, name)(pixels / 255, np.random.default_rng(words), *CIFAR10C[name][severity - 1])
    return np.clip(made, 0, 1) * 255 + 1e-6  # a whole number may have become a little less in between


def _imagenet(pixels: np.ndarray, name: str, severity: int, words: np.ndarray) -> np.ndarray:
    from PIL import Image

    # These two draw from generators of their own.
    own = {"seed": int(words[0])} if name in ("impulse_noise", "glass_blur") else {}
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    with _drawn_from(words), contextlib.redirect_stdout(None):
        return np.asarray(package().corruption_dict[name](image, severity, **own), np.float64)


@contextlib.contextmanager
def _drawn_from(words: np.ndarray) -> Iterator[None]:
    """NumPy's global generator, from which the package draws, at this seed; it goes on afterwards where it was."""
    with _LOCK:
        state = np.random.get_state()  # noqa: NPY002
        np.random.seed(words)  # noqa: NPY002
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002
