"""What is nearly softmax, log-sum-exp or an activation, but is not: axes transposed, rolled, reversed, another axis, another constant.

All on square or cubic shapes, so that no shape tells them from what they nearly are.
"""

import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax

SQUARE, CUBE = (3, 3), (2, 2, 2)

MOVES = {
    "as it is": lambda v: v,
    "transposed": lambda v: v.T,
    "rolled": lambda v: jnp.roll(v, 1, 0),
    "rolled along the last": lambda v: jnp.roll(v, 1, -1),
    "reversed": lambda v: v[::-1],
    "first": lambda v: jnp.broadcast_to(v[:1], v.shape),
    "last": lambda v: jnp.broadcast_to(v[..., -1:], v.shape),
    "reshaped": lambda v: v.T.reshape(v.shape[::-1]).reshape(v.shape),
}


def spread(v, axis, rank):
    """A value without an axis, spread over that axis again."""
    return jnp.broadcast_to(jnp.expand_dims(v, axis), (v.shape[0],) * rank)


def sums(summed, back, taken, added):
    """`log Σ_summed exp(x − spread(taken(m))) + added(m)`, m the greatest along `back`, for any two axes."""

    def f(x):
        m = x.max(back)
        return jnp.log(jnp.exp(x - spread(taken(m), back, x.ndim)).sum(summed)) + added(m)

    return f


def quotient(summed, back, moved, by):
    """`exp(x − m) / moved(Σ_summed exp(x − m))`, spread along `back`; m the greatest along `by`."""

    def f(x):
        e = jnp.exp(x - spread(x.max(by), by, x.ndim))
        return e / spread(moved(e.sum(summed)), back, x.ndim)

    return f


def difference(summed, back, moved, by):
    """`a − moved(log Σ_summed exp(a))`, spread along `back`, of `a = x − m`, m the greatest along `by`."""

    def f(x):
        a = x - spread(x.max(by), by, x.ndim)
        return a - spread(moved(jnp.log(jnp.exp(a).sum(summed))), back, x.ndim)

    return f


def _families(rank):
    moves = {k: v for k, v in MOVES.items() if rank > 2 or k not in ("transposed", "rolled along the last", "last", "reshaped")}
    axes = range(rank)
    for summed, back, (a, taken), (b, added) in itertools.product(axes, axes, moves.items(), moves.items()):
        yield f"log-sum-exp{rank} {summed} {back} {a} {b}", sums(summed, back, taken, added)
    for summed, back, by, (a, moved) in itertools.product(axes, axes, axes, moves.items()):
        yield f"softmax{rank} {summed} {back} {by} {a}", quotient(summed, back, moved, by)
        yield f"log-softmax{rank} {summed} {back} {by} {a}", difference(summed, back, moved, by)


SOFTMAXES = {name: (f, shape) for shape in (SQUARE, CUBE) for name, f in _families(len(shape))}
"""Every alignment of axes, the right ones among them."""

_C = math.sqrt(2 / math.pi)

CURVES = {
    "gelu of another": lambda x: 0.5 * x.T * (1 + lax.erf(x / math.sqrt(2))),
    "gelu, tanh, another cube": lambda x: 0.5 * x * (1 + jnp.tanh(_C * (x + 0.0447 * x**3))),
    "gelu, tanh, another power": lambda x: 0.5 * x * (1 + jnp.tanh(_C * (x + 0.044715 * x**2))),
    "gelu, tanh, of another": lambda x: 0.5 * x * (1 + jnp.tanh(_C * (x + 0.044715 * x.T**3))),
    "gelu, tanh, another scale": lambda x: 0.5 * x * (1 + jnp.tanh(0.8 * (x + 0.044715 * x**3))),
    "gelu, another half": lambda x: 0.51 * x * lax.erfc(-x * math.sqrt(0.5)),
    "silu of another": lambda x: x[::-1] * jax.nn.sigmoid(x),
    "silu, beta": lambda x: x * jax.nn.sigmoid(1.7 * x),
    "softplus of another": lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x.T))),
    "softplus, shifted": lambda x: jnp.log1p(2 * jnp.exp(x)),
    "softplus, turned": lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(jnp.abs(x))),
    "mish of another": lambda x: x.T * jnp.tanh(jax.nn.softplus(x)),
    "hard silu, another width": lambda x: x * jnp.clip(x + 2.5, 0, 6) / 6,
    "hard silu of another": lambda x: jnp.roll(x, 1, 1) * (jax.nn.relu6(x + 3) / 6),
    "soft sign, another one": lambda x: x / (jnp.abs(x) + 2),
    "soft sign of another": lambda x: x.T / (jnp.abs(x) + 1),
    "relu, another zero": lambda x: jnp.where(x > 0.2, x, 0.0),
    "relu, another floor": lambda x: jnp.where(x > 0, x, -0.3),
    "relu of another": lambda x: jnp.where(x > 0, x.T, 0.0),
    "relu by another": lambda x: jnp.where(x.T > 0, x, 0.0),
    "relu, turned": lambda x: jnp.where(x < 0, x, 0.0),
    "leaky relu of another": lambda x: jnp.where(x > 0, x, 0.1 * x[::-1]),
    "leaky relu, another zero": lambda x: jnp.where(x > -0.4, x, 0.1 * x),
    "leaky relu, by column": lambda x: jnp.where(x > 0, x, jnp.linspace(-1, 1, 3) * x.T),
    "elu, two constants": lambda x: jnp.where(x > 0, x, 1.3 * jnp.expm1(jnp.where(x > 0, 0.0, 0.7 * x))),
    "elu, negative": lambda x: jax.nn.elu(x, -0.8),
    "elu of another": lambda x: jnp.where(x > 0, x, jnp.expm1(jnp.where(x > 0, 0.0, x.T))),
    "celu, negative": lambda x: jax.nn.celu(x, -0.8),
    "celu, two constants": lambda x: jnp.maximum(x, 0) + 1.2 * jnp.expm1(jnp.minimum(x, 0) / 0.7),
    "clip, ends crossed": lambda x: jnp.minimum(jnp.maximum(x, 0.5), -0.5),
    "clip by where, ends crossed": lambda x: jnp.where(x > -0.5, -0.5, jnp.where(x < 0.5, 0.5, x)),
    "clip by where, of another": lambda x: jnp.where(x > 0.5, 0.5, jnp.where(x.T < -0.5, -0.5, x)),
    "clip by where, two highs": lambda x: jnp.where(x > 0.5, 0.7, jnp.where(x < -0.5, -0.5, x)),
    "square of another": lambda x: x * x.T,
    "norm, along another axis": lambda x: x * lax.rsqrt((x**2).sum(0) + 0.1)[:, None],
    "layer norm, another's mean": lambda x: (x - x.mean(0)[:, None]) * lax.rsqrt(x.var(1) + 0.3)[:, None],
    "attention, turned": lambda x: jax.nn.softmax(x @ x.T, axis=0).T @ x,
    "attention, along the rows": lambda x: jax.nn.softmax((x @ x.T).T, axis=-1).T @ x,
    "softmax of two shifts": lambda x: jnp.exp(x - x.max()) / jnp.exp(x - x.min()).sum(-1, keepdims=True),
    "softmax by another": lambda x: jnp.exp(x) / jnp.exp(x.T).sum(-1, keepdims=True),
    "log-sum-exp, another constant": lambda x: jnp.log(jnp.exp(x - 0.5).sum(-1)) + 0.25,
    "log-sum-exp, too little": lambda x: jnp.log(jnp.exp(x - x.max(-1, keepdims=True)).sum(-1)) + 0.5 * x.max(-1),
    "log-mean-exp": lambda x: jnp.log(jnp.exp(x - x.max(-1, keepdims=True)).mean(-1)) + x.max(-1),
    "log-sum-exp of a part": lambda x: jnp.log(jnp.exp(x - x.max(-1, keepdims=True))[:, :2].sum(-1)) + x.max(-1),
}
"""Functions of `[3, 3]`."""
