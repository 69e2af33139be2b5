"""The small networks that the experiments on uncertainty in one pass compare, the training that they share, and losses of classifiers, with dropout or without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.models.ddu import DDUResNet
from jxai.models.layers import Conv, check_input
from jxai.models.spectral import SpectralNorm
from jxai.scores import positive
from jxai.training.batch_norm import in_batches
from jxai.uncertainty.dropout import sampling


class ConvFeatures(nnx.Module):
    """`x [28, 28, 1] in [0, 1] -> [width]`: DUQ's network for Fashion-MNIST, three 3×3 convolutions, each normalised and pooled, and a linear layer.

    Args:
      channels: of the convolutions, published as (64, 128, 128). width: of the features, published as 256.
    """

    def __init__(self, channels: tuple[int, ...] = (64, 128, 128), width: int = 256, *, rngs: nnx.Rngs):
        positive(width=width, **{f"channels[{n}]": c for n, c in enumerate(channels)})
        inner = (1, *channels)
        self.convs = nnx.List([Conv(a, b, 3, padding=((1, 1), (1, 1)), rngs=rngs) for a, b in zip(inner, channels)])
        self.norms = nnx.List([nnx.BatchNorm(c, use_running_average=True, rngs=rngs) for c in channels])
        self.linear = nnx.Linear((28 // 2 ** len(channels)) ** 2 * channels[-1], width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_input(x, 1)
        for conv, norm in zip(self.convs, self.norms):
            x = nnx.max_pool(nnx.relu(norm(conv(2 * x - 1 if conv is self.convs[0] else x))), (2, 2), (2, 2))
        return nnx.relu(self.linear(x.reshape(-1)))


class ResidualFeatures(nnx.Module):
    """`x [28, 28, 1] in [0, 1] -> [widths[-1]]`: DDU's residual network without batch normalisation, so that spectral normalisation bounds it, up to its classifier."""

    def __init__(self, widths: tuple[int, ...], *, rngs: nnx.Rngs):
        self.net = DDUResNet((28, 28), 1, 10, widths, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.net.features(x)


class Classifier(nnx.Module):
    """A backbone and a linear layer, with dropout before it."""

    def __init__(self, backbone: Callable[[jax.Array], jax.Array], features: int, rate: float = 0.0, *, rngs: nnx.Rngs):
        self.backbone, self.linear = backbone, nnx.Linear(features, 10, rngs=rngs)
        self.dropout = nnx.Dropout(rate, deterministic=True, rngs=rngs) if rate else None

    def __call__(self, x: jax.Array) -> jax.Array:
        h = self.backbone(x)
        return self.linear(h if self.dropout is None else self.dropout(h))


def cross_entropy(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Of a batch, which batch normalisation sees as one."""
    logits = in_batches(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {"accuracy": (logits.argmax(1) == y).mean()}


def dropped(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross entropy with another mask for each example."""
    logits = jax.vmap(sampling(model))(x, jax.random.split(key, len(x)))
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {"accuracy": (logits.argmax(1) == y).mean()}


NORM = SpectralNorm(3.0, iterations=5)
"""In training; the network that is judged takes 200 iterations."""


def held(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross entropy of a network whose convolutions are held to a norm."""
    return cross_entropy(NORM(model), x, y, key)


def momentum(steps: int, rate: float = 0.05) -> optax.GradientTransformation:
    """SGD with momentum .9 and weight decay 1e-4, a fifth of the rate after a third and after two thirds of the steps, as DUQ is trained."""
    schedule = optax.piecewise_constant_schedule(rate, {steps // 3: 0.2, 2 * steps // 3: 0.2})
    return optax.chain(optax.add_decayed_weights(1e-4), optax.sgd(schedule, momentum=0.9))


def evaluated(fn: Callable, x: np.ndarray, batch_size: int = 250) -> Any:
    """`fn` of each example of `x [n, …]`, on the host."""
    batched = jax.jit(jax.vmap(fn))
    parts = [jax.tree.map(np.asarray, batched(jnp.asarray(x[n : n + batch_size]))) for n in range(0, len(x), batch_size)]
    return jax.tree.map(lambda *v: np.concatenate(v), *parts)
