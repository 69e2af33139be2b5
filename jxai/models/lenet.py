"""LeNet-5 for MNIST digits, and the trained one."""

import os

import jax
from flax import nnx

from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.layers import Conv, check_input, linear

__all__ = ["LeNet5", "lenet5"]

SIDE = 32


class LeNet5(nnx.Module):
    """`f(x [32, 32, 1] in [0, 1]) -> logits [10]`: three 5×5 convolutions and two linear layers.

    The network of Y. LeCun et al., "Gradient-Based Learning Applied to Document Recognition", Proc. IEEE 1998, with ReLU
    and max-pooling, as most reimplement it. MNIST's 28×28 digits are resized before (bilinear), not in every pass.
    """

    def __init__(self, *, rngs: nnx.Rngs):
        self.c1 = Conv(1, 6, 5, padding="VALID", activation=nnx.relu, rngs=rngs)
        self.c3 = Conv(6, 16, 5, padding="VALID", activation=nnx.relu, rngs=rngs)
        self.c5 = Conv(16, 120, 5, padding="VALID", activation=nnx.relu, rngs=rngs)
        self.f6 = nnx.Linear(120, 84, rngs=rngs)
        self.f7 = nnx.Linear(84, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_input(x, 1)
        if x.shape[:2] != (SIDE, SIDE):
            raise ValueError(f"x must be resized to {SIDE}×{SIDE} (bilinearly, as models.preprocess does), got shape {x.shape}")
        x = nnx.max_pool(self.c1(x), (2, 2), (2, 2))
        x = nnx.max_pool(self.c3(x), (2, 2), (2, 2))
        return self.f7(nnx.relu(self.f6(self.c5(x).reshape(-1))))


def lenet5(path: str | os.PathLike | None = None) -> LeNet5:
    """Returns the network trained on MNIST at 32×32 pixels (csinva/gan-vae-pretrained-pytorch, MIT).

    Args:
      path: the file `mnist_lenet5.npz` or its folder; None searches as `weights.find` says.

    Raises:
      ValueError: weights that do not fit. FileNotFoundError: no such file.
    """
    model = nnx.eval_shape(lambda: LeNet5(rngs=nnx.Rngs(0)))
    arrays = weight_files.read(weights.find("mnist_lenet5.npz", path))
    for name in ("c1", "c3", "c5"):
        getattr(model, name).load(arrays[f"convnet.{name}.weight"], arrays[f"convnet.{name}.bias"])
    for name in ("f6", "f7"):
        linear(getattr(model, name), arrays[f"fc.{name}.weight"], arrays[f"fc.{name}.bias"])
    return model
