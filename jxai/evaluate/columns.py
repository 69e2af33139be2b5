"""What a run's columns are called, and which of them its record asks for: by methods, metrics and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jxai.naming import APART

PER_EXAMPLE = ("index", "label", "target", "predicted", "confidence", "valid", "name", "error")
"""The first columns of a run's table: place in the data set, label (−1: none), explained class, predicted class and its probability, whether it
counts, and why not."""
TIED = "tied/"
"""Before a method's label: for each example, the share of its map's entries that equal another one, whose order the seed draws, and which is no finding."""
BLANK = "blank/"
"""Before a fill's name: for each example, whether it is of the explained class with everything replaced."""
SCORE, CURVE = "score/", "curve/"
"""Before `METHOD/METRIC`."""


def of_seed(label: str, seed: int, base: int) -> str:
    """A method's label in the columns of a seed: `rise` of the run's own, `rise@seed=1` of another."""
    return label if seed == base else f"{label}{APART}seed={seed}"


def is_record(config: Any) -> bool:
    """Whether a run's record has what is read of it: that of another version of jxai, or one that a person has changed, may lack some."""
    try:
        read = [config["data"]["name"]]
        if "methods" in config:
            read += [config["seed"], config["target"], config["where"], config["data"]["parts"], config["data"]["content"], config["model"]["name"]]
            asked = [how for made in config["metrics"].values() for how in made["on"].values()]
            read += [how["options"].keys() for how in asked] + [how["seeds"][0] for how in (*asked, *config["methods"].values())]
        return isinstance(config["keep_maps"], bool) and bool(read)
    except (KeyError, TypeError, AttributeError, IndexError):
        return False


def refuse_alike(config: Mapping[str, Any]) -> None:
    """ValueError where two methods, or scores of two, would share a column's name."""
    base, made = config["seed"], {}
    found = [(of_seed(method, seed, base), method) for method, one in config["methods"].items() for seed in one["seeds"]]
    found += [(cell, f"{method}, judged by {metric}") for metric in config["metrics"] for method, own in cells(config, metric).items() for cell in own]
    for name, by in found:
        if made.setdefault(name, by) != by:
            raise ValueError(f"the column {name!r} would be of {made[name]} and of {by}: give one of them another label")


def first_seed(config: Mapping[str, Any], method: str) -> str:
    """The label of the columns of a method's maps by the run's own seed or, where it was not asked for, by the first that was."""
    seeds = config["methods"][method]["seeds"]
    return of_seed(method, config["seed"] if config["seed"] in seeds else min(seeds), config["seed"])


def cells(config: Mapping[str, Any], metric: str) -> dict[str, list[str]]:
    """By method on which a metric was asked for, `METHOD/METRIC` for each seed on which its scores depend."""
    asked = config["metrics"][metric]["on"]
    return {method: [f"{of_seed(method, seed, config['seed'])}/{metric}" for seed in sorted(how["seeds"])] for method, how in asked.items()}


def ordered(config: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """The names of a table's columns in the order of its record, whatever the order in which they were made."""
    names = dict.fromkeys(names)
    first = [name for name in PER_EXAMPLE if name in names]
    if "methods" in config:
        first += sorted(name for name in names if name.startswith(BLANK))
        base = config["seed"]
        for method, made in config["methods"].items():
            seeds = {*made["seeds"], *(s for metric in config["metrics"].values() for s in metric["on"].get(method, {"seeds": ()})["seeds"])}
            for label in (of_seed(method, seed, base) for seed in sorted(seeds, key=lambda seed: (seed != base, seed))):
                cells = (f"{label}/{metric}" for metric in config["metrics"])
                first += [TIED + label, *(name for cell in cells for name in (SCORE + cell, f"{CURVE}{cell}/x", f"{CURVE}{cell}/y"))]
    return [*dict.fromkeys(name for name in first if name in names), *(name for name in names if name not in first)]
