"""Networks of vectors and of video."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from .layers import K, conv, dense, weights


def mlp(seed):
    def apply(params, x):
        for layer in params[:-1]:
            x = jax.nn.relu(dense(x, layer))
        return dense(x, params[-1])

    return Partial(apply, weights(seed, (8, 16), (16, 16), (16, K)))


def gated_mlp(seed):
    """tanh and a sigmoid gate, layer normalisation, log-probabilities at the end."""

    def apply(params, x):
        x = jnp.tanh(dense(x, params[0])) * jax.nn.sigmoid(dense(x, params[1]))
        x = (x - x.mean()) * lax.rsqrt(x.var() + 1e-5)
        return jax.nn.log_softmax(dense(x, params[2]))

    return Partial(apply, weights(seed, (8, 16), (8, 16), (16, K)))


def video_cnn(seed):
    """3-D convolutions over `[T, H, W, C]`."""

    def apply(params, x):
        x = jax.nn.relu(conv(x, params[0], stride=2))
        x = jax.nn.relu(conv(x, params[1]))
        return dense(x.mean((0, 1, 2)), params[2])

    return Partial(apply, weights(seed, (3, 3, 3, 3, 8), (3, 3, 3, 8, 8), (8, K)))


def framewise_cnn(seed):
    """A 2-D network on every frame by `vmap`, averaged over time."""

    def apply(params, x):
        def frame(image):
            return jax.nn.relu(conv(jax.nn.relu(conv(image, params[0], stride=2)), params[1])).mean((0, 1))

        return dense(jax.vmap(frame)(x).mean(0), params[2])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (8, K)))
