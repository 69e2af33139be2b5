"""DeDUCE and its baselines on MNIST: who changes the fewest pixels, and who fails?

    python experiments/counterfactual/deduce.py                             # 3 seeds × 40 images × 9 targets, about an hour on 2 cores
    python experiments/counterfactual/deduce.py --widths 64 128 256 512 --steps 78000 --images 100 --seeds 5   # as published, but for its batches
    python experiments/counterfactual/deduce.py --methods deduce --certainties 2 4 8 --held-out --seeds 1 --images 100 --judged 0   # which λ?

The same command goes on where it was stopped. Needs the extra `experiments`, the data set mnist and the weights mnist_vae and mnist_gan. For each seed the
paper's two networks are trained (`deduce_networks`): its own under spectral normalisation, to whose features a Gaussian is fitted for each class, and that
of its baselines, of another architecture. The first of the seed's 1000 test images that both have right are turned into every other class: by DeDUCE on the
normalised network, by JSMA, guided by prototypes, and by REVISE (λ = 1 as published, and λ = .1) on the plain one. "jsma, same network" is JSMA on DeDUCE's
network: what of the difference is the network's and what the density's. "deduce λ=4" weighs the probability four times as much as published, chosen for
networks of this size on held-out digits (100 images that the third command's network has not learned from).

Claim that is tested (Höltgen et al. 2021, arXiv 2111.15639; means over 5 batches of 100 images × 9 targets, ResNet-18): L0 of DeDUCE 21.2 < JSMA 25.6 <
prototypes 155 < REVISE 752 (of 784 pixels); failures 0, 3.1, .09 and 27 %; AnoGAN's score 22.5, 23.9, 23.0 and 20.1, lower being more realistic.
Measured: failures (what did not come to p >= .5 of the target by the method's own network; guided by prototypes, to the predicted class) and
steps of all searches; L0 (any difference counts, as in the paper's code) and L1 of all that a method reached, and of the cases that DeDUCE, JSMA,
prototypes and REVISE at λ = .1 all reached ("common"; λ = 1 would leave few); the difference of L0 from DeDUCE's where both reached; and AnoGAN's score
of each seed's first `judged` images.

Smaller than published: networks of a quarter of the channels, trained with 8000 instead of 19 500 updates; REVISE by Adam in a VAE of other weights
instead of 50 000 steps of 1e-5; AnoGAN's score with another GAN and without its term of features: it compares methods here, but not with the published numbers.

Found by the defaults (3 networks × 40 images × 9 targets, pooled, [95 % intervals over images]; accuracies .995 and .990; scores of 3 × 3 images):

    method                failures         L0, reached      L0, common       L1, common       L0 more than DeDUCE   … than DeDUCE λ=4  AnoGAN's score
    deduce                .002 [0, .005]   33 [32, 34]      29.4 [28, 31]    15.4 [15, 16]                          1.1 [.6, 1.7]      39 [30, 48]
    deduce λ=4            0   [0, 0]       32 [30, 33]      28.8 [27, 30]    15.2 [14, 16]    −1.1 [−1.7, −.6]                         39 [30, 48]
    jsma                  .07 [.06, .09]   32 [30, 33]      29.9 [28, 31]    14.6 [14, 15]    .8 [−.5, 2.2]         1.5 [.2, 2.9]      40 [31, 50]
    jsma, same network    .05 [.03, .06]   31 [29, 32]      28.2 [27, 30]    14.9 [14, 16]    −.8 [−1.5, −.2]       .2 [−.2, .6]       36 [28, 45]
    prototype             0   [0, 0]       440 [431, 447]   434 [426, 441]   31.6 [30, 33]    407 [399, 413]        408 [400, 414]     49 [40, 57]
    revise λ=.1           .10 [.08, .12]   784 [784, 784]   784 [784, 784]   50.5 [48, 53]    754 [752, 755]        754 [753, 756]     26 [19, 34]
    revise λ=1            .93 [.91, .95]   784 [784, 784]   784 [784, 784]   27.6 [25, 31]    772 [770, 773]        772 [770, 773]     10 (2 images)
    the images                                                                                                                         21 [14, 29]

    L0, common: deduce, with λ=4, jsma, jsma on the same network; failures of deduce, with λ=4, jsma
    network 0   29.0, 28.6, 30.3, 27.2;   .006, 0, .07
    network 1   31.0, 29.8, 30.7, 30.0;   0, 0, .08
    network 2   28.2, 28.0, 28.7, 27.3;   0, 0, .08

The published order of L0 is found, DeDUCE < JSMA < prototypes < REVISE. As published DeDUCE fails on 2 of 1080 cases (on none with two of the networks), JSMA
on 79, and its lead over JSMA, .8 pixels where both reached the target, is too little to be told from none. With λ = 4 it fails on none, changes 1.1 pixels
fewer, and leads JSMA by 1.5 [.2, 2.9], with each of the networks. (Near log N = 0, where the density's term is scaled up most, a search may lose its way: one
of the two that fail with λ = 1 stays there for 400 steps, and the other comes through when it is searched for alone, by rounding. Of 900 cases of held-out
digits λ = 1 fails on 4, at L0 33.1; λ = 2 on 1, 32.1; of 540 of these λ = 4 and λ = 8 fail on none, at 30.5 and 30.6, where λ = 1 has 32.1.) The lead over
JSMA is the architecture's, since the paper runs JSMA on another: on DeDUCE's own network JSMA changes as few pixels, .2 [−.2, .6] more than λ = 4 and .8
fewer than λ = 1. What the density buys is that none fails (JSMA there: 52). With an eighth of the channels and 400 updates (`--widths 8 16 32 64 --steps 400
--seeds 1 --images 20 --judged 0`, 2 minutes) DeDUCE as published needs 42 [37, 47] pixels and JSMA 30 [26, 35]. From there to the defaults DeDUCE's count
falls and JSMA's does not, so that 21 against 26 may well come with the paper's 19 500 updates of networks four times as wide (about 6 · 10¹⁵ operations for
each of DeDUCE's). REVISE at λ = 1 fails more often than published. By AnoGAN's score REVISE at λ = .1 is most realistic, as published, and prototypes least;
the intervals are too wide to tell DeDUCE from JSMA.

Kept are the trainings' checkpoints, what each method found and AnoGAN's scores. Writes `out/deduce/DIGEST/results.json` (by seed
and pooled over all images: means over images of the mean over their targets, with 95 % bootstrap intervals over images) and `counterfactuals.png`.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jxai
from experiments.counterfactual.deduce_measures import Found, measured
from experiments.counterfactual.deduce_networks import PlainResNet, networks
from experiments.counterfactual.every_class import cases
from experiments.counterfactual.searching import kept, once, saying
from jxai import counterfactual
from jxai.counterfactual import Search
from jxai.evaluate import findings
from jxai.evaluate.answers import predicted
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.findings import means
from jxai.evaluate.record import Record
from jxai.metrics import counterfactual as judges
from jxai.models import generators, mnist_gan
from jxai.models.ddu import DDUResNet
from jxai.models.ordinary import mnist
from jxai.scores import positive, within
from jxai.uncertainty import fit_gaussian_density


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    methods: tuple[str, ...] = ("deduce", "jsma", "jsma, same network", "prototype", "revise λ=.1", "revise λ=1")
    """DeDUCE among them."""
    certainties: tuple[float, ...] = (4.0,)
    """DeDUCE is run with these weights λ of the probability too, besides the published 1."""
    held_out: bool = False
    """The images are training digits after the first `train`, which the networks have not learned from, instead of test digits: to choose by."""
    seeds: int = 3
    """Pairs of networks, each with other test images."""
    images: int = 40
    """For each seed."""
    judged: int = 3
    """Images of each seed whose counterfactuals get AnoGAN's score, which costs most; 0 leaves it out."""
    train: int = 50000
    """Digits that the networks learn from, and that the densities and prototypes are of."""
    steps: int = 8000
    """Of each training, in batches of 32."""
    widths: tuple[int, ...] = (16, 32, 64, 128)
    """Channels of the stages of both networks, a quarter of the published ones."""
    blocks: int = 2
    """Of each stage."""
    threshold: float = 0.5
    """γ, for DeDUCE, JSMA and REVISE; the prototypes' search wants the predicted class."""
    search_steps: int = 500
    """Of REVISE and the prototypes; DeDUCE and JSMA have 700."""
    judge_steps: int = 4000
    judge_starts: int = 3
    out: str = "out/deduce"


class Method(NamedTuple):
    """A search on a network."""

    search: Search
    f: Callable


def methods(config: Config, normal: DDUResNet, plain: PlainResNet) -> dict[str, Method]:
    """The searches by name, each with its network."""
    x, y = mnist("train", config.train)
    vae = generators()["mnist_vae"]()
    h = np.concatenate([np.asarray(features(normal, part)) for part in np.array_split(x, -(-len(x) // 1000))])
    density = fit_gaussian_density(h, None, y, num_classes=10)

    def prototype() -> Search:
        prototypes = counterfactual.class_prototypes(vae, x[:2000], y[:2000], 10)
        return counterfactual.prototype.search(generator=vae, prototypes=prototypes, steps=config.search_steps)

    def revise(proximity: float) -> Search:
        return counterfactual.revise.search(generator=vae, proximity=proximity, threshold=config.threshold, steps=config.search_steps, learning_rate=0.05)

    jsma = counterfactual.jsma.search(threshold=config.threshold)

    def deduce(certainty: float) -> Search:
        return counterfactual.deduce.search(density=density, features="features", certainty=certainty, threshold=config.threshold)

    known = {
        "deduce": lambda: Method(deduce(1.0), normal),
        **{f"deduce λ={c:g}": lambda c=c: Method(deduce(c), normal) for c in config.certainties},
        "jsma": lambda: Method(jsma, plain),
        "jsma, same network": lambda: Method(jsma, normal),
        "prototype": lambda: Method(prototype(), plain),
        "revise λ=.1": lambda: Method(revise(0.1), plain),
        "revise λ=1": lambda: Method(revise(1.0), plain),
    }
    return {name: make() for name, make in known.items() if name in config.methods or name.startswith("deduce λ")}


@jax.jit
def features(model: DDUResNet, x: jax.Array) -> jax.Array:
    return jax.vmap(model.features)(x)


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Trains, searches by every method, and returns the rows."""
    check(config)
    values: dict[tuple[Any, str, str, str], np.ndarray] = {}
    for seed in range(config.seeds):
        measures = here.kept_values(f"network {seed}", functools.partial(measures_of, config, here, seed))
        values |= {(seed, *key): value for key, value in measures.items()}
    values |= findings.pooled(values, config.seeds)
    return [findings.row(value, seed=seed, method=name, of=of, metric=metric) for (seed, name, of, metric), value in values.items()]


def check(config: Config) -> None:
    """Raises ValueError for a bad configuration."""
    sizes = ("seeds", "images", "train", "steps", "blocks", "search_steps", "judge_steps", "judge_starts")
    positive(**{name: getattr(config, name) for name in sizes})
    within(0, config.images, judged=config.judged)
    if unknown := set(config.methods) - set(Config.methods):
        raise ValueError(f"methods={unknown} must be among {Config.methods}")
    if "deduce" not in config.methods:
        raise ValueError(f"methods={config.methods} must have 'deduce' among them")
    for c in config.certainties:
        within(0.0, math.inf, certainties=c)
    left = 60000 - config.train if config.held_out else 10000
    if (wanted := config.seeds * pool(config)) > left:
        raise ValueError(f"seeds={config.seeds} and images={config.images} want {wanted} digits, of which there are {left}")


def measures_of(config: Config, here: Record, seed: int) -> dict[tuple[str, str, str], np.ndarray]:
    """`{(method, of, metric): [images]}` of a seed; the first one's image is drawn."""
    x, target, found, accuracies = of_seed(config, here, seed)
    if seed == 0:
        jxai.plot.save(picture(x, target, found), here.path / "counterfactuals.png")
    measures = {(name, "networks", "accuracy"): right for name, right in accuracies.items()}
    return measures | measured(x, target, found) | judged(config, here, seed, x, found)


def pool(config: Config) -> int:
    """Digits of which a seed's images are the first that both networks have right."""
    return max(1000, 2 * config.images)


def of_seed(config: Config, here: Record, seed: int) -> tuple[np.ndarray, np.ndarray, dict[str, Found], dict[str, np.ndarray]]:
    """A seed's images and their targets, what the methods made of them, and which of its tests the networks have right."""
    split, first = ("train", config.train) if config.held_out else ("test", 0)
    first, count = first + seed * pool(config), pool(config)
    x, y = (v[first:] for v in mnist(split, first + count))
    nets = networks(config.widths, config.blocks, config.train, config.steps, seed, here.path, here.tell)
    right = {name: predicted(f, x) == y for name, f in zip(("normalised", "plain"), nets, strict=True)}
    here.tell(f"network {seed}: accuracies {right['normalised'].mean():.3f} (normalised), {right['plain'].mean():.3f} (plain)")
    x, target = cases(nets, x, y, config.images)
    found = {}
    for name, method in methods(config, *nets).items():
        label = f"network {seed}, {name}"
        c, seconds = kept(here, label, functools.partial(once, method.search, method.f, x, target, on_progress=saying(here, label)))
        found[name] = Found(c.x, c.valid, c.steps, np.asarray(seconds / target.size))
    return x, target, found, right


def judged(config: Config, here: Record, seed: int, x: np.ndarray, found: dict[str, Found]) -> dict[tuple[str, str, str], np.ndarray]:
    """AnoGAN's score of the first images themselves, and of what every method made of them."""
    if not config.judged:
        return {}
    gan, n = mnist_gan(), config.judged

    def score(v: jax.Array, key: jax.Array) -> jax.Array:
        return judges.anogan_score(None, v, v, None, key, generator=gan, steps=config.judge_steps, restarts=config.judge_starts)

    score = jax.jit(jax.vmap(score))

    def scores(points: np.ndarray) -> np.ndarray:
        return np.asarray(score(jnp.asarray(points), jax.random.split(jax.random.key(seed), len(points))))

    made = {"the images": lambda: scores(x[:n])}
    made |= {name: lambda f=f: scores(f.x[:n].reshape(-1, *x.shape[1:])).reshape(n, -1) for name, f in found.items()}
    rows = {}
    for name, make in made.items():
        value = here.kept(f"network {seed}, {name}, AnoGAN", lambda make=make: {"score": make()})["score"]
        rows[name, "reached", "AnoGAN"] = value if name == "the images" else means(value, found[name].valid[:n])
        here.tell(f"network {seed}, {name}: AnoGAN's scores {np.round(rows[name, 'reached', 'AnoGAN'], 1)}")
    return rows


def picture(x: np.ndarray, target: np.ndarray, found: dict[str, Found]) -> Any:
    """The first image as every other class, a row for each method."""
    made, valid = (np.stack([getattr(f, part)[0] for f in found.values()]) for part in ("x", "valid"))
    titles = [[str(t) for t in target[0]]] * len(found)
    return jxai.plot.counterfactuals(np.broadcast_to(x[0], (len(found), *x.shape[1:])), made, titles=titles, originals=list(found), valid=valid)


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints what was measured of which searches, by network and pooled."""
    for seed in (*range(config.seeds), "all"):
        for of in dict.fromkeys(r["of"] for r in rows):
            print(f"\nnetwork {seed}, {of}\n\n{findings.table([r for r in rows if (r['of'], r['seed']) == (of, seed)], 'method', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
