"""The network and images of benchmarks/bounds/bounds.py, and how much arithmetic and memory traffic each bound needs at least.

The network is `jxai.models.RobustCNN`: 28×28, conv16 (4, stride 2, padding 1), conv32 (the same), 100, 10, with ReLUs between. Its weights
are drawn as PyTorch draws those of new layers (`random`), or those trained to be provably robust (`robust_mnist`).
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

SETTINGS = ("random", "robust_mnist")
RADIUS = 0.03
MOST = 512
"""Images that are made: the most of a measurement of memory."""
SHAPES = {"0": (16, 1, 4, 4), "2": (32, 16, 4, 4), "5": (100, 1568), "7": (10, 100)}
"""PyTorch's kernels, by the layer's place in the `Sequential`."""


def make(setting: str, path: Path) -> str:
    """Writes weights (as PyTorch lays them out) and images; returns what the images are."""
    from jxai import data
    from jxai.adapters import weight_files
    from jxai.models import weights

    if setting == "random":
        draw = np.random.default_rng(0)
        arrays = {}
        for name, shape in SHAPES.items():
            bound = 1 / np.sqrt(np.prod(shape[1:]))
            arrays[f"{name}.weight"], arrays[f"{name}.bias"] = (draw.uniform(-bound, bound, s) for s in (shape, shape[:1]))
    else:
        arrays = weight_files.read(weights.find(f"{setting}.npz"))
    try:
        source, what = data.source("mnist"), "MNIST's test images"
        x = np.stack([source[i].pixels for i in range(MOST)]) / 255
    except FileNotFoundError:
        x, what = np.random.default_rng(1).uniform(size=(MOST, 28, 28, 1)), "noise, since MNIST is not here"
    np.savez(path, x=x.astype(np.float32), **{name: np.float32(value) for name, value in arrays.items()})
    return what


def load() -> dict[str, np.ndarray]:
    with np.load(os.environ["JXAI_BENCHMARK_DATA"]) as arrays:
        return dict(arrays)


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one image: multiplications with an addition, counted as two operations, and coefficients that are written once and read once."""

    multiplications: float
    coefficients: float

    @property
    def gflop(self) -> float:
        return 2 * self.multiplications / 1e9

    @property
    def gigabytes(self) -> float:
        return 8 * self.coefficients / 1e9


INPUT, FIRST, SECOND, HIDDEN, LOGITS = 784, 16 * 14 * 14, 32 * 7 * 7, 100, 10
LAYERS = (FIRST * 16, SECOND * 256, HIDDEN * SECOND, LOGITS * HIDDEN)
"""Multiplications of each layer, forwards or backwards: outputs × the inputs of each."""
FIELD = 16 * 4 * 4, 10 * 10
"""What a neuron of the second convolution sees of the first and of the input."""


def work(method: str, options: dict) -> Work:
    """What a method needs where no neuron is stable, without the coefficients that are 0 since a convolution sees only its field.

    A pass back from one neuron costs what a pass forwards of the layers before it costs; both sides take one each. The kernel of the layer
    itself is its first coefficients, the same for all images. The first layer's ends are exact as intervals. Forward bounds take both sides of
    as many coefficients through each layer as its inputs have, from the second on: up to the first ReLU they are the same for all images.
    """
    interval = Work(2 * sum(LAYERS), 0)
    output = Work(2 * LOGITS * sum(LAYERS[:3]), 2 * LOGITS * (HIDDEN + SECOND + FIRST + INPUT))
    if method == "interval":
        return interval
    if method == "crown_ibp":
        return Work(interval.multiplications + output.multiplications, output.coefficients)
    if method == "forward":
        multiplications = 2 * (LAYERS[1] * 16 + LAYERS[2] * FIELD[1] + LAYERS[3] * INPUT)
        return Work(multiplications, 2 * (FIRST * 16 + 2 * SECOND * FIELD[1] + (2 * HIDDEN + LOGITS) * INPUT))
    second = Work(2 * SECOND * FIELD[0] * 16, 2 * SECOND * sum(FIELD))
    hidden = Work(2 * HIDDEN * sum(LAYERS[:2]), 2 * HIDDEN * (SECOND + FIRST + INPUT))
    inner = Work(second.multiplications + hidden.multiplications, second.coefficients + hidden.coefficients)
    crown = Work(inner.multiplications + output.multiplications, inner.coefficients + output.coefficients)
    if method == "crown":
        return crown
    # A step of optimisation is a pass and its derivative, which costs two.
    steps, again = 3 * options["steps"], crown if options.get("intermediate") else output
    return Work(crown.multiplications + steps * again.multiplications, crown.coefficients + steps * again.coefficients)
