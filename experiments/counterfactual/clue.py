"""CLUE and its kin on the digits of which an ensemble is least certain: how certain does it become, how far away, how diverse, how fast?

    python experiments/counterfactual/clue.py

The same command goes on where it was stopped. Needs the extra `experiments`, the data set mnist and the weights mnist_vae. For each of `seeds` ensembles
(`members` networks, two passes over `train` digits each, so that there is doubt) the `images` least certain of `tests` test digits are explained in the
codes of the VAE. The other half of the test digits read teaches GLAM-CLUE. Uncertainty is the entropy of the ensemble's mean prediction, in nats.

Claims that are tested: CLUE lowers uncertainty at little distance (Antorán et al. 2021, arXiv 2006.06848); δ-CLUE's sets are more diverse with greater δ
(Ley et al. 2021, arXiv 2104.06323); ∇-CLUE's price raises diversity at equal k; and GLAM-CLUE needs one call and is much faster (Ley et al. 2022,
arXiv 2112.02646). Measured, before and after: the entropy of the ensemble and of another one that the search did not see; whether both agree;
L1; of sets, the average pairwise distance (APD), the determinant (DPP) and label coverage; seconds for each counterfactual without compilation.
All but "reached" (certainer than x, the methods' own test) is of every search, failed ones among them. The VAE's reconstruction is the control.

Found (60 digits × 3 ensembles, sets of 5; means over ensembles, [95 % interval over them]); no search failed to gain some certainty:

| | entropy after (before: 1.76) | other ensemble's (before: 1.70) | L1 | APD | DPP | label coverage | ms each |
|---|---|---|---|---|---|---|---|
| reconstruction | 1.74 [1.70, 1.81] | 1.70 [1.67, 1.73] | 28.3 [27.5, 29.0] | | | | |
| CLUE | .089 [.080, .102] | .104 [.082, .143] | 75.6 [74.7, 77.1] | | | | 10.9 [10.1, 11.3] |
| CLUE, σ = .15 | .085 [.078, .096] | .100 [.081, .137] | 75.7 [74.7, 77.3] | 3.93 [3.85, 4.02] | .445 [.429, .457] | .093 [.083, .098] | 8.6 [7.0, 9.9] |
| δ-CLUE, δ = 1 | .974 [.911, 1.06] | .993 [.956, 1.04] | 36.0 [35.3, 36.6] | 1.54 [1.46, 1.65] | .083 [.072, .092] | .108 [.094, .117] | 8.5 [5.2, 11.0] |
| δ-CLUE, δ = 2 | .411 [.380, .447] | .443 [.411, .506] | 51.8 [51.5, 52.4] | 4.09 [3.92, 4.22] | .450 [.424, .467] | .196 [.187, .207] | 11.7 [11.0, 12.2] |
| δ-CLUE, δ = 4 | .106 [.094, .116] | .125 [.111, .152] | 78.0 [77.4, 78.9] | 7.54 [7.42, 7.61] | .832 [.822, .838] | .294 [.281, .304] | 11.2 [10.4, 12.7] |
| ∇-CLUE, w = 0 | .085 [.078, .097] | .101 [.081, .139] | 76.6 [75.6, 78.1] | 4.01 [3.92, 4.10] | .452 [.445, .458] | .098 [.085, .109] | 13.2 [12.0, 14.8] |
| ∇-CLUE, w = 1 | .096 [.088, .110] | .112 [.087, .148] | 86.5 [85.9, 87.5] | 8.08 [7.98, 8.24] | .883 [.881, .886] | .171 [.163, .178] | 13.3 [12.7, 14.5] |
| ∇-CLUE, w = 5 | .197 [.178, .213] | .212 [.196, .242] | 90.6 [89.8, 91.2] | 9.50 [9.45, 9.56] | .919 [.918, .920] | .277 [.265, .291] | 13.0 [12.6, 13.3] |
| GLAM-CLUE | .089 [.067, .116] | .105 [.081, .120] | 88.0 [82.3, 91.5] | | | | .69 [.41, .89] |

So uncertainty falls by 1.67 of 1.76 nats, for an ensemble that was not asked as well (by 1.60 of 1.70; the classes agree in all of CLUE's), but not at
little distance with the price of 2/784 on L1: it is 2.7 times that of the mere reconstruction; δ = 1 is nearer and lowers it by .78. Diversity grows with δ
and with the price w in each ensemble, w = 5 costs .11 nats. GLAM-CLUE is as certain as CLUE, further away in each ensemble (82 to 92 against 75 to 77),
and 13, 25 and 15 times as fast, after 1.3 to 1.6 s of learning its translations (7.9 s with compilation).

Cost: 6 minutes on 2 CPU cores that others used too (3 minutes of processor time); timings there are rough.
Writes `out/clue/DIGEST/results.json` (means over images with 95 % bootstrap intervals, by ensemble and over all).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.tree_util import Partial

from experiments.counterfactual.searching import timed
from jxai import counterfactual, each
from jxai.counterfactual import Search
from jxai.evaluate import findings
from jxai.evaluate.answers import predicted
from jxai.evaluate.experiment import command_line, over_seeds, recorded
from jxai.evaluate.record import Record
from jxai.metrics import counterfactual as judges
from jxai.models import generators
from jxai.models.ordinary import mnist, ordinary
from jxai.uncertainty.predictive import predictive


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    images: int = 60
    seeds: int = 3
    """Ensembles, two or more; each is judged by the next."""
    members: int = 4
    train: int = 2000
    """Digits that each network learns from: few, so that there is doubt."""
    tests: int = 2000
    """Test digits among which the least certain are looked for; as many others are there for GLAM-CLUE to learn from."""
    k: int = 5
    """Counterfactuals in a set."""
    radii: tuple[float, ...] = (1.0, 2.0, 4.0)
    """δ."""
    weights: tuple[float, ...] = (0.0, 1.0, 5.0)
    """∇-CLUE's price on too little diversity (of a determinantal point process)."""
    steps: int = 25
    uncertain: int = 20
    """Digits of each class that GLAM-CLUE learns from, and five times as many certain ones."""
    out: str = "out/clue"


def ensemble(seed: int, config: Config) -> Partial:
    """An ensemble as one model, x -> log of the members' mean probability `[K]`: its entropy is the total uncertainty."""
    parts = [nnx.split(ordinary(1000 * seed + i, config.train)) for i in range(config.members)]
    return Partial(_mean, nnx.merge(parts[0][0], jax.tree.map(lambda *leaves: jnp.stack(leaves), *(weights for _, weights in parts))))


def _mean(members: nnx.Module, x: jax.Array) -> jax.Array:
    structure, weights = nnx.split(members)
    # One after the other: only one is compiled, and on a CPU it was no slower.
    log_p = jax.nn.log_softmax(jax.lax.map(lambda one: nnx.merge(structure, one)(x), weights))
    return jax.nn.logsumexp(log_p, 0) - jnp.log(log_p.shape[0])


def entropy(f: Callable, x: jax.Array) -> jax.Array:
    """`[]`: the entropy of a prediction in nats."""
    return predictive(f(x)[None], "total")


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Explains every ensemble's least certain digits by every method, and returns the rows."""
    rows, generator, digits = [], generators()["mnist_vae"](), mnist("test", 2 * config.tests)[0]
    trained = functools.cache(lambda seed: ensemble(seed % config.seeds, config))  # where it is asked for
    for seed in range(config.seeds):
        ask = functools.partial(trained, seed), functools.partial(trained, (seed + 1) % config.seeds)
        rows += [{**r, "seed": seed} for r in of_ensemble(config, here, seed, *ask, generator, digits)]
    return rows + findings.overall(rows, "method")


def of_ensemble(config: Config, here: Record, seed: int, f: Callable, other: Callable, generator: Any, digits: np.ndarray) -> list[dict[str, Any]]:
    """The rows of an ensemble, which `f()` trains, beside another."""
    x = here.kept(f"{seed}, digits", lambda: {"x": least_certain(f(), digits[: config.tests], config.images)})["x"]

    def fitted() -> dict[str, np.ndarray]:
        model, begun = f(), time.perf_counter()
        translations = np.asarray(learned(model, generator, digits[config.tests :], config))
        return {"translations": translations, "seconds": np.asarray(time.perf_counter() - begun)}

    def explained(name: str, search: Search, restarts: int | None) -> list[dict[str, Any]]:
        # So few steps are one block.
        found, seconds = timed(search, f(), x, None, jax.random.key(0), restarts=restarts, block=search.steps + 1, batch_size=len(x))
        here.tell(f"ensemble {seed}, {name}: {seconds:.2f} s")
        points = found.x.reshape(len(x), -1, *x.shape[1:])
        rows = judged(f(), other(), x, points) + [findings.row(found.valid.reshape(len(x), -1).mean(1), metric="reached")]
        return [*rows, findings.row([seconds / (points.shape[0] * points.shape[1])], metric="seconds each")]

    glam = here.kept(f"{seed}, translations", fitted)
    rows = [findings.row([glam["seconds"]], method="GLAM-CLUE", metric="seconds to fit, compilation included")]
    again = lambda: judged(f(), other(), x, np.asarray(each(_again, generator, x, batch_size=64))[:, None])
    rows += [{**r, "method": "reconstruction"} for r in here.kept_rows(f"{seed}, reconstruction", again)]
    for name, (search, restarts) in searches(config, generator, jnp.asarray(glam["translations"])).items():
        made = functools.partial(explained, name, search, restarts)
        rows += [{**r, "method": name} for r in here.kept_rows(f"{seed}, {name}", made)]
    return rows


def least_certain(f: Callable, x: np.ndarray, count: int) -> np.ndarray:
    """The `count` images of greatest entropy."""
    return x[np.argsort(-np.asarray(each(entropy, f, x, batch_size=64)), kind="stable")[:count]]


def learned(f: Callable, generator: Any, x: np.ndarray, config: Config) -> jax.Array:
    """GLAM-CLUE's translations, from the least and the most certain digits of each predicted class."""
    classes = predicted(f, x)
    order = np.argsort(-np.asarray(each(entropy, f, x, batch_size=64)), kind="stable")
    of = [order[classes[order] == c] for c in range(10)]
    least, most = np.concatenate([o[: config.uncertain] for o in of]), np.concatenate([o[-5 * config.uncertain :] for o in of])
    return counterfactual.fit_glam(f, generator, x[least], classes[least], 10, certain=x[most], certain_groups=classes[most])


def searches(config: Config, generator: Any, translations: jax.Array) -> dict[str, tuple[Search, int | None]]:
    """The methods by name, and how often each is restarted."""
    options = dict(generator=generator, steps=config.steps)
    found = {"CLUE": (counterfactual.clue.search(**options), None)}
    found["CLUE, σ = .15"] = counterfactual.clue.search(sigma=0.15, **options), config.k
    # As arrays, so that all radii, and all weights, share one compilation.
    for radius in config.radii:
        found[f"δ-CLUE, δ = {radius:g}"] = counterfactual.delta_clue.search(radius=jnp.float32(radius), **options), config.k
    for weight in config.weights:
        search = counterfactual.nabla_clue.search(num_counterfactuals=config.k, diversity_weight=jnp.float32(weight), **options)
        found[f"∇-CLUE, w = {weight:g}"] = search, None
    found["GLAM-CLUE"] = counterfactual.glam_clue.search(generator=generator, translations=translations), None
    return found


def judged(f: Callable, other: Callable, x: np.ndarray, points: np.ndarray) -> list[dict[str, Any]]:
    """One row for each measure of sets `[n, k, *shape]`, with n images and an interval; what failed is among them."""
    n, k = points.shape[:2]
    flat, given = points.reshape(-1, *x.shape[1:]), np.repeat(x, k, 0)
    rows = []
    for name, model in (("entropy", f), ("other ensemble's entropy", other)):
        before, after = (np.asarray(each(entropy, model, v, batch_size=64)) for v in (x, flat))
        after = after.reshape(n, k).mean(1)
        rows += [findings.row(values, metric=f"{name}, {when}") for when, values in (("before", before), ("after", after), ("change", after - before))]
    said, would = (predicted(model, flat) for model in (f, other))
    rows.append(findings.row((said == would).reshape(n, k).mean(1), metric="other ensemble agrees"))
    rows.append(findings.row(np.asarray(each(judges.l1, f, given, flat, None, batch_size=64)).reshape(n, k).mean(1), metric="L1"))
    if k > 1:
        for metric, judge in (("APD", judges.apd), ("DPP", judges.dpp), ("label coverage", judges.label_coverage)):
            rows.append(findings.row(np.asarray(each(judge, f, x, points, None, batch_size=64)), metric=metric))
    return rows


def _again(generator: Any, x: jax.Array) -> jax.Array:
    return jnp.clip(generator.decode(generator.encode(x)), 0, 1)


show = over_seeds("method", "metric")


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
