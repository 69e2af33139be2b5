"""What searches about pairs of labels found, as rows and as histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.sufficiency.two_labels import FATES, TWO
from jxai.evaluate import findings

if TYPE_CHECKING:
    from matplotlib.figure import Figure


SETS = {"disjoint": (2,), "overlapping": ()}
"""The kinds of proofs, and how many sets each has."""
FIELDS = (*(f"{what}, {kind}" for kind in SETS for what in ("holds", "segments", "largest")), "passes", "checked", "verified")
"""What is kept of a search."""
DRAWN = ("fine, extreme_baselines, probability", "fine, feature_ablation, probability", "coarse, exact, probability")
"""What histograms are of; the second, what pictures are of."""


def rows_of(results: dict[str, list[dict[str, np.ndarray]]], fates: dict[str, list[str]]) -> list[dict[str, Any]]:
    """The rows: what became of the candidates, how many proofs verified, and each search's."""
    rows = []
    for world, found in results.items():
        rows += [findings.row([fate == name for fate in fates[world]], world=world, metric=name) for name in FATES]
        verified = [np.arange(of[-2]) < of[-1] for one in found for of in one.values()]
        rows.append(findings.row(np.concatenate(verified), world=world, metric="verified"))
        for name in dict.fromkeys(name for one in found for name in one):
            segments, method, score = name.split(", ")
            of, exact = columns(found, name), columns(found, f"coarse, exact, {score}")
            values = measured(of, world) | (compared(of, exact) if segments == "coarse" else {})
            rows += [findings.row(value, world=world, segments=segments, method=method, score=score, metric=metric) for metric, value in values.items()]
    return rows


def columns(found: list[dict[str, np.ndarray]], name: str) -> dict[str, np.ndarray]:
    """A search's `FIELDS`, each `[n]`, of the pairs that have it."""
    return dict(zip(FIELDS, np.reshape([one[name] for one in found if name in one], (-1, len(FIELDS))).T, strict=True))


def measured(of: dict[str, np.ndarray], world: str) -> dict[str, np.ndarray]:
    """By metric `[n]`; NaN where a pair has none."""
    a, b = of["holds, disjoint"], of["holds, overlapping"]
    values = {"disjoint": a * (1 - b), "overlapping": (1 - a) * b, "both": a * b, "none": (1 - a) * (1 - b)}
    apart = of["largest, disjoint"] - of["largest, overlapping"]
    values["told right"] = np.where(np.isnan(apart), np.nan, (apart > 0) == (world == TWO))
    values |= {f"segments, {kind}": np.where(of[f"holds, {kind}"] > 0, of[f"segments, {kind}"], np.nan) for kind in SETS}
    return values | {name: of[name] for name in ("largest, disjoint", "largest, overlapping", "passes")}


def compared(of: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Whether a proof is found where there is one, and how far the largest δ is from what there is."""
    values = {f"finds, {kind}": np.where(exact[f"holds, {kind}"] > 0, of[f"holds, {kind}"], np.nan) for kind in SETS}
    return values | {f"gap, {kind}": exact[f"largest, {kind}"] - of[f"largest, {kind}"] for kind in SETS}


def histograms(results: dict[str, list[dict[str, np.ndarray]]]) -> Figure:
    """The largest δ of both kinds in both worlds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    axes, bins = figure.subplots(len(DRAWN), 2, sharex=True, sharey="row"), np.linspace(0, 1, 21)
    for line, name in zip(axes, DRAWN):
        for ax, kind in zip(line, SETS):
            for world, found in results.items():
                ax.hist(np.clip(columns(found, name)[f"largest, {kind}"], 0, 1), bins, alpha=0.5, label=world)
            ax.set_title(f"{kind}: {name}", fontsize=8)
            ax.set_xlabel("largest δ", fontsize=7)
    axes[0, 0].legend(fontsize=7)
    return figure
