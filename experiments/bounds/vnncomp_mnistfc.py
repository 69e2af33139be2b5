"""How many of VNN-COMP 2021's 90 mnistfc instances linear bounds prove, and how many gradients refute.

    python experiments/bounds/vnncomp_mnistfc.py                          # all 90
    python experiments/bounds/vnncomp_mnistfc.py --networks 2 --limit 10  # the first ten properties of the smallest network

The same command goes on where it was stopped. Needs the extra `experiments` and the file `vnncomp/mnistfc.npz` of the data folder.

Three networks of 2, 4 and 6 hidden layers of 256 ReLUs, each with the same 30 boxes around MNIST digits (ℓ∞ radius .03 and .05, cut to
[0, 1]): does the label's logit exceed every other on the whole box? An instance is *verified* where the least of the margins that a bound
proves is positive, *attacked* where auto-PGD found a point of the box that NumPy, in float64, gives to another class, else *open*. One that
is both would disprove a bound, and raises.

Expected: plain CROWN verifies 26 of 90 (11, 7 and 8 by network), the attack refutes 21 (11, 6 and 4). α-CROWN halves the margins that are left
and proves no further one: even its optimum stays below 0 on the nearest of them (−.17 on net256x2, where auto_LiRPA's optimum is −.18). In 256
cases, by the signs of the eight ReLUs that matter most, it proves 32 (15, 9 and 8). Cost: about 5 minutes on 2 CPU cores, most of it on the deepest network.

Writes `out/vnncomp_mnistfc/DIGEST/results.json` (by network and outcome the share of instances with a 95 % bootstrap interval, their number, and the median
seconds of an instance after compilation) and `kept/` (every instance with its margins).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jxai.bounds import Box, margins
from jxai.bounds.attack import attack
from jxai.evaluate import findings
from jxai.evaluate.experiment import command_line, recorded
from jxai.evaluate.record import Record
from jxai.models import MLP
from jxai.models.vnncomp import DEPTHS, Properties, mnistfc, mnistfc_properties

METHODS = ("crown", "alpha_crown", "cases")
OUTCOMES = (*METHODS, "attacked", "open")
"""Verified by CROWN, by α-CROWN (CROWN's among them), by α-CROWN in cases (both's among them); refuted; neither."""


@dataclasses.dataclass(frozen=True)
class Config:
    """What is run."""

    networks: tuple[int, ...] = DEPTHS
    """Depths of the networks."""
    limit: int = 30
    """Properties of each network."""
    rounding: str = "outward"
    """"outward": what is verified holds for floating-point evaluation, too; "nearest" is cheaper."""
    steps: int = 20
    """Of α-CROWN, which optimises the bounds of the layers in between as well (in cases the outputs' alone)."""
    learning_rate: float = 0.1
    splits: int = 8
    """ReLUs whose signs make the cases: `2^splits` of them, for what is open without; 0 for none."""
    attack_steps: int = 100
    restarts: int = 10
    seed: int = 0
    out: str = "out/vnncomp_mnistfc"


@recorded
def run(config: Config, here: Record) -> list[dict[str, Any]]:
    """Decides every instance, keeps it at once, and returns the rows by network and outcome."""
    properties, sides, instances = mnistfc_properties(), judges(config), []
    for depth in config.networks:
        f = compiled(mnistfc(depth), sides, properties)
        for i in range(config.limit):
            name = f"net256x{depth}, {properties.name[i]}"
            decided = lambda f=f, depth=depth, i=i: [{"network": f"net256x{depth}", **decide(f(), sides, properties, i)}]
            instances += here.kept_rows(name, decided)
            here.tell(f"{name}: {instances[-1]['verdict']}")
    return summary(instances)


def compiled(f: MLP, sides: dict[str, Callable], properties: Properties) -> Callable[[], MLP]:
    """Gives f, and has run every side once before it first does, so that no instance's seconds are of compilation."""

    @functools.cache
    def ready() -> MLP:
        for side in sides.values():
            jax.block_until_ready(side(f, *_instance(properties, 0)))
        return f

    return ready


def judges(config: Config) -> dict[str, Callable]:
    """`(f, lower, upper, label) -> margins [10]` of the bounds, and of the attack its point, compiled; the cases come last, if there are any."""
    alpha = {"method": "alpha_crown", "steps": config.steps, "learning_rate": config.learning_rate}
    options = {"crown": {"method": "crown"}, "alpha_crown": {**alpha, "intermediate": True}, "cases": {**alpha, "splits": config.splits}}
    key = jax.random.key(config.seed)

    def bound(name: str) -> Callable:
        return jax.jit(lambda f, lower, upper, label: margins(f, Box(lower, upper), label, rounding=config.rounding, **options[name]))

    def search(f, lower, upper, label):
        return attack(f, Box(lower, upper), label, key, steps=config.attack_steps, restarts=config.restarts).x

    sides = {"crown": bound("crown"), "alpha_crown": bound("alpha_crown"), "attack": jax.jit(search)}
    return {**sides, "cases": bound("cases")} if config.splits else sides


def decide(f: MLP, sides: dict[str, Callable], properties: Properties, i: int) -> dict[str, Any]:
    """The margins of the bounds, that of the attack's point in float64, the seconds of each, and the verdict.

    Raises:
      RuntimeError: the instance is verified, and has a counterexample.
    """
    lower, upper, label = _instance(properties, i)
    found: dict[str, Any] = {"property": properties.name[i], "radius": float(properties.radius[i]), "label": int(label)}
    seconds = {}
    for name, side in sides.items():
        if name == "cases" and (found["alpha_crown"] > 0 or found["attack"] <= 0):
            continue
        begin = time.perf_counter()
        value = np.asarray(jax.block_until_ready(side(f, lower, upper, label)))
        seconds[name] = time.perf_counter() - begin
        found[name] = exact_margin(f, value, lower, upper, int(label)) if name == "attack" else float(np.delete(value, label).min())
    # Each bound is at least as good as the one before it.
    found["alpha_crown"] = max(found["crown"], found["alpha_crown"])
    found["cases"] = max(found["alpha_crown"], found.get("cases", -np.inf))
    verified, attacked = found["cases"] > 0, found["attack"] <= 0
    if verified and attacked:
        raise RuntimeError(f"{properties.name[i]} is verified with margins {found}, but has a counterexample: a bound is wrong")
    return {**found, "verdict": "verified" if verified else "attacked" if attacked else "open", "seconds": seconds}


def exact_margin(f: MLP, x: np.ndarray, lower: np.ndarray, upper: np.ndarray, label: int) -> float:
    """`f(x)[label]` less the greatest other logit, by NumPy in float64.

    Raises:
      RuntimeError: x lies outside the box.
    """
    if not ((x >= lower) & (x <= upper)).all():
        raise RuntimeError(f"the attack left its box by {np.maximum(lower - x, x - upper).max()}")
    y = np.asarray(x, np.float64)
    for n, layer in enumerate(f.layers):
        y = np.maximum(y, 0) if n else y
        y = y @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...], np.float64)
    return float(y[label] - np.delete(y, label).max())


def summary(instances: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each network and for all, and each outcome."""
    rows = []
    for network in (*dict.fromkeys(found["network"] for found in instances), "all"):
        of = [found for found in instances if network in (found["network"], "all")]
        which = {name: [found[name] > 0 for found in of] for name in METHODS}
        which |= {verdict: [found["verdict"] == verdict for found in of] for verdict in ("attacked", "open")}
        for outcome in OUTCOMES:
            timed = {"attacked": "attack"}.get(outcome, outcome)
            more: dict[str, Any] = {"count": int(np.sum(which[outcome]))}
            if seconds := [found["seconds"][timed] for found in of if timed in found["seconds"]]:
                more["seconds"] = float(np.median(seconds))
            rows.append(findings.row(np.asarray(which[outcome]), more, network=network, outcome=outcome))
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Counts by network and outcome, the median seconds of an instance behind them."""
    lines = ["| network | " + " | ".join(OUTCOMES) + " | of |", "|---" * (len(OUTCOMES) + 2) + "|"]
    for network in dict.fromkeys(row["network"] for row in rows):
        of = {row["outcome"]: row for row in rows if row["network"] == network}
        more = [of[o]["more"] for o in OUTCOMES]
        cells = [f"{found['count']}" + (f" ({found['seconds']:.2g} s)" if "seconds" in found else "") for found in more]
        lines.append(f"| {network} | {' | '.join(cells)} | {of['open']['n']} |")
    return "\n".join(lines)


def _instance(properties: Properties, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return properties.lower[i], properties.upper[i], properties.label[i]


def show(config: Config, rows: list[dict[str, Any]]) -> None:
    """Prints the counts."""
    print(table(rows))


def main() -> None:
    command_line(Config, run, show, __doc__)


if __name__ == "__main__":
    main()
