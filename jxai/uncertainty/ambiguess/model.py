"""The two-class adversarial autoencoder of AmbiGuess, how it is trained, and whether it is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from jxai.models.coders import check_shape
from jxai.scores import check_labels, need_key, positive
from jxai.training.train import train
from jxai.training.updates import Part
from jxai.typing import Array

CENTRES = ((-3.0, 0.0), (3.0, 0.0))
"""The means of the two classes' codes, whose covariance is I."""
_ADAM = optax.adam(1e-3)
"""The same object in every call, so that another training compiles nothing anew."""


class _Network(nnx.Module):
    """Linear layers with leaky ReLUs between them; given a key, with dropout."""

    def __init__(self, widths: Sequence[int], dropout: float, rngs: nnx.Rngs):
        self.layers = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in zip(widths, widths[1:])])
        self.dropout = dropout

    def __call__(self, v: Array, key: Array | None = None) -> Array:
        *hidden, last = self.layers
        for n, layer in enumerate(hidden):
            v = nnx.leaky_relu(layer(v), 0.3)
            if key is not None and self.dropout:
                kept = jax.random.bernoulli(jax.random.fold_in(key, n), 1 - self.dropout, v.shape)
                v = jnp.where(kept, v / (1 - self.dropout), 0)
        return last(v)


class AmbiGuess(nnx.Module):
    """A regularised adversarial autoencoder of two classes: codes `z [2]`, held to N((−3, 0), I) or N((3, 0), I) by a critic that sees z and the class.

    Classes are 0 and 1 here, the first and the second of a pair. Between the two centres lie codes of images that might be of either.

    Args:
      shape: of x, in [0, 1]. hidden: widths of the encoder's, decoder's and critic's hidden layers. dropout: in [0, 1), in training.

    Reference: Weiss, García Gómez and Tonella 2023, "Generating and Detecting True Ambiguity: A Forgotten Danger in DNN Supervision Testing",
      Empirical Software Engineering, arXiv 2207.10495.
    """

    def __init__(self, shape: Sequence[int], *, hidden: Sequence[int] = (128, 128), dropout: float = 0.1, rngs: nnx.Rngs):
        positive(**{f"shape[{n}]": size for n, size in enumerate(shape)}, **{f"hidden[{n}]": width for n, width in enumerate(hidden)})
        if not 0 <= dropout < 1:
            raise ValueError(f"{dropout=} must lie in [0, 1)")
        self.shape, size = tuple(shape), math.prod(shape)
        self.encoder = _Network((size, *hidden, 2), dropout, rngs)
        self.decoder = _Network((2, *hidden, size), dropout, rngs)
        self.critic = _Network((4, *hidden, 1), dropout, rngs)

    def encode(self, x: Array, key: Array | None = None) -> Array:
        """`[2]`."""
        check_shape("x", x, self.shape)
        return self.encoder(x.reshape(-1), key)

    def decode(self, z: Array, key: Array | None = None) -> Array:
        """`[*shape]`: the pixels, in [0, 1]."""
        return jax.nn.sigmoid(self.decoder(z, key)).reshape(self.shape)

    def score(self, z: Array, side: int | Array, key: Array | None = None) -> Array:
        """`[]`: the critic's logit that z is of the prior of this class (0 or 1) rather than of the encoder."""
        return self.critic(jnp.concatenate([z, jax.nn.one_hot(side, 2, dtype=z.dtype)]), key)[0]

    def label(self, z: Array) -> Array:
        """`[2]`: the probabilities of the two classes, the softmax of the critic's logits."""
        return jax.nn.softmax(jnp.stack([self.score(z, 0), self.score(z, 1)]))

    def prior(self, key: Array, side: int | Array) -> Array:
        """`[2]`: a code drawn from the prior of a class."""
        return jnp.asarray(CENTRES)[side] + jax.random.normal(key, (2,))


def parts(*, optimizer: optax.GradientTransformation | None = None) -> tuple[Part, Part, Part]:
    """What an `AmbiGuess` is trained with by `jxai.train.train`, on labels 0 and 1: reconstruction, critic and encoder, by turns.

    Args:
      optimizer: of all three; `optax.adam(1e-3)` by default, as published, with batches of 1000 and 80 epochs of two digits, about 1000 updates of each.
    """
    optimizer = _ADAM if optimizer is None else optimizer
    return (
        Part(reconstruction_loss, optimizer, ("encoder", "decoder"), 1, "autoencoder"),
        Part(critic_loss, optimizer, ("critic",), 1, "critic"),
        Part(encoder_loss, optimizer, ("encoder",), 1, "encoder"),
    )


def reconstruction_loss(model: Any, x: Array, y: Array, key: Array) -> tuple[Array, dict[str, Array]]:
    """The mean squared error of pixels, with dropout."""

    def one(v: Array, k: Array) -> Array:
        a, b = jax.random.split(k)
        return ((model.decode(model.encode(v, a), b) - v) ** 2).mean()

    return jax.vmap(one)(x, jax.random.split(key, x.shape[0])).mean(), {}


def critic_loss(model: Any, x: Array, y: Array, key: Array) -> tuple[Array, dict[str, Array]]:
    """`−E[log D(z, y)] − E[log(1 − D(E(x), y))]`, z drawn from the prior of class y; `2 log 2` where the critic cannot tell them apart.

    The labels of the prior's draws are the batch's, so that the share of a class says nothing (as published they are half and half).

    Returns:
      `(loss [], {"accuracy": share that the critic tells rightly, 1/2 where it cannot})`.
    """

    def one(v: Array, side: Array, k: Array) -> tuple[Array, Array]:
        a, b, c, d = jax.random.split(k, 4)
        return model.score(model.prior(a, side), side, b), model.score(model.encode(v, c), side, d)

    true, false = jax.vmap(one)(x, y, jax.random.split(key, x.shape[0]))
    loss = (jax.nn.softplus(-true) + jax.nn.softplus(false)).mean()
    return loss, {"accuracy": ((true > 0).mean() + (false < 0).mean()) / 2}


def encoder_loss(model: Any, x: Array, y: Array, key: Array) -> tuple[Array, dict[str, Array]]:
    """`−E[log D(E(x), y)]`: what the encoder minimises."""

    def one(v: Array, side: Array, k: Array) -> Array:
        a, b = jax.random.split(k)
        return jax.nn.softplus(-model.score(model.encode(v, a), side, b))

    return jax.vmap(one)(x, y, jax.random.split(key, x.shape[0])).mean(), {}


class Acceptance(NamedTuple):
    """Whether a trained `AmbiGuess` is used."""

    real_or_fake: Array
    """`[]`: how often its critic tells codes of the prior and of the encoder apart; must lie in (.4, .6)."""
    classes: Array
    """`[]`: how often the label of an example's code is its class; must be .9 or more."""
    holds: Array
    """`[]`, boolean: both."""


def acceptance(model: AmbiGuess, x: Array, y: Array, key: Array) -> Acceptance:
    """The published test: an encoder that is as the prior, and a critic that knows the classes.

    Args:
      model: a trained `AmbiGuess`. x: `[n, *shape]` in [0, 1]. y: `[n]`, 0 or 1. key: draws codes of the prior.

    Raises:
      ValueError: x of another shape, y that is not n classes 0 or 1, no key.
    """
    _checked(model, x, y)

    def one(v: Array, side: Array, k: Array) -> tuple[Array, Array, Array]:
        z = model.encode(v)
        return model.score(model.prior(k, side), side) > 0, model.score(z, side) < 0, model.label(z).argmax() == side

    true, false, right = jax.vmap(one)(jnp.asarray(x), jnp.asarray(y), jax.random.split(need_key(key, "acceptance"), len(x)))
    told, known = (true.mean() + false.mean()) / 2, right.mean()
    return Acceptance(told, known, (told > 0.4) & (told < 0.6) & (known >= 0.9))


def train_pair(
    x: Array, labels: Array, pair: tuple[int, int], key: Array, *, tries: int = 20, steps: int = 1000, batch_size: int = 1000, **options: Any
) -> tuple[AmbiGuess | None, list[Acceptance]]:
    """Trains an `AmbiGuess` on two classes of a data set, again until one is accepted.

    Args:
      x: `[n, *shape]`, in [0, 1]. labels: `[n]`, classes. pair: the two, different. key: for weights, orders and noise.
      tries: at most. steps, batch_size: of each training. options: others of `AmbiGuess`.

    Returns:
      The first that `acceptance` holds of, None without; what came out of each try.

    Raises:
      ValueError: bad data, a class without examples, a batch larger than the data of both.
    """
    positive(tries=tries)
    check_labels(labels, len(x))
    first, second = pair
    if first == second:
        raise ValueError(f"{pair=} must be two different classes")
    labels = np.asarray(labels)
    for c in pair:
        if not (labels == c).any():
            raise ValueError(f"{pair=} must have examples of both, but of class {c} there are none in labels")
    chosen = np.flatnonzero((labels == first) | (labels == second))
    own, sides = np.asarray(x)[chosen], (labels[chosen] == second).astype(np.int32)
    ways, found = parts(), []
    for n in range(tries):
        begin, noise, judge = jax.random.split(jax.random.fold_in(need_key(key, "train_pair"), n), 3)
        model = AmbiGuess(own.shape[1:], **options, rngs=nnx.Rngs(begin))
        model = train(model, ways, (own, sides), key=noise, steps=steps, batch_size=batch_size).model
        found.append(acceptance(model, own, sides, judge))
        if found[-1].holds:
            return model, found
    return None, found


def _checked(model: Any, x: Array, y: Array | None) -> None:
    if y is None:
        raise ValueError("data must be (x, labels) with labels 0 and 1, the first and the second class")
    check_labels(y, len(x), 2)
    if jnp.shape(x)[1:] != model.shape:
        raise ValueError(f"x must be [n, {', '.join(map(str, model.shape))}], got shape {jnp.shape(x)}")


reconstruction_loss.check = critic_loss.check = encoder_loss.check = _checked  # type: ignore[attr-defined]
