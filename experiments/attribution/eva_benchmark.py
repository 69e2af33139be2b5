"""EVA with bounds of every tightness, beside seven other methods: do tighter bounds give better explanations?

    python experiments/attribution/eva_benchmark.py --worlds mnist_robust      # 200 digits, about 20 minutes on 2 busy cores
    python experiments/attribution/eva_benchmark.py                            # all worlds

The same command goes on where it was stopped. Needs the extra `experiments`, the weights and the data sets of the worlds.

Worlds: MNIST, the network of Wong and Kolter that is provably robust at 0.1 (`mnist_robust`), and the same network trained without any defence
(`mnist_ordinary`, in the script); Fashion-MNIST, the robust one (`fashion_robust`); CIFAR-10, ResNet-20 by the hybrid, verified from the last
block but one on (`cifar10_hybrid`). The first two take `limit` images, the others a fifth and a tenth of it.

Claims that are tested (Fel et al. 2023, "Don't Lie to Me!"): EVA beats random maps, gradients and sampled removals on deletion, insertion,
μFidelity and Robustness-S_r; and *tighter bounds give better explanations*. Both by the scores of the one (of the tighter bound) minus those of
the other on the same image, signed so that more is better, with 95 % bootstrap intervals (each on its own, not corrected for their number):
"better" where the interval is above 0, "worse" where it is below, else "open". How tight a bound is, is measured too: the verified overlap of the
whole ball (`overlap`; lower is tighter).

What was found: the second claim does not hold in any world. (CROWN's maps less IBP's on the same image; overlap of the whole ball, IBP's and CROWN's.)

| | overlap | deletion | insertion | μFidelity | Robustness-S_r |
|---|---|---|---|---|---|
| mnist_robust, 200 | 116 → −5.1 | −.029 [−.037, −.021] | open | −.109 [−.133, −.086] | open |
| fashion_robust, 40 | 35 → .3 | −.036 [−.058, −.013] | −.034 [−.054, −.011] | open | open |
| mnist_ordinary, 200 | 204 → 7.5 | −.423 [−.443, −.402] | −.240 [−.262, −.217] | −.653 [−.682, −.623] | −.196 [−.248, −.148] |
| cifar10_hybrid, 6 | | open | open | open | open |

On mnist_ordinary CROWN anew for each group orders cells worse than chance (deletion .67 against .57 of noise). There the maps are brightest on the empty
border: to hold it makes ReLUs near 0 stable, so the drop is as much the relaxation's as the model's. One pass for all groups, whose relaxation is one and
the same, has no such drop: with CROWN it is better on deletion by .471 [.453, .488] and has the best Robustness-S_r of all (1.30; integrated gradients
1.58). The first claim holds against noise, on all four metrics, for IBP's maps and for those of one pass in both worlds of MNIST, and for IBP's on
deletion and μFidelity in fashion_robust (where the other intervals overlap); it does not hold against integrated gradients, occlusion and Sobol on
deletion and μFidelity. On 6 images of cifar10_hybrid (`--limit 60`, 10 busy minutes) CROWN's maps beat noise and all methods but the magnitude of the
gradient on Robustness-S_r (.121; integrated gradients .155), and none of the claims can be told on deletion.

All methods are judged at the resolution of EVA's groups, 7 × 7 cells (CIFAR-10: 8 × 8); EVA bounds the overlap as the paper does. Labels that end in
`_single` take all groups from one pass of bounds. (Forward bounds anew for each group cost 9 s an image, and are not run.) Black-box methods
have `passes` forward passes, gradient methods `steps`. The class that the model predicts is explained. Writes `out/eva_benchmark/DIGEST/results.json` and, of
mnist_robust, `eva.png`: EVA beside six other methods on two digits.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jxai import attribution, bounds, data, each, evaluate, metrics
from jxai.cli.progress import Reporter
from jxai.evaluate import findings
from jxai.evaluate.controls import random_map
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.evaluate.table import scores_of
from jxai.metrics.documented import direction
from jxai.models import available
from jxai.models.ordinary import ordinary

BOUNDS = {
    "eva_interval": {"bound": "interval"},
    "eva_crown_ibp": {"bound": "crown_ibp"},
    "eva_crown": {"bound": "crown"},
    "eva_alpha_crown": {"bound": "alpha_crown"},
    "eva_crown_ibp_single": {"bound": "crown_ibp", "per_group": False},
    "eva_forward_single": {"bound": "forward", "per_group": False},
    "eva_crown_single": {"bound": "crown", "per_group": False},
}
PAIRS = (
    ("eva_crown_ibp", "eva_interval"),
    ("eva_crown", "eva_crown_ibp"),
    ("eva_alpha_crown", "eva_crown"),
    ("eva_alpha_crown", "eva_interval"),
    ("eva_crown", "eva_interval"),
    ("eva_forward_single", "eva_crown_ibp_single"),
    ("eva_crown_single", "eva_forward_single"),
    ("eva_crown", "eva_crown_single"),
)
"""(tighter, looser)."""
EVA = "eva_crown"
"""What is compared with the other methods: the paper's bound, which for MNIST is backward, within those of intervals."""


@dataclasses.dataclass(frozen=True)
class World:
    """A data set, a model, and where EVA looks."""

    dataset: str
    model: str
    """A name of `jxai.models.available`, or "ordinary"."""
    radius: float
    grid: int = 7
    share: float = 1.0
    """Of the images that the configuration asks for."""
    bounds: tuple[str, ...] = tuple(BOUNDS)
    hybrid: tuple[tuple[str, Any], ...] = ()
    """Options of EVA that make it a hybrid."""


WORLDS = {
    "mnist_robust": World("mnist", "robust_mnist", 0.1),
    "mnist_ordinary": World("mnist", "ordinary", 0.03),
    "fashion_robust": World("fashion_mnist", "robust_fashion_mnist", 0.1, share=0.2),
    "cifar10_hybrid": World(
        "cifar10", "cifar10_resnet20", 2 / 255, 8, 0.1, ("eva_interval", "eva_crown_ibp", "eva_crown", "eva_crown_single"),
        (("layer", 64), ("num_samples", 32)),  # the sum and ReLU after the last block but one
    ),
}  # fmt: skip


DRAWN = "mnist_robust"
"""The world that the picture is of."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    worlds: str = ",".join(WORLDS)
    """Names separated by commas."""
    limit: int = 200
    passes: int = 500
    """Forward passes of RISE and Sobol."""
    steps: int = 32
    """Forward and backward passes of methods that average gradients."""
    train: int = 10000
    """Images that the ordinary network learns from, in two passes over them."""
    seed: int = 0
    out: str = "out/eva_benchmark"


def methods(config: Config, world: World, side: int) -> dict[str, Callable | tuple[Callable, dict[str, Any]]]:
    """The control, EVA by bound, and the others with their budgets."""
    common = {"radius": world.radius, "clip": (0.0, 1.0), "grid": world.grid, **dict(world.hybrid)}
    cell = side // world.grid
    papers = {"score": "probability"}  # the score that these papers explain
    others = {
        "gradient": {},
        "smoothgrad": {"num_samples": config.steps},
        "integrated_gradients": {"steps": config.steps, **papers},
        "occlusion": {"window": cell, "stride": cell, **papers},
        "rise": {"num_masks": config.passes, "grid": world.grid, **papers},
        "sobol": {"grid": world.grid, "num_designs": max(1, config.passes // (world.grid**2 + 1))},
    }
    # The magnitude of a gradient is what "saliency" means; the signed map is judged as well.
    magnitudes = {f"abs:{name}": (getattr(attribution, name), others[name]) for name in ("gradient", "smoothgrad", "integrated_gradients")}
    return {
        "random": random_map,
        **{label: (attribution.eva, {**common, **BOUNDS[label]}) for label in world.bounds},
        **{name: (getattr(attribution, name), options) for name, options in others.items()},
        **magnitudes,
    }


def judges(world: World) -> dict[str, tuple[Callable, dict[str, Any]]]:
    """The paper's four metrics, at the resolution of EVA's groups."""
    return {
        "deletion": (metrics.deletion, {"grid": world.grid, "steps": None, "score": "probability"}),
        "insertion": (metrics.insertion, {"grid": world.grid, "steps": None, "score": "probability"}),
        "mu_fidelity": (metrics.mu_fidelity, {"grid": world.grid, "num_samples": 128, "score": "logit"}),
        "robustness_sr": (metrics.robustness_sr, {"grid": world.grid, "clip": (0.0, 1.0), "shares": (0.2, 0.4, 0.6)}),
    }


def whole_overlap(f, x, target, *, radius: float, bound: str):
    """`[]`: the verified overlap of the whole ball, `max_{j ≠ c} upper_j − lower_c`."""
    lower, upper = bounds.bound(f, bounds.ball(x, radius, math.inf, (0.0, 1.0)), method=bound)
    return jnp.where(jnp.arange(upper.size) == target, -jnp.inf, upper).max() - lower[target]


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Evaluates every world and returns the rows: world × method × metric; the overlap of each bound; and the pairs."""
    rows = []
    for name in config.worlds.split(","):
        rows += _world(config, here, name, WORLDS[name])
    if DRAWN in config.worlds.split(","):
        picture(config, here.path / "eva.png")
    return rows


def _world(config: Config, here: Record, name: str, world: World) -> list[dict[str, Any]]:
    robust = "robust_mnist" if world.model == "ordinary" else world.model
    subject = available()[robust].build()
    f = ordinary(config.seed, config.train) if world.model == "ordinary" else subject.model
    source = data.source(world.dataset, num_classes=len(subject.class_names))
    limit = max(1, round(config.limit * world.share))
    options = dict(preprocess=subject.preprocess, model_name=world.model, limit=limit, sample="first", seed=config.seed, on_progress=here.on_progress)
    explained = methods(config, world, subject.input_shape[0])
    done = evaluate.run(f, source, explained, judges(world), here.path / name, **options)
    evaluate.report([done], here.path / f"{name}_report")
    scored = done.table()
    found = {metric: scores_of(done, scored, metric) for metric in done.metrics}
    rows = [findings.row(found[metric][:, n], world=name, method=method, metric=metric) for metric in found for n, method in enumerate(done.methods)]
    rows.append(findings.row(np.float64(scored["predicted"] == scored["label"]), world=name, method="model", metric="accuracy"))
    if not world.hybrid:
        batch = data.load(source, scored["index"], None, subject.preprocess)
        for bound in bounds.METHODS:
            overlap = lambda bound=bound: each(whole_overlap, f, batch.x, scored["target"], radius=world.radius, bound=bound, batch_size=1)
            values = here.kept(f"{name}, {bound}", lambda overlap=overlap: {"overlap": overlap()})["overlap"]
            rows.append(findings.row(values, world=name, bound=bound, metric="overlap"))
    others = [(EVA, method) for method in done.methods if method not in BOUNDS]
    for claim, pairs in (("tighter", PAIRS), ("eva", others)):
        rows += paired(list(done.methods), found, judges(world), pairs, world=name, claim=claim)
    return rows


def paired(names: list[str], found: dict[str, np.ndarray], judged: dict[str, tuple], pairs: Sequence[tuple[str, str]], **labels: Any) -> list[dict[str, Any]]:
    """First minus second on the same image, more is better, for each pair of methods that were run and each metric `[n, methods]`."""
    rows = []
    for first, second in pairs:
        if {first, second} <= set(names):
            for metric, scores in found.items():
                difference = direction(judged[metric][0]) * (scores[:, names.index(first)] - scores[:, names.index(second)])
                one = findings.row(difference, **labels, pair=f"{first} − {second}", metric=metric)
                rows.append({**one, "more": {"verdict": "better" if one["low"] > 0 else "worse" if one["high"] < 0 else "open"}})
    return rows


def picture(config: Config, path: Path) -> None:
    """Draws EVA beside six other methods on two digits: what speaks for the class (of gradients, magnitudes), each map in units of its largest."""
    from jxai import plot

    world, subject = WORLDS[DRAWN], available()["robust_mnist"].build()
    chosen = methods(config, world, 28)
    finer = {"grid": 14, **BOUNDS["eva_crown"]}
    shown = {
        "eva": (attribution.eva, {**chosen["eva_crown"][1], **finer}),
        **{label: chosen[label] for label in ("abs:gradient", "abs:smoothgrad", "abs:integrated_gradients", "rise", "sobol")},
        "occlusion": (attribution.occlusion, {"window": 4, "stride": 2, "score": "probability"}),
    }
    x = data.load(data.source(world.dataset), (0, 2), None, subject.preprocess).x
    target = np.asarray(jax.vmap(subject.model)(x)).argmax(1)
    maps = {}
    for label, (method, options) in shown.items():
        found = np.asarray(each(method, subject.model, x, target, key=jax.random.key(config.seed), **options))
        found = np.abs(found) if label.startswith("abs:") else np.maximum(found, 0)
        maps[label.removeprefix("abs:")] = np.concatenate([a / a.max() for a in found], 1)[None]
    title = f"MNIST, a provably robust network, ℓ∞ radius {world.radius}: why {target[0]} and why {target[1]}"
    # Half as bright, or the ink would outshine the maps.
    plot.save(plot.explanations(np.concatenate(x, 1) / 2, maps, title=title, columns=4, signed=False, alpha=1.0, percentile=99.8), path)


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints the scores of each world, the overlaps of its bounds and its pairs."""
    for name in config.worlds.split(","):
        here = [row for row in rows if row["world"] == name]
        print(f"\n{name}, {here[0]['n']} images\n{findings.table([r for r in here if 'method' in r and r['metric'] != 'accuracy'], 'method', 'metric')}")
        if overlaps := [r for r in here if "bound" in r]:  # of a hybrid there are none
            print(f"\n{findings.table(overlaps, 'bound', 'metric')}")
        for claim in ("tighter", "eva"):
            pairs = [r for r in here if r.get("claim") == claim]
            counts = {word: sum(r["more"]["verdict"] == word for r in pairs) for word in ("better", "worse", "open")}
            print(f"\n{claim}, more is better: {counts}\n{findings.table(pairs, 'pair', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__, Reporter)


if __name__ == "__main__":
    main()
