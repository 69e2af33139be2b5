"""Attribution methods × metrics on ImageNet photographs, black-box methods at equal numbers of forward passes.

    python experiments/attribution/attribution_benchmark.py                        # 100 images
    python experiments/attribution/attribution_benchmark.py --limit 1000 --methods all

The same command goes on where it was stopped. Needs the extra `experiments` and the data set imagenet_nips2017.

Claims that are tested: perturbation methods beat gradients on deletion, insertion and μFidelity; Sobol indices need fewer forward passes
than RISE for the same faithfulness (Fel et al. 2021, "Look at the Variance!", report deletion .121 for Sobol and .127 for RISE on
EfficientNet with 4000 passes of RISE); every method beats random maps and edges, the two controls.

Every black-box method has `passes` forward passes, every gradient method `steps` forward and backward ones. The class that the model predicts is explained.
Writes `out/attribution_benchmark/DIGEST/results.json` (means with 95 % bootstrap intervals, and Sobol − RISE on each image), the report's tables and
pictures, and the run itself. Cost: about 15 s an image on 2 CPU cores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from jxai import attribution, data, evaluate, metrics, taps
from jxai.cli.progress import Reporter
from jxai.evaluate import findings
from jxai.evaluate.controls import edges, random_map
from jxai.evaluate.experiment import command_line, evaluated, recorded
from jxai.evaluate.record import Record, folder
from jxai.evaluate.table import scores_of
from jxai.models import available
from jxai.segments import Segmentation


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    dataset: str = "imagenet_nips2017"
    model: str = "efficientnet_lite0"
    limit: int = 100
    passes: int = 260
    """Forward passes of every black-box method."""
    steps: int = 32
    """Forward and backward passes of every method that averages gradients."""
    methods: str = "default"
    """"default", "all" that can explain the model's classes, or names separated by commas."""
    seed: int = 0
    out: str = "out/attribution_benchmark"


def methods(config: Config, side: int, layer: int) -> dict[str, Callable | tuple[Callable, dict[str, Any]]]:
    """The methods with their budgets for images of that side, the controls first; `layer`: where EVA's bounds begin."""
    n, steps, grid = config.passes, config.steps, 8
    papers = {"score": "probability"}  # the score that these papers explain
    budgets: dict[str, dict[str, Any]] = {
        "integrated_gradients": {"steps": steps, **papers},
        "blur_integrated_gradients": {"steps": steps, **papers},
        "guided_integrated_gradients": {"steps": steps, **papers},
        "expected_gradients": {"num_samples": steps},
        "gradient_shap": {"num_samples": steps},
        "smoothgrad": {"num_samples": steps},
        "squaregrad": {"num_samples": steps},
        "vargrad": {"num_samples": steps},
        "xrai": {"method_options": {"steps": steps}, **papers},
        "occlusion": {"window": max(1, side // 7), "stride": max(1, side // 17), **papers},  # of 224: 16 × 16 windows and the image itself
        "feature_ablation": {"grid": min(16, side)},
        "rise": {"num_masks": n, **papers},
        "sobol": {"grid": grid, "num_designs": max(1, n // (grid**2 + 1))},
        "hsic": {"grid": grid, "num_designs": n},
        "eva": {"radius": 1 / 64, "grid": grid, "layer": layer, "num_samples": max(1, n // (grid**2 + 1))},
        "lime": {"num_samples": n, "segments": Segmentation("slic", (60.0,)), **papers},
        "meaningful_perturbation": papers,
        "kernel_shap": {"num_samples": n, "segments": Segmentation("slic", (60.0,))},
        "shapley_sampling": {"num_samples": max(1, n // grid**2), "grid": grid},
    }
    default = """gradient abs:gradient input_x_gradient guided_backprop grad_cam grad_cam_plus_plus layer_cam smoothgrad abs:smoothgrad
        integrated_gradients gradient_shap xrai occlusion rise sobol hsic lime"""
    names = {"default": default.split(), "all": [name for name in attribution.__all__ if name != "uncertainty_path"]}.get(
        config.methods, config.methods.split(",")
    )
    chosen = {label: (getattr(attribution, label.removeprefix("abs:")), budgets.get(label.removeprefix("abs:"), {})) for label in names}
    return {"random": random_map, "edges": edges, **chosen}


def judges(config: Config) -> dict[str, tuple[Callable, dict[str, Any]]]:
    """The main metrics: is the map faithful, and is it short."""
    return {
        "deletion": (metrics.deletion, {"steps": 16, "score": "probability"}),
        "insertion": (metrics.insertion, {"steps": 16, "score": "probability"}),
        "road": (metrics.road, {"steps": 4, "max_fraction": 0.8, "score": "probability"}),
        "mu_fidelity": (metrics.mu_fidelity, {"num_samples": 32, "score": "logit"}),
        "average_drop": (metrics.average_drop, {}),
        "average_gain": (metrics.average_gain, {}),
        "sparseness": (metrics.sparseness, {}),
    }


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Evaluates, writes the report, and returns the rows: method × metric, and Sobol − RISE for each metric."""
    subject = available()[config.model].build()
    source = data.source(config.dataset, num_classes=len(subject.class_names))
    last_map = taps.find(subject.model, jnp.zeros(subject.input_shape)).index
    explained = methods(config, subject.input_shape[0], last_map)
    if config.methods == "all":
        explained, left_out = evaluate.possible(subject.model, source, explained, preprocess=subject.preprocess)
        for name, why in left_out.items():
            print(f"{name} is left out: {why}")
    done, report = evaluated(here, subject, source, explained, judges(config))
    rows = [{**{k: getattr(r, k) for k in ("method", "metric", "mean", "low", "high", "n")}, "more": {"failed": r.failed, "rank": r.rank}} for r in report]
    return rows + sobol_against_rise(done)


def sobol_against_rise(done: evaluate.Run) -> list[dict[str, Any]]:
    """Sobol's score minus RISE's on the same image, averaged; no rows where one of them was not run."""
    if not {"sobol", "rise"} <= set(done.methods):
        return []
    rows = []
    for metric in done.metrics:
        scores = scores_of(done, done.table(), metric)
        difference = scores[:, done.methods.index("sobol")] - scores[:, done.methods.index("rise")]
        rows.append(findings.row(difference, method="sobol − rise", metric=metric))
    return rows


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints the report, and Sobol − RISE."""
    print((folder(config) / "report" / "summary.md").read_text("utf-8"))
    print(findings.table([row for row in rows if row["method"] == "sobol − rise"], "method", "metric"))


def main() -> None:
    command_line(Config, run, show, __doc__, Reporter)


if __name__ == "__main__":
    main()
