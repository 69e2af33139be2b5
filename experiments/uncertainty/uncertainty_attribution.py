"""Which maps find the pixels that make a network unsure: a path through a generator from a certain point, or methods made for classes, asked about the entropy?

    python experiments/uncertainty/uncertainty_attribution.py
    python experiments/uncertainty/uncertainty_attribution.py --images 200 --steps 784    # one pixel a step, as published: about 2 hours

The same command goes on where it was stopped. Needs the extra `experiments`, the data sets mnist and fashion_mnist, and the weights mnist_vae (the VAE of Fashion-MNIST is
trained here). For each data set and seed a network learns from `train` images, few, so that there is doubt; `images` are drawn from the `share` of `tests` test images of which it is
least certain, and the entropy of each is explained by every method.

Claims that are tested (Perez et al. 2022, UAI, arXiv 2107.08756): the path through a generator has better entropy and uncertainty reduction curves than integrated gradients (black; black
and white; from the fiducial), blur IG, guided IG, LIME, SHAP, XRAI and CLUE (x less its counterfactual), "which yields improvements across these metrics"; and it is complete.
Measured, as published: the area under the curve of the median image of EIC (lower is better) and URC (higher), of the mean of AIC (higher), pixels blurred by 1.5 (MNIST) and 2;
`fiducial` is the entropy at the path's beginning over that at x. Intervals are 95 %, over images drawn again (all seeds' together, paired where methods are compared); "seeds" says for how many
seeds the path is ahead. SHAP is KernelSHAP on 7 × 7 cells and LIME has the same cells, XRAI the segments of its authors on integrated gradients (black and white): not the published code's.

Found, in a smaller run than the default one, of which there are no figures yet (`--datasets mnist --images 10 --steps 49 --samples 200 --tests 1000 --search-steps 400`; 10 digits × 3 seeds, of a
median entropy of 1.54 nats; the fiducials have .033 [.024, .039] of it, and the gap is below 1e-6):

| method | EIC | path less it | AIC | URC | path less it |
|---|---|---|---|---|---|
| path | .724 [.584, .777] | | .43 [.26, .59] | .323 [.232, .377] | |
| IG | .749 [.687, .804] | −.026 [−.121, −.005], 3 of 3 | .47 [.30, .64] | .187 [.149, .259] | .136 [.058, .172], 3 of 3 |
| IG, black and white | .730 [.681, .774] | −.007 [−.113, .031], 2 of 3 | .46 [.27, .63] | .211 [.135, .259] | .112 [.031, .185], 3 of 3 |
| IG, from the fiducial | .571 [.534, .639] | .153 [.037, .181], 1 of 3 | .43 [.26, .60] | .405 [.363, .450] | −.082 [−.152, −.051], 0 of 3 |
| blur IG | .536 [.398, .650] | .188 [.101, .288], 0 of 3 | .48 [.30, .63] | .437 [.309, .577] | −.114 [−.224, −.042], 0 of 3 |
| guided IG | .750 [.686, .805] | −.026 [−.120, −.005], 3 of 3 | .47 [.30, .64] | .186 [.148, .260] | .137 [.058, .175], 3 of 3 |
| LIME | .879 [.837, .901] | −.155 [−.277, −.108], 3 of 3 | .41 [.25, .57] | .048 [.026, .075] | .275 [.185, .328], 3 of 3 |
| SHAP | .871 [.834, .900] | −.147 [−.259, −.111], 3 of 3 | .42 [.26, .57] | .056 [.030, .075] | .267 [.183, .318], 3 of 3 |
| XRAI | .810 [.763, .856] | −.087 [−.197, −.045], 3 of 3 | .45 [.28, .61] | .111 [.082, .156] | .212 [.126, .256], 3 of 3 |
| CLUE | .937 [.900, .976] | −.213 [−.342, −.155], 3 of 3 | .43 [.27, .59] | .116 [.076, .169] | .208 [.108, .273], 3 of 3 |
| random | .936 [.916, .953] | −.212 [−.337, −.163], 3 of 3 | .40 [.26, .55] | .013 [.001, .024] | .310 [.226, .363], 3 of 3 |

So the claim holds in part: the path is ahead of integrated gradients from black, guided IG, LIME, SHAP, XRAI and CLUE on EIC and URC, in each seed; but two that begin at a point like x are ahead of it, blur IG
(whose points are blurred x, which is what the curves put in place of pixels) and, on URC in each seed, a straight line from the same fiducial. What helps here is the certain fiducial, not the way through the
generator. By AIC no method differs from the path: the intervals of all differences have 0 in them.

Writes `out/uncertainty_attribution/DIGEST/results.json` and `curves.png`. Cost of the smaller run: 13 minutes on 2 CPU cores that a dozen others used; each data set compiles about twenty programs, and its
first seed takes most of the time.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jax.tree_util import Partial

from jxai import attribution, counterfactual, each, fills, metrics, models, uncertainty
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models.ordinary import mnist, ordinary
from jxai.removal.segments import XRAI, Segmentation
from jxai.train import train
from jxai.uncertainty.resampling import bootstrap

BLUR = {"mnist": 1.5, "fashion_mnist": 2.0}
OURS = "path"
CURVES = {"EIC": metrics.eic, "AIC": metrics.aic, "URC": metrics.urc}
BETTER = {"EIC": -1, "AIC": 1, "URC": 1}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    datasets: tuple[str, ...] = ("mnist", "fashion_mnist")
    images: int = 30
    seeds: int = 3
    train: int = 2000
    """Images that each network learns from."""
    tests: int = 2000
    share: float = 0.1
    """Of the test images, the least certain ones, from which those that are explained are drawn."""
    path_steps: int = 50
    search_steps: int = 2000
    """For each end of the path, at most."""
    samples: int = 400
    """Passes of LIME and SHAP."""
    steps: int = 98
    """Of the curves."""
    epochs: int = 15
    """Of the VAE of Fashion-MNIST."""
    out: str = "out/uncertainty_attribution"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Explains and judges for every data set and seed, draws the curves, and returns the rows."""
    rows, drawn = [], {}
    for dataset in config.datasets:
        made = functools.cache(functools.partial(generator, dataset, config))
        found = [of_seed(config, here, dataset, seed, made) for seed in range(config.seeds)]
        rows += compared(dataset, found)
        drawn[dataset] = {name: np.concatenate([one[name] for one in found]) for name in found[0] if name.startswith(("EIC", "URC"))}
    draw(drawn, here.path / "curves.png")
    return rows


def generator(dataset: str, config: Config) -> Any:
    """A variational autoencoder of the data set."""
    if dataset == "mnist":
        return models.mnist_vae()
    vae = models.VAE((28, 28, 1), rngs=nnx.Rngs(0))
    return train(vae, models.vae_loss, mnist("train", 10_000, 0, dataset), key=jax.random.key(0), epochs=config.epochs).model


def of_seed(config: Config, here: Record, dataset: str, seed: int, generator: Callable[[], Any]) -> dict[str, np.ndarray]:
    """For every measure and method `[images, …]`: curves, and of the path its gap and its fiducial's entropy."""
    ready = functools.cache(lambda: ordinary(seed, config.train, dataset))

    def chosen() -> dict[str, np.ndarray]:
        x, y = mnist("test", config.tests, dataset=dataset)
        entropies = np.asarray(each(uncertainty.entropy, ready(), x))
        least = np.argsort(-entropies, kind="stable")[: int(config.share * len(x))]
        which = np.random.default_rng(seed).permutation(least)[: config.images]
        return {"x": x[which], "y": y[which], "entropy": entropies[which]}

    given = here.kept(f"{dataset}, {seed}, images", chosen)

    def judged() -> dict[str, np.ndarray]:
        f, x = ready(), given["x"]
        found: dict[str, np.ndarray] = {"entropy": given["entropy"]}
        for name, a in maps(config, f, x, generator(), seed, found):
            here.tell(f"{dataset}, seed {seed}: {name}")
            for metric, judge in CURVES.items():
                curve = each(judge, f, x, given["y"], a, key=jax.random.key(seed), steps=config.steps, fill=fills.Blur(BLUR[dataset]))
                found[f"{metric}/{name}"] = np.asarray(curve.y)
        return found

    return here.kept(f"{dataset}, {seed}, curves", judged)


def maps(config: Config, f: Any, x: np.ndarray, generator: Any, seed: int, found: dict[str, np.ndarray]):
    """Each method's maps of the entropy, positive where x makes f unsure: `(name, [n, 28, 28, 1])`."""
    entropy, key, n = Partial(uncertainty.entropy, f), jax.random.key(seed), len(x)
    steps = config.path_steps
    ends = each(attribution.uncertainty_ends, f, x, None, generator=generator, search_steps=config.search_steps)
    codes = {"fiducial": ends.fiducial, "code": ends.code}
    path = np.asarray(each(attribution.uncertainty_path, f, x, None, generator=generator, steps=steps, per_example=codes))
    found["gap"] = np.abs(path.sum((1, 2, 3)) - np.asarray(ends.uncertainties[:, 2] - ends.uncertainties[:, 0]))
    found["fiducial"] = np.asarray(ends.uncertainties[:, 0] / ends.uncertainties[:, 2])
    yield OURS, path
    ig = lambda **options: np.asarray(each(attribution.integrated_gradients, entropy, x, None, steps=steps, **options))
    yield "IG", (black := ig())
    yield "IG, black and white", (both := (black + ig(baseline=1.0)) / 2)
    yield "IG, from the fiducial", ig(per_example={"baseline": np.asarray(ends.start)})
    yield "blur IG", np.asarray(each(attribution.blur_integrated_gradients, entropy, x, None, steps=steps, max_sigma=2.0))
    yield "guided IG", np.asarray(each(attribution.guided_integrated_gradients, entropy, x, None, steps=steps))
    cells = dict(grid=7, num_samples=config.samples, key=key)
    yield "LIME", np.asarray(each(attribution.lime, entropy, x, None, **cells))
    yield "SHAP", np.asarray(each(attribution.kernel_shap, entropy, x, None, **cells))
    segments = np.stack([Segmentation("felzenszwalb", XRAI)(v) for v in x])
    yield "XRAI", np.asarray(each(attribution.xrai, entropy, x, None, method_options={"steps": steps}, per_example={"segments": segments}))
    clue = counterfactual.run(counterfactual.clue.search(generator=generator), f, x, None, batch_size=n)
    yield "CLUE", x - np.asarray(clue.x)
    yield "random", np.float32(np.random.default_rng(seed).normal(size=both.shape))


def area(metric: str, y: np.ndarray) -> float:
    """Under the curve of the median image, of AIC the mean."""
    y = np.nanmedian(y, 0) if metric != "AIC" else y.mean(0)
    return float(np.trapezoid(y, dx=1 / (len(y) - 1)))


def compared(dataset: str, found: list[dict[str, np.ndarray]]) -> list[dict[str, Any]]:
    """A row for each measure of each method, and for each of the path less another."""
    rows, key = [], jax.random.key(0)
    names = {"dataset": dataset}
    for what in ("gap", "fiducial", "entropy"):
        rows.append({**names, "method": OURS, "metric": what, **_interval(bootstrap(np.median, np.concatenate([one[what] for one in found]), key=key))})
    for label in (name for name in found[0] if "/" in name):
        metric, method = label.split("/")
        of = functools.partial(area, metric)
        every, ours = (np.concatenate([one[name] for one in found]) for name in (label, f"{metric}/{OURS}"))
        rows.append({**names, "method": method, "metric": metric, **_interval(bootstrap(of, every, key=key, paired=True)), "n": len(every)})
        if method != OURS:
            ahead = [BETTER[metric] * (of(one[f"{metric}/{OURS}"]) - of(one[label])) > 0 for one in found]
            gain = bootstrap(lambda a, b, of=of: of(a) - of(b), ours, every, key=key, paired=True)
            rows.append({**names, "method": method, "metric": f"{metric}, path less it", **_interval(gain), "seeds": f"{sum(ahead)} of {len(found)}"})
    return rows


def _interval(estimate: Any) -> dict[str, float]:
    return {"mean": float(estimate.value), "low": float(estimate.low), "high": float(estimate.high)}


def draw(drawn: dict[str, dict[str, np.ndarray]], path: Any) -> None:
    """Median curves of each data set and measure."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(drawn), figsize=(5 * len(drawn) + 1.5, 6.5), layout="constrained", squeeze=False)
    for column, (dataset, curves) in zip(axes.T, drawn.items()):
        for axis, metric in zip(column, ("EIC", "URC")):
            for number, (label, y) in enumerate((label, y) for label, y in curves.items() if label.startswith(metric)):
                method = label.split("/")[1]
                style = dict(color="black", linewidth=2) if method == OURS else dict(color=f"C{(number - 1) % 10}", linewidth=1)
                axis.plot(np.linspace(0, 1, y.shape[1]), np.nanmedian(y, 0), label=method, **style, linestyle=":" if method == "random" else "-")
            better, share = ("lower is better", "inserted") if metric == "EIC" else ("higher is better", "blurred")
            axis.set(title=f"{dataset}: {metric}, {better}", xlabel=f"share of pixels {share}", ylabel="median over images")
    axes[0, 0].set_yscale("log")
    axes[0, -1].set_yscale("log")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """A table for each data set: areas, and by how much the path is ahead."""
    for dataset in config.datasets:
        own = [r for r in rows if r["dataset"] == dataset]
        print(f"\n{dataset}: " + ", ".join(f"{r['metric']} {_shown(r)}" for r in own if r["metric"] in ("entropy", "fiducial", "gap")) + "\n")
        columns = [f"{metric}{more}" for metric in CURVES for more in ("", ", path less it")]
        print("| method | " + " | ".join(columns) + " |\n" + "|---" * (len(columns) + 1) + "|")
        for method in dict.fromkeys(r["method"] for r in own):
            cells = {r["metric"]: _shown(r) + (f", {r['seeds']}" if "seeds" in r else "") for r in own if r["method"] == method}
            print(f"| {method} | " + " | ".join(cells.get(column, "") for column in columns) + " |")


def _shown(r: dict[str, Any]) -> str:
    return f"{r['mean']:.3g} [{r['low']:.3g}, {r['high']:.3g}]"


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
