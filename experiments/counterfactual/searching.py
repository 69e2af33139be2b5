"""Searches that are timed, and kept in the record of an experiment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jxai import counterfactual
from jxai.counterfactual import Counterfactual, Progress, Search
from jxai.evaluate.record import Record


def timed(
    search: Search,
    f: Callable,
    x: np.ndarray,
    target: np.ndarray | None,
    key: jax.Array | None = None,
    *,
    repeats: int = 1,
    warm: bool = False,
    **options: Any,
) -> tuple[Counterfactual, float]:
    """What a search finds, and the median of the seconds of `repeats` runs, before which one compiles, unless it is `warm`."""
    seconds = []
    for _ in range(repeats if warm else repeats + 1):
        before = time.perf_counter()
        found = counterfactual.run(search, f, x, target, key, **options)
        seconds.append(time.perf_counter() - before)
    return found, float(np.median(seconds[-repeats:]))


def once(search: Search, f: Callable, x: np.ndarray, target: np.ndarray | None, **options: Any) -> tuple[Counterfactual, float]:
    """What a search finds, and its seconds, compilation included."""
    return timed(search, f, x, target, warm=True, **options)


def saying(here: Record, name: str) -> Callable[[Progress], None]:
    """Tells the record how far a search is."""
    return lambda progress: here.tell(f"{name}: {progress.done}/{progress.total}")


def kept(here: Record, name: str, make: Callable[[], tuple[Counterfactual, float]]) -> tuple[Counterfactual, float]:
    """What `make()` finds and its seconds, kept in the record; of the coordinates only those that are one array."""

    def arrays() -> dict[str, np.ndarray]:
        found, seconds = make()
        parts = {field: part for field, part in found._asdict().items() if isinstance(part, (np.ndarray, jax.Array))}
        here.tell(f"{name}: {np.mean(found.valid):.1%} reached, {seconds:.2f} s")
        return {**parts, "seconds": np.asarray(seconds)}

    stored = here.kept(name, arrays)
    return Counterfactual(**{field: stored.get(field) for field in Counterfactual._fields}), float(stored["seconds"])
