"""DiVE with and without masks of the Fisher information: which explanations go beyond the trivial one?

    python experiments/counterfactual/dive.py
    python experiments/counterfactual/dive.py --generator btcvae_mnist --settings .5 .1   # in the codes of a β-TCVAE, the published kind

The same command goes on where it was stopped. Needs the extra `experiments`, the data set mnist and the weights mnist_vae (or btcvae_mnist) and
mnist_lenet5. For each of `seeds`, two classifiers tell fours from nines. One learns from digits as they are. To the other a second cue is planted by the
choice of digits: in 95 % the nines lean more to the left, and the fours more to the right, than the median of their class. As in the paper, images with
p(nine) − p(four) nearest to ±.9, ±.6, ±.4 and ±.1 are explained, of those that classifier and oracle (LeNet-5, of ten digits, trained on all of MNIST) take
for the same digit, as they do the reconstruction. DiVE looks for 5 explanations in the published 20 steps with the published prices: without masks, and with
masks by chunks of the Fisher information's diagonal, at random, by spectral clustering, and with the complements of the last. "One" is a single explanation
by REVISE with DiVE's price on the reconstruction, which is xGEM's loss. An explanation is *trivial* if classifier and oracle both take it for the other
digit, and *non-trivial* if the classifier does and the oracle still sees what it saw in x.

Claim that is tested (Rodríguez et al. 2021, arXiv 2103.10226): spectral masks give more non-trivial explanations, at no less similarity to x, than no
masks, random masks, complements and a single explanation. Measured: the share of explanations that reach p >= .5 of the target (the published flip), that
are non-trivial, and that are so among those that reached it; the sets that have both kinds; of what reached the target, L1 and similarity (the cosine of
the oracle's 84 features of x and x'); the score over all explanations, the similarity of a non-trivial one, 0 of others; the average pairwise distance
(APD) of sets and the cos² of their steps in the codes, failures among them. Learning rates: with the published .01 an entry of
a code moves by .2 at most, .1 is the greatest that the authors tried, .3 and p >= .99 are ours.

Found (48 images × 3 seeds, mnist_vae; means over seeds, [95 % interval over them]; reconstructions alone have a similarity of .98 and .99):

| | reached | non-trivial | of the reached | set has both | similarity | score | L1 | APD |
|---|---|---|---|---|---|---|---|---|
| *nothing planted, η = .1* | | | | | | | | |
| no masks | 1 | .57 [.55, .59] | .57 [.55, .59] | .13 [.10, .17] | .96 [.95, .96] | .55 [.53, .57] | 29.4 [28.2, 30.1] | .65 [.54, .74] |
| chunks | .83 [.81, .85] | .34 [.33, .35] | .40 [.39, .41] | .50 [.38, .60] | .91 [.90, .92] | .33 [.32, .34] | 38.6 [37.4, 39.4] | 3.14 [3.06, 3.23] |
| random | .95 [.92, .96] | .45 [.42, .50] | .46 [.44, .51] | .46 [.40, .52] | .92 [.92, .93] | .43 [.40, .48] | 36.6 [35.5, 37.4] | 3.02 [2.90, 3.14] |
| spectral | .53 [.43, .60] | .23 [.20, .24] | .38 [.36, .41] | .37 [.35, .38] | .91 [.91, .92] | .22 [.19, .23] | 36.5 [35.1, 38.8] | 2.64 [2.39, 2.96] |
| inverse | .99 [.97, 1] | .27 [.20, .35] | .27 [.20, .35] | .55 [.48, .67] | .87 [.83, .92] | .25 [.19, .34] | 37.5 [33.8, 42.2] | 2.00 [1.54, 2.48] |
| one | 1 | .54 [.50, .56] | .54 [.50, .56] | 0 | .96 | .52 [.48, .54] | 29.0 [28.3, 29.5] |  |
| *nothing planted, η = .3* | | | | | | | | |
| no masks | 1 | .25 [.24, .25] | .25 [.24, .25] | .17 [.15, .21] | .89 [.88, .90] | .23 [.23, .24] | 35.9 [34.7, 36.7] | 1.38 [1.21, 1.56] |
| chunks | .94 [.93, .95] | .36 [.33, .39] | .38 [.35, .41] | .64 [.56, .71] | .89 | .34 [.31, .37] | 41.4 [41.4, 41.6] | 3.85 [3.80, 3.89] |
| random | .99 [.97, 1] | .39 [.37, .42] | .39 [.37, .42] | .60 [.52, .69] | .90 [.89, .91] | .37 [.35, .40] | 39.8 [38.2, 40.8] | 3.62 [3.47, 3.75] |
| spectral | .68 [.56, .74] | .30 [.25, .32] | .42 [.41, .43] | .47 [.44, .52] | .90 [.90, .91] | .28 [.24, .31] | 39.9 [39.2, 41.3] | 3.45 [3.09, 3.72] |
| inverse | 1 | .17 [.13, .23] | .17 [.13, .23] | .55 [.52, .58] | .81 [.76, .88] | .16 [.13, .21] | 44.4 [39.1, 50.8] | 2.94 [2.35, 3.58] |
| one | 1 | .25 [.21, .29] | .25 [.21, .29] | 0 | .89 [.89, .90] | .23 [.20, .28] | 35.4 [33.7, 36.6] |  |
| *planted, η = .1* | | | | | | | | |
| no masks | 1 | .90 [.85, .97] | .90 [.85, .97] | .02 | .97 [.97, .98] | .88 [.83, .95] | 27.8 [26.9, 29.2] | .67 [.61, .70] |
| chunks | .84 [.82, .85] | .65 [.57, .71] | .75 [.66, .81] | .33 [.29, .38] | .93 [.92, .94] | .63 [.55, .69] | 36.3 [34.7, 38.1] | 3.02 [2.83, 3.14] |
| random | .93 [.91, .95] | .75 [.68, .81] | .79 [.71, .85] | .31 [.29, .33] | .94 [.93, .95] | .73 [.66, .78] | 34.4 [33.2, 35.9] | 2.95 [2.80, 3.04] |
| spectral | .64 [.56, .68] | .51 [.44, .58] | .73 [.66, .80] | .24 [.21, .27] | .94 [.93, .94] | .49 [.43, .56] | 35.2 [32.1, 37.9] | 2.77 [2.32, 3.01] |
| inverse | 1 | .66 [.55, .78] | .66 [.55, .78] | .38 [.25, .52] | .92 [.91, .94] | .64 [.53, .76] | 34.2 [33.3, 35.3] | 1.80 [1.67, 1.98] |
| one | 1 | .89 [.83, .98] | .89 [.83, .98] | 0 | .97 [.97, .98] | .87 [.81, .96] | 27.4 [26.6, 28.7] |  |

The claim does not hold here. At η = .1 spectral masks give fewer non-trivial explanations than no masks (by .34 and .40) and than random ones (by .22 and
.25), for each classifier, less like x than without masks (by .04 and .03) and as like x as with random ones. The cause is failures: the clustering puts 9 to
13 of the 20 codes into one mask and few into each of the others (first classifier: 13 codes, and 1 to 3, with which 1 and .02 to .50 reach the target). The
rate is not it: a code, of standard deviation .7 to 1.1, may move by 2 in 20 steps (without masks 1.7 steps suffice), and when it may move by 6, at η = .3,
still .32 fail. With that rate and nothing planted spectral masks do give more than no masks, by .05 [.01, .08], one explanation, by .05 [0, .11], and
complements, by .13 [.10, .18], all at more similarity, but fewer than random masks, by .09 [.06, .12], and chunks. With the cue planted random masks and
chunks give more there too, and the rest cannot be told from them. To p >= .99 a quarter of theirs come, .03 are non-trivial (planted .13), and .08 (.35)
without masks.

What holds: to p >= .5 masks of any kind make sets diverse. More of them have both kinds, and steps are orthogonal (but of complements), where cos² is .5
without masks. Of what reached the target at η = .3 with nothing planted, the non-trivial share is greatest with spectral masks, by .17 [.16, .18] greater
than without, but by .03 [0, .05] greater than with random ones. The measure favours who stops just beyond the boundary: without masks and with nothing
planted the non-trivial share falls from .57 at η = .1 to .25 at .3 and .08 at p >= .99. Non-trivial ones do show the planted cue: at η = .1 they lean by .03
pixels a row towards the target's side, with nothing planted by −.01 to .01.

Limits: with nothing planted the images lie .25 from the gaps on average (planted: .05), since a sure classifier leaves few in between; prices are divided by
the sum of the masks, as published, so that they are five times dearer to each explanation with the five masks than without; nothing was tuned. In the ten
codes of btcvae_mnist (η = .1; the largest spectral mask has 4 to 6) the claim fails alike: of spectral masks .05 [.05, .06] are non-trivial, of random ones
.07, without .10, of single ones .17, and with the cue planted .07 [.05, .08], .17, .53 and .74, the last two each time at more similarity.

Cost: 10 minutes on 2 CPU cores that eight others used too (about 3 minutes of processor time), 7 minutes for btcvae_mnist; timings there are rough: 3 ms for
an explanation without masks, 3 to 5 for a single one, 9 to 12 with masks, which make nearly all of their steps. Writes `out/dive/DIGEST/results.json` (means
over images with 95 % bootstrap intervals, by classifier and over seeds, and the differences between spectral masks and the others image by image) and
`counterfactuals_{agreement}.png`, the first image with its sets in the last setting.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import jxai
from experiments.counterfactual.leaning import PAIR, Digits, Resized, enlarged, fours_and_nines, network
from experiments.counterfactual.nontrivial import Case, compared
from experiments.counterfactual.searching import timed
from jxai import counterfactual, each
from jxai.counterfactual import Counterfactual, Search, fisher_masks
from jxai.evaluate import findings
from jxai.evaluate.answers import logits, predicted
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models import generators, lenet5
from jxai.scores import one_of, positive, within

GAPS = (-0.9, -0.6, -0.4, -0.1, 0.1, 0.4, 0.6, 0.9)
"""p(nine) − p(four) of the images that are explained: the published ones."""
PRICE = 10.0
"""DiVE's default on the reconstruction."""
CODERS = {"mnist_vae": lambda: generators()["mnist_vae"](), "btcvae_mnist": lambda: Resized(generators()["btcvae_mnist"]())}


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    per_gap: int = 6
    """Images nearest to each of the eight gaps."""
    seeds: int = 3
    """Pairs of classifiers."""
    agreements: tuple[float, ...] = (0.5, 0.95)
    """Shares of the training digits that lean as their class is to lean, one classifier each; .5 plants nothing."""
    train: int = 20000
    """Training digits read; from half of their fours and nines a classifier learns."""
    tests: int = 10000
    """Test digits read."""
    training_steps: int = 300
    """In batches of 64 (or what there is), by Adam at 1e-3."""
    k: int = 5
    """Explanations of an image, and masks."""
    settings: tuple[tuple[float, float], ...] = ((0.5, 0.1), (0.5, 0.3), (0.99, 0.3))
    """(threshold of the target's probability, learning rate)."""
    steps: int = 20
    """Of a search, at most."""
    examples: int = 256
    """Training digits that the Fisher information is a mean over."""
    generator: str = "mnist_vae"
    """Or btcvae_mnist."""
    out: str = "out/dive"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Trains, explains by every variant in every setting, and returns the rows."""
    check(config)
    rows = []
    for seed in range(config.seeds):
        for agreement in config.agreements:
            own = here.kept_rows(f"seed {seed}, agreement {agreement:g}", functools.partial(of_classifier, config, here, seed, agreement))
            rows += [{**r, "seed": seed, "agreement": agreement} for r in own]
    return rows + findings.overall(rows, "agreement", "setting", "method")


def of_classifier(config: Config, here: Record, seed: int, agreement: float) -> list[dict[str, Any]]:
    """The rows of a classifier that is trained for it; an image of the first seed's is drawn."""
    generator, oracle = CODERS[config.generator](), Partial(enlarged, lenet5())
    digits, tests = fours_and_nines("train", config.train), fours_and_nines("test", config.tests)
    case, known = asked(network(digits, agreement, config.training_steps, seed), oracle, generator, tests, config.per_gap)
    masks = variants(case.f, generator, digits.x[: config.examples], config.k, seed)
    rows, found = [{**r, "setting": "all"} for r in known], {}
    largest = {name: m.sum(1).argmax() for name, m in masks.items()}
    rows += [findings.row([masks[name][i].sum()], method=name, setting="all", metric="codes in the largest mask") for name, i in largest.items()]
    for place, setting in enumerate(config.settings):
        for name, search in searches(generator, masks, config.steps, *setting).items():
            found[name], seconds = explained(search, case, seed, place > 0)  # all settings share one compilation
            rows.append(findings.row([seconds / found[name].valid.size], method=name, setting=_name(setting), metric="seconds each"))
            if name in largest:
                valid = found[name].valid[:, largest[name]]
                rows.append(findings.row(valid, method=name, setting=_name(setting), metric="reached, largest mask"))
        rows += [{**r, "setting": _name(setting)} for r in compared(case, oracle, found)]
        here.tell(f"seed {seed}, agreement {agreement:g}, {_name(setting)}")
    if seed == 0:
        jxai.plot.save(picture(case, oracle, found), here.path / f"counterfactuals_{agreement:g}.png")
    return rows


def check(config: Config) -> None:
    """Raises ValueError for a bad configuration."""
    one_of("generator", config.generator, CODERS)
    positive(per_gap=config.per_gap, seeds=config.seeds, training_steps=config.training_steps, steps=config.steps, examples=config.examples)
    if config.k < 2:
        raise ValueError(f"k={config.k} must be 2 or more: a set")
    for agreement in config.agreements:
        within(0.0, 1.0, agreements=agreement)
    for threshold, rate in config.settings:
        # As arrays, which they are to the searches, they would pass unchecked.
        within(0.0, 1.0, threshold=threshold)
        within(np.finfo(np.float32).tiny, np.inf, learning_rate=rate)


def asked(f: Callable, oracle: Callable, generator: Any, tests: Digits, per_gap: int) -> tuple[Case, list[dict[str, Any]]]:
    """The images nearest to the gaps, of those that f and the oracle take for the same digit, as they do the reconstruction; and rows about f and them."""
    code, again = (np.asarray(v) for v in each(_through, generator, tests.x, batch_size=64))
    out = logits(f, tests.x)
    digit = out.argmax(1)
    agreed = np.isin(digit, PAIR) & np.all([predicted(m, v) == digit for m, v in ((f, again), (oracle, tests.x), (oracle, again))], 0)
    if agreed.sum() < per_gap * len(GAPS):
        raise ValueError(
            f"tests={len(tests.x)} fours and nines are too few: of {agreed.sum()} classifier and oracle say the same, {per_gap=} asks for {8 * per_gap}"
        )
    p = np.asarray(jax.nn.softmax(out))
    gap, free, chosen = p[:, PAIR[1]] - p[:, PAIR[0]], agreed.copy(), []
    for wanted in GAPS:
        order = np.argsort(np.where(free, np.abs(gap - wanted), np.inf), kind="stable")[:per_gap]
        free[order] = False
        chosen.append(order)
    right, chosen = digit == tests.y, np.concatenate(chosen)
    rows = [findings.row(right[side], metric=f"accuracy, {name}") for side, name in ((tests.alike, "leaning alike"), (~tests.alike, "leaning otherwise"))]
    rows.append(findings.row(agreed, metric="agreed on"))
    rows.append(findings.row(np.abs(gap[chosen] - np.repeat(GAPS, per_gap)), metric="distance from the gap"))
    target = np.where(digit == PAIR[0], PAIR[1], PAIR[0]).astype(np.int32)
    case = Case(f, tests.x[chosen], digit[chosen], target[chosen], code[chosen], again[chosen])
    return case, [{**r, "method": "the classifier"} for r in rows]


def variants(f: Callable, generator: Any, examples: np.ndarray, k: int, seed: int) -> dict[str, np.ndarray]:
    """Masks `[k, d]` by name."""
    key = jax.random.key(seed)
    made = {kind: fisher_masks(f, generator, examples, k, key, kind=kind) for kind in ("chunks", "random", "spectral")}
    return {"no masks": np.ones_like(made["spectral"]), **made, "spectral, inverse": ~made["spectral"]}


def searches(generator: Any, masks: dict[str, np.ndarray], steps: int, threshold: float, rate: float) -> dict[str, Search]:
    """DiVE with every kind of masks, and one explanation by the same loss without sparsity and diversity: REVISE, with DiVE's price on the reconstruction."""
    # Thresholds, rates and masks as arrays, so that all settings and variants share one compilation.
    options = {"generator": generator, "threshold": jnp.float32(threshold), "learning_rate": jnp.float32(rate), "steps": steps}
    found = {name: counterfactual.dive.search(masks=jnp.asarray(m), **options) for name, m in masks.items()}
    size = next(iter(masks.values())).shape[1]
    # The mean over pixels and the sum of the masks, by which DiVE divides.
    return {**found, "one explanation": counterfactual.revise.search(proximity=PRICE / (28 * 28 * size), **options)}


def explained(search: Search, case: Case, seed: int, warm: bool) -> tuple[Counterfactual, float]:
    """What a search finds, with an axis for the set, and its seconds without compilation. So few steps are one block."""
    found, seconds = timed(search, case.f, case.x, case.target, jax.random.key(1000 + seed), warm=warm, block=search.steps + 1, batch_size=len(case.x))
    if found.valid.ndim == 1:
        found = Counterfactual(*(part[:, None] for part in found))
    return found, seconds


def picture(case: Case, oracle: Callable, found: dict[str, Counterfactual]):
    """The first image with its sets, a row for each variant; above each what the oracle says."""
    sets = {name: c for name, c in found.items() if c.valid.shape[1] > 1}
    points, valid = (np.stack([getattr(c, part)[0] for c in sets.values()]) for part in ("x", "valid"))
    titles = [[f"oracle: {s}" for s in predicted(oracle, p)] for p in points]
    return jxai.plot.counterfactuals(np.stack([case.x[0]] * len(sets)), points, titles=titles, originals=list(sets), valid=valid)


def _through(generator: Any, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    z = generator.encode(x)
    return z, jnp.clip(generator.decode(z), 0, 1)


def _name(setting: tuple[float, float]) -> str:
    return "p ≥ {:g}, η = {:g}".format(*setting)


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints a table of means over seeds for each agreement and setting."""
    for part in dict.fromkeys((r["agreement"], r["setting"]) for r in rows):
        shown = [r for r in rows if r["seed"] == "all" and (r["agreement"], r["setting"]) == part]
        print(f"\nagreement {part[0]:g}, {part[1]}\n\n{findings.table(shown, 'method', 'metric')}")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
