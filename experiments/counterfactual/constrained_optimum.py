"""How far beyond the nearest counterfactual do constrained searches end, where the nearest is known: logistic models of numbers, ordinals and categories?

    python experiments/counterfactual/constrained_optimum.py

For each kind of table `problems` random models `w·x > b`, `w ~ N(0, 1)`, and examples of the other class, whose logit lacks a random share, 5 to 60 %, of what
all features together could give. Tables: six numbers in [−3, 3]; six ordinals of three to five levels; four groups of three or four categories; and three
numbers, two ordinals and two groups. The distance is ℓ1, every feature in its own unit. The exact optimum enumerates all categories and levels, and for each
fills up with numbers in the order of |w|, which solves the linear program; `tests/experiments/test_constrained_optimum.py` checks it against scipy's MILP.

Measured: distance over optimum of what is valid, the median and the 95 % quantile; how much is valid.

Claim: with exchanges `wachter` ends within 5 % of the optimum in the median and 50 % in 95 of 100 cases, and finds a counterfactual wherever there is one.

Found (200 problems of each table; steps on average):

| table | method | valid | median | 95 % | greatest | steps |
|---|---|---|---|---|---|---|
| numbers | wachter | 1.000 | 1.000 | 1.000 | 1.000 | 890 |
| numbers | wachter without exchanges | 1.000 | 1.009 | 1.149 | 1.246 | 883 |
| numbers | prototype | 1.000 | 1.331 | 1.544 | 1.644 | 198 |
| numbers | revise | 1.000 | 1.765 | 2.598 | 3.033 | 107 |
| numbers | diffeomorphic | 1.000 | 2.089 | 3.219 | 4.342 | 20 |
| ordinals | wachter | 1.000 | 1.000 | 1.000 | 1.000 | 391 |
| ordinals | wachter without exchanges | 1.000 | 1.000 | 2.000 | 3.500 | 358 |
| ordinals | prototype | 1.000 | 1.000 | 1.500 | 1.667 | 120 |
| ordinals | revise | 1.000 | 2.000 | 5.000 | 6.000 | 77 |
| ordinals | diffeomorphic | 1.000 | 2.500 | 5.000 | 6.000 | 15 |
| one-hot | wachter | 1.000 | 1.000 | 1.000 | 1.000 | 498 |
| one-hot | wachter without exchanges | 0.805 | 1.000 | 2.000 | 2.000 | 475 |
| one-hot | prototype | 1.000 | 1.000 | 1.000 | 1.000 | 117 |
| one-hot | revise | 0.895 | 2.000 | 3.000 | 4.000 | 153 |
| one-hot | diffeomorphic | 0.865 | 2.000 | 3.400 | 4.000 | 145 |
| mixed | wachter | 1.000 | 1.000 | 1.000 | 1.027 | 616 |
| mixed | wachter without exchanges | 1.000 | 1.143 | 1.782 | 2.204 | 604 |
| mixed | prototype | 1.000 | 1.226 | 1.723 | 4.185 | 184 |
| mixed | revise | 1.000 | 1.954 | 3.684 | 5.266 | 96 |
| mixed | diffeomorphic | 1.000 | 2.176 | 4.665 | 6.613 | 18 |

So the claim holds: exchanges end at the optimum in nearly every case. Without them a gradient search is up to 3.5 times as far, and finds nothing in a fifth of
the tables of categories. Prototype's own terms ask for another point (‖δ‖² beside .1 ‖δ‖₁); revise and diffeomorphic have no reason to stay near.

Cost: 4 minutes on 2 CPU cores that others used too, half of it compilation. Writes `out/constrained_optimum/DIGEST/results.json`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jxai import counterfactual
from jxai.counterfactual import Identity, OneHot, Ordinal
from jxai.counterfactual.search.constraints import Constraint
from jxai.evaluate import findings
from jxai.evaluate.experiment import Rows, command_line, recorded
from jxai.evaluate.record import Record
from jxai.evaluate.statistics import mean_interval

RANGE = 3.0


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    kinds: tuple[str, ...] = ("numbers", "ordinals", "one-hot", "mixed")
    methods: tuple[str, ...] = ("wachter", "wachter without exchanges", "prototype", "revise", "diffeomorphic")
    problems: int = 200
    """Of each kind."""
    steps: int = 1000
    seed: int = 0
    out: str = "out/constrained_optimum"


@dataclasses.dataclass(frozen=True)
class Kind:
    """What a table holds."""

    numbers: int = 0
    levels: tuple[int, ...] = ()
    """Of each ordinal."""
    groups: tuple[int, ...] = ()
    """The sizes of the groups."""

    @property
    def size(self) -> int:
        return self.numbers + len(self.levels) + sum(self.groups)

    @property
    def ordinals(self) -> tuple[tuple[int, tuple[float, ...]], ...]:
        """The entries of ordinals with their levels."""
        return tuple((self.numbers + i, tuple(map(float, range(n)))) for i, n in enumerate(self.levels))

    @property
    def categories(self) -> tuple[tuple[int, ...], ...]:
        """The entries of each group."""
        first = self.numbers + len(self.levels)
        ends = np.cumsum((first, *self.groups))
        return tuple(tuple(range(a, b)) for a, b in itertools.pairwise(ends.tolist()))

    @property
    def constraints(self) -> tuple[Constraint, ...]:
        return (*(Ordinal(i, levels) for i, levels in self.ordinals), *((OneHot(self.categories),) if self.groups else ()))

    @property
    def clip(self) -> tuple[np.ndarray, np.ndarray]:
        """The range of each entry."""
        low, high = np.zeros(self.size, np.float32), np.ones(self.size, np.float32)
        low[: self.numbers], high[: self.numbers] = -RANGE, RANGE
        for i, levels in self.ordinals:
            high[i] = levels[-1]
        return low, high


KINDS = {
    "numbers": Kind(6),
    "ordinals": Kind(0, (3, 4, 5, 3, 4, 5)),
    "one-hot": Kind(0, (), (3, 4, 3, 4)),
    "mixed": Kind(3, (4, 5), (3, 4)),
}


def problem(kind: Kind, rng: np.random.Generator) -> tuple[np.ndarray, float, np.ndarray]:
    """A random model `w·x + b` and an example that it gives a negative logit."""
    x = np.zeros(kind.size)
    x[: kind.numbers] = np.clip(rng.normal(size=kind.numbers), -RANGE, RANGE)
    for i, levels in kind.ordinals:
        x[i] = rng.choice(levels)
    for group in kind.categories:
        x[rng.choice(group)] = 1
    w = rng.normal(size=kind.size)
    every, cost = combinations(kind, x)
    room = np.where(w > 0, RANGE - x, RANGE + x)[: kind.numbers] @ np.abs(w[: kind.numbers])
    most = ((every - x) @ w).max() + room
    if most < 0.5:  # x is about the best there is
        return problem(kind, rng)
    return w.astype(np.float32), np.float32(-w @ x - rng.uniform(0.05, 0.6) * most), x.astype(np.float32)


def combinations(kind: Kind, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every choice of levels and categories, the numbers as in x, `[n, D]`; and the ℓ1 distance of each, `[n]`."""
    parts = [[(i,), [(level,) for level in levels]] for i, levels in kind.ordinals]
    parts += [[group, np.eye(len(group)).tolist()] for group in kind.categories]
    every = np.tile(x, (int(np.prod([len(values) for _, values in parts])), 1))
    for row, values in zip(every, itertools.product(*(values for _, values in parts))):
        for (at, _), value in zip(parts, values):
            row[list(at)] = value
    return every, np.abs(every - x).sum(1)


def optimum(kind: Kind, w: np.ndarray, b: float, x: np.ndarray) -> float:
    """The least ℓ1 distance at which the logit is 0: for every choice of levels and categories the numbers of greatest |w| fill up what lacks."""
    w, x = np.float64(w), np.float64(x)
    every, cost = combinations(kind, x)
    lack = np.maximum(0, -(every @ w + b))
    for i in np.argsort(-np.abs(w[: kind.numbers])):
        room = RANGE - x[i] if w[i] > 0 else RANGE + x[i]
        moved = np.minimum(lack / abs(w[i]), room)
        lack, cost = lack - moved * abs(w[i]), cost + moved
    return float(cost[lack <= 1e-9 * (1 + abs(b))].min())


def _logits(w, b, x):
    return jnp.stack([jnp.zeros_like(b), w @ x + b])


def searches(config: Config, kind: Kind) -> dict[str, Callable]:
    """The methods, with the table's constraints."""
    shared = dict(clip=kind.clip, constraints=kind.constraints, steps=config.steps)
    plain = dict(generator=Identity(), prototypes=np.zeros((2, kind.size), np.float32), attraction=0.0, scale=1.0)
    return {
        "wachter": functools.partial(counterfactual.wachter, scale=1.0, **shared),
        "wachter without exchanges": functools.partial(counterfactual.wachter, scale=1.0, exchanges=0, **shared),
        "prototype": functools.partial(counterfactual.prototype, **plain, **shared),
        "revise": functools.partial(counterfactual.revise, generator=Identity(), **shared),
        "diffeomorphic": functools.partial(counterfactual.diffeomorphic, generator=Identity(), threshold=0.5, **shared),
    }


@recorded
def run(config: Config, here: Record) -> Rows:
    """Searches all problems, and returns the rows."""
    rows = []
    for name in config.kinds:
        kind, rng = KINDS[name], np.random.default_rng([config.seed, sorted(KINDS).index(name)])
        w, b, x = (np.stack(part) for part in zip(*(problem(kind, rng) for _ in range(config.problems))))
        least = np.asarray([optimum(kind, *one) for one in zip(w, b, x)])
        methods = searches(config, kind)
        for method in config.methods:
            rows += here.kept_rows(f"{name}, {method}", lambda: of_method(methods[method], w, b, x, least, table=name, method=method))
            here.tell(f"{name}, {method}")
    return rows


def of_method(search: Callable, w: np.ndarray, b: np.ndarray, x: np.ndarray, least: np.ndarray, **names: Any) -> Rows:
    """The rows of a method on all problems of a table."""
    found = jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda w, b, x: search(Partial(_logits, w, b), x, 1)))(w, b, x))
    reached = found.valid & ((found.x * np.float64(w)).sum(1) + b > -1e-5)
    ratio = np.abs(np.float64(found.x) - x).sum(1)[reached] / least[reached]
    quantiles = {q: float(np.quantile(ratio, q / 100)) if ratio.size else None for q in (50, 95, 100)}
    more = {"median": quantiles[50], "95 %": quantiles[95], "greatest": quantiles[100], "steps": float(found.steps.mean())}
    valid = mean_interval(np.float64(reached))
    return [
        findings.row(ratio, more, metric="distance / optimum", **names) if ratio.size else {"metric": "distance / optimum", "mean": None, "n": 0, **names},
        {"metric": "valid", "mean": valid.mean, "low": valid.low, "high": valid.high, "n": valid.n, **names},
    ]


def show(config: Config, rows: Rows) -> None:
    """Prints a line for each table and method."""
    print("| table | method | valid | median | 95 % | greatest | steps |\n|---|---|---|---|---|---|---|")
    for far, valid in zip(rows[::2], rows[1::2]):
        numbers = [f"{far['more'][name]:.3f}" for name in ("median", "95 %", "greatest")] + [f"{far['more']['steps']:.0f}"] if far["n"] else ["–"] * 4
        print(f"| {far['table']} | {far['method']} | {valid['mean']:.3f} | {' | '.join(numbers)} |")


def main() -> None:
    """The command."""
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
