"""A data set whose pictures are corrupted when they are read."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.metadata
import operator
from collections.abc import Sequence

from jxai.data.corruptions.picture import check, corrupt
from jxai.data.derived import Derived
from jxai.data.sources import Example, Source

_BESIDE = ("cv2", "skimage", "scipy", "numpy", "PIL")
"""Modules by whose versions pictures may differ, too."""


def corrupted(source: Source, name: str, severity: int, *, seed: int = 0, parameters: str | None = None) -> Source:
    """The data set with every picture spoilt by `corrupt`, when it is read; nothing is kept.

    Args:
      source: a data set of pixels. name, severity, parameters: see `corrupt`.
      seed: of the draws: example i has those of (seed, i), the same at every severity, in whatever order and process it is read.

    Returns:
      A source of the same labels, masks and names.

    Raises:
      ValueError, ImportError: as `corrupt`; of the pixels, when an example is read.
    """
    check(name, severity, parameters)
    return _Corrupted(source, name, operator.index(severity), operator.index(seed), parameters)


class _Corrupted(Derived):
    def __init__(self, source: Source, name: str, severity: int, seed: int, parameters: str | None):
        told = [f"seed {seed}"] * (seed != 0) + [parameters] * (parameters is not None)
        super().__init__(source, f"{source.name}+{name}:{severity}{''.join(f', {word}' for word in told)}")
        self._how, self._seed, self._parameters = (name, severity), seed, parameters

    def changed(self, example: Example, index: int) -> Example:
        return dataclasses.replace(example, pixels=corrupt(example.pixels, *self._how, seed=(self._seed, index), parameters=self._parameters))

    def digest(self, places: Sequence[int]) -> str:
        """Of what is at these places, before it is corrupted, and of the versions of the packages that do it."""
        told = [self._source.digest(places) if hasattr(self._source, "digest") else "", importlib.metadata.version("imagecorruptions-imaug")]
        told += [f"{name} {importlib.import_module(name).__version__}" for name in _BESIDE]
        return hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
