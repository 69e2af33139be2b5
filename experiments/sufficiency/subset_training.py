"""Small networks that are trained on whole images, on pixel subsets, or with pixels dropped: a part of overinterpretation.py."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from experiments.sufficiency.pixel_subsets import NETWORKS, THRESHOLDS, by_gradients, ordered
from jxai.evaluate import findings
from jxai.evaluate.answers import probabilities
from jxai.evaluate.record import Record
from jxai.models import CNN, available
from jxai.models.ordinary import mnist
from jxai.models.resnet import MEAN, STD
from jxai.train import train

WIDTHS = (16, 32, 64)
KEEP = 0.8
"""The share of the pixels that input dropout keeps; the rest becomes 0 in normalised units, as in a removal."""


@jax.tree_util.register_pytree_node_class
class Ensemble:
    """`f(x) -> logits`: the logarithm of the members' mean probability."""

    def __init__(self, members):
        self.members = tuple(members)

    def tree_flatten(self):
        return (self.members,), None

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls(children[0])

    def __call__(self, x: jax.Array) -> jax.Array:
        each = jnp.stack([jax.nn.log_softmax(f(x)) for f in self.members])
        return jax.nn.logsumexp(each, 0) - jnp.log(len(self.members))


def plain(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The cross entropy; half of the images mirrored."""
    x = jnp.where(jax.random.bernoulli(key, 0.5, (len(x), 1, 1, 1)), x[:, :, ::-1], x)
    logits = jax.vmap(model)(x)
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), {"accuracy": (logits.argmax(1) == y).mean()}


def dropping(model: nnx.Module, x: jax.Array, y: jax.Array, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
    """`plain` under input dropout: whole pixels become 0."""
    key, drop = jax.random.split(key)
    return plain(model, x * jax.random.bernoulli(drop, KEEP, (*x.shape[:3], 1)), y, key)


def small(x: np.ndarray, y: np.ndarray, seed: int, epochs: int, loss: Callable = plain, checkpoint: str | os.PathLike | None = None) -> nnx.Module:
    """A `CNN` of three convolutions, trained by Adam at 3e-3 falling to 0 in batches of 64; x in normalised units."""
    steps = epochs * (len(x) // 64)
    model = CNN(3, WIDTHS, rngs=nnx.Rngs(seed))
    options = dict(key=jax.random.key(seed), steps=steps, batch_size=64, optimizer=_adam(steps), checkpoint=checkpoint)
    return train(model, loss, (x, y.astype(np.int32)), **options).model


@functools.cache
def _adam(steps: int) -> optax.GradientTransformation:
    """One object for each number of steps, so that a second training compiles nothing."""
    return optax.adam(optax.cosine_decay_schedule(3e-3, steps))


def training(config: Any, here: Record) -> list[dict[str, Any]]:
    """Small networks taught by subsets, and what makes networks need more pixels."""
    unit = lambda images: (images - np.float32(MEAN)) / np.float32(STD)
    (x, y), (tests, true) = mnist("train", config.taught, dataset="cifar10"), mnist("test", config.judged, dataset="cifar10")
    whole = unit(x), unit(tests)
    teacher = available()[NETWORKS[0]].build().model
    by_teacher = [masks(config, here, f"teacher, {n}", teacher, part, MEAN) for n, part in enumerate((x, tests))]
    rng = np.random.default_rng(config.seed)
    kept = int(by_teacher[0][0].sum())
    chance = [np.argsort(np.argsort(rng.random((len(part), 1024)), 1), 1).reshape(-1, 32, 32, 1) < kept for part in (x, tests)]
    rows, pooled = [], {}
    for seed in range(config.seeds):
        nets = [learnt(config, here, f"whole, {seed}, {n}", *whole, y, 100 * seed + n) for n in range(config.members)]
        f = nets[0][0]
        own = [masks(config, here, f"own, {seed}, {n}", f, part, 0.0) for n, part in enumerate(whole)]
        taught = {
            "subsets that it selects": [m * part for m, part in zip(own, whole, strict=True)],
            "subsets that ResNet-20 selects": [m * part for m, part in zip(by_teacher, whole, strict=True)],
            "random subsets": [m * part for m, part in zip(chance, whole, strict=True)],
            "masks that it selects, alone": [np.repeat(m, 3, -1).astype(np.float32) for m in own],
            "masks that ResNet-20 selects, alone": [np.repeat(m, 3, -1).astype(np.float32) for m in by_teacher],
        }
        said = {"whole images": nets[0][1]} | {name: learnt(config, here, f"{name}, {seed}", *sets, y, seed)[1] for name, sets in taught.items()}
        dropped = learnt(config, here, f"dropout, {seed}", *whole, y, seed, dropping)[0]
        compared = {"one network": f, f"ensemble of {config.members}": Ensemble([net for net, _ in nets]), "input dropout": dropped}
        for name, p in said.items():
            pooled.setdefault((name, "accuracy"), []).append(p.argmax(1) == true)
        for name, net in compared.items():
            for metric, value in sized(config, here, f"{name}, {seed}", net, whole[1], true, 0.0, config.confidence).items():
                pooled.setdefault((name, metric), []).append(value)
    for (name, metric), values in pooled.items():
        rows.append(findings.row(np.concatenate(values), network="small", order=name, metric=metric))
        if metric == "accuracy":
            rows.append(findings.row([v.mean() for v in values], network="small", order=name, metric="accuracy, by seed"))
    given = {name: available()[name].build().model for name in NETWORKS}
    for name, net in (given | {"both": Ensemble(given.values())}).items():
        values = sized(config, here, f"given, {name}", net, tests, true, MEAN, THRESHOLDS[0])
        rows += [findings.row(value, network="given", order=name, metric=metric) for metric, value in values.items()]
    return rows


def masks(config: Any, here: Record, name: str, f: Callable, x: np.ndarray, fill: Any) -> np.ndarray:
    """`[n, 32, 32, 1]`: the `share` of the pixels that f selects for what it predicts."""
    label = probabilities(f, x).argmax(1)
    order = ordered(here, name, lambda: by_gradients(f, x, label, jax.random.key(config.seed), config.subset_per_step, jnp.asarray(fill), 64))
    return order.masks(order.step_of(config.share), x.shape[1:3])


def learnt(config: Any, here: Record, name: str, x: np.ndarray, tests: np.ndarray, y: np.ndarray, seed: int, loss: Callable = plain):
    """A small network, and its probabilities `[n, 10]` of the tests."""
    net = small(x, y, seed, config.epochs, loss, here.path / "networks" / name.replace(" ", "_").replace(",", ""))
    here.tell(f"{name}, trained")
    return net, probabilities(net, tests)


def sized(config: Any, here: Record, name: str, f: Callable, x: np.ndarray, true: np.ndarray, fill: Any, threshold: float) -> dict[str, np.ndarray]:
    """Accuracy on all tests, and the pixels that suffice of the first `sized`."""
    p = probabilities(f, x)
    few = x[: config.sized]
    order = ordered(
        here,
        f"sized, {name}",
        lambda: by_gradients(f, few, p[: len(few)].argmax(1), jax.random.key(config.seed), 2 * config.per_step, jnp.asarray(fill), 64),
    )
    return {"accuracy": p.argmax(1) == true, f"pixels for {threshold}": order.sizes(threshold)}
