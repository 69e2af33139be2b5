"""Pictures of nothing: what a model should be unsure of."""

from __future__ import annotations

import numpy as np

from jxai.data.sources import Example
from jxai.scores import positive


class Noise:
    """Pictures of which every number is drawn by itself, evenly from 0 to 255; without labels.

    Args:
      shape: of the pixels, `(H, W, 1)` or `(H, W, 3)`. size: how many. seed: picture i is drawn from (seed, i).

    Raises:
      ValueError: another shape, or no pictures.
    """

    class_names: tuple[str, ...] | None = None

    def __init__(self, shape: tuple[int, int, int], size: int, seed: int = 0):
        if len(shape) != 3 or shape[-1] not in (1, 3) or min(shape) < 1:
            raise ValueError(f"{shape=} must be (H, W, 1) or (H, W, 3)")
        positive(size=size)
        self._shape, self._size, self._seed = tuple(shape), size, seed
        self.name = f"noise:{'×'.join(map(str, shape))}:{size}" + (f", seed {seed}" if seed else "")

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self._size:
            raise IndexError(f"{index=} must be in [0, {self._size})")
        random = np.random.default_rng([self._seed, int(index)])
        return Example(random.integers(0, 256, self._shape, np.uint8), name=str(index))
