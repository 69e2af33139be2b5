"""The pointing game on tiny-imagenet's boxes: do the maximum, and the mass, of an attribution lie on the object?

    python experiments/attribution/pointing_game.py
    python experiments/attribution/pointing_game.py --limit 2000

The same command goes on where it was stopped. Needs the extra `experiments` and the data set tiny_imagenet (64 × 64 pixels, enlarged).

Claims that are tested (Zhang et al. 2018, "Top-down Neural Attention by Excitation Backprop"): class activation maps and perturbation
methods point better than gradients; a map that always points at the centre is a strong baseline, and boxes that cover most of the image
make the game easy, so that the images whose box covers less than a quarter are reported by themselves ("difficult").

Images that EfficientNet-Lite0 classifies right, explained at their label. A hit is a maximum within 15 pixels of the box, of 224. Writes
`out/pointing_game/DIGEST/results.json`: for each method and metric, all and difficult images, mean with 95 % bootstrap interval. Cost: about 2 s an image on
2 cores.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jxai import attribution, data, metrics
from jxai.cli.progress import Reporter
from jxai.evaluate import findings
from jxai.evaluate.controls import centre
from jxai.evaluate.experiment import command_line, evaluated, recorded
from jxai.evaluate.record import Record
from jxai.evaluate.table import scores_of
from jxai.models import available

DIFFICULT = 0.25
"""Share of the image that the box of a difficult one covers at most."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    dataset: str = "tiny_imagenet"
    split: str | None = None
    model: str = "efficientnet_lite0"
    limit: int = 300
    """Images looked at; those that are classified wrong do not count."""
    passes: int = 195
    """Forward passes of every black-box method."""
    steps: int = 16
    """Forward and backward passes of every method that averages gradients."""
    tolerance: float = 15.0
    seed: int = 0
    out: str = "out/pointing_game"


def methods(config: Config, side: int) -> dict[str, Any]:
    """The methods with their budgets for images of that side, the control first."""
    n, steps = config.passes, config.steps
    papers = {"score": "probability"}  # the score that these papers explain
    a = attribution
    return {
        "centre": centre,
        "abs:gradient": a.gradient,
        "abs:smoothgrad": (a.smoothgrad, {"num_samples": steps}),
        "abs:integrated_gradients": (a.integrated_gradients, {"steps": steps, **papers}),
        "abs:guided_backprop": a.guided_backprop,
        "grad_cam": a.grad_cam,
        "grad_cam_plus_plus": a.grad_cam_plus_plus,
        "layer_cam": a.layer_cam,
        "occlusion": (a.occlusion, {"window": max(1, side * 3 // 14), "stride": max(1, side // 16), **papers}),
        "rise": (a.rise, {"num_masks": n, **papers}),
        "sobol": (a.sobol, {"grid": 8, "num_designs": max(1, n // 65)}),
    }


def judges(config: Config) -> dict[str, Any]:
    """The pointing game, and what does not hang on a single pixel."""
    return {
        "pointing_game": (metrics.pointing_game, {"tolerance": config.tolerance}),
        "energy_pointing": metrics.energy_pointing,
        "relevance_rank": metrics.relevance_rank,
        "localization_auc": metrics.localization_auc,
    }


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Evaluates and returns the rows: images × method × metric."""
    subject = available()[config.model].build()
    source = data.source(config.dataset, split=config.split, num_classes=len(subject.class_names))
    explained = methods(config, subject.input_shape[0])
    done, _ = evaluated(here, subject, source, explained, judges(config), target="label", where="correct")
    found = done.table()
    covered = np.asarray([data.load(source, [i], preprocess=subject.preprocess).mask.mean() for i in found["index"]])
    rows = []
    for images, chosen in (("all", covered >= 0), ("difficult", covered <= DIFFICULT)):
        for metric in done.metrics:
            scores = scores_of(done, found, metric)[chosen]
            rows += [findings.row(scores[:, n], images=images, method=method, metric=metric) for n, method in enumerate(done.methods)]
    return rows


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints a table of all images, and one of the difficult."""
    for images in ("all", "difficult"):
        chosen = [row for row in rows if row["images"] == images]
        print(f"\n{images}: {chosen[0]['n']} images\n{findings.table(chosen, 'method', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__, Reporter)


if __name__ == "__main__":
    main()
