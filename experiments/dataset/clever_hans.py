"""At which share of tagged images does SpRAy find a Clever Hans, and does a network without them no longer depend on the tag?

    python experiments/dataset/clever_hans.py
    python experiments/dataset/clever_hans.py --worlds cifar10/corner --seeds 5

The same command goes on where it was stopped. Needs the extra `experiments`, and the data sets fashion_mnist and cifar10.

A source's watermark made a network for PASCAL VOC call horses by it, and clusters of explanations showed it (Lapuschkin et al. 2019, "Unmasking Clever Hans predictors and
assessing what machines really learn"). Here a tag, a chequered square of 4 × 4 pixels, is planted in a share of the training images of one class, in the lower left corner or
`anywhere`; a small network learns from 5000 images (three seeds, each with another class that is hard: shirt, coat, pullover; cat, bird, deer). All training images of the class are explained
for the class, and SpRAy looks at the maps (channels summed, 16 × 16) and at what the 32 channels of the last convolution contributed, by gradient × input, Grad-CAM and LRP
(ε, z⁺ and flat rules); every row of length 1 (`norm="l2"`). Asked of each:

  found        share of seeds in which a cluster has at least half of the tagged images, and at least half of the cluster is tagged
  found of 10  the same of ten clusters, whatever the eigengap says
  purity, recall   the share of the cluster that is tagged, and of the tagged that is in it; of the cluster with the least p-value (Fisher's exact test)
  gap          share of seeds in which the eigengap is larger than in data without clusters, p ≤ .05 (normal with the same covariance)
  columns      the same against features permuted one by one

The person who looks at the clusters is played by the tags themselves: of all clusters by LRP, of pixels and of channels, by eigengap and of ten, the one is taken that holds them
best. Its images are removed, and the network is trained anew, for as many steps. On unseen images:

  rise         share of images of other classes that the tag turns into the class, less those that are of it without the tag
  drop         how much the class's logit falls in its own images when the tag is taken away
  recall, accuracy   without the tag
  removed, tags left   the share of the class's images in the cluster, and of the tagged ones that are not in it

Writes `out/clever_hans/DIGEST/results.json` and `clever_hans.png`. Cost: about 15 minutes of processor time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from experiments.dataset import tagged
from jxai import each, taps
from jxai.attribution import grad_cam, input_x_gradient, lrp
from jxai.concepts import channel_relevance
from jxai.dataset import eigengap_test, enrichment, spray
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record

LAYER = 5
"""What leaves the last convolution's rectifier, `[h, w, 32]`."""
VIEWS = ("pixels", "channels")
SIZE = 16
MEASURES = ("rise", "drop", "recall", "accuracy", "removed", "tags left")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    worlds: tuple[str, ...] = ("fashion_mnist/corner", "cifar10/corner")
    """A data set, and where the tag is: `corner` or `anywhere`."""
    rates: tuple[float, ...] = (0.0, 0.01, 0.02, 0.05, 0.1, 0.5)
    """Shares of the class's training images that are tagged."""
    methods: tuple[str, ...] = ("gradient × input", "Grad-CAM", "LRP")
    seeds: int = 3
    train: int = 5000
    """Images that the network learns from."""
    tests: int = 1000
    epochs: int = 8
    permutations: int = 19
    """Of each null."""
    retrained: str = "LRP"
    """The method by whose explanations the cluster is found that is removed."""
    out: str = "out/clever_hans"


def _input_x_gradient(f: Callable, x: jax.Array, target: jax.Array, key: Any = None) -> jax.Array:
    return input_x_gradient(f, x, target).sum(-1, keepdims=True)


def _lrp(f: Callable, x: jax.Array, target: jax.Array, key: Any = None) -> jax.Array:
    return lrp(f, x, target).sum(-1, keepdims=True)


def _grad_cam(f: Callable, x: jax.Array, target: jax.Array, key: Any = None) -> jax.Array:
    return grad_cam(f, x, target, layer=LAYER)


def _by_gradient(f: Callable, x: jax.Array, target: jax.Array, key: Any = None, *, averaged: bool = False) -> jax.Array:
    """`[K]`: what each channel contributed, `Σ_uv g A`, or by Grad-CAM's weights, `mean_uv g · Σ_uv A`."""
    split = taps.split(f, x, LAYER)
    g = jax.grad(lambda value: split.head(value)[target])(split.value)
    return ((g.mean((0, 1)) if averaged else g) * split.value).sum((0, 1))


def _by_grad_cam(f: Callable, x: jax.Array, target: jax.Array, key: Any = None) -> jax.Array:
    return _by_gradient(f, x, target, averaged=True)


def _by_relevance(f: Callable, x: jax.Array, target: jax.Array, key: Any = None) -> jax.Array:
    return channel_relevance(f, x, target, LAYER)


EXPLAINED = {"gradient × input": (_input_x_gradient, _by_gradient), "Grad-CAM": (_grad_cam, _by_grad_cam), "LRP": (_lrp, _by_relevance)}
"""By method, what explains pixels and what explains channels."""


def looked_at(config: Config, features: np.ndarray, marked: np.ndarray, seed: int) -> tuple[dict[str, float], np.ndarray]:
    """What SpRAy says of the explanations of a class, and which examples are in the cluster that holds the tags best."""
    key, options = jax.random.key(seed), {"norm": "l2"} | ({"size": SIZE} if features.ndim > 2 and features.shape[1] > SIZE else {})
    found: dict[str, float] = {"p": 1.0}
    cluster = np.zeros(len(marked), bool)
    for name, clusters in (("", None), (" of 10", min(10, len(marked) - 1))) if marked.any() else ():
        labels = spray(features, clusters=clusters, key=key, layout="none", **options).labels
        best = enrichment(labels, marked)
        if best.p_value < found["p"]:
            found["p"], cluster = best.p_value, labels == best.cluster
        found |= {f"purity{name}": best.purity, f"recall{name}": best.recall, f"found{name}": float(min(best.purity, best.recall) >= 0.5)}
    for name, null in (("gap", "gaussian"), ("columns", "columns")):
        test = eigengap_test(features, key=key, null=null, num_permutations=config.permutations, **options)
        found |= {name: float(test.p_value <= 0.05), f"{name}, p": test.p_value}
    return {name: float(value) for name, value in found.items()}, cluster


def piece(config: Config, world: str, rate: float, seed: int) -> dict[tuple, np.ndarray]:
    """One network: what is found in its explanations, and its dependence on the tag, before and after a cluster is removed."""
    dataset, place = world.split("/")
    data = tagged.tagged(dataset, place, rate, config.train, seed)
    f = tagged.learnt(data.x, data.y, config.epochs, seed)
    judged = lambda f: tagged.dependence(f, dataset, place, data.target, config.tests, seed)
    out: dict[tuple, np.ndarray] = {("dependence", "as it is", name): value for name, value in judged(f).items()}
    own = data.x[np.resize(data.own, -(-len(data.own) // 128) * 128)]  # of few lengths: less to compile
    least, removed = np.inf, np.zeros(len(data.own), bool)
    for method in config.methods:
        for view, explain in zip(VIEWS, EXPLAINED[method]):
            features = np.asarray(each(explain, f, own, data.target))[: len(data.own)]
            found, cluster = looked_at(config, features, data.marked, seed)
            out |= {("spray", method, view, name): np.asarray(value) for name, value in found.items()}
            if method == config.retrained and found["p"] < least:
                least, removed = found["p"], cluster
    if data.marked.any():
        left = np.delete(np.arange(len(data.x)), data.own[removed])
        left = np.concatenate([left, np.random.default_rng(seed).choice(left, removed.sum())])  # as many as before, some of them twice
        without = judged(tagged.learnt(data.x[left], data.y[left], config.epochs, seed))
        without |= {"removed": np.asarray(removed.mean()), "tags left": 1 - removed[data.marked].mean()}
        out |= {("dependence", "without the cluster", name): np.asarray(value) for name, value in without.items()}
    return out


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Returns the rows: world × rate × method × view × what is asked, and world × rate × network × measure; and draws them."""
    if config.retrained not in config.methods:
        raise ValueError(f"retrained={config.retrained!r} must be one of the methods, {', '.join(config.methods)}")
    for world in config.worlds:
        dataset, _, place = world.partition("/")
        if dataset not in tagged.TARGETS or place not in tagged.PLACES:
            raise ValueError(f"worlds={world!r} must be one of {', '.join(tagged.TARGETS)}, a slash, and one of {', '.join(tagged.PLACES)}")
    rows = []
    for world in config.worlds:
        for rate in config.rates:
            seeds = []
            for seed in range(config.seeds):
                here.tell(f"{world}, {rate:.0%} tagged, seed {seed}")
                seeds.append(here.kept_values(f"{world}, {rate:g}, {seed}", functools.partial(piece, config, world, rate, seed)))
            rows += rows_of(seeds, world, rate)
    from jxai import plot

    plot.save(picture(config, rows), here.path / "clever_hans.png", 150)
    return rows


def rows_of(seeds: list[dict[tuple, np.ndarray]], world: str, rate: float) -> list[dict[str, Any]]:
    """Means over the seeds; of dependence, of each seed's mean."""
    rows = []
    for key in seeds[0]:
        values = [np.mean(one[key]) for one in seeds]
        names = dict(zip(("asked", "method", "view", "metric") if key[0] == "spray" else ("asked", "network", "metric"), key))
        rows.append(findings.row(values, more={"seeds": values}, world=world, rate=rate, **names))
    return rows


def picture(config: Config, rows: list[dict[str, Any]]) -> Any:
    """Over the rates: in which share of the seeds the tag is found, by pixels and by channels; and how much networks depend on it."""
    from jxai.plot.page import Page

    figure = Page(figsize=(3.1 * len(config.worlds) + 0.4, 6.6), layout="constrained")
    axes = figure.subplots(3, len(config.worlds), squeeze=False, sharey="row")
    at = {rate: n for n, rate in enumerate(config.rates)}
    for column, world in enumerate(config.worlds):
        own = [row for row in rows if row["world"] == world]
        for row, view in enumerate(VIEWS):
            for n, method in enumerate(config.methods):
                for style, metric in (("-", "found"), (":", "found of 10")):
                    line = [r for r in own if r.get("view") == view and r.get("method") == method and r.get("metric") == metric]
                    label = f"{method}{'' if style == '-' else ', ten clusters'}" if not (row or column) else None
                    place = [at[r["rate"]] + 0.05 * (n - 1) for r in line]
                    axes[row, column].plot(place, [r["mean"] for r in line], style, color=f"C{n}", marker=".", label=label)
            axes[row, column].set_title(f"{world.replace('/', ', ')}: {view}", fontsize=9)
        for n, network in enumerate(dict.fromkeys(r["network"] for r in own if r["asked"] == "dependence")):
            line = [r for r in own if r["asked"] == "dependence" and r["network"] == network and r["metric"] == "rise"]
            low, high = ([max(0.0, abs(r["mean"] - r[end])) if np.isfinite(r[end]) else 0.0 for r in line] for end in ("low", "high"))
            place = [at[r["rate"]] + 0.08 * (n - 1) for r in line]
            axes[2, column].errorbar(place, [r["mean"] for r in line], [low, high], color=f"C{n + 3}", marker=".", capsize=2, label=None if column else network)
        axes[2, column].set_title("turned into the class by the tag", fontsize=9)
        for axis in axes[:, column]:
            axis.set_xticks(list(at.values()), [f"{rate:.0%}" for rate in at], fontsize=7)
            axis.tick_params(axis="y", labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
        axes[2, column].set_xlabel("share of the class that is tagged", fontsize=8)
    for row, label in enumerate(("found in a share of seeds", "found in a share of seeds", "share of other classes' images")):
        axes[row, 0].set_ylabel(label, fontsize=8)
    axes[0, 0].legend(fontsize=6)
    axes[2, 0].legend(fontsize=6)
    return figure


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints for each world at which rates the tag is found, and how much networks depend on it."""
    for world in config.worlds:
        own = [{**row, "rate": f"{row['rate']:.0%}"} for row in rows if row["world"] == world]
        for metric in ("found", "found of 10", "purity of 10", "recall of 10", "gap", "columns"):
            some = [{**r, "explained": f"{r['method']}, {r['view']}"} for r in own if r["asked"] == "spray" and r["metric"] == metric]
            if some:
                print(f"\n{world}: {metric}\n{findings.table(some, 'explained', 'rate')}")
        for metric in MEASURES:
            print(f"\n{world}: {metric}\n{findings.table([r for r in own if r['asked'] == 'dependence' and r['metric'] == metric], 'network', 'rate')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
