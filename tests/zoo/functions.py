"""Plain functions of images with their parameters."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from .layers import K, avg_pool, conv, dense, max_pool, weights


def plain_cnn(seed):
    def apply(params, x):
        x = jax.nn.relu(conv(x, params["stem"]))
        x = jax.nn.relu(conv(x, params["conv"], stride=2))
        return dense(x.mean((0, 1)), params["head"])

    stem, second, head = weights(seed, (3, 3, 3, 8), (3, 3, 8, 16), (16, K))
    return Partial(apply, {"stem": stem, "conv": second, "head": head})


def flattened_cnn(seed):
    """VGG's shape: max pooling, then dense layers on the flattened map."""

    def apply(params, x):
        x = max_pool(jax.nn.relu(conv(x, params[0])))
        x = max_pool(jax.nn.relu(conv(x, params[1])))
        return dense(jax.nn.relu(dense(x.reshape(-1), params[2])), params[3])

    return Partial(apply, weights(seed, (3, 3, 3, 6), (3, 3, 6, 8), (4 * 4 * 8, 16), (16, K)))


def residual_net(seed):
    def apply(params, x):
        x = jax.nn.relu(conv(x, params["stem"]))
        for first, second in params["blocks"]:
            x = jax.nn.relu(x + conv(jax.nn.relu(conv(x, first)), second))
        x = jax.nn.relu(conv(x, params["shortcut"], stride=2) + conv(jax.nn.relu(conv(x, params["down"], stride=2)), params["last"]))
        return dense(x.mean((0, 1)), params["head"])

    w = weights(seed, (3, 3, 3, 8), *[(3, 3, 8, 8)] * 4, (1, 1, 8, 16), (3, 3, 8, 16), (3, 3, 16, 16), (16, K))
    names = dict(stem=w[0], blocks=[(w[1], w[2]), (w[3], w[4])], shortcut=w[5], down=w[6], last=w[7], head=w[8])
    return Partial(apply, names)


def densenet(seed):
    def apply(params, x):
        for layer in params["layers"]:
            x = jnp.concatenate([x, jax.nn.relu(conv(x, layer))], axis=-1)
        x = avg_pool(jax.nn.relu(conv(x, params["transition"])))
        return dense(x.mean((0, 1)), params["head"])

    *layers, transition, head = weights(seed, (3, 3, 3, 4), (3, 3, 7, 4), (3, 3, 11, 4), (1, 1, 15, 8), (8, K))
    return Partial(apply, {"layers": layers, "transition": transition, "head": head})


def unet(seed):
    def apply(params, x):
        top = jax.nn.relu(conv(x, params["down0"]))
        middle = jax.nn.relu(conv(max_pool(top), params["down1"]))
        bottom = jax.nn.relu(conv(max_pool(middle), params["bottom"]))
        for skip, name in ((middle, "up1"), (top, "up0")):
            bottom = jnp.repeat(jnp.repeat(bottom, 2, axis=0), 2, axis=1)
            bottom = jax.nn.relu(conv(jnp.concatenate([skip, bottom], axis=-1), params[name]))
        return dense(bottom.mean((0, 1)), params["head"])

    shapes = dict(down0=(3, 3, 3, 4), down1=(3, 3, 4, 8), bottom=(3, 3, 8, 8), up1=(3, 3, 16, 8), up0=(3, 3, 12, 8), head=(8, K))
    return Partial(apply, dict(zip(shapes, weights(seed, *shapes.values()))))


def shared_weights(seed):
    """One convolution that is applied three times."""

    def apply(params, x):
        x = jax.nn.relu(conv(x, params["stem"], stride=2))
        for _ in range(3):
            x = jax.nn.relu(conv(x, params["shared"]))
        return dense(x.mean((0, 1)), params["head"])

    stem, shared, head = weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (8, K))
    return Partial(apply, {"stem": stem, "shared": shared, "head": head})


def scanned_layers(seed):
    """Layers with stacked parameters, run by `lax.scan`."""

    def apply(params, x):
        x = jax.nn.relu(conv(x, params["stem"], stride=2))
        x, _ = lax.scan(lambda x, layer: (x + jax.nn.relu(conv(x, layer)), None), x, params["layers"])
        return dense(x.mean((0, 1)), params["head"])

    stem, head, *layers = weights(seed, (3, 3, 3, 8), (8, K), *[(3, 3, 8, 8)] * 3)
    return Partial(apply, {"stem": stem, "layers": jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers), "head": head})


def rematerialised(seed):
    def apply(params, x):
        @jax.checkpoint
        def block(x, layers):
            return jax.nn.relu(x + conv(jax.nn.relu(conv(x, layers[0])), layers[1]))

        x = jax.nn.relu(conv(x, params[0], stride=2))
        return dense(block(x, params[1:3]).mean((0, 1)), params[3])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (3, 3, 8, 8), (8, K)))


def jitted_blocks(seed):
    """Blocks inside `jax.jit`, one compiled function that two layers call."""

    @jax.jit
    def block(x, layer):
        return jax.nn.relu(conv(x, layer))

    def apply(params, x):
        x = block(block(conv(x, params[0], stride=2), params[1]), params[2])
        return dense(x.mean((0, 1)), params[3])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (3, 3, 8, 8), (8, K)))


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


def custom_derivatives(seed):
    def apply(params, x):
        x = safe_softplus(conv(x, params[0], stride=2))
        x = clipped_gradient_relu(conv(x, params[1]))
        return dense(jax.nn.silu(x).mean((0, 1)), params[2])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (8, K)))


def many_activations(seed):
    """leaky ReLU, ELU, ReLU6, max pooling and average pooling."""

    def apply(params, x):
        x = max_pool(jax.nn.leaky_relu(conv(x, params[0]), 0.1))
        x = avg_pool(jax.nn.elu(conv(x, params[1])))
        x = jax.nn.relu6(conv(x, params[2]))
        return dense(x.mean((0, 1)), params[3])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (3, 3, 8, 8), (8, K)))


def depthwise(seed):
    """An inverted residual block: depthwise convolution, hard swish, squeeze and excitation."""

    def apply(params, x):
        x = jax.nn.hard_swish(conv(x, params["stem"], stride=2))
        y = jax.nn.hard_swish(conv(x, params["expand"]))
        w, b = params["depthwise"]
        y = lax.conv_general_dilated(y[None], w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=16)[0] + b
        y = y * jax.nn.sigmoid(dense(jax.nn.relu(dense(y.mean((0, 1)), params["squeeze"])), params["excite"]))
        return dense((x + conv(y, params["project"])).mean((0, 1)), params["head"])

    shapes = dict(stem=(3, 3, 3, 8), expand=(1, 1, 8, 16), depthwise=(3, 3, 1, 16), squeeze=(16, 4), excite=(4, 16), project=(1, 1, 16, 8))
    return Partial(apply, dict(zip((*shapes, "head"), weights(seed, *shapes.values(), (8, K)))))
