"""What the experiments on digits and clothes share: a small network, its training, and images of other kinds at 28 × 28 in grey."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from numpy.typing import ArrayLike
from PIL import Image

from experiments.uncertainty.deterministic_networks import cross_entropy
from jxai import data, train
from jxai.data.images import grey
from jxai.models.layers import Conv

SIDE = 28


class Network(nnx.Module):
    """`f(x [28, 28, 1]) -> logits [K]`: two 4×4 convolutions at stride 2, a linear layer of 100 ReLUs, dropout, a linear layer.

    Its layers are in the name scopes "first", "second" and "hidden".
    """

    def __init__(self, num_classes: int = 10, *, dropout: float = 0.0, rngs: nnx.Rngs):
        padding = ((1, 1), (1, 1))
        self.first = Conv(1, 16, 4, stride=2, padding=padding, activation=nnx.relu, rngs=rngs)
        self.second = Conv(16, 32, 4, stride=2, padding=padding, activation=nnx.relu, rngs=rngs)
        self.hidden = nnx.Linear(7 * 7 * 32, 100, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, deterministic=dropout == 0, rngs=rngs if dropout else None)
        self.classifier = nnx.Linear(100, num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        with jax.named_scope("first"):
            x = self.first(x)
        with jax.named_scope("second"):
            x = self.second(x)
        with jax.named_scope("hidden"):
            x = nnx.relu(self.hidden(x.reshape(-1)))
        return self.classifier(self.dropout(x))


def trained(x: np.ndarray, y: np.ndarray, key: jax.Array, *, loss: Any = cross_entropy, steps: int, dropout: float = 0.0) -> Network:
    """A network in evaluation mode, trained by Adam at 1e-3 falling to 0, in batches of 128."""
    begin, order = jax.random.split(key)
    model = Network(int(y.max()) + 1, dropout=dropout, rngs=nnx.Rngs(begin))
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    model = train.train(model, loss, (x, y), key=order, steps=steps, optimizer=optimizer, batch_size=128).model
    return nnx.view(model, deterministic=True, raise_if_not_found=False)


def images(name: str, split: str, count: int, seed: int, classes: tuple[int, ...] | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Random images of a data set, white on black where its own are black on white: pixels in [0, 1] `[n, 28, 28, 1]`, and labels `[n]`.

    Args:
      classes: those to take, all by default; there may be fewer than `count` then.
    """
    source, found = data.source(name, split=split), []
    for i in np.random.default_rng(seed).permutation(len(source)):
        example = source[int(i)]
        if classes is None or example.label in classes:
            found.append((small(example.pixels, inverted=name.startswith("omniglot")), example.label))
        if len(found) == count:
            break
    x, y = zip(*found)
    return np.stack(x), np.asarray(y)


def small(pixels: np.ndarray, inverted: bool = False) -> np.ndarray:
    """`[28, 28, 1]` in [0, 1]: grey, and bilinear where the image has another size."""
    picture = Image.fromarray((grey(pixels) if pixels.shape[-1] == 3 else pixels)[..., 0])
    if picture.size != (SIDE, SIDE):
        picture = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    x = np.float32(picture)[..., None] / 255
    return 1 - x if inverted else x


def sheet(rows: Mapping[str, ArrayLike], path: Path) -> None:
    """Writes a picture of rows of images `[columns, 28, 28, 1]` in [0, 1], black on white, with their names."""
    from matplotlib.figure import Figure

    from jxai import plot

    figure = Figure(figsize=(0.4 * max(map(len, rows.values())) + 1.2, 0.42 * len(rows)), layout="constrained")
    for axes, (name, images) in zip(figure.subplots(len(rows), squeeze=False)[:, 0], rows.items()):
        axes.imshow(np.concatenate(np.asarray(images)[..., 0], 1), cmap="gray_r", vmin=0, vmax=1)
        axes.set(xticks=[], yticks=[])
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
        axes.spines[:].set_visible(False)
    plot.save(figure, path, dpi=110)
