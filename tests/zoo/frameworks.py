"""Networks in flax nnx, flax linen and Equinox."""

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

from jxai.adapters import Batched, Linen

from .layers import SHAPES, K, filled


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.convs = nnx.List([nnx.Conv(3, 8, (3, 3), rngs=rngs), nnx.Conv(8, 16, (3, 3), strides=2, rngs=rngs)])
        self.norms = nnx.List([nnx.BatchNorm(8, rngs=rngs), nnx.BatchNorm(16, rngs=rngs)])
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.head = nnx.Linear(16, K, rngs=rngs)

    def __call__(self, x):
        for layer, norm in zip(self.convs, self.norms):
            x = nnx.relu(norm(layer(x)))
        return self.head(self.dropout(x.mean((0, 1))))


def _nnx(build, seed, **eval_mode):
    return nnx.view(filled(nnx.eval_shape(lambda: build(nnx.Rngs(0))), seed), **eval_mode)


def nnx_batchnorm(seed):
    """Convolution, batch normalisation, ReLU, twice; dropout; in eval mode."""
    return _nnx(NnxNet, seed, deterministic=True, use_running_average=True)


class NnxMeanTransformer(nnx.Module):
    """Patch embedding, two pre-norm blocks, mean pooling."""

    def __init__(self, rngs, dim=16):
        self.embed = nnx.Conv(3, dim, (4, 4), strides=4, padding="VALID", rngs=rngs)
        self.position = nnx.Param(0.1 * jax.random.normal(rngs.params(), (16, dim)))
        self.norms = nnx.List([nnx.LayerNorm(dim, rngs=rngs) for _ in range(5)])
        self.attention = nnx.List([nnx.MultiHeadAttention(2, dim, decode=False, rngs=rngs) for _ in range(2)])
        self.up = nnx.List([nnx.Linear(dim, 2 * dim, rngs=rngs) for _ in range(2)])
        self.down = nnx.List([nnx.Linear(2 * dim, dim, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(dim, K, rngs=rngs)

    def __call__(self, x):
        x = self.embed(x).reshape(16, -1) + self.position[...]
        for i in range(2):
            x = x + self.attention[i](self.norms[2 * i](x))
            x = x + self.down[i](nnx.gelu(self.up[i](self.norms[2 * i + 1](x))))
        return self.head(self.norms[4](x).mean(0))


def vit_mean(seed):
    return _nnx(NnxMeanTransformer, seed, deterministic=True)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(2, name="norm")(nn.Conv(8, (3, 3), name="stem")(x)))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(16, (3, 3), name="conv")(x))
        return nn.Dense(K, name="head")(x.mean((-3, -2)))


def _linen(module, seed, shape=SHAPES["IMAGE"], **options):
    variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, **options), jax.ShapeDtypeStruct(shape, jnp.float32))
    return Linen(module, filled(variables, seed), tuple(options.items()))


def linen_cnn(seed):
    return _linen(LinenNet(), seed)


class LinenBatchNet(nn.Module):
    """Wants `[B, H, W, C]` and a `train` flag, as most published code does."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(8, (3, 3), strides=2)(x)))
        x = nn.avg_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
        return nn.Dense(K)(nn.Dropout(0.5, deterministic=not train)(x))


def linen_batched(seed):
    return Batched(_linen(LinenBatchNet(), seed, (1, *SHAPES["IMAGE"]), train=False))


class LinenTransformer(nn.Module):
    """A vision transformer that reads out its class token."""

    dim: int = 16

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(self.dim, (4, 4), strides=4, padding="VALID", name="embed")(x).reshape(-1, self.dim)
        x = jnp.concatenate([self.param("cls", nn.initializers.normal(0.5), (1, self.dim)), x])
        x = x + self.param("position", nn.initializers.normal(0.1), x.shape)
        for i in range(2):
            y = nn.LayerNorm(name=f"norm{i}a")(x)
            x = x + nn.MultiHeadDotProductAttention(2, deterministic=True, name=f"attention{i}")(y, y)
            y = nn.Dense(2 * self.dim, name=f"up{i}")(nn.LayerNorm(name=f"norm{i}b")(x))
            x = x + nn.Dense(self.dim, name=f"down{i}")(nn.gelu(y))
        return nn.Dense(K, name="head")(nn.LayerNorm(name="norm")(x)[0])


def vit_class_token(seed):
    return _linen(LinenTransformer(), seed)


class EquinoxNet(eqx.Module):
    """Channels first inside; the activation is an attribute, hence a leaf that is no array."""

    first: eqx.nn.Conv2d
    second: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    head: eqx.nn.Linear
    activation: object

    def __init__(self, key):
        a, b, c = jax.random.split(key, 3)
        self.first = eqx.nn.Conv2d(3, 8, 3, padding=1, key=a)
        self.second = eqx.nn.Conv2d(8, 16, 3, padding=1, key=b)
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.head = eqx.nn.Linear(16, K, key=c)
        self.activation = jax.nn.relu

    def __call__(self, x):
        x = self.pool(self.activation(self.first(x.transpose(2, 0, 1))))
        return self.head(self.activation(self.second(x)).mean((1, 2)))


def equinox_cnn(seed):
    return filled(eqx.filter_eval_shape(EquinoxNet, jax.random.key(0)), seed, fan=slice(1, None))
