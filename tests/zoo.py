"""Small models as a stranger would write them: plain functions, nnx, linen and Equinox, for tests of everything that walks a model.

`IMAGE`, `VECTOR` and `VIDEO` map a name to `factory(key) -> f`, with `f(x) -> logits [5]` of one example: `[16, 16, 3]`, `[8]` and
`[4, 12, 12, 3]`. Weights are random, biases too, and batch statistics are not the trivial ones.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx
from jax import lax
from jax.tree_util import Partial

from jxai.callables import Batched, Linen

K = 5
SHAPES = {"IMAGE": (16, 16, 3), "VECTOR": (8,), "VIDEO": (4, 12, 12, 3)}


def weights(key, *shapes):
    """He-scaled kernels with small biases: `[(w, b), …]`, fan-in all but the last axis."""
    out = []
    for k, shape in zip(jax.random.split(key, len(shapes)), shapes):
        kw, kb = jax.random.split(k)
        fan_in = 1
        for n in shape[:-1]:
            fan_in *= n
        out.append((jax.random.normal(kw, shape) * (2 / fan_in) ** 0.5, 0.1 * jax.random.normal(kb, shape[-1:])))
    return out


def shaken(tree, key):
    """Adds noise to every float leaf, so that the biases and statistics that a framework starts at 0 or 1 are not trivial."""
    leaves, treedef = jax.tree.flatten(tree)
    return treedef.unflatten([leaf + 0.1 * jax.random.normal(jax.random.fold_in(key, i), leaf.shape) for i, leaf in enumerate(leaves)])


def conv(x, wb, stride=1, padding="SAME"):
    """One convolution of `[H, W, C]`, or of `[T, H, W, C]` for a kernel of rank 5."""
    w, b = wb
    n = w.ndim - 2
    names = ("NHWC", "HWIO", "NHWC") if n == 2 else ("NDHWC", "DHWIO", "NDHWC")
    return lax.conv_general_dilated(x[None], w, (stride,) * n, padding, dimension_numbers=names)[0] + b


def dense(x, wb):
    return x @ wb[0] + wb[1]


def max_pool(x, size=2):
    return lax.reduce_window(x, -jnp.inf, lax.max, (size, size, 1), (size, size, 1), "VALID")


def avg_pool(x, size=2):
    return lax.reduce_window(x, 0.0, lax.add, (size, size, 1), (size, size, 1), "VALID") / size**2


# ---------------------------------------------------------------- plain functions with their parameters


def plain_cnn(key):
    def apply(params, x):
        x = jax.nn.relu(conv(x, params["stem"]))
        x = jax.nn.relu(conv(x, params["conv"], stride=2))
        return dense(x.mean((0, 1)), params["head"])

    stem, second, head = weights(key, (3, 3, 3, 8), (3, 3, 8, 16), (16, K))
    return Partial(apply, {"stem": stem, "conv": second, "head": head})


def flattened_cnn(key):
    """VGG's shape: max pooling, then dense layers on the flattened map."""

    def apply(params, x):
        x = max_pool(jax.nn.relu(conv(x, params[0])))
        x = max_pool(jax.nn.relu(conv(x, params[1])))
        return dense(jax.nn.relu(dense(x.reshape(-1), params[2])), params[3])

    return Partial(apply, weights(key, (3, 3, 3, 6), (3, 3, 6, 8), (4 * 4 * 8, 16), (16, K)))


def residual_net(key):
    def apply(params, x):
        x = jax.nn.relu(conv(x, params["stem"]))
        for first, second in params["blocks"]:
            x = jax.nn.relu(x + conv(jax.nn.relu(conv(x, first)), second))
        x = jax.nn.relu(conv(x, params["shortcut"], stride=2) + conv(jax.nn.relu(conv(x, params["down"], stride=2)), params["last"]))
        return dense(x.mean((0, 1)), params["head"])

    w = weights(key, (3, 3, 3, 8), *[(3, 3, 8, 8)] * 4, (1, 1, 8, 16), (3, 3, 8, 16), (3, 3, 16, 16), (16, K))
    names = dict(stem=w[0], blocks=[(w[1], w[2]), (w[3], w[4])], shortcut=w[5], down=w[6], last=w[7], head=w[8])
    return Partial(apply, names)


def densenet(key):
    def apply(params, x):
        for layer in params["layers"]:
            x = jnp.concatenate([x, jax.nn.relu(conv(x, layer))], axis=-1)
        x = avg_pool(jax.nn.relu(conv(x, params["transition"])))
        return dense(x.mean((0, 1)), params["head"])

    *layers, transition, head = weights(key, (3, 3, 3, 4), (3, 3, 7, 4), (3, 3, 11, 4), (1, 1, 15, 8), (8, K))
    return Partial(apply, {"layers": layers, "transition": transition, "head": head})


def unet(key):
    def apply(params, x):
        top = jax.nn.relu(conv(x, params["down0"]))
        middle = jax.nn.relu(conv(max_pool(top), params["down1"]))
        bottom = jax.nn.relu(conv(max_pool(middle), params["bottom"]))
        for skip, name in ((middle, "up1"), (top, "up0")):
            bottom = jnp.repeat(jnp.repeat(bottom, 2, axis=0), 2, axis=1)
            bottom = jax.nn.relu(conv(jnp.concatenate([skip, bottom], axis=-1), params[name]))
        return dense(bottom.mean((0, 1)), params["head"])

    shapes = dict(down0=(3, 3, 3, 4), down1=(3, 3, 4, 8), bottom=(3, 3, 8, 8), up1=(3, 3, 16, 8), up0=(3, 3, 12, 8), head=(8, K))
    return Partial(apply, dict(zip(shapes, weights(key, *shapes.values()))))


def shared_weights(key):
    """One convolution that is applied three times."""

    def apply(params, x):
        x = jax.nn.relu(conv(x, params["stem"], stride=2))
        for _ in range(3):
            x = jax.nn.relu(conv(x, params["shared"]))
        return dense(x.mean((0, 1)), params["head"])

    stem, shared, head = weights(key, (3, 3, 3, 8), (3, 3, 8, 8), (8, K))
    return Partial(apply, {"stem": stem, "shared": shared, "head": head})


def scanned_layers(key):
    """Layers with stacked parameters, run by `lax.scan`."""

    def apply(params, x):
        x = jax.nn.relu(conv(x, params["stem"], stride=2))
        x, _ = lax.scan(lambda x, layer: (x + jax.nn.relu(conv(x, layer)), None), x, params["layers"])
        return dense(x.mean((0, 1)), params["head"])

    stem, head, *layers = weights(key, (3, 3, 3, 8), (8, K), *[(3, 3, 8, 8)] * 3)
    return Partial(apply, {"stem": stem, "layers": jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers), "head": head})


def rematerialised(key):
    def apply(params, x):
        @jax.checkpoint
        def block(x, layers):
            return jax.nn.relu(x + conv(jax.nn.relu(conv(x, layers[0])), layers[1]))

        x = jax.nn.relu(conv(x, params[0], stride=2))
        return dense(block(x, params[1:3]).mean((0, 1)), params[3])

    return Partial(apply, weights(key, (3, 3, 3, 8), (3, 3, 8, 8), (3, 3, 8, 8), (8, K)))


def jitted_blocks(key):
    """Blocks inside `jax.jit`, one compiled function that two layers call."""

    @jax.jit
    def block(x, layer):
        return jax.nn.relu(conv(x, layer))

    def apply(params, x):
        x = block(block(conv(x, params[0], stride=2), params[1]), params[2])
        return dense(x.mean((0, 1)), params[3])

    return Partial(apply, weights(key, (3, 3, 3, 8), (3, 3, 8, 8), (3, 3, 8, 8), (8, K)))


@jax.custom_jvp
def safe_softplus(x):
    """log(1 + eˣ) with its own forward derivative."""
    return jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x)))


@safe_softplus.defjvp
def _(primals, tangents):
    return safe_softplus(primals[0]), jax.nn.sigmoid(primals[0]) * tangents[0]


@jax.custom_vjp
def clipped_gradient_relu(x):
    """ReLU whose backward pass clips the cotangent at ±1."""
    return jnp.maximum(x, 0)


clipped_gradient_relu.defvjp(lambda x: (jnp.maximum(x, 0), x > 0), lambda positive, g: (jnp.where(positive, jnp.clip(g, -1, 1), 0),))


def custom_derivatives(key):
    def apply(params, x):
        x = safe_softplus(conv(x, params[0], stride=2))
        x = clipped_gradient_relu(conv(x, params[1]))
        return dense(jax.nn.silu(x).mean((0, 1)), params[2])

    return Partial(apply, weights(key, (3, 3, 3, 8), (3, 3, 8, 8), (8, K)))


def many_activations(key):
    """leaky ReLU, ELU, ReLU6, max pooling and average pooling."""

    def apply(params, x):
        x = max_pool(jax.nn.leaky_relu(conv(x, params[0]), 0.1))
        x = avg_pool(jax.nn.elu(conv(x, params[1])))
        x = jax.nn.relu6(conv(x, params[2]))
        return dense(x.mean((0, 1)), params[3])

    return Partial(apply, weights(key, (3, 3, 3, 8), (3, 3, 8, 8), (3, 3, 8, 8), (8, K)))


def depthwise(key):
    """An inverted residual block: depthwise convolution, hard swish, squeeze and excitation."""

    def apply(params, x):
        x = jax.nn.hard_swish(conv(x, params["stem"], stride=2))
        y = jax.nn.hard_swish(conv(x, params["expand"]))
        w, b = params["depthwise"]
        y = lax.conv_general_dilated(y[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=16)[0] + b
        y = y * jax.nn.sigmoid(dense(jax.nn.relu(dense(y.mean((0, 1)), params["squeeze"])), params["excite"]))
        return dense((x + conv(y, params["project"])).mean((0, 1)), params["head"])

    shapes = dict(stem=(3, 3, 3, 8), expand=(1, 1, 8, 16), depthwise=(3, 3, 1, 16), squeeze=(16, 4), excite=(4, 16), project=(1, 1, 16, 8))
    return Partial(apply, dict(zip((*shapes, "head"), weights(key, *shapes.values(), (8, K)))))


# ---------------------------------------------------------------- flax.nnx


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


def nnx_batchnorm(key):
    """Convolution, batch normalisation, ReLU, twice; dropout; in eval mode."""
    model = NnxNet(nnx.Rngs(params=key, dropout=jax.random.fold_in(key, 1)))
    nnx.update(model, shaken(nnx.state(model, nnx.Param), key))
    for i, norm in enumerate(model.norms):
        k = jax.random.fold_in(key, i)
        norm.mean[...] = 0.2 * jax.random.normal(k, norm.mean.shape)
        norm.var[...] = jax.random.uniform(k, norm.var.shape, minval=0.3, maxval=1.5)
        norm.scale[...] = jax.random.uniform(k, norm.scale.shape, minval=0.5, maxval=1.5)
    return nnx.view(model, deterministic=True, use_running_average=True)


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


def vit_mean(key):
    model = NnxMeanTransformer(nnx.Rngs(params=key))
    nnx.update(model, shaken(nnx.state(model, nnx.Param), key))
    return nnx.view(model, deterministic=True)


# ---------------------------------------------------------------- flax.linen


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.GroupNorm(2, name="norm")(nn.Conv(8, (3, 3), name="stem")(x)))
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Conv(16, (3, 3), name="conv")(x))
        return nn.Dense(K, name="head")(x.mean((-3, -2)))


def linen_cnn(key):
    module = LinenNet()
    return Linen(module, shaken(module.init(key, jnp.zeros(SHAPES["IMAGE"])), key))


class LinenBatchNet(nn.Module):
    """Wants `[B, H, W, C]` and a `train` flag, as most published code does."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(8, (3, 3), strides=2)(x)))
        x = nn.avg_pool(x, (2, 2), (2, 2)).reshape(x.shape[0], -1)
        return nn.Dense(K)(nn.Dropout(0.5, deterministic=not train)(x))


def linen_batched(key):
    module = LinenBatchNet()
    variables = shaken(module.init(key, jnp.zeros((1, *SHAPES["IMAGE"])), train=False), key)
    return Batched(Linen(module, variables, (("train", False),)))


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


def vit_class_token(key):
    module = LinenTransformer()
    return Linen(module, shaken(module.init(key, jnp.zeros(SHAPES["IMAGE"])), key))


# ---------------------------------------------------------------- Equinox


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


def equinox_cnn(key):
    return EquinoxNet(key)


# ---------------------------------------------------------------- vectors and video


def mlp(key):
    def apply(params, x):
        for layer in params[:-1]:
            x = jax.nn.relu(dense(x, layer))
        return dense(x, params[-1])

    return Partial(apply, weights(key, (8, 16), (16, 16), (16, K)))


def gated_mlp(key):
    """tanh and a sigmoid gate, layer normalisation, log-probabilities at the end."""

    def apply(params, x):
        x = jnp.tanh(dense(x, params[0])) * jax.nn.sigmoid(dense(x, params[1]))
        x = (x - x.mean()) * lax.rsqrt(x.var() + 1e-5)
        return jax.nn.log_softmax(dense(x, params[2]))

    return Partial(apply, weights(key, (8, 16), (8, 16), (16, K)))


def video_cnn(key):
    """3-D convolutions over `[T, H, W, C]`."""

    def apply(params, x):
        x = jax.nn.relu(conv(x, params[0], stride=2))
        x = jax.nn.relu(conv(x, params[1]))
        return dense(x.mean((0, 1, 2)), params[2])

    return Partial(apply, weights(key, (3, 3, 3, 3, 8), (3, 3, 3, 8, 8), (8, K)))


def framewise_cnn(key):
    """A 2-D network on every frame by `vmap`, averaged over time."""

    def apply(params, x):
        def frame(image):
            return jax.nn.relu(conv(jax.nn.relu(conv(image, params[0], stride=2)), params[1])).mean((0, 1))

        return dense(jax.vmap(frame)(x).mean(0), params[2])

    return Partial(apply, weights(key, (3, 3, 3, 8), (3, 3, 8, 8), (8, K)))


IMAGE = {
    factory.__name__: factory
    for factory in (
        plain_cnn, flattened_cnn, residual_net, densenet, unet, shared_weights, scanned_layers, rematerialised, jitted_blocks,
        custom_derivatives, many_activations, depthwise, nnx_batchnorm, linen_cnn, linen_batched, vit_class_token, vit_mean, equinox_cnn,
    )
}  # fmt: skip
VECTOR = {"mlp": mlp, "gated_mlp": gated_mlp}
VIDEO = {"video_cnn": video_cnn, "framewise_cnn": framewise_cnn}
