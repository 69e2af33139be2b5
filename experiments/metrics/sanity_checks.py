"""Sanity checks for saliency maps: does an attribution change when the weights of the network become random?

    python experiments/metrics/sanity_checks.py
    python experiments/metrics/sanity_checks.py --model cifar10_resnet20 --dataset cifar10

The same command goes on where it was stopped. Needs the extra `experiments`, and imagenet_nips2017 (or the data set and weights that are named).

Claim that is tested (Adebayo et al. 2018, "Sanity Checks for Saliency Maps"): as layers are randomised from the logits down, the
gradient and Grad-CAM change beyond recognition, and guided backpropagation hardly changes: it shows the edges of the image rather
than what the network learned. Random classes (Sixt et al. 2020) say the same for the class that is explained.

All images share one sequence of random networks, whose weights are permuted within each layer. Writes `out/sanity_checks/DIGEST/results.json`: for each
method the similarity of the magnitudes (Spearman and SSIM) after all layers and its area over the cascade, with the same for a random class, means and 95 %
bootstrap intervals, and the curves. Cost: 50 layers × the methods × two similarities, about 20 s an image on 2 cores.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jxai import attribution, data, metrics
from jxai.cli.progress import Reporter
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, evaluated, recorded
from jxai.evaluate.record import Record
from jxai.evaluate.table import scores_of
from jxai.models import available

PUBLISHED = {"gradient": "passes", "grad_cam": "passes", "guided_backprop": "fails", "guided_grad_cam": "fails"}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    dataset: str = "imagenet_nips2017"
    model: str = "efficientnet_lite0"
    limit: int = 10
    seed: int = 0
    out: str = "out/sanity_checks"


def methods() -> dict[str, Any]:
    """Those of the paper."""
    a = attribution
    return {
        "gradient": a.gradient,
        "input_x_gradient": a.input_x_gradient,
        "grad_cam": a.grad_cam,
        "guided_backprop": a.guided_backprop,
        "guided_grad_cam": a.guided_grad_cam,
        "deconvnet": a.deconvnet,
    }


def judges() -> dict[str, Any]:
    """The similarity to the maps of ever more random networks, and to the map of another class."""
    m = metrics
    return {
        "spearman_abs": (m.parameter_randomization, {"absolute": True}),
        "ssim_abs": (m.parameter_randomization, {"similarity": "ssim", "absolute": True}),
        "random_class": (m.random_logit, {"absolute": True}),
    }


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Evaluates and returns the rows: method × metric, after all layers ("end") and over the cascade ("area")."""
    subject = available()[config.model].build()
    source = data.source(config.dataset, num_classes=len(subject.class_names))
    done, _ = evaluated(here, subject, source, methods(), judges())
    found, rows = done.table(), []
    for metric in done.metrics:
        for n, method in enumerate(done.methods):
            rows.append(findings.row(scores_of(done, found, metric)[:, n], method=method, metric=metric, at="area"))
            if (name := f"curve/{method}/{metric}/y") in found:
                more = {"curve": np.nanmean(found[name], 0), "published": PUBLISHED.get(method)}
                rows.append(findings.row(found[name][:, -1], more, method=method, metric=metric, at="end"))
    return rows


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints how alike maps are after all layers, and over the cascade."""
    for at, what in (("end", "all layers random"), ("area", "mean over the cascade")):
        chosen = [row for row in rows if row["at"] == at]
        print(f"\n{what}, {chosen[0]['n']} images\n{findings.table(chosen, 'method', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__, Reporter)


if __name__ == "__main__":
    main()
