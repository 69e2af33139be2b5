"""The small networks of benchmarks/metrics/metrics.py for the peers: the weights that jxai reads, batch norm folded in, in PyTorch and in Keras.

All take pixels in [0, 1], as ours do: PyTorch `[N, C, 32, 32]`, Keras `[N, 32, 32, C]`; they return logits `[N, 10]`.
"""

from __future__ import annotations

import numpy as np

from benchmarks.attribution import lite0
from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.layers import fold_batch_norm

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WIDTHS, DEPTH = (16, 32, 64), 3
EPSILON = 1e-5


def pytorch(setting: str):
    """An `nn.Module` in evaluation mode, the convolutions channels last in memory."""
    return {"resnet20": _resnet_pytorch, "lenet5": _lenet_pytorch, "lite0": lite0.pytorch}[setting]()


def keras(setting: str):
    return {"resnet20": _resnet_keras, "lenet5": _lenet_keras, "lite0": lite0.keras}[setting]()


def _resnet() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel (OIHW, or `[out, in]`) and bias of every layer."""
    arrays = weight_files.read(weights.find("cifar10_resnet20.npz"))

    def fold(conv: str, norm: str):
        return fold_batch_norm(arrays[f"{conv}.weight"], arrays, norm, EPSILON)

    layers = {"stem": fold("conv1", "bn1"), "classify": (arrays["linear.weight"], arrays["linear.bias"])}
    for stage in range(len(WIDTHS)):
        for block in range(DEPTH):
            for i in (1, 2):
                prefix = f"layer{stage + 1}.{block}."
                layers[f"{stage}.{block}.{i}"] = fold(f"{prefix}conv{i}", f"{prefix}bn{i}")
    return layers


def _lenet() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    arrays = weight_files.read(weights.find("mnist_lenet5.npz"))
    names = {"c1": "convnet.c1", "c3": "convnet.c3", "c5": "convnet.c5", "f6": "fc.f6", "f7": "fc.f7"}
    return {short: (arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for short, name in names.items()}


def _torch_layer(layer: tuple[np.ndarray, np.ndarray], stride: int = 1, padding: int = 0):
    import torch
    from torch import nn

    kernel, bias = (torch.from_numpy(np.ascontiguousarray(value, np.float32)) for value in layer)
    out, inputs = kernel.shape[:2]
    made = nn.Linear(inputs, out) if kernel.ndim == 2 else nn.Conv2d(inputs, out, kernel.shape[-1], stride, padding)
    made.weight, made.bias = nn.Parameter(kernel), nn.Parameter(bias)
    return made


def _resnet_pytorch():
    import torch
    from torch import nn
    from torch.nn import functional

    layers = _resnet()

    class Block(nn.Module):
        def __init__(self, stage: int, block: int):
            super().__init__()
            self.widens = stage > 0 and block == 0
            self.first = _torch_layer(layers[f"{stage}.{block}.1"], 2 if self.widens else 1, 1)
            self.second = _torch_layer(layers[f"{stage}.{block}.2"], 1, 1)

        def forward(self, x):
            y = self.second(functional.relu(self.first(x)))
            if self.widens:
                more = (y.shape[1] - x.shape[1]) // 2
                x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, more, more))
            return functional.relu(x + y)

    class ResNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = _torch_layer(layers["stem"], 1, 1)
            self.blocks = nn.Sequential(*(Block(stage, block) for stage in range(len(WIDTHS)) for block in range(DEPTH)))
            self.classify = _torch_layer(layers["classify"])
            self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

        def forward(self, x):
            x = ((x - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
            return self.classify(self.blocks(functional.relu(self.stem(x))).mean((2, 3)))

    return ResNet().eval().to(memory_format=torch.channels_last).requires_grad_(False)


def _lenet_pytorch():
    from torch import nn

    layers = {name: _torch_layer(layer) for name, layer in _lenet().items()}
    convolutions = [(nn.ReLU(), nn.MaxPool2d(2)), (nn.ReLU(), nn.MaxPool2d(2)), (nn.ReLU(), nn.Flatten())]
    steps = [step for name, after in zip(("c1", "c3", "c5"), convolutions) for step in (layers[name], *after)]
    # Plain memory order is the faster one here: there is one channel in and few out.
    return nn.Sequential(*steps, layers["f6"], nn.ReLU(), layers["f7"]).eval().requires_grad_(False)


def _keras_layer(layer: tuple[np.ndarray, np.ndarray], x, stride: int = 1, padding: int = 0, activation: str | None = None):
    """Applies the layer; its weights are set at once, for it is built by being applied."""
    import tensorflow as tf

    kernel, bias = layer
    if kernel.ndim == 2:
        made = tf.keras.layers.Dense(len(bias), activation)
        kernel = kernel.T
    else:
        x = tf.keras.layers.ZeroPadding2D(padding)(x) if padding else x
        made = tf.keras.layers.Conv2D(len(bias), kernel.shape[-1], stride, "valid", activation=activation)
        kernel = np.transpose(kernel, (2, 3, 1, 0))
    y = made(x)
    made.set_weights([kernel, bias])
    return y


def _resnet_keras():
    import tensorflow as tf

    kl, layers = tf.keras.layers, _resnet()
    inputs = tf.keras.Input((32, 32, 3))
    x = kl.Normalization(mean=MEAN, variance=np.square(STD))(inputs)
    x = _keras_layer(layers["stem"], x, 1, 1, "relu")
    for stage, width in enumerate(WIDTHS):
        for block in range(DEPTH):
            widens = stage > 0 and block == 0
            y = _keras_layer(layers[f"{stage}.{block}.1"], x, 2 if widens else 1, 1, "relu")
            y = _keras_layer(layers[f"{stage}.{block}.2"], y, 1, 1)
            if widens:
                more = (width - x.shape[-1]) // 2
                x = kl.Permute((1, 3, 2))(kl.ZeroPadding2D((0, more))(kl.Permute((1, 3, 2))(kl.AveragePooling2D(1, 2)(x))))
            x = kl.ReLU()(kl.Add()([x, y]))
    return tf.keras.Model(inputs, _keras_layer(layers["classify"], kl.GlobalAveragePooling2D()(x)))


def _lenet_keras():
    import tensorflow as tf

    kl, layers = tf.keras.layers, _lenet()
    inputs = x = tf.keras.Input((32, 32, 1))
    for name in ("c1", "c3"):
        x = kl.MaxPooling2D(2)(_keras_layer(layers[name], x, activation="relu"))
    x = kl.Flatten()(_keras_layer(layers["c5"], x, activation="relu"))
    return tf.keras.Model(inputs, _keras_layer(layers["f7"], _keras_layer(layers["f6"], x, activation="relu")))
