"""Misclassified digits edited into their true class: are edits directed at prototypes larger, nearer to these and more plausible than minimal ones?

    python experiments/counterfactual/human_edits.py

The same command goes on where it was stopped. Needs the extra `experiments`, the data set mnist and the weights mnist_vae, mnist_gan and mnist_lenet5. For
each of `seeds` networks (two passes over `train` digits, so that they err) the first `images` test digits that it has wrong are turned into their true
class. Minimal: wachter, and Min-Edit and C-Min-Edit in the codes of a GAN (inverted) and of a VAE. Directed: prototypes (Van Looveren and Klaise), wachter
that begins at the nearest known digit of the target that the network has right, and PIECE in both generators. Beside them diffeomorphic in the VAE, to p >=
.99 with no word of prototypes or distance. Controls: the digit unedited, the generators' reconstructions of it, and that nearest digit itself.

Claim that is tested (Delaney et al. 2023, arXiv 2212.08733): people, asked to edit misclassified images, make larger edits than algorithms, towards
prototypes. Their edits are not published, so that nothing here tests what people do. What can be computed is the other half: whether algorithms that
are directed at prototypes make larger edits than minimal ones, nearer to prototypes and more plausible. Both are compared in the same coordinates,
digit by digit, where all of them reached the target.

Measured, by what no search saw (`pool` other training digits; LeNet-5; `members` networks of other seeds and digits): L1 and L2 of the edit; its distance to
the target's mean over that of the digit unedited (prototype gap), in pixels and in LeNet-5's last hidden layer; the distance to the nearest digit of the
target; trust score; IM1 and IM2 of autoencoders that learnt 436 digits of each class; mean and spread of the target's probability over the members, in
place of dropout's; LeNet-5's agreement; substitutability: accuracy of a nearest neighbour taught by the edits, over that by as many real digits.

Found (40 digits × 3 networks; of 1200 searches 5 failed: 1 of Min-Edit, 1 of C-Min-Edit and 3 of PIECE in the GAN). Means over digits that reached the target:

| | L1 | L2 | gap | gap, features | nearest | trust | IM1 | IM2 × 100 | p, members | spread | LeNet-5 | substitutes | ms each |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
| unedited | 0 | 0 | 1 | 1 | 6.19 | 1.03 | .83 | 19.9 | .25 | .099 | .91 | .40 | |
| reconstruction, GAN | 41.1 | 4.26 | .930 | 1.31 | 5.88 | .93 | 1.21 | 21.5 | .23 | .066 | .53 | .38 | |
| reconstruction, VAE | 33.6 | 3.18 | .874 | 1.12 | 5.48 | 1.00 | .99 | 17.9 | .25 | .079 | .63 | .41 | |
| nearest real digit | 64.2 | 6.37 | .899 | .80 | 5.23 | 1.21 | .44 | 14.4 | .74 | .085 | 1 | .77 | |
| wachter | 3.45 | 1.28 | .997 | .97 | 6.26 | 1.04 | .80 | 19.0 | .39 | .135 | .91 | .44 | 98 |
| prototype | 20.5 | 1.47 | .931 | .97 | 6.09 | 1.04 | .82 | 16.4 | .41 | .124 | .93 | .46 | 128 |
| neighbour start | 3.58 | 1.25 | .991 | .97 | 6.22 | 1.05 | .79 | 18.8 | .39 | .134 | .91 | .45 | 194 |
| min-edit, GAN | 64.8 | 6.10 | .892 | 1.09 | 5.62 | 1.05 | .65 | 18.1 | .58 | .091 | .66 | .63 | 86 |
| C-min-edit, GAN | 58.4 | 5.62 | .915 | 1.14 | 5.86 | 1.02 | .76 | 17.4 | .50 | .098 | .66 | .57 | 85 |
| PIECE, GAN | 87.3 | 7.67 | .848 | .86 | 5.71 | 1.16 | .54 | 15.0 | .86 | .049 | .85 | .92 | 158 |
| min-edit, VAE | 38.3 | 3.60 | .840 | .99 | 5.26 | 1.08 | .68 | 16.1 | .50 | .123 | .88 | .55 | 9 |
| C-min-edit, VAE | 37.1 | 3.48 | .864 | 1.01 | 5.39 | 1.08 | .71 | 16.4 | .48 | .130 | .90 | .53 | 11 |
| PIECE, VAE | 85.3 | 7.14 | .752 | .95 | 5.68 | 1.12 | .60 | 15.2 | .91 | .039 | .86 | .94 | 143 |
| diffeomorphic, VAE | 65.4 | 5.97 | .789 | .74 | 4.98 | 1.28 | .31 | 12.0 | .98 | .010 | 1 | 1.02 | 35 |

Directed less minimal [95 % interval over digits; of substitutability over networks]; marked where the interval leaves 0 out and the three networks agree: ✓
more plausible or nearer, ✗ less so:

| | pixels (120 digits) | GAN (117) | VAE (120) | PIECE − diffeomorphic, VAE (120) |
|---|---|---|---|---|
| L1 | 8.6 [8.3, 8.9] | 26 [22, 30] | 48 [45, 51] | 20 [17, 23] |
| L2 | .08 [.04, .13] | 1.85 [1.60, 2.09] | 3.6 [3.4, 3.8] | 1.2 [.9, 1.4] |
| gap | −.036 [−.039, −.034] ✓ | −.056 [−.074, −.036] ✓ | −.099 [−.119, −.080] ✓ | −.037 [−.058, −.017] ✓ |
| gap, features | −.002 [−.010, .007] | −.25 [−.32, −.18] ✓ | −.05 [−.11, .01] | .20 [.14, .27] ✗ |
| nearest | −.10 [−.12, −.09] ✓ | −.01 [−.18, .16] | .35 [.20, .50] ✗ | .70 [.56, .83] ✗ |
| trust | .002 [−.000, .004] | .12 [.09, .15] ✓ | .042 [.013, .069] ✓ | −.17 [−.20, −.13] ✗ |
| IM1 | .001 [−.008, .012] | −.15 [−.22, −.09] ✓ | −.09 [−.16, −.02] ✓ | .29 [.24, .34] ✗ |
| IM2 × 100 | −1.4 [−1.7, −1.2] ✓ | −2.4 [−4.1, −.8] ✓ | −1.1 [−2.2, −.0] ✓ | 3.1 [2.2, 4.1] ✗ |
| p, members | .012 [.005, .019] ✓ | .32 [.28, .37] ✓ | .42 [.38, .45] ✓ | −.08 [−.09, −.06] ✗ |
| spread | −.006 [−.009, −.003] ✓ | −.04 [−.06, −.03] ✓ | −.09 [−.10, −.08] ✓ | .028 [.021, .035] ✗ |
| LeNet-5 | .01 [−.01, .04] | .17 [.10, .25] ✓ | −.03 [−.11, .05] | −.14 [−.21, −.08] ✗ |
| substitutes | .015 [.009, .021] ✓ | .32 [.28, .37] ✓ | .39 [.37, .43] ✓ | −.09 [−.17, −.01] ✗ |

What held: directed edits are larger and nearer to the mean digit in all three coordinates, members are surer of them, and they teach a nearest neighbour more.
What did not: they are not more plausible by every measure. In the VAE they are further from real digits than minimal ones and LeNet-5 agrees no more often;
in pixels the differences are small: beginning at the neighbour ends where wachter does, and the prototypes' edit is many faint changes (as its L2 says).
Nor need it be the prototypes: minimal edits end at the boundary, PIECE well behind it (p of the network .92 in the VAE, Min-Edit .48), and diffeomorphic (.99)
is better than PIECE in the same VAE, by smaller edits, in all but the gap in pixels, which blur lowers by itself (the VAE's reconstruction to .874). It goes
about as far from x as the nearest real digit is. So the larger edits are the more plausible ones here for being sure and of a generator rather than
for a prototype. Whether people's edits are like any of these only their edits could tell.

To be read with care: LeNet-5 has 91 % of the unedited digits right, since they are what a weak network errs on, so that its agreement mostly tells what an edit
spoils; the GAN's reconstructions spoil most. The generators and LeNet-5 come trained on MNIST, so that digits which judge are not new to them. With 40 edits
substitutability compares small sets.

Cost: 6 minutes of processor time, much of it compilation; 17 minutes of the clock on 2 CPU cores that others used too, so that the milliseconds are rough.
Writes `out/human_edits/DIGEST/results.json` (rows by seed and pooled over seeds, with intervals) and `edits.png`, five digits with all that was made of them.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.tree_util import Partial

import jxai
from experiments.counterfactual.edit_judge import autoencoders, judge_of, last_hidden, measured, substitutes
from experiments.counterfactual.searching import kept, timed
from jxai import counterfactual
from jxai.counterfactual import Search
from jxai.evaluate import findings
from jxai.evaluate.answers import predicted
from jxai.evaluate.experiment import command_line, over_seeds, recorded
from jxai.evaluate.record import Record
from jxai.models import generators
from jxai.models.ordinary import mnist, ordinary
from jxai.scores import positive

FAMILIES = {
    "pixels": (("wachter",), ("prototype", "neighbour start")),
    "GAN": (("min-edit, GAN", "C-min-edit, GAN"), ("PIECE, GAN",)),
    "VAE": (("min-edit, VAE", "C-min-edit, VAE"), ("PIECE, VAE",)),
}
"""The minimal edits and the directed ones by the coordinates that both are searched for in."""
COMPARED = {f"directed − minimal, {name}": parts for name, parts in FAMILIES.items()}
COMPARED["PIECE − diffeomorphic, VAE"] = ("diffeomorphic, VAE",), ("PIECE, VAE",)
"""What is taken off what: diffeomorphic goes as far over the boundary without knowing of prototypes."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 40
    """Misclassified digits by seed."""
    seeds: int = 3
    """Of the classifier, its digits, and what is edited."""
    train: int = 5000
    """Digits that each network learns from: few, so that it errs. Those it has right are the neighbours and make the prototypes."""
    pool: int = 5000
    """Other training digits, by which edits are judged."""
    tests: int = 1500
    """Test digits among which misclassified ones are looked for."""
    members: int = 4
    """Networks of other seeds and digits, of whose probabilities certainty is the mean and the spread."""
    steps: int = 300
    """Of each search, at most."""
    coder_steps: int = 400
    """Of each autoencoder's training, in batches of 64."""
    out: str = "out/human_edits"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Edits every seed's misclassified digits by every method, and returns the rows."""
    positive(**{name: getattr(config, name) for name in ("images", "seeds", "train", "pool", "tests", "members", "steps", "coder_steps")})

    @functools.cache
    def judging() -> tuple[list[Callable], tuple]:
        members = [ordinary(1000 + i, config.train) for i in range(config.members)]
        coders = autoencoders(*digits(0, config)[1], config.coder_steps)
        here.tell("trained what judges")
        return members, coders

    values = {}
    for seed in range(config.seeds):
        of = here.kept_values(f"seed {seed}", functools.partial(of_seed, config, here, seed, judging))
        values |= {(seed, *key): value for key, value in of.items()}
    return rows_of(values, config.seeds)


def of_seed(config: Config, here: Record, seed: int, judging: Callable) -> dict[tuple[str, str], np.ndarray]:
    """`{(method, metric): [images]}` of a seed; the first one's digits are drawn."""
    (known, others), f, (members, coders) = digits(seed, config), ordinary(seed, config.train), judging()
    x, target = misclassified(f, *mnist("test", config.tests, seed), config.images)
    right = predicted(f, known[0]) == known[1]
    guides, labels = (v[right] for v in known)
    judge, real = judge_of(*others, members, *coders), same_classes(labels, target, seed)
    points, seconds, values = controls(x, target, guides, labels), {}, {}
    reached = {name: predicted(f, made) == target for name, made in points.items()}
    for name, search in searches(config, f, guides, labels).items():
        found, seconds[name] = kept(here, f"seed {seed}, {name}", functools.partial(timed, search, f, x, target))
        points[name], reached[name] = found.x, found.valid
    for name, made in points.items():
        counted = reached[name] if name in seconds else np.ones(len(x), bool)
        values |= {(name, metric): np.where(counted, value, np.nan) for metric, value in measured(judge, f, x, made, target).items()}
        values[name, "reached"] = np.float64(reached[name])
        values[name, "substitutability"] = np.array([substitutes(made[counted], target[counted], guides[real[counted]], judge)])
        if name in seconds:
            values[name, "ms each"] = np.array([1000 * seconds[name] / len(x)])
    if seed == 0:
        jxai.plot.save(picture(x, target, predicted(f, x), points, reached, judge.oracle), here.path / "edits.png")
    here.tell(f"seed {seed} judged")
    return values


def digits(seed: int, config: Config) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The training digits and labels that `ordinary(seed)` learns from, and those to judge by, which it does not.

    Raises:
      ValueError: a class of which there are none.
    """
    x, y = mnist("train", config.train + config.pool, seed)
    for name, labels in (("train", y[: config.train]), ("pool", y[config.train :])):
        if missing := set(range(10)) - set(labels.tolist()):
            raise ValueError(f"{name}={len(labels)} random digits of seed {seed} hold none of the classes {sorted(missing)}; take more")
    return (x[: config.train], y[: config.train]), (x[config.train :], y[config.train :])


def misclassified(f: Callable, x: np.ndarray, y: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first digits that f has wrong, and their true classes.

    Raises:
      ValueError: there are not so many.
    """
    wrong = np.flatnonzero(predicted(f, x) != y)[:count]
    if len(wrong) < count:
        raise ValueError(f"images={count} must be at most {len(wrong)}, as many as the network has wrong of tests={len(x)}")
    return x[wrong], y[wrong].astype(np.int32)


def controls(x: np.ndarray, target: np.ndarray, guides: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What is no edit: the digits, what the generators make of them without any, and the nearest real digits of the target."""
    made = {"unedited": x}
    for name, generator in latent().items():
        made[f"reconstruction, {name}"] = np.asarray(jax.jit(jax.vmap(lambda v, g=generator: g.decode(g.encode(v))))(x))
    nearest = jax.jit(jax.vmap(counterfactual.nearest_unlike, (0, None, None, 0)))
    return made | {"nearest real digit": np.asarray(nearest(x, guides, labels, target))}


@functools.cache
def latent() -> dict[str, Any]:
    """The generators by name; the GAN's encoder is a descent from 4 starts, which halves its cost."""
    return {"GAN": dataclasses.replace(generators()["mnist_gan"](), seeds=4), "VAE": generators()["mnist_vae"]()}


def searches(config: Config, f: Callable, guides: np.ndarray, labels: np.ndarray) -> dict[str, Search]:
    """The methods by name."""
    layer, vae = last_hidden(f, guides[0]), latent()["VAE"]
    features = counterfactual.class_features(f, guides, labels, 10, layer)
    prototypes = counterfactual.class_prototypes(vae, guides, labels, 10)
    found = {"wachter": counterfactual.wachter.search(steps=config.steps)}
    found["prototype"] = counterfactual.prototype.search(generator=vae, prototypes=prototypes, steps=config.steps)
    found["neighbour start"] = found["wachter"]._replace(init=Partial(_from_neighbour, found["wachter"].init, guides, labels))
    for name, generator in latent().items():
        options = dict(generator=generator, steps=config.steps)
        found[f"min-edit, {name}"] = counterfactual.min_edit.search(**options)
        found[f"C-min-edit, {name}"] = counterfactual.constrained_min_edit.search(layer=layer, **options)
        found[f"PIECE, {name}"] = counterfactual.piece.search(features=features, **options)
    found["diffeomorphic, VAE"] = counterfactual.diffeomorphic.search(generator=vae, steps=config.steps)
    return found


def _from_neighbour(init: Callable, guides: jax.Array, labels: jax.Array, f: Callable, x: jax.Array, target: jax.Array, key: jax.Array | None):
    return init(f, x, target, key, start=counterfactual.nearest_unlike(x, guides, labels, target))


def same_classes(labels: np.ndarray, target: np.ndarray, seed: int) -> np.ndarray:
    """`[n]`: for each target another example of its class, at random.

    Raises:
      ValueError: fewer examples of a class than targets.
    """
    rng, found = np.random.default_rng(seed), np.zeros(len(target), int)
    for c in np.unique(target):
        own, wanted = np.flatnonzero(labels == c), np.flatnonzero(target == c)
        if len(own) < len(wanted):
            raise ValueError(f"{len(wanted)} targets are of class {c}, but the network has only {len(own)} of its training digits right: raise train")
        found[wanted] = rng.permutation(own)[: len(wanted)]
    return found


def rows_of(values: dict[tuple[int, str, str], np.ndarray], seeds: int) -> list[dict[str, Any]]:
    """Rows for each seed and pooled over seeds, of methods and of differences on digits where both sides reached the target with every method."""
    names, metrics = (list(dict.fromkeys(key[i] for key in values)) for i in (1, 2))
    compared = {name: parts for name, parts in COMPARED.items() if {*parts[0], *parts[1]} <= set(names)}
    more = {}
    for seed in range(seeds):
        for metric in metrics:
            of = {name: values[seed, name, metric] for name in names if (seed, name, metric) in values}
            if len(of) < len(names) or not compared:  # seconds, which controls have not
                continue
            apart = {name: mean_over(of, directed) - mean_over(of, minimal) for name, (minimal, directed) in compared.items()}
            more |= {(seed, name, metric): value for name, value in apart.items()}
            if len(apart) == len(COMPARED):
                more[seed, "directed − minimal, mean", metric] = np.mean(list(apart.values())[: len(FAMILIES)], 0)
    values = values | more
    values |= findings.pooled(values, seeds)
    return [findings.row(value, seed=seed, method=name, metric=metric) for (seed, name, metric), value in values.items()]


def mean_over(values: dict[str, np.ndarray], names: tuple[str, ...]) -> np.ndarray:
    """The mean of what these methods have, NaN where one has NaN."""
    return np.mean([values[name] for name in names], 0)


def picture(x: np.ndarray, target: np.ndarray, said: np.ndarray, points: dict[str, np.ndarray], reached: dict[str, np.ndarray], oracle: Callable):
    """The first digits with what each method made of them; above each what LeNet-5 says, red what did not reach its target."""
    rows, kept = min(5, len(x)), [name for name in points if name != "unedited"]
    found, valid = (np.stack([of[name][:rows] for name in kept], 1) for of in (points, reached))
    titles = [[f"{name}: {c}" for name, c in zip(kept, predicted(oracle, made), strict=True)] for made in found]
    return jxai.plot.counterfactuals(
        x[:rows], found, titles=titles, originals=[f"{a}, taken for {b}" for a, b in zip(target[:rows], said[:rows], strict=True)], valid=valid
    )


show = over_seeds("method", "metric")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
