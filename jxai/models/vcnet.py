"""VCNet: a classifier of tabular data that explains itself, trained together with a conditional variational autoencoder."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jxai.scores import check_labels

__all__ = ["VCNet", "loss"]


class VCNet(nnx.Module):
    """`f(x [D]) -> logits [K]` with an autoencoder that is conditioned on the predicted probabilities p: `encode(x) -> z`, `decode(z, p, x) -> x`.

    `h = ELU(W x)`; the classifier reads h, the encoder (h, p), the decoder (z, p) and the immutable features.

    Args:
      inputs: D features in [0, 1]. num_classes: K.
      groups: for each categorical feature the indices of its one-hot entries; the decoder makes them probabilities by a softmax, the others by a sigmoid.
      immutable: indices of features that the decoder copies from x; all of a group, or none.
      shared, hidden, latent: widths of h, of the other hidden layers, and of z.

    Raises:
      ValueError: indices out of range, groups that overlap, a group of which a part is immutable.
    """

    def __init__(
        self,
        inputs: int,
        num_classes: int = 2,
        *,
        groups: Sequence[Sequence[int]] = (),
        immutable: Sequence[int] = (),
        shared: int = 64,
        hidden: int = 32,
        latent: int = 8,
        rngs: nnx.Rngs,
    ):
        self.groups, self.immutable = tuple(tuple(map(int, group)) for group in groups), tuple(map(int, immutable))
        named = [i for group in self.groups for i in group]
        for name, given in (("groups", named), ("immutable", self.immutable)):
            if len(set(given)) != len(given) or (given and not 0 <= min(given) <= max(given) < inputs):
                raise ValueError(f"{name}={groups if name == 'groups' else immutable} must be different features in [0, {inputs})")
        for group in self.groups:
            if 0 < len(set(group) & set(self.immutable)) < len(group):
                raise ValueError(f"the group {group} must be immutable as a whole, or not at all")
        self.inputs, self.num_classes = inputs, num_classes
        self.shared = nnx.Linear(inputs, shared, rngs=rngs)
        self.predict = nnx.List([nnx.Linear(shared, hidden, rngs=rngs), nnx.Linear(hidden, num_classes, rngs=rngs)])
        self.encoder = nnx.List([nnx.Linear(shared + num_classes, hidden, rngs=rngs), nnx.Linear(hidden, 2 * latent, rngs=rngs)])
        self.decoder = nnx.List([nnx.Linear(latent + num_classes + len(self.immutable), hidden, rngs=rngs), nnx.Linear(hidden, inputs, rngs=rngs)])

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._logits(self._features(x))

    def posterior(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The logits of x, and mean and log-variance of its code."""
        h = self._features(x)
        logits = self._logits(h)
        first, last = self.encoder
        mean, log_variance = jnp.split(last(nnx.elu(first(jnp.concatenate([h, jax.nn.softmax(logits)])))), 2)
        return logits, mean, log_variance

    def encode(self, x: jax.Array) -> jax.Array:
        """The mean code of x."""
        return self.posterior(x)[1]

    def decode(self, z: jax.Array, p: jax.Array, x: jax.Array) -> jax.Array:
        """An example with the code z and the class probabilities `p [K]`, its immutable features those of x."""
        first, last = self.decoder
        out = last(nnx.elu(first(jnp.concatenate([z, p, x[np.asarray(self.immutable, int)]]))))
        made = nnx.sigmoid(out)
        for group in self.groups:
            at = np.asarray(group)
            made = made.at[at].set(jax.nn.softmax(out[at]))
        return jnp.where(np.isin(np.arange(self.inputs), self.immutable), x, made)

    def _features(self, x: jax.Array) -> jax.Array:
        if x.shape != (self.inputs,):
            raise ValueError(f"x must have shape ({self.inputs},), got {x.shape}")
        return nnx.elu(self.shared(x))

    def _logits(self, h: jax.Array) -> jax.Array:
        first, last = self.predict
        return last(nnx.elu(first(h)))


def loss(
    model: VCNet, x: jax.Array, y: jax.Array, key: jax.Array, *, reconstruction: float = 1.0, divergence: float = 0.1, prediction: float = 1.0
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss that trains all parts at once, `λ₃ BCE(x̂, x) + λ₁ KL(q(z | x) ‖ N(0, 1)) + λ₂ CE(f(x), y)`, sums over entries, means over the batch.

    Args:
      x: `[B, D]`. y: `[B]`, classes in [0, K). key: draws z. reconstruction: λ₃. divergence: λ₁, which the paper raises from 0 during training (it may be traced).
      prediction: λ₂.

    Returns:
      The loss, and its parts: "reconstruction", "divergence", "prediction", and the "accuracy".
    """

    check_labels(y, len(x), model.num_classes, "y")

    def one(x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, ...]:
        logits, mean, log_variance = model.posterior(x)
        z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape)
        made = jnp.clip(model.decode(z, jax.nn.softmax(logits), x), 1e-6, 1 - 1e-6)
        free = ~np.isin(np.arange(model.inputs), model.immutable)
        cross = -(x * jnp.log(made) + (1 - x) * jnp.log1p(-made))
        apart = 0.5 * (jnp.exp(log_variance) + mean**2 - 1 - log_variance)
        missed = jnp.where((y >= 0) & (y < model.num_classes), -jax.nn.log_softmax(logits)[y], jnp.nan)
        return jnp.where(free, cross, 0).sum(), apart.sum(), missed, logits.argmax() == y

    made, apart, missed, right = (part.mean() for part in jax.vmap(one)(x, y, jax.random.split(key, len(x))))
    total = reconstruction * made + divergence * apart + prediction * missed
    return total, {"reconstruction": made, "divergence": apart, "prediction": missed, "accuracy": right}


def _check(model: VCNet, x: np.ndarray, y: np.ndarray | None) -> None:
    check_labels(np.zeros(0) if y is None else y, len(x), model.num_classes)


loss.check = _check  # type: ignore[attr-defined]  # of the whole data, before a training
