"""Explanations that are not trivial: a classifier changes its mind, and an oracle does not. How sets of them are judged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.counterfactual.leaning import PAIR, slant
from jxai import each, taps
from jxai.counterfactual import Counterfactual
from jxai.evaluate import findings
from jxai.evaluate.findings import means
from jxai.metrics import counterfactual as judges


class Case(NamedTuple):
    """A classifier, and the n images that it is asked about."""

    f: Callable
    x: np.ndarray
    """`[n, 28, 28, 1]`."""
    digit: np.ndarray
    """`[n]`: what the classifier and the oracle say of x and of its reconstruction."""
    target: np.ndarray
    """`[n]`: the other digit of the two."""
    code: np.ndarray
    """`[n, d]`."""
    again: np.ndarray
    """`[n, 28, 28, 1]`: the reconstruction."""


def compared(case: Case, oracle: Callable, found: dict[str, Counterfactual]) -> list[dict[str, Any]]:
    """One row for each measure of each variant, and for what spectral masks have more of, image by image; the reconstructions are the control."""
    kept = {name: judged(case, oracle, c) for name, c in found.items()}
    rows = [findings.row(values, method=name, metric=metric) for name, of in kept.items() for metric, values in of.items()]
    for name, of in kept.items():
        for metric in ("non-trivial", "non-trivial, of the reached", "similarity, reached", "score"):
            rows.append(findings.row(kept["spectral"][metric] - of[metric], method=name, metric=f"{metric}, spectral's minus this"))
    itself = alike(oracle, case.x, case.again[:, None])[:, 0]
    return [*rows, findings.row(itself, method="reconstruction", metric="similarity, reached")]


def judged(case: Case, oracle: Callable, found: Counterfactual) -> dict[str, np.ndarray]:
    """`[n]` for each measure: means over an image's explanations, NaN where there is none of the kind."""
    n, k = found.valid.shape
    given = np.repeat(case.x, k, 0), found.x.reshape(-1, *case.x.shape[1:])
    sets = lambda values: np.asarray(values).reshape(n, k)
    ask = lambda classes: sets(each(judges.validity, oracle, *given, np.repeat(classes, k), batch_size=64)) == 1
    stays, follows = ask(case.digit) & found.valid, ask(case.target) & found.valid
    similarity, far = alike(oracle, case.x, found.x), sets(each(judges.l1, None, *given, None, batch_size=64))
    lean = sets(slant(given[1])) - slant(case.again)[:, None]
    lean = np.where(case.target == PAIR[1], 1, -1)[:, None] * lean
    values = {
        "reached": found.valid.mean(1),
        "non-trivial": stays.mean(1),
        "trivial": follows.mean(1),
        "non-trivial, of the reached": means(stays, found.valid),
        "an image has a non-trivial one": stays.any(1),
        "an image has both": stays.any(1) & follows.any(1),
        "similarity, reached": means(similarity, found.valid),
        "similarity, non-trivial": means(similarity, stays),
        "score": np.where(stays, similarity, 0).mean(1),
        "L1, reached": means(far, found.valid),
        "slant, non-trivial": means(lean, stays),
        "slant, trivial": means(lean, follows),
        "steps": found.steps if found.steps.ndim == 1 else found.steps[:, 0],
    }
    if k > 1:
        values["APD"] = np.asarray(each(judges.apd, None, case.x, found.x, None, batch_size=64))
        cosines = np.asarray(each(judges.squared_cosines, None, case.code, found.latent, None, batch_size=64))
        values["cos² of a pair"] = cosines / (k * (k - 1))
    return values


def alike(oracle: Callable, x: np.ndarray, points: np.ndarray) -> np.ndarray:
    """`[n, k]`: the cosines of the oracle's 84 features of points `[n, k, …]` with those of x."""
    a, b = (np.asarray(each(_features, oracle, v.reshape(-1, *x.shape[1:]), batch_size=64), np.float64) for v in (x, points))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    return np.einsum("nd,nkd->nk", a, b.reshape(*points.shape[:2], -1))


def _features(oracle: Callable, x: jax.Array) -> jax.Array:
    return taps.read(oracle, x, "f6")
