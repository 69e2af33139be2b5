"""Calibration under shift: how right and how sure are networks when images move away from what was learnt, and are ensembles best?

    python experiments/uncertainty/calibration_under_shift.py
    python experiments/uncertainty/calibration_under_shift.py --worlds mnist --train 50000 --epochs 20 --members 10 --samples 128 --tests 10000     # about the paper's size: hours

The same command goes on where it was stopped. Needs the extra `experiments`, the data sets mnist and cifar10 (10k of 50k training images), and the weights of the CIFAR ResNets.

Claims that are tested (Ovadia et al. 2019, "Can You Trust Your Model's Uncertainty? Evaluating Predictive Uncertainty Under Dataset Shift", NeurIPS):

  grows       as the shift grows, accuracy falls, and NLL, Brier's score and ECE of every method grow
  temperature temperature scaling, fitted to images as they are, is well calibrated there, and far off under shift
  ensembles   deep ensembles are the best of all methods by NLL, Brier's score and ECE under most shifts, dropout second; five members are enough
  last layer  methods of the last layer alone help little

Worlds: `mnist`, digits rotated to 180° and rolled by up to 14 pixels, and `cifar10`, pictures corrupted at CIFAR-10-C's severities, all corruptions of a severity together: small networks that are trained
here, each seed from other images, weights and orders; five of them make the ensemble, the first one alone is `vanilla`, one with dropout after every layer is averaged over its draws, and the last
layer of the first gets a Laplace posterior. `resnets`: ResNet-20 and ResNet-56 as they are given, alone and averaged; a seed is another draw of the images that temperatures are fitted to, so its
intervals are those of calibration alone.

  accuracy, NLL, Brier   of the averaged probabilities (Brier: the sum over classes)
  ECE      15 bins of equal width, top label; smooth: smECE
  best     share of levels and seeds under shift in which a method is the best of its world (of ties none; not asked of ensembles with a temperature)

Writes `out/calibration_under_shift/DIGEST/results.json` and `calibration_under_shift.png`. Cost: about 7 minutes of processor time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from experiments.uncertainty.shifted_images import Network, adam, loss, shifts
from jxai import models
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models.ordinary import mnist
from jxai.train import train
from jxai.uncertainty import Averaged, answers, calibration, fit_laplace, monte_carlo, train_ensemble
from jxai.uncertainty.laplace import LaplaceModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WORLDS = ("mnist", "cifar10", "resnets")
METRICS = ("accuracy", "NLL", "Brier", "ECE", "smooth")
BEYOND = ("ensemble, temperature", "both, temperature")
"""Methods that the paper has not: they take no part in which is the best."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    worlds: tuple[str, ...] = WORLDS
    seeds: int = 3
    members: int = 5
    """Of an ensemble."""
    samples: int = 10
    """Of a network with dropout."""
    rate: float = 0.2
    """Of dropout, after every layer but the last."""
    train: int = 4000
    held: int = 500
    """Images that temperatures are fitted to."""
    epochs: int = 6
    prior_precisions: tuple[float, ...] = (1.0, 10.0, 100.0, 1000.0, 10000.0)
    """Of the Laplace posterior; the one is taken under which the held images are likeliest."""
    tests: int = 500
    """Test images, of each shift."""
    corruptions: tuple[str, ...] = ("gaussian_noise", "defocus_blur", "contrast")
    out: str = "out/calibration_under_shift"


@functools.partial(jax.jit, static_argnames="fn")
def _mapped(f: Any, x: jax.Array, fn: Callable | None = None) -> Any:
    return jax.lax.map(f if fn is None else lambda v: fn(f, v), x, batch_size=50)


def answered(f: Any, x: np.ndarray) -> np.ndarray:
    """Logits `[n, K]`."""
    return np.asarray(_mapped(f, jnp.asarray(x)))


def trained(config: Config, dataset: str, seed: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """By method, what gives the logits of images."""
    x, y = mnist("train", config.train + config.held, seed, dataset)
    own, held, y_held = (x[: config.train], y[: config.train].astype(np.int32)), x[config.train :], y[config.train :]
    size = min(128, config.train)
    steps = max(1, config.epochs * config.train // size)
    options = {"steps": steps, "batch_size": size, "optimizer": adam(steps)}
    keys = jax.random.split(jax.random.key(seed), config.members + 1)
    make = lambda key, rate=0.0: Network(x.shape[1:], rate, rngs=nnx.Rngs(jax.random.fold_in(key, 1)))
    ensemble = train_ensemble(make, loss, own, keys=keys[:-1], **options)
    dropped = train(make(keys[-1], config.rate), loss, own, key=keys[-1], **options).model
    drawn = monte_carlo(jax.tree_util.Partial(_drawn, dropped), config.samples).at(jax.random.key(seed))
    first = ensemble[0]
    learnt = _mapped(first, jnp.asarray(own[0]), answers)
    posteriors = [LaplaceModel(first, fit_laplace(learnt.features, learnt.logits, prior_precision=tau)) for tau in config.prior_precisions]
    laplace = min(posteriors, key=lambda f: judged(answered(f, held), y_held)["NLL"])
    found: dict[str, Any] = {"vanilla": first, "Laplace": laplace, "dropout": Averaged(drawn), "ensemble": Averaged(ensemble)}
    for name, of in (("temperature", "vanilla"), ("ensemble, temperature", "ensemble")):
        found[name] = calibration.fit_temperature(answered(found[of], held), y_held).model(found[of])
    return {name: functools.partial(answered, f) for name, f in found.items()}


def _given(logits: jax.Array) -> jax.Array:
    return logits


def _drawn(model: Network, x: jax.Array, key: jax.Array) -> jax.Array:
    return model(x, key)


def judged(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """The metrics of logits `[n, K]`."""
    return {name: float(value) for name, value in zip(METRICS, _judged(jnp.asarray(logits), jnp.asarray(labels)))}


@jax.jit
def _judged(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, ...]:
    log_p = jax.nn.log_softmax(logits)
    p, correct = jnp.exp(log_p), log_p.argmax(1) == labels
    own = -jnp.take_along_axis(log_p, labels[:, None], 1).mean()  # from logarithms: no probability is rounded to 0
    ece, smooth = calibration.expected_calibration_error(p, labels), calibration.smooth_calibration_error(jnp.minimum(p.max(1), 1), correct)
    return correct.mean(), own, calibration.brier(p, labels), ece, smooth


def piece(config: Config, world: str, seed: int) -> dict[tuple, np.ndarray]:
    """What one seed's networks are worth: `{(kind, level, method, metric): []}`."""
    methods = trained(config, world, seed)
    out = {}
    for kind, level, x, y in shifts(world, config.tests, config.corruptions):
        for method, logits in methods.items():
            out |= {(kind, level, method, metric): np.asarray(value) for metric, value in judged(logits(x), y).items()}
    return out


def given(config: Config, here: Record) -> list[dict[tuple, np.ndarray]]:
    """The same of the ResNets, for every seed; each image goes through each network once."""
    x, y = mnist("test", config.tests + 2 * config.held, None, "cifar10")
    pool, labels = x[config.tests :], y[config.tests :]
    asked = shifts("cifar10", config.tests, config.corruptions)
    logits: dict[str, list[np.ndarray]] = {}
    for depth in (20, 56):
        f = models.available()[f"cifar10_resnet{depth}"].build().model
        here.tell(f"ResNet-{depth}")
        kept = here.kept(f"resnet{depth}", lambda: {str(n): answered(f, v) for n, v in enumerate((pool, *(row[2] for row in asked)))})
        logits[f"ResNet-{depth}"] = [kept[str(n)] for n in range(len(asked) + 1)]
    logits["both"] = [np.asarray(jax.vmap(Averaged(_given))(np.stack(pair, 1))) for pair in zip(*logits.values())]
    seeds = []
    for seed in range(config.seeds):
        own, out = np.random.default_rng(seed).permutation(len(pool))[: config.held], {}
        for method, (held, *rest) in logits.items():
            cooler = calibration.fit_temperature(held[own], labels[own])
            for (kind, level, _, y), z in zip(asked, rest):
                for name, value in ((method, z), (f"{method}, temperature", np.asarray(cooler(z)))):
                    out |= {(kind, level, name, metric): np.asarray(v) for metric, v in judged(value, y).items()}
        seeds.append(out)
    return seeds


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Returns the rows: world × kind × level × method × metric, and how often each method is the best; and draws them."""
    if unknown := [world for world in config.worlds if world not in WORLDS]:
        raise ValueError(f"worlds={unknown[0]!r} must be one of {', '.join(WORLDS)}")
    rows = []
    for world in config.worlds:
        if world == "resnets":
            seeds = given(config, here)
        else:
            seeds = []
            for seed in range(config.seeds):
                here.tell(f"{world}, seed {seed}")
                seeds.append(here.kept_values(f"{world}, {seed}", functools.partial(piece, config, world, seed)))
        rows += rows_of(world, seeds)
    from jxai import plot

    plot.save(picture(config, rows), here.path / "calibration_under_shift.png", 150)
    return rows


def rows_of(world: str, seeds: list[dict[tuple, np.ndarray]]) -> list[dict[str, Any]]:
    """Means over the seeds, and the share of shifted levels and seeds in which each method is the best."""
    names = ("kind", "level", "method", "metric")
    rows = [findings.row([one[key] for one in seeds], world=world, **dict(zip(names, key))) for key in seeds[0]]
    methods = [method for method in dict.fromkeys(key[2] for key in seeds[0]) if method not in BEYOND]
    levels = list(dict.fromkeys(key[:2] for key in seeds[0] if key[1]))
    for metric in METRICS:
        values = np.asarray([[[one[(*level, method, metric)] for method in methods] for level in levels] for one in seeds])
        values = -values if metric == "accuracy" else values
        best = (values == values.min(2, keepdims=True)) & ((values == values.min(2, keepdims=True)).sum(2, keepdims=True) == 1)
        for n, method in enumerate(methods):
            rows.append(findings.row(best[:, :, n].mean(1), world=world, kind="best", level=-1, method=method, metric=metric))
    return rows


def picture(config: Config, rows: list[dict[str, Any]]) -> Figure:
    """Over the levels of each kind of shift: accuracy, NLL, Brier's score and ECE, a line for each method with its interval over the seeds."""
    columns = [pair for pair in dict.fromkeys((r["world"], r["kind"]) for r in rows) if pair[1] not in ("as it is", "best")]
    metrics = METRICS[:4]
    from jxai.plot.page import Page

    figure = Page(figsize=(2.9 * len(columns), 8.2), layout="constrained")
    axes = figure.subplots(len(metrics), len(columns), squeeze=False)
    for column, (world, kind) in enumerate(columns):
        own = [r for r in rows if r["world"] == world and r["kind"] in ("as it is", kind)]
        for n, method in enumerate(dict.fromkeys(r["method"] for r in own)):
            for row, metric in enumerate(metrics):
                line = [r for r in own if r["method"] == method and r["metric"] == metric]
                at, mean, low, high = (np.asarray([r[name] for r in line], float) for name in ("level", "mean", "low", "high"))
                axes[row, column].plot(at, mean, color=f"C{n}", marker=".", linewidth=1.1, label=method, linestyle=":" if "temperature" in method else "-")
                axes[row, column].fill_between(at, low, high, color=f"C{n}", alpha=0.15, linewidth=0)
        for row, metric in enumerate(metrics):
            axes[row, column].set_ylabel(metric if column == 0 else "", fontsize=8)
            axes[row, column].tick_params(labelsize=7)
            axes[row, column].spines[["top", "right"]].set_visible(False)
        axes[0, column].set_title(f"{world}, {kind}", fontsize=9)
        axes[-1, column].set_xlabel({"rotated": "degrees", "rolled": "pixels"}.get(kind, "severity"), fontsize=8)
        axes[0, column].legend(fontsize=6)
    return figure


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints each metric by method and level, and how often each method is the best."""
    for world, kind in dict.fromkeys((r["world"], r["kind"]) for r in rows):
        own = [r for r in rows if (r["world"], r["kind"]) == (world, kind)]
        if kind in ("best", "as it is"):
            print(f"\n{world}, {kind}\n{findings.table(own, 'method', 'metric')}")
            continue
        for metric in METRICS:
            print(f"\n{world}, {kind}: {metric}\n{findings.table([r for r in own if r['metric'] == metric], 'method', 'level')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
