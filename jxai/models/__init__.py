"""Classifiers to explain: definitions in flax nnx, and trained weights.

Every model is a pytree callable on ONE example, channels last, that takes pixels in [0, 1] (float), normalises inside,
and returns logits `[K]`; `jax.vmap(model)` takes a batch. `available()` lists the trained ones by name.
"""

from jxai.models.catalogue import ModelInfo, Pretrained, available
from jxai.models.digits import digits_cnn, digits_vae
from jxai.models.efficientnet import EfficientNetLite, efficientnet_lite
from jxai.models.generators import generators
from jxai.models.images import imagenet_class_names, load_image, preprocess
from jxai.models.lenet import LeNet5, lenet5
from jxai.models.resnet import CifarResNet, cifar_resnet
from jxai.models.simple import CNN, MLP, RobustCNN, robust_cnn

__all__ = [
    "CNN",
    "CifarResNet",
    "EfficientNetLite",
    "LeNet5",
    "MLP",
    "ModelInfo",
    "Pretrained",
    "RobustCNN",
    "available",
    "cifar_resnet",
    "digits_cnn",
    "digits_vae",
    "efficientnet_lite",
    "generators",
    "imagenet_class_names",
    "lenet5",
    "load_image",
    "preprocess",
    "robust_cnn",
]
