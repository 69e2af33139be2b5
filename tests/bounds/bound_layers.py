"""One small model for every type of layer, and a region: what the tests of soundness and `benchmarks/bound_tightness.py` go through.

Most layers stand between two random linear ones, so that their lines, not only their ranges, matter.
"""

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
    noise = [v + 0.3 * jnp.abs(jax.random.normal(jax.random.fold_in(key, n), v.shape)) if jnp.issubdtype(v.dtype, jnp.floating) else v for n, v in enumerate(leaves)]
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


LAYERS: dict[str, Layer] = {
    "dense": Layer(dense),
    "conv SAME": conv((3, 3)),
    "conv VALID, stride 2": conv((3, 3), strides=2, padding="VALID"),
    "conv padded": conv((3, 2), strides=(2, 1), padding=((2, 1), (0, 3))),
    "conv dilated": conv((2, 3), dilation=(2, 1)),
    "conv in groups": conv((3, 3), out=4, groups=2),
    "conv depthwise": conv((3, 3), out=2, groups=2, strides=2),
    "conv depthwise ×2": conv((3, 3), out=4, groups=2, then=jnp.tanh),
    "conv transposed": Layer(conv_transpose, (3, 3, 2), 0.2),
    "conv 1-D": conv((3,), shape=(9, 2), strides=2),
    "conv 3-D": conv((2, 3, 2), shape=(3, 4, 4, 1), padding="VALID"),
    "conv2d": own_conv((2, 2), "SAME"),
    "conv2d depthwise": own_conv((1, 1), ((1, 0), (0, 2)), groups=2),
    "batch norm": Layer(batch_norm, IMAGE, 0.2),
    "group norm": Layer(group_norm, (3, 3, 4), 0.05),
    "layer norm": Layer(layer_norm, (5,), 0.05, spread=2.0),
    "max pool": pooled(pool_max((2, 2), (2, 2), "VALID")),
    "max pool, overlapping": pooled(pool_max((3, 3), (2, 2), ((1, 1), (1, 0)))),
    "avg pool": pooled(lambda v: jax.nn.relu(pool_avg((2, 2), (2, 2), "VALID")(v))),
    "avg pool, padded": pooled(lambda v: jax.nn.relu(pool_avg((3, 3), (2, 2), "SAME", count_include_pad=False)(v))),
    "residual": Layer(residual),
    "concatenation": Layer(concatenated),
    "relu": act(jax.nn.relu),
    "relu6": act(jax.nn.relu6, gain=8.0),
    "leaky_relu": act(jax.nn.leaky_relu),
    "prelu": act(lambda x: jnp.where(x > 0, x, jnp.linspace(-0.2, 0.9, 6) * x)),
    "elu": act(jax.nn.elu),
    "celu": act(lambda x: jax.nn.celu(x, 0.7)),
    "selu": act(jax.nn.selu),
    "silu": act(jax.nn.silu),
    "gelu": act(lambda x: jax.nn.gelu(x, approximate=False)),
    "gelu, tanh": act(jax.nn.gelu),
    "softplus": act(jax.nn.softplus),
    "tanh": act(jnp.tanh),
    "sigmoid": act(jax.nn.sigmoid),
    "log_sigmoid": act(jax.nn.log_sigmoid),
    "hard_tanh": act(jax.nn.hard_tanh),
    "hard_sigmoid": act(jax.nn.hard_sigmoid, gain=4.0),
    "hard_silu": act(jax.nn.hard_silu, gain=4.0),
    "hard_silu at its kinks": scalar(lambda x: jax.nn.hard_silu(x) - 1.4 * x, radius=0.25, center=2.8, spread=0.1),
    "mish": act(jax.nn.mish),
    "soft_sign": act(jax.nn.soft_sign),
    "erf": act(jax.scipy.special.erf),
    "atan": act(jnp.arctan),
    "sinh": act(jnp.sinh, gain=1.0),
    "cosh": act(jnp.cosh, gain=1.0),
    "asinh": act(jnp.arcsinh),
    "squareplus": act(jax.nn.squareplus),
    "glu": act(lambda x: jnp.tile(jax.nn.glu(x), 2)),
    "softmax": act(jax.nn.softmax),
    "softmax, plain": act(lambda x: jnp.exp(x - 0.5) / jnp.exp(x - 0.5).sum()),
    "log_softmax": act(jax.nn.log_softmax),
    "logsumexp": act(lambda x: jnp.stack([jax.nn.logsumexp(x[:3]), jax.nn.logsumexp(x)] * 3)),
    "attention": Layer(attention, (3, 4), 0.1),
    "attention, masked": Layer(linen_attention, (3, 4), 0.1),
    "product": Layer(of_two(lambda a, b: a * b)),
    "matrix product": Layer(matrix_product),
    "exp": act(jnp.exp, gain=1.0),
    "exp2": act(jnp.exp2, gain=1.0),
    "expm1": act(jnp.expm1, gain=1.0),
    "log": scalar(jnp.log, center=2.0, spread=0.3, radius=1.0),
    "log1p": scalar(lambda x: jnp.log1p(x), center=0.0, spread=0.2, radius=0.3),
    "sqrt": scalar(jnp.sqrt, center=2.0, spread=0.3, radius=1.0),
    "rsqrt": scalar(lax.rsqrt, center=2.0, spread=0.3, radius=1.0),
    "division": Layer(of_two(lambda a, b: a / (b**2 + 0.5))),
    "division, negative": Layer(of_two(lambda a, b: a / (-jnp.exp(b) - 0.1)), radius=0.2),
    "reciprocal": scalar(lambda x: 1 / x, center=-2.0, spread=0.3, radius=0.9),
    "square": act(lambda x: x**2),
    "cube": act(lambda x: x**3),
    "x^-2": scalar(lambda x: x**-2, center=2.0, spread=0.2, radius=0.8),
    "pow": scalar(lambda x: x**1.7, center=2.0, spread=0.2, radius=0.8),
    "abs": act(jnp.abs),
    "maximum": Layer(of_two(jnp.maximum)),
    "minimum": Layer(of_two(jnp.minimum)),
    "maximum of a constant": act(lambda x: jnp.maximum(x, jnp.linspace(-1, 1, 6)) - jnp.minimum(0.3, x)),
    "clip": act(lambda x: jnp.clip(x, -0.5, 1.0)),
    "where": act(nested_choice),
    "where, of another": Layer(of_two(lambda a, b: jnp.where((a > b) & ~(a < 0) | (b <= -1), a, 0.5 * b))),
    "where, of truths": act(lambda x: x * (x > 0) + (x < 0.5).astype(x.dtype)),
    "steps": act(lambda x: jnp.sign(x) + jnp.floor(x) + jnp.ceil(2 * x) + jnp.round(x)),
    "reduce_max": act(lambda x: jnp.stack([x.max(), x[:3].max(), x[2:].max()] * 2)),
    "reduce_min": act(lambda x: jnp.stack([x.min(), x[:3].min(), x[2:].min()] * 2)),
    "cumsum": act(lambda x: jnp.abs(jnp.cumsum(x))),
    "gather": act(lambda x: jax.nn.relu(x[jnp.array([3, 0, 0, 5, 2, 3])])),
    "scatter": act(lambda x: jax.nn.relu(jnp.zeros(6).at[jnp.array([1, 1, 4])].add(x[:3]).at[0].set(x[5]))),
    "mean and variance": act(lambda x: (x - x.mean()) * lax.rsqrt(x.var() + 0.1), gain=0.5),
    "scan": Layer(scanned),
    "scan over x": Layer(looped, (4, 3)),
    "fori_loop": act(lambda x: lax.fori_loop(0, 3, lambda i, v: jax.nn.relu(v) - 0.5 * i, x)),
    "map": act(lambda x: lax.map(jnp.tanh, x)),
    "remat": act(jax.checkpoint(lambda x: jax.nn.silu(x))),
    "jit": act(jax.jit(lambda x: jax.nn.relu(x - 0.1))),
    "custom_jvp": act(straight_through),
    "custom_vjp": act(own_gradient),
}  # fmt: skip
