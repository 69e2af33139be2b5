"""What a report says of a run beside its scores: which examples of which classes, how often the model is right, options, and what is luck."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from jxai.attribution import is_signed
from jxai.data.sources import NO_LABEL
from jxai.evaluate.columns import TIED, first_seed
from jxai.evaluate.store import Run
from jxai.naming import ABSOLUTE

_MANY = 0.1
_CLASSES = 20


def ties(maps: np.ndarray) -> np.ndarray:
    """`[n]`: of each map `[n, …]` the share of entries that equal another of its entries."""
    rows = np.sort(np.asarray(maps, np.float32).reshape(len(maps), -1), 1)
    same = np.zeros((len(rows), rows.shape[1] + 1), bool)
    same[:, 1:-1] = rows[:, 1:] == rows[:, :-1]
    return (same[:, 1:] | same[:, :-1]).mean(1).astype(np.float32)


def classes(table: dict[str, np.ndarray]) -> str:
    """The labels' counts and the model's accuracy on those that count, in a sentence; `""` without labels."""
    valid, label = table["valid"], table["label"]
    known = label[valid & (label != NO_LABEL)]
    if not len(known):
        return ""
    kinds, counts = np.unique(known, return_counts=True)
    shown = ", ".join(f"{k}: {c}" for k, c in zip(kinds[:_CLASSES], counts)) + (f" and {len(kinds) - _CLASSES} more" if len(kinds) > _CLASSES else "")
    right = f" The model is right on {found}." if (found := accuracy(table)) else ""
    return f"Examples by label: {shown}.{right}"


def accuracy(table: dict[str, np.ndarray]) -> str:
    """On how many of the labelled examples that count the model is right, `60 of 64 (93.8%)`; `""` without labels, or of a model of a number."""
    known = table["valid"] & (table["label"] != NO_LABEL)
    if not known.any() or not (table["predicted"].any() or (table["label"][known] == 0).all()):
        return ""
    right = (known & (table["label"] == table["predicted"])).sum()
    return f"{right} of {known.sum()} ({right / known.sum():.1%})"


def luck(run: Run, table: dict[str, np.ndarray]) -> list[str]:
    """Of methods whose maps have many equal entries, how many: an order of them, as deletion takes one, is partly drawn by the seed."""
    there = {method: table[name] for method in run.methods if (name := TIED + first_seed(run.config, method)) in table}
    shares = {method: float(column[table["valid"]].mean()) for method, column in there.items() if table["valid"].any()}
    said = ", ".join(f"{method} {share:.0%}" for method, share in shares.items() if share > _MANY)
    return [f"Entries of a map that equal another one, whose order the seed draws, and which is no finding: {said}."] if said else []


def seeds(run: Run) -> list[str]:
    """Over which seeds scores are averaged, and of what."""
    averaged: dict[str, list[str]] = {}
    for metric, made in run.config["metrics"].items():
        found: dict[str, list[str]] = {}
        for method, how in made["on"].items():
            if len(how["seeds"]) > 1:
                found.setdefault(", ".join(map(str, sorted(how["seeds"]))), []).append(method)
        for which, methods in found.items():
            averaged.setdefault(which, []).append(f"{metric} of {'all methods' if len(methods) == len(run.methods) else ', '.join(methods)}")
    return [
        f"Averaged over the seeds {which} within each example, before anything is said over the examples: {'; '.join(of)}." for which, of in averaged.items()
    ]


def unfinished(run: Run) -> list[str]:
    """What was asked for and is not there yet, and what was never asked for together."""
    lines = []
    if lacking := run.lacking():
        counts = ", ".join(f"{method} by {metric} on {n} examples" for (method, metric), n in lacking.items())
        lines.append(f"Not there yet: {counts}; evaluating again goes on.")
    never = [f"{method} by {metric}" for metric, made in run.config["metrics"].items() for method in run.methods if method not in made["on"]]
    return [*lines, f"Never asked for together (–): {', '.join(never)}."] if never else lines


def unit(run: Run, metric: str) -> str:
    """The score that a metric is measured in, ` (logit)`; `""` where it measures none."""
    found = {how["options"].get("score") for how in run.config["metrics"][metric]["on"].values()}
    return "" if found == {None} else f" ({found.pop()})" if len(found) == 1 else " (each method's score)"


def signed(run: Run, method: str) -> bool | None:
    """Whether 0 is the middle of a method's maps: what jxai knows of its own methods; of others None, so that each map is looked at."""
    if method.startswith(ABSOLUTE):
        return False
    made = run.config["methods"][method]
    module, _, name = str(made["function"]).rpartition(".")
    if not module.startswith("jxai.attribution."):
        return None
    fn = getattr(importlib.import_module(module), name, None)
    return None if fn is None else is_signed(fn, made["options"])


def options(run: Run) -> list[str]:
    """The options of methods and metrics, a line each; arrays and what is None are in the record alone."""
    lines = []
    for kind in ("methods", "metrics"):
        for label, made in run.config[kind].items():
            plain = {
                name: value
                for name, value in _options(made).items()
                if value is not None and not isinstance(value, (dict, list)) and "sha256" not in str(value)
            }
            if plain:
                lines.append(f"- {label}: {', '.join(f'{name} {_short(value)}' for name, value in plain.items())}")
    return lines


def _options(made: dict[str, Any]) -> dict[str, Any]:
    """The options of a method or metric; of a metric also those that go by the method, where they are the same on all."""
    on = [how["options"] for how in made.get("on", {}).values()]
    alike = {name: value for name, value in (on[0] if on else {}).items() if all(other.get(name) == value for other in on)}
    return {**made["options"], **alike}


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def named(run: Run, index: int) -> str:
    """A class by its name, or as `class 3`."""
    names = run.config["data"].get("class_names")
    return f"class {index}" if names is None else str(names[index]) if 0 <= index < len(names) else str(index)
