"""Which metrics can be trusted? Each one judges explanations of known quality, in two worlds whose ground truth is known.

    python experiments/metrics/metric_validity.py
    python experiments/metrics/metric_validity.py --digits digits --images 32      # without MNIST

The same command goes on where it was stopped. Needs the extra `experiments`; MNIST's digits, or scikit-learn's.

World "linear": f(x) = W x + b on small images, so that the true attribution of every entry is w · x. World "planted": a network that learned
to read a digit planted on the texture of a photograph, so that the ink is what a good explanation shows (blurred by a pixel, since the
network sees its edges). Explanations of quality q mix the truth with noise of the same variance, q · truth + (1 − q) · noise. As MetaQuantus
asks of a metric (Hedström et al. 2023, "The Meta-Evaluation Problem in Explainable AI"), it should react to what is worse and not to what is alike:

  reacts       Spearman correlation of the score with q over {1, .75, .5, .25, 0}, per image, signed so that 1 is right
  beats_noise  share of images on which the truth scores better than noise (a tie counts ½)
  beats_turned share of images on which the truth scores better than its negative
  steady       share of images on which q = .95 scores nearer to the truth than to noise

A metric is called trustworthy where both worlds agree that `reacts` ≥ .5 and `beats_noise` ≥ .9, and fooled by noise where `beats_noise` ≤ .6. All metrics
of `jxai.metrics` that judge a given map are run; those that explain again judge a method, not a map. Ink has no unit of the score, so the planted world
leaves out what compares attributions with score differences, and infidelity is optimally scaled. Writes `out/metric_validity/DIGEST/results.json`. Cost:
about 6 minutes on 2 cores, of which training the network is one.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from experiments.metrics import planted
from jxai import data, each, metrics
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.fills import gaussian_blur
from jxai.metrics.documented import direction
from jxai.typing import Curve

LEVELS = (1.0, 0.75, 0.5, 0.25, 0.0)
PROBABILITY = {"score": "probability"}
"""The score of these metrics' papers."""
OPTIONS: dict[str, dict[str, Any]] = {
    "pointing_game": {"tolerance": 0.0},
    "top_k_intersection": {"k": 40},
    "faithfulness_estimate": {"grid": 8, **PROBABILITY},
    "infidelity": {"scaled": True},
    "monotonicity": {"grid": 8, **PROBABILITY},
    "monotonicity_correlation": {"grid": 8, **PROBABILITY},
    "non_sensitivity": {"grid": 8},
    "mu_fidelity": {"grid": 8},
    **dict.fromkeys(("average_increase", "comprehensiveness", "deletion", "insertion", "sufficiency"), PROBABILITY),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    digits: str = "mnist"
    """The source of the digits: "mnist" or "digits"."""
    images: int = 64
    train: int = 4000
    """Images that the network learns from."""
    steps: int = 1500
    """Of its training."""
    names: str = "all"
    """The metrics, separated by commas."""
    seed: int = 0
    out: str = "out/metric_validity"


UNITS = ("completeness_error", "non_sensitivity")
"""Metrics that compare attributions with differences of the score."""
OTHER_LABELS = ("soundness_score",)
"""Metrics about labels that the model does not predict."""


def maps_for(metric: Callable) -> bool:
    """Whether a metric judges a given map, and says which way is better."""
    return "method" not in inspect.signature(metric).parameters and direction(metric) != 0 and metric.__name__ not in OTHER_LABELS


def linear_world(config: Config) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The model, images, targets, true maps and masks (the tenth of the positions that contribute most)."""
    rng = np.random.default_rng(config.seed)
    shape = (12, 12, 1)
    weights = rng.normal(size=(4, *shape)).astype(np.float32) / 12
    f = jax.tree_util.Partial(lambda w, x: jnp.tensordot(w, x, 3), jnp.asarray(weights))
    x = rng.uniform(0.2, 1, (config.images, *shape)).astype(np.float32)
    target = np.tensordot(x, weights, ((1, 2, 3), (1, 2, 3))).argmax(1).astype(np.int32)
    truth = weights[target] * x
    return f, x, target, truth, truth[..., 0] >= np.quantile(truth[..., 0], 0.9, axis=(1, 2), keepdims=True)


def planted_world(config: Config) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The same for the network that reads planted digits, of images that it classifies right; and which new ones those are."""
    source = data.source(config.digits, **({} if config.digits == "digits" else {"split": "train"}))
    order = np.random.default_rng(config.seed).permutation(len(source))[: config.train + 4 * config.images]
    f = planted.train(planted.plant(source, order[: config.train], config.seed), config.seed, config.steps)
    new = planted.plant(source, order[config.train :], config.seed + 1)
    right = np.asarray(jax.jit(lambda f, x: jax.lax.map(f, x, batch_size=64))(f, jnp.asarray(new.x))).argmax(1) == new.label
    chosen = np.flatnonzero(right)[: config.images]
    truth = jax.vmap(lambda m: gaussian_blur(m, 1.0))(jnp.asarray(new.mask[chosen, ..., None], jnp.float32))
    return f, new.x[chosen], new.label[chosen], np.asarray(truth), new.mask[chosen], right


def ladder(truth: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Maps by name, `[n, H, W, 1]`: the qualities, the truth nearly (.95), and turned."""
    noise = np.random.default_rng([seed, 1]).normal(size=truth.shape)
    spread = truth.std(axis=(1, 2, 3), keepdims=True)
    mixed = {str(q): q * truth + (1 - q) * spread * noise for q in (*LEVELS, 0.95)}
    return {name: np.float32(value) for name, value in {**mixed, "turned": -truth}.items()}


def scores(metric: Callable, f: Any, x: np.ndarray, target: np.ndarray, maps: dict[str, np.ndarray], mask: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """A metric's values on every map, signed so that more is better; every map of an image meets the same random numbers."""
    n, own = len(x), {"mask": mask} if "mask" in inspect.signature(metric).parameters else {}
    found = {}
    for name, attribution in maps.items():
        out = each(metric, f, x, target, attribution, key=jax.random.key(seed), index=np.arange(n), per_example=own, **OPTIONS.get(metric.__name__, {}))
        found[name] = direction(metric) * np.asarray(out.auc if isinstance(out, Curve) else out, np.float64)
    return found


def judge(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the scores say of the metric, per image."""
    ladder_ = np.stack([found[str(q)] for q in LEVELS], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        reacts = np.asarray([stats.spearmanr(LEVELS, row).statistic for row in ladder_])
    best, worst = found["1.0"], found["0.0"]
    near = np.abs(found["0.95"] - best) < np.abs(found["0.95"] - worst)
    return {
        "reacts": np.nan_to_num(reacts),  # a score that never changes does not react
        "beats_noise": (best > worst) + 0.5 * (best == worst),
        "beats_turned": (best > found["turned"]) + 0.5 * (best == found["turned"]),
        "steady": near.astype(float),
    }


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Returns the rows: world × metric × what is asked of it; and the verdicts."""
    names = [n for n in metrics.__all__ if maps_for(getattr(metrics, n))] if config.names == "all" else config.names.split(",")
    planted = functools.cache(lambda: planted_world(config))  # trained where something is asked of it
    worlds = {"linear": functools.cache(lambda: linear_world(config)), "planted": lambda: planted()[:5]}
    right = here.kept("accuracy", lambda: {"right": planted()[5]})["right"]
    rows = [findings.row(right, world="network", metric="accuracy", asked="accuracy")]
    for world, made in worlds.items():

        def scored(name: str, made: Callable = made) -> dict[str, np.ndarray]:
            f, x, target, truth, mask = made()
            return scores(getattr(metrics, name), f, x, target, ladder(truth, config.seed), mask, config.seed)

        for name in names:
            if world == "planted" and name in UNITS:
                continue
            here.tell(f"{world}: {name}")
            found = here.kept(f"{world}, {name}", lambda name=name, scored=scored: scored(name))
            rows += [findings.row(values, world=world, metric=name, asked=asked) for asked, values in judge(found).items()]
    return rows + verdicts(rows, names)


def verdicts(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """Of each metric: trustworthy, fooled by noise, or in between; from the worse of the two worlds."""
    found = []
    for name in names:
        least = {asked: min(r["mean"] for r in rows if r["metric"] == name and r["asked"] == asked) for asked in ("reacts", "beats_noise")}
        word = "trustworthy" if least["reacts"] >= 0.5 and least["beats_noise"] >= 0.9 else "fooled" if least["beats_noise"] <= 0.6 else "in between"
        found.append({"metric": name, "asked": "verdict", "more": {"verdict": word, **least}})
    return sorted(found, key=lambda v: (-v["more"]["reacts"], -v["more"]["beats_noise"]))


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints the table of each world, and the verdicts."""
    for world in ("linear", "planted"):
        print(f"\n{world}\n{findings.table([r for r in rows if r.get('world') == world], 'metric', 'asked')}")
    print()
    for r in rows:
        if r["asked"] == "verdict":
            print(f"{r['metric']:<36} {r['more']['verdict']:<12} reacts {r['more']['reacts']:.2f}, beats noise {r['more']['beats_noise']:.2f}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
