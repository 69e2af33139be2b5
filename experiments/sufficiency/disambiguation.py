"""When two labels are likely: two objects or two guesses about one? How often is there a proof, and which attribution methods find it?

    python experiments/sufficiency/disambiguation.py                           # 100 pairs of labels in each world
    python experiments/sufficiency/disambiguation.py --pairs 10 --exact 4

The same command goes on where it was stopped. Needs the extra `experiments`, the data set imagenet_nips2017 and the weights efficientnet_lite0.

Claim that is tested (Mummani, Ketha and Ramaswamy 2024, "Peter Parker or Spiderman?", arXiv 2410.19479): where a network finds two labels likely, the
removal of segments, ranked by an attribution, proves for a number of images that the labels rest on different parts (δ-disjoint) or on the same
(δ-overlapping). The paper has examples and no rates.

Two worlds. *Two objects*: montages of two photographs of different classes, each classified right with p >= `confident`, halved in height or in width
and put together at random, each in two montages at most; the labels are their two classes. *One object*: single photographs that are classified right;
the labels are the class and the runner-up. That the runner-up is another name of the same object is assumed, and not always so. In both, a pair counts
if both labels are among the `top` likeliest and have p >= `least`; what does not count is counted.

Segments: as fine as SLIC makes them with at most `segments` of them, so that both worlds have about as many; what is removed becomes black, and an
overlapping set has at most half of the image. Each method explains the score that is searched, the probability (the paper's) or the logit. Sets are looked
for as `disambiguate` does; a verdict is disjoint, overlapping, both or none at `delta`. On `exact` pairs of each world with at most `coarse` segments all
sets of segments are tried, too, which tells what there is to find: a method's proof never exceeds it (asserted). One in eight of all results, in
turn, has its proofs verified by the network alone.

Passes are those that the image's own number of segments n would need: a backward pass counts as two, the search takes 4 n + 7, the exact one 2^n.

Found (100 pairs in each world, δ .8; 285 montages and 152 photographs were looked at for them; all 250 proofs that were checked verified; [95 % intervals]).
Share of pairs proved, by segments as fine as 12; "told right": by the larger of the two δ:

| | two objects: disjoint | overlapping | told right | one object: disjoint | overlapping | told right | segments | passes |
|---|---|---|---|---|---|---|---|---|
| random | .32 [.23, .41] | .31 [.22, .41] | .47 | .01 [0, .03] | .35 [.26, .44] | .70 | 6.2 | 49 |
| extreme_baselines (the paper's) | .74 [.65, .82] | .37 [.28, .47] | .81 | .02 [0, .05] | .47 [.37, .56] | .81 | 4.0 | 193 |
| gradient | .24 [.16, .32] | .46 [.37, .56] | .42 | 0 | .39 [.30, .49] | .77 | 6.3 | 55 |
| integrated_gradients, from black | .67 [.58, .76] | .39 [.30, .49] | .68 | .04 [.01, .08] | .46 [.37, .56] | .76 | 4.6 | 121 |
| grad_cam | .96 [.92, .99] | .13 [.07, .20] | .96 | .09 [.04, .15] | .48 [.39, .58] | .70 | 3.3 | 55 |
| occlusion | .97 [.93, 1] | .10 [.04, .16] | .99 | .10 [.05, .16] | .46 [.36, .56] | .70 | 3.6 | 86 |
| feature_ablation | .95 [.91, .99] | .21 [.13, .30] | .95 | .13 [.07, .20] | .55 [.45, .64] | .64 | 2.8 | 61 |
| rise | .94 [.89, .98] | .21 [.13, .29] | .95 | .04 [.01, .08] | .46 [.37, .55] | .69 | 3.7 | 145 |
| sobol | .61 [.51, .71] | .38 [.29, .47] | .72 | .07 [.02, .12] | .45 [.36, .55] | .81 | 4.3 | 117 |
| extreme_baselines, by the logit | .47 [.38, .57] | .04 [.01, .08] | .94 | 0 | .09 [.04, .15] | .85 | 6.4 | 193 |
| feature_ablation, by the logit | .60 [.51, .69] | .03 [0, .07] | .95 | 0 | .06 [.02, .11] | .78 | 6.4 | 61 |
| *all sets of 9 coarse segments (30 pairs)* | .93 [.83, 1] | .63 [.47, .80] | .90 | .20 [.07, .37] | .70 [.53, .87] | .67 | 2.4 | 223 |
| *the same, by the logit* | .47 [.30, .67] | .03 [0, .10] | .97 | 0 | .17 [.07, .30] | .73 | 4.3 | 223 |

*A proof of disjointness means what it says*: there is one for nearly all pairs of objects, and for few pairs of names of one; by the logit for none of
these. Its attribution matters: maps that remove (occlusion, ablation, RISE) and Grad-CAM find almost all that the exact search finds on the same coarse
segments (.89 to .93 of the pairs), the paper's .71, the gradient no more than random order (.32, .39). The cheapest are Grad-CAM and ablation, at a
third of the paper's passes.
*A proof of overlap does not mean one object*: some half of the image lowers both labels in .63 of the montages, too, and random order finds such sets as
often in both worlds. It is by the larger δ, by disjointness, or by the logit that the two worlds are told apart. In single photographs that have a proof
of disjointness the runner-up may be a second thing; nobody has looked through them.

Cost: 59 minutes on 2 CPU cores that other programs used, 35 of the processor's. Writes `out/disambiguation/DIGEST/results.json` (world × segments × method ×
score × metric, means over pairs with 95 % bootstrap intervals), `deltas.png`, pictures of the first `pictures` pairs of each world with what was removed,
and each pair's results in `kept/`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jxai
from experiments.sufficiency.two_labels import ONE, TWO, Pair, picture, segmented, shown, worlds
from experiments.sufficiency.verdicts import DRAWN, SETS, histograms, rows_of
from jxai import attribution, data
from jxai.callables import compiled
from jxai.certificates import digests, verify
from jxai.evaluate import findings
from jxai.evaluate.controls import random_map
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models import available
from jxai.scores import positive, within
from jxai.sufficiency import Disambiguation, disambiguate, disambiguate_exactly, extreme_baselines

LOGIT = ("extreme_baselines", "feature_ablation", "random")
"""The methods that are also searched by the logit."""
SAMPLED = 8
"""One in so many results has its proofs verified."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    dataset: str = "imagenet_nips2017"
    model: str = "efficientnet_lite0"
    images: int = 1000
    """The first of the data set, of which pairs are made."""
    pairs: int = 100
    """Of labels in each world."""
    exact: int = 30
    """Pairs of each world for which every set of coarse segments is tried."""
    delta: float = 0.8
    top: int = 5
    """Both labels are among so many likeliest."""
    confident: float = 0.8
    """The least probability of a photograph's class for it to be half of a montage."""
    least: float = 0.02
    """The least probability of both labels."""
    segments: int = 12
    """At most."""
    coarse: int = 9
    """At most, for the exact search."""
    steps: int = 12
    """Of path methods, for each baseline."""
    masks: int = 96
    """Of RISE."""
    designs: int = 4
    """Of Sobol, on 4 × 4 cells."""
    pictures: int = 2
    """Of pairs, in each world."""
    seed: int = 0
    out: str = "out/disambiguation"


class Method(NamedTuple):
    """An attribution method with its budget."""

    call: Callable
    options: dict[str, Any]
    passes: Callable[[int], int]
    """Of both labels, by the number of segments; black-box methods share theirs."""


def methods(config: Config, side: int) -> dict[str, Method]:
    """The methods for images of that side, the control first."""
    window, stride = max(1, side * 2 // 7), max(1, side // 7)
    windows = (math.ceil((side - window) / stride) + 1) ** 2
    a, steps = attribution, config.steps
    return {
        "random": Method(_random, {}, lambda n: 0),
        "extreme_baselines": Method(extreme_baselines, {"steps": steps}, lambda n: 2 * 2 * steps * 3),
        "gradient": Method(a.gradient, {}, lambda n: 2 * 3),
        "integrated_gradients": Method(a.integrated_gradients, {"steps": steps}, lambda n: 2 * steps * 3),
        "grad_cam": Method(a.grad_cam, {}, lambda n: 2 * 3),
        "occlusion": Method(a.occlusion, {"window": window, "stride": stride}, lambda n: 1 + windows),
        "feature_ablation": Method(a.feature_ablation, {}, lambda n: 1 + n),
        "rise": Method(a.rise, {"num_masks": config.masks}, lambda n: config.masks),
        "sobol": Method(a.sobol, {"grid": 4, "num_designs": config.designs}, lambda n: 17 * config.designs),
    }


def _random(f, x, target, key, score):
    return random_map(f, x, target, jax.random.fold_in(key, target))


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Examines every pair, and returns the rows."""
    check(config)
    subject = available()[config.model].build()
    source = data.source(config.dataset, num_classes=len(subject.class_names))
    pairs, fates = worlds(config, subject, source)
    here.tell(f"{len(pairs)} pairs of {' and '.join(f'{len(v)} candidates ({k})' for k, v in fates.items())}")
    results = {TWO: [], ONE: []}
    for pair in pairs:
        results[pair.world].append(here.kept(pair.stem, lambda pair=pair: examined(config, here.path, subject, pair)))
        here.tell(f"{pair.world} {pair.number + 1} of {config.pairs}")
    jxai.plot.save(histograms(results), here.path / "deltas.png")
    here.tell(f"proofs that did not verify: {sum(of[-2] - of[-1] for found in results.values() for one in found for of in one.values()):.0f}")
    return rows_of(results, fates)


def check(config: Config) -> None:
    """Raises ValueError for what cannot be run."""
    positive(**{name: getattr(config, name) for name in ("images", "pairs", "top", "segments", "coarse", "steps", "masks", "designs")})
    if config.designs < 2:
        raise ValueError(f"designs={config.designs!r} must be at least 2")
    within(2, math.inf, segments=config.segments, top=config.top)
    within(2, 14, coarse=config.coarse)
    within(0, config.pairs, exact=config.exact, pictures=config.pictures)
    within(0, 1, confident=config.confident, least=config.least)
    if not 0 < config.delta < 1:
        raise ValueError(f"delta={config.delta!r} must lie between 0 and 1")


def examined(config: Config, out: Path, subject: Any, pair: Pair) -> dict[str, np.ndarray]:
    """The `FIELDS` of every search of a pair, by "segments, method, score"."""
    f, x, labels, found = subject.model, jnp.asarray(pair.x), jnp.asarray(pair.labels), {}
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), pair.number), pair.world == ONE)
    views = {"fine": (f, x, segmented(pair.x, config.segments), config.segments)}
    if pair.number < config.exact:
        coarse = segmented(pair.x, config.coarse)
        views["coarse"] = compiled(shown, f, x, coarse, num=config.coarse), jnp.ones((*x.shape[:-1], 1), x.dtype), coarse, config.coarse
    for name, method in methods(config, x.shape[0]).items():
        for score in ("probability", "logit")[: 1 + (name in LOGIT)]:
            for view, (g, v, segments, num) in views.items():
                if view == "fine" or name == "feature_ablation":  # the others' maps know nothing of segments
                    made = compiled(maps, g, v, labels, segments, key, method=method.call, options=tuple(method.options.items()), num=num, score=score)
                n = len(np.unique(segments))
                search = compiled(searched, g, v, labels, segments, made, num=num, delta=config.delta, score=score)
                found[view, name, score] = search, method.passes(n) + 4 * n + 7
    for score in ("logit", "probability") if "coarse" in views else ():
        every = compiled(searched, g, v, labels, segments, None, num=num, delta=config.delta, score=score)
        found["coarse", "exact", score] = every, 2**n
    about, results = digests(f, x), {}
    for place, (names, (one, passes)) in enumerate(found.items()):
        proofs = {kind: dataclasses.replace(getattr(one, kind), fill=jnp.zeros((*sets, *x.shape)), digests=about) for kind, sets in SETS.items()}
        largest = {kind: float(getattr(one, f"largest_{kind}")) for kind in SETS}
        for kind, reached in largest.items() if names[0] == "coarse" else ():
            most = float(getattr(found["coarse", "exact", names[2]][0], f"largest_{kind}"))
            assert reached <= most + 1e-5, f"{pair.world} {pair.number}, {names}: {kind} at {reached}, but {most} is the most there is"
        checked = [verify(f, x, proof).holds for proof in proofs.values() if (place + pair.number) % SAMPLED == 0 and proof.holds]
        of_each = [(proof.holds, proof.size.sum(), largest[kind] if np.isfinite(largest[kind]) else np.nan) for kind, proof in proofs.items()]
        results[", ".join(names)] = np.asarray([*of_each[0], *of_each[1], passes, len(checked), sum(checked)], np.float64)
        if ", ".join(names) == DRAWN[1] and pair.number < config.pictures:
            jxai.plot.save(picture(subject.class_names, x, proofs), out / f"{pair.stem}.png")
    return results


def maps(f: Callable, x: jax.Array, labels: jax.Array, segments: jax.Array, key: jax.Array, *, method: Callable, options: tuple, num: int, score: str):
    """`[2, H, W, 1]`: the attributions of both labels, summed over channels."""
    given = dict(options) | ({"segments": segments, "num_segments": num} if method is attribution.feature_ablation else {})
    return jax.vmap(lambda label: method(f, x, label, key, score=score, **given))(labels).sum(-1, keepdims=True)


def searched(f: Callable, x: jax.Array, labels: jax.Array, segments: jax.Array, made: jax.Array | None, *, num: int, **options: Any) -> Disambiguation:
    """`disambiguate` by these maps; without any, `disambiguate_exactly`."""
    if made is None:
        return disambiguate_exactly(f, x, labels, segments=segments, num_segments=num, **options)
    return disambiguate(f, x, labels, attribution=made, segments=segments, num_segments=num, **options)


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints what became of the candidates, and a table for each world and its segments."""
    for world in (TWO, ONE):
        print(f"\n{world}")
        print(findings.table([r for r in rows if r["world"] == world and "method" not in r], "world", "metric"))
        for segments in ("fine", "coarse"):
            chosen = [{**r, "method": f"{r['method']}, {r['score']}"} for r in rows if r["world"] == world and r.get("segments") == segments]
            print(f"\n{segments} segments\n{findings.table(chosen, 'method', 'metric')}" if chosen else "")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
