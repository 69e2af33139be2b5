"""Networks whose rectifiers are written out, learnt, guarded or chosen, with weights in the flat dictionaries of checkpoints."""

import jax
import jax.numpy as jnp
from jax import lax
from jax.tree_util import Partial

from .layers import K, conv, dense, weights


def flat(names, params):
    """As Keras names them: `stem/kernel`, `stem/bias`."""
    return {f"{name}/{part}": w for name, pair in zip(names, params) for part, w in zip(("kernel", "bias"), pair)}


def learnt_slopes(seed):
    """A slope for each channel (PReLU), and `v · (v > 0)`; one flat dictionary, beside statistics, in a tuple."""

    def apply(params, x):
        w, (slope,) = params
        layer = lambda name: (w[f"{name}/kernel"], w[f"{name}/bias"])
        x = conv(x, layer("stem"))
        x = conv(jnp.where(x >= 0, x, slope * x), layer("body"), stride=2)
        return dense((x * (x > 0)).mean((0, 1)), layer("head"))

    w = flat(("stem", "body", "head"), weights(seed, (3, 3, 3, 8), (3, 3, 8, 16), (16, K)))
    return Partial(apply, (w, (jnp.linspace(0.05, 0.4, 8),)))


def pooled_by_powers(seed):
    """A clip of the input, then generalised means: a rectifier, kept from 0, before a learnt power; a logarithm before the head."""

    def apply(params, x):
        w, p = params
        x = jnp.maximum(conv(jnp.clip(x, 0, 1), w[0]), 0)
        x = jax.nn.relu(conv(x, w[1], stride=2))
        pooled = (jnp.maximum(x, 1e-6) ** p).mean((0, 1)) ** (1 / p)
        return dense(jnp.log1p(pooled), w[2])

    return Partial(apply, (weights(seed, (3, 3, 3, 8), (3, 3, 8, 16), (16, K)), jnp.float32(3.0)))


def chosen_activations(seed):
    """The branch of a conditional holds the rectifier."""

    def apply(params, x):
        x = jax.nn.relu(conv(x, params[0]))
        x = lax.cond(x.sum() > 0, lambda v: jnp.maximum(conv(v, params[1]), 0), lambda v: jnp.tanh(conv(v, params[1])), x)
        return dense(x.mean((0, 1)), params[2])

    return Partial(apply, weights(seed, (3, 3, 3, 8), (3, 3, 8, 8), (8, K)))
