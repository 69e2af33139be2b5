"""How the small models of `bound_layers` are built: most layers stand between two random linear ones, so that their lines matter."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from jxai.bounds import Box
from jxai.kernels import conv2d, relu6

IMAGE = (6, 6, 2)


@dataclasses.dataclass(frozen=True)
class Layer:
    """`build(key) -> f`, of an x of this shape; regions lie around `center + spread · normal`, with this radius."""

    build: Callable
    shape: tuple[int, ...] = (5,)
    radius: float = 0.3
    center: float = 0.0
    spread: float = 1.0

    def case(self, seed: int = 0, radius: float | None = None) -> tuple[Callable, Box]:
        """A random model and region; radii differ from entry to entry."""
        model, place, size = jax.random.split(jax.random.key(seed), 3)
        x = self.center + self.spread * jax.random.normal(place, self.shape)
        r = (self.radius if radius is None else radius) * jax.random.uniform(size, self.shape, minval=0.5)
        return self.build(model), Box(x - r, x + r)


def normal(key, *shape):
    """A matrix, or a kernel, that keeps the size of what passes it."""
    fan_in = max(1, math.prod(shape[:-1]))
    return jax.random.normal(key, shape) / fan_in**0.5


def dense(key, n=5, m=4):
    w, b = normal(key, n, m), 0.3 * jax.random.normal(jax.random.fold_in(key, 1), (m,))
    return lambda x: x @ w + b


def between(layer, hidden=6, out=3, gain=2.0, shift=0.0):
    """`dense ∘ layer ∘ dense`."""

    def build(key):
        before, after = jax.random.split(key)
        w, b, v = gain * normal(before, 5, hidden), shift + 0.3 * jax.random.normal(jax.random.fold_in(before, 1), (hidden,)), normal(after, hidden, out)
        return lambda x: layer(x @ w + b) @ v

    return build


def act(layer, radius=0.4, **options):
    return Layer(between(layer, **options), radius=radius)


def scalar(layer, **options):
    """A function of each entry alone, then a mix of both."""

    def build(key):
        v = normal(key, 5, 3)
        return lambda x: layer(x) @ v

    return Layer(build, **options)


def conv(window, out=3, shape=IMAGE, strides=1, padding="SAME", dilation=1, groups=1, lhs_dilation=1, then=jax.nn.relu, radius=0.2):
    """A convolution of one example, an activation, and a second convolution of 1×1."""
    n = len(shape) - 1
    spread = lambda v: (v,) * n if isinstance(v, int) else tuple(v)
    names = {1: ("NWC", "WIO", "NWC"), 2: ("NHWC", "HWIO", "NHWC"), 3: ("NDHWC", "DHWIO", "NDHWC")}[n]

    def build(key):
        k1, k2 = jax.random.split(key)
        w, v = normal(k1, *window, shape[-1] // groups, out), normal(k2, out, 2)

        def f(x):
            y = lax.conv_general_dilated(
                x[None], w, spread(strides), padding, lhs_dilation=spread(lhs_dilation), rhs_dilation=spread(dilation),
                dimension_numbers=names, feature_group_count=groups,
            )[0]  # fmt: skip
            return then(y + 0.1) @ v

        return f

    return Layer(build, shape, radius)


def own_conv(strides, padding, groups=1, out=4):
    def build(key):
        k1, k2 = jax.random.split(key)
        w, v = normal(k1, 3, 3, IMAGE[-1] // groups, out), normal(k2, 1, 1, out, 2)
        return lambda x: conv2d(relu6(4 * conv2d(x, w, strides, padding, groups)), v)

    return Layer(build, IMAGE, 0.2)


def conv_transpose(key):
    w, v = normal(key, 3, 3, 2, 3), normal(jax.random.fold_in(key, 1), 3, 2)
    return lambda x: jax.nn.relu(lax.conv_transpose(x[None], w, (2, 2), "SAME")[0]) @ v


def shaken(module, key):
    """An nnx module whose parameters and statistics are random."""
    graph, state = nnx.split(module)
    leaves, tree = jax.tree.flatten(state)
    noise = [
        v + 0.3 * jnp.abs(jax.random.normal(jax.random.fold_in(key, n), v.shape)) if jnp.issubdtype(v.dtype, jnp.floating) else v for n, v in enumerate(leaves)
    ]
    return nnx.merge(graph, tree.unflatten(noise))


def batch_norm(key):
    w = 2 * normal(key, 3, 3, 2, 3)
    norm = shaken(nnx.BatchNorm(3, use_running_average=True, rngs=nnx.Rngs(0)), key)
    return lambda x: jax.nn.relu(norm(lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")))[0])


def layer_norm(key):
    norm, w, v = shaken(nnx.LayerNorm(6, rngs=nnx.Rngs(0)), key), normal(key, 5, 6), normal(jax.random.fold_in(key, 1), 6, 3)
    return lambda x: norm(x @ w) @ v


def group_norm(key):
    module = nn.GroupNorm(num_groups=2)
    variables = module.init(key, jnp.ones((1, 3, 3, 4)))
    return lambda x: jax.nn.relu(module.apply(variables, x[None])[0])


def attention(key):
    module = shaken(nnx.MultiHeadAttention(2, 4, decode=False, rngs=nnx.Rngs(0)), key)
    return lambda x: module(x)


def linen_attention(key):
    module = nn.MultiHeadDotProductAttention(2)
    variables = module.init(key, jnp.ones((3, 4)))
    mask = jnp.tril(jnp.ones((1, 3, 3), bool))
    return lambda x: module.apply(variables, x, mask=mask)


def pooled(pool):
    def build(key):
        w, v = normal(key, 3, 3, 2, 3), normal(jax.random.fold_in(key, 1), 3, 2)
        return lambda x: pool(lax.conv_general_dilated(x[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))[0]) @ v

    return Layer(build, IMAGE, 0.2)


def residual(key):
    w, v = normal(key, 5, 5), normal(jax.random.fold_in(key, 1), 5, 5)
    return lambda x: jax.nn.relu(x + jax.nn.relu(x @ w) @ v) @ w


def concatenated(key):
    w, v = normal(key, 5, 4), normal(jax.random.fold_in(key, 1), 9, 3)
    return lambda x: jnp.concatenate([jnp.tanh(x @ w), x]) @ v


def of_two(combine):
    """`combine(a, b)` of two linear functions of x."""

    def build(key):
        a, b = (dense(k, 5, 4) for k in jax.random.split(key))
        mix = normal(jax.random.fold_in(key, 3), 4, 3)
        return lambda x: combine(a(x), b(x)) @ mix

    return build


def matrix_product(key):
    a, b = dense(key, 5, 6), dense(jax.random.fold_in(key, 1), 5, 6)
    return lambda x: (a(x).reshape(2, 3) @ b(x).reshape(3, 2)).ravel()


def scanned(key):
    w = normal(key, 5, 5)
    return lambda x: lax.scan(lambda h, row: (jnp.tanh(h @ w + row), h[0]), x, 0.1 * jnp.ones((3, 5)))[0]


def looped(key):
    w = normal(key, 3, 3)
    return lambda x: lax.scan(lambda h, v: (jnp.tanh(h @ w) + v, h.sum()), jnp.ones(3), x, reverse=True)[1]


@jax.custom_jvp
def straight_through(x):
    return jnp.tanh(x) + 0.1 * x


straight_through.defjvp(lambda primals, tangents: (straight_through(*primals), tangents[0]))


@jax.custom_vjp
def own_gradient(x):
    return jax.nn.softplus(x) - 1.0


own_gradient.defvjp(lambda x: (own_gradient(x), None), lambda residue, g: (g,))


def nested_choice(x):
    return jnp.where(x > 0.3, jnp.where(x > 1.0, 2 - x, x), jnp.where(x < -0.5, 0.1 * x - 1, -x))


def pool_max(window, strides, padding):
    return lambda v: nn.max_pool(v[None], window, strides, padding)[0]


def pool_avg(window, strides, padding, **options):
    return lambda v: nn.avg_pool(v[None], window, strides, padding, **options)[0]
