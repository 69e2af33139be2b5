"""Which score tells what a network has not seen, and does any win everywhere?

    python experiments/uncertainty/ood_scores.py
    python experiments/uncertainty/ood_scores.py --networks cifar10_resnet20 --seeds 5 --examples 2000     # 4 minutes of processor time

The same command goes on where it was stopped. Needs the extra `experiments`, the data sets below and the weights of the networks.

OpenOOD's leaderboard (Yang et al. 2022, "OpenOOD: Benchmarking Generalized Out-of-Distribution Detection"; Zhang et al. 2023, v1.5) has no score that wins everywhere, and some
that are among the best on one backbone and among the worst on another (ASH, GradNorm). Here: the post-hoc scores of `jxai.uncertainty`, with their published options, none of them
tuned, on CIFAR-10's ResNet-20 and ResNet-56 (test images against 11 sets, brought to 32 × 32) and on EfficientNet-Lite0 (photographs against textures, digits and noise).

What is fitted is fitted to half of the 10 000 training images of CIFAR-10 that are here (of 50 000), and for the photographs, of which no training images are here, to half
of the 1000 (430 classes, one example each or so: a score that cannot be fitted to that is told and left out); the other half is tested. Each seed draws other halves, other
noise, and other examples of sets that have more than `examples`. Asked for each network, set and score:

  auroc   the mean over seeds; the interval is of examples drawn again, the same for all scores (percentile bootstrap)
  fpr95   the mean over seeds of the share of in-distribution examples that are refused where 95 % of the others are found
  best    1 where no score's AUROC is higher beyond doubt: the interval of its difference from the highest, of the same draws, does not leave 0 out

Writes `out/ood_scores/DIGEST/results.json` and `ood_scores.png`. Cost: about 7 minutes of processor time, of which ODIN's gradients are a third.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.uncertainty.post_hoc import AGAIN, POST_HOC, fitted
from jxai import data, each, uncertainty
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models import available
from jxai.uncertainty import formulas
from jxai.uncertainty.detection import auroc, fpr95

if TYPE_CHECKING:
    from jxai.plot.page import Page

NEAR = ("cifar100_sample", "tiny_imagenet")
"""Natural images of (mostly) other classes; some of tiny_imagenet's are CIFAR-10's own."""
FAR = ("dtd_sample", "cue_conflict", "mnist_m", "fashion_mnist", "mnist", "usps", "notmnist", "omniglot_small", "noise")
PHOTOGRAPHS = ("dtd_sample", "mnist", "noise")


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    networks: tuple[str, ...] = ("cifar10_resnet20", "cifar10_resnet56", "efficientnet_lite0")
    seeds: int = 3
    examples: int = 1000
    """Of each set, at most."""
    photographs: int = 300
    """The same of each set that photographs are set against."""
    fitted: int = 5000
    """Of CIFAR-10's training images."""
    draws: int = 400
    """Of the bootstrap."""
    out: str = "out/ood_scores"


def sets(network: str) -> tuple[str, tuple[str, ...]]:
    """The data set of a network, and those it has not seen."""
    return ("imagenet_nips2017", PHOTOGRAPHS) if network.startswith("efficientnet") else ("cifar10", NEAR + FAR)


def read(name: str, split: str, network: str, seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` examples, drawn by the seed where there are more, as a network takes them, and their labels."""
    subject = available()[network].build()
    side = 256 if network.startswith("efficientnet") else subject.input_shape[0]
    source = (
        data.Noise((side, side, 3), count, seed) if name == "noise" else data.source(name, split=split, **({"label": LABELS[name]} if name in LABELS else {}))
    )
    sized = source if name == sets(network)[0] else data.resized(source, (side, side, 3))
    order = np.sort(np.random.default_rng([seed, len(name)]).permutation(len(sized))[:count])
    found = [sized[int(i)] for i in order]
    return np.stack([subject.preprocess(example.pixels) for example in found]), np.asarray([example.label for example in found])


LABELS = {"cue_conflict": "shape_label"}


def answers(network: str, x: np.ndarray) -> dict[str, np.ndarray]:
    """Logits, features, and the scores that ask again."""
    f, size = available()[network].build().model, 8 if network.startswith("efficientnet") else 64
    logits, features = each(uncertainty.answers, f, x, batch_size=size)
    return {"logits": logits, "features": features} | {name: each(getattr(uncertainty, name), f, x, batch_size=size) for name in AGAIN}


def scored(name: str, state: Any, known: dict[str, np.ndarray]) -> np.ndarray:
    """`[n]`: a score of examples that were answered."""
    if name in AGAIN:
        return np.asarray(known[name])
    return np.asarray(of_rows(name)(state, jnp.asarray(known["logits"]), jnp.asarray(known["features"])))


@functools.cache
def of_rows(name: str) -> Callable[..., jax.Array]:
    """A formula of what was fitted and of the rows of logits and features, compiled once for each number of rows."""
    formula = getattr(formulas, name)
    return jax.jit(lambda state, z, h: jax.lax.map(lambda row: formula(*row, state), (z, h), batch_size=250))


def asked(config: Config, network: str, seed: int, here: Record) -> dict[tuple, np.ndarray]:
    """`{(seed, set, score): [n]}` of a network, its own test images as the set "in"; and `{(seed, "accuracy"): [1]}`."""
    here.tell(f"{network}, seed {seed}")
    own, others = sets(network)
    subject, size = available()[network].build(), 8 if network.startswith("efficientnet") else 64
    if own == "cifar10":
        fitting, labels = read(own, "train", network, seed, config.fitted)
        inside, truth = read(own, "test", network, seed, config.examples)
    else:
        x, y = read(own, "test", network, seed, min(2 * config.examples, 1000))
        order = np.random.default_rng(seed).permutation(len(x))
        (fitting, labels), (inside, truth) = ((x[part], y[part]) for part in np.array_split(order, 2))
    logits, features = map(np.asarray, each(uncertainty.answers, subject.model, fitting, batch_size=size))
    head = uncertainty.linear_head(subject.model, fitting[0])
    known = {"in": answers(network, inside)}
    for name in others:
        split = "validation" if name == "tiny_imagenet" else "test"
        known[name] = answers(network, read(name, split, network, seed, config.examples if own == "cifar10" else config.photographs)[0])
    found: dict[tuple, np.ndarray] = {(seed, "accuracy"): (known["in"]["logits"].argmax(1) == truth).mean(keepdims=True)}
    for name in POST_HOC:
        try:
            state = fitted(name, features, logits, labels, head)
            found |= {(seed, where, name): scored(name, state, answered) for where, answered in known.items()}
        except ValueError as error:
            here.tell(f"{network}, {name}: left out: {error}")
    return found


def drawn(inside: np.ndarray, outside: np.ndarray, weights: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """`[draws]`: the AUROC of each draw, by how often each example is in it `[draws, n]`, `[draws, m]`."""
    order = np.argsort(inside, kind="stable")
    steps = np.concatenate([np.zeros((len(weights[0]), 1)), np.cumsum(weights[0][:, order], 1)], 1)
    below, upto = (np.searchsorted(inside[order], outside, side) for side in ("left", "right"))
    return ((steps[:, below] + steps[:, upto]) * weights[1]).sum(1) / (2 * inside.size * outside.size)


def judge(config: Config, network: str, values: dict[tuple, np.ndarray]) -> list[dict[str, Any]]:
    """The rows of a network."""
    rows = [findings.row(np.concatenate([values[seed, "accuracy"] for seed in range(config.seeds)]), network=network, set="in", score="", metric="accuracy")]
    for place, where in enumerate(sets(network)[1]):
        rng, areas = np.random.default_rng(place), {}
        names = [name for name in POST_HOC if (0, where, name) in values]
        n, m = (values[0, part, names[0]].size for part in ("in", where))
        weights = tuple(rng.multinomial(size, np.full(size, 1 / size), config.draws).astype(np.float64) for size in (n, m))
        for name in names:
            pairs = [(values[seed, "in", name], values[seed, where, name]) for seed in range(config.seeds)]
            area, refused = (float(np.mean([metric(*pair) for pair in pairs])) for metric in (auroc, fpr95))
            areas[name] = area, np.mean([drawn(*pair, weights) for pair in pairs], 0)
            names_ = dict(network=network, set=where, score=name)
            low, high = np.quantile(areas[name][1], (0.025, 0.975))
            rows.append({**names_, "metric": "auroc", "mean": area, "low": float(low), "high": float(high), "n": n + m})
            rows.append({**names_, "metric": "fpr95", "mean": refused, "low": np.nan, "high": np.nan, "n": n + m})
        top = areas[max(areas, key=lambda name: areas[name][0])][1]
        for name, (_, draws) in areas.items():
            best = float(np.quantile(top - draws, 0.025) <= 0)
            rows.append({"network": network, "set": where, "score": name, "metric": "best", "mean": best, "low": best, "high": best, "n": n + m})
    return rows


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Rows with `network`, `set`, `score` and `metric`."""
    rows = []
    for network in config.networks:
        values: dict[tuple, np.ndarray] = {}
        for seed in range(config.seeds):
            values |= here.kept_values(f"{network}, seed {seed}", lambda network=network, seed=seed: asked(config, network, seed, here))
        rows += here.kept_rows(f"judged {network}", lambda network=network, values=values: judge(config, network, values))
    picture(rows).savefig(here.path / "ood_scores.png", dpi=150)
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each network and score: the mean AUROC over near sets and far sets, its mean rank, and the share of sets on which it is best."""
    found = []
    for network in dict.fromkeys(r["network"] for r in rows):
        area = {(r["set"], r["score"]): r["mean"] for r in rows if r["network"] == network and r["metric"] == "auroc"}
        best = {(r["set"], r["score"]): r["mean"] for r in rows if r["network"] == network and r["metric"] == "best"}
        places, names = (list(dict.fromkeys(key[i] for key in area)) for i in (0, 1))
        matrix = np.asarray([[area[place, name] for place in places] for name in names])
        ranks = 1 + (matrix[:, None] < matrix[None]).sum(1)
        near = np.isin(places, NEAR) if network.startswith("cifar10") else np.zeros(len(places), bool)
        for i, name in enumerate(names):
            parts = {"near": matrix[i, near], "far": matrix[i, ~near], "least": matrix[i].min(keepdims=True), "rank": ranks[i]}
            parts["best"] = np.asarray([best[place, name] for place in places])
            found += [
                {"network": network, "score": name, "metric": part, "mean": float(value.mean()), "low": float(value.min()), "high": float(value.max())}
                for part, value in parts.items()
                if value.size
            ]
    return found


def picture(rows: list[dict[str, Any]]) -> Page:
    """AUROC by score and set, a panel for each network; framed where a score is best beyond doubt of another."""
    networks = list(dict.fromkeys(r["network"] for r in rows))
    widths = [len(sets(network)[1]) for network in networks]
    from jxai.plot.page import Page

    figure = Page(figsize=(3.2 + 0.42 * sum(widths), 7.2), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(networks), sharey=True, width_ratios=widths))
    means = {name: np.mean([r["mean"] for r in rows if r["score"] == name and r["metric"] == "auroc"]) for name in POST_HOC}
    order = sorted((name for name in means if np.isfinite(means[name])), key=lambda name: -means[name])
    for axis, network in zip(axes, networks, strict=True):
        places = sets(network)[1]
        values = {(r["score"], r["set"], r["metric"]): r["mean"] for r in rows if r["network"] == network}
        matrix = np.asarray([[values.get((name, place, "auroc"), np.nan) for place in places] for name in order])
        shown = axis.imshow(matrix, vmin=0.5, vmax=1, cmap="viridis", aspect="auto")
        for i, name in enumerate(order):
            for j, place in enumerate(places):
                best = values.get((name, place, "best"), 0.0) == 1
                text = "" if np.isnan(matrix[i, j]) else f"{100 * matrix[i, j]:.0f}"
                axis.text(j, i, text, ha="center", va="center", fontsize=6, weight="bold" if best else None, color="k" if matrix[i, j] > 0.8 else "w")
        axis.set_xticks(range(len(places)), [place.removesuffix("_sample") for place in places], rotation=90, fontsize=7)
        axis.set_yticks(range(len(order)), order, fontsize=7)
        axis.set_title(network.removeprefix("cifar10_"), fontsize=8)
    figure.colorbar(shown, ax=axes[-1], label="AUROC (bold: no score is better beyond doubt)", fraction=0.08)
    return figure


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints for each network the AUROCs, and what is true of all its sets."""
    for network in config.networks:
        own = [r for r in rows if r["network"] == network]
        print(f"\n{network}: accuracy {next(r['mean'] for r in own if r['metric'] == 'accuracy'):.3f}; AUROC")
        print(findings.table([r for r in own if r["metric"] == "auroc"], "score", "set"))
        print(f"\n{network}: mean [least, greatest] over sets\n{findings.table([r for r in summary(rows) if r['network'] == network], 'score', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
