"""Architectures as their papers have them, of small width: a residual network in linen (He et al. 2016), a vision transformer in Equinox (Dosovitskiy et al. 2021)."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp


class Block(nn.Module):
    width: int
    stride: int

    @nn.compact
    def __call__(self, x, train):
        conv = lambda width, size, stride, name: nn.Conv(width, (size, size), stride, use_bias=False, name=name)
        norm = lambda name: nn.BatchNorm(use_running_average=not train, name=name)
        h = nn.relu(norm("norm1")(conv(self.width, 3, self.stride, "conv1")(x)))
        h = norm("norm2")(conv(self.width, 3, 1, "conv2")(h))
        if h.shape != x.shape:
            x = norm("norm_shortcut")(conv(self.width, 1, self.stride, "conv_shortcut")(x))
        return nn.relu(x + h)


class ResNet18(nn.Module):
    """`[B, H, W, 3] -> [B, 10]`; eight blocks of two convolutions, widths 16 to 128."""

    @nn.compact
    def __call__(self, x, train: bool = True):
        x = nn.relu(nn.BatchNorm(use_running_average=not train, name="norm")(nn.Conv(16, (7, 7), 2, use_bias=False, name="stem")(x)))
        x = nn.max_pool(x, (3, 3), (2, 2), "SAME")
        for stage in range(4):
            for n in range(2):
                x = Block(16 * 2**stage, 2 if stage and not n else 1, name=f"block{stage}_{n}")(x, train)
        return nn.Dense(10, name="head")(x.mean((1, 2)))


class Layer(eqx.Module):
    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm2: eqx.nn.LayerNorm
    mlp: eqx.nn.MLP
    drop: eqx.nn.Dropout

    def __init__(self, dim, key):
        a, b = jax.random.split(key)
        self.norm1, self.norm2, self.drop = eqx.nn.LayerNorm(dim), eqx.nn.LayerNorm(dim), eqx.nn.Dropout(0.1)
        self.attention = eqx.nn.MultiheadAttention(4, dim, dropout_p=0.1, key=a)
        self.mlp = eqx.nn.MLP(dim, dim, 4 * dim, 1, activation=jax.nn.gelu, key=b)

    def __call__(self, x, key):
        h = jax.vmap(self.norm1)(x)
        x = x + self.attention(h, h, h, key=key)
        return x + self.drop(jax.vmap(self.mlp)(jax.vmap(self.norm2)(x)), key=key)


class VisionTransformer(eqx.Module):
    """`[3, H, W] -> [10]`; patches of 8, a class token, three layers of 32 channels and 4 heads."""

    embed: eqx.nn.Conv2d
    token: jax.Array
    position: jax.Array
    layers: list
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, size, key):
        keys = jax.random.split(key, 7)
        count = (size // 8) ** 2
        self.embed = eqx.nn.Conv2d(3, 32, 8, 8, key=keys[0])
        self.token, self.position = 0.5 * jax.random.normal(keys[1], (1, 32)), 0.2 * jax.random.normal(keys[2], (count + 1, 32))
        self.layers = [Layer(32, k) for k in keys[3:6]]
        self.norm, self.head = eqx.nn.LayerNorm(32), eqx.nn.Linear(32, 10, key=keys[6])

    def __call__(self, x, *, key=None):
        x = jnp.concatenate([self.token, self.embed(x).reshape(32, -1).T]) + self.position
        for layer in self.layers:
            x = layer(x, key)
        return self.head(self.norm(x[0]))
