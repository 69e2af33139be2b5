"""What is measured of the counterfactuals that `deduce.py` finds: failures, steps and sizes, each a mean over an image's targets."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jxai import each
from jxai.evaluate.findings import means
from jxai.metrics import counterfactual as judges

COMPARED = ("deduce", "jsma", "prototype", "revise λ=.1")
"""The paper compares the cases that all of its four methods reached; REVISE at λ = 1 would leave few."""


class Found(NamedTuple):
    """What a method made of a seed's images `[images, 9]`, and what its search took."""

    x: np.ndarray
    valid: np.ndarray
    steps: np.ndarray
    seconds: np.ndarray
    """`[]`: of one counterfactual, compilation included."""


def measured(x: np.ndarray, target: np.ndarray, found: dict[str, Found]) -> dict[tuple[str, str, str], np.ndarray]:
    """`{(method, of, metric): [images]}`: means over the targets of an image."""
    common = np.all([f.valid for name, f in found.items() if name in COMPARED], 0)
    changes = {name: changed(x, target, f.x) for name, f in found.items()}
    rows = {}
    for name, f in found.items():
        rows[name, "all", "failures"], rows[name, "all", "steps"] = means(1.0 - f.valid), means(f.steps)
        rows[name, "all", "seconds each, compilation included"] = f.seconds[None]
        for metric, value in changes[name].items():
            rows[name, "reached", metric], rows[name, "common", metric] = means(value, f.valid), means(value, f.valid & common)
        for own in (other for other in found if other.startswith("deduce") and other != name):
            rows[name, "both", f"L0 more than {own}"] = means(changes[name]["L0"] - changes[own]["L0"], f.valid & found[own].valid)
    return rows


def changed(x: np.ndarray, target: np.ndarray, points: np.ndarray) -> dict[str, np.ndarray]:
    """L0 and L1 `[images, 9]` of every counterfactual, reached or not; as in the paper's code any difference counts as a change."""
    given = np.repeat(x, target.shape[1], 0), points.reshape(-1, *x.shape[1:]), target.ravel()
    known = {"L0": lambda *a: judges.l0(*a, atol=0.0), "L1": judges.l1}
    return {name: np.asarray(each(judge, None, *given)).reshape(target.shape) for name, judge in known.items()}
