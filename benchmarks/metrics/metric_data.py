"""What benchmarks/metrics/metrics.py measures on: images, the classes and maps that all libraries are given, masks and segments, in one file."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

GROUPS = 64


class Setting(NamedTuple):
    """`model` as jxai names it, `source` of the images (None: photographs), how many, and their sides and channels."""

    model: str
    source: str | None
    images: int
    side: int
    channels: int


SETTINGS = {
    "resnet20": Setting("cifar10_resnet20", "cifar10", 64, 32, 3),
    "lite0": Setting("efficientnet_lite0", None, 4, 224, 3),
    "lenet5": Setting("mnist_lenet5", "mnist", 256, 32, 1),
}


def chosen() -> tuple[str, int]:
    """The setting and the number of images of this run."""
    return os.environ["JXAI_BENCHMARK_SETTING"], int(os.environ["JXAI_BENCHMARK_IMAGES"])


def load() -> dict[str, np.ndarray]:
    """`x [N, H, W, C]`, `y [N]`, `maps [N, H, W, 1]`, `magnitude` (non-negative maps that reach 0), `masks [N, H, W]`, `segments` and
    `ranks [N, H, W]` (64 groups of pixels of falling attribution)."""
    with np.load(os.environ["JXAI_BENCHMARK_DATA"]) as archive:
        return dict(archive)


def make(f, images: np.ndarray, explain) -> None:
    """Writes the file; `explain(f, x) -> y, maps`."""
    from skimage.segmentation import slic

    y, maps = explain(f, images)
    n, side = images.shape[:2]
    magnitude = np.abs(maps)
    place = np.argsort(np.argsort(-maps.reshape(n, -1), 1, kind="stable"), 1)
    np.savez(
        os.environ["JXAI_BENCHMARK_DATA"],
        x=images, y=y, maps=maps, magnitude=magnitude - magnitude.min((1, 2, 3), keepdims=True), masks=_boxes(n, side),
        segments=np.stack([slic(x.astype(np.float64), start_label=0) for x in images]).astype(np.int32),
        ranks=(place // (side * side // GROUPS)).reshape(n, side, side).astype(np.int32),
    )  # fmt: skip


def pixels(setting: str, count: int, preprocess) -> np.ndarray:
    """The first test images of the setting, `[count, H, W, C]`."""
    source = SETTINGS[setting].source
    if source is None:
        from benchmarks.measuring.measure import photographs

        return photographs(count)
    from jxai import data

    return data.load(data.source(source), range(count), count, preprocess).x


def _boxes(n: int, side: int) -> np.ndarray:
    """One box for each image: no data set here has objects' masks, and no metric's cost depends on where they are."""
    random = np.random.default_rng(0)
    masks = np.zeros((n, side, side), bool)
    for mask in masks:
        height, width = random.integers(side // 4, 3 * side // 4, 2)
        top, left = random.integers(0, side - height), random.integers(0, side - width)
        mask[top : top + height, left : left + width] = True
    return masks
