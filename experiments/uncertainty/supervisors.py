"""Supervisors of a classifier on four kinds of trouble: is one that notices ambiguous images blind to adversarial, corrupted and invalid ones, and the reverse?

    python experiments/uncertainty/supervisors.py
    python experiments/uncertainty/supervisors.py --worlds mnist --share 0

The same command goes on where it was stopped. Needs the extras `experiments` and `corruptions` and the data sets mnist and fashion_mnist.

Claim that is tested (Weiss, García Gómez and Tonella 2023, arXiv 2207.10495): supervisors complement each other. Those of the softmax are best on true ambiguity and worse on the rest, surprise adequacy and
autoencoders the reverse; none is good at everything. (No tables of numbers are public.)

For each world (MNIST, Fashion-MNIST) an `AmbiGuess` of each of six pairs of classes is trained on 1000 images of each and accepted or tried again; the classifiers of every seed learn from `train` images and, as published,
from `share` times as many ambiguous ones whose labels are drawn from their probabilities. Test sets of `tests` images each, beside as many nominal ones:

  ambiguous     other draws of the same autoencoders, |l₁ − l₂| < .25
  adversarial   FGSM, PGD, BIM and DeepFool in the maximum norm on a quarter each, at the smallest radius that succeeds, made against the network that is supervised (of these only images whose class changed)
  corrupted     eighteen corruptions of CIFAR-10-C by turns, severity 3
  invalid       the other world's images

What is told is the AUROC against nominal images: means over seeds with 95 % bootstrap intervals. Surprise adequacy reads the last hidden layer of `fitted` training images, Dissector the channels' means of
the convolutions and that layer, dropout and ensembles the mean of their probabilities; the autoencoder is a VAE with 8 numbers. "Rank correlation" is Spearman's, over supervisors, of the AUROC on
ambiguous images and on another kind: the claim is that it is negative.

Found (means of 3 seeds): it is −.91 and −.88 with invalid images (MNIST, Fashion-MNIST), −.53 and −.43 with adversarial ones, in every seed; with corrupted ones, which no supervisor sees well (AUROC .56 to .66), −.42 on
Fashion-MNIST and of no sure sign on MNIST. On ambiguous images the softmax's margin has .964 and .909, on invalid ones LSA .966 and .991, and LSA on ambiguous ones .050 and .034: it takes them for normal. Of thirteen none is
best at two kinds in both worlds. All pairs of digits were accepted, of clothes three of six.

Cost: 12 minutes of processor time, 8 on the clock with two cores (`--worlds mnist` takes 5). Writes `out/supervisors/DIGEST/results.json` and `ambiguous_WORLD.png`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from scipy.stats import spearmanr

from experiments.uncertainty.adversaries import adversarial
from experiments.uncertainty.deterministic_networks import dropped
from experiments.uncertainty.small_images import images, sheet, trained
from jxai import data, each, models, train, uncertainty
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.uncertainty import ambiguess, formulas

PAIRS = {
    "mnist": ((0, 6), (1, 7), (3, 5), (3, 8), (4, 9), (7, 9)),
    "fashion_mnist": ((0, 3), (0, 6), (2, 4), (2, 6), (5, 7), (7, 9)),
}
OTHER = {"mnist": "fashion_mnist", "fashion_mnist": "mnist"}
CORRUPTIONS = tuple(name for name in data.corruptions.CORRUPTIONS if name != "saturate")
"""Of a grey picture `saturate` changes nothing."""
LAYERS = ("first", "second", None)
KINDS = ("ambiguous", "adversarial", "corrupted", "invalid")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    worlds: tuple[str, ...] = ("mnist", "fashion_mnist")
    seeds: int = 3
    train: int = 10000
    share: float = 0.2
    """Ambiguous images in training, of `train`; 0 for none."""
    tests: int = 600
    """Of each kind."""
    fitted: int = 3000
    updates: int = 500
    """Of each network, in batches of 128."""
    members: int = 3
    """Of the ensemble."""
    samples: int = 20
    """Passes with dropout."""
    pair_images: int = 1000
    """Of each class of a pair, for its AmbiGuess."""
    pair_steps: int = 1000
    tries: int = 5
    out: str = "out/supervisors"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Trains and judges, and returns the rows."""
    rows = []
    for world in config.worlds:
        generators = functools.cache(lambda world=world: ambiguous_pairs(config, here, world))
        for seed in range(config.seeds):
            made = here.kept_rows(f"{world}, {seed}", lambda world=world, seed=seed, generators=generators: of_seed(config, here, world, seed, generators()))
            rows += [{**r, "world": world, "seed": seed} for r in made]
    return rows + findings.overall(rows, "world", "supervisor")


def ambiguous_pairs(config: Config, here: Record, world: str) -> dict[tuple[int, int], ambiguess.AmbiGuess]:
    """An accepted AmbiGuess of each pair, and a picture of what they make."""
    x, y = images(world, "train", 12 * config.pair_images, 0)
    found = {}
    for n, pair in enumerate(PAIRS[world]):
        rows = np.concatenate([np.flatnonzero(y == c)[: config.pair_images] for c in pair])
        sizes = dict(tries=config.tries, steps=config.pair_steps, batch_size=min(100, len(rows) // 3))
        model, tries = ambiguess.train_pair(x[rows], y[rows], pair, jax.random.key(n), **sizes)
        last = tries[-1]
        here.tell(f"{world}, {pair}: {'accepted' if model else 'not accepted'} after {len(tries)}, told {last.real_or_fake:.3f}, classes {last.classes:.3f}")
        if model is not None:
            found[pair] = model
    if not found:
        raise ValueError(f"pair_steps={config.pair_steps} and tries={config.tries} accept no pair of {world}: raise them")
    names = models.simple.ROBUST_CLASSES[world]
    made = {f"{names[a]}, {names[b]}": ambiguess.images({(a, b): m}, 16, jax.random.key(7), num_classes=10).x for (a, b), m in found.items()}
    sheet(made, here.path / f"ambiguous_{world}.png")
    return found


def of_seed(config: Config, here: Record, world: str, seed: int, generators: dict[tuple[int, int], ambiguess.AmbiGuess]) -> list[dict[str, Any]]:
    """The rows of all supervisors of a seed's networks."""
    key = jax.random.key(100 + seed)
    x, y = images(world, "train", config.train, seed)
    if count := round(config.share * config.train):
        more = ambiguess.images(generators, count, jax.random.fold_in(key, 1), num_classes=10)
        drawn = jax.random.categorical(jax.random.fold_in(key, 2), np.log(np.maximum(more.label, 1e-30)))
        x, y = np.concatenate([x, more.x]), np.concatenate([y, drawn])
    fit = lambda n, **options: trained(x, y, jax.random.fold_in(key, n), steps=config.updates, **options)
    members = [fit(10 + n) for n in range(config.members)]
    network = members[0]
    drawing = uncertainty.monte_carlo(fit(20, loss=dropped, dropout=0.5), config.samples).at(jax.random.fold_in(key, 3))
    coder = models.VAE((28, 28, 1), latent=8, hidden=(256,), rngs=nnx.Rngs(seed))
    optimizer = optax.adam(1e-3)
    coder = train.train(coder, models.vae_loss, x, key=jax.random.fold_in(key, 4), steps=2 * config.updates, optimizer=optimizer).model
    here.tell(f"{world}, {seed}: trained")

    nominal, labels = images(world, "test", 2 * config.tests, seed)
    sets = {"nominal": nominal[: config.tests]}
    sets["ambiguous"] = np.asarray(ambiguess.images(generators, config.tests, jax.random.fold_in(key, 5), num_classes=10).x)
    sets["adversarial"] = adversarial(network, nominal[config.tests :], labels[config.tests :], jax.random.fold_in(key, 6))
    sets["corrupted"] = corrupted(nominal[config.tests :], seed)
    sets["invalid"] = images(OTHER[world], "test", config.tests, seed)[0]
    some = np.random.default_rng(seed).permutation(len(x))[: config.fitted]
    supervise = supervisors(network, members, drawing, coder, x[some], y[some])
    values = {kind: supervise(v) for kind, v in sets.items()}
    right = {kind: (np.asarray(each(_call, network, v, batch_size=200)).argmax(1) == labels[rows]).mean() for kind, v, rows in judged(config, sets)}
    here.tell(f"{world}, {seed}: accuracy {right['nominal']:.3f}, corrupted {right['corrupted']:.3f}; {len(sets['adversarial'])} adversarial images")

    auroc = {name: {kind: uncertainty.detection.auroc(values["nominal"][name], values[kind][name]) for kind in KINDS} for name in values["nominal"]}
    rows = [findings.row([v], supervisor=name, metric=kind) for name, of in auroc.items() for kind, v in of.items()]
    first = [of["ambiguous"] for of in auroc.values()]
    rows += [findings.row([spearmanr(first, [of[kind] for of in auroc.values()])[0]], supervisor="rank correlation", metric=kind) for kind in KINDS[1:]]
    return rows + [findings.row([v], supervisor="accuracy", metric=kind) for kind, v in right.items()]


def judged(config: Config, sets: dict[str, np.ndarray]) -> list[tuple[str, np.ndarray, slice]]:
    """The sets whose right classes are known, and where their labels are."""
    return [("nominal", sets["nominal"], slice(None, config.tests)), ("corrupted", sets["corrupted"], slice(config.tests, None))]


def corrupted(x: np.ndarray, seed: int) -> np.ndarray:
    """Each image by the next corruption."""
    pixels = np.round(255 * x).astype(np.uint8)
    spoilt = [data.corruptions.corrupt(v, CORRUPTIONS[n % len(CORRUPTIONS)], 3, seed=(seed, n)) for n, v in enumerate(pixels)]
    return np.stack(spoilt).astype(np.float32) / 255


def supervisors(network: Any, members: list, drawing: Any, coder: Any, x: np.ndarray, y: np.ndarray) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """`x [n, 28, 28, 1] -> {name: uncertainty [n]}`, with what they are fitted on."""
    averages = {"ensemble": uncertainty.Averaged(uncertainty.ensemble(members)), "dropout": uncertainty.Averaged(drawing)}
    samples = {"ensemble": averages["ensemble"].f, "dropout": drawing}
    *layers, answers = (np.asarray(v) for v in each(_seen, network, x, batch_size=200))
    hidden = layers[-1]
    fits = {name: getattr(uncertainty, f"fit_{name}")(hidden, answers, y) for name in ("lsa", "dsa", "mdsa")}
    heads = uncertainty.fit_dissector(tuple(layers), answers, y)

    def supervise(v: np.ndarray) -> dict[str, np.ndarray]:
        *seen, logits = each(_seen, network, v, batch_size=200)
        found = {name.replace("_", " "): _of_logits(logits, name) for name in ("max_softmax", "probability_margin", "entropy", "gini")}
        for name, model in averages.items():
            found[f"{name}, entropy"] = each(uncertainty.entropy, model, v, batch_size=200)
            found[f"{name}, mutual information"] = each(uncertainty.mutual_information, samples[name], v, batch_size=200)
        found |= {name: _of_features(logits, seen[-1], fitted, name) for name, fitted in fits.items()}
        found["dissector"] = _of_layers(logits, tuple(seen), heads)
        found["autoencoder"] = each(uncertainty.reconstruction_error, coder, v, batch_size=200)
        return {name: np.asarray(value) for name, value in found.items()}

    return supervise


@functools.partial(jax.jit, static_argnames="name")
def _of_logits(logits: jax.Array, name: str) -> jax.Array:
    return jax.vmap(getattr(formulas, name))(logits)


@functools.partial(jax.jit, static_argnames="name")
def _of_features(logits: jax.Array, features: jax.Array, fitted: Any, name: str) -> jax.Array:
    return jax.lax.map(lambda v: getattr(formulas, name)(*v, fitted), (logits, features), batch_size=100)


@jax.jit
def _of_layers(logits: jax.Array, layers: tuple, heads: Any) -> jax.Array:
    return jax.vmap(lambda z, h: formulas.dissector(z, h, heads))(logits, layers)


def _seen(f: Callable, x: jax.Array) -> tuple[jax.Array, ...]:
    """The features of the layers and the logits."""
    return *(uncertainty.features(f, x, layer) for layer in LAYERS), f(x)


def _call(f: Callable, x: jax.Array) -> jax.Array:
    return f(x)


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """A table for each world."""
    for world in config.worlds:
        print(f"\n{world}\n\n" + findings.table([r for r in rows if r["seed"] == "all" and r["world"] == world], "supervisor", "metric"))


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
