"""Small networks to train in seconds, and two trained ones that are provably robust."""

import os
from collections.abc import Callable, Sequence

import jax
from flax import nnx

from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.layers import Conv, check_input, linear

__all__ = ["CNN", "MLP", "ROBUST_CLASSES", "RobustCNN", "robust_cnn"]

ROBUST_CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}


class MLP(nnx.Module):
    """`f(x [D]) -> logits [num_classes]`: linear layers with an activation between them.

    Args:
      inputs: D; an x of several axes is flattened first.
      hidden: width of each hidden layer; empty for a linear model.
      num_classes: K.
      activation: between the layers.
    """

    def __init__(
        self,
        inputs: int,
        hidden: Sequence[int] = (128, 128),
        num_classes: int = 10,
        *,
        activation: Callable[[jax.Array], jax.Array] = nnx.relu,
        rngs: nnx.Rngs,
    ):
        widths = (inputs, *hidden, num_classes)
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in zip(widths[:-1], widths[1:])])
        self.activation = activation

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(-1)
        if x.size != self.layers[0].in_features:
            raise ValueError(f"x must have {self.layers[0].in_features} values, got {x.size}")
        *hidden, last = self.layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)


class CNN(nnx.Module):
    """`f(x [H, W, C]) -> logits [num_classes]`: 3×3 convolutions, each after the first at stride 2, mean, linear.

    It takes images of any size from 1×1 up.

    Args:
      channels: C.
      features: channels of each convolution.
      num_classes: K.
      activation: after each convolution.
    """

    def __init__(
        self,
        channels: int = 1,
        features: Sequence[int] = (16, 32, 64),
        num_classes: int = 10,
        *,
        activation: Callable[[jax.Array], jax.Array] = nnx.relu,
        rngs: nnx.Rngs,
    ):
        widths = (channels, *features)
        self.channels = channels
        self.layers = nnx.List(
            Conv(a, b, 3, stride=1 if index == 0 else 2, activation=activation, rngs=rngs) for index, (a, b) in enumerate(zip(widths[:-1], widths[1:]))
        )
        self.classifier = nnx.Linear(widths[-1], num_classes, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_input(x, self.channels)
        for layer in self.layers:
            x = layer(x)
        return self.classifier(x.mean((0, 1)))


class RobustCNN(nnx.Module):
    """`f(x [28, 28, 1] in [0, 1]) -> logits [10]`: two 4×4 convolutions at stride 2 and two linear layers.

    The network of E. Wong and J. Z. Kolter, "Provable Defenses against Adversarial Examples via the Convex Outer
    Adversarial Polytope", ICML 2018; `robust_cnn` gives the trained ones.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        padding = ((1, 1), (1, 1))
        self.first = Conv(1, 16, 4, stride=2, padding=padding, activation=nnx.relu, rngs=rngs)
        self.second = Conv(16, 32, 4, stride=2, padding=padding, activation=nnx.relu, rngs=rngs)
        self.hidden = nnx.Linear(7 * 7 * 32, 100, rngs=rngs)
        self.classifier = nnx.Linear(100, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_input(x, 1)
        x = self.second(self.first(x))
        return self.classifier(nnx.relu(self.hidden(x.reshape(-1))))


def robust_cnn(data: str = "mnist", path: str | os.PathLike | None = None) -> RobustCNN:
    """Returns the network trained to be robust at l-infinity distance 0.1 (locuslab/convex_adversarial, MIT).

    Args:
      data: `"mnist"` or `"fashion_mnist"`.
      path: the file `robust_{data}.npz` or its folder; None searches as `weights.find` says.

    Raises:
      ValueError: unknown data, or weights that do not fit.
      FileNotFoundError: no such file.
    """
    if data not in ROBUST_CLASSES:
        raise ValueError(f"{data=} must be one of {tuple(ROBUST_CLASSES)}")
    model = nnx.eval_shape(lambda: RobustCNN(rngs=nnx.Rngs(0)))
    arrays = weight_files.read(weights.find(f"robust_{data}.npz", path))
    model.first.load(arrays["0.weight"], arrays["0.bias"])
    model.second.load(arrays["2.weight"], arrays["2.bias"])
    # PyTorch flattens channels first.
    hidden = arrays["5.weight"].reshape(100, 32, 7, 7).transpose(0, 2, 3, 1).reshape(100, -1)
    linear(model.hidden, hidden, arrays["5.bias"])
    linear(model.classifier, arrays["7.weight"], arrays["7.bias"])
    return model
