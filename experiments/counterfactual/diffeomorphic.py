"""Counterfactuals by gradient ascent in pixels, in a VAE's codes and in a flow's coordinates: which are digits, and which adversarial noise?

    python experiments/counterfactual/diffeomorphic.py                            # 100 images × 9 targets × 3 classifiers, about 10 minutes on 2 cores
    python experiments/counterfactual/diffeomorphic.py --flow out/train/DIGEST   # and in a flow, of the folder that experiments/training/train.py names, about as long again

The same command goes on where it was stopped. Needs the extra `experiments`, the data set mnist and the weights mnist_vae. For each of `seeds` classifiers
(two passes over 10000 digits), the first test images that it has right are turned into every other class by the same search,
`jxai.counterfactual.diffeomorphic` to p >= .99: in the coordinates of the pixels themselves (the conventional, adversarial search), of the VAE, and of the
flow.

Claim that is tested (Dombrowski et al. 2022): ascent in a generator's coordinates stays among the data, ascent in pixels does not. Measured of the
counterfactuals that reached their target: whether an oracle (the same architecture, another seed and other training images) agrees; the share of the
target class among the 10 nearest of 5000 training digits; L1, L0, the distance to the nearest digit of the target class; and the steps.
Found on 3 × 900 searches: .994 reach the target in the VAE's coordinates and the oracle agrees with .999 of these; in pixels .959, and it agrees with .51
(.25 to .71 by classifier), although pixels change less in L1 (75 against 92). With a Glow that experiments/training/train.py trained for 3000 steps (1.68 bits per
pixel) .951 reach it (.951, .954 and .947 by classifier; .960 with another training of it), in 85 steps on average, and the oracle agrees with .997 of these.
What fails there (twelve were looked at) is of the target class too, but stays at .7 to .98 of its probability; twice the published rate of .05 reaches more
(.97 of 450) and changes more, .02 less (.87). The flow's strokes break where the VAE's blur; the target has .67 of the ten neighbours there, .80 in the VAE's
coordinates, .06 in pixels.

Writes `out/diffeomorphic/DIGEST/results.json` (means over images with 95 % bootstrap intervals, by classifier and over all; failures are rows of their own) and
`counterfactuals.png` (one digit as every other class, in every coordinates).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

import jxai
from experiments.counterfactual.every_class import cases, picture
from experiments.counterfactual.searching import kept, once, saying
from experiments.training.recipes import load
from jxai import counterfactual, each
from jxai.counterfactual import Counterfactual, Identity
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, over_seeds, recorded
from jxai.evaluate.record import Record
from jxai.metrics import counterfactual as judges
from jxai.models import generators
from jxai.models.ordinary import mnist, ordinary


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 100
    seeds: int = 3
    """Classifiers, each with its oracle."""
    train: int = 10000
    """Digits that each network learns from."""
    threshold: float = 0.99
    steps: int = 500
    flow: str = ""
    """Folder of a trained flow; none without."""
    out: str = "out/diffeomorphic"


LEARNING_RATES = {"pixels": 0.005, "vae": 0.05, "flow": 0.05}
"""Of Adam: the published 5e-4 in pixels needs thousands of steps to .99."""


def coordinates(config: Config) -> dict[str, Any]:
    """What is searched in, by name."""
    found = {"pixels": Identity(), "vae": generators()["mnist_vae"]()}
    if config.flow:
        found["flow"] = load(config.flow)
    return found


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Searches for every classifier and coordinates, and returns the rows."""
    rows = []
    for seed in range(config.seeds):
        rows += here.kept_rows(f"classifier {seed}", functools.partial(of_classifier, config, here, seed))
    return rows + findings.overall(rows, "coordinates")


def of_classifier(config: Config, here: Record, seed: int) -> list[dict[str, Any]]:
    """The rows of a classifier that is trained for it, as is its oracle; the first one's digit is drawn."""
    f, oracle = ordinary(2 * seed, config.train), ordinary(2 * seed + 1, config.train)
    x, target = cases([f], *mnist("test", 4 * config.images), config.images)
    rows, shown = [], {}
    for name, generator in coordinates(config).items():
        rate = LEARNING_RATES[name]
        search = counterfactual.diffeomorphic.search(generator=generator, threshold=config.threshold, steps=config.steps, learning_rate=rate)
        found, seconds = kept(here, f"classifier {seed}, {name}", functools.partial(once, search, f, x, target, on_progress=saying(here, f"{seed}, {name}")))
        more = [*judged(f, oracle, x, target, found, *mnist("train", 5000)), findings.row([seconds / target.size], metric="seconds each, compilation included")]
        rows += [{**r, "seed": seed, "coordinates": name} for r in more]
        shown[name] = x, target, found
    if seed == 0:
        jxai.plot.save(picture(shown, oracle, "oracle"), here.path / "counterfactuals.png")
    return rows


def judged(
    f: Callable, oracle: Callable, x: np.ndarray, target: np.ndarray, found: Counterfactual, pool: np.ndarray, labels: np.ndarray
) -> list[dict[str, Any]]:
    """One row for each measure, with n and an interval; all but "reached" and "steps" of what reached its target."""
    ok = found.valid.ravel()
    rows = [findings.row(ok, metric="reached"), findings.row(found.steps.ravel(), metric="steps")]
    given = np.repeat(x, target.shape[1], 0), found.x.reshape(-1, *x.shape[1:]), target.ravel()
    near = {"examples": jnp.asarray(pool), "labels": jnp.asarray(labels)}
    measures = {
        "oracle agrees": (judges.oracle_agreement, {"oracle": oracle, "valid_only": False}),
        "share of the target among 10 neighbours": (judges.knn_target_share, near),
        "distance to the nearest of the target": (judges.nearest_target_distance, near),
        "L1": (judges.l1, {}),
        "L0": (judges.l0, {}),
    }
    for metric, (judge, options) in measures.items():
        values = np.asarray(each(judge, f, *given, batch_size=8, **options))
        rows.append(findings.row(values[ok], metric=metric))
    return rows


show = over_seeds("coordinates", "metric")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
