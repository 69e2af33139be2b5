"""The CIFAR-10 ResNets of He et al. with 6n + 2 layers.

K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2, with option-A shortcuts: where a
stage halves the image, the skip takes every second pixel and pads the channels with zeros, so it has no weights.
Trained weights: akamaster/pytorch_resnet_cifar10 (BSD-2).
"""

import os

import jax
import jax.numpy as jnp
from flax import nnx

from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.layers import Conv, check_input, fold_batch_norm, linear

__all__ = ["CIFAR10_CLASSES", "CifarResNet", "cifar_resnet"]

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

# The statistics that the training normalised by: ImageNet's, although the images are CIFAR's.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_WIDTHS = (16, 32, 64)
_EPSILON = 1e-5
# PyTorch pads both sides; "SAME" at stride 2 would pad only the far side.
_PADDING = ((1, 1), (1, 1))


class CifarResNet(nnx.Module):
    """`f(x [32, 32, 3] in [0, 1]) -> logits [10]`, batch normalisation folded into the convolutions.

    The layers are `stem`, `blocks[i].first`, `.second` and `classifier`.

    Args:
      depth: number of layers, 6n + 2: 20, 32, 44, 56 …
      rngs: for random weights; `cifar_resnet` gives the trained ones.
    """

    def __init__(self, depth: int = 20, *, rngs: nnx.Rngs):
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"{depth=} must be 6n + 2 with n >= 1")
        self.stem = Conv(3, _WIDTHS[0], 3, padding=_PADDING, activation=nnx.relu, rngs=rngs)
        self.blocks = nnx.List([])
        channels = _WIDTHS[0]
        for features in _WIDTHS:
            for _ in range((depth - 2) // 6):
                self.blocks.append(_Block(channels, features, rngs))
                channels = features
        self.classifier = nnx.Linear(channels, len(CIFAR10_CLASSES), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_input(x, 3)
        x = self.stem((x - jnp.array(MEAN, x.dtype)) / jnp.array(STD, x.dtype))
        for block in self.blocks:
            x = block(x)
        return self.classifier(x.mean((0, 1)))


class _Block(nnx.Module):
    """Two 3×3 convolutions and a skip; halves the image where it widens."""

    def __init__(self, channels, features, rngs):
        self.widen = features - channels
        stride = 2 if self.widen else 1
        self.first = Conv(channels, features, 3, stride=stride, padding=_PADDING, activation=nnx.relu, rngs=rngs)
        self.second = Conv(features, features, 3, padding=_PADDING, rngs=rngs)

    def __call__(self, x):
        y = self.second(self.first(x))
        if self.widen:
            x = jnp.pad(x[::2, ::2], ((0, 0), (0, 0), (self.widen // 2, self.widen // 2)))
        return nnx.relu(x + y)


def cifar_resnet(depth: int = 20, path: str | os.PathLike | None = None) -> CifarResNet:
    """Returns a trained ResNet (depth 20 or 56).

    Args:
      depth: 20 or 56.
      path: the file `cifar10_resnet{depth}.npz` or its folder; None searches as `weights.find` says.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a depth that is not 6n + 2, or weights that do not fit.
    """
    model = nnx.eval_shape(lambda: CifarResNet(depth, rngs=nnx.Rngs(0)))
    file = weights.find(f"cifar10_resnet{depth}.npz", path)
    arrays = weight_files.read(file)

    def load(conv, name, norm):
        conv.load(*fold_batch_norm(arrays[f"{name}.weight"], arrays, norm, _EPSILON))

    load(model.stem, "conv1", "bn1")
    per_stage = len(model.blocks) // len(_WIDTHS)
    for index, block in enumerate(model.blocks):
        prefix = f"layer{index // per_stage + 1}.{index % per_stage}."
        load(block.first, prefix + "conv1", prefix + "bn1")
        load(block.second, prefix + "conv2", prefix + "bn2")
    linear(model.classifier, arrays["linear.weight"], arrays["linear.bias"])
    return model
