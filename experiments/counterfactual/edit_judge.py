"""What edits into a class are judged by, all of it apart from what finds them: other examples, other networks, and autoencoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.tree_util import Partial

from experiments.counterfactual.lenet import lenet
from jxai import each, taps
from jxai.evaluate.answers import probabilities
from jxai.metrics import counterfactual as judges
from jxai.models import VAE
from jxai.train import train


class Judge(NamedTuple):
    """What edits are judged by; nothing of it is shown to a search."""

    examples: jax.Array
    """`[pool, 28, 28, 1]`."""
    labels: jax.Array
    """`[pool]`."""
    means: jax.Array
    """`[10, 28, 28, 1]`: the mean digit of each class."""
    features: Partial
    """φ: the last hidden layer of LeNet-5."""
    feature_means: jax.Array
    """`[10, 84]`."""
    oracle: Callable
    """LeNet-5."""
    members: list[Callable]
    coders: VAE
    """An autoencoder for each class, stacked."""
    coder: VAE
    """One for all classes."""


def judge_of(x: np.ndarray, y: np.ndarray, members: list[Callable], coders: VAE, coder: VAE) -> Judge:
    """What judges, from its own digits `[pool, 28, 28, 1]` and labels."""
    oracle = lenet()
    features = Partial(Partial(_read, layer=last_hidden(oracle, x[0])), oracle)
    mean = lambda v: jnp.stack([v[y == c].mean(0) for c in range(10)])
    return Judge(jnp.asarray(x), jnp.asarray(y), mean(x), features, mean(np.asarray(jax.jit(jax.vmap(features))(x))), oracle, members, coders, coder)


def last_hidden(f: Callable, x: np.ndarray) -> int:
    """The index of the last ReLU among the layers of f."""
    return [layer.index for layer in taps.layers(f, jnp.asarray(x)) if layer.primitive == "relu"][-1]


def autoencoders(x: np.ndarray, y: np.ndarray, steps: int) -> tuple[VAE, VAE]:
    """An autoencoder for each class, stacked, and one for all, in the layers of a VAE with 16 numbers in z; each learns from equally many digits of a class."""
    count, optimizer = np.bincount(y, minlength=10).min(), optax.adam(2e-3)
    sets = [x[y == c][:count] for c in range(10)]
    trained = []
    for n, data in enumerate([*sets, np.concatenate(sets)]):
        model = VAE(x.shape[1:], latent=16, hidden=(128,), rngs=nnx.Rngs(n))
        trained.append(train(model, squared_error, data, key=jax.random.key(n), steps=steps, batch_size=min(64, count), optimizer=optimizer).model)
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trained[:10]), trained[10]


def squared_error(model: VAE, x: jax.Array, y: None, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The mean of `‖decode(encode(x)) − x‖²`: no noise, and no prior."""
    return jax.vmap(lambda v: ((model.decode(model.encode(v)) - v) ** 2).sum())(x).mean(), {}


def measured(judge: Judge, f: Callable, x: np.ndarray, made: np.ndarray, target: np.ndarray) -> dict[str, np.ndarray]:
    """`[n]` for each measure of an edit by itself."""
    score = lambda metric, **options: np.asarray(each(metric, f, x, made, target, batch_size=8, **options), np.float64)
    near = {"examples": judge.examples, "labels": judge.labels}
    own, *p = (probability(model, made, target) for model in (f, *judge.members))
    found = {"L1": score(judges.l1), "L2": score(judges.l2)}
    found["prototype gap"] = score(judges.prototype_gap, prototypes=judge.means)
    found["prototype gap, features"] = score(judges.prototype_gap, prototypes=judge.feature_means, features=judge.features)
    found["nearest of the target"] = score(judges.nearest_target_distance, **near)
    found["trust score"] = score(judges.trust_score, **near)
    found["IM1"] = score(judges.im1, autoencoders=judge.coders)
    found["100 IM2"] = 100 * score(judges.im2, autoencoders=judge.coders, autoencoder=judge.coder)
    found |= {"p": own, "ensemble's p": np.mean(p, 0), "ensemble's spread": np.std(p, 0)}
    found["LeNet-5 agrees"] = score(judges.oracle_agreement, oracle=judge.oracle, valid_only=False)
    return found


def probability(f: Callable, x: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`[n]`: the probability of the target."""
    return np.float64(probabilities(f, x))[np.arange(len(x)), target]


def substitutes(made: np.ndarray, target: np.ndarray, real: np.ndarray, judge: Judge) -> float:
    """What a nearest neighbour's accuracy on the judge's digits is with the edits, over that with as many real digits of the same classes; NaN without any."""
    if not len(made):
        return float("nan")
    return judges.substitutability(made, target, real, target, judge.examples, judge.labels)


def _read(f: Callable, x: jax.Array, layer: int) -> jax.Array:
    return taps.read(f, x, layer)
