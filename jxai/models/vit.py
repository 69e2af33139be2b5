"""Small vision transformers for CIFAR-10, of which it was proved that small changes do not change their class.

Z. Shi, Q. Jin, J. Z. Kolter, S. Jana, C.-J. Hsieh and H. Zhang, "Formal Verification for Neural Networks with General Nonlinearities via Branch-and-Bound",
2023: the benchmark `vit` of VNN-COMP 2023 (shizhouxing/ViT_vnncomp2023). Batch norms take the place of layer norms.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jxai.adapters import weight_files
from jxai.models import weights
from jxai.models.layers import Conv, assign, check_input, linear

__all__ = ["CifarViT", "cifar_vit"]

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
KINDS = {"pgd": (2, 16), "ibp": (3, 8)}
"""Of each the layers, and the pixels of a patch's side."""
_WIDTH, _HEADS, _INNER, _CLASSES, _EPSILON, _SIDE = 48, 3, 96, 10, 1e-5, 32


class CifarViT(nnx.Module):
    """`f(x [32, 32, 3] in [0, 1]) -> logits [10]`: patches and a class token in front, layers of attention, the mean of all tokens.

    The layers are `projection`, `blocks[i].query`, `.key`, `.value`, `.out`, `.fc1`, `.fc2`, and `head`; batch norms are `blocks[i].attention_norm`, `.mlp_norm`
    and `head_norm`.

    Args:
      layers: how many. patch: pixels of a patch's side. rngs: for random weights; `cifar_vit` gives the trained ones.
    """

    def __init__(self, layers: int, patch: int, *, rngs: nnx.Rngs):
        self.projection = Conv(3, _WIDTH, patch, stride=patch, padding="VALID", rngs=rngs)
        self.cls_token = nnx.Param(jnp.zeros(_WIDTH))
        self.positions = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), ((_SIDE // patch) ** 2 + 1, _WIDTH)))
        self.blocks = nnx.List([_Block(rngs) for _ in range(layers)])
        self.head_norm = _Norm()
        self.head = nnx.Linear(_WIDTH, _CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        check_input(x, 3)
        patches = self.projection((x - jnp.array(MEAN, x.dtype)) / jnp.array(STD, x.dtype)).reshape(-1, _WIDTH)
        x = jnp.concatenate([self.cls_token[...].astype(x.dtype)[None], patches]) + self.positions[...].astype(x.dtype)
        for block in self.blocks:
            x = block(x)
        return self.head(self.head_norm(x.mean(0)))


class _Norm(nnx.Module):
    """A batch norm in its evaluation form: `scale · x + shift` of each channel."""

    def __init__(self):
        self.scale, self.shift = nnx.Param(jnp.ones(_WIDTH)), nnx.Param(jnp.zeros(_WIDTH))

    def __call__(self, x: jax.Array) -> jax.Array:
        return x * self.scale[...].astype(x.dtype) + self.shift[...].astype(x.dtype)


class _Block(nnx.Module):
    """Attention and a network of two dense layers, each of what was normalised, and added to what it read."""

    def __init__(self, rngs: nnx.Rngs):
        self.attention_norm, self.mlp_norm = _Norm(), _Norm()
        self.query, self.key, self.value, self.out = (nnx.Linear(_WIDTH, _WIDTH, rngs=rngs) for _ in range(4))
        self.fc1, self.fc2 = nnx.Linear(_WIDTH, _INNER, rngs=rngs), nnx.Linear(_INNER, _WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = self.attention_norm(x)
        q, k, v = (layer(y).reshape(len(y), _HEADS, -1) for layer in (self.query, self.key, self.value))
        probabilities = jax.nn.softmax(jnp.einsum("qhd,khd->hqk", q, k) * 0.25)
        x = x + self.out(jnp.einsum("hqk,khd->qhd", probabilities, v).reshape(x.shape))
        return x + self.fc2(nnx.relu(self.fc1(self.mlp_norm(x))))


def cifar_vit(kind: str = "ibp", path: str | os.PathLike | None = None) -> CifarViT:
    """A trained transformer.

    Args:
      kind: `"pgd"` (two layers, 4 patches and a class token; 59.78 % of CIFAR-10's test images) or `"ibp"` (three layers, 16 patches; 62.21 %).
      path: the file `cifar10_vit_{kind}_….npz` or its folder; None searches as `weights.find` says.

    Raises:
      FileNotFoundError: no such file.
      ValueError: another kind, or weights that do not fit.
    """
    if kind not in KINDS:
        raise ValueError(f"{kind=} must be one of {', '.join(map(repr, KINDS))}")
    layers, patch = KINDS[kind]
    arrays = weight_files.read(weights.find(f"cifar10_vit_{kind}_{layers}_3_{patch}.npz", path))
    model = nnx.eval_shape(lambda: CifarViT(layers, patch, rngs=nnx.Rngs(0)))

    def norm(layer: _Norm, name: str) -> None:
        gamma, beta, mean, variance = (arrays[f"{name}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var"))
        scale = gamma / np.sqrt(variance + _EPSILON)
        assign(layer.scale, scale)
        assign(layer.shift, beta - mean * scale)

    model.projection.load(arrays["projection.weight"], arrays["projection.bias"])
    assign(model.cls_token, arrays["cls_token"])
    assign(model.positions, arrays["positions"])
    for n, block in enumerate(model.blocks):
        norm(block.attention_norm, f"block{n}.attn.norm")
        norm(block.mlp_norm, f"block{n}.mlp.norm")
        for own, name in {own: f"attn.{own}" for own in ("query", "key", "value", "out")}.items() | {"fc1": "mlp.fc1", "fc2": "mlp.fc2"}.items():
            linear(getattr(block, own), arrays[f"block{n}.{name}.weight"], arrays[f"block{n}.{name}.bias"])
    norm(model.head_norm, "head.norm")
    linear(model.head, arrays["head.weight"], arrays["head.bias"])
    return model
