"""STEEX on CIFAR-10: do the styles of parts, their layout kept, turn a photograph into another class, near it, plausibly, and which part decides?

    python experiments/counterfactual/steex.py                                                          # 11 minutes on two cores that many others used
    python experiments/counterfactual/steex.py --search-steps 100 --learning-rate .01 --proximities .3 3 --targeted 20    # as published, and longer

The same command goes on where it was stopped. Needs the extra `experiments`, the data set cifar10 and the weights cifar10_resnet20 (explained) and
cifar10_resnet56 (the oracle). CelebA and BDD, with their masks of named parts, are not there. A photograph's parts are `parts` regions of like colour
(k-means of CIELAB and position), numbered from the middle outwards; regions of SLIC leave too little to see (of mean colours of 64 the network has .56
right, of 8 of these .75). For each of `seeds` an autoencoder learns from `train` photographs. Explained are the first random test images that both networks
have right, before and after reconstruction, towards f's second class and towards a random one, all to p >= .9 of the target in `search_steps` steps at most.

Claims that are tested (Jacob et al. 2022, arXiv 2111.09094): (1) the search reaches the target nearly always and stays near x; (2) a search in one part
leaves the others as they are and shows what the decision depends on; (3) it is more plausible than a search without such a structure. Controls: the
reconstruction alone; Wachter's search in pixels, from x and from the reconstruction, which tells the space of the search from where it begins.
Measured: what reached its target, of all; of that, whether the oracle agrees, L1, L2, L2 from where the search began (for STEEX the reconstruction), how
few parts hold .9 of the change, the distance to the nearest of the real images of the target's class, in pixels and in the oracle's features, and the
target's share among the 10 nearest there. Of searches in one part (`targeted` images by seed, second class): the gain in log p(target) / p(class), against
what f loses of it where the part becomes the image's mean colour (`feature_ablation`), the part's size, and how near to the middle it is.

Found (3 seeds × 40 images × 2 targets, means over seeds, [least, greatest of the three], which with three is their 95 % bootstrap interval):

| | reconstruction | STEEX | pixels | pixels of the reconstruction |
|---|---|---|---|---|
| reached, second class | | .983 [.95, 1] | 1 | 1 |
| reached, random class | | .692 [.65, .775] | 1 | 1 |
| f takes it for the target | | .938 [.913, .95] | 1 | 1 |
| oracle agrees | 0 (so chosen) | .153 [.121, .211] | .142 [.125, .175] | .217 [.2, .25] |
| L1 | 134 [132, 137] | 224 [203, 254] | 21.7 [20.8, 22.8] | 139 [137, 142] |
| L2 | 3.01 [2.95, 3.11] | 5.03 [4.54, 5.71] | .86 [.85, .88] | 3.14 [3.08, 3.22] |
| L2 from the start | 3.01 | 3.82 [3.35, 4.63] | .86 [.85, .88] | .76 [.72, .79] |
| parts that hold .9 of the change | 6.7 [6.6, 6.8] | 6.2 [6.2, 6.3] | 6.0 [5.9, 6.1] | 5.9 [5.9, 6.0] |
| nearest of the target, pixels | 11.7 [11.6, 12.0] | 11.8 [11.5, 11.9] | 12.2 [12.1, 12.6] | 11.8 [11.6, 12.0] |
| nearest of the target, features | 6.20 [6.04, 6.34] | 4.79 [4.77, 4.82] | 5.08 [4.94, 5.31] | 4.93 [4.74, 5.12] |
| neighbours of the target, features | .007 [.003, .010] | .167 [.133, .199] | .145 [.135, .164] | .205 [.188, .230] |
| steps | | 16.9 [16.2, 18.2] | 40 | 40 |
| seconds each | | .49 [.47, .51] | .50 [.40, .61] | .54 [.48, .61] |

Claim 1 holds in part. The second class is reached nearly always, a random one in seven of ten (of 240 searches 39 fail; f takes .938 for the target, if not
at .9), and it is not near: STEEX goes 3.8 from the reconstruction, which itself is 3.0 from x, where pixels need .86. The first half of claim 2 holds to the
bit: the largest change outside of the part is 0, inside it is .38 [.25, .53]. One part alone turns .75 [.5, 1] of the images, .17 [.06, .28] of the parts do.
Which part decides does not come out: the gain's rank correlation with the loss without the part is .07 [-.08, .32], with size .13 [.11, .17], with nearness
to the middle .14 [-.24, .45], and the part of most gain is that of most loss in .25 [0, .5] of the images (by chance .125); 12 images are few. Claim 3 is not
confirmed: the oracle agrees no more often than with pixels, and as often or more with pixels that begin at the same reconstruction; features are a little
nearer to the target's (by .3, among fewer and easier targets, for those not reached are left out), and the change spreads over as many parts.

What limits this: a reconstruction has lost what the layout does not carry. Its squared error is .0036 [.0032, .0039], worse than that of each part's mean
colour, .0024 (0.0647 is the pixels' variance); a wider one (16 features, 600 steps of 32) came to .0023. f has .645 [.6, .686] of all reconstructions right
(.91 of the images, .69 of the mean colours), so that what is explained are the easier images. Parts of like colour have no names, and a ResNet decides by
texture and edges, which recolouring cannot make: the paper's scenes, where a car or a smile has its own part and an adversarially trained decoder
paints it, are another matter. The search as published (100 steps of .01, one seed, the wider autoencoder after 200 steps) reached .86, at λ = 3 .71.

Cost: 11 minutes on 2 CPU cores that many others used (6 minutes of processor time); timings there are rough, and failed searches cost all their steps.
Writes `out/steex/DIGEST/results.json` (means over searches or images with 95 % bootstrap intervals, by seed and over all) and `counterfactuals.png` (one
photograph towards both targets by each method, beside where the search began; the differences are to that).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import jxai
from experiments.counterfactual.every_class import picture
from experiments.counterfactual.scenes import BATCH, Foremost, carrying, layouts, mean_colours, odds, penultimate, removed, targets
from experiments.counterfactual.searching import kept, once
from jxai import counterfactual, each
from jxai.counterfactual import Counterfactual, Search
from jxai.evaluate import findings
from jxai.evaluate.answers import logits
from jxai.evaluate.experiment import command_line, over_seeds, recorded
from jxai.evaluate.record import Record
from jxai.metrics import compare
from jxai.metrics import counterfactual as judges
from jxai.models import SemanticAutoencoder, cifar_resnet, semantic
from jxai.models.ordinary import mnist
from jxai.scores import positive, within
from jxai.train import train


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 40
    """By seed; each has two targets."""
    seeds: int = 3
    """Of the autoencoder, what it learns from, and the images."""
    parts: int = 8
    """R: regions of like colour of each image."""
    train: int = 1000
    """Photographs that the autoencoder learns from; the real images that neighbours are sought among."""
    steps: int = 200
    """Of that training, in batches of 16."""
    code: int = 8
    """D: numbers in a part's code."""
    threshold: float = 0.9
    """Of the target's probability, for all methods."""
    search_steps: int = 40
    """Of all searches, at most; published for STEEX are 100 of .01, which go as far."""
    proximities: tuple[float, ...] = (0.3,)
    """λ; the first, which is the published one, is that of searches in one part too."""
    learning_rate: float = 0.025
    """Of Adam in codes; in pixels it is .01."""
    targeted: int = 4
    """Images, by seed, whose parts are searched one by one."""
    out: str = "out/steex"

    def __post_init__(self):
        positive(images=self.images, seeds=self.seeds, train=self.train, steps=self.steps, code=self.code, search_steps=self.search_steps)
        within(0.0, 1.0, threshold=self.threshold)
        if self.parts < 2:
            raise ValueError(f"parts={self.parts} must be at least 2")
        if not self.proximities:
            raise ValueError("proximities=() must hold one λ or more")
        if not 0 < self.targeted <= self.images:
            raise ValueError(f"targeted={self.targeted} must be in [1, {self.images}]")


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Trains and searches for every seed, and returns the rows."""
    rows = []
    for seed in range(config.seeds):
        rows += [{**r, "seed": seed} for r in here.kept_rows(f"seed {seed}", functools.partial(of_seed, config, here, seed))]
    return rows + findings.overall(rows, "method")


def of_seed(config: Config, here: Record, seed: int) -> list[dict[str, Any]]:
    """The rows of a seed; the first one's first photograph is drawn."""
    f, oracle, shown = cifar_resnet(20), cifar_resnet(56), {}
    pool, classes = mnist("train", config.train, seed, "cifar10")
    autoencoder = learned(pool, layouts(pool, config.parts), seed, config)
    near = {"examples": jnp.asarray(pool), "labels": jnp.asarray(classes)}
    seen = {**near, "examples": each(penultimate, oracle, pool, batch_size=BATCH)}
    here.tell(f"seed {seed}: trained")
    x, segments, made, rows = cases(autoencoder, f, oracle, seed, config)
    target = targets(f, made, seed)
    judge = functools.partial(judged, oracle, x, target, segments, near, seen)
    rows += [{**r, "method": "reconstruction"} for r in judge(x, np.repeat(made[:, None], 2, 1), np.ones(target.shape, bool))]
    for name, method in methods(autoencoder, x, made, segments, config).items():
        found, seconds = kept(here, f"seed {seed}, {name}", functools.partial(searched, method, f, target))
        mine = reached(found, target) + judge(method.begun, found.x, found.valid)
        mine.append(findings.row([seconds / target.size], metric="seconds each" if seed else "seconds each, compilation included"))
        rows += [{**r, "method": name} for r in mine]
        shown[name] = method.begun, target, found
    if seed == 0:
        jxai.plot.save(picture(shown, oracle, "oracle"), here.path / "counterfactuals.png")
    rows += alone(autoencoder, f, *(v[: config.targeted] for v in (x, made, segments, target[:, 0])), config)
    here.tell(f"seed {seed}: parts")
    return rows


def learned(x: np.ndarray, segments: np.ndarray, seed: int, config: Config) -> SemanticAutoencoder:
    """An autoencoder trained by Adam at .01 falling to 0."""
    model = SemanticAutoencoder(config.parts, x.shape[-1], code=config.code, features=8, hidden=24, rngs=nnx.Rngs(seed))
    rate = optax.adam(optax.cosine_decay_schedule(1e-2, config.steps))
    return train(model, semantic.loss, (x, segments), key=jax.random.key(seed), steps=config.steps, batch_size=16, optimizer=rate).model


def cases(autoencoder: SemanticAutoencoder, f: Callable, oracle: Callable, seed: int, config: Config) -> tuple[np.ndarray, np.ndarray, np.ndarray, list]:
    """Images that f and the oracle have right, x and reconstruction alike, with their layouts and reconstructions, and rows of what all reconstructions do."""
    x, y = mnist("test", 3 * config.images + 20, seed, "cifar10")
    segments = layouts(x, config.parts)
    made = np.asarray(jax.jit(jax.vmap(lambda g, v, s: g.decode(g.encode(v, s), s), (None, 0, 0)))(autoencoder, x, segments))
    flat = mean_colours(x, segments, config.parts)
    right = {}
    for name, points in (("the images", x), ("reconstruction", made), ("mean colours", flat)):
        right[name] = [logits(model, points, BATCH).argmax(1) == y for model in (f, oracle)]
    rows = [findings.row(((v - x) ** 2).mean((1, 2, 3)), method=name, metric="squared error") for name, v in (("reconstruction", made), ("mean colours", flat))]
    rows += [findings.row(r, method=name, metric=f"{who} right, all images") for name, both in right.items() for who, r in zip(("f", "oracle"), both)]
    kept = np.flatnonzero(np.all([*right["the images"], *right["reconstruction"]], 0))[: config.images]
    if len(kept) < config.images:
        raise ValueError(f"{config.images=}: of {len(x)} images only {len(kept)} are taken for their class after reconstruction; train longer (steps)")
    return x[kept], segments[kept], made[kept], rows


class Method(NamedTuple):
    """A search, what it is given, and the image that its way begins at."""

    search: Search
    x: np.ndarray
    begun: np.ndarray
    segments: np.ndarray | None = None


def methods(autoencoder: SemanticAutoencoder, x: np.ndarray, made: np.ndarray, segments: np.ndarray, config: Config) -> dict[str, Method]:
    """The methods by name."""
    pixels = counterfactual.wachter.search(loss="cross_entropy", threshold=config.threshold, steps=config.search_steps)
    found = {f"STEEX, λ = {price:g}": Method(steex(autoencoder, segments[0], price, config), x, made, segments) for price in config.proximities}
    return found | {"pixels": Method(pixels, x, x), "pixels of the reconstruction": Method(pixels, made, made)}


def steex(generator: Any, segments: np.ndarray, price: float, config: Config, parts: tuple[int, ...] | None = None) -> Search:
    """The search; λ is an array, so that another one compiles nothing anew."""
    options = dict(generator=generator, segments=segments, parts=parts, proximity=jnp.float32(price), threshold=config.threshold)
    return counterfactual.steex.search(**options, steps=config.search_steps, learning_rate=config.learning_rate)


def searched(method: Method, f: Callable, target: np.ndarray) -> tuple[Counterfactual, float]:
    """What a method finds, in one block of steps, so that there is one compilation; and its seconds."""
    own = None if method.segments is None else {"segments": method.segments}
    return once(method.search, f, method.x, target, per_example=own, batch_size=BATCH, block=method.search.steps + 1)


def reached(found: Counterfactual, target: np.ndarray) -> list[dict[str, Any]]:
    """Rows of all searches: those that reached the threshold, by target too, those that f takes for the target, and steps."""
    rows = [findings.row(found.valid[:, i], metric=f"reached, {which}") for i, which in enumerate(("second class", "random class"))]
    rows += [findings.row(found.valid.ravel(), metric="reached"), findings.row(found.steps.ravel(), metric="steps")]
    return [findings.row((found.logits.argmax(-1) == target).ravel(), metric="f takes it for the target"), *rows]


def judged(
    oracle: Callable,
    x: np.ndarray,
    target: np.ndarray,
    segments: np.ndarray,
    near: dict[str, Any],
    seen: dict[str, Any],
    begun: np.ndarray,
    points: np.ndarray,
    counted: np.ndarray,
) -> list[dict[str, Any]]:
    """One row for each measure of those points `[n, 2, H, W, C]` that are counted; near and seen are real images, in pixels and in features."""
    points, ok = points.reshape(-1, *x.shape[1:]), counted.ravel()
    given = np.repeat(x, 2, 0), points, target.ravel()
    score = lambda judge, given=given, **options: np.asarray(each(judge, None, *given, batch_size=BATCH, **options))
    features = tuple(each(penultimate, oracle, v, batch_size=BATCH) for v in given[:2]) + given[2:]
    moved = points - np.repeat(begun, 2, 0)
    agrees = logits(oracle, points, BATCH).argmax(1) == given[2]
    measures = {
        "oracle agrees": agrees,
        "L1": score(judges.l1),
        "L2": score(judges.l2),
        "L2 from the start": np.sqrt((moved**2).sum((1, 2, 3))),
        "parts that hold .9 of the change": carrying(np.abs(moved).sum(-1), np.repeat(segments, 2, 0)),
        "nearest of the target, pixels": score(judges.nearest_target_distance, **near),
        "nearest of the target, features": score(judges.nearest_target_distance, features, **seen),
        "neighbours of the target, features": score(judges.knn_target_share, features, **seen),
    }
    rows = [findings.row(value[ok], metric=metric) for metric, value in measures.items()]
    return [*rows, findings.row(ok * agrees, metric="oracle agrees, of all")]


def alone(
    autoencoder: SemanticAutoencoder, f: Callable, x: np.ndarray, made: np.ndarray, segments: np.ndarray, goal: np.ndarray, config: Config
) -> list[dict[str, Any]]:
    """Rows of searches for a class in one part at a time, at the first λ, beside what f loses without the part."""
    n, parts = len(x), config.parts
    packed = np.concatenate([segments[:, None] + np.int32(parts * r) for r in range(parts)], 1).reshape(-1, *segments.shape[1:])
    search = steex(Foremost(autoencoder), packed[0], config.proximities[0], config, (0,))
    found, _ = searched(Method(search, np.repeat(x, parts, 0), np.repeat(made, parts, 0), packed), f, np.repeat(goal, parts))
    valid = found.valid.reshape(n, parts)
    change = np.abs(found.x.reshape(n, parts, *x.shape[1:]) - made[:, None]).max(-1)
    inside = segments[:, None] == np.arange(parts)[:, None, None]
    before = logits(f, made, BATCH)
    own = before.argmax(1)
    gain = odds(found.logits.reshape(n, parts, -1), goal, own) - odds(before[:, None], goal, own)
    lost, size = np.asarray(removed(f, made, own, goal, segments, parts)), inside.sum((2, 3))
    rows = [
        findings.row(value[:, r], method=f"part {r}", metric=metric)
        for metric, value in (("reached", valid), ("gain in log odds", gain), ("lost without it", lost), ("pixels", size))
        for r in range(parts)
    ]
    most = gain.argmax(1)
    values = {
        "largest change outside": np.where(inside, 0, change).max((1, 2, 3)),
        "largest change inside": np.where(inside, change, 0).max((1, 2, 3)),
        "images that some part turns": valid.any(1),
        "reached": valid.mean(1),
        "the part of most gain is that f loses most without": lost.argmax(1) == most,
        "the part of most gain is the largest": size.argmax(1) == most,
    }
    for name, value in (("loss without the part", lost), ("size", size), ("nearness to the middle", np.broadcast_to(-np.arange(parts), gain.shape))):
        values[f"rank correlation of gain and {name}"] = jax.vmap(compare.spearman)(np.float32(gain), np.float32(value))
    return rows + [findings.row(value, method="one part", metric=metric) for metric, value in values.items()]


show = over_seeds("metric", "method")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
