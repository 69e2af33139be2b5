"""Networks whose operations move, resample or join positions, and networks of series."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import Partial

from .layers import K, conv, dense, weights


def reflect_padded(seed):
    """Reflection padding in front of each convolution, as style transfer and many segmentation networks have it."""

    def apply(params, x):
        for layer in params[:-1]:
            x = jax.nn.relu(conv(jnp.pad(x, ((1, 1), (1, 1), (0, 0)), mode="reflect"), layer, padding="VALID"))
        return dense(x.mean((0, 1)), params[-1])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (8, K)))


def resized(seed):
    """The picture normalised and resized inside of the model, as a pipeline from a file to the classes."""

    def apply(params, x):
        x = jax.image.resize((x - 0.45) / 0.22, (12, 12, 3), "bilinear")
        x = jax.nn.relu(conv(jax.nn.relu(conv(x, params[0])), params[1], stride=2))
        return dense(x.mean((0, 1)), params[2])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (8, K)))


def shifted_windows(seed):
    """Attention within windows and within shifted ones, as in a Swin transformer."""

    def split(h, n=4):
        return h.reshape(h.shape[0] // n, n, h.shape[1] // n, n, -1).transpose(0, 2, 1, 3, 4).reshape(-1, n * n, h.shape[-1])

    def merge(w, rows, n=4):
        return w.reshape(rows // n, -1, n, n, w.shape[-1]).transpose(0, 2, 1, 3, 4).reshape(rows, -1, w.shape[-1])

    def attend(layer, t):
        scores = t @ t.swapaxes(-1, -2) / t.shape[-1] ** 0.5
        return dense(jax.nn.softmax(scores) @ t, layer)

    def apply(params, x):
        h = jax.nn.gelu(conv(x, params[0], stride=2))
        h = h + merge(attend(params[1], split(h)), len(h))
        moved = jnp.roll(h, (-2, -2), (0, 1))
        h = h + jnp.roll(merge(attend(params[2], split(moved)), len(h)), (2, 2), (0, 1))
        return dense(jax.nn.relu(dense(h, params[3])).mean((0, 1)), params[4])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (8, 8), (8, 8), (8, 8), (8, K)))


def pyramid(seed):
    """A coarse map resized and added to a fine one, as in a feature pyramid."""

    def apply(params, x):
        fine = jax.nn.relu(conv(x, params[0], stride=2))
        coarse = jax.nn.relu(conv(fine, params[1], stride=2))
        both = jax.nn.relu(conv(fine + jax.image.resize(coarse, fine.shape, "nearest"), params[2]))
        return dense(both.mean((0, 1)), params[3])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (3, 3, 8, 8), (8, K)))


def recurrent(seed):
    """A recurrent network whose head reads the mean of all its states."""

    def apply(params, x):
        step = lambda h, v: (jnp.tanh(dense(v, params[0]) + h @ params[1][0]),) * 2
        return dense(jax.nn.relu(lax.scan(step, jnp.zeros(8), x)[1]).mean(0), params[2])

    return Partial(apply, weights(seed, (4, 8), (8, 8), (8, K)))


def causal(seed):
    """A causal sequence model whose head reads its last step."""

    def apply(params, x):
        h = jax.nn.relu(dense(x, params[0]))
        past = np.tril(np.ones((len(x), len(x)), np.float32)) / len(x)
        return dense(jnp.tanh(h + dense(past @ h, params[1]))[-1], params[2])

    return Partial(apply, weights(seed, (4, 8), (8, 8), (8, K)))
