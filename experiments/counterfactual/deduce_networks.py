"""The two networks that DeDUCE's paper compares on MNIST, narrower by choice: its own and its baselines', which are no twins.

DeDUCE's is DDU's ResNet-18 at full resolution under spectral normalisation (`models.ddu.DDUResNet`), the baselines' a ResNet-18 as for photographs: a
7×7 convolution of stride 2 and a pooling before the blocks, so that the last stage sees one position. Both have batch normalisation and are trained by SGD
at .1 with momentum .9, a tenth of it after half of the steps and a hundredth after four fifths, in batches of 32 (published: of 128, over 50 epochs).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.models.ddu import DDUResNet
from jxai.models.layers import Conv, check_input
from jxai.models.ordinary import mnist
from jxai.models.spectral import SpectralNorm
from jxai.train import Progress, train
from jxai.training.batch_norm import in_batches, settled

NORM = SpectralNorm(4.0, iterations=1)
"""The published coefficient, in training; the network that is explained takes 300 iterations."""


class PlainResNet(nnx.Module):
    """`f(x [28, 28, 1] in [0, 1]) -> logits [10]`: the baselines' network.

    Args:
      widths: channels of each stage, published as (64, 128, 256, 512); all but the first halve the image. blocks: of each stage, published as 2.
    """

    def __init__(self, widths: tuple[int, ...] = (64, 128, 256, 512), blocks: int = 2, *, rngs: nnx.Rngs):
        inner = widths[0]
        self.stem, self.norm = Conv(1, inner, 7, stride=2, padding=((3, 3), (3, 3)), rngs=rngs), _norm(inner, rngs)
        self.blocks = nnx.List([])
        for stage, features in enumerate(widths):
            for n in range(blocks):
                self.blocks.append(_Block(inner, features, 2 if stage and not n else 1, rngs))
                inner = features
        self.classifier = nnx.Linear(inner, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_input(x, 1)
        x = nnx.max_pool(nnx.relu(self.norm(self.stem(x))), (3, 3), (2, 2), ((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean((0, 1)))


class _Block(nnx.Module):
    """Two 3×3 convolutions and a shortcut, a 1×1 convolution where the shape changes."""

    def __init__(self, channels: int, features: int, stride: int, rngs: nnx.Rngs):
        self.first = nnx.List([_conv(channels, features, 3, stride, rngs), _norm(features, rngs)])
        self.second = nnx.List([_conv(features, features, 3, 1, rngs), _norm(features, rngs)])
        changes = stride > 1 or channels != features
        self.shortcut = nnx.List([_conv(channels, features, 1, stride, rngs), _norm(features, rngs)] if changes else [])

    def __call__(self, x: jax.Array) -> jax.Array:
        return nnx.relu(_through(self.second, nnx.relu(_through(self.first, x))) + _through(self.shortcut, x))


def networks(
    widths: tuple[int, ...],
    blocks: int,
    count: int,
    steps: int,
    seed: int,
    out: str | Path,
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[DDUResNet, PlainResNet]:
    """DeDUCE's network and the baselines', trained on the first `count` digits; a training that was stopped goes on from its checkpoint in the folder `out`."""
    x, y = mnist("train", count)
    optimizer = optax.sgd(optax.piecewise_constant_schedule(0.1, {steps // 2: 0.1, steps * 4 // 5: 0.1}), momentum=0.9)
    known = {
        "normalised": (DDUResNet(widths=widths, blocks=blocks, batch_norm=True, rngs=nnx.Rngs(seed)), held_loss),
        "plain": (PlainResNet(widths, blocks, rngs=nnx.Rngs(seed)), plain_loss),
    }
    made = {}
    for name, (model, loss) in known.items():
        say = functools.partial(_say, tell, f"network {seed}, {name}")
        options = {"steps": steps, "batch_size": 32, "optimizer": optimizer, "checkpoint": Path(out) / "networks" / f"{seed} {name}"}
        model = train(model, loss, (x, y.astype(np.int32)), key=jax.random.key(seed), on_progress=say, **options).model
        if name == "normalised":
            model = SpectralNorm(NORM.coefficient, iterations=300)(model)
        made[name] = settled(model, jnp.asarray(x[:5000]), min(250, len(x)))
    return made["normalised"], made["plain"]


def plain_loss(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross entropy of a batch that is normalised by itself."""
    logits = in_batches(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {"accuracy": (logits.argmax(1) == y).mean()}


def held_loss(model: DDUResNet, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross entropy of the network whose norms are held."""
    return plain_loss(NORM(model), x, y, key)


def _conv(channels: int, features: int, window: int, stride: int, rngs: nnx.Rngs) -> Conv:
    return Conv(channels, features, window, stride=stride, padding=((window // 2,) * 2,) * 2, rngs=rngs)


def _norm(channels: int, rngs: nnx.Rngs) -> nnx.BatchNorm:
    return nnx.BatchNorm(channels, use_running_average=True, rngs=rngs)


def _through(layers: nnx.List, x: jax.Array) -> jax.Array:
    for layer in layers:
        x = layer(x)
    return x


def _say(tell: Callable[[str], None], name: str, progress: Progress) -> None:
    if progress.done % 500 == 0 or progress.done == progress.total:
        tell(f"{name}: step {progress.done} of {progress.total}, {progress.what}")
